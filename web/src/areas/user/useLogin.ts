import { computed, reactive, ref } from 'vue'
import { useRoute, useRouter } from 'vue-router'
import { post } from '@/api/client'
import type { LoginAnswer, MfaChallenge } from '@/api/identity'
import { Problem } from '@/api/problem'
import { useAction } from '@/api/query'
import { useSession } from '@/api/session'
import { usePasskey } from '@/api/webauthn'
import { useT } from '@/i18n'
import { safeNext } from '@/shell/guard'

interface Begun { ceremony: string; options: { publicKey: PublicKeyCredentialRequestOptionsJSON } }

/** A declined or timed-out passkey dialog is no failure of ours: it says so in plain words. */
export function usePasskeyWords() {
  const { t } = useT()
  return async <R>(f: () => Promise<R>): Promise<R> => {
    try {
      return await f()
    } catch (e) {
      if (e instanceof DOMException) throw new Problem(400, e.name === 'InvalidStateError' ? 'client.passkey_known' : 'client.passkey_declined', t(e.name === 'InvalidStateError' ? 'user.passkeys.known' : 'user.passkeys.declined'))
      throw e
    }
  }
}

/** The ways in: password or passkey, then perhaps a second step. */
export function useLogin() {
  const route = useRoute()
  const router = useRouter()
  const session = useSession()
  const words = usePasskeyWords()
  const form = reactive({ email: '', password: '', keep: true })
  const challenge = ref<MfaChallenge | null>(null)
  async function went(answer: MfaChallenge | null): Promise<void> {
    challenge.value = answer
    if (!answer) await router.replace(safeNext(route.query.next ?? route.query.return_to))
  }
  const password = useAction(async () => went(await session.login(form.email.trim(), form.password, form.keep)))
  const passkey = useAction(() => words(async () => {
    const begun = await post<Begun>('/auth/passkeys/login/begin', {}, { anonymous: true })
    const assertion = await usePasskey(begun.options.publicKey)
    await went(await session.enter(await post<LoginAnswer>('/auth/passkeys/login/finish', { ceremony: begun.ceremony, assertion, remember: form.keep }, { anonymous: true })))
  }))
  const second = useAction((method: string, code: string) => words(async () => {
    const c = challenge.value
    if (!c) return
    let body: Record<string, unknown> = { mfa_token: c.mfa_token, method, code: code.replace(/\s/g, '') }
    if (method === 'passkey') {
      const begun = await post<Begun>('/auth/passkeys/login/begin', { mfa_token: c.mfa_token }, { anonymous: true })
      body = { mfa_token: c.mfa_token, method, ceremony: begun.ceremony, assertion: await usePasskey(begun.options.publicKey) }
    }
    await went(await session.enter(await post<LoginAnswer>('/auth/login/mfa', body, { anonymous: true })))
  }))
  const next = computed(() => safeNext(route.query.next ?? route.query.return_to))
  return { form, challenge, password, passkey, second, next }
}
