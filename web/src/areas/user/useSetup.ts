import { computed, onBeforeUnmount, reactive, ref } from 'vue'
import { useRouter } from 'vue-router'
import { get, post, seg } from '@/api/client'
import { useAction } from '@/api/query'
import { useSession } from '@/api/session'
import type { Deployment, Model, Provider } from '@/api/types'

const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

/** The first minutes: the owner's account, then a first model, then a chat. */
export function useSetup() {
  const router = useRouter()
  const session = useSession()
  const account = reactive({ name: '', tenant_name: '', email: '', password: '', code: '' })
  const upstream = reactive({ name: '', base_url: '', api_key: '', model: '' })
  const upstreamModels = ref<string[]>([])
  const provider = ref<Provider | null>(null)
  const waiting = ref<Deployment | null>(null)
  const stage = ref<'idle' | 'model' | 'deployment'>('idle')
  let left = false
  onBeforeUnmount(() => (left = true))

  const create = useAction(async () => {
    await session.setup({ email: account.email.trim(), password: account.password, ...(account.name ? { name: account.name } : {}), ...(account.tenant_name ? { tenant_name: account.tenant_name } : {}), ...(account.code ? { code: account.code } : {}) })
    await router.replace({ name: 'setup', query: { step: 'model' } })
  })
  /** Makes a deployment and waits until it answers, then opens the playground with it. */
  async function serve(body: Record<string, unknown>): Promise<void> {
    stage.value = 'deployment'
    let d = await post<Deployment>('/inference/deployments', body)
    while (!left && d.status !== 'ready') {
      waiting.value = d
      if (d.status === 'failed' || d.status === 'stopped') return
      await pause(700)
      d = await get<Deployment>(`/inference/deployments/${seg(d.name)}`)
    }
    if (!left) await router.replace({ path: '/playground', query: { model: d.name } })
  }
  const demo = useAction(async () => {
    stage.value = 'model'
    try {
      const model = await post<Model>('/models/demo')
      await serve({ name: model.name, model: model.name, engine: 'auto' })
    } finally {
      if (waiting.value?.status !== 'failed') stage.value = 'idle'
    }
  })
  const connect = useAction(async () => {
    provider.value ??= await post<Provider>('/inference/providers', { name: upstream.name || new URL(upstream.base_url).hostname, base_url: upstream.base_url.trim(), ...(upstream.api_key ? { api_key: upstream.api_key } : {}) })
    const answer = await get<{ items?: { id?: string; name?: string }[] }>(`/inference/providers/${provider.value.id}/models`)
    upstreamModels.value = (answer.items ?? []).map((m) => m.id ?? m.name ?? '').filter(Boolean)
    upstream.model ||= upstreamModels.value[0] ?? ''
  })
  const deployUpstream = useAction(async () => {
    if (!provider.value) return
    const name = upstream.model.toLowerCase().replace(/[^a-z0-9._-]+/g, '-').replace(/^[^a-z0-9]+/, '') || 'model'
    await serve({ name, provider: provider.value.id, upstream_model: upstream.model, engine: 'openai' })
  })
  const needsCode = computed(() => session.config?.setup_code_required === true || create.problem.value?.code === 'user.setup_code' || account.code !== '')
  return { account, upstream, upstreamModels, provider, waiting, stage, create, demo, connect, deployUpstream, needsCode }
}
