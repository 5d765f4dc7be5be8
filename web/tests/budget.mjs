// Sizes on the wire (brotli) of what a build makes, against the limits of the console. Prints a table and exits 1 over a limit.
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'

const dist = resolve(import.meta.dirname, '../dist')
const limits = { entryJs: 300, entryCss: 30, font: 50, requests: 30, route: 90, dist: 2500 }
const kb = (n) => Math.round((n / 1000) * 10) / 10
const wire = (name) => statSync(existsSync(join(dist, `${name}.br`)) ? join(dist, `${name}.br`) : join(dist, name)).size
const all = readdirSync(join(dist, 'assets')).filter((f) => !/\.(br|gz)$/.test(f)).map((f) => `assets/${f}`)
const page = readFileSync(join(dist, 'console.html'), 'utf8')
const source = (name) => readFileSync(join(dist, name), 'utf8')
const statics = new Map()

/** What a script loads before it runs: its static imports, and theirs. */
function staticImports(name, seen = new Set()) {
  if (seen.has(name) || !existsSync(join(dist, name))) return seen
  seen.add(name)
  if (!statics.has(name)) statics.set(name, [...source(name).matchAll(/(?:from|import)\s*["']\.\/([\w.-]+\.js)["']/g)].map((m) => `assets/${m[1]}`))
  for (const next of statics.get(name)) staticImports(next, seen)
  return seen
}
const sum = (names) => [...names].reduce((a, n) => a + wire(n), 0)

const entry = new Set([...page.matchAll(/(?:src|href)="\/(assets\/[\w.-]+\.js)"/g)].flatMap((m) => [...staticImports(m[1])]))
const css = [...page.matchAll(/href="\/(assets\/[\w.-]+\.css)"/g)].map((m) => m[1])
const overview = all.find((f) => /assets\/Overview-[\w-]+\.js$/.test(f))
const shell = new Set([...entry, ...staticImports(overview), ...all.filter((f) => /assets\/(en)-/.test(f)).slice(0, 3)])
const fonts = all.filter((f) => /inter-latin-wght-normal.*woff2$/.test(f))
const rows = [
  ['first visit, JS', kb(sum(shell)), limits.entryJs],
  ['first visit, CSS', kb(sum(css)), limits.entryCss],
  ['font', kb(sum(fonts)), limits.font],
  ['first visit, requests', shell.size + css.length + fonts.length + 4, limits.requests],
  ...all.filter((f) => /assets\/[A-Z]\w+-[\w-]+\.js$/.test(f)).map((f) => [f.replace(/^assets\/(\w+)-.*$/, '$1'), kb(sum([...staticImports(f)].filter((x) => !shell.has(x)))), limits.route]),
  ['dist', kb([...all, 'console.html', 'boot.js', 'favicon.svg'].reduce((a, f) => a + wire(f), 0)), limits.dist],
]
let over = 0
for (const [name, size, limit] of rows.sort((a, b) => b[1] / b[2] - a[1] / a[2])) {
  if (size > limit) over++
  if (size > limit * 0.25) console.log(`${size > limit ? 'OVER ' : '     '}${String(size).padStart(8)} of ${String(limit).padEnd(5)} ${name}`)
}
if (over) {
  console.error(`${over} over their limit`)
  process.exit(1)
}
