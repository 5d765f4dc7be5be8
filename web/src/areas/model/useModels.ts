import { computed } from 'vue'
import { del, get, patch, post, seg } from '@/api/client'
import { useAction, useInvalidate, useLoad } from '@/api/query'
import type { Job, List, Model, ModelFile, ModelVersion, Report } from '@/api/types'

const moving = (s?: string): boolean => s === 'pending' || s === 'validating'

export function useModels() {
  const invalidate = useInvalidate()
  const list = useLoad({
    key: () => ['model', 'list'],
    query: (signal) => get<List<Model>>('/models', { limit: 200 }, { signal }),
    every: (d) => (d?.items.some((m) => moving(m.latest?.status)) ? 2000 : 0),
  })
  const demo = useAction(async () => {
    const m = await post<Model>('/models/demo')
    await invalidate(['model'])
    return m
  })
  const remove = useAction(async (m: Model) => {
    await del(`/models/${seg(m.name)}`)
    await invalidate(['model', 'list'])
    return true
  })
  return { list, demo, remove }
}

/** One model with its versions; looks again while a version is being checked. */
export function useModel(name: () => string) {
  const invalidate = useInvalidate()
  const path = (): string => `/models/${seg(name())}`
  const model = useLoad({ key: () => ['model', 'one', name()], query: (signal) => get<Model>(path(), {}, { signal }), every: (d) => (moving(d?.latest?.status) ? 1500 : 0) })
  const versions = useLoad({
    key: () => ['model', 'versions', name()],
    query: (signal) => get<List<ModelVersion>>(`${path()}/versions`, { limit: 100 }, { signal }),
    every: (d) => (d?.items.some((v) => moving(v.status)) ? 1500 : 0),
  })
  const sorted = computed(() => [...(versions.data.value?.items ?? [])].sort((a, b) => b.number - a.number))
  const edit = useAction(async (description: string) => {
    await patch(path(), { description }, model.data.value?.rev)
    await invalidate(['model'])
    return true
  })
  const remove = useAction(async () => {
    await del(path())
    await invalidate(['model', 'list'])
    return true
  })
  return { model, versions, sorted, edit, remove }
}

export function useVersionFiles(name: () => string, number: () => number) {
  return useLoad({
    key: () => ['model', 'files', name(), number()],
    query: async (signal) => {
      const answer = await get<List<ModelFile> | ModelFile[]>(`/models/${seg(name())}/versions/${number()}/files`, {}, { signal })
      return Array.isArray(answer) ? answer : answer.items
    },
    enabled: () => number() > 0,
  })
}

export function useVersionReport(name: () => string, number: () => number) {
  return useLoad({
    key: () => ['model', 'report', name(), number()],
    query: (signal) => get<Report>(`/models/${seg(name())}/versions/${number()}/report`, {}, { signal }),
    enabled: () => number() > 0,
    every: (d) => (moving(d?.status) ? 1500 : 0),
  })
}

/** The job that checks a version, for its progress. */
export function useVersionJob(id: () => string | undefined) {
  return useLoad({ key: () => ['ops', 'job', id() ?? ''], query: (signal) => get<Job>(`/jobs/${id()}`, {}, { signal }), enabled: () => !!id(), every: (d) => (!d || ['queued', 'running', 'waiting'].includes(d.state) ? 1000 : 0) })
}
