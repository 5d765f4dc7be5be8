import { describe, expect, it } from 'vitest'
import type { ApiKey } from '@/api/types'
import { bodyOf, emptyForm, formOf, keepExpiry } from './useKeys'

const key: ApiKey = { id: 'key_1', name: 'x', models: ['m'], scopes: ['inference:invoke'], ip_allow: ['10.0.0.0/8', '::1'], limits: { requests_per_minute: 60 }, project_id: 'prj_1', strict: true, prefix: 'p', last4: 'l', state: 'active', expires_at: '2027-01-01T00:00:00Z', created_at: '', updated_at: '', rev: 3 }

describe('bodyOf', () => {
  it('sends only what was filled in for a new key', () => expect(bodyOf({ ...emptyForm(), name: ' a ' }, false)).toEqual({ name: 'a' }))
  it('splits addresses however they were typed', () => expect(bodyOf({ ...emptyForm(), ips: '10.0.0.1, 10.0.0.0/8\n::1;' }, false).ip_allow).toEqual(['10.0.0.1', '10.0.0.0/8', '::1']))
  it('counts days from now', () => expect(bodyOf({ ...emptyForm(), expiry: 7 }, false, Date.UTC(2026, 0, 1)).expires_at).toBe('2026-01-08T00:00:00.000Z'))
  it('changes nothing that was not touched', () => {
    expect(bodyOf(formOf(key), true)).toEqual({ name: 'x', models: ['m'], scopes: ['inference:invoke'], ip_allow: ['10.0.0.0/8', '::1'], limits: { requests_per_minute: 60, tokens_per_minute: 0, concurrent: 0 }, strict: true, project_id: 'prj_1' })
  })
  it('can take bounds away', () => {
    const f = { ...formOf(key), models: [], ips: '', rpm: '', project: '-', strict: false, expiry: 0 }
    expect(bodyOf(f, true)).toMatchObject({ models: [], ip_allow: [], limits: { requests_per_minute: 0 }, project_id: '', strict: false, expires_at: '0001-01-01T00:00:00Z' })
    expect(formOf(key).expiry).toBe(keepExpiry)
  })
})
