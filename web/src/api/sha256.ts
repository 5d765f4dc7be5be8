const K = new Uint32Array([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
])

/** SHA-256 (FIPS 180-4) over bytes that come in pieces: the browser's own digest wants the whole file in memory. */
export class Sha256 {
  private readonly h = new Uint32Array([0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19])
  private readonly w = new Int32Array(64)
  private readonly rest = new Uint8Array(64)
  private filled = 0
  private length = 0

  update(bytes: Uint8Array): void {
    this.length += bytes.length
    let at = 0
    if (this.filled) {
      at = Math.min(64 - this.filled, bytes.length)
      this.rest.set(bytes.subarray(0, at), this.filled)
      this.filled += at
      if (this.filled < 64) return
      this.blocks(this.rest, 0, 64)
      this.filled = 0
    }
    const end = at + ((bytes.length - at) & ~63)
    this.blocks(bytes, at, end)
    this.rest.set(bytes.subarray(end))
    this.filled = bytes.length - end
  }

  /** The digest in hex. The object is used up. */
  hex(): string {
    const bits = this.length * 8
    const tail = new Uint8Array(this.filled < 56 ? 64 : 128)
    tail.set(this.rest.subarray(0, this.filled))
    tail[this.filled] = 0x80
    const view = new DataView(tail.buffer)
    view.setUint32(tail.length - 8, Math.floor(bits / 2 ** 32))
    view.setUint32(tail.length - 4, bits >>> 0)
    this.blocks(tail, 0, tail.length)
    return Array.from(this.h, (x) => x.toString(16).padStart(8, '0')).join('')
  }

  private blocks(p: Uint8Array, from: number, to: number): void {
    const { h, w } = this
    let [a, b, c, d, e, f, g, i] = [h[0]! | 0, h[1]! | 0, h[2]! | 0, h[3]! | 0, h[4]! | 0, h[5]! | 0, h[6]! | 0, h[7]! | 0]
    for (let at = from; at < to; at += 64) {
      for (let t = 0, o = at; t < 16; t++, o += 4) w[t] = (p[o]! << 24) | (p[o + 1]! << 16) | (p[o + 2]! << 8) | p[o + 3]!
      for (let t = 16; t < 64; t++) {
        const x = w[t - 15]!
        const y = w[t - 2]!
        w[t] = (((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10)) + w[t - 7]! + (((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3)) + w[t - 16]!
      }
      const [a0, b0, c0, d0, e0, f0, g0, i0] = [a, b, c, d, e, f, g, i]
      for (let t = 0; t < 64; t++) {
        const t1 = (i + (((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))) + ((e & f) ^ (~e & g)) + K[t]! + w[t]!) | 0
        const t2 = ((((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))) + ((a & b) ^ (a & c) ^ (b & c))) | 0
        i = g
        g = f
        f = e
        e = (d + t1) | 0
        d = c
        c = b
        b = a
        a = (t1 + t2) | 0
      }
      a = (a + a0) | 0
      b = (b + b0) | 0
      c = (c + c0) | 0
      d = (d + d0) | 0
      e = (e + e0) | 0
      f = (f + f0) | 0
      g = (g + g0) | 0
      i = (i + i0) | 0
    }
    h.set([a, b, c, d, e, f, g, i])
  }
}
