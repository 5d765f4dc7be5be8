import { get, patch, post } from '@/api/client'
import { useAction, useInvalidate, useLoad } from '@/api/query'
import type { List, Role, User } from '@/api/types'

export const roles: Role[] = ['owner', 'admin', 'developer', 'viewer']
export interface NewUser { email: string; password: string; role: Role; first_name: string }

/** The people of the team. */
export function useTeam() {
  const invalidate = useInvalidate()
  const list = useLoad({ key: () => ['user', 'users'], query: (signal) => get<List<User>>('/users', { limit: 200 }, { signal }) })
  const changed = (): Promise<unknown> => invalidate(['user', 'users'])
  const add = useAction(async (u: NewUser) => {
    const made = await post<User>('/users', { email: u.email.trim(), password: u.password, role: u.role, ...(u.first_name ? { profile: { first_name: u.first_name } } : {}) })
    await changed()
    return made
  })
  const setRole = useAction(async (u: User, role: Role) => {
    await patch(`/users/${u.id}`, { role }, u.rev)
    await changed()
    return true
  })
  const suspend = useAction(async (u: User) => {
    await post(`/users/${u.id}/${u.status === 'suspended' ? 'activate' : 'suspend'}`)
    await changed()
    return true
  })
  return { list, add, setRole, suspend }
}
