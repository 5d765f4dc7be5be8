import { items } from '@/api/collection'
import { call, del, get, patch, seg } from '@/api/client'
import type { Member, Project, ProjectMember } from '@/api/identity'
import { useAction, useInvalidate, useLoad } from '@/api/query'

/** One project, its members, and who could become one. */
export function useProject(id: () => string) {
  const invalidate = useInvalidate()
  const at = (): string => `/projects/${seg(id())}`
  const project = useLoad({ key: () => ['user', 'projects', id()], query: (signal) => get<Project>(at(), {}, { signal }) })
  const members = useLoad({ key: () => ['user', 'projects', id(), 'members'], query: (signal) => items<ProjectMember>(`${at()}/members`, {}, signal) })
  const people = useLoad({ key: () => ['user', 'members', {}], query: (signal) => items<Member>('/members', { limit: 200 }, signal) })
  const changed = (): Promise<unknown> => invalidate(['user', 'projects'])
  const put = useAction(async (user: string, role: string) => {
    await call('PUT', `${at()}/members/${seg(user)}`, { body: { role } })
    await changed()
    return true
  })
  const drop = useAction(async (user: string) => {
    await del(`${at()}/members/${seg(user)}`)
    await changed()
    return true
  })
  const update = useAction(async (p: Project, body: Record<string, unknown>) => {
    const after = await patch<Project>(at(), body, p.rev)
    await changed()
    return after
  })
  const remove = useAction(async (p: Project) => {
    await del(at(), p.rev)
    void invalidate(['user', 'projects', {}])
    return true
  })
  return { project, members, people, put, drop, update, remove }
}
