import { describe, expect, it } from 'vitest'
import { safeNext } from './guard'
import { chatSnippets } from './snippets'

describe('safeNext', () => {
  it.each([['/models', '/models'], ['/models?x=1', '/models?x=1'], ['//evil.example', '/'], ['/\\evil.example', '/'], ['https://evil.example', '/'], [undefined, '/'], [['/a'], '/']])('%s', (next, want) => expect(safeNext(next)).toBe(want))
})

describe('chatSnippets', () => {
  const made = chatSnippets({ model: 'm', messages: [{ role: 'system', content: 'be "brief"' }, { role: 'user', content: "it's\n$HOME" }], parameters: { temperature: 0.2, max_tokens: 5 } })
  it('gives four languages', () => expect(made.map((s) => s.label)).toEqual(['curl', 'Python', 'TypeScript', 'Go']))
  it('quotes for the shell', () => {
    const body = /-d '([\s\S]*)'$/.exec(made[0]!.code)![1]!.replaceAll(`'\\''`, `'`)
    expect(JSON.parse(body)).toMatchObject({ model: 'm', temperature: 0.2, max_tokens: 5, stream: true, messages: [{}, { content: "it's\n$HOME" }] })
  })
  it('puts the parameters into each program', () => {
    expect(made[1]!.code).toContain('temperature=0.2,')
    expect(made[2]!.code).toContain('max_tokens: 5')
    expect(made[3]!.code).toContain('MaxTokens: openai.Int(5)')
  })
})
