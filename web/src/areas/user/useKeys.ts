import { computed } from 'vue'
import { del, get, patch, post } from '@/api/client'
import { useAction, useInvalidate, useLoad } from '@/api/query'
import type { ApiKey, Deployment, List } from '@/api/types'

export interface NewKey { name: string; models: string[]; expiresIn: number }

/** API keys of the team or, without the right to all of them, one's own. */
export function useKeys() {
  const invalidate = useInvalidate()
  const list = useLoad({ key: () => ['user', 'keys'], query: (signal) => get<List<ApiKey>>('/keys', { limit: 200 }, { signal }) })
  const deployments = useLoad({ key: () => ['inference', 'deployments'], query: (signal) => get<List<Deployment>>('/inference/deployments', { limit: 200 }, { signal }) })
  const models = computed(() => (deployments.data.value?.items ?? []).map((d) => d.name).sort())
  const changed = (): Promise<unknown> => invalidate(['user', 'keys'])

  const create = useAction(async (k: NewKey) => {
    const expires = k.expiresIn ? new Date(Date.now() + k.expiresIn * 86_400_000).toISOString() : undefined
    const made = await post<ApiKey>('/keys', { name: k.name.trim(), ...(k.models.length ? { models: k.models } : {}), ...(expires ? { expires_at: expires } : {}) })
    await changed()
    return made
  })
  const update = useAction(async (k: ApiKey, body: { name?: string; models?: string[] }) => {
    const after = await patch<ApiKey>(`/keys/${k.id}`, body, k.rev)
    await changed()
    return after
  })
  const revoke = useAction(async (k: ApiKey) => {
    await post(`/keys/${k.id}/revoke`)
    await changed()
    return true
  })
  const remove = useAction(async (k: ApiKey) => {
    await del(`/keys/${k.id}`)
    await changed()
    return true
  })
  return { list, models, create, update, revoke, remove }
}
