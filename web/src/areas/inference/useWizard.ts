import { computed, reactive, ref, shallowRef, watch } from 'vue'
import { post } from '@/api/client'
import { toProblem, type Problem } from '@/api/problem'
import { useAction, useInvalidate } from '@/api/query'
import type { Deployment, Fit } from '@/api/types'
import { fit, providerModels } from './useDeployments'

export type Step = 'source' | 'resources' | 'review'
export const steps: Step[] = ['source', 'resources', 'review']
const place = 'maas.deployment-draft'

export interface Draft {
  source: 'model' | 'provider'; model: string; provider: string; upstream_model: string; name: string; context: number; concurrency: number; max_tokens: number; temperature: number | null
}
const empty = (): Draft => ({ source: 'model', model: '', provider: '', upstream_model: '', name: '', context: 0, concurrency: 4, max_tokens: 0, temperature: null })

function load(): Draft {
  try {
    return { ...empty(), ...(JSON.parse(sessionStorage.getItem(place) ?? '{}') as Partial<Draft>) }
  } catch {
    return empty()
  }
}

/** The wizard's draft: kept over a reload, asked of the server as it changes. */
export function useWizard(query: { model?: string; provider?: string }) {
  const invalidate = useInvalidate()
  const draft = reactive<Draft>(query.model || query.provider ? empty() : load())
  if (query.provider) Object.assign(draft, { source: 'provider', provider: query.provider })
  if (query.model) Object.assign(draft, query.provider ? { upstream_model: query.model, name: publicName(query.model) } : { source: 'model', model: query.model, name: publicName(query.model) })
  const answer = shallowRef<Fit | null>(null)
  const asking = ref(false)
  const problem = shallowRef<Problem | null>(null)
  const upstream = ref<string[]>([])
  let control: AbortController | null = null
  let timer = 0

  watch(draft, () => {
    try {
      sessionStorage.setItem(place, JSON.stringify(draft))
    } catch {
      // The draft then lasts as long as the page.
    }
  })
  /** Asks a moment after the last change; an older question is dropped. */
  function ask(): void {
    clearTimeout(timer)
    control?.abort()
    if (draft.source !== 'model' || !draft.model) {
      answer.value = null
      return
    }
    asking.value = true
    timer = window.setTimeout(async () => {
      const mine = (control = new AbortController())
      try {
        answer.value = await fit(draft.model, draft.context, draft.concurrency, mine.signal)
        problem.value = null
      } catch (e) {
        if (mine.signal.aborted) return
        problem.value = toProblem(e)
        answer.value = null
      }
      asking.value = false
    }, 250)
  }
  watch(() => [draft.source, draft.model, draft.context, draft.concurrency], ask, { immediate: true })
  watch(() => draft.provider, async (id) => {
    upstream.value = []
    if (!id) return
    upstream.value = await providerModels(id).catch(() => [])
    draft.upstream_model ||= upstream.value[0] ?? ''
  }, { immediate: true })
  watch(() => (draft.source === 'model' ? draft.model : draft.upstream_model), (now, before) => {
    if (now && (!draft.name || draft.name === publicName(before ?? ''))) draft.name = publicName(now)
  })

  const body = computed(() => ({
    name: draft.name,
    ...(draft.source === 'model' ? { model: draft.model, engine: 'auto' } : { provider: draft.provider, upstream_model: draft.upstream_model, engine: 'openai' }),
    ...(draft.context && draft.source === 'model' ? { context: draft.context } : {}),
    ...(draft.concurrency && draft.source === 'model' ? { concurrency: draft.concurrency } : {}),
    ...(draft.max_tokens || draft.temperature !== null ? { config: { ...(draft.max_tokens ? { max_tokens: draft.max_tokens } : {}), ...(draft.temperature !== null ? { temperature: draft.temperature } : {}) } } : {}),
  }))
  const sourceDone = computed(() => (draft.source === 'model' ? !!draft.model : !!draft.provider && !!draft.upstream_model) && /^[a-z0-9][a-z0-9._-]*$/.test(draft.name))
  const create = useAction(async () => {
    const d = await post<Deployment>('/inference/deployments', body.value)
    sessionStorage.removeItem(place)
    await invalidate(['inference'])
    return d
  })
  return { draft, answer, asking, problem, upstream, body, sourceDone, create }
}

/** A name that clients can use, from a model's: lower case, no slashes. */
export function publicName(model: string): string {
  return model.replace(/@r\d+$/, '').split('/').pop()!.toLowerCase().replace(/[^a-z0-9._-]+/g, '-').replace(/^[^a-z0-9]+/, '').slice(0, 96)
}
