// One public name over several deployments: made, tested with a fallback, switched off.
import { examine } from './lib.mjs'

const here = { theme: 'light', lang: 'en', width: 1360 }

export async function routes({ page, step, base }) {
  await step('a route is made and its test shows the attempts', async () => {
    await page.goto(`${base}/routes/new`)
    await page.getByLabel('Public name').fill('chat')
    await page.getByLabel('Aliases').fill('gpt-4o')
    await page.keyboard.press('Enter')
    await page.locator('main').getByText('Choose', { exact: true }).first().click()
    await page.getByRole('option', { name: /demo/ }).first().click()
    await examine(page, 'route-new', here)
    await page.getByRole('button', { name: 'Create a route' }).click()
    await page.waitForURL('**/routes/chat')
    await page.getByRole('button', { name: 'Run the test' }).click()
    await page.getByText('200', { exact: true }).waitFor({ timeout: 60_000 })
    await page.getByText('Answer', { exact: true }).waitFor()
    await examine(page, 'route-tested', here)
    await page.goto(`${base}/routes/chat/edit`)
    await page.getByLabel('Attempts').click()
    await page.getByRole('option', { name: '2' }).click()
    await page.getByRole('button', { name: 'Save' }).click()
    await page.waitForURL('**/routes/chat')
  })
  await step('a provider of another kind is filled in from its preset', async () => {
    await page.goto(`${base}/providers?new=1`)
    const dialog = page.getByRole('dialog')
    await dialog.getByText('Another one', { exact: true }).click()
    await page.getByRole('option', { name: /Anthropic/ }).first().click()
    if (!/anthropic/.test(await dialog.getByLabel('Base URL').inputValue())) throw new Error('the preset gave no address')
    await examine(page, 'provider-preset', here)
    await page.keyboard.press('Escape')
  })
}
