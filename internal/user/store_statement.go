package user

import (
	"context"
	"errors"
	"time"

	"maas/internal/platform/db"
	"maas/internal/user/ledger"
)

// tenantHead is name and time zone of a tenant: ErrTenantNotFound.
func tenantHead(ctx context.Context, q db.Querier, tenant string) (name, zone string, err error) {
	type head struct{ name, zone string }
	h, err := db.One(ctx, q, func(r db.Row) (h head, err error) { return h, r.Scan(&h.name, &h.zone) }, `SELECT name, timezone FROM user_tenant WHERE id = $1`, tenant)
	if isNoRow(err) {
		return "", "", ErrTenantNotFound
	}
	return h.name, h.zone, err
}

func statementLines(ctx context.Context, q db.Querier, tenant string, from, to int64) ([]StatementLine, error) {
	return db.List(ctx, q, func(r db.Row) (l StatementLine, err error) {
		return l, r.Scan(&l.Model, &l.Requests, &l.InputTokens, &l.CachedTokens, &l.OutputTokens, &l.ReasoningTokens, &l.AmountMicro, &l.rest)
	}, `SELECT u.model, `+billed+`, CAST(COALESCE(SUM(u.in_fresh), 0) AS BIGINT), CAST(COALESCE(SUM(u.in_cache), 0) AS BIGINT), CAST(COALESCE(SUM(u.out_text), 0) AS BIGINT), CAST(COALESCE(SUM(u.out_reasoning), 0) AS BIGINT), `+priceSums+`
		FROM user_usage u WHERE u.tenant_id = $1 AND u.at >= $2 AND u.at < $3 GROUP BY u.model ORDER BY u.model LIMIT 5000`, tenant, from, to)
}

// walletBefore is the balance of a wallet at a moment.
func walletBefore(ctx context.Context, q db.Querier, tenant string, at int64) (int64, error) {
	return db.One(ctx, q, db.Scalar[int64], `SELECT CAST(COALESCE(SUM(e.amount_micro), 0) AS BIGINT) FROM user_account a JOIN user_entry e ON e.account_id = a.id JOIN user_journal j ON j.id = e.journal_id
		WHERE a.tenant_id = $1 AND a.kind = 'wallet' AND j.at < $2`, tenant, at)
}

func walletMoves(ctx context.Context, q db.Querier, tenant string, from, to int64) ([]StatementMove, error) {
	return db.List(ctx, q, func(r db.Row) (m StatementMove, err error) { return m, r.Scan(&m.Kind, &m.AmountMicro) },
		`SELECT j.kind, CAST(COALESCE(SUM(e.amount_micro), 0) AS BIGINT) FROM user_journal j JOIN user_entry e ON e.journal_id = j.id JOIN user_account a ON a.id = e.account_id
		WHERE j.tenant_id = $1 AND j.at >= $2 AND j.at < $3 AND a.kind = 'wallet' GROUP BY j.kind ORDER BY j.kind`, tenant, from, to)
}

// spentIn is what calls cost between two moments, of one person unless owner is "".
func spentIn(ctx context.Context, q db.Querier, tenant, owner string, from, to time.Time) (int64, error) {
	p, err := db.One(ctx, q, func(r db.Row) (p ledger.Part, err error) { return p, r.Scan(&p.Micro, &p.Pico) },
		`SELECT `+priceSums+` FROM user_usage u WHERE u.tenant_id = $1 AND u.at >= $2 AND u.at < $3 AND ($4 = '' OR u.user_id = $4)`, tenant, db.Micro(from), db.Micro(to), owner)
	return p.Micro + p.Pico/ledger.PicoPerMicro, err
}

// firstCall is when a tenant, or one of its people, made the first call; zero = none yet.
func firstCall(ctx context.Context, q db.Querier, tenant, owner string) (time.Time, error) {
	at, err := db.One(ctx, q, db.Scalar[int64], `SELECT at FROM user_usage WHERE tenant_id = $1 AND ($2 = '' OR user_id = $2) ORDER BY at LIMIT 1`, tenant, owner)
	if errors.Is(err, db.ErrNoRow) {
		return time.Time{}, nil
	}
	return db.FromMicro(at), err
}

// sumRevenue adds up price and cost by bucket and group.
func sumRevenue(ctx context.Context, q db.Querier, uq UsageQuery, rq RevenueQuery) ([]RevenueItem, error) {
	bucket := `u.at / 3600000000 * 3600000000`
	if uq.Bucket == "1d" {
		bucket = `u.at / 86400000000 * 86400000000`
	}
	cols, by := `'', '', '', ''`, bucket
	join, whose := "", `$3 = ''`
	if rq.Tenant != "" {
		whose = `u.tenant_id = $3`
	}
	switch rq.GroupBy {
	case "tenant":
		cols, by, join = `u.tenant_id, COALESCE(t.name, ''), '', ''`, by+`, u.tenant_id, COALESCE(t.name, '')`, ` LEFT JOIN user_tenant t ON t.id = u.tenant_id`
	case "model":
		cols, by = `'', '', u.model, ''`, by+`, u.model`
	case "provider":
		cols, by = `'', '', '', u.provider_id`, by+`, u.provider_id`
	}
	return db.List(ctx, q, func(r db.Row) (RevenueItem, error) {
		var i RevenueItem
		var at, priceRest, costRest int64
		err := r.Scan(&at, &i.TenantID, &i.TenantName, &i.Model, &i.ProviderID, &i.Requests, &i.RevenueMicro, &priceRest, &i.CostMicro, &costRest)
		i.At, i.RevenueMicro, i.CostMicro = db.FromMicro(at), i.RevenueMicro+priceRest/ledger.PicoPerMicro, i.CostMicro+costRest/ledger.PicoPerMicro
		return i, err
	}, `SELECT `+bucket+`, `+cols+`, `+billed+`, `+priceSums+`, `+costSums+` FROM user_usage u`+join+` WHERE u.at >= $1 AND u.at < $2 AND `+whose+` GROUP BY `+by+` ORDER BY `+by+` LIMIT $4`,
		db.Micro(uq.From), db.Micro(uq.To), rq.Tenant, usageItemsMost)
}
