import { createI18n, useI18n } from 'vue-i18n'
import type { Locale } from '@/shell/preferences'
import type shell from '@/shell/locales/en.json'
import type uiWords from '@/ui/locales/en.json'
import type home from '@/areas/home/locales/en.json'
import type user from '@/areas/user/locales/en.json'
import type model from '@/areas/model/locales/en.json'
import type inference from '@/areas/inference/locales/en.json'
import type tenant from '@/areas/tenant/locales/en.json'
import type billing from '@/areas/billing/locales/en.json'
import type ops from '@/areas/ops/locales/en.json'

interface Messages { shell: typeof shell; ui: typeof uiWords; home: typeof home; user: typeof user; model: typeof model; inference: typeof inference; tenant: typeof tenant; billing: typeof billing; ops: typeof ops }
export type Area = keyof Messages

type Leaves<T, P extends string = ''> = { [K in keyof T & string]: T[K] extends string ? `${P}${K}` : Leaves<T[K], `${P}${K}.`> }[keyof T & string]
/** Every key there is, as `area.part.key`: a misspelt one does not compile. */
export type Key = Leaves<Messages>
export type T = (key: Key, params?: Record<string, unknown>) => string

const files: Record<string, () => Promise<unknown>> = {
  ...import.meta.glob('./shell/locales/*.json', { import: 'default' }),
  ...import.meta.glob('./ui/locales/*.json', { import: 'default' }),
  ...import.meta.glob('./areas/*/locales/*.json', { import: 'default' }),
}

export const i18n = createI18n({ legacy: false, locale: 'en', fallbackLocale: 'en', missingWarn: true, fallbackWarn: false, messages: {} })

const loaded = new Set<string>()

function path(area: Area, locale: Locale): string {
  return area === 'shell' || area === 'ui' ? `./${area}/locales/${locale}.json` : `./areas/${area}/locales/${locale}.json`
}

/** Loads the words of some areas in one language; each is a chunk of its own. */
export async function loadWords(locale: Locale, areas: Area[]): Promise<void> {
  await Promise.all(areas.map(async (area) => {
    const name = path(area, locale)
    const file = files[name]
    if (loaded.has(name) || !file) return
    const words = await file()
    i18n.global.mergeLocaleMessage(locale, { [area]: words })
    loaded.add(name)
  }))
}

/** The areas whose words were loaded so far, for a change of language. */
export function loadedAreas(): Area[] {
  return [...new Set([...loaded].map((name) => name.split('/').at(-3) as Area))]
}

/** Shows the page in a language once its words are there. */
export async function setLocale(locale: Locale): Promise<void> {
  await loadWords(locale, loadedAreas())
  i18n.global.locale.value = locale as never
}

/** The translation function with checked keys, and the present language. */
export function useT() {
  const { t, locale } = useI18n({ useScope: 'global' })
  return { t: ((key: string, params?: Record<string, unknown>) => (params ? t(key, params) : t(key))) as T, locale, raw: (key: string) => t(key), has: (key: string) => i18n.global.te(key, locale.value as never) }
}
