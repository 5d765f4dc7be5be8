import { describe, expect, it } from 'vitest'
import { decimals, parseMoney, plainMoney } from './money'

describe('money', () => {
  it.each([['12.5', 12_500_000], ['0,01', 10_000], ['0.000001', 1], ['-3', -3_000_000], [' 7 ', 7_000_000], ['999999999.999999', 999_999_999_999_999]])('reads %s', (text, micro) => expect(parseMoney(text)).toBe(micro))
  it.each(['', 'x', '1.2345678', '1.', '.5', '1e3', '--1', '1 000'])('refuses %s', (text) => expect(parseMoney(text)).toBeUndefined())
  it('writes what it reads, without a binary fraction', () => {
    for (const micro of [0, 1, 10, 123_456, 999_999, 1_000_000, 12_500_000, -70_000, 999_999_999_999_999]) expect(parseMoney(plainMoney(micro))).toBe(micro)
  })
  it('shows small amounts', () => expect([0, 5_000_000, 120_000, 12_345, 7].map(decimals)).toEqual([2, 2, 2, 4, 6]))
})
