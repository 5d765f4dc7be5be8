// What calls cost and who may spend it: a price, a budget, a limit, the wallet, a statement, the books.
import { readFileSync } from 'node:fs'
import { examine } from './lib.mjs'

const here = { theme: 'light', lang: 'en', width: 1360 }

export async function money({ page, step, base }) {
  const dialog = page.getByRole('dialog')
  const button = (name) => page.getByRole('button', { name, exact: true })

  await step('a price is set', async () => {
    await page.goto(`${base}/billing/prices`)
    await button('Set a price').first().click()
    await dialog.getByText('Choose', { exact: true }).click()
    await page.getByRole('option', { name: 'All other models' }).click()
    await page.getByRole('option').first().waitFor({ state: 'detached' })
    await dialog.getByLabel('Input', { exact: true }).fill('20000')
    await dialog.getByLabel('Output', { exact: true }).fill('80000.5')
    await examine(page, 'price-new', here)
    await dialog.getByRole('button', { name: 'Set a price' }).click()
    await page.getByText('In force').waitFor()
  })
  await step('a budget is set, raised and shown with what is left', async () => {
    await page.goto(`${base}/budgets`)
    await button('Create a budget').first().click()
    await dialog.getByLabel('Limit').fill('100')
    await dialog.getByLabel('Name').fill('All of Acme')
    await examine(page, 'budget-new', here)
    await dialog.getByRole('button', { name: 'Create a budget' }).click()
    await page.getByRole('heading', { name: 'All of Acme' }).waitFor()
    await page.getByRole('button', { name: 'Actions for All of Acme' }).click()
    await page.getByRole('menuitem', { name: 'Raise' }).click()
    await dialog.getByLabel('By').fill('50')
    await dialog.getByLabel('Reason').fill('Launch day')
    await dialog.getByRole('button', { name: 'Raise' }).click()
    await page.getByText('Launch day').waitFor()
    await page.getByText('of ¥150.00').waitFor()
  })
  await step('a limit is set and the processes say that it holds', async () => {
    await page.goto(`${base}/limits`)
    await page.getByText('All limits hold').waitFor({ timeout: 30_000 })
    await button('Create a limit').first().click()
    await dialog.getByLabel('Limit').fill('6k')
    await dialog.getByRole('button', { name: 'Create a limit' }).click()
    await page.getByText('6,000').waitFor()
  })
  await step('the wallet is topped up', async () => {
    await page.goto(`${base}/billing/wallet`)
    await button('Top up').click()
    await dialog.getByLabel('Amount').fill('500')
    await dialog.getByLabel('Reference').fill('BANK-1')
    await dialog.getByRole('button', { name: 'Top up' }).click()
    await page.locator('tbody').getByText('+¥500.00').waitFor()
    await page.locator('tbody button').first().click()
    await page.getByRole('dialog').getByText('Cash').waitFor()
    await page.keyboard.press('Escape')
  })
  await step('a call costs what the price says, and the statement is a PDF', async () => {
    await page.goto(`${base}/keys?new=1`)
    await dialog.getByLabel('Name').fill('paying')
    await dialog.getByRole('button', { name: 'Create a key' }).click()
    await page.getByText('Copy it now').waitFor()
    const secret = (await page.locator('section code').first().innerText()).trim()
    const name = (await (await fetch(`${base}/v1/models`, { headers: { Authorization: `Bearer ${secret}` } })).json()).data[0].id
    const res = await fetch(`${base}/v1/chat/completions`, { method: 'POST', headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' }, body: JSON.stringify({ model: name, messages: [{ role: 'user', content: '1 2 3' }], max_tokens: 8 }) })
    if (!res.ok) throw new Error(`the call: ${res.status} ${await res.text()}`)
    const { usage } = await res.json()
    const cost = (usage.prompt_tokens * 20_000 + usage.completion_tokens * 80_000.5) / 1e6
    for (let i = 0; ; i++) {
      await page.goto(`${base}/billing/statements`)
      await page.getByText('Closing balance').waitFor()
      const text = await page.locator('main').innerText()
      const shown = Number(/Usage\s+¥([\d.,]+)/i.exec(text)?.[1]?.replaceAll(',', '') ?? '0')
      if (Math.abs(shown - cost) < 0.0001) break
      if (i > 20) throw new Error(`the statement says ${shown}, the call cost ${cost}`)
      await page.waitForTimeout(500)
    }
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'PDF' }).click()])
    const head = readFileSync(await file.path()).subarray(0, 5).toString()
    if (head !== '%PDF-' || !/\.pdf$/.test(file.suggestedFilename())) throw new Error(`${file.suggestedFilename()} begins with ${head}`)
    await page.goto(`${base}/usage?show=cost`)
    await page.getByText('Expected').waitFor()
    await examine(page, 'usage-cost', here)
  })
  await step('the books are verified', async () => {
    await page.goto(`${base}/billing/ledger`)
    await button('Verify the books').click()
    await page.getByText('The books are right').waitFor({ timeout: 30_000 })
    await page.waitForTimeout(400)
    await examine(page, 'ledger-verified', here)
  })
}
