/** The colour of a series by its place; the values are tokens of main.css for both grounds. */
export const chartColour = (i: number): string => `var(--chart-${(i % 8) + 1})`

/** Resolves a token to what a canvas understands. */
export function token(name: string, at: Element = document.documentElement): string {
  return getComputedStyle(at).getPropertyValue(name).trim() || '#888'
}
