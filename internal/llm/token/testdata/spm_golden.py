#!/usr/bin/env python3
"""Trains small SentencePiece models on texts.json and writes them with the ids they give: spm_golden.json. (pip install sentencepiece==0.2.3)"""
import base64, hashlib, io, json, os

import sentencepiece as spm

here = os.path.dirname(os.path.abspath(__file__))
texts = json.load(open(os.path.join(here, "texts.json")))
lines = [x for t in texts for x in t.splitlines() if x.strip()]
common = dict(model_type="bpe", vocab_size=900, normalization_rule_name="identity", character_coverage=0.98, hard_vocab_limit=False, minloglevel=2)
forms = {
    "llama": dict(byte_fallback=True, remove_extra_whitespaces=False, split_digits=True),
    "plain": dict(byte_fallback=False),
    "gemma": dict(byte_fallback=True, remove_extra_whitespaces=False, add_dummy_prefix=False, user_defined_symbols=["\u2581\u2581", "<tool>", "\u2581\u2581\u2581"], control_symbols=["<ctl>"]),
}
out = {}
for name, form in forms.items():
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines * 3), model_writer=model, **common, **form)
    sp = spm.SentencePieceProcessor(model_proto=model.getvalue())
    out[name] = {"model": base64.b64encode(model.getvalue()).decode(), "ids": [hashlib.sha256(",".join(map(str, sp.encode(t))).encode()).hexdigest()[:10] for t in texts]}
json.dump(out, open(os.path.join(here, "spm_golden.json"), "w"), indent=0)
