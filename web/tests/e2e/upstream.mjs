// An OpenAI-compatible server whose answers take their time, so that a stream can be seen, stopped and asked for again. It knows one model, and fails when a message says so.
import { createServer } from 'node:http'

export async function startUpstream() {
  const seen = { stopped: 0, chats: 0 }
  const server = createServer((req, res) => {
    let body = ''
    req.on('data', (b) => (body += b))
    req.on('end', () => {
      if (req.url === '/v1/models') return res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ object: 'list', data: [{ id: 'acme/Slow-7B', object: 'model', created: 1, owned_by: 'acme' }] }))
      if (req.url !== '/v1/chat/completions') return res.writeHead(404).end()
      seen.chats++
      const ask = JSON.parse(body)
      const last = ask.messages.at(-1).content
      if (/fail/.test(last)) return res.writeHead(500, { 'content-type': 'application/json' }).end(JSON.stringify({ error: { message: 'boom', type: 'server_error', code: null, param: null } }))
      const chunk = (delta, finish = null) => ({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: ask.model, choices: [{ index: 0, delta, finish_reason: finish }] })
      const words = 'Here is **Markdown**:\n\n1. one\n2. two\n\n```python\nprint("hi")\n```\n\n| a | b |\n| :-: | --: |\n| 1 | 2 |\n\n![x](https://tracker.example/x.png) [link](javascript:alert(1))\n\n<script>alert(1)</script>\n'.match(/[\s\S]{1,6}/g)
      if (!ask.stream) return res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion', created: 1, model: ask.model, choices: [{ index: 0, message: { role: 'assistant', content: 'ok' }, finish_reason: 'stop' }], usage: { prompt_tokens: 3, completion_tokens: 1, total_tokens: 4 } }))
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      let i = 0
      let over = false
      const timer = setInterval(() => {
        if (i < words.length) return res.write(`data: ${JSON.stringify(chunk(i ? { content: words[i++] } : { role: 'assistant', content: words[i++] }))}\n\n`)
        over = true
        clearInterval(timer)
        res.end(`data: ${JSON.stringify(chunk({}, 'stop'))}\n\ndata: ${JSON.stringify({ ...chunk({}), choices: [], usage: { prompt_tokens: 11, completion_tokens: words.length, total_tokens: 11 + words.length } })}\n\ndata: [DONE]\n\n`)
      }, /slowly/.test(last) ? 400 : 25)
      res.on('close', () => {
        clearInterval(timer)
        if (!over) seen.stopped++
      })
    })
  })
  await new Promise((ok) => server.listen(0, '127.0.0.1', ok))
  return { url: `http://127.0.0.1:${server.address().port}/v1`, seen, stop: () => server.close() }
}
