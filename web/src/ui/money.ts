/** Money is whole millionths of a unit (micro) everywhere; text is made and read without binary fractions. */

/** "12.5" of a unit as micro; undefined for anything that is not an amount with at most six decimals. */
export function parseMoney(text: string): number | undefined {
  const m = /^\s*(-)?(\d{1,9})(?:[.,](\d{1,6}))?\s*$/.exec(text)
  if (!m) return undefined
  const micro = Number(m[2]) * 1_000_000 + Number((m[3] ?? '').padEnd(6, '0'))
  return m[1] ? -micro : micro
}

/** Micro as plain digits for a field: 12500000 -> "12.5". */
export function plainMoney(micro: number | undefined | null): string {
  if (micro === undefined || micro === null) return ''
  const a = Math.abs(micro)
  const part = String(a % 1_000_000).padStart(6, '0').replace(/0+$/, '')
  return `${micro < 0 ? '-' : ''}${Math.floor(a / 1_000_000)}${part ? `.${part}` : ''}`
}

/** How many decimals an amount needs to be told apart from nothing: 2, and up to 6 for fractions of a cent. */
export function decimals(micro: number): number {
  const a = Math.abs(micro)
  if (a === 0 || a >= 1_000_000 || a % 10_000 === 0) return 2
  if (a >= 10_000) return 4
  return 6
}
