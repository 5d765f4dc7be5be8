// Shapes of prices, wallets, budgets, statements and limits. Money is whole micro-units (one millionth) of `currency`.

export interface Price {
  id: string; model: string; currency: string; version?: number; input_micro_per_mtok: number; cached_input_micro_per_mtok: number; output_micro_per_mtok: number; reasoning_micro_per_mtok: number; request_micro: number
  valid_from: string; valid_to?: string; created_at?: string
}
export interface Wallet { id: string; currency: string; mode: 'postpaid' | 'prepaid'; balance_micro: number; leased_micro: number; credit_micro: number; rev: number }
export interface Posting { account: string; amount_micro: number; direction?: string; side?: string }
export interface Journal { id: string; kind: string; reference?: string; note?: string; currency?: string; at?: string; created_at?: string; amount_micro?: number; entries?: Posting[] | null }
export interface Verification { ok: boolean; checks: { id: string; ok: boolean; detail?: string }[] | null }

export type SubjectKind = 'tenant' | 'project' | 'user' | 'key' | 'model'
export interface Subject { kind: SubjectKind; id: string; name?: string }
export type BudgetUnit = 'money' | 'tokens' | 'requests'
export interface Budget {
  id: string; name?: string; subject: Subject; unit: BudgetUnit; limit: number; window: 'day' | 'week' | 'month' | 'total'; hard: boolean; used: number; leased: number; left: number
  period_start?: string; period_end?: string; state: 'ok' | 'warn' | 'exhausted'; raise?: { amount: number; until: string; reason?: string } | null; currency?: string; created_at?: string; rev: number
}
export interface StatementLine { model: string; requests: number; input_tokens?: number; prompt_tokens?: number; cached_tokens?: number; output_tokens?: number; completion_tokens?: number; reasoning_tokens?: number; amount_micro?: number; cost_micro?: number }
export interface Statement { month: string; currency: string; lines: StatementLine[] | null; opening_micro?: number; topups_micro?: number; usage_micro?: number; total_micro?: number; closing_micro?: number; requests?: number }
export interface Invoice { id: string; number?: string; month: string; status?: string; state?: string; currency: string; total_micro: number; issued_at?: string; created_at: string; rev?: number }
export interface RevenueRow { at?: string; tenant_id?: string; tenant_name?: string; tenant?: string; model?: string; revenue_micro: number; cost_micro?: number; requests?: number }
export interface Forecast { month?: string; currency?: string; spent_micro: number; forecast_micro: number; low_micro: number; high_micro: number }

export interface Limit { id: string; subject: Subject; unit: 'requests' | 'tokens' | 'concurrent'; limit: number; burst?: number; created_at?: string; rev: number }
export interface LimitNode { id?: string; name?: string; node?: string; alive?: boolean; share?: number; seen_at?: string }
export interface LiveLimits { degraded?: boolean; state?: string; message?: string; since?: string; nodes?: LimitNode[] | null }
