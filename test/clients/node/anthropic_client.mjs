// The usual program of an Anthropic user in Node, unchanged, against the built binary. Environment as for the Python one.
import Anthropic from '@anthropic-ai/sdk'

const client = new Anthropic()
const model = process.env.MODEL
const agents = process.env.AGENTS.split(',')
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

const names = []
for await (const m of client.models.list()) names.push(m.id)
check('models.list', names.includes(model) && agents.every((a) => names.includes(a)), names)

const whole = await client.messages.create({ model, max_tokens: 200, messages, temperature: 0 })
const text = whole.content[0].text
check('messages', text.length > 20 && whole.stop_reason === 'end_turn' && whole.usage.output_tokens > 10, whole)

const stream = client.messages.stream({ model, max_tokens: 200, messages, temperature: 0 })
let joined = ''
stream.on('text', (t) => (joined += t))
const final = await stream.finalMessage()
check('stream', joined === text && final.content[0].text === text && final.usage.output_tokens === whole.usage.output_tokens && final.usage.input_tokens === whole.usage.input_tokens, final)
check('count_tokens', (await client.messages.countTokens({ model, messages })).input_tokens === whole.usage.input_tokens)

for (const [name, kind, call] of [
  ['unknown model', Anthropic.NotFoundError, () => client.messages.create({ model: 'no-such', max_tokens: 5, messages })],
  ['bad key', Anthropic.AuthenticationError, () => client.withOptions({ apiKey: 'sk-maas-nonsense' }).messages.create({ model, max_tokens: 5, messages })],
  ['no limit', Anthropic.BadRequestError, () => client.post('/v1/messages', { body: { model, messages } })],
]) {
  try {
    await call()
    check(name, false, 'no error')
  } catch (e) {
    check(name, e instanceof kind && e.requestID?.startsWith('req_') && e.error.type === 'error', { type: e.constructor.name, status: e.status, body: e.error })
  }
}

const tools = ['list_files', 'read_file', 'write_file'].map((name) => ({ name, description: name, input_schema: { type: 'object', properties: { path: { type: 'string' }, content: { type: 'string' } } } }))
for (const agent of agents) {
  for (const streamed of [false, true]) {
    const files = { 'main.py': "print('brokn')\n" }
    const turns = [{ role: 'user', content: 'Fix the bug.' }]
    let answer
    for (let i = 0; i < 10; i++) {
      const ask = { model: agent, max_tokens: 4000, system: 'You fix bugs.', tools, messages: turns }
      answer = streamed ? await client.messages.stream(ask).finalMessage() : await client.messages.create(ask)
      turns.push({ role: 'assistant', content: answer.content })
      if (answer.stop_reason !== 'tool_use') break
      const results = []
      for (const b of answer.content) {
        if (b.type !== 'tool_use') continue
        let out = Object.keys(files).join('\n')
        if (b.name === 'read_file') out = files[b.input.path]
        if (b.name === 'write_file') out = files[b.input.path] = b.input.content
        results.push({ type: 'tool_result', tool_use_id: b.id, content: out })
      }
      turns.push({ role: 'user', content: results })
    }
    check(`tool loop of ${agent}, ${streamed ? 'streamed' : 'whole'}`, answer.content[0].text === 'I fixed main.py.' && files['main.py'] === 'print("fixed <b> & ü")\n' && turns.length === 6, { answer, files })
  }
}
console.log(`${passed} passed, 0 failed`)
