"""Reads generated models with the PyPI packages gguf, safetensors and tokenizers and compares the file with the folder of the same model.

    go test ./internal/llm/modelgen -run WriteExamples -args -out DIR
    pip install gguf safetensors tokenizers numpy && python test/oracle/formats.py DIR
"""

import glob
import os
import sys

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import load_file
from tokenizers import Tokenizer

NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
BOUND = {"F32": 0, "Q8_0": 0.006, "Q6_K": 0.02, "Q4_K": 0.08, "Q5_0": 0.05}  # rms error against rms value


def foreign(name):
    base, kind = name.rsplit(".", 1)
    if base in NAMES:
        return NAMES[base] + "." + kind
    _, n, part = base.split(".")
    return f"model.layers.{n}.{LAYER[part]}.{kind}"


def compare(path, folder):
    r, want = GGUFReader(path), load_file(os.path.join(folder, "model.safetensors"))
    arch = r.get_field("general.architecture").contents()
    assert len(r.tensors) == len(want), (len(r.tensors), len(want))
    for t in r.tensors:
        x, y = dequantize(t.data, t.tensor_type), want[foreign(t.name)]
        if arch == "llama" and (".attn_q." in t.name or ".attn_k." in t.name):
            heads = r.get_field(f"{arch}.attention.head_count" + ("_kv" if ".attn_k." in t.name else "")).contents()
            y = y.reshape(heads, 2, y.shape[0] // heads // 2, y.shape[1]).swapaxes(1, 2).reshape(y.shape)
        assert x.shape == y.shape, (t.name, x.shape, y.shape)
        bound = BOUND[t.tensor_type.name] * np.sqrt((y**2).mean())
        error = np.sqrt(((x - y) ** 2).mean())
        assert error <= bound, (path, t.name, error, bound)


def texts(folder):
    t = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    for s in ["the water of 42", "\u4f60\u597d\uff0c world", "a\nb", "x  y"]:
        got = t.decode(t.encode(s).ids)
        assert got == s, (folder, s, got)


def main():
    folders = [f for f in sorted(glob.glob(sys.argv[1] + "/*")) if os.path.isdir(f)]
    assert folders, "nothing there"
    for folder in folders:
        texts(folder)
        for path in sorted(glob.glob(folder + "-*.gguf")):
            compare(path, folder)
            print("equal:", os.path.basename(path))


main()
