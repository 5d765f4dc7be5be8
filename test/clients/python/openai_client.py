"""The usual program of an OpenAI user, unchanged, against the built binary.

Environment: OPENAI_BASE_URL, OPENAI_API_KEY; MODEL, the demo model; LIMITED_KEY, a key that may not call MODEL; EXPIRED_KEY.
Prints one line per check and exits non-zero at the first that fails.
"""
import os
import sys

import openai
from openai import OpenAI

MODEL = os.environ["MODEL"]
client = OpenAI()
messages = [{"role": "user", "content": "hi"}]
passed = 0


def check(name, ok, seen=None):
    global passed
    if not ok:
        print(f"FAILED {name}: {seen!r}")
        sys.exit(1)
    passed += 1
    print("ok", name)


def refused(name, kind, code, call):
    try:
        call()
    except openai.APIStatusError as e:
        check(name, isinstance(e, kind) and e.code == code, (type(e).__name__, e.status_code, e.code, e.body))
        return e
    check(name, False, "no error")


names = [m.id for m in client.models.list()]
check("models.list", MODEL in names, names)
check("models.retrieve", client.models.retrieve(MODEL).object == "model")

whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
text = whole.choices[0].message.content
check("chat: text", len(text) > 20 and "toy" in text.lower(), text)
check("chat: shape", whole.id.startswith("chatcmpl-") and whole.object == "chat.completion" and whole.model == MODEL and whole.choices[0].finish_reason == "stop", whole)
u = whole.usage
check("chat: usage", u.prompt_tokens > 0 and u.completion_tokens > 10 and u.total_tokens == u.prompt_tokens + u.completion_tokens, u)

pieces, finish, usage = [], None, None
for chunk in client.chat.completions.create(model=MODEL, messages=messages, temperature=0, stream=True, stream_options={"include_usage": True}):
    if chunk.usage:
        usage = chunk.usage
        check("stream: usage chunk has no choices", chunk.choices == [], chunk)
    for c in chunk.choices:
        pieces.append(c.delta.content or "")
        finish = c.finish_reason or finish
check("stream: same text as whole", "".join(pieces) == text, "".join(pieces))
check("stream: finish and usage", finish == "stop" and usage and usage.completion_tokens == u.completion_tokens, (finish, usage))
chunks = list(client.chat.completions.create(model=MODEL, messages=messages, temperature=0, stream=True))
check("stream: no usage unless asked", all(c.usage is None and c.choices for c in chunks), chunks[-1])

short = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=5)
check("max_tokens", short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 5, short)
word = text.split()[4]
stopped = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, stop=[word])
check("stop", stopped.choices[0].finish_reason == "stop" and word not in stopped.choices[0].message.content and text.startswith(stopped.choices[0].message.content), stopped)

lp = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3).choices[0].logprobs.content
check("logprobs", len(lp) == 4 and all(len(t.top_logprobs) == 3 and t.logprob <= 0 and t.top_logprobs[0].logprob >= t.logprob and bytes(t.bytes).decode("utf-8", "replace") == t.token for t in lp), lp)

both = client.chat.completions.create(model=MODEL, messages=messages, n=2, temperature=0, max_tokens=6)
check("n", [c.index for c in both.choices] == [0, 1] and both.choices[0].message.content == both.choices[1].message.content, both)
seeds = [client.chat.completions.create(model=MODEL, messages=messages, temperature=1.5, seed=7, max_tokens=12).choices[0].message.content for _ in range(2)]
check("seed repeats", seeds[0] == seeds[1], seeds)

c = client.completions.create(model=MODEL, prompt="one two", max_tokens=3, temperature=0, logprobs=2)
check("completions", c.object == "text_completion" and c.usage.completion_tokens <= 3 and len(c.choices[0].logprobs.tokens) == c.usage.completion_tokens, c)
cs = list(client.completions.create(model=MODEL, prompt="one two", max_tokens=3, temperature=0, stream=True))
check("completions: stream", "".join(x.choices[0].text for x in cs if x.choices) == c.choices[0].text, cs)

e = refused("unknown model", openai.NotFoundError, "model_not_found", lambda: client.chat.completions.create(model="no-such", messages=messages))
check("unknown model is not retried", e.response.headers.get("x-should-retry") == "false" and e.request_id, dict(e.response.headers))
refused("bad key", openai.AuthenticationError, "invalid_api_key", lambda: client.with_options(api_key="sk-maas-nonsense").models.list())
refused("expired key", openai.AuthenticationError, "invalid_api_key", lambda: client.with_options(api_key=os.environ["EXPIRED_KEY"]).models.list())
try:
    client.with_options(api_key=os.environ["LIMITED_KEY"]).chat.completions.create(model=MODEL, messages=messages)
    check("key without the model", False, "no error")
except (openai.NotFoundError, openai.PermissionDeniedError) as e:
    check("key without the model", e.code in ("model_not_found", "model_not_allowed"), e.code)
try:
    client.chat.completions.create(model=MODEL, messages=messages, temperature=9)
    check("temperature out of range", False, "no error")
except openai.BadRequestError as e:
    check("temperature out of range", e.param == "temperature", e.body)
refused("context too long", openai.BadRequestError, "context_length_exceeded", lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "one two three " * 20000}]))
try:
    client.with_options(max_retries=0).post("/embeddings-nonsense", cast_to=object, body={})
    check("unknown endpoint", False, "no error")
except openai.NotFoundError as e:
    check("unknown endpoint", e.response.headers.get("x-should-retry") == "false", dict(e.response.headers))

stream = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, stream=True, max_tokens=3000, extra_body={"ignore_eos": True})
for i, _ in enumerate(stream):
    if i == 4:
        break
stream.close()
check("stream: closed early", i == 4, i)
raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=messages, max_tokens=2)
check("request id", raw.headers.get("x-request-id", "").startswith("req_"), dict(raw.headers))
print(f"{passed} passed, 0 failed")
