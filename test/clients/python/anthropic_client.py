"""The usual program of an Anthropic user, unchanged, against the built binary: calls, streams, tools, and a loop of tools as coding agents run it.

Environment: ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY; MODEL, the demo model of the native engine; AGENTS, models behind providers of both dialects.
Prints one line per check and exits non-zero at the first that fails.
"""
import os
import sys

import anthropic
from anthropic import Anthropic

MODEL = os.environ["MODEL"]
AGENTS = os.environ["AGENTS"].split(",")
client = Anthropic()
messages = [{"role": "user", "content": "hi"}]
passed = 0


def check(name, ok, seen=None):
    global passed
    if not ok:
        print(f"FAILED {name}: {seen!r}")
        sys.exit(1)
    passed += 1
    print("ok", name)


names = [m.id for m in client.models.list()]
check("models.list", MODEL in names and all(a in names for a in AGENTS), names)
check("models.retrieve", client.models.retrieve(MODEL).type == "model")
whole = client.messages.create(model=MODEL, max_tokens=200, messages=messages, extra_body={"temperature": 0})
text = whole.content[0].text
check("messages: text", whole.id.startswith("msg_") and whole.role == "assistant" and "toy" in text.lower() and whole.model == MODEL and whole.stop_reason == "end_turn", whole)
check("messages: usage", whole.usage.input_tokens > 0 and whole.usage.output_tokens > 10, whole.usage)
with client.messages.stream(model=MODEL, max_tokens=200, messages=messages, extra_body={"temperature": 0}) as stream:
    pieces = list(stream.text_stream)
    final = stream.get_final_message()
check("stream: same text as whole", "".join(pieces) == text and final.content[0].text == text, "".join(pieces))
check("stream: usage", final.usage.output_tokens == whole.usage.output_tokens and final.usage.input_tokens == whole.usage.input_tokens and final.stop_reason == "end_turn", final)
kinds = [e.type for e in client.messages.create(model=MODEL, max_tokens=3, messages=messages, stream=True)]
check("stream: events", kinds[0] == "message_start" and kinds[1] == "content_block_start" and kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds)
short = client.messages.create(model=MODEL, max_tokens=5, messages=messages, extra_body={"temperature": 0})
check("max_tokens", short.stop_reason == "max_tokens" and short.usage.output_tokens == 5, short)
system = client.messages.create(model=MODEL, max_tokens=5, system=[{"type": "text", "text": "Be brief."}], messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}])
check("system and blocks", system.content[0].type == "text" and system.usage.input_tokens > whole.usage.input_tokens, system)
counted = client.messages.count_tokens(model=MODEL, messages=messages)
check("count_tokens", counted.input_tokens == whole.usage.input_tokens, (counted, whole.usage))

beta = client.beta.messages.create(model=MODEL, max_tokens=5, messages=messages, betas=["interleaved-thinking-2025-05-14"])
check("beta", beta.usage.output_tokens == 5, beta)

for name, kind, call in [
    ("unknown model", anthropic.NotFoundError, lambda: client.messages.create(model="no-such", max_tokens=5, messages=messages)),
    ("bad key", anthropic.AuthenticationError, lambda: client.with_options(api_key="sk-maas-nonsense").messages.create(model=MODEL, max_tokens=5, messages=messages)),
    ("too long", anthropic.BadRequestError, lambda: client.messages.create(model=MODEL, max_tokens=5, messages=[{"role": "user", "content": "one two three " * 20000}])),
    ("server tool", anthropic.BadRequestError, lambda: client.messages.create(model=MODEL, max_tokens=5, messages=messages, tools=[{"type": "web_search_20250305", "name": "web_search"}])),
]:
    try:
        call()
        check(name, False, "no error")
    except kind as e:
        check(name, e.request_id.startswith("req_") and e.body["type"] == "error" and e.body["error"]["message"], e.body)

with client.messages.stream(model=MODEL, max_tokens=2000, messages=messages) as stream:
    for _ in stream.text_stream:
        break
check("stream: closed early", True)

tools = [
    {"name": "list_files", "description": "Lists files.", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}},
    {"name": "read_file", "description": "Reads a file.", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}},
    {"name": "write_file", "description": "Writes a file.", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}}, "required": ["path", "content"]}},
]


def loop(model, streamed):
    """Works on a task as coding agents do: tools until the model says that it is done."""
    files = {"main.py": "print('brokn')\n"}
    turns, usage = [{"role": "user", "content": [{"type": "text", "text": "Fix the bug.", "cache_control": {"type": "ephemeral"}}]}], []
    for _ in range(10):
        ask = dict(model=model, max_tokens=4000, system=[{"type": "text", "text": "You fix bugs.", "cache_control": {"type": "ephemeral"}}], tools=tools, messages=turns, tool_choice={"type": "auto"}, metadata={"user_id": "u1"})
        if streamed:
            with client.messages.stream(**ask) as stream:
                answer = stream.get_final_message()
        else:
            answer = client.messages.create(**ask)
        usage.append(answer.usage)
        turns.append({"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in answer.content]})
        if answer.stop_reason != "tool_use":
            return answer, files, turns, usage
        results = []
        for b in answer.content:
            if b.type != "tool_use":
                continue
            if b.name == "list_files":
                out = "\n".join(files)
            elif b.name == "read_file":
                out = files[b.input["path"]]
            else:
                files[b.input["path"]] = b.input["content"]
                out = "written"
            results.append({"type": "tool_result", "tool_use_id": b.id, "content": [{"type": "text", "text": out}]})
        turns.append({"role": "user", "content": results})
    check("the loop ends", False, turns)


for model in AGENTS:
    for streamed in (False, True):
        answer, files, turns, usage = loop(model, streamed)
        name = f"tool loop of {model}, {'streamed' if streamed else 'whole'}"
        check(name, answer.content[0].text == "I fixed main.py." and files == {"main.py": 'print("fixed <b> & ü")\n'} and len(turns) == 6, (answer, files))
        check(name + ": two calls at once", [b["type"] for b in turns[1]["content"]] == ["thinking", "text", "tool_use", "tool_use"], turns[1])
        check(name + ": usage", all(u.input_tokens == 10 and u.cache_read_input_tokens == 30 and u.output_tokens > 0 for u in usage), usage)
    check(f"count_tokens of {model}", client.messages.count_tokens(model=model, messages=messages, tools=tools).input_tokens > 0)
print(f"{passed} passed, 0 failed")
