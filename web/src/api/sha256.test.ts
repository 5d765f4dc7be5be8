import { createHash, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { Sha256 } from './sha256'

const reference = (b: Uint8Array): string => createHash('sha256').update(b).digest('hex')

describe('Sha256', () => {
  it('equals the reference for every length around the block size', () => {
    for (let n = 0; n < 200; n++) {
      const b = new Uint8Array(randomBytes(n))
      const h = new Sha256()
      h.update(b)
      expect(h.hex(), `length ${n}`).toBe(reference(b))
    }
  })
  it('does not depend on how the bytes are cut', () => {
    const b = new Uint8Array(randomBytes(300_001))
    for (const step of [1, 63, 64, 65, 1000, 65_536]) {
      const h = new Sha256()
      for (let at = 0; at < (step === 1 ? 2000 : b.length); at += step) h.update(b.subarray(at, Math.min(at + step, step === 1 ? 2000 : b.length)))
      expect(h.hex(), `step ${step}`).toBe(reference(step === 1 ? b.subarray(0, 2000) : b))
    }
  })
})
