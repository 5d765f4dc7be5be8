package user

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/job"
)

// ErrLedger is a book that does not add up.
var ErrLedger = fault.New(fault.Conflict, "user.ledger_broken", "the ledger does not add up").WithHint("maas ledger verify shows what; stop bookings by hand until it is understood")

// LedgerCheck is one invariant of the books.
type LedgerCheck struct {
	ID     string `json:"id"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// LedgerReport is what a verification found.
type LedgerReport struct {
	OK     bool          `json:"ok"`
	At     time.Time     `json:"at"`
	Checks []LedgerCheck `json:"checks"`
}

// invariant is a query for rows that break it: each names the place and what is wrong there.
type invariant struct {
	id, good, text string
	args           func(now time.Time) []any
}

const badMost = 20

// invariants of the ledger. Sums of pico-units are compared as whole micro-units and rest, because the sum itself may not fit.
var invariants = []invariant{
	{id: "journals_zero", good: "the entries of every journal add up to zero", text: `SELECT e.journal_id, CAST(SUM(e.amount_micro) AS BIGINT), CAST(COUNT(*) AS BIGINT)
		FROM user_entry e GROUP BY e.journal_id HAVING SUM(e.amount_micro) <> 0 OR COUNT(*) < 2 ORDER BY e.journal_id LIMIT 20`},
	{id: "journals_whole", good: "every journal has entries", text: `SELECT j.id, CAST(0 AS BIGINT), CAST(0 AS BIGINT) FROM user_journal j LEFT JOIN user_entry e ON e.journal_id = j.id WHERE e.journal_id IS NULL ORDER BY j.id LIMIT 20`},
	{id: "balances", good: "every balance is the sum of its entries", text: `SELECT a.id, a.balance_micro, CAST(COALESCE(SUM(e.amount_micro), 0) AS BIGINT)
		FROM user_account a LEFT JOIN user_entry e ON e.account_id = a.id GROUP BY a.id, a.balance_micro HAVING a.balance_micro <> COALESCE(SUM(e.amount_micro), 0) ORDER BY a.id LIMIT 20`},
	{id: "accounts_zero", good: "the accounts of every organisation add up to zero", text: `SELECT a.tenant_id, CAST(SUM(a.balance_micro) AS BIGINT), CAST(0 AS BIGINT)
		FROM user_account a GROUP BY a.tenant_id HAVING SUM(a.balance_micro) <> 0 ORDER BY a.tenant_id LIMIT 20`},
	{id: "usage_posted", good: "what calls cost is what was posted, with the carried rest", text: `SELECT w.id, CAST(COALESCE(u.whole, 0) AS BIGINT), CAST(COALESCE(p.micro, 0) AS BIGINT) FROM user_account w
		LEFT JOIN (SELECT x.tenant_id, CAST(SUM(x.price_pico / 1000000) AS BIGINT) + CAST(SUM(x.price_pico % 1000000) AS BIGINT) / 1000000 AS whole, CAST(SUM(x.price_pico % 1000000) AS BIGINT) % 1000000 AS rest FROM user_usage x GROUP BY x.tenant_id) u ON u.tenant_id = w.tenant_id
		LEFT JOIN (SELECT e.account_id, -SUM(e.amount_micro) AS micro FROM user_entry e JOIN user_journal j ON j.id = e.journal_id WHERE j.kind = 'usage' GROUP BY e.account_id) p ON p.account_id = w.id
		WHERE w.kind = 'wallet' AND (COALESCE(u.whole, 0) <> COALESCE(p.micro, 0) OR COALESCE(u.rest, 0) <> w.carry_pico) ORDER BY w.id LIMIT 20`},
	{id: "usage_wallets", good: "every organisation whose calls cost something has a wallet", text: `SELECT u.tenant_id, CAST(COUNT(*) AS BIGINT), CAST(0 AS BIGINT) FROM user_usage u
		LEFT JOIN user_account w ON w.tenant_id = u.tenant_id AND w.kind = 'wallet' WHERE u.price_pico > 0 AND w.id IS NULL GROUP BY u.tenant_id ORDER BY u.tenant_id LIMIT 20`},
	{id: "requests_once", good: "every request was booked once", text: `SELECT u.request_id, CAST(COUNT(*) AS BIGINT), CAST(0 AS BIGINT) FROM user_usage u GROUP BY u.request_id HAVING COUNT(*) > 1 ORDER BY u.request_id LIMIT 20`},
	{
		id: "leases_due", good: "no lease is held past its grace", text: `SELECT l.id, l.amount, l.expires_at FROM user_lease l WHERE l.state <> 'closed' AND l.expires_at < $1 ORDER BY l.id LIMIT 20`,
		args: func(now time.Time) []any { return []any{db.Micro(now.Add(-leaseGrace - 10*time.Minute))} },
	}, // the sweeper comes every minute
	{id: "wallets_leased", good: "wallets hold back what their leases hold", text: `SELECT w.id, w.leased_micro, CAST(COALESCE(SUM(l.amount), 0) AS BIGINT)
		FROM user_account w LEFT JOIN user_lease l ON l.target = w.id AND l.state <> 'closed' GROUP BY w.id, w.leased_micro HAVING w.leased_micro <> COALESCE(SUM(l.amount), 0) ORDER BY w.id LIMIT 20`},
	{id: "budgets_leased", good: "budgets hold back what their leases hold", text: `SELECT p.budget_id, p.leased, CAST(COALESCE(SUM(l.amount), 0) AS BIGINT)
		FROM user_budget_period p LEFT JOIN user_lease l ON l.target = p.budget_id AND l.starts_at = p.starts_at AND l.state <> 'closed'
		GROUP BY p.budget_id, p.starts_at, p.leased HAVING p.leased <> COALESCE(SUM(l.amount), 0) ORDER BY p.budget_id LIMIT 20`},
}

// VerifyLedger checks every invariant of the books, each on a snapshot of its own: a broken one is in the report, not an error.
func (s *Service) VerifyLedger(ctx context.Context) (LedgerReport, error) {
	return VerifyLedger(ctx, s.DB, s.Now())
}

// VerifyLedger is the same for a database without a service: for the doctor.
func VerifyLedger(ctx context.Context, d *db.DB, now time.Time) (LedgerReport, error) {
	r := LedgerReport{OK: true, At: now}
	for _, inv := range invariants {
		var bad []string
		err := d.System().Read(ctx, func(ctx context.Context, q *db.Query) error {
			var err error
			bad, err = broken(ctx, q, inv, now)
			return err
		})
		if err != nil {
			return r, fmt.Errorf("check %s: %w", inv.id, err)
		}
		r.add(inv.id, inv.good, bad)
	}
	bad, err := brokenBudgets(ctx, d.System())
	r.add("budgets_used", "budgets count what the calls of their period used", bad)
	return r, err
}

func (r *LedgerReport) add(id, good string, bad []string) {
	c := LedgerCheck{ID: id, OK: len(bad) == 0, Detail: good}
	if !c.OK {
		r.OK = false
		c.Detail = "not so: " + good + ": " + strings.Join(bad, "; ")
		if len(bad) >= badMost {
			c.Detail += "; and perhaps more"
		}
	}
	r.Checks = append(r.Checks, c)
}

func broken(ctx context.Context, q db.Querier, inv invariant, now time.Time) ([]string, error) {
	var args []any
	if inv.args != nil {
		args = inv.args(now)
	}
	return db.List(ctx, q, func(r db.Row) (string, error) {
		var where string
		var have, want int64
		err := r.Scan(&where, &have, &want)
		return fmt.Sprintf("%s (%d, %d)", where, have, want), err
	}, inv.text, args...)
}

// spanOf is what budgets of one kind of subject in one tenant count in one period.
type spanOf struct {
	tenant, kind string
	start, end   int64
}

// brokenBudgets compares the newest periods with the usage rows: those of one tenant, kind of subject and span by one sum, on a snapshot. A period that began under another time zone of the tenant counts on no more
// and is passed over.
func brokenBudgets(ctx context.Context, d *db.DB) ([]string, error) {
	spans := map[spanOf][]Budget{}
	err := d.Read(ctx, func(ctx context.Context, q *db.Query) error {
		type row struct {
			Budget
			start, end int64
		}
		rows, err := db.List(ctx, q, func(r db.Row) (x row, err error) {
			return x, r.Scan(&x.ID, &x.tenantID, &x.Subject.Kind, &x.Subject.ID, &x.Unit, &x.Window, &x.zone, &x.start, &x.end)
		}, `SELECT b.id, b.tenant_id, b.subject_kind, b.subject_id, b.unit, b.win, t.timezone, p.starts_at, p.ends_at FROM user_budget_period p JOIN user_budget b ON b.id = p.budget_id JOIN user_tenant t ON t.id = b.tenant_id
			WHERE b.deleted_at = 0 ORDER BY p.starts_at DESC, b.id LIMIT 20000`)
		for _, x := range rows {
			if start, end := x.period(db.FromMicro(x.start)); db.Micro(start) == x.start && db.Micro(end) == x.end {
				k := spanOf{x.tenantID, x.Subject.Kind, x.start, x.end}
				spans[k] = append(spans[k], x.Budget)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var bad []string
	for k, budgets := range spans {
		err := d.Read(ctx, func(ctx context.Context, q *db.Query) error {
			used, err := usedBySubject(ctx, q, k)
			if err != nil {
				return err
			}
			for _, b := range budgets {
				p, err := periodOf(ctx, q, b.ID, k.start)
				if err != nil {
					return err
				}
				if n, carry := used[b.Subject.ID].of(b.Unit); n != p.used || carry != p.carry {
					bad = append(bad, fmt.Sprintf("%s (%d, %d)", b.ID, p.used, n))
				}
			}
			return nil
		})
		if err != nil || len(bad) >= badMost {
			return bad, err
		}
	}
	slices.Sort(bad)
	return bad, nil
}

// ledgerVerify is the nightly check of the books.
var ledgerVerify = job.Kind[struct{}]{Name: "user.ledger_verify", Lane: "maintenance", MaxAttempts: 3}

// runLedgerVerify fails for good when the books do not add up, so that the job stands on the list of failures until somebody looked.
func (s *Service) runLedgerVerify(ctx context.Context, _ *job.Run, _ struct{}) error {
	r, err := s.VerifyLedger(ctx)
	if err != nil {
		return err
	}
	for _, c := range r.Checks {
		if !c.OK {
			s.Log.ErrorContext(ctx, "the ledger does not add up", "check", c.ID, "detail", c.Detail)
		}
	}
	s.metrics.ledgerBroken.Set(float64(r.broken()))
	if !r.OK {
		return ErrLedger.With("%d checks of the ledger fail", r.broken())
	}
	return nil
}

func (r *LedgerReport) broken() int {
	n := 0
	for _, c := range r.Checks {
		if !c.OK {
			n++
		}
	}
	return n
}

// ledgerJobs registers the background work of money.
func (s *Service) ledgerJobs(r *job.Registry) {
	job.Handle(r, ledgerVerify, s.runLedgerVerify)
	job.Schedule(r, "user.ledger_verify", "17 3 * * *", ledgerVerify, struct{}{})
}
