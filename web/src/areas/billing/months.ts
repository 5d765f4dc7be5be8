/** The months that can be asked for, newest first: `2026-11` and eleven before it. The server counts them in the zone of the organization; near midnight of the last day the newest may be empty. */
export function months(now: Date, n = 12): string[] {
  return Array.from({ length: n }, (_, i) => new Date(Date.UTC(now.getFullYear(), now.getMonth() - i, 1)).toISOString().slice(0, 7))
}

/** The first day of a month, for its name. */
export const monthDate = (m: string): Date => new Date(`${m}-01T00:00:00Z`)

/** Day buckets of the last n days, as the server cuts them: whole days in UTC. */
export function dayBuckets(n: number, now: number): number[] {
  const day = 86_400_000
  const last = Math.floor(now / day) * day
  return Array.from({ length: n }, (_, i) => last - (n - 1 - i) * day)
}

/** Rows as stacked series on the buckets, the largest first, the rest as one. */
export function stackBy<R extends { at: string }>(rows: R[], times: number[], label: (r: R) => string, value: (r: R) => number, rest: string, most = 7): { label: string; values: number[] }[] {
  const at = new Map(times.map((x, i) => [x, i]))
  const groups = new Map<string, number[]>()
  for (const r of rows) {
    const i = at.get(new Date(r.at).getTime())
    if (i === undefined) continue
    const values = groups.get(label(r)) ?? times.map(() => 0)
    values[i] = (values[i] ?? 0) + value(r)
    groups.set(label(r), values)
  }
  const sum = (v: number[]): number => v.reduce((a, b) => a + b, 0)
  const sorted = [...groups].map(([l, values]) => ({ label: l, values })).filter((s) => sum(s.values) > 0).sort((a, b) => sum(b.values) - sum(a.values))
  const shown = sorted.slice(0, most)
  const left = sorted.slice(most)
  return left.length ? [...shown, { label: rest, values: times.map((_, i) => left.reduce((a, s) => a + (s.values[i] ?? 0), 0)) }] : shown
}
