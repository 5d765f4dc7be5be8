import { computed } from 'vue'
import { items, useCollection } from '@/api/collection'
import type { Permission, RoleDetail } from '@/api/identity'
import { useLoad } from '@/api/query'
import { useSession } from '@/api/session'
import { useT, type Key } from '@/i18n'

const builtIn = ['owner', 'admin', 'developer', 'viewer', 'billing']

/** Built-in and own roles with their words, and which of them the person may give. */
export function useRoles() {
  const { t } = useT()
  const session = useSession()
  const all = useCollection<RoleDetail>(['user', 'roles'], '/roles', { limit: 0 })
  const name = (role: string, given?: string): string => (builtIn.includes(role) ? t(`tenant.role.${role}` as Key) : given || all.list.data.value?.find((r) => r.id === role)?.name || role)
  const text = (role: string): string => (builtIn.includes(role) ? t(`tenant.role_text.${role}` as Key) : (all.list.data.value?.find((r) => r.id === role)?.description ?? ''))
  /** Nobody gives rights that they do not hold: the server refuses those roles, so they are not offered. */
  const options = computed(() => (all.list.data.value ?? []).filter((r) => (r.permissions ?? []).every((p) => session.may(p))).map((r) => ({ value: r.id, label: name(r.id, r.name) })))
  return { ...all, name, text, options }
}

export function usePermissions() {
  return useLoad({ key: () => ['user', 'permissions'], query: (signal) => items<Permission>('/permissions', {}, signal) })
}

export interface PermissionGroup { area: string; rows: { id: string; verb: string; own: boolean }[] }

/** `model:read` and its like, by what stands before the colon, reading before writing. */
export function grouped(list: Permission[]): PermissionGroup[] {
  const order = ['read', 'read_all', 'read_pii', 'invoke', 'write', 'admin', 'operate', 'delete']
  const place = (verb: string): number => (order.indexOf(verb) + 1 || order.length + 1)
  const groups = new Map<string, PermissionGroup>()
  for (const p of list) {
    const [area = '', verb = ''] = p.name.split(':')
    const g = groups.get(area) ?? { area, rows: [] }
    g.rows.push({ id: p.name, verb, own: p.own })
    groups.set(area, g)
  }
  for (const g of groups.values()) g.rows.sort((a, b) => place(a.verb) - place(b.verb) || a.verb.localeCompare(b.verb))
  return [...groups.values()].sort((a, b) => a.area.localeCompare(b.area))
}
