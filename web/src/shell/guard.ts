import { nextTick } from 'vue'
import type { Router } from 'vue-router'
import { Problem } from '@/api/problem'
import { useSession } from '@/api/session'
import { i18n, loadWords, type Area } from '@/i18n'
import { usePreferences } from './preferences'
import { boot } from './boot'

/** Who may open what: the first owner before anything, then people with a session; and the words of a page before it shows. */
export function guard(router: Router): void {
  const session = useSession()
  const preferences = usePreferences()

  router.beforeEach(async (to) => {
    boot.problem = null
    try {
      if (!session.signedIn) await session.restore()
      if (!session.signedIn) {
        const config = await session.loadConfig()
        if (config.setup_required) return to.name === 'setup' ? true : { name: 'setup' }
        if (to.name === 'setup') return { name: 'login' }
        if (!to.meta.enter) return { name: 'login', query: to.fullPath === '/' ? {} : { next: to.fullPath } }
        return true
      }
      if (['login', 'register', 'forgot'].includes(String(to.name))) return safeNext(to.query.next)
      if (to.name === 'setup' && to.query.step === undefined) return '/'
      return true
    } catch (e) {
      boot.problem = e instanceof Problem ? e : new Problem(0, 'client.unexpected', String(e))
      boot.retry = () => void router.replace(to.fullPath)
      return false
    }
  })

  router.beforeResolve(async (to) => {
    const areas: Area[] = ['ui', 'shell', to.meta.area]
    await loadWords(preferences.locale, areas)
    i18n.global.locale.value = preferences.locale as never
  })

  router.afterEach((to, from, failure) => {
    if (failure) return
    boot.ready = true
    document.title = `${i18n.global.t(to.meta.title)} · maas`
    // Tabs and steps of one page keep the focus where it is; a new page starts at its heading.
    if (from.name && to.name !== from.name) void nextTick(() => setTimeout(() => document.querySelector<HTMLElement>('main h1')?.focus({ preventScroll: true }), 60))
  })

  router.onError((e, to) => {
    // A chunk that is gone means that a newer console was installed: one reload brings it.
    if (/dynamically imported module|module script failed|Unable to preload/i.test(String(e)) && !to.query.reloaded) location.assign(to.fullPath)
    else {
      boot.problem = new Problem(0, 'client.unexpected', String(e instanceof Error ? e.message : e))
      boot.retry = () => location.reload()
    }
  })
}

/** Only a path of this console: a link must not lead elsewhere after signing in. */
export function safeNext(next: unknown): string {
  return typeof next === 'string' && /^\/(?![/\\])/.test(next) ? next : '/'
}
