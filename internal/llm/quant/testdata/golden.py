"""Writes golden.safetensors: blocks and values of every number format as ggml's reference functions make them.

Needs: pip install numpy safetensors gguf; npm pack @node-llama-cpp/linux-x64 (3.22.1), unpacked; its libggml-base.so is the first argument.
The PyPI package gguf is asked too, for the formats that it implements, so that two programs stand behind each value.
"""

import ctypes
import os
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

BLOCK = {"q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34), "q4_K": (256, 144), "q5_K": (256, 176), "q6_K": (256, 210)}


def inputs():
    r = np.random.default_rng(20260801)
    rows = [
        r.standard_normal(256),
        r.standard_normal(256) / 28,
        r.uniform(-1, 1, 256),
        r.uniform(0, 1, 256),
        r.uniform(-1, 0, 256),
        np.zeros(256),
        np.full(256, 0.37),
        np.where(np.arange(256) % 2 == 0, 1.0, -1.0),
        np.where(np.arange(256) == 77, 1000.0, r.standard_normal(256)),
        np.arange(256) - 128.0,
        (np.arange(256) % 15 - 7) / 2,
        np.concatenate([np.zeros(64), r.standard_normal(64) * 1e-6, r.standard_normal(64), r.standard_normal(64) * 100]),
        r.standard_normal(256) * 1e-7,
        r.standard_normal(256) ** 3,
    ]
    return np.stack(rows).astype(np.float32)


def main():
    lib = ctypes.CDLL(sys.argv[1])
    x = inputs()
    out = {"x": x}
    for name, (n, size) in BLOCK.items():
        q = np.zeros(x.size // n * size, dtype=np.uint8)
        y = np.zeros_like(x)
        getattr(lib, f"quantize_row_{name}_ref")(x.ctypes.data_as(ctypes.c_void_p), q.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(x.size))
        getattr(lib, f"dequantize_row_{name}")(q.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(x.size))
        kind = gguf.GGMLQuantizationType[name.upper()]
        same = gguf.dequantize(q, kind).reshape(x.shape)
        if not np.array_equal(same, y):
            print(name, "dequantized by gguf differs by at most", np.abs(same - y).max())
        try:
            if not np.array_equal(gguf.quantize(x, kind).reshape(-1), q):
                print(name, "quantized by gguf differs")
        except NotImplementedError:
            print(name, "is not quantized by gguf")
        out[name + ".q"], out[name + ".y"] = q, y
    for name in ("f16", "bf16"):
        out[name + ".q"] = gguf.quantize(x, gguf.GGMLQuantizationType[name.upper()]).view(np.uint8).reshape(-1)
    save_file(out, os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.safetensors"))


main()
