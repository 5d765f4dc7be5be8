// Shapes of the management API that the console uses. Times are RFC 3339 text in UTC and missing when there is none.

export interface List<T> { items: T[]; next: string | null }
export interface ReasonInfo { code: string; message: string; hint?: string; at?: string }

export interface AuthConfig {
  setup_required: boolean; setup_code_required?: boolean; registration: string; version: string; password: { min_length: number }; demo_model: boolean
  email?: { verification: boolean; enabled: boolean }; providers?: { id: string; kind: string; name: string; start_url: string }[] | null; mfa?: { totp: boolean; passkeys: boolean }
}

/** A built-in role's name or the id of one of the organization's own. */
export type Role = string
export interface UserProfile { first_name?: string; last_name?: string; avatar_url?: string; organization?: string }
export interface User {
  id: string; username: string; email: string; status: string; role: Role; role_name?: string; email_verified?: boolean; profile?: UserProfile; locale?: string; last_login_at?: string; created_at: string; updated_at: string; rev: number
  tenant?: { id: string; name: string }; permissions?: string[] | null
}
export interface Login { access_token: string; token_type: string; expires_in: number; user?: User }
export interface Session { id: string; user_agent?: string; ip?: string; auth_at: string; seen_at: string; expires_at?: string; current?: boolean }

export interface KeyLimits { requests_per_minute?: number; tokens_per_minute?: number; concurrent?: number }
export interface ApiKey {
  id: string; name: string; owner?: { id: string; email: string; kind?: string }; models?: string[] | null; scopes?: string[] | null; ip_allow?: string[] | null; limits?: KeyLimits; project_id?: string; project?: string; strict?: boolean
  prefix: string; last4: string; state: 'active' | 'expired' | 'revoked' | 'suspended'; expires_at?: string; rotates_at?: string; last_used_at?: string; created_at: string; updated_at: string; rev: number; secret?: string
}

export interface UsageRow {
  at?: string; model?: string; key_id?: string; key_name?: string; user_id?: string; project_id?: string; provider_id?: string; tenant_id?: string; requests: number; errors: number; prompt_tokens: number; cached_tokens: number; completion_tokens: number
  reasoning_tokens: number; cost_micro: number
}
export interface Usage { items: UsageRow[] | null; totals: Omit<UsageRow, 'at'> }
export interface UsageRequest {
  request_id: string; at: string; model: string; deployment_id?: string; key_id?: string; key_name?: string; user_id?: string; op: string; stream: boolean; status: number; end: string
  prompt_tokens: number; cached_tokens: number; completion_tokens: number; reasoning_tokens?: number; attempts?: number; project_id?: string; provider_id?: string; price_pico?: number; ttft_ms: number; duration_ms: number; source: string
}

export type VersionStatus = 'pending' | 'validating' | 'ready' | 'warned' | 'rejected' | 'failed' | 'retired'
export interface ModelFile { path: string; size_bytes: number; sha256: string }
export interface ModelVersion {
  id: string; model_id: string; name: string; number: number; status: VersionStatus; message?: string; format?: string; architecture?: string; parameters?: number; context_length?: number; quantization?: string
  size_bytes: number; manifest_sha256?: string; files?: ModelFile[] | null; reason?: ReasonInfo | null; job_id?: string; created_at: string; metadata?: Record<string, unknown> & { memory?: { context: number; slots: number; bytes: number }[] | null }
}
export interface Model { id: string; name: string; description?: string; visibility: string; latest: ModelVersion | null; versions_count: number; size_bytes: number; created_at: string; updated_at: string; rev: number }
export interface Check { id: string; result: 'pass' | 'warn' | 'reject' | 'skip'; code?: string; message?: string; path?: string; detail?: string; hint?: string; ms?: number }
export interface Report { status: string; checks: Check[] | null }

export type DeploymentStatus = 'stopped' | 'pending' | 'starting' | 'ready' | 'degraded' | 'updating' | 'failed' | 'deleting'
export interface Replica { id: string; state: string; attempt: number; pid?: number; reason?: ReasonInfo | null; started_at?: string; ready_at?: string }
export interface Need { host_bytes: number; parts?: { weights?: number; kv?: number; scratch?: number; fixed?: number }; max_context?: number }
export interface Deployment {
  id: string; name: string; model?: { id: string; name: string; version: number; version_id: string } | null; provider?: { id: string; name: string } | null; upstream_model?: string; engine: string; engine_reason?: string
  desired: 'running' | 'stopped'; status: DeploymentStatus; reason?: ReasonInfo | null; progress?: { done: number; total: number; unit: string } | null; context?: number; concurrency?: number
  config?: { max_tokens?: number; temperature?: number; top_p?: number }; need?: Need | null; measured_bytes?: number; replicas?: Replica[] | null
  live?: { running: number; waiting: number; kv_usage: number; tokens_per_s: number; ttft_ms_p50: number; requests_total: number } | null; created_at: string; updated_at: string; rev: number
}
export interface Transition { id?: string; at: string; from?: string; to?: string; state?: string; reason?: ReasonInfo | null; replica_id?: string; attempt?: number; message?: string }
export interface MetricSeries { key: string; name?: { zh?: string; en?: string } | string; unit?: string; group?: string; kind?: string; points?: ((number | null)[] | null)[] | null }
export interface Metrics { series?: MetricSeries[] | null }
export interface LogLine { at?: string; level?: string; text: string }
export interface Fit { fits: boolean; engine?: string; need?: Need | null; have_bytes?: number; max_context?: number; reason?: ReasonInfo | null }

export interface Provider { id: string; name: string; kind: string; preset?: string; base_url: string; api_version?: string; checked_at?: string; api_key_set: boolean; status?: string; reason?: ReasonInfo | null; created_at: string; updated_at?: string; rev?: number }
export interface ProviderTest { ok: boolean; latency_ms?: number; error?: ReasonInfo | string | null }

export interface Job {
  id: string; kind: string; subject?: { kind: string; id: string } | null; state: 'queued' | 'running' | 'waiting' | 'succeeded' | 'failed' | 'cancelled'; stage?: string
  progress?: { done: number; total: number; unit?: string; percent?: number; eta_s?: number } | null; waiting?: { code: string; message: string; position?: number; since?: string } | null
  error?: { code: string; title?: string; detail?: string; message?: string; hint?: string } | null; attempt: number; created_at: string; started_at?: string; finished_at?: string
}

export interface Overview {
  requests_24h: number; tokens_24h: number; errors_24h: number; deployments: { ready: number; total: number }; models: number; keys: number; series: { at: string; requests: number; completion_tokens: number }[] | null
}

export interface ChatMessage { role: 'system' | 'user' | 'assistant'; content: string }
export interface TokenUsage { prompt_tokens: number; completion_tokens: number; total_tokens: number; prompt_tokens_details?: { cached_tokens?: number } | null }
export interface ListedModel { id: string; object: string; owned_by?: string; maas?: { context_length?: number; max_output?: number; state?: string } | null }
