import { computed, onBeforeUnmount, onMounted, ref, shallowRef } from 'vue'
import { del, get, patch, post, send, seg } from '@/api/client'
import { readProblem, toProblem, type Problem } from '@/api/problem'
import { useAction, useInvalidate, useLoad } from '@/api/query'
import type { Deployment, Fit, List, LogLine, Metrics, Model, Provider, Transition } from '@/api/types'

const moving = ['pending', 'starting', 'updating', 'deleting']
export const base = (name: string): string => `/inference/deployments/${seg(name)}`
export const page = (name: string, tab = 'overview'): string => `/deployments/${encodeURIComponent(name)}/${tab}`

export function useDeployments() {
  return useLoad({
    key: () => ['inference', 'deployments'],
    query: (signal) => get<List<Deployment>>('/inference/deployments', { limit: 200 }, { signal }),
    every: (d) => (d?.items.some((x) => moving.includes(x.status)) ? 1500 : 4000),
  })
}

/** Start, stop, restart, delete and change of one deployment. */
export function useDeploymentActions() {
  const invalidate = useInvalidate()
  const act = useAction(async (d: Deployment, verb: 'start' | 'stop' | 'restart') => {
    await post(`${base(d.name)}/${verb}`)
    await invalidate(['inference'])
    return true
  })
  const remove = useAction(async (d: Deployment) => {
    await del(base(d.name))
    void invalidate(['inference', 'deployments'])
    return true
  })
  const change = useAction(async (d: Deployment, body: Record<string, unknown>) => {
    const after = await patch<Deployment>(base(d.name), body, d.rev)
    await invalidate(['inference'])
    return after
  })
  return { act, remove, change }
}

export function useDeployment(name: () => string) {
  return useLoad({ key: () => ['inference', 'deployment', name()], query: (signal) => get<Deployment>(base(name()), {}, { signal }), every: (d) => (d && moving.includes(d.status) ? 1000 : 2500) })
}

export function useTransitions(name: () => string) {
  const load = useLoad({ key: () => ['inference', 'events', name()], query: (signal) => get<List<Transition>>(`${base(name())}/events`, { limit: 100 }, { signal }), every: () => 3000 })
  const items = computed(() => [...(load.data.value?.items ?? [])].sort((a, b) => b.at.localeCompare(a.at)))
  return { ...load, items }
}

export function useMetrics(name: () => string, window: () => string) {
  return useLoad({ key: () => ['inference', 'metrics', name(), window()], query: (signal) => get<Metrics>(`${base(name())}/metrics`, { window: window() }, { signal }), every: () => 5000 })
}

/** The newest lines of the engine's log, asked again while the page follows. */
export function useLogs(name: () => string) {
  const lines = shallowRef<LogLine[]>([])
  const problem = shallowRef<Problem | null>(null)
  const follow = ref(true)
  const ready = ref(false)
  let timer = 0
  async function load(): Promise<void> {
    try {
      lines.value = await readLogs(name())
      problem.value = null
    } catch (e) {
      problem.value = toProblem(e)
    }
    ready.value = true
  }
  async function loop(): Promise<void> {
    if (!document.hidden && (follow.value || !ready.value)) await load()
    timer = window.setTimeout(loop, 2000)
  }
  onMounted(loop)
  onBeforeUnmount(() => clearTimeout(timer))
  return { lines, problem, follow, ready, load }
}

/** The log is one record a line: JSON with time, level, msg and further fields, or the plain text of a library. */
async function readLogs(name: string): Promise<LogLine[]> {
  const res = await send('GET', `${base(name)}/logs`, { query: { tail: 500 }, headers: { Accept: 'text/plain, application/x-ndjson' } })
  if (!res.ok) throw await readProblem(res)
  return (await res.text()).split('\n').filter(Boolean).map(parseLine)
}

export function parseLine(line: string): LogLine {
  try {
    const { time, level, msg, component: _c, replica: _r, attempt: _a, ...rest } = JSON.parse(line) as Record<string, unknown>
    if (typeof msg !== 'string') return { text: line }
    const fields = Object.entries(rest).map(([k, v]) => `${k}=${typeof v === 'string' && !/[\s"=]/.test(v) ? v : JSON.stringify(v)}`)
    return { at: typeof time === 'string' ? time : undefined, level: typeof level === 'string' ? level : undefined, text: [msg, ...fields].join(' ') }
  } catch {
    return { text: line }
  }
}

export function useDeployableModels() {
  return useLoad({ key: () => ['model', 'list'], query: (signal) => get<List<Model>>('/models', { limit: 200 }, { signal }) })
}
export function useProviderList() {
  return useLoad({ key: () => ['inference', 'providers'], query: (signal) => get<List<Provider>>('/inference/providers', { limit: 200 }, { signal }) })
}
export async function providerModels(id: string): Promise<string[]> {
  const a = await get<{ items?: (string | { id?: string; name?: string })[] } | string[]>(`/inference/providers/${id}/models`)
  const items = Array.isArray(a) ? a : (a.items ?? [])
  return items.map((m) => (typeof m === 'string' ? m : (m.id ?? m.name ?? ''))).filter(Boolean)
}
export async function fit(model: string, context: number, concurrency: number, signal: AbortSignal): Promise<Fit> {
  const res = await send('POST', '/inference/fit', { body: { model, ...(context ? { context } : {}), ...(concurrency ? { concurrency } : {}) }, signal })
  if (!res.ok) throw await readProblem(res)
  return (await res.json()) as Fit
}
