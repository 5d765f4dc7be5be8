import { computed } from 'vue'
import { items } from '@/api/collection'
import type { Member, Project } from '@/api/identity'
import type { Subject, SubjectKind } from '@/api/money'
import { useLoad } from '@/api/query'
import { useSession } from '@/api/session'
import type { ApiKey, Deployment } from '@/api/types'
import { useT } from '@/i18n'

/** Whom a budget or a limit can be for, and their names. Each list is asked for once, and only with the right to it. */
export function useSubjects(withModels = false) {
  const { t } = useT()
  const session = useSession()
  const projects = useLoad({ key: () => ['user', 'projects', {}], query: (signal) => items<Project>('/projects', { limit: 200 }, signal), enabled: () => session.may('project:read') })
  const people = useLoad({ key: () => ['user', 'members', {}], query: (signal) => items<Member>('/members', { limit: 200 }, signal), enabled: () => session.may('user:read') })
  const keys = useLoad({ key: () => ['user', 'keys', {}], query: (signal) => items<ApiKey>('/keys', { limit: 200 }, signal), enabled: () => session.may('key:read') })
  const models = useLoad({ key: () => ['inference', 'deployments', 'names'], query: (signal) => items<Deployment>('/inference/deployments', { limit: 200 }, signal), enabled: () => withModels && session.may('inference:read') })
  const kinds = computed(() => (['tenant', 'project', 'user', 'key', ...(withModels ? ['model'] : [])] as SubjectKind[]).map((value) => ({ value, label: t(`billing.subject.${value}`) })))
  function of(kind: SubjectKind): { value: string; label: string }[] {
    if (kind === 'tenant') return [{ value: session.user?.tenant?.id ?? '', label: session.user?.tenant?.name ?? '' }]
    if (kind === 'project') return (projects.data.value ?? []).map((p) => ({ value: p.id, label: p.name }))
    if (kind === 'user') return (people.data.value ?? []).map((m) => ({ value: m.id, label: m.name ? `${m.name} · ${m.email}` : m.email }))
    if (kind === 'key') return (keys.data.value ?? []).filter((k) => k.state === 'active').map((k) => ({ value: k.id, label: `${k.name} · ${k.prefix}…${k.last4}` }))
    return (models.data.value ?? []).map((d) => ({ value: d.name, label: d.name }))
  }
  function name(s: Subject): string {
    if (s.kind === 'tenant') return session.user?.tenant?.name ?? s.id
    if (s.kind === 'project') return projects.data.value?.find((p) => p.id === s.id)?.name ?? s.id
    if (s.kind === 'user') return people.data.value?.find((m) => m.id === s.id)?.email ?? s.id
    if (s.kind === 'key') return keys.data.value?.find((k) => k.id === s.id)?.name ?? s.id
    return s.id
  }
  return { kinds, of, name }
}

export const subjectIcon: Record<SubjectKind, string> = { tenant: 'i-lucide-building-2', project: 'i-lucide-folder', user: 'i-lucide-user', key: 'i-lucide-key-round', model: 'i-lucide-box' }
