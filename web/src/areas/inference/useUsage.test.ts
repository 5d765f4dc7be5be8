import { describe, expect, it } from 'vitest'
import type { UsageRow } from '@/api/types'
import { buckets, stack } from './useUsage'

const row = (at: number, model: string, tokens: number): UsageRow => ({ at: new Date(at).toISOString(), model, requests: 1, errors: 0, prompt_tokens: tokens, cached_tokens: 0, completion_tokens: 0, reasoning_tokens: 0, cost_micro: tokens * 7, project_id: `prj_${model}` })
const names = { none: 'No key', rest: 'Others' }

describe('buckets', () => {
  it('are whole hours or days in UTC and end with the present one', () => {
    const now = Date.UTC(2026, 10, 25, 10, 41)
    expect(buckets('24h', now)).toHaveLength(24)
    expect(buckets('24h', now).at(-1)).toBe(Date.UTC(2026, 10, 25, 10))
    expect(buckets('7d', now)).toHaveLength(7)
    expect(buckets('7d', now)[0]).toBe(Date.UTC(2026, 10, 19))
  })
})

describe('stack', () => {
  const times = buckets('7d', Date.UTC(2026, 10, 25, 10))
  it('puts each row on its bucket, largest group first', () => {
    const s = stack([row(times[0]!, 'small', 5), row(times[6]!, 'large', 50), row(times[0]!, 'large', 1)], times, 'model', 'tokens', names)
    expect(s.map((x) => x.label)).toEqual(['large', 'small'])
    expect(s[0]!.values).toEqual([1, 0, 0, 0, 0, 0, 50])
  })
  it('leaves out what lies outside and what is zero', () => {
    expect(stack([row(times[0]! - 86_400_000, 'x', 5), row(times[0]!, 'y', 0)], times, 'model', 'tokens', names)).toEqual([])
  })
  it('stacks cost by project under the names of the projects', () => {
    const s = stack([row(times[0]!, 'a', 5)], times, 'project', 'cost', { ...names, of: (id) => id.replace('prj_', 'Project ') })
    expect(s).toEqual([{ label: 'Project a', values: [35, 0, 0, 0, 0, 0, 0] }])
  })
  it('joins the groups after the seventh without losing any', () => {
    const rows = Array.from({ length: 12 }, (_, i) => row(times[i % 7]!, `m${i}`, 100 - i))
    const s = stack(rows, times, 'model', 'tokens', names)
    expect(s).toHaveLength(8)
    expect(s.at(-1)!.label).toBe('Others')
    expect(s.flatMap((x) => x.values).reduce((a, b) => a + b)).toBe(rows.reduce((a, r) => a + r.prompt_tokens, 0))
  })
})
