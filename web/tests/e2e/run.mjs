// From an empty folder to the first answer, a key and its usage, with real clicks; then every page in both themes, both languages and on a phone.
import { existsSync, writeFileSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { chromiumPath, examine, fail, launch, open, problems, startServer } from './lib.mjs'
import { startUpstream } from './upstream.mjs'
import { account } from './account.mjs'
import { money } from './money.mjs'
import { routes } from './route.mjs'
import { team } from './team.mjs'

const bin = process.env.MAAS_BIN ? resolve(process.env.MAAS_BIN) : ''
if (!bin || !existsSync(bin) || !existsSync(chromiumPath)) {
  console.error(`SKIP: ${!bin ? 'MAAS_BIN names no binary' : !existsSync(bin) ? `${bin} is missing` : `${chromiumPath} is missing`}`)
  process.exit(process.env.MAAS_TEST_STRICT ? 1 : 0)
}
const email = 'owner@example.com'
const password = 'correct horse battery'
const server = await startServer(bin)
const upstream = await startUpstream()
const browser = await launch()
let passed = 0

async function step(name, f) {
  const began = Date.now()
  try {
    await f()
    passed++
    console.log(`ok    ${name} (${Date.now() - began} ms)`)
  } catch (e) {
    fail(name, e.stack ?? e.message)
    return false
  }
  return true
}

async function scenario() {
  const { page, context, expectStatus, expectFailure } = await open(browser, server.base)
  const button = (name) => page.getByRole('button', { name, exact: true })
  const began = Date.now()

  await step('set-up refuses a short password and keeps what was typed', async () => {
    await page.goto(`${server.base}/`)
    await page.waitForURL('**/setup')
    await page.getByLabel('Your name').fill('Lin Wei')
    await page.getByLabel('Team name').fill('Acme AI')
    await page.getByLabel('E-mail').fill(email)
    await page.getByLabel('Password').fill('password123')
    expectStatus(422)
    expectStatus(400)
    await button('Create the account').click()
    await page.locator('[id$=-error], [role=alert]').first().waitFor()
    if ((await page.getByLabel('E-mail').inputValue()) !== email) throw new Error('the e-mail was lost')
  })
  await step('set-up makes the owner', async () => {
    await page.getByLabel('Password').fill(password)
    await button('Create the account').click()
    await page.getByRole('heading', { name: 'Choose a first model' }).waitFor()
    await examine(page, 'setup-model', { theme: 'light', lang: 'en', width: 1360 })
  })
  await step('the demo model starts and the playground opens', async () => {
    await button('Start the demo model').click()
    await page.waitForURL('**/playground**', { timeout: 60_000 })
  })
  await step('an answer streams', async () => {
    await page.getByLabel('Message').fill('1 2 3 4')
    await page.keyboard.press('Enter')
    await page.locator('article[aria-busy=false]').first().waitFor({ timeout: 60_000 })
    const text = await page.locator('article .md').first().innerText()
    if (!text.trim()) throw new Error('the answer is empty')
    await page.getByText(/tok\/s/).first().waitFor()
    await examine(page, 'playground-answer', { theme: 'light', lang: 'en', width: 1360 })
    console.log(`      from the empty folder to the first answer: ${((Date.now() - began) / 1000).toFixed(1)} s`)
    if (Date.now() - began > 60_000) fail('first answer', 'took more than 60 s')
  })
  await step('stop, raw exchange and code', async () => {
    await page.getByRole('button', { name: 'Request and response' }).first().click()
    await page.getByRole('dialog').getByText('HTTP 200').waitFor()
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'View code' }).click()
    await page.getByRole('dialog').getByText('/v1/chat/completions').first().waitFor()
    for (const name of ['Python', 'TypeScript', 'Go']) await page.getByRole('dialog').getByRole('button', { name, exact: true }).click()
    await examine(page, 'playground-code', { theme: 'light', lang: 'en', width: 1360 })
    await page.keyboard.press('Escape')
  })
  let secret = ''
  await step('a key is made, shown once and works', async () => {
    await page.goto(`${server.base}/keys`)
    await button('Create a key').first().click()
    await page.getByRole('dialog').getByLabel('Name').fill('laptop')
    await page.getByRole('dialog').getByRole('button', { name: 'Create a key' }).click()
    await page.getByText('Copy it now').waitFor()
    secret = (await page.locator('section code').first().innerText()).trim()
    await examine(page, 'key-made', { theme: 'light', lang: 'en', width: 1360 })
    const models = await fetch(`${server.base}/v1/models`, { headers: { Authorization: `Bearer ${secret}` } })
    if (!models.ok) throw new Error(`GET /v1/models with the key: ${models.status} ${await models.text()}`)
    const name = (await models.json()).data[0].id
    const res = await fetch(`${server.base}/v1/chat/completions`, { method: 'POST', headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' }, body: JSON.stringify({ model: name, messages: [{ role: 'user', content: '1 2 3' }], max_tokens: 8 }) })
    if (!res.ok) throw new Error(`chat with the key: ${res.status} ${await res.text()}`)
    await page.reload()
    if ((await page.content()).includes(secret)) throw new Error('the key is shown again')
  })
  await step('usage counts both calls', async () => {
    for (let i = 0; ; i++) {
      await page.goto(`${server.base}/usage`)
      await page.getByRole('heading', { name: 'Usage' }).waitFor()
      await page.waitForTimeout(800)
      if ((await page.locator('tbody tr').count()) >= 2) break
      if (i > 8) throw new Error('fewer than two requests are shown after ten seconds')
      await page.waitForTimeout(500)
    }
    await page.getByText('laptop').first().waitFor()
    const [csv] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'CSV' }).click()])
    if (!/^usage.*\.csv$/.test(csv.suggestedFilename())) throw new Error(csv.suggestedFilename())
  })
  await step('the key is revoked', async () => {
    await page.goto(`${server.base}/keys`)
    await page.getByRole('button', { name: 'Actions for laptop' }).click()
    await page.getByRole('menuitem', { name: 'Revoke' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click()
    await page.getByText('Revoked').waitFor()
    await page.waitForTimeout(1100)
    const res = await fetch(`${server.base}/v1/models`, { headers: { Authorization: `Bearer ${secret}` } })
    if (res.status !== 401) throw new Error(`the revoked key still gets ${res.status}`)
  })
  await step('a file that is no model is refused with a reason', async () => {
    mkdirSync(join(server.dir, 'in'), { recursive: true })
    const file = join(server.dir, 'in', 'broken.gguf')
    writeFileSync(file, Buffer.concat([Buffer.from('GGUF'), Buffer.alloc(4096, 7)]))
    await page.goto(`${server.base}/models/upload`)
    await page.locator('input[type=file]').first().setInputFiles(file)
    await page.getByRole('button', { name: 'Upload', exact: true }).click()
    await page.waitForURL('**/models/broken/versions', { timeout: 30_000 })
    await page.getByText(/Rejected|Failed/).first().waitFor({ timeout: 30_000 })
    await page.goto(`${server.base}/models/broken/report`)
    await page.getByText('Refused').first().waitFor()
  })
  await step('a file is downloaded, and the same file imported as a model of its own', async () => {
    await page.goto(`${server.base}/models`)
    await page.locator('tbody tr a').nth(1).waitFor()
    const name = (await page.locator('tbody tr a').allInnerTexts()).find((n) => n !== 'broken')
    await page.goto(`${server.base}/models/${name}/files`)
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: /^Download/ }).first().click()])
    const path = join(server.dir, 'in', 'My Llama.gguf')
    await file.saveAs(path)
    const sum = createHash('sha256').update(readFileSync(path)).digest('hex')
    await page.goto(`${server.base}/models/upload`)
    await page.locator('input[type=file]').first().setInputFiles(path)
    await page.getByLabel('Description').fill('The demo file again')
    await examine(page, 'upload-chosen', { theme: 'light', lang: 'en', width: 1360 })
    await page.getByRole('button', { name: 'Upload', exact: true }).click()
    await page.waitForURL('**/models/my-llama/versions', { timeout: 30_000 })
    await page.getByText('Ready').first().waitFor({ timeout: 30_000 })
    await page.goto(`${server.base}/models/my-llama/files`)
    await page.locator(`code[title="${sum}"]`).waitFor()
    await page.goto(`${server.base}/models/my-llama/use`)
    await page.getByRole('heading', { name: 'Call it' }).waitFor()
    await examine(page, 'model-use', { theme: 'light', lang: 'en', width: 1360 })
  })
  await step('an upload that was cut off by a reload goes on at its byte', async () => {
    const path = join(server.dir, 'in', 'large.gguf')
    writeFileSync(path, Buffer.concat([Buffer.from('GGUF'), randomBytes(24 << 20)]))
    const net = await context.newCDPSession(page)
    await net.send('Network.enable')
    await net.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 4 << 20 })
    await page.goto(`${server.base}/models/upload`)
    await page.locator('input[type=file]').first().setInputFiles(path)
    await page.getByRole('button', { name: 'Upload', exact: true }).click()
    await page.getByText(/Sending [1-9]\d?%/).first().waitFor({ timeout: 30_000 })
    await page.waitForTimeout(1500)
    await page.getByRole('button', { name: 'Pause' }).click()
    await page.getByRole('button', { name: 'Go on' }).waitFor()
    await page.goto('about:blank')
    await net.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 })
    await page.goto(`${server.base}/models/upload`)
    await page.getByText('The upload of large was interrupted').waitFor()
    let from = -1
    page.on('response', (r) => {
      if (r.request().method() === 'HEAD' && r.url().includes('/uploads/')) from = Number(r.headers()['upload-offset'])
    })
    await page.locator('input[type=file]').first().setInputFiles(path)
    await page.getByRole('button', { name: 'Upload', exact: true }).click()
    await page.waitForURL('**/models/large/versions', { timeout: 30_000 })
    if (!(from > 0)) throw new Error(`it began again: the server had ${from} bytes`)
    console.log(`      went on at ${(from / 2 ** 20).toFixed(1)} of 24 MiB`)
    await page.getByText(/Rejected|Failed/).first().waitFor({ timeout: 30_000 })
  })
  await step('a provider is connected, tested and its model deployed', async () => {
    await page.goto(`${server.base}/providers`)
    await page.getByRole('button', { name: 'Connect a provider' }).first().click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('Base URL').fill(upstream.url)
    await dialog.getByLabel('Name').fill('acme')
    await examine(page, 'provider-connect', { theme: 'light', lang: 'en', width: 1360 })
    await dialog.getByRole('button', { name: 'Connect a provider' }).click()
    await page.getByText('acme/Slow-7B').waitFor()
    await page.getByRole('button', { name: 'Test', exact: true }).click()
    await page.getByText(/Answers in/).waitFor()
    await examine(page, 'providers-tested', { theme: 'light', lang: 'en', width: 1360 })
    await page.getByRole('link', { name: 'Deploy', exact: true }).click()
    await page.waitForURL('**/deployments/new/source**')
    await page.getByRole('button', { name: 'Next' }).click()
    await page.waitForURL('**/resources')
    await page.getByRole('button', { name: 'Next' }).click()
    await page.waitForURL('**/review')
    await page.getByRole('button', { name: 'Deploy', exact: true }).click()
    await page.waitForURL('**/deployments/slow-7b/overview')
    await page.getByRole('link', { name: 'Open in playground' }).click({ timeout: 30_000 })
    await page.waitForURL('**/playground?model=slow-7b')
  })
  await step('an answer is drawn safely, stopped and asked for again', async () => {
    const message = page.getByLabel('Message')
    await message.fill('show Markdown')
    await message.press('Enter')
    await page.locator('article[aria-busy=false]').waitFor()
    for (const part of ['ol li', 'table .to-right', '.md-code .hljs-built_in, .md-code .hljs-string']) await page.locator(`article .md ${part}`).first().waitFor()
    if (await page.locator('article .md img, article .md script, article .md a[href^=javascript]').count()) throw new Error('the answer put something active on the page')
    await examine(page, 'playground-markdown', { theme: 'light', lang: 'en', width: 1360 })
    await message.fill('answer slowly')
    await message.press('Enter')
    await page.locator('article[aria-busy=true] .md p').first().waitFor()
    await page.getByRole('button', { name: 'Stop' }).click()
    await page.getByText('Stopped').waitFor()
    for (let i = 0; upstream.seen.stopped < 1; i++) {
      if (i > 50) throw new Error('the upstream was not told')
      await page.waitForTimeout(100)
    }
    const before = upstream.seen.chats
    await page.getByRole('button', { name: 'Answer again' }).first().click()
    await page.locator('article[aria-busy=false]').first().waitFor()
    await page.waitForTimeout(1500)
    if (upstream.seen.chats !== before + 1 || (await page.locator('article').count()) !== 1) throw new Error('answering again did not replace the answer')
    await message.fill('please fail')
    expectStatus(502)
    expectFailure(502)
    await message.press('Enter')
    await page.getByRole('alert').waitFor({ timeout: 30_000 })
    await examine(page, 'playground-failed', { theme: 'light', lang: 'en', width: 1360 })
  })
  await step('a wizard can be done by keyboard alone', async () => {
    await page.goto(`${server.base}/models`)
    await page.locator('tbody tr a').nth(1).waitFor()
    const name = (await page.locator('tbody tr a').allInnerTexts()).find((n) => n === 'my-llama')
    await page.goto(`${server.base}/deployments/new/source?model=${encodeURIComponent(name)}`)
    await page.getByLabel('Public name').focus()
    await page.keyboard.press('ControlOrMeta+a')
    await page.keyboard.type('second')
    await page.keyboard.press('Enter')
    await page.waitForURL('**/resources')
    await page.getByText('It fits', { exact: true }).waitFor()
    await examine(page, 'wizard-resources', { theme: 'light', lang: 'en', width: 1360 })
    await page.getByRole('button', { name: 'Next' }).focus()
    await page.keyboard.press('Enter')
    await page.waitForURL('**/review')
    await examine(page, 'wizard-review', { theme: 'light', lang: 'en', width: 1360 })
    await page.getByRole('button', { name: 'Deploy', exact: true }).focus()
    await page.keyboard.press('Enter')
    await page.waitForURL('**/deployments/second/overview')
    await page.getByRole('link', { name: 'Open in playground' }).waitFor({ timeout: 60_000 })
  })
  await step('a deployment is stopped, started and deleted', async () => {
    const more = page.getByRole('button', { name: 'Actions for second' })
    await more.click()
    await page.getByRole('menuitem', { name: 'Stop' }).click()
    await page.getByText('Stopped').first().waitFor()
    await more.click()
    await page.getByRole('menuitem', { name: 'Delete' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
    await page.waitForURL('**/deployments')
  })
  await step('the palette finds and goes', async () => {
    await page.goto(`${server.base}/`)
    await page.getByRole('heading', { name: 'Overview' }).waitFor()
    await page.keyboard.press('ControlOrMeta+k')
    await page.getByRole('dialog').waitFor()
    await page.waitForTimeout(400)
    await examine(page, 'palette', { theme: 'light', lang: 'en', width: 1360 })
    await page.keyboard.type('usage')
    await page.waitForTimeout(300)
    await page.keyboard.press('Enter')
    await page.waitForURL('**/usage')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await page.keyboard.press('g')
    await page.keyboard.press('j')
    await page.waitForURL('**/jobs')
  })
  const shared = { page, step, browser, base: server.base, email, password, fresh: 'blue kettle sings low', expectStatus, expectFailure }
  await routes(shared)
  await money(shared)
  await team(shared)
  await account(shared)
  await step('a person is added and suspended', async () => {
    await page.goto(`${server.base}/team`)
    await page.getByRole('button', { name: 'Add a person' }).click()
    await page.getByRole('dialog').getByLabel('E-mail').fill('mara@example.com')
    await page.getByRole('dialog').getByLabel('First name').fill('Mara')
    await page.getByRole('dialog').getByRole('button', { name: 'Add a person' }).click()
    await page.getByRole('dialog').getByText('The account is ready').waitFor()
    await page.getByRole('dialog').getByRole('button', { name: 'Done' }).click()
    await page.getByRole('button', { name: 'Actions for Mara' }).click()
    await page.getByRole('menuitem', { name: 'Suspend' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Suspend' }).click()
    await page.getByText('Suspended').waitFor()
  })
  await step('a viewer sees what may be seen and is told what may not', async () => {
    await page.getByRole('button', { name: 'Add a person' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('E-mail').fill('vera@example.com')
    await dialog.getByLabel('Role').click()
    await page.getByRole('option', { name: 'Viewer' }).click()
    const first = await dialog.getByLabel('First password').inputValue()
    await dialog.getByRole('button', { name: 'Add a person' }).click()
    await dialog.getByText('The account is ready').waitFor()
    await dialog.getByRole('button', { name: 'Done' }).click()
    const other = await open(browser, server.base)
    await other.page.goto(`${server.base}/login`)
    await other.page.getByLabel('E-mail').fill('vera@example.com')
    await other.page.getByLabel('Password').fill(first)
    await other.page.getByRole('button', { name: 'Sign in', exact: true }).click()
    await other.page.getByRole('heading', { name: 'Overview' }).waitFor()
    await other.page.goto(`${server.base}/models`)
    await other.page.locator('tbody tr').first().waitFor()
    if (await other.page.getByRole('link', { name: 'Import a model' }).count()) throw new Error('a viewer is offered an import')
    await other.page.goto(`${server.base}/models/upload`)
    await other.page.getByText('model:write').waitFor()
    await examine(other.page, 'no-access', { theme: 'light', lang: 'en', width: 1360 })
    await other.context.close()
  })
  await step('the session survives a reload and ends on sign-out', async () => {
    await page.goto(`${server.base}/profile/security`)
    await page.getByText('This one').waitFor()
    await page.reload()
    await page.getByText('This one').waitFor()
    const second = await context.newPage()
    await second.goto(`${server.base}/`)
    await second.getByRole('heading', { name: 'Overview' }).waitFor()
    await page.locator('aside').getByRole('button').last().click()
    await page.getByRole('menuitem', { name: 'Sign out' }).click()
    await page.waitForURL('**/login')
    await second.waitForURL('**/login')
    await second.close()
  })
  await step('sign-in refuses a wrong password, then goes where one wanted', async () => {
    await page.goto(`${server.base}/jobs`)
    await page.waitForURL('**/login?next=/jobs')
    await page.getByLabel('E-mail').fill(email)
    await page.getByLabel('Password').fill('not the password')
    expectStatus(401)
    await button('Sign in').click()
    await page.getByRole('alert').waitFor()
    await page.getByLabel('Password').fill(password)
    await button('Sign in').click()
    await page.waitForURL('**/jobs')
  })
  return { context, page }
}

async function everyPage(context) {
  const state = await context.storageState()
  const pages = {
    overview: '/', playground: '/playground', models: '/models', 'model-versions': '/models/broken/versions', 'model-report': '/models/broken/report', upload: '/models/upload',
    deployments: '/deployments', wizard: '/deployments/new/source', providers: '/providers', keys: '/keys', usage: '/usage', jobs: '/jobs', profile: '/profile/account', security: '/profile/security', preferences: '/profile/preferences', data: '/profile/data', missing: '/nowhere',
    members: '/team/members', invitations: '/team/invitations', roles: '/team/roles', projects: '/team/projects', service: '/team/service-accounts', grants: '/team/grants', organisation: '/team/organisation', tenants: '/tenants',
    routes: '/routes', route: '/routes/chat', 'route-edit': '/routes/chat/edit', budgets: '/budgets', limits: '/limits', wallet: '/billing/wallet', prices: '/billing/prices', statements: '/billing/statements', invoices: '/billing/invoices', revenue: '/billing/revenue', ledger: '/billing/ledger',
  }
  // Each theme meets each language and each width; two at a time, for two cores.
  const variants = [['light', 'en', 1360, true], ['dark', 'zh', 1360, true], ['light', 'zh', 390, true], ['dark', 'en', 390, true]]
  const worker = async () => {
    for (let v = variants.shift(); v; v = variants.shift()) await one(...v)
  }
  const one = async (theme, lang, width, axe) => {
    await step(`every page, ${theme} ${lang} ${width}`, async () => {
      const { page, context: own } = await open(browser, server.base, { theme, lang, width, state })
      await page.goto(`${server.base}/login`)
      if (new URL(page.url()).pathname === '/login') {
        await page.locator('input[autocomplete^=username]').waitFor()
        await examine(page, 'login', { theme, lang, width, axe })
        for (const [name, path] of Object.entries({ register: '/register', forgot: '/forgot', reset: '/reset?token=x', verify: '/verify?email=a@example.com', enter: '/enter?error=user.login_state' })) {
          await page.goto(server.base + path)
          await page.locator('main h1').first().waitFor()
          await examine(page, name, { theme, lang, width, axe })
        }
        await page.goto(`${server.base}/login`)
        await page.locator('input[autocomplete^=username]').fill(email)
        await page.locator('input[type=password]').fill(password)
        await page.locator('button[type=submit]').click()
        await page.waitForURL((u) => u.pathname !== '/login')
      }
      for (const [name, path] of Object.entries(pages)) {
        await page.goto(server.base + path)
        await page.locator('main h1').first().waitFor({ state: 'attached' })
        await examine(page, name, { theme, lang, width, axe })
      }
      const first = await page.goto(`${server.base}/deployments`).then(() => page.locator('tbody a').first().getAttribute('href'))
      for (const tab of ['overview', 'metrics', 'replicas', 'logs']) {
        await page.goto(server.base + first.replace(/overview$/, tab))
        await page.locator('main h1').first().waitFor()
        await page.waitForTimeout(700)
        await examine(page, `deployment-${tab}`, { theme, lang, width, axe })
      }
      if (width < 500) {
        await page.getByRole('button', { name: lang === 'zh' ? '打开菜单' : 'Open the menu' }).click()
        await page.getByRole('dialog').waitFor()
        await page.waitForTimeout(300)
        await examine(page, 'menu', { theme, lang, width, axe })
      }
      await own.close()
    })
  }
  await Promise.all([worker(), worker()])
}

try {
  const { context } = await scenario()
  await context.clearCookies()
  if (process.env.E2E_PAGES !== '0') await everyPage(context)
} finally {
  await browser.close()
  upstream.stop()
  await server.stop()
}
console.log(`${passed} passed, ${problems.length} failed`)
process.exit(problems.length ? 1 : 0)
