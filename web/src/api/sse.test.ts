import { describe, expect, it } from 'vitest'
import { SseParser, readEvents } from './sse'

const stream = 'id: 7\nevent: delta\ndata: {"a":1}\n\n: comment\r\ndata: one\r\ndata: two\r\n\r\ndata:no space\rdata\r\rdata: 你好\n\n'
const want = [
  { event: 'delta', data: '{"a":1}', id: '7' },
  { event: 'message', data: 'one\ntwo', id: '7' },
  { event: 'message', data: 'no space\n', id: '7' },
  { event: 'message', data: '你好', id: '7' },
]

describe('SseParser', () => {
  it('reads the same events wherever the text is cut', () => {
    for (let cut = 0; cut <= stream.length; cut++) {
      const p = new SseParser()
      expect([...p.push(stream.slice(0, cut)), ...p.push(stream.slice(cut))], `cut at ${cut}`).toEqual(want)
    }
  })
  it('reads one character at a time', () => {
    const p = new SseParser()
    expect([...stream].flatMap((c) => p.push(c))).toEqual(want)
  })
  it('keeps an unfinished event back', () => {
    expect(new SseParser().push('data: half')).toEqual([])
  })
})

describe('readEvents', () => {
  it('joins characters that are split between two pieces of the body', async () => {
    const bytes = new TextEncoder().encode(stream)
    for (let cut = 0; cut <= bytes.length; cut += 3) {
      const body = new ReadableStream<Uint8Array>({
        start(c) {
          c.enqueue(bytes.slice(0, cut))
          c.enqueue(bytes.slice(cut))
          c.close()
        },
      })
      const got = []
      for await (const e of readEvents(new Response(body))) got.push(e)
      expect(got).toEqual(want)
    }
  })
})
