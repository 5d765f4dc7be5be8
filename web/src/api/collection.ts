import { del, get, patch, post, seg } from './client'
import { useAction, useInvalidate, useLoad } from './query'
import type { List } from './types'

interface Options { /** 0: the list is whole and takes no limit. */ limit?: number; query?: () => Record<string, string | number | undefined>; enabled?: () => boolean; every?: () => number; also?: string[][] }

/** Reads a list that comes as `{items, next}` or as a bare array. */
export async function items<T>(path: string, query: Record<string, string | number | undefined> = {}, signal?: AbortSignal): Promise<T[]> {
  const l = await get<List<T> | T[]>(path, query, { signal })
  return Array.isArray(l) ? l : (l.items ?? [])
}

/** The objects of one kind: their list, and the changes that every kind knows. Each change loads again what is in sight. */
export function useCollection<T extends { id: string; rev?: number }>(key: string[], path: string, o: Options = {}) {
  const invalidate = useInvalidate()
  const list = useLoad({ key: () => [...key, o.query?.() ?? {}], query: (signal) => items<T>(path, { limit: o.limit === 0 ? undefined : 200, ...o.query?.() }, signal), enabled: o.enabled, every: o.every })
  const changed = (): Promise<unknown> => invalidate(key, ...(o.also ?? []))
  const at = (row: T): string => `${path}/${seg(row.id)}`
  const create = useAction(async (body: unknown): Promise<T> => {
    const made = await post<T>(path, body)
    await changed()
    return made
  })
  const update = useAction(async (row: T, body: unknown): Promise<T> => {
    const after = await patch<T>(at(row), body, row.rev)
    await changed()
    return after
  })
  const remove = useAction(async (row: T): Promise<true> => {
    await del(at(row), row.rev)
    await changed()
    return true
  })
  const act = useAction(async (row: T, verb: string, body?: unknown): Promise<T | true> => {
    const answer = await post<T | undefined>(`${at(row)}/${verb}`, body)
    await changed()
    return answer ?? true
  })
  return { list, create, update, remove, act, changed }
}
