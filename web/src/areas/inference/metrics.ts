import type { MetricSeries, Metrics } from '@/api/types'
import type { LineSeries } from '@/ui/chart/Line.vue'
import { bytes, duration, short } from '@/ui/format'

export interface Chart { key: string; title: string; times: number[]; series: LineSeries[]; format?: (n: number) => string }

const named = (s: MetricSeries, locale: string): string => (typeof s.name === 'string' ? s.name : (locale.startsWith('zh') ? s.name?.zh : s.name?.en) || s.name?.en || s.key)

/** How a value of a unit is written. */
export function formatOf(unit: string | undefined): ((n: number) => string) | undefined {
  if (unit === 'ms') return duration
  if (unit === 's') return (n) => duration(n * 1000)
  if (unit === 'bytes') return bytes
  if (unit === 'ratio') return (n) => `${(n * 100).toFixed(n > 0 && n < 0.1 ? 1 : 0)} %`
  if (unit === 'percent') return (n) => `${n.toFixed(0)} %`
  return short
}

/** Makes charts of series that describe themselves: those of one group share a chart, on one time axis. */
export function chartsOf(m: Metrics, locale: string): Chart[] {
  const groups = new Map<string, MetricSeries[]>()
  for (const s of m.series ?? []) {
    const id = s.group || s.key
    groups.set(id, [...(groups.get(id) ?? []), s])
  }
  return [...groups].map(([key, list]) => {
    const at = new Map<number, Map<string, number | null>>()
    for (const s of list) {
      for (const p of s.points ?? []) {
        const [seconds, value] = p ?? []
        if (seconds === undefined || seconds === null) continue
        if (!at.has(seconds)) at.set(seconds, new Map())
        at.get(seconds)!.set(s.key, value ?? null)
      }
    }
    const times = [...at.keys()].sort((a, b) => a - b)
    return {
      key,
      title: list.length === 1 ? named(list[0]!, locale) : list.map((s) => named(s, locale)).join(' · '),
      times,
      series: list.map((s) => ({ label: named(s, locale), values: times.map((x) => at.get(x)!.get(s.key) ?? null), unit: s.unit })),
      format: formatOf(list[0]!.unit),
    }
  }).filter((c) => c.times.length > 0)
}
