// A real server in an empty folder, a real browser, and what must never happen in it.
import { spawn } from 'node:child_process'
import { mkdtempSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { chromium } from 'playwright-core'

export const shots = resolve(import.meta.dirname, '../shots')
const axeSource = readFileSync(resolve(import.meta.dirname, '../../node_modules/axe-core/axe.min.js'), 'utf8')
export const chromiumPath = process.env.CHROMIUM ?? '/usr/bin/chromium'
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

function freePort() {
  return new Promise((ok, no) => {
    const s = createServer()
    s.once('error', no)
    s.listen(0, '127.0.0.1', () => {
      const { port } = s.address()
      s.close(() => ok(port))
    })
  })
}

/** Starts the binary on an empty folder and waits until it answers. */
export async function startServer(bin) {
  const dir = mkdtempSync(join(tmpdir(), 'maas-e2e-'))
  const port = await freePort()
  const base = `http://127.0.0.1:${port}`
  const log = []
  // Passkeys belong to a domain, never to an address: people reach this server as localhost.
  const child = spawn(bin, ['serve', '--data', join(dir, 'data'), '--listen', `127.0.0.1:${port}`], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, MAAS_URL: `http://localhost:${port}` } })
  // A run that is ended from outside must not leave its server behind.
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => {
    child.kill('SIGKILL')
    process.exit(1)
  })
  for (const s of [child.stdout, child.stderr]) s.on('data', (b) => log.push(String(b)))
  let gone = false
  child.once('exit', () => (gone = true))
  const stop = async () => {
    if (!gone) {
      child.kill('SIGTERM')
      await Promise.race([new Promise((r) => child.once('exit', r)), new Promise((r) => setTimeout(r, 10_000))])
      if (!gone) child.kill('SIGKILL')
    }
    rmSync(dir, { recursive: true, force: true })
  }
  for (let i = 0; i < 150; i++) {
    if (gone) throw new Error(`the server ended:\n${log.join('')}`)
    const ok = await fetch(`${base}/readyz`).then((r) => r.ok).catch(() => false)
    if (ok) return { base, dir, stop, log }
    await new Promise((r) => setTimeout(r, 200))
  }
  await stop()
  throw new Error(`the server was not ready in 30 s:\n${log.join('')}`)
}

export const problems = []
export function fail(where, what) {
  problems.push(`${where}: ${what}`)
  console.error(`FAIL  ${where}: ${what}`)
}

export const launch = () => chromium.launch({ executablePath: chromiumPath, args: flags })

/** A page that reports console errors, page errors, policy violations, requests to other origins and answers of 500 and above. `expectStatus` allows the console line of one refused request, `expectFailure` one answer of 500 or above. */
export async function open(browser, base, { theme = 'light', lang = 'en', width = 1360, state } = {}) {
  const context = await browser.newContext({
    viewport: { width, height: width < 500 ? 844 : 860 }, colorScheme: theme, locale: lang === 'zh' ? 'zh-CN' : 'en-US', storageState: state, hasTouch: width < 500, permissions: ['clipboard-read', 'clipboard-write'],
  })
  await context.addInitScript(([t, l]) => {
    if (location.protocol === 'about:') return
    const saved = JSON.parse(localStorage.getItem('maas.preferences') ?? '{}')
    localStorage.setItem('maas.preferences', JSON.stringify({ ...saved, theme: t, locale: l }))
    document.addEventListener('securitypolicyviolation', (e) => console.error(`policy violation: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`))
  }, [theme, lang === 'zh' ? 'zh-CN' : 'en'])
  const page = await context.newPage()
  page.setDefaultTimeout(15_000)
  const allowed = []
  const failures = []
  const where = () => new URL(page.url()).pathname
  page.on('console', (m) => {
    if (m.type() !== 'error' && m.type() !== 'warning') return
    const text = m.text()
    const status = /status of (\d+)/.exec(text)?.[1]
    const i = status ? allowed.indexOf(Number(status)) : -1
    if (i >= 0) return void allowed.splice(i, 1)
    fail(`${where()} [${theme} ${lang} ${width}]`, `console ${m.type()}: ${text.slice(0, 300)} ${m.location().url ?? ''}`)
  })
  page.on('pageerror', (e) => fail(where(), `page error: ${e.stack ?? e.message}`))
  page.on('request', (r) => {
    const u = r.url()
    if (!u.startsWith(base) && !u.startsWith('blob:') && !u.startsWith('data:')) fail(where(), `request to another origin: ${u}`)
  })
  page.on('response', (r) => {
    const i = failures.indexOf(r.status())
    if (i >= 0) return void failures.splice(i, 1)
    if (r.status() >= 500) fail(where(), `HTTP ${r.status()} from ${r.request().method()} ${new URL(r.url()).pathname}`)
  })
  return { page, context, expectStatus: (s) => allowed.push(s), expectFailure: (s) => failures.push(s) }
}

/** No sideways scroll, no serious or critical finding of axe, a picture kept. */
export async function examine(page, name, { theme, lang, width, axe = true }) {
  const tag = `${name} [${theme} ${lang} ${width}]`
  await page.waitForLoadState('networkidle', { timeout: 3000 }).catch(() => undefined)
  await page.waitForTimeout(250)
  const over = await page.evaluate(() => Math.max(document.documentElement.scrollWidth - document.documentElement.clientWidth, ...[...document.querySelectorAll('main')].map((m) => m.scrollWidth - m.clientWidth)))
  if (over > 0) fail(tag, `scrolls sideways by ${over} px`)
  mkdirSync(shots, { recursive: true })
  await page.screenshot({ path: join(shots, `${name}-${theme}-${lang}-${width}.png`) })
  if (!axe) return
  await page.evaluate(axeSource)
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }))
  for (const v of found.violations) {
    const text = `axe ${v.impact} ${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.target.join(' ')} ${n.failureSummary?.split('\n')[1]?.trim() ?? ''}`).join(' | ')}`
    if (v.impact === 'serious' || v.impact === 'critical') fail(tag, text)
    else console.log(`note  ${tag}: ${text}`)
  }
}
