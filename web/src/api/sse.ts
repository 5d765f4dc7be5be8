/** One event of a text/event-stream. */
export interface ServerEvent { event: string; data: string; id: string }

/** Cuts a stream of text into events; pieces may end anywhere, lines in LF, CR or CRLF. */
export class SseParser {
  private buffer = ''
  private event = ''
  private id = ''
  private data: string[] = []
  private skipLf = false

  push(text: string): ServerEvent[] {
    const out: ServerEvent[] = []
    this.buffer += text
    let start = 0
    for (let i = 0; i < this.buffer.length; i++) {
      const c = this.buffer.charCodeAt(i)
      if (c === 10 && this.skipLf) {
        this.skipLf = false
        start = i + 1
        continue
      }
      this.skipLf = false
      if (c !== 10 && c !== 13) continue
      this.line(this.buffer.slice(start, i), out)
      start = i + 1
      if (c === 13) this.skipLf = true
    }
    this.buffer = this.buffer.slice(start)
    return out
  }

  private line(line: string, out: ServerEvent[]): void {
    if (line === '') {
      if (this.data.length) out.push({ event: this.event || 'message', data: this.data.join('\n'), id: this.id })
      this.event = ''
      this.data = []
      return
    }
    const colon = line.indexOf(':')
    if (colon === 0) return
    const field = colon < 0 ? line : line.slice(0, colon)
    let value = colon < 0 ? '' : line.slice(colon + 1)
    if (value.startsWith(' ')) value = value.slice(1)
    if (field === 'data') this.data.push(value)
    else if (field === 'event') this.event = value
    else if (field === 'id') this.id = value
  }
}

/** Reads the events of an answer until it ends or the signal aborts. */
export async function* readEvents(res: Response): AsyncGenerator<ServerEvent> {
  if (!res.body) return
  const reader = res.body.getReader()
  const decoder = new TextDecoder()
  const parser = new SseParser()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      for (const e of parser.push(decoder.decode(value, { stream: true }))) yield e
    }
  } finally {
    reader.cancel().catch(() => undefined)
  }
}
