import { describe, expect, it } from 'vitest'
import { bytes, duration, short } from './format'

describe('formats', () => {
  it.each([[0, '0 B'], [1023, '1023 B'], [1024, '1 KiB'], [1536, '1.5 KiB'], [10 * 1024, '10 KiB'], [808 * 2 ** 20, '808 MiB'], [4.36 * 2 ** 30, '4.36 GiB'], [100, '100 B'], [undefined, '–']])('bytes %s', (n, want) => expect(bytes(n)).toBe(want))
  it.each([[0, '0'], [999, '999'], [1000, '1k'], [12_400, '12.4k'], [1_235_814_400, '1.2B'], [812_000, '812k'], [41.66, '41.7'], [null, '–']])('short %s', (n, want) => expect(short(n)).toBe(want))
  it.each([[0, '0 ms'], [2.54, '2.5 ms'], [840, '840 ms'], [2400, '2.4 s'], [43_000, '43 s'], [200_000, '3 min 20 s'], [120_000, '2 min'], [3_900_000, '1 h 5 min'], [7_200_000, '2 h']])('duration %s', (n, want) => expect(duration(n)).toBe(want))
})
