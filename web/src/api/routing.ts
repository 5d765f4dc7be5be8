// Shapes of routes, providers' presets and the state of upstreams.
import type { ReasonInfo } from './types'

export interface RouteTarget { deployment: string; deployment_id?: string; status?: string; weight: number; priority: number }
export type Strategy = 'weighted' | 'least_loaded' | 'session'
export type Breaker = 'closed' | 'open' | 'half_open'
export interface EndpointState {
  deployment: string; deployment_id?: string; endpoint: string; breaker: Breaker; reason?: string; ejected_until?: string; cooling_until?: string; error_rate: number; requests: number; in_flight: number; latency_ms_p50: number
  last_error?: ReasonInfo | null; last_used_at?: string
}
export interface InferenceRoute {
  id: string; name: string; description: string; aliases: string[] | null; targets: RouteTarget[] | null; fallbacks: string[] | null; strategy: Strategy
  retry: { attempts: number; budget_percent: number; on: string[] | null }; timeout_ms: number; enabled: boolean; state?: EndpointState[] | null; created_at: string; updated_at: string; rev: number
}
export interface RouteTest { request_id: string; model: string; ok: boolean; attempts: { deployment: string; deployment_id?: string; endpoint: string; status: number; ms: number; error?: { code: string; message: string } | null }[] | null; answer: string; error?: { code: string; message: string } | null }
export interface ProviderPreset { id: string; name: string; kind: string; base_url: string; needs: string[] | null; docs?: string }
