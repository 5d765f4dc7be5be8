"""litellm as a client of the built binary, in both dialects: calls, streams, tools, embeddings, rerank.

Environment: BASE_URL without a path, OPENAI_API_KEY; MODEL, AGENTS, EMBED, RERANK as for the others.
"""
import os
import sys

import litellm

BASE, KEY, MODEL, AGENTS = os.environ["BASE_URL"], os.environ["OPENAI_API_KEY"], os.environ["MODEL"], os.environ["AGENTS"].split(",")
litellm.telemetry = False
messages = [{"role": "user", "content": "hi"}]
tools = [{"type": "function", "function": {"name": n, "description": n, "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}} for n in ("list_files", "read_file", "write_file")]
passed = 0


def check(name, ok, seen=None):
    global passed
    if not ok:
        print(f"FAILED {name}: {seen!r}")
        sys.exit(1)
    passed += 1
    print("ok", name)


ways = {"openai": dict(api_base=BASE + "/v1", api_key=KEY), "anthropic": dict(api_base=BASE, api_key=KEY)}
for provider, how in ways.items():
    whole = litellm.completion(model=f"{provider}/{MODEL}", messages=messages, max_tokens=200, temperature=0, **how)
    text = whole.choices[0].message.content
    check(f"{provider}: text", "toy" in text.lower() and whole.choices[0].finish_reason == "stop" and whole.usage.completion_tokens > 10, whole)
    pieces = [c.choices[0].delta.content or "" for c in litellm.completion(model=f"{provider}/{MODEL}", messages=messages, max_tokens=200, temperature=0, stream=True, **how)]
    check(f"{provider}: stream", "".join(pieces) == text, pieces)
    for agent in AGENTS:
        turns, called = [{"role": "system", "content": "You fix bugs."}, {"role": "user", "content": "Fix the bug."}], []
        for _ in range(10):
            chunks = list(litellm.completion(model=f"{provider}/{agent}", messages=turns, tools=tools, max_tokens=500, stream=True, **how))
            answer = litellm.stream_chunk_builder(chunks, messages=turns)
            message = answer.choices[0].message
            turns.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                break
            for c in message.tool_calls:
                called.append(c.function.name)
                turns.append({"role": "tool", "tool_call_id": c.id, "content": "done"})
        check(f"{provider}: tool loop of {agent}", message.content == "I fixed main.py." and called == ["list_files", "read_file", "write_file"], (message, called))
    try:
        litellm.completion(model=f"{provider}/no-such", messages=messages, max_tokens=5, **how)
        check(f"{provider}: unknown model", False, "no error")
    except litellm.NotFoundError as e:
        check(f"{provider}: unknown model", e.status_code == 404, e)
e = litellm.embedding(model="openai/" + os.environ["EMBED"], input=["a", "abc"], **ways["openai"])
check("embedding", [d["embedding"] for d in e.data] == [[1.0, 0.5], [3.0, 0.5]], e)
r = litellm.responses(model="openai/" + MODEL, input="hi", **ways["openai"])
check("responses", r.status == "completed" and r.usage.output_tokens > 10, r)
k = litellm.rerank(model="jina_ai/" + os.environ["RERANK"], query="q", documents=["a", "b"], top_n=1, api_base=BASE + "/v1/rerank", api_key=KEY)
check("rerank", k.results[0]["index"] == 1, k)
print(f"{passed} passed, 0 failed")
