#!/usr/bin/env python3
"""Renders every chat template of a folder with Python's jinja2 in the settings of transformers, and writes hashes of the results.

usage: golden.py TEMPLATE_DIR > golden.json     (pip install jinja2==3.1.6)
       golden.py TEMPLATE_DIR NAME CONVERSATION  prints one result
Two things differ from transformers, on purpose: `safe` does nothing (there, a safe string escapes what is added to it as HTML, which no template means), and tojson takes what map() returns.
Where Python's renderer fails, the value is "raised: ..." for a message of the template's own, else "failed".
"""
import datetime, hashlib, json, os, sys, types

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import SandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    if isinstance(x, types.GeneratorType):
        x = list(x)
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


env = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
env.filters["tojson"] = tojson
env.filters["safe"] = str
env.filters["from_json"] = json.loads
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda f: datetime.datetime(2026, 3, 4, 5, 6, 7).strftime(f)


def prepare(message):
    m = dict(message)
    if "tool_calls" in m:
        m.setdefault("content", None)
        calls = []
        for c in m["tool_calls"]:
            c = json.loads(json.dumps(c))
            c["function"]["arguments"] = json.loads(c["function"]["arguments"])
            calls.append(c)
        m["tool_calls"] = calls
    return m


def render(source, conv):
    try:
        text = env.from_string(source).render(
            messages=[prepare(m) for m in conv["messages"]], tools=conv.get("tools"), documents=conv.get("documents"),
            add_generation_prompt=conv.get("add_generation_prompt", True), bos_token="<BOS>", eos_token="<EOS>", **conv.get("kwargs", {}))
    except jinja2.exceptions.TemplateError as e:
        if type(e) is jinja2.exceptions.TemplateError:
            return None, "raised: " + str(e)
        return None, "failed"
    except Exception:
        return None, "failed"
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    conversations = json.load(open(os.path.join(here, "conversations.json"), encoding="utf-8"))
    folder = sys.argv[1]
    read = lambda name: open(os.path.join(folder, name), encoding="utf-8", newline="").read()
    if len(sys.argv) > 3:
        print(render(read(sys.argv[2]), conversations[sys.argv[3]]))
        return
    out = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".jinja"):
            source = read(name)
            out[name] = {"sha256": hashlib.sha256(source.encode()).hexdigest()[:16]}
            for c, conv in conversations.items():
                out[name][c] = render(source, conv)[1]
    json.dump(out, sys.stdout, indent=0, sort_keys=True, ensure_ascii=False)
    print()


main()
