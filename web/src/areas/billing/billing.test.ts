import { describe, expect, it } from 'vitest'
import type { Budget } from '@/api/money'
import { byUrgency, readAmount, writeAmount } from './amount'
import { dayBuckets, months, stackBy } from './months'

describe('readAmount', () => {
  it.each([['1.5M', 1_500_000], ['20k', 20_000], ['3', 3], ['1.234k', 1234], ['2b', 2_000_000_000], [' 0 ', 0]])('counts %s', (text, n) => expect(readAmount(text, 'tokens')).toBe(n))
  it.each(['', '-1', '1.5', '1.2345k', 'k', '1e9'])('refuses %s as a count', (text) => expect(readAmount(text, 'requests')).toBeUndefined())
  it.each([['12.50', 12_500_000], ['0', 0]])('takes %s of money', (text, n) => expect(readAmount(text, 'money')).toBe(n))
  it('refuses less than nothing', () => expect(readAmount('-5', 'money')).toBeUndefined())
  it('reads what it writes', () => {
    for (const n of [0, 1, 999_999, 12_500_000]) for (const unit of ['money', 'tokens'] as const) expect(readAmount(writeAmount(n, unit), unit)).toBe(n)
  })
})

describe('byUrgency', () => {
  const b = (name: string, state: Budget['state'], used: number): Budget => ({ id: name, name, state, used, limit: 100, subject: { kind: 'tenant', id: 't' }, unit: 'money', window: 'month', hard: true, leased: 0, left: 0, created_at: '', updated_at: '', rev: 1 })
  it('puts what is used up first', () => expect([b('c', 'ok', 50), b('a', 'ok', 10), b('w', 'warn', 85), b('x', 'exhausted', 100)].sort(byUrgency).map((x) => x.name)).toEqual(['x', 'w', 'c', 'a']))
})

describe('months', () => {
  it('goes back over the turn of the year', () => expect(months(new Date(2027, 1, 28, 12), 4)).toEqual(['2027-02', '2027-01', '2026-12', '2026-11']))
  it('does not skip a short month on a 31st', () => expect(months(new Date(2026, 4, 31, 12), 4)).toEqual(['2026-05', '2026-04', '2026-03', '2026-02']))
})

describe('stackBy', () => {
  const now = Date.UTC(2026, 10, 25, 9)
  const times = dayBuckets(3, now)
  const row = (day: number, model: string, n: number) => ({ at: new Date(Date.UTC(2026, 10, day)).toISOString(), model, n })
  it('puts rows into their days, the largest group first', () => {
    expect(stackBy([row(23, 'a', 1), row(25, 'b', 5), row(25, 'a', 2), row(1, 'a', 99)], times, (r) => r.model, (r) => r.n, 'rest')).toEqual([{ label: 'b', values: [0, 0, 5] }, { label: 'a', values: [1, 0, 2] }])
  })
  it('sums what is too small to be shown', () => {
    const rows = Array.from({ length: 10 }, (_, i) => row(24, `m${i}`, 10 - i))
    const s = stackBy(rows, times, (r) => r.model, (r) => r.n, 'rest', 3)
    expect(s.map((x) => x.label)).toEqual(['m0', 'm1', 'm2', 'rest'])
    expect(s[3]!.values).toEqual([0, 28, 0])
  })
})
