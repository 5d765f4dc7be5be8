import { computed, type Ref } from 'vue'
import { get } from '@/api/client'
import { items } from '@/api/collection'
import { download } from '@/api/download'
import type { Member, Project } from '@/api/identity'
import type { Forecast, Wallet } from '@/api/money'
import { useAction, useLoad, usePages } from '@/api/query'
import { useSession } from '@/api/session'
import type { Usage, UsageRequest, UsageRow } from '@/api/types'

export type Range = '24h' | '7d' | '30d'
export type GroupBy = 'model' | 'project' | 'key' | 'user' | 'provider'
export type Measure = 'tokens' | 'requests' | 'errors' | 'cost'

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

export const measure = (row: UsageRow, m: Measure): number => (m === 'tokens' ? row.prompt_tokens + row.completion_tokens : m === 'requests' ? row.requests : m === 'cost' ? row.cost_micro : row.errors)

export const groupOf = (row: UsageRow, by: GroupBy): string | undefined => ({ model: row.model, project: row.project_id, key: row.key_id, user: row.user_id, provider: row.provider_id })[by]

/** Rows of the server as stacked series on the given buckets: the seven largest groups, the rest as one. */
export function stack(rows: UsageRow[], times: number[], by: GroupBy, m: Measure, names: { none: string; rest: string; of?: (id: string) => string }): { label: string; values: number[] }[] {
  const at = new Map(times.map((t, i) => [t, i]))
  const groups = new Map<string, number[]>()
  for (const row of rows) {
    const i = at.get(new Date(row.at ?? '').getTime())
    if (i === undefined) continue
    const id = groupOf(row, by)
    const label = id ? (by === 'key' ? row.key_name || id : (names.of?.(id) ?? id)) : names.none
    const values = groups.get(label) ?? times.map(() => 0)
    values[i] = (values[i] ?? 0) + measure(row, m)
    groups.set(label, values)
  }
  const sorted = [...groups].map(([label, values]) => ({ label, values, sum: values.reduce((a, b) => a + b, 0) })).filter((s) => s.sum > 0).sort((a, b) => b.sum - a.sum)
  const shown = sorted.slice(0, sorted.length > 8 ? 7 : 8)
  const rest = sorted.slice(shown.length)
  return [...shown, ...(rest.length ? [{ label: names.rest, values: times.map((_, i) => rest.reduce((a, s) => a + (s.values[i] ?? 0), 0)) }] : [])].map(({ label, values }) => ({ label, values }))
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
  const csv = useAction(() => download('/usage/export.csv', `usage-${new Date().toISOString().slice(0, 10)}.csv`, { from: from.value, to: new Date(Date.now() + 1000).toISOString() }))
  return { times, sums, requests, csv }
}

/** What names ids have, what the month will cost, and in which currency. */
export function useUsageNames() {
  const session = useSession()
  const projects = useLoad({ key: () => ['user', 'projects', {}], query: (signal) => items<Project>('/projects', { limit: 200 }, signal), enabled: () => session.may('project:read') })
  const people = useLoad({ key: () => ['user', 'members', {}], query: (signal) => items<Member>('/members', { limit: 200 }, signal), enabled: () => session.may('user:read') })
  const providers = useLoad({ key: () => ['inference', 'providers', 'names'], query: (signal) => items<{ id: string; name: string }>('/inference/providers', { limit: 200 }, signal), enabled: () => session.may('inference:read') })
  const wallet = useLoad({ key: () => ['user', 'wallet'], query: (signal) => get<Wallet>('/wallet', {}, { signal }) })
  const forecast = useLoad({ key: () => ['user', 'forecast'], query: (signal) => get<Forecast>('/usage/forecast', {}, { signal }), every: () => 60_000 })
  function name(by: GroupBy, id: string): string {
    if (by === 'project') return projects.data.value?.find((p) => p.id === id)?.name ?? id
    if (by === 'user') return people.data.value?.find((m) => m.id === id)?.email ?? id
    if (by === 'provider') return providers.data.value?.find((p) => p.id === id)?.name ?? id
    return id
  }
  return { name, forecast, currency: computed(() => wallet.data.value?.currency ?? 'CNY') }
}
