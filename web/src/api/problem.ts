/** One wrong input as the server names it: `field` is a path such as `body.email`. */
export interface ProblemField { field: string; code: string; message: string; limit?: unknown }

interface Body { title?: string; detail?: string; code?: string; hint?: string; request_id?: string; errors?: ProblemField[]; retry_after_s?: number | null }

/** Every failure of a call: what the server said, or what kept us from asking it. `code` is stable, the words are in the language of the request. */
export class Problem extends Error {
  readonly fields: ProblemField[]
  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail = '',
    readonly hint = '',
    readonly requestId = '',
    fields: ProblemField[] = [],
    readonly retryAfter = 0,
  ) {
    super(detail || title)
    this.name = 'Problem'
    this.fields = fields
  }

  /** The words for one input of a form, looked up by the last part of the path. */
  field(name: string): string | undefined {
    return this.fields.find((f) => f.field === name || f.field === `body.${name}` || f.field.endsWith(`.${name}`))?.message
  }

  get offline(): boolean {
    return this.status === 0
  }
}

/** Reads any answer that is not a success, also bodies that are no problem at all (a proxy's HTML page). */
export async function readProblem(res: Response): Promise<Problem> {
  const id = res.headers.get('x-request-id') ?? ''
  let body: Body & { error?: { message?: string; code?: string | null; type?: string } } = {}
  try {
    body = (await res.json()) as typeof body
  } catch {
    body = {}
  }
  if (body.error?.message) return new Problem(res.status, body.error.code || body.error.type || `http.${res.status}`, body.error.message, '', '', id)
  return new Problem(res.status, body.code ?? `http.${res.status}`, body.title ?? `HTTP ${res.status}`, body.detail ?? '', body.hint ?? '', body.request_id ?? id, body.errors ?? [], body.retry_after_s ?? 0)
}

/** Makes a Problem of whatever was thrown. */
export function toProblem(e: unknown): Problem {
  if (e instanceof Problem) return e
  if (e instanceof TypeError) return new Problem(0, 'client.offline', 'offline')
  return new Problem(0, 'client.unexpected', e instanceof Error ? e.message : String(e))
}
