import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import { get, post, useCredentials } from './client'
import { Problem } from './problem'
import type { LoginAnswer, MfaChallenge } from './identity'
import type { AuthConfig, Login, User } from './types'

/** A mark without any secret: says that a refresh cookie may exist, so that a first visit makes no call that must fail. */
const hint = 'maas.signed-in'
const channel = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('maas.session')

export const useSession = defineStore('session', () => {
  const token = ref('')
  const user = ref<User | null>(null)
  const config = ref<AuthConfig | null>(null)
  const staleVersion = ref(false)
  const signedIn = computed(() => token.value !== '' && user.value !== null)
  let renewing: Promise<boolean> | null = null
  let version = ''
  let expires = 0

  function may(permission?: string): boolean {
    return !permission || (user.value?.permissions ?? []).includes(permission)
  }

  async function loadConfig(): Promise<AuthConfig> {
    config.value ??= await get<AuthConfig>('/auth/config', {}, { anonymous: true })
    return config.value
  }

  function keep(login: Login): void {
    token.value = login.access_token
    expires = Date.now() + login.expires_in * 1000
    remember(true)
  }

  /** A token that holds for another half minute at least, for calls that do not go through the client. */
  async function freshToken(): Promise<string> {
    if (Date.now() > expires - 30_000) await renew()
    return token.value
  }

  async function accept(login: Login): Promise<void> {
    keep(login)
    user.value = await get<User>('/users/me')
  }

  /** Takes the answer of any way to sign in: signed in (null), or the question for a second step. */
  async function enter(answer: LoginAnswer): Promise<MfaChallenge | null> {
    if ('mfa_required' in answer) return answer
    await accept(answer)
    channel?.postMessage('in')
    return null
  }

  async function login(email: string, password: string, keep: boolean): Promise<MfaChallenge | null> {
    return enter(await post<LoginAnswer>('/auth/login', { email, password, remember: keep }, { anonymous: true }))
  }

  /** After a redirect that set the refresh cookie: true when it was worth a session. */
  async function adopt(): Promise<boolean> {
    if (!(await renew())) return false
    user.value = await get<User>('/users/me')
    return true
  }

  /** Goes on in another organization. Every tab starts anew: nothing of the old one may stay in sight. */
  async function switchTenant(id: string): Promise<void> {
    keep(await post<Login>('/auth/switch', { tenant_id: id }))
    channel?.postMessage('switch')
    location.assign('/')
  }

  async function setup(body: { email: string; password: string; name?: string; tenant_name?: string; code?: string }): Promise<void> {
    const answer = await post<Login | User | undefined>('/auth/setup', body, { anonymous: true })
    if (config.value) config.value = { ...config.value, setup_required: false }
    if (answer && 'access_token' in answer) await accept(answer)
    else await login(body.email, body.password, true)
  }

  /** Renews by the cookie. All callers share one request: the refresh token is single use. */
  function renew(): Promise<boolean> {
    renewing ??= (async () => {
      try {
        const answer = await withLock(() => post<Login>('/auth/refresh', {}, { anonymous: true }))
        keep(answer)
        return true
      } catch (e) {
        if (e instanceof Problem && e.status >= 400 && e.status < 500) forget()
        return false
      } finally {
        renewing = null
      }
    })()
    return renewing
  }

  /** Called before the first page: true when a session could be restored. */
  async function restore(): Promise<boolean> {
    if (signedIn.value) return true
    if (!hinted()) return false
    if (!(await renew())) return false
    user.value = await get<User>('/users/me')
    return true
  }

  async function reload(): Promise<void> {
    user.value = await get<User>('/users/me')
  }

  async function logout(): Promise<void> {
    await post('/auth/logout').catch(() => undefined)
    forget()
    channel?.postMessage('out')
  }

  function forget(): void {
    token.value = ''
    user.value = null
    remember(false)
  }

  channel?.addEventListener('message', (e) => {
    if (e.data === 'out') {
      forget()
      location.assign('/login')
    }
    if (e.data === 'switch') location.assign('/')
  })

  function connect(locale: () => string): void {
    useCredentials({
      token: () => token.value,
      renew,
      locale,
      version: (v) => {
        if (version && v !== version) staleVersion.value = true
        version = v
      },
    })
  }

  return { token, user, config, signedIn, staleVersion, may, loadConfig, login, enter, adopt, switchTenant, setup, renew, freshToken, restore, reload, logout, forget, connect }
})

/** Two tabs must not spend the same refresh token at once: the second would look like theft to the server. */
function withLock<T>(f: () => Promise<T>): Promise<T> {
  return navigator.locks ? (navigator.locks.request('maas.refresh', f) as Promise<T>) : f()
}

function hinted(): boolean {
  try {
    return localStorage.getItem(hint) === '1'
  } catch {
    return false
  }
}

function remember(on: boolean): void {
  try {
    if (on) localStorage.setItem(hint, '1')
    else localStorage.removeItem(hint)
  } catch {
    // Private windows may refuse storage: the session then ends with the tab.
  }
}
