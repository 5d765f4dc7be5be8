package user

import (
	"context"
	"math"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

const budgetCols = `b.id, b.tenant_id, b.subject_kind, b.subject_id, b.name, b.unit, b.most, b.win, b.hard, b.extra, b.extra_until, b.extra_reason, b.extra_by, b.deleted_at, b.created_at, b.updated_at, b.rev, t.timezone
	FROM user_budget b JOIN user_tenant t ON t.id = b.tenant_id `

func scanBudget(r db.Row) (Budget, error) {
	var b Budget
	var until, deleted, created, updated int64
	err := r.Scan(&b.ID, &b.tenantID, &b.Subject.Kind, &b.Subject.ID, &b.Name, &b.Unit, &b.Limit, &b.Window, &b.Hard, &b.Extra, &until, &b.ExtraReason, &b.ExtraBy, &deleted, &created, &updated, &b.Rev, &b.zone)
	b.ExtraUntil, b.CreatedAt, b.UpdatedAt, b.deleted = db.FromMicro(until), db.FromMicro(created), db.FromMicro(updated), deleted != 0
	return b, err
}

func insertBudget(ctx context.Context, tx *db.Tx, b Budget, version int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_budget (id, tenant_id, subject_kind, subject_id, name, unit, most, win, hard, extra, extra_until, extra_reason, extra_by, deleted_at, version, created_at, updated_at, rev)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, '', '', 0, $10, $11, $11, 1)`,
		b.ID, b.tenantID, b.Subject.Kind, b.Subject.ID, b.Name, string(b.Unit), b.Limit, string(b.Window), b.Hard, version, db.Micro(b.CreatedAt))
	return err
}

func updateBudget(ctx context.Context, tx *db.Tx, b Budget, version int64) error {
	deleted := int64(0)
	if b.deleted {
		deleted = db.Micro(b.UpdatedAt)
	}
	n, err := tx.Exec(ctx, `UPDATE user_budget SET name = $4, most = $5, hard = $6, extra = $7, extra_until = $8, extra_reason = $9, extra_by = $10, deleted_at = $11, version = $12, updated_at = $13, rev = rev + 1
		WHERE tenant_id = $1 AND id = $2 AND rev = $3`,
		b.tenantID, b.ID, b.Rev, b.Name, b.Limit, b.Hard, b.Extra, db.Micro(b.ExtraUntil), b.ExtraReason, b.ExtraBy, deleted, version, db.Micro(b.UpdatedAt))
	return db.Guard(n, err, ErrStaleBudget)
}

func budgetByID(ctx context.Context, q db.Querier, tenant, bid string) (Budget, error) {
	b, err := db.One(ctx, q, scanBudget, `SELECT `+budgetCols+`WHERE b.tenant_id = $1 AND b.id = $2 AND b.deleted_at = 0`, tenant, bid)
	if isNoRow(err) {
		return b, ErrBudgetNotFound.With("there is no budget %q", bid)
	}
	return b, err
}

// budgetsOf lists the budgets of a tenant, newest first; of one subject unless it is "".
func budgetsOf(ctx context.Context, q db.Querier, tenant, subject string, at int64, before string, limit int) ([]Budget, error) {
	return db.List(ctx, q, scanBudget, `SELECT `+budgetCols+`WHERE b.tenant_id = $1 AND b.deleted_at = 0 AND ($2 = '' OR b.subject_id = $2) AND (b.created_at, b.id) < ($3, $4) ORDER BY b.created_at DESC, b.id DESC LIMIT $5`,
		tenant, subject, at, before, limit)
}

// budgetsFor lists the budgets of some subjects of a tenant, by id.
func budgetsFor(ctx context.Context, q db.Querier, tenant string, subjects []string) ([]Budget, error) {
	var all []Budget
	for len(subjects) > 0 {
		n := min(len(subjects), 500)
		args := []any{tenant}
		for _, s := range subjects[:n] {
			args = append(args, s)
		}
		list, err := db.List(ctx, q, scanBudget, `SELECT `+budgetCols+`WHERE b.tenant_id = $1 AND b.deleted_at = 0 AND b.subject_id IN (`+db.In(2, n)+`) ORDER BY b.id`, args...)
		if err != nil {
			return nil, err
		}
		all, subjects = append(all, list...), subjects[n:]
	}
	return all, nil
}

// budgetByTarget finds the budget that a lease is asked of, in any tenant; db.ErrNoRow.
func budgetByTarget(ctx context.Context, q db.Querier, bid string) (Budget, error) {
	return db.One(ctx, q, scanBudget, `SELECT `+budgetCols+`WHERE b.id = $1`, bid)
}

// budgetsSince lists budgets changed after a version, deleted ones too.
func budgetsSince(ctx context.Context, q db.Querier, since int64) ([]BudgetGrant, error) {
	return db.List(ctx, q, func(r db.Row) (BudgetGrant, error) {
		var g BudgetGrant
		var deleted int64
		err := r.Scan(&g.ID, &g.TenantID, &g.Kind, &g.Subject, &g.Unit, &g.Hard, &deleted)
		g.Deleted = deleted != 0
		return g, err
	}, `SELECT id, tenant_id, subject_kind, subject_id, unit, hard, deleted_at FROM user_budget WHERE version > $1 AND ($1 > 0 OR deleted_at = 0) ORDER BY version, id`, since)
}

// period is a row of user_budget_period.
type period struct {
	start, end, used, leased, carry, told int64
}

func periodOf(ctx context.Context, q db.Querier, bid string, start int64) (period, error) {
	return db.One(ctx, q, scanPeriod, `SELECT `+periodCols+` FROM user_budget_period WHERE budget_id = $1 AND starts_at = $2`, bid, start)
}

const periodCols = `starts_at, ends_at, used, leased, carry_pico, told`

func scanPeriod(r db.Row) (period, error) {
	var p period
	err := r.Scan(&p.start, &p.end, &p.used, &p.leased, &p.carry, &p.told)
	return p, err
}

// openPeriod makes the row of a period with what the usage rows say so far. The tenant's wallet must be locked, so that no batch lies between the sum and the row.
func openPeriod(ctx context.Context, tx *db.Tx, b Budget, start, end time.Time) (period, error) {
	p := period{start: db.Micro(start), end: db.Micro(end)}
	var err error
	if p.used, p.carry, err = usedIn(ctx, tx, b, p.start, p.end); err != nil {
		return p, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_budget_period (budget_id, starts_at, ends_at, tenant_id, used, leased, carry_pico, told) VALUES ($1, $2, $3, $4, $5, 0, $6, 0)`, b.ID, p.start, p.end, b.tenantID, p.used, p.carry)
	return p, err
}

