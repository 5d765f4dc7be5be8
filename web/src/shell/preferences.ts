import { defineStore } from 'pinia'
import { computed, ref, watch } from 'vue'

export type ThemeChoice = 'system' | 'light' | 'dark'
export type Locale = 'zh-CN' | 'en'
export const locales: Locale[] = ['zh-CN', 'en']

interface Saved { theme?: ThemeChoice; locale?: Locale; density?: 'comfortable' | 'compact'; zone?: string; checklistHidden?: boolean }

const place = 'maas.preferences'

function load(): Saved {
  try {
    return JSON.parse(localStorage.getItem(place) ?? '{}') as Saved
  } catch {
    return {}
  }
}

export function browserLocale(): Locale {
  return navigator.language.toLowerCase().startsWith('zh') ? 'zh-CN' : 'en'
}

/** What a person chose for this browser. Written to the page (class, lang) and to storage, where boot.js reads it before the first paint. */
export const usePreferences = defineStore('preferences', () => {
  const saved = load()
  const theme = ref<ThemeChoice>(saved.theme ?? 'system')
  const locale = ref<Locale>(saved.locale && locales.includes(saved.locale) ? saved.locale : browserLocale())
  const density = ref<'comfortable' | 'compact'>(saved.density ?? 'comfortable')
  const zone = ref(saved.zone ?? '')
  const checklistHidden = ref(saved.checklistHidden ?? false)
  const query = matchMedia('(prefers-color-scheme: dark)')
  const systemDark = ref(query.matches)
  query.addEventListener('change', (e) => (systemDark.value = e.matches))
  const dark = computed(() => theme.value === 'dark' || (theme.value === 'system' && systemDark.value))

  watch([dark, density, locale], () => {
    const list = document.documentElement.classList
    list.toggle('dark', dark.value)
    list.toggle('light', !dark.value)
    list.toggle('compact', density.value === 'compact')
    document.documentElement.lang = locale.value
    document.querySelector('meta[name=theme-color]')?.setAttribute('content', dark.value ? '#0e1016' : '#ffffff')
  }, { immediate: true })

  watch([theme, locale, density, zone, checklistHidden], () => {
    const s: Saved = { theme: theme.value, locale: locale.value, density: density.value, zone: zone.value || undefined, checklistHidden: checklistHidden.value || undefined }
    try {
      localStorage.setItem(place, JSON.stringify(s))
    } catch {
      // Without storage the choice lasts as long as the tab.
    }
  })

  return { theme, locale, density, zone, dark, checklistHidden }
})
