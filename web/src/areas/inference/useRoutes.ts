import { call, del, get, patch, post, seg } from '@/api/client'
import type { EndpointState, InferenceRoute, RouteTarget, RouteTest, Strategy } from '@/api/routing'
import { items } from '@/api/collection'
import { useAction, useInvalidate, useLoad } from '@/api/query'
import type { Tone } from '@/ui/StatusDot.vue'

export const routePage = (name: string): string => `/routes/${encodeURIComponent(name)}`
export const failures = ['connect', '429', '5xx', 'timeout'] as const
export const strategies: Strategy[] = ['weighted', 'least_loaded', 'session']

export interface RouteForm {
  name: string; description: string; enabled: boolean; aliases: string[]; targets: { deployment: string; weight: string; priority: string }[]; fallbacks: string[]; strategy: Strategy
  attempts: number; budget: string; on: string[]; timeout: string
}

export function emptyRoute(): RouteForm {
  return { name: '', description: '', enabled: true, aliases: [], targets: [{ deployment: '', weight: '100', priority: '0' }], fallbacks: [], strategy: 'weighted', attempts: 3, budget: '20', on: [...failures], timeout: '' }
}

export function formOfRoute(r: InferenceRoute): RouteForm {
  return {
    name: r.name, description: r.description, enabled: r.enabled, aliases: [...(r.aliases ?? [])], targets: (r.targets ?? []).map((t) => ({ deployment: t.deployment, weight: String(t.weight), priority: String(t.priority) })), fallbacks: [...(r.fallbacks ?? [])],
    strategy: r.strategy, attempts: r.retry.attempts, budget: String(r.retry.budget_percent), on: [...(r.retry.on ?? [])], timeout: r.timeout_ms ? String(r.timeout_ms / 1000) : '',
  }
}

export function bodyOfRoute(f: RouteForm): Record<string, unknown> {
  const whole = (s: string): number => Math.max(0, Math.round(Number(s) || 0))
  return {
    name: f.name.trim(), description: f.description.trim(), enabled: f.enabled, aliases: f.aliases, fallbacks: f.fallbacks, strategy: f.strategy,
    targets: f.targets.filter((t) => t.deployment).map((t) => ({ deployment: t.deployment, weight: whole(t.weight), priority: whole(t.priority) })),
    retry: { attempts: f.attempts, budget_percent: whole(f.budget), on: f.on }, timeout_ms: Math.round((Number(f.timeout) || 0) * 1000),
  }
}

export interface ChainStep { priority: number; targets: { deployment: string; share: number }[] }

/** The order in which a route tries: one step a priority, with the share of each target in it. */
export function chain(targets: RouteTarget[]): ChainStep[] {
  const steps = new Map<number, RouteTarget[]>()
  for (const t of targets) steps.set(t.priority, [...(steps.get(t.priority) ?? []), t])
  return [...steps].sort(([a], [b]) => a - b).map(([priority, list]) => {
    const sum = list.reduce((a, t) => a + t.weight, 0)
    return { priority, targets: list.map((t) => ({ deployment: t.deployment, share: sum ? t.weight / sum : 0 })) }
  })
}

export const breakerTone = (s: EndpointState): Tone => (s.breaker === 'open' ? 'error' : s.breaker === 'half_open' || s.cooling_until ? 'warning' : 'success')

export function useRouteList() {
  return useLoad({ key: () => ['inference', 'routes'], query: (signal) => items<InferenceRoute>('/inference/routes', { limit: 200 }, signal), every: () => 5000 })
}
export function useRouteOne(name: () => string) {
  return useLoad({ key: () => ['inference', 'routes', name()], query: (signal) => get<InferenceRoute>(`/inference/routes/${seg(name())}`, {}, { signal }), every: () => 3000, enabled: () => name() !== '' })
}
export function useUpstreams() {
  return useLoad({ key: () => ['inference', 'upstreams'], query: (signal) => items<EndpointState>('/inference/upstreams', {}, signal), every: () => 3000 })
}

export function useRouteActions() {
  const invalidate = useInvalidate()
  const save = useAction(async (old: InferenceRoute | null, body: Record<string, unknown>) => {
    const after = old ? await patch<InferenceRoute>(`/inference/routes/${seg(old.id)}`, body, old.rev) : await post<InferenceRoute>('/inference/routes', body)
    await invalidate(['inference'])
    return after
  })
  const remove = useAction(async (r: InferenceRoute) => {
    await del(`/inference/routes/${seg(r.id)}`, r.rev)
    void invalidate(['inference', 'routes'])
    return true
  })
  const test = useAction((r: InferenceRoute, body: Record<string, unknown>) => call<RouteTest>('POST', `/inference/routes/${seg(r.id)}/test`, { body }))
  return { save, remove, test }
}
