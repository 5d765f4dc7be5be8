// Shapes of accounts, sessions, tenants and keys. Times are RFC 3339 text in UTC and missing when there is none.
import type { Login, User } from './types'

export interface LoginProvider { id: string; kind: string; name: string; start_url: string }
export type MfaMethod = 'totp' | 'passkey' | 'recovery'
export interface MfaChallenge { mfa_required: true; mfa_token: string; methods: MfaMethod[] | null }
export type LoginAnswer = Login | MfaChallenge
export interface Registered { status: 'active' | 'pending_verification' | 'pending_approval'; user?: User }
export interface MfaState { totp: boolean; recovery_codes_left: number; passkeys: number; required: boolean; /** False for people who came by a provider and set none. */ password?: boolean }
export interface TotpStart { secret: string; otpauth_url: string; qr_svg: string }
export interface Passkey { id: string; name: string; created_at: string; last_used_at?: string }
export interface Identity { id: string; provider: string; provider_name?: string; subject?: string; email?: string; name?: string; created_at: string; last_used_at?: string }

export interface Tenant { id: string; slug: string; name: string; status: 'active' | 'suspended' | 'purging'; timezone?: string; role?: string; current: boolean; members: number; created_at: string; updated_at: string; rev: number; invitation?: Invitation | null }
export interface Member { id: string; email: string; username: string; name: string; role: string; role_name: string; status: string; shared: boolean; last_login_at?: string; joined_at: string }
export interface Invitation {
  id: string; email: string; role: string; role_name: string; projects?: string[] | null; state: 'pending' | 'accepted' | 'revoked' | 'expired'; mailed: boolean; invited_by: string; expires_at: string; accepted_at?: string; created_at: string; rev: number
  accept_url?: string
}
export interface InvitationView { tenant: { id: string; name: string }; email: string; role_name: string; expires_at: string; account_exists: boolean }
export interface Project { id: string; slug: string; name: string; description: string; status: 'active' | 'archived'; members: number; role?: string; created_at: string; updated_at: string; rev: number }
export interface ProjectMember { user_id: string; email: string; role: 'lead' | 'member'; joined_at: string }
export interface RoleDetail { id: string; name: string; description: string; permissions: string[] | null; builtin: boolean; members: number; rev: number }
export interface Permission { name: string; title?: string; group?: string; roles: string[] | null; own: boolean }
export interface ServiceAccount { id: string; name: string; description: string; role: string; role_name: string; status: string; keys: number; created_by: string; created_at: string; updated_at: string; rev: number }
export interface Grant { id: string; subject: { kind: string; id: string; name?: string }; role?: string; permission?: string; object?: { kind: string; id: string } | null; expires_at?: string; created_by?: string; created_at: string }
