import { send, root } from './client'
import { readProblem } from './problem'

/** The name in a Content-Disposition header, without any folder; the given one when there is none. */
export function fileName(header: string | null, otherwise: string): string {
  const star = /filename\*=UTF-8''([^;]+)/i.exec(header ?? '')
  let name = /filename="?([^";]+)"?/i.exec(header ?? '')?.[1]
  try {
    if (star?.[1]) name = decodeURIComponent(star[1])
  } catch {
    // A name that cannot be decoded: the plain one is used.
  }
  return (name ?? otherwise).split(/[/\\]/).at(-1)!.trim() || otherwise
}

/** Hands bytes to the browser as a file. */
export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob)
  const a = document.createElement('a')
  a.href = url
  a.download = name
  a.click()
  setTimeout(() => URL.revokeObjectURL(url), 5000)
}

/** Fetches a file with the session's credential (a plain link has none) and saves it. */
export async function download(path: string, name: string, query: Record<string, string | undefined> = {}): Promise<void> {
  const res = await send('GET', path.startsWith(root) ? path.slice(root.length) : path, { query, headers: { Accept: '*/*' } })
  if (!res.ok) throw await readProblem(res)
  save(await res.blob(), fileName(res.headers.get('content-disposition'), name))
}
