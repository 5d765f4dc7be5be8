import { Sha256 } from './sha256'

/** Reads a file in pieces and tells how far it is, then its digest. One file a worker. */
self.addEventListener('message', async (e: MessageEvent<File>) => {
  try {
    const hash = new Sha256()
    let done = 0
    let told = 0
    const reader = e.data.stream().getReader()
    for (;;) {
      const piece = await reader.read()
      if (piece.done) break
      hash.update(piece.value)
      done += piece.value.length
      if (done - told >= 8 << 20) self.postMessage({ done: (told = done) })
    }
    self.postMessage({ hex: hash.hex() })
  } catch (error) {
    self.postMessage({ error: String(error) })
  }
})
