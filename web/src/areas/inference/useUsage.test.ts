import { describe, expect, it } from 'vitest'
import type { UsageRequest, UsageRow } from '@/api/types'
import { buckets, stack, toCsv } from './useUsage'

const row = (at: number, model: string, tokens: number): UsageRow => ({ at: new Date(at).toISOString(), model, requests: 1, errors: 0, prompt_tokens: tokens, cached_tokens: 0, completion_tokens: 0 })
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
  it('joins the groups after the seventh without losing any', () => {
    const rows = Array.from({ length: 12 }, (_, i) => row(times[i % 7]!, `m${i}`, 100 - i))
    const s = stack(rows, times, 'model', 'tokens', names)
    expect(s).toHaveLength(8)
    expect(s.at(-1)!.label).toBe('Others')
    expect(s.flatMap((x) => x.values).reduce((a, b) => a + b)).toBe(rows.reduce((a, r) => a + r.prompt_tokens, 0))
  })
})

describe('toCsv', () => {
  it('quotes what must be quoted and disarms formulas', () => {
    const r = { request_id: 'req_1', at: '2026-11-25T10:00:00Z', model: 'a,"b"', key_name: '=1+1', op: 'chat', stream: true, status: 200, end: 'done', prompt_tokens: 1, cached_tokens: 0, completion_tokens: 2, ttft_ms: 3, duration_ms: 4, source: 'upstream' } as UsageRequest
    const lines = toCsv([r]).split('\r\n')
    expect(lines[0]).toMatch(/^request_id,at,model/)
    expect(lines[1]).toContain('"a,""b"""')
    expect(lines[1]).toContain(`'=1+1`)
    expect(lines[1]!.match(/,/g)!.length).toBe(lines[0]!.match(/,/g)!.length + 1)
  })
})
