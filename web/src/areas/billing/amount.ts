import type { Budget, BudgetUnit } from '@/api/money'
import { parseMoney, plainMoney } from '@/ui/money'

/** What was typed for a limit, in the unit of the budget: money in units of the currency, counts as whole numbers (1.5M and 20k are understood). */
export function readAmount(text: string, unit: BudgetUnit): number | undefined {
  if (unit === 'money') {
    const micro = parseMoney(text)
    return micro !== undefined && micro >= 0 ? micro : undefined
  }
  const m = /^\s*(\d{1,12})(?:\.(\d{1,3}))?\s*([kmb])?\s*$/i.exec(text)
  if (!m) return undefined
  const factor = { k: 1e3, m: 1e6, b: 1e9 }[(m[3] ?? '').toLowerCase()] ?? 1
  const n = Number(m[1]) * factor + (m[2] ? (Number(m[2].padEnd(3, '0')) * factor) / 1000 : 0)
  return Number.isInteger(n) && n <= Number.MAX_SAFE_INTEGER ? n : undefined
}

export function writeAmount(n: number, unit: BudgetUnit): string {
  return unit === 'money' ? plainMoney(n) : String(n)
}

/** The worst first: used up, then near, then by the share that is used. */
export function byUrgency(a: Budget, b: Budget): number {
  const rank = { exhausted: 0, warn: 1, ok: 2 }
  const share = (x: Budget): number => (x.limit > 0 ? x.used / x.limit : 1)
  return rank[a.state] - rank[b.state] || share(b) - share(a) || a.name.localeCompare(b.name)
}
