import { describe, expect, it } from 'vitest'
import type { Budget } from '@/api/money'
import { byUrgency, readAmount, writeAmount } from './amount'

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
