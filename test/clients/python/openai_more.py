"""Responses, embeddings, moderations and tools, as users of the OpenAI SDK call them, against the built binary.

Environment: OPENAI_BASE_URL, OPENAI_API_KEY; MODEL, the demo model; AGENTS, models behind providers of both dialects; EMBED, MODERATION.
"""
import os
import sys

import openai
from openai import OpenAI

MODEL, AGENTS, EMBED, MODERATION = os.environ["MODEL"], os.environ["AGENTS"].split(","), os.environ["EMBED"], os.environ["MODERATION"]
client = OpenAI()
passed = 0


def check(name, ok, seen=None):
    global passed
    if not ok:
        print(f"FAILED {name}: {seen!r}")
        sys.exit(1)
    passed += 1
    print("ok", name)


chat = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}], temperature=0)
r = client.responses.create(model=MODEL, input="hi", temperature=0)
check("responses: text", r.id.startswith("resp_") and r.output_text == chat.choices[0].message.content and r.status == "completed" and r.model == MODEL, r)
check("responses: usage", r.usage.input_tokens == chat.usage.prompt_tokens and r.usage.output_tokens == chat.usage.completion_tokens and r.usage.total_tokens == chat.usage.total_tokens, r.usage)
short = client.responses.create(model=MODEL, input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], max_output_tokens=5, store=False)
check("responses: incomplete", short.status == "incomplete" and short.incomplete_details.reason == "max_output_tokens" and short.usage.output_tokens == 5, short)
deltas, kinds, final = [], [], None
for e in client.responses.create(model=MODEL, input="hi", temperature=0, stream=True):
    kinds.append(e.type)
    if e.type == "response.output_text.delta":
        deltas.append(e.delta)
    if e.type == "response.completed":
        final = e.response
check("responses: stream", "".join(deltas) == r.output_text and final.output_text == r.output_text and kinds[0] == "response.created", kinds)
with client.responses.stream(model=MODEL, input="hi", temperature=0) as stream:
    for _ in stream:
        pass
    check("responses: stream helper", stream.get_final_response().output_text == r.output_text)
for name, more in [("store", {"store": True}), ("previous_response_id", {"previous_response_id": r.id}), ("tools[0]", {"tools": [{"type": "web_search"}]})]:
    try:
        client.responses.create(model=MODEL, input="hi", **more)
        check("responses refuse " + name, False, "no error")
    except openai.BadRequestError as e:
        check("responses refuse " + name, e.param == name and e.code == "unsupported_parameter", e.body)

tools = [{"type": "function", "name": n, "description": n, "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}} for n in ("list_files", "read_file", "write_file")]
for model in AGENTS:
    items = [{"role": "user", "content": "Fix the bug."}]
    called = []
    for _ in range(10):
        with client.responses.stream(model=model, input=items, instructions="You fix bugs.", tools=tools) as stream:
            for _e in stream:
                pass
            answer = stream.get_final_response()
        calls = [o for o in answer.output if o.type == "function_call"]
        items += [o.model_dump(exclude_none=True) for o in answer.output]
        if not calls:
            break
        for c in calls:
            called.append(c.name)
            items.append({"type": "function_call_output", "call_id": c.call_id, "output": "done"})
    check(f"responses: tool loop of {model}", answer.output_text == "I fixed main.py." and called == ["list_files", "read_file", "write_file"], (answer, called))
    check(f"responses: usage of {model}", answer.usage.input_tokens == 40 and answer.usage.input_tokens_details.cached_tokens == 30, answer.usage)

    turns, called = [{"role": "system", "content": "You fix bugs."}, {"role": "user", "content": "Fix the bug."}], []
    functions = [{"type": "function", "function": {k: v for k, v in t.items() if k != "type"}} for t in tools]
    for _ in range(10):
        with client.chat.completions.stream(model=model, messages=turns, tools=functions, stream_options={"include_usage": True}) as stream:
            for _e in stream:
                pass
            final = stream.get_final_completion()
        message = final.choices[0].message
        turns.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
        for t in turns[-1].get("tool_calls") or []:
            t["function"].pop("parsed_arguments", None)
        if final.choices[0].finish_reason != "tool_calls":
            break
        for c in message.tool_calls:
            called.append(c.function.name)
            turns.append({"role": "tool", "tool_call_id": c.id, "content": "done"})
    check(f"chat: tool loop of {model}", message.content == "I fixed main.py." and called == ["list_files", "read_file", "write_file"], (message, called))
    check(f"chat: usage of {model}", final.usage.prompt_tokens == 40 and final.usage.prompt_tokens_details.cached_tokens == 30 and final.usage.total_tokens == 40 + final.usage.completion_tokens, final.usage)

e = client.embeddings.create(model=EMBED, input=["a", "abc"])
check("embeddings", [d.embedding for d in e.data] == [[1.0, 0.5], [3.0, 0.5]] and e.model == EMBED and e.usage.total_tokens == 8, e)
m = client.moderations.create(model=MODERATION, input="fight")
check("moderations", m.results[0].flagged and m.results[0].categories.violence, m)
try:
    client.embeddings.create(model=MODEL, input="a")
    check("no embeddings", False, "no error")
except openai.BadRequestError as e:
    check("no embeddings", e.code == "operation_not_supported", e.body)
ranked = client.post("/rerank", cast_to=object, body={"model": os.environ["RERANK"], "query": "q", "documents": ["a", "b"], "top_n": 1, "return_documents": True})
check("rerank", ranked["results"] == [{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}], ranked)
print(f"{passed} passed, 0 failed")
