// Shapes of prices, wallets, budgets, statements and limits. Money is whole micro-units (one millionth) of the one currency of the installation.

export interface Price {
  id: string; model: string; tenant_id?: string; provider?: string; currency: string; input_micro_per_mtok: number; cached_input_micro_per_mtok: number; output_micro_per_mtok: number; reasoning_micro_per_mtok: number; request_micro: number
  valid_from: string; valid_until?: string; current: boolean; note?: string; created_by?: string; created_at: string
}
export interface Wallet { id: string; tenant_id: string; currency: string; mode: 'postpaid' | 'prepaid'; balance_micro: number; leased_micro: number; credit_micro: number; limited: boolean; created_at: string; updated_at: string; rev: number }
export interface Journal { id: string; tenant_id: string; kind: 'usage' | 'topup' | 'refund' | 'payout' | 'adjust'; reference: string; note?: string; created_by?: string; at: string; amount_micro: number; entries: { account_id: string; account: string; amount_micro: number }[] | null }
export interface Verification { ok: boolean; at: string; checks: { id: string; ok: boolean; detail: string }[] | null }

export type SubjectKind = 'tenant' | 'project' | 'user' | 'key' | 'model'
export interface Subject { kind: SubjectKind; id: string }
export type BudgetUnit = 'money' | 'tokens' | 'requests'
export interface Budget {
  id: string; name: string; subject: Subject; unit: BudgetUnit; limit: number; window: 'day' | 'week' | 'month' | 'total'; hard: boolean; extra?: number; extra_until?: string; extra_reason?: string; extra_by?: string
  used: number; leased: number; left: number; period_start?: string; period_end?: string; state: 'ok' | 'warn' | 'exhausted'; created_at: string; updated_at: string; rev: number
}
export interface Limit { id: string; subject: Subject; unit: 'requests' | 'tokens' | 'concurrent'; limit: number; burst?: number; by_operator?: boolean; created_at: string; updated_at: string; rev: number }
export interface LimitNode { node: string; epoch: number; started_at: string; seen_at: string; shared: 'none' | 'redis' | 'away'; grantor: 'ok' | 'away'; open: number; unsettled: number; journal_lag: number; journal_full?: boolean }
export interface LiveLimits { nodes: LimitNode[] | null; degraded: boolean; words: string }
export interface StatementLine { model: string; requests: number; input_tokens: number; cached_tokens: number; output_tokens: number; reasoning_tokens: number; amount_micro: number }
export interface Statement {
  month: string; tenant_name: string; timezone: string; from: string; to: string; complete: boolean; currency: string; lines: StatementLine[] | null; requests: number; total_micro: number; opening_micro: number
  moves: { kind: Journal['kind']; amount_micro: number }[] | null; closing_micro: number
}
export interface Invoice { id: string; tenant_id: string; number?: string; month: string; state: 'draft' | 'issued' | 'void'; currency: string; net_micro: number; tax_micro: number; total_micro: number; tax_percent?: string; void_reason?: string; created_at: string; issued_at?: string; rev: number }
export interface RevenueItem { at: string; tenant_id?: string; tenant_name?: string; model?: string; provider_id?: string; requests: number; revenue_micro: number; cost_micro: number; margin_micro: number }
export interface Revenue { currency: string; items: RevenueItem[] | null; totals: RevenueItem }
export interface Forecast { month: string; currency: string; spent_micro: number; forecast_micro: number; low_micro: number; high_micro: number; days: number }
