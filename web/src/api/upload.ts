import { root } from './client'
import { Problem } from './problem'

export interface UploadHooks {
  hashed(done: number): void
  sent(done: number): void
  /** The credential for the next request; asked for each, since a large file outlives a token. */
  token(): Promise<string>
}

export interface RunningUpload {
  /** The id under which the finished upload is named in a new version. */
  finished: Promise<string>
  stop(): void
}

/** SHA-256 of a file in a worker of its own. */
export function hashFile(file: File, progress: (done: number) => void, signal: AbortSignal): Promise<string> {
  return new Promise((ok, no) => {
    const worker = new Worker(new URL('./sha256.worker.ts', import.meta.url), { type: 'module' })
    const stop = (f: () => void): void => {
      worker.terminate()
      f()
    }
    signal.addEventListener('abort', () => stop(() => no(new DOMException('stopped', 'AbortError'))), { once: true })
    worker.addEventListener('message', (e: MessageEvent<{ done?: number; hex?: string; error?: string }>) => {
      if (e.data.hex) stop(() => ok(e.data.hex!))
      else if (e.data.error) stop(() => no(new Problem(0, 'client.unreadable_file', e.data.error!)))
      else progress(e.data.done ?? 0)
    })
    worker.addEventListener('error', (e) => stop(() => no(new Problem(0, 'client.worker', e.message))))
    worker.postMessage(file)
  })
}

/**
 * Hashes a file and sends it by tus. What the server has already is found again by path, size, time and model, so a stopped, failed or reloaded upload goes on at its byte.
 */
export function uploadFile(file: File, path: string, modelId: string, hooks: UploadHooks): RunningUpload {
  const control = new AbortController()
  let abort: (() => void) | undefined
  const finished = (async () => {
    const sha256 = await hashFile(file, hooks.hashed, control.signal)
    hooks.hashed(file.size)
    const { Upload } = await import('tus-js-client')
    return await new Promise<string>((ok, no) => {
      const upload = new Upload(file, {
        endpoint: `${root}/uploads`,
        metadata: { purpose: 'model', model: modelId, path, sha256 },
        chunkSize: 64 << 20,
        retryDelays: [0, 1000, 3000, 8000, 15_000],
        fingerprint: async () => ['maas', modelId, path, file.size, file.lastModified].join('|'),
        removeFingerprintOnSuccess: true,
        onBeforeRequest: async (req) => {
          req.setHeader('Authorization', `Bearer ${await hooks.token()}`)
        },
        onProgress: (sent) => hooks.sent(sent),
        onError: (e) => {
          const res = 'originalResponse' in e ? e.originalResponse : null
          no(problemOf(res?.getStatus() ?? 0, res?.getBody() ?? '', e.message))
        },
        onSuccess: () => ok(upload.url?.split('/').pop()?.split('?')[0] ?? ''),
      })
      abort = () => {
        void upload.abort()
        no(new DOMException('stopped', 'AbortError'))
      }
      if (control.signal.aborted) return abort()
      void upload.findPreviousUploads().then((before) => {
        if (before[0]) upload.resumeFromPreviousUpload(before[0])
        upload.start()
      })
    })
  })()
  return {
    finished,
    stop: () => {
      control.abort()
      abort?.()
    },
  }
}

function problemOf(status: number, body: string, message: string): Problem {
  try {
    const p = JSON.parse(body) as { code?: string; title?: string; detail?: string; hint?: string; request_id?: string }
    return new Problem(status, p.code ?? `http.${status}`, p.title ?? message, p.detail ?? '', p.hint ?? '', p.request_id ?? '')
  } catch {
    return new Problem(status, status ? `http.${status}` : 'client.offline', message)
  }
}