func setUsed(ctx context.Context, tx *db.Tx, bid string, p period) error {
	_, err := tx.Exec(ctx, `UPDATE user_budget_period SET used = $3, carry_pico = $4, told = $5 WHERE budget_id = $1 AND starts_at = $2`, bid, p.start, p.used, p.carry, p.told)
	return err
}

// subjectCol is the column of a usage row that names a kind of subject.
var subjectCol = map[string]string{"tenant": "tenant_id", "project": "project_id", "user": "user_id", "key": "key_id"}

const (
	// billed counts the calls that an engine answered; what reached none costs nothing and counts in no budget.
	billed = `COUNT(CASE WHEN u.source <> 'none' THEN 1 END)`
	// picoSums are two columns whose sums fit where the sum of the amounts would not.
	priceSums = `CAST(COALESCE(SUM(u.price_pico / 1000000), 0) AS BIGINT), CAST(COALESCE(SUM(u.price_pico % 1000000), 0) AS BIGINT)`
	costSums  = `CAST(COALESCE(SUM(u.cost_pico / 1000000), 0) AS BIGINT), CAST(COALESCE(SUM(u.cost_pico % 1000000), 0) AS BIGINT)`
)

// sums is what usage rows add up to.
type sums struct{ requests, tokens, micro, rest int64 }

// of is the part of the sums that a unit counts: micro-units and the rest in pico-units for money.
func (s sums) of(u meter.Unit) (used, carry int64) {
	if u == meter.Requests {
		return s.requests, 0
	}
	if u == meter.Tokens {
		return s.tokens, 0
	}
	return s.micro + s.rest/ledger.PicoPerMicro, s.rest % ledger.PicoPerMicro
}

const sumCols = billed + `, CAST(COALESCE(SUM(u.in_fresh + u.in_cache + u.out_text + u.out_reasoning), 0) AS BIGINT), ` + priceSums + ` FROM user_usage u WHERE u.tenant_id = $1 AND u.at >= $2 AND u.at < $3`

// ended is the end of a period for a comparison: 0 means that it has none.
func ended(to int64) int64 {
	if to == 0 {
		return math.MaxInt64
	}
	return to
}

// usedIn adds up what a budget counts between two moments (microseconds; to 0 = without end).
func usedIn(ctx context.Context, q db.Querier, b Budget, from, to int64) (used, carry int64, err error) {
	s, err := db.One(ctx, q, func(r db.Row) (s sums, err error) { return s, r.Scan(&s.requests, &s.tokens, &s.micro, &s.rest) },
		`SELECT `+sumCols+` AND u.`+subjectCol[b.Subject.Kind]+` = $4`, b.tenantID, from, ended(to), b.Subject.ID)
	used, carry = s.of(b.Unit)
	return used, carry, err
}

// usedBySubject adds up a span for every subject of a kind.
func usedBySubject(ctx context.Context, q db.Querier, k spanOf) (map[string]sums, error) {
	col := `u.` + subjectCol[k.kind]
	out := map[string]sums{}
	_, err := db.List(ctx, q, func(r db.Row) (struct{}, error) {
		var id string
		var s sums
		err := r.Scan(&id, &s.requests, &s.tokens, &s.micro, &s.rest)
		out[id] = s
		return struct{}{}, err
	}, `SELECT `+col+`, `+sumCols+` GROUP BY `+col+` ORDER BY `+col, k.tenant, k.start, ended(k.end))
	return out, err
}
