import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const src = import.meta.dirname
const areas: Record<string, string> = { shell: 'shell', ui: 'ui', home: 'areas/home', user: 'areas/user', model: 'areas/model', inference: 'areas/inference', tenant: 'areas/tenant', billing: 'areas/billing', ops: 'areas/ops' }

function flat(o: object, prefix = ''): Record<string, string> {
  return Object.fromEntries(Object.entries(o).flatMap(([k, v]) => (typeof v === 'string' ? [[prefix + k, v]] : Object.entries(flat(v as object, `${prefix}${k}.`)))))
}
const words = (area: string, locale: string): Record<string, string> => flat(JSON.parse(readFileSync(join(src, areas[area]!, 'locales', `${locale}.json`), 'utf8')) as object, `${area}.`)
const files = (dir: string): string[] => readdirSync(dir).flatMap((f) => {
  const p = join(dir, f)
  return statSync(p).isDirectory() ? files(p) : /\.(vue|ts)$/.test(f) && !f.endsWith('.test.ts') ? [p] : []
})
const code = files(src).map((f) => readFileSync(f, 'utf8')).join('\n')
// `t(`model.tab.${id}`)` uses every key that starts so.
const computed = [...code.matchAll(/`([a-z_]+\.[a-z0-9_.]*)\$\{/g)].map((m) => m[1]!)
// A template may begin with the area's own prefix: `inference.usage.${prefix}.${value}`.
const placeholders = (s: string): string[] => [...s.matchAll(/\{(\w+)\}/g)].map((m) => m[1]!).sort()

describe.each(Object.keys(areas))('words of %s', (area) => {
  const en = words(area, 'en')
  const zh = words(area, 'zh-CN')
  it('have the same keys in both languages', () => expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort()))
  it('have the same placeholders', () => {
    for (const k of Object.keys(en)) expect(placeholders(zh[k] ?? ''), k).toEqual(placeholders(en[k]!))
  })
  it('are all used', () => {
    const unused = Object.keys(en).filter((k) => !code.includes(`'${k}'`) && !computed.some((c) => k.startsWith(c)))
    expect(unused).toEqual([])
  })
  it('hold no sign that the message format would read', () => {
    for (const [k, v] of [...Object.entries(en), ...Object.entries(zh)]) expect(v, k).not.toMatch(/[|@]/)
  })
  it('put a space between Han and Latin or digits', () => {
    for (const [k, v] of Object.entries(zh)) expect(v, k).not.toMatch(/\p{Script=Han}[A-Za-z0-9]|[A-Za-z0-9]\p{Script=Han}/u)
  })
})
