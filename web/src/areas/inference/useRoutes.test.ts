import { describe, expect, it } from 'vitest'
import type { InferenceRoute } from '@/api/routing'
import { bodyOfRoute, chain, emptyRoute, formOfRoute } from './useRoutes'

const route: InferenceRoute = {
  id: 'rte_1', name: 'chat', description: 'd', aliases: ['gpt-4o'], targets: [{ deployment: 'b', weight: 30, priority: 1 }, { deployment: 'a', weight: 100, priority: 0 }, { deployment: 'c', weight: 70, priority: 1 }], fallbacks: ['other'], strategy: 'session',
  retry: { attempts: 2, budget_percent: 10, on: ['5xx'] }, timeout_ms: 2500, enabled: false, created_at: '', updated_at: '', rev: 4,
}

describe('a route as a form', () => {
  it('gives back what it was made from', () => {
    const { id: _i, created_at: _c, updated_at: _u, rev: _r, ...same } = route
    expect(bodyOfRoute(formOfRoute(route))).toEqual(same)
  })
  it('drops empty targets and reads bad numbers as nothing', () => {
    const f = { ...emptyRoute(), name: ' x ', targets: [{ deployment: '', weight: '1', priority: '0' }, { deployment: 'a', weight: 'x', priority: '-3' }] }
    expect(bodyOfRoute(f)).toMatchObject({ name: 'x', targets: [{ deployment: 'a', weight: 0, priority: 0 }], timeout_ms: 0 })
  })
})

describe('chain', () => {
  it('goes by priority with shares in each step', () => expect(chain(route.targets!)).toEqual([{ priority: 0, targets: [{ deployment: 'a', share: 1 }] }, { priority: 1, targets: [{ deployment: 'b', share: 0.3 }, { deployment: 'c', share: 0.7 }] }]))
  it('shares nothing where every weight is 0', () => expect(chain([{ deployment: 'a', weight: 0, priority: 0 }])[0]!.targets[0]!.share).toBe(0))
})
