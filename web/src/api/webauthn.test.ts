import { describe, expect, it } from 'vitest'
import { fileName } from './download'
import { fromBase64url, toBase64url } from './webauthn'

describe('base64url', () => {
  it('gives back every length of bytes', () => {
    for (let n = 0; n < 70; n++) {
      const b = Uint8Array.from({ length: n }, (_, i) => (i * 37 + n * 11) % 256)
      const text = toBase64url(b.buffer)
      expect(text).not.toMatch(/[+/=]/)
      expect([...fromBase64url(text)]).toEqual([...b])
    }
  })
})

describe('fileName', () => {
  it.each([
    ['attachment; filename="usage.csv"', 'usage.csv'], [`attachment; filename="x.csv"; filename*=UTF-8''%E8%B4%A6%E5%8D%95.pdf`, '账单.pdf'], ['attachment; filename="../../etc/passwd"', 'passwd'],
    ['inline', 'other'], [null, 'other'], [`attachment; filename*=UTF-8''%E8%`, 'other'],
  ])('%s', (header, want) => expect(fileName(header, 'other')).toBe(want))
})
