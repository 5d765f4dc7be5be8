import { items } from '@/api/collection'
import { del, get, post } from '@/api/client'
import type { Identity, MfaState, Passkey, TotpStart } from '@/api/identity'
import { useAction, useInvalidate, useLoad } from '@/api/query'
import type { Session } from '@/api/types'
import { createPasskey } from '@/api/webauthn'
import { usePasskeyWords } from './useLogin'

/** Everything that keeps an account safe: second step, passkeys, linked logins, sessions. */
export function useSecurity() {
  const invalidate = useInvalidate()
  const words = usePasskeyWords()
  const mfa = useLoad({ key: () => ['user', 'security', 'mfa'], query: (signal) => get<MfaState>('/auth/mfa', {}, { signal }) })
  const passkeys = useLoad({ key: () => ['user', 'security', 'passkeys'], query: (signal) => items<Passkey>('/auth/passkeys', {}, signal) })
  const identities = useLoad({ key: () => ['user', 'security', 'identities'], query: (signal) => items<Identity>('/auth/identities', {}, signal) })
  const sessions = useLoad({ key: () => ['user', 'sessions'], query: (signal) => items<Session>('/auth/sessions', {}, signal) })
  const changed = (): Promise<unknown> => invalidate(['user', 'security'])

  const totpStart = useAction(() => post<TotpStart>('/auth/mfa/totp'))
  const totpConfirm = useAction(async (code: string) => {
    const a = await post<{ recovery_codes: string[] | null }>('/auth/mfa/totp/confirm', { code: code.replace(/\s/g, '') })
    await changed()
    return a.recovery_codes ?? []
  })
  const totpDisable = useAction(async (password: string) => {
    await post('/auth/mfa/totp/disable', { password })
    await changed()
    return true
  })
  const recoveryCodes = useAction(async (password: string) => {
    const a = await post<{ recovery_codes: string[] | null }>('/auth/mfa/recovery-codes', { password })
    await changed()
    return a.recovery_codes ?? []
  })
  const passkeyAdd = useAction((name: string, password: string) => words(async () => {
    const begun = await post<{ ceremony: string; options: { publicKey: PublicKeyCredentialCreationOptionsJSON } }>('/auth/passkeys/register/begin', password ? { password } : {})
    const credential = await createPasskey(begun.options.publicKey)
    const made = await post<Passkey>('/auth/passkeys/register/finish', { ceremony: begun.ceremony, name, credential })
    await changed()
    return made
  }))
  const passkeyRemove = useAction(async (p: Passkey) => {
    await del(`/auth/passkeys/${p.id}`)
    await changed()
    return true
  })
  const link = useAction(async (provider: string) => {
    const { url } = await post<{ url: string }>(`/auth/identities/${encodeURIComponent(provider)}/link`, { return_to: '/profile/security' })
    location.assign(url)
  })
  const unlink = useAction(async (i: Identity) => {
    await del(`/auth/identities/${i.id}`)
    await changed()
    return true
  })
  const end = useAction(async (s: Session | null) => {
    if (s) await del(`/auth/sessions/${s.id}`)
    else await post('/auth/sessions/revoke-others')
    sessions.reload()
    return true
  })
  return { mfa, passkeys, identities, sessions, totpStart, totpConfirm, totpDisable, recoveryCodes, passkeyAdd, passkeyRemove, link, unlink, end }
}
export type Security = ReturnType<typeof useSecurity>
