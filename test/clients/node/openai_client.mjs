// The usual program of an OpenAI user in Node, unchanged, against the built binary. Environment as for the Python one.
import OpenAI from 'openai'

const client = new OpenAI()
const model = process.env.MODEL
const messages = [{ role: 'user', content: 'hi' }]
let passed = 0

function check(name, ok, seen) {
  if (!ok) {
    console.log(`FAILED ${name}:`, JSON.stringify(seen))
    process.exit(1)
  }
  passed++
  console.log('ok', name)
}

async function refused(name, kind, code, call) {
  try {
    await call()
  } catch (e) {
    check(name, e instanceof kind && e.code === code, { type: e.constructor.name, status: e.status, code: e.code, body: e.error })
    return e
  }
  check(name, false, 'no error')
}

const names = []
for await (const m of client.models.list()) names.push(m.id)
check('models.list', names.includes(model), names)

const whole = await client.chat.completions.create({ model, messages, temperature: 0 })
const text = whole.choices[0].message.content
check('chat', text.length > 20 && whole.choices[0].finish_reason === 'stop' && whole.usage.total_tokens === whole.usage.prompt_tokens + whole.usage.completion_tokens, whole)

let joined = ''
let usage = null
for await (const chunk of await client.chat.completions.create({ model, messages, temperature: 0, stream: true, stream_options: { include_usage: true } })) {
  joined += chunk.choices[0]?.delta?.content ?? ''
  usage = chunk.usage ?? usage
}
check('stream', joined === text && usage.completion_tokens === whole.usage.completion_tokens, { joined, usage })

const helper = client.chat.completions.stream({ model, messages, temperature: 0 })
check('stream helper', (await helper.finalContent()) === text)

const lp = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 3, logprobs: true, top_logprobs: 2 })
check('logprobs', lp.choices[0].logprobs.content.length === 3 && lp.choices[0].logprobs.content[0].top_logprobs.length === 2, lp)
const stopped = await client.chat.completions.create({ model, messages, temperature: 0, stop: text.split(' ')[4] })
check('stop', stopped.choices[0].finish_reason === 'stop' && text.startsWith(stopped.choices[0].message.content), stopped)

const e = await refused('unknown model', OpenAI.NotFoundError, 'model_not_found', () => client.chat.completions.create({ model: 'no-such', messages }))
check('unknown model is not retried', e.headers.get('x-should-retry') === 'false' && e.requestID, [...e.headers])
await refused('bad key', OpenAI.AuthenticationError, 'invalid_api_key', () => new OpenAI({ apiKey: 'sk-maas-nonsense' }).models.list())
const badRole = await client.chat.completions.create({ model, messages: [{ role: 'wizard', content: 'x' }] }).catch((err) => err)
check('bad role', badRole instanceof OpenAI.BadRequestError && badRole.type === 'invalid_request_error', badRole.error)

const controller = new AbortController()
const stream = await client.chat.completions.create({ model, messages, temperature: 0, stream: true, max_tokens: 3000, ignore_eos: true }, { signal: controller.signal })
let seen = 0
try {
  for await (const _ of stream) if (++seen === 3) controller.abort()
} catch (err) {
  check('abort', err.name === 'AbortError' || err instanceof OpenAI.APIUserAbortError, String(err))
}
check('aborted early', seen >= 3, seen)
console.log(`${passed} passed, 0 failed`)
