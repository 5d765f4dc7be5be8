import { Problem, readProblem, toProblem } from './problem'

type Query = Record<string, string | number | boolean | undefined | null>

export interface CallOptions {
  query?: Query
  body?: unknown
  /** Revision of the object that was shown; the server refuses the change when it moved on. */
  rev?: number
  signal?: AbortSignal
  headers?: Record<string, string>
  /** Sends the call without a session and without a silent refresh. */
  anonymous?: boolean
}

/** What the session gives to the client: set once by api/session.ts, so that this file knows no store. */
export interface Credentials {
  token(): string
  /** Gets a new token by the refresh cookie; one call at a time is shared by all. False = signed out. */
  renew(): Promise<boolean>
  locale(): string
  /** A new version of the server answered. */
  version(v: string): void
}

let credentials: Credentials = { token: () => '', renew: async () => false, locale: () => 'en', version: () => undefined }

export function useCredentials(c: Credentials): void {
  credentials = c
}

export const root = '/api/v1'

export function withQuery(path: string, query?: Query): string {
  const q = new URLSearchParams()
  for (const [k, v] of Object.entries(query ?? {})) if (v !== undefined && v !== null && v !== '') q.set(k, String(v))
  const text = q.toString()
  return text ? `${path}?${text}` : path
}

function headers(method: string, o: CallOptions): Record<string, string> {
  const h: Record<string, string> = { Accept: 'application/json', 'Accept-Language': credentials.locale(), ...o.headers }
  const token = credentials.token()
  if (token && !o.anonymous) h.Authorization = `Bearer ${token}`
  if (o.body !== undefined) h['Content-Type'] = 'application/json'
  if (method === 'POST' && !h['Idempotency-Key']) h['Idempotency-Key'] = key()
  if (o.rev !== undefined) h['If-Match'] = `"${o.rev}"`
  return h
}

/** crypto.randomUUID exists only on https and localhost; the console is also opened by address in a private network. */
export function key(): string {
  const b = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(b, (x) => x.toString(16).padStart(2, '0')).join('')
}

/** Sends one request with the session's credential and renews it once after a 401. Throws a Problem on a network failure only. */
export async function send(method: string, path: string, o: CallOptions = {}): Promise<Response> {
  const url = withQuery(path.startsWith('/v1/') ? path : root + path, o.query)
  const idem = method === 'POST' ? { 'Idempotency-Key': key(), ...o.headers } : o.headers
  const once = async (): Promise<Response> => {
    try {
      return await fetch(url, { method, headers: headers(method, { ...o, headers: idem }), body: o.body === undefined ? undefined : JSON.stringify(o.body), signal: o.signal, credentials: 'same-origin' })
    } catch (e) {
      if (e instanceof DOMException && e.name === 'AbortError') throw e
      throw toProblem(e)
    }
  }
  let res = await once()
  if (res.status === 401 && !o.anonymous && (await credentials.renew())) res = await once()
  const v = res.headers.get('x-maas-version')
  if (v) credentials.version(v)
  return res
}

/** Sends and reads JSON; throws a Problem on anything but success. */
export async function call<T>(method: string, path: string, o: CallOptions = {}): Promise<T> {
  const res = await send(method, path, o)
  if (!res.ok) throw await readProblem(res)
  if (res.status === 204 || res.headers.get('content-length') === '0') return undefined as T
  try {
    return (await res.json()) as T
  } catch {
    throw new Problem(res.status, 'client.unreadable', 'unreadable answer', '', '', res.headers.get('x-request-id') ?? '')
  }
}

export const get = <T>(path: string, query?: Query, o: CallOptions = {}): Promise<T> => call<T>('GET', path, { ...o, query })
export const post = <T>(path: string, body?: unknown, o: CallOptions = {}): Promise<T> => call<T>('POST', path, { ...o, body })
export const patch = <T>(path: string, body: unknown, rev?: number): Promise<T> => call<T>('PATCH', path, { body, rev })
export const del = (path: string, rev?: number): Promise<void> => call<void>('DELETE', path, { rev })

/** Escapes one path segment (names hold dots and dashes, never slashes, but an id typed into the address bar may hold anything). */
export const seg = (s: string): string => encodeURIComponent(s)
