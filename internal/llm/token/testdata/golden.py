#!/usr/bin/env python3
"""Encodes texts.json with the PyPI package tokenizers and writes a hash of the ids for each text.

usage: golden.py MODELS_DIR > golden.json     (pip install tokenizers==0.23.3 gguf==0.19.0; MODELS_DIR holds ggml-vocab-*.gguf)
       golden.py MODELS_DIR SPEC TEXT_INDEX   prints the ids of one text
       golden.py --texts > texts.json         makes the texts anew
The tokenizers are those of specs.json over the vocabularies and merges of the GGUF files; the test in this package builds the same files.
"""
import hashlib, json, os, random, sys

here = os.path.dirname(os.path.abspath(__file__))


def texts():
    rnd = random.Random(7)
    fixed = [
        "", " ", "\n", "\t \n", "a", "Hello, World!", "I'm sure they'LL've DON'T we'd 'tis", "x=1;y+=2//3\r\n\r\n\tif (a<=b) { return !c; }",
        "你好，世界！今天天气怎么样？", "混合 English 与中文，数字 12345 和 3.14159。", "日本語のテキスト、カタカナとひらがな", "한국어 문장입니다 123", "Привет, мир! Ёлка №5",
        "مرحبا بالعالم ١٢٣", "שלום עולם", "नमस्ते दुनिया", "สวัสดีชาวโลก", "Ünïcödé cafe\u0301 na\u0308ive ﬁ ① ²³ ½", "😀👨‍👩‍👧‍👦🏳️‍🌈 ✈️ 🦙🦙", "    four spaces\n        eight\n\n\n  two  ",
        "1 12 123 1234 12345 123456 1234567 1,234.56 0x1F 1e-9", "don’t “quote” — dash… ellipsis", "HTTPServer getURL camelCaseWord snake_case_word kebab-case UPPER lower MiXeD",
        "ǅ ǈ ʰ ˈa ªº ℵ Ǳx", "a\u00a0b\u2003c\u3000d\u200be\ufeff", "\u0301combining first", "word" * 50, "a" * 300, " " * 70 + "x", "\n" * 20, "!?!?!?...---===***", "<|im_start|>user\nhi<|im_end|>",
        "https://example.org/path?q=1&r=%20#frag", "def f(x):\n\treturn {'k': [x**2 for _ in range(10)]}\n", "{\"json\": [1, 2.5, null, true], \"中文\": \"值\"}", "\r\r\n\n\r", "e\u0301\u0302\u0303 ñ n\u0303", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠀀𠀁 𝟘𝟙𝟚",
    ]
    pools = ["abcdefghij ", "ABCdef'’ \n", "0123456789 .,-", " \t\n\r\u00a0\u3000", "你我他的是了在 ，。", "àéîõüßœ Ææ", "😀🚀✈️ \u200d", "+-*/=<>!?;:\"'()[]{}", "абвгд ЁЖ", "ʰʱˀ ǅǈ \u0301\u0300x", "\u0e01\u0e02\u0e31\u0e32 ", "가나다 1"]
    for _ in range(120):
        fixed.append("".join(rnd.choice(rnd.choice(pools)) for _ in range(rnd.randrange(1, 80))))
    for _ in range(40):
        pool = rnd.choice(pools)
        fixed.append("".join(rnd.choice(pool) for _ in range(rnd.randrange(1, 60))))
    return fixed


if sys.argv[1] == "--texts":
    json.dump(texts(), sys.stdout, ensure_ascii=True, indent=0)
    print()
    sys.exit()

from gguf import GGUFReader
from tokenizers import Tokenizer


def vocabulary(path):
    r = GGUFReader(path)
    strings = lambda k: [bytes(r.fields[k].parts[i]).decode() for i in r.fields[k].data] if k in r.fields else None
    numbers = lambda k: [r.fields[k].parts[i][0].item() for i in r.fields[k].data] if k in r.fields else None
    p = "tokenizer.ggml."
    return strings(p + "tokens"), numbers(p + "scores"), numbers(p + "token_type"), strings(p + "merges")


def merges_by_score(tokens, scores, types):
    ids = {t: i for i, t in enumerate(tokens) if types[i] == 1}
    out = []
    for i, t in enumerate(tokens):
        if types[i] == 1:
            out += sorted((-scores[i], ids[t[:k]], ids[t[k:]], t[:k], t[k:]) for k in range(1, len(t)) if t[:k] in ids and t[k:] in ids)
    out.sort(key=lambda m: m[0])
    return [[m[3], m[4]] for m in out]


def build(models, spec):
    tokens, scores, types, merges = vocabulary(os.path.join(models, "ggml-vocab-" + spec["vocab"] + ".gguf"))
    f = {k: spec.get(k) for k in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}
    f["version"] = "1.0"
    f["added_tokens"] = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": types[i] == 3}
                         for i, t in enumerate(tokens) if types[i] in (3, 4)]
    pairs = merges_by_score(tokens, scores, types) if spec.get("by_score") else [m.split(" ", 1) if m[0] != " " else [m[:m.index(" ", 1)], m[m.index(" ", 1) + 1:]] for m in merges]
    f["model"] = {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": pairs, **spec.get("model", {})}
    return Tokenizer.from_str(json.dumps(f))


def main():
    models = sys.argv[1]
    specs = json.load(open(os.path.join(here, "specs.json")))
    lines = json.load(open(os.path.join(here, "texts.json")))
    if len(sys.argv) > 2:
        print(build(models, specs[sys.argv[2]]).encode(lines[int(sys.argv[3])]).ids)
        return
    out = {}
    for name, spec in specs.items():
        t = build(models, spec)
        out[name] = [hashlib.sha256(",".join(map(str, t.encode(x).ids)).encode()).hexdigest()[:10] for x in lines]
    json.dump(out, sys.stdout, indent=0)
    print()


main()
