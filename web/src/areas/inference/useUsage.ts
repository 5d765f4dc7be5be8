import { computed, type Ref } from 'vue'
import { get } from '@/api/client'
import { useAction, useLoad, usePages } from '@/api/query'
import type { List, Usage, UsageRequest, UsageRow } from '@/api/types'

export type Range = '24h' | '7d' | '30d'
export type GroupBy = 'model' | 'key' | 'user'
export type Measure = 'tokens' | 'requests' | 'errors'

const hour = 3600_000
const day = 24 * hour
export const bucketOf = (r: Range): '1h' | '1d' => (r === '24h' ? '1h' : '1d')

/** Bucket starts from the range's begin to now, as the server cuts them: whole hours or days in UTC. */
export function buckets(r: Range, now: number): number[] {
  const step = r === '24h' ? hour : day
  const n = r === '24h' ? 24 : r === '7d' ? 7 : 30
  const last = Math.floor(now / step) * step
  return Array.from({ length: n }, (_, i) => last - (n - 1 - i) * step)
}

export const measure = (row: UsageRow, m: Measure): number => (m === 'tokens' ? row.prompt_tokens + row.completion_tokens : m === 'requests' ? row.requests : row.errors)

/** Rows of the server as stacked series on the given buckets: the seven largest groups, the rest as one. */
export function stack(rows: UsageRow[], times: number[], by: GroupBy, m: Measure, names: { none: string; rest: string }): { label: string; values: number[] }[] {
  const at = new Map(times.map((t, i) => [t, i]))
  const groups = new Map<string, number[]>()
  for (const row of rows) {
    const i = at.get(new Date(row.at ?? '').getTime())
    if (i === undefined) continue
    const label = (by === 'model' ? row.model : by === 'key' ? row.key_name || row.key_id : row.user_id) || names.none
    const values = groups.get(label) ?? times.map(() => 0)
    values[i] = (values[i] ?? 0) + measure(row, m)
    groups.set(label, values)
  }
  const sorted = [...groups].map(([label, values]) => ({ label, values, sum: values.reduce((a, b) => a + b, 0) })).filter((s) => s.sum > 0).sort((a, b) => b.sum - a.sum)
  const shown = sorted.slice(0, sorted.length > 8 ? 7 : 8)
  const rest = sorted.slice(shown.length)
  return [...shown, ...(rest.length ? [{ label: names.rest, values: times.map((_, i) => rest.reduce((a, s) => a + (s.values[i] ?? 0), 0)) }] : [])].map(({ label, values }) => ({ label, values }))
}

const columns: (keyof UsageRequest)[] = ['request_id', 'at', 'model', 'op', 'status', 'end', 'stream', 'prompt_tokens', 'cached_tokens', 'completion_tokens', 'ttft_ms', 'duration_ms', 'key_id', 'key_name', 'user_id', 'deployment_id', 'source']

/** RFC 4180; a value that a spreadsheet would run as a formula is quoted with an apostrophe. */
export function toCsv(rows: UsageRequest[]): string {
  const cell = (v: unknown): string => {
    let s = v === undefined || v === null ? '' : String(v)
    if (typeof v === 'string' && /^[=+\-@\t\r]/.test(s)) s = `'${s}`
    return /[",\r\n]/.test(s) ? `"${s.replace(/"/g, '""')}"` : s
  }
  return [columns.join(','), ...rows.map((r) => columns.map((c) => cell(r[c])).join(','))].join('\r\n') + '\r\n'
}

export function useUsage(range: Ref<Range>, by: Ref<GroupBy>, model: Ref<string>, keyId: Ref<string>) {
  const times = computed(() => buckets(range.value, Date.now()))
  const from = computed(() => new Date(times.value[0]!).toISOString())
  const sums = useLoad({
    key: () => ['inference', 'usage', range.value, by.value],
    query: (signal) => get<Usage>('/usage', { from: from.value, to: new Date(Date.now() + 1000).toISOString(), bucket: bucketOf(range.value), group_by: by.value }, { signal }),
    every: () => 15_000,
  })
  const requests = usePages<UsageRequest>(() => '/usage/requests', () => ({ limit: 50, model: model.value || undefined, key_id: keyId.value || undefined }))
  const most = 5000
  const csv = useAction(async () => {
    const rows: UsageRequest[] = []
    for (let after: string | undefined; ;) {
      const list = await get<List<UsageRequest>>('/usage/requests', { limit: 200, model: model.value || undefined, key_id: keyId.value || undefined, after })
      rows.push(...list.items)
      if (!list.next || rows.length >= most) break
      after = list.next
    }
    const url = URL.createObjectURL(new Blob(['\ufeff', toCsv(rows)], { type: 'text/csv' }))
    const a = document.createElement('a')
    a.href = url
    a.download = `usage-${new Date().toISOString().slice(0, 10)}.csv`
    a.click()
    setTimeout(() => URL.revokeObjectURL(url), 5000)
  })
  return { times, sums, requests, csv }
}
