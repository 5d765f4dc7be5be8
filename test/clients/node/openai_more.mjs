// Responses, embeddings, moderations and tools in Node against the built binary. Environment as for the Python one.
import OpenAI from 'openai'

const client = new OpenAI()
const model = process.env.MODEL
let passed = 0

function check(name, ok, seen) {
  if (!ok) {
    console.log(`FAILED ${name}:`, JSON.stringify(seen))
    process.exit(1)
  }
  passed++
  console.log('ok', name)
}

const r = await client.responses.create({ model, input: 'hi', temperature: 0 })
check('responses', r.output_text.length > 20 && r.status === 'completed' && r.usage.total_tokens === r.usage.input_tokens + r.usage.output_tokens, r)
let joined = ''
let final = null
for await (const e of await client.responses.create({ model, input: 'hi', temperature: 0, stream: true })) {
  if (e.type === 'response.output_text.delta') joined += e.delta
  if (e.type === 'response.completed') final = e.response
}
check('responses: stream', joined === r.output_text && final.usage.output_tokens === r.usage.output_tokens, { joined, final })
check('responses: stream helper', (await client.responses.stream({ model, input: 'hi', temperature: 0 }).finalResponse()).output_text === r.output_text)

const tools = ['list_files', 'read_file', 'write_file'].map((name) => ({ type: 'function', name, description: name, strict: false, parameters: { type: 'object', properties: { path: { type: 'string' } } } }))
for (const agent of process.env.AGENTS.split(',')) {
  let input = [{ role: 'user', content: 'Fix the bug.' }]
  const called = []
  let answer
  for (let i = 0; i < 10; i++) {
    answer = await client.responses.stream({ model: agent, input, instructions: 'You fix bugs.', tools }).finalResponse()
    input = input.concat(answer.output.map(({ parsed_arguments, ...o }) => o))
    const calls = answer.output.filter((o) => o.type === 'function_call')
    if (!calls.length) break
    for (const c of calls) {
      called.push(c.name)
      input.push({ type: 'function_call_output', call_id: c.call_id, output: 'done' })
    }
  }
  check(`responses: tool loop of ${agent}`, answer.output_text === 'I fixed main.py.' && called.join() === 'list_files,read_file,write_file', { answer, called })

  const functions = tools.map(({ type, ...f }) => ({ type, function: f }))
  const turns = [{ role: 'user', content: 'Fix the bug.' }]
  let message
  for (let i = 0; i < 10; i++) {
    message = (await client.chat.completions.stream({ model: agent, messages: turns, tools: functions }).finalChatCompletion()).choices[0].message
    turns.push({ role: 'assistant', content: message.content, tool_calls: message.tool_calls?.map((c) => ({ id: c.id, type: c.type, function: { name: c.function.name, arguments: c.function.arguments } })) })
    if (!message.tool_calls?.length) break
    for (const c of message.tool_calls) turns.push({ role: 'tool', tool_call_id: c.id, content: 'done' })
  }
  check(`chat: tool loop of ${agent}`, message.content === 'I fixed main.py.' && turns.length === 7, { message, turns })
}
const e = await client.embeddings.create({ model: process.env.EMBED, input: ['a', 'abc'], encoding_format: 'float' })
check('embeddings', JSON.stringify(e.data.map((d) => d.embedding)) === '[[1,0.5],[3,0.5]]' && e.usage.total_tokens === 8, e)
const m = await client.moderations.create({ model: process.env.MODERATION, input: 'fight' })
check('moderations', m.results[0].flagged && m.results[0].categories.violence, m)
console.log(`${passed} passed, 0 failed`)
