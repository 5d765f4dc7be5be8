import { computed } from 'vue'
import { items, useCollection } from '@/api/collection'
import { post } from '@/api/client'
import type { Project, ServiceAccount } from '@/api/identity'
import { useAction, useLoad } from '@/api/query'
import { useSession } from '@/api/session'
import type { ApiKey, Deployment } from '@/api/types'

export interface KeyForm { name: string; models: string[]; expiry: number; scopes: string[]; ips: string; project: string; service: string; rpm: string; tpm: string; concurrent: string; strict: boolean }
export const noChoice = '-'
/** Keeps the expiry of an existing key as it is. */
export const keepExpiry = -1

export function emptyForm(): KeyForm {
  return { name: '', models: [], expiry: 0, scopes: [], ips: '', project: noChoice, service: noChoice, rpm: '', tpm: '', concurrent: '', strict: false }
}

export function formOf(k: ApiKey): KeyForm {
  const n = (x?: number): string => (x ? String(x) : '')
  return { ...emptyForm(), name: k.name, models: [...(k.models ?? [])], expiry: keepExpiry, scopes: [...(k.scopes ?? [])], ips: (k.ip_allow ?? []).join('\n'), project: k.project_id || noChoice, rpm: n(k.limits?.requests_per_minute), tpm: n(k.limits?.tokens_per_minute), concurrent: n(k.limits?.concurrent), strict: k.strict ?? false }
}

/** What the server takes: whole lists and limits for a change, only what was filled in for a new key. */
export function bodyOf(f: KeyForm, change: boolean, now = Date.now()): Record<string, unknown> {
  const ips = f.ips.split(/[\s,;]+/).filter(Boolean)
  const limits = { requests_per_minute: Number(f.rpm) || 0, tokens_per_minute: Number(f.tpm) || 0, concurrent: Number(f.concurrent) || 0 }
  const limited = Object.values(limits).some((n) => n > 0)
  const body: Record<string, unknown> = { name: f.name.trim() }
  if (change || f.models.length) body.models = f.models
  if (f.scopes.length) body.scopes = f.scopes
  if (change || ips.length) body.ip_allow = ips
  if (change || limited) body.limits = limits
  if (change || f.strict) body.strict = f.strict
  if (f.project !== noChoice) body.project_id = f.project
  else if (change) body.project_id = ''
  if (!change && f.service !== noChoice) body.service_account_id = f.service
  if (f.expiry > 0) body.expires_at = new Date(now + f.expiry * 86_400_000).toISOString()
  else if (change && f.expiry === 0) body.expires_at = '0001-01-01T00:00:00Z'
  return body
}

/** API keys of the organization or, without the right to all of them, one's own; and what a new one can be bound to. */
export function useKeys(filter: () => { owner?: string; project?: string }) {
  const session = useSession()
  const keys = useCollection<ApiKey>(['user', 'keys'], '/keys', { query: filter })
  const deployments = useLoad({ key: () => ['inference', 'deployments', 'names'], query: (signal) => items<Deployment>('/inference/deployments', { limit: 200 }, signal), enabled: () => session.may('inference:read') })
  const projects = useLoad({ key: () => ['user', 'projects', {}], query: (signal) => items<Project>('/projects', { limit: 200 }, signal), enabled: () => session.may('project:read') })
  const services = useLoad({ key: () => ['user', 'service-accounts', {}], query: (signal) => items<ServiceAccount>('/service-accounts', { limit: 200 }, signal), enabled: () => session.may('key:write') })
  const models = computed(() => (deployments.data.value ?? []).map((d) => d.name).sort())
  const rotate = useAction(async (k: ApiKey, overlap: number) => {
    const made = await post<ApiKey>(`/keys/${k.id}/rotate`, { overlap_s: overlap })
    await keys.changed()
    return made
  })
  return { ...keys, models, projects: computed(() => projects.data.value ?? []), services: computed(() => services.data.value ?? []), rotate }
}
