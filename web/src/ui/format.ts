import { computed } from 'vue'
import { useUi } from './context'
import { decimals } from './money'

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** Sizes in binary units, at most three digits that matter. */
export function bytes(n: number | undefined | null): string {
  if (n === undefined || n === null || !Number.isFinite(n)) return '–'
  let i = 0
  let v = Math.abs(n)
  while (v >= 1024 && i < units.length - 1) {
    v /= 1024
    i++
  }
  const digits = i === 0 || v >= 100 ? 0 : v >= 10 ? 1 : 2
  return `${n < 0 ? '−' : ''}${v.toFixed(digits).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '')} ${units[i]}`
}

/** Counts of tokens and parameters: 950, 12.4k, 7.6M, 1.5B. */
export function short(n: number | undefined | null): string {
  if (n === undefined || n === null || !Number.isFinite(n)) return '–'
  for (const [size, mark] of [[1e9, 'B'], [1e6, 'M'], [1e3, 'k']] as const) {
    if (Math.abs(n) >= size) return `${(n / size).toFixed(Math.abs(n) >= 100 * size ? 0 : 1).replace(/\.0$/, '')}${mark}`
  }
  return Number.isInteger(n) ? String(n) : n.toFixed(1)
}

/** Milliseconds as a person reads them: 840 ms, 2.4 s, 3 min 20 s, 1 h 5 min. */
export function duration(ms: number | undefined | null): string {
  if (ms === undefined || ms === null || !Number.isFinite(ms)) return '–'
  if (ms < 1000) return `${ms < 10 && ms > 0 ? ms.toFixed(ms < 1 ? 2 : 1).replace(/\.?0+$/, '') : Math.round(ms)} ms`
  const s = ms / 1000
  if (s < 60) return `${s.toFixed(1).replace(/\.0$/, '')} s`
  const total = Math.round(s)
  const [h, m, rest] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60]
  if (h) return m ? `${h} h ${m} min` : `${h} h`
  return rest ? `${m} min ${rest} s` : `${m} min`
}

/** Formatters in the language and zone of the person. */
export function useFormat() {
  const ui = useUi()
  const zone = computed(() => ui.zone.value || undefined)
  const cache = new Map<string, Intl.DateTimeFormat | Intl.NumberFormat | Intl.RelativeTimeFormat>()
  function made<F extends Intl.DateTimeFormat | Intl.NumberFormat | Intl.RelativeTimeFormat>(kind: string, make: () => F): F {
    const name = `${kind}|${ui.locale.value}|${zone.value}`
    let f = cache.get(name)
    if (!f) cache.set(name, (f = make()))
    return f as F
  }
  const number = (n: number | undefined | null): string => (n === undefined || n === null ? '–' : made('n', () => new Intl.NumberFormat(ui.locale.value)).format(n))
  const percent = (x: number): string => made('p', () => new Intl.NumberFormat(ui.locale.value, { style: 'percent', maximumFractionDigits: 1 })).format(x)
  const dateTime = (d: Date): string => made('dt', () => new Intl.DateTimeFormat(ui.locale.value, { dateStyle: 'medium', timeStyle: 'medium', timeZone: zone.value })).format(d)
  const clock = (d: Date): string => made('t', () => new Intl.DateTimeFormat(ui.locale.value, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23', timeZone: zone.value })).format(d)
  const minute = (d: Date): string => made('m', () => new Intl.DateTimeFormat(ui.locale.value, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', timeZone: zone.value })).format(d)
  const day = (d: Date): string => made('d', () => new Intl.DateTimeFormat(ui.locale.value, { month: 'short', day: 'numeric', timeZone: zone.value })).format(d)
  const month = (d: Date): string => made('mo', () => new Intl.DateTimeFormat(ui.locale.value, { year: 'numeric', month: 'long', timeZone: 'UTC' })).format(d)
  /** Micro-units of a currency (ISO 4217; an unknown code stands behind the number). */
  function money(micro: number | undefined | null, currency = 'USD', digits?: number): string {
    if (micro === undefined || micro === null) return '–'
    const n = digits ?? decimals(micro)
    try {
      return made(`c${currency}${n}`, () => new Intl.NumberFormat(ui.locale.value, { style: 'currency', currency, currencyDisplay: 'narrowSymbol', minimumFractionDigits: Math.min(n, 2), maximumFractionDigits: n })).format(micro / 1e6)
    } catch {
      return `${made(`d${n}`, () => new Intl.NumberFormat(ui.locale.value, { minimumFractionDigits: Math.min(n, 2), maximumFractionDigits: n })).format(micro / 1e6)} ${currency}`
    }
  }
  function relative(d: Date, at: number): string {
    const s = (d.getTime() - at) / 1000
    const f = made('r', () => new Intl.RelativeTimeFormat(ui.locale.value, { numeric: 'auto' }))
    const a = Math.abs(s)
    if (a < 45) return f.format(0, 'second')
    if (a < 3600) return f.format(Math.round(s / 60), 'minute')
    if (a < 86_400) return f.format(Math.round(s / 3600), 'hour')
    if (a < 30 * 86_400) return f.format(Math.round(s / 86_400), 'day')
    if (a < 365 * 86_400) return f.format(Math.round(s / (30 * 86_400)), 'month')
    return f.format(Math.round(s / (365 * 86_400)), 'year')
  }
  return { number, percent, dateTime, clock, minute, day, month, money, relative, bytes, short, duration }
}
