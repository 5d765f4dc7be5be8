// Shapes of routes, providers' presets and the state of upstreams.
import type { ReasonInfo } from './types'

export interface RouteTarget { deployment: string; weight: number; priority: number }
export type Strategy = 'weighted' | 'least_loaded' | 'session'
export type Breaker = 'closed' | 'open' | 'half_open'
export interface TargetState { deployment: string; endpoint?: string; breaker: Breaker; ejected_until?: string; error_rate: number; in_flight: number; latency_ms_p50: number; last_error?: ReasonInfo | null }
export interface InferenceRoute {
  id: string; name: string; description?: string; aliases?: string[] | null; targets: RouteTarget[] | null; fallbacks?: string[] | null; strategy: Strategy
  retry?: { attempts: number; budget_percent: number; on: string[] | null } | null; timeout_ms?: number; enabled: boolean; state?: TargetState[] | null; created_at?: string; updated_at?: string; rev: number
}
export interface RouteTest { attempts: { deployment: string; status: number; ms: number; error?: ReasonInfo | string | null }[] | null; answer?: string }
export interface ProviderPreset { id: string; name: string; kind: string; base_url: string; needs: string[] | null; docs_url?: string }
