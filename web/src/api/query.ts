import { computed, onBeforeUnmount, onMounted, ref, shallowRef, watch } from 'vue'
import { useQuery, useQueryCache, type EntryKey } from '@pinia/colada'
import { get } from './client'
import { toProblem, type Problem } from './problem'
import type { List } from './types'

interface LoadOptions<T> {
  key: () => EntryKey
  query: (signal: AbortSignal) => Promise<T>
  enabled?: () => boolean
  /** Milliseconds to the next look while the tab is visible; 0 = none. */
  every?: (data: T | undefined) => number
}

/** One cached answer of the server with its states, looked at again while it may change. Data stays in sight when a later look fails. */
export function useLoad<T>(o: LoadOptions<T>) {
  const q = useQuery<T, Error>({ key: o.key, query: ({ signal }) => o.query(signal), enabled: o.enabled ?? (() => true), staleTime: 1000 })
  const problem = computed<Problem | null>(() => (q.error.value ? toProblem(q.error.value) : null))
  let timer = 0
  /** What was deleted or may not be seen any more is not asked for again. */
  const gone = (): boolean => [403, 404].includes(problem.value?.status ?? 0)
  function plan(): void {
    clearTimeout(timer)
    const ms = gone() ? 0 : (o.every?.(q.data.value) ?? 0)
    if (!ms || document.hidden) return
    timer = window.setTimeout(async () => {
      if (o.enabled?.() !== false) await q.refetch().catch(() => undefined)
      plan()
    }, ms)
  }
  const visible = (): void => {
    if (document.hidden) return
    if (o.every?.(q.data.value)) void q.refetch().catch(() => undefined)
    plan()
  }
  if (o.every) {
    watch(q.data, plan)
    onMounted(() => {
      plan()
      document.addEventListener('visibilitychange', visible)
    })
    onBeforeUnmount(() => {
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', visible)
    })
  }
  const data = computed(() => (gone() ? undefined : q.data.value))
  return { data, problem, pending: q.isPending, loading: q.isLoading, reload: () => q.refetch().then(() => undefined, () => undefined) }
}

/** Marks everything under these keys as old and loads again what is in sight. */
export function useInvalidate() {
  const cache = useQueryCache()
  return (...keys: EntryKey[]) => Promise.allSettled(keys.map((key) => cache.invalidateQueries({ key })))
}

/** A list that grows by pages; it starts again when the filter changes. */
export function usePages<T>(path: () => string, query: () => Record<string, string | number | undefined>) {
  const items = shallowRef<T[]>([])
  const next = ref<string | null>(null)
  const state = ref<'loading' | 'ready' | 'failed'>('loading')
  const more = ref(false)
  const problem = shallowRef<Problem | null>(null)
  let run = 0

  async function load(after?: string): Promise<void> {
    const mine = ++run
    try {
      const list = await get<List<T>>(path(), { ...query(), after })
      if (mine !== run) return
      items.value = after ? [...items.value, ...list.items] : list.items
      next.value = list.next
      state.value = 'ready'
      problem.value = null
    } catch (e) {
      if (mine !== run) return
      problem.value = toProblem(e)
      if (!after) state.value = 'failed'
    }
  }
  async function loadMore(): Promise<void> {
    if (!next.value || more.value) return
    more.value = true
    await load(next.value)
    more.value = false
  }
  watch([path, query], () => load(), { immediate: true, deep: true })
  return { items, next, state, more, problem, reload: () => load(), loadMore }
}

/** One action of the person: runs once at a time, keeps the problem until the next try. */
export function useAction<A extends unknown[], R>(f: (...args: A) => Promise<R>) {
  const busy = ref(false)
  const problem = shallowRef<Problem | null>(null)
  async function run(...args: A): Promise<R | undefined> {
    if (busy.value) return undefined
    busy.value = true
    problem.value = null
    try {
      return await f(...args)
    } catch (e) {
      problem.value = toProblem(e)
      return undefined
    } finally {
      busy.value = false
    }
  }
  return { busy, problem, run, clear: () => (problem.value = null) }
}
