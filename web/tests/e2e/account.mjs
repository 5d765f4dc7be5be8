// What keeps an account safe: a second step with recovery codes, a passkey, an export.
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { examine, open } from './lib.mjs'

const here = { theme: 'light', lang: 'en', width: 1360 }

/** The code of RFC 6238 for a moment: SHA-1, six digits, thirty seconds. */
export function totp(secret, at = Date.now()) {
  const bits = [...secret.replace(/[\s=]/g, '').toUpperCase()].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('')
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)))
  const count = Buffer.alloc(8)
  count.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)))
  const h = createHmac('sha1', key).update(count).digest()
  return String((h.readUInt32BE(h[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0')
}

export async function account({ page, step, browser, base, email, password }) {
  const dialog = page.getByRole('dialog')
  let secret = ''
  let code = ''
  await step('an authenticator app is set up and gives recovery codes', async () => {
    await page.goto(`${base}/profile/security`)
    await page.getByRole('button', { name: 'Set up' }).click()
    await dialog.getByRole('img').waitFor()
    secret = (await dialog.locator('code').first().innerText()).trim()
    await examine(page, 'totp-setup', here)
    await dialog.getByLabel('Code').fill(totp(secret))
    await dialog.getByRole('button', { name: 'Turn on' }).click()
    await page.getByText('Keep these recovery codes').waitFor()
    code = (await page.locator('ul.font-mono li').first().innerText()).trim()
    await examine(page, 'recovery-codes', here)
    await page.getByRole('button', { name: 'I kept them' }).click()
  })
  await step('signing in asks for the second step, and a recovery code works once', async () => {
    const other = await open(browser, base)
    const p = other.page
    const ask = async () => {
      await p.goto(`${base}/login`)
      await p.getByLabel('E-mail').fill(email)
      await p.getByLabel('Password').fill(password)
      await p.getByRole('button', { name: 'Sign in', exact: true }).click()
      await p.getByRole('heading', { name: 'One more step' }).waitFor()
    }
    await ask()
    await examine(p, 'second-step', here)
    await p.getByRole('button', { name: 'Use a recovery code' }).click()
    await p.getByLabel('Recovery code').fill(code)
    await p.getByRole('button', { name: 'Sign in', exact: true }).click()
    await p.getByRole('heading', { name: 'Overview' }).waitFor()
    await other.context.close()
  })
  await step('the second step is turned off with the password', async () => {
    await page.goto(`${base}/profile/security`)
    await page.getByRole('button', { name: 'Turn off' }).click()
    await dialog.getByLabel('Current password').fill(password)
    await dialog.getByRole('button', { name: 'Turn off' }).click()
    await page.getByRole('button', { name: 'Set up' }).waitFor()
  })
  await step('a passkey is added and signs in', async () => {
    const local = base.replace('127.0.0.1', 'localhost')
    const other = await open(browser, local)
    const p = other.page
    const cdp = await other.context.newCDPSession(p)
    await cdp.send('WebAuthn.enable')
    await cdp.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } })
    await p.goto(`${local}/login`)
    await p.getByLabel('E-mail').fill(email)
    await p.getByLabel('Password').fill(password)
    await p.getByRole('button', { name: 'Sign in', exact: true }).click()
    await p.getByRole('heading', { name: 'Overview' }).waitFor()
    await p.goto(`${local}/profile/security`)
    await p.getByRole('button', { name: 'Add a passkey' }).click()
    await p.getByRole('dialog').getByLabel('Name').fill('test key')
    await p.getByRole('dialog').getByLabel('Current password').fill(password)
    await p.getByRole('dialog').getByRole('button', { name: 'Add a passkey' }).click()
    await p.getByText('test key').first().waitFor()
    await p.getByRole('dialog').waitFor({ state: 'detached' })
    await p.locator('aside').getByRole('button').last().click()
    await p.getByRole('menuitem', { name: 'Sign out' }).click()
    await p.waitForURL('**/login')
    await p.getByRole('button', { name: 'Sign in with a passkey' }).click()
    await p.getByRole('heading', { name: 'Overview' }).waitFor()
    await p.goto(`${local}/profile/security`)
    await p.locator('section', { hasText: 'Passkeys' }).getByRole('button', { name: 'Remove' }).click()
    await p.getByRole('dialog').getByRole('button', { name: 'Remove' }).click()
    await p.getByText('No passkeys yet').waitFor()
    await other.context.close()
  })
  await step('the account is exported', async () => {
    await page.goto(`${base}/profile/data`)
    await page.getByRole('button', { name: 'Make an export' }).click()
    const [file] = await Promise.all([page.waitForEvent('download', { timeout: 60_000 }), page.getByRole('button', { name: 'Download' }).click({ timeout: 60_000 })])
    const body = readFileSync(await file.path(), 'utf8')
    if (!body.includes(email)) throw new Error('the export does not know whose it is')
  })
}
