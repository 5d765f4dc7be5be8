package user

import (
	"context"
	"time"

	"maas/internal/platform/db"
)

// The states of a lease. What an open one holds may be spent; what a returned or lost one holds waits for usage that was spent on it; a closed one holds nothing.
const (
	leaseOpen     = "open"
	leaseReturned = "returned"
	leaseLost     = "lost"
	leaseClosed   = "closed"
)

// lease is a row of user_lease.
type lease struct {
	id, tenant, node, ask, target, state string
	epoch, start, end, granted, amount   int64 // start and end: the budget's period
}

func (l lease) periodEnd() time.Time { return db.FromMicro(l.end) }

const leaseCols = `l.id, l.tenant_id, l.node, l.ask_id, l.target, l.state, l.epoch, l.starts_at, COALESCE(p.ends_at, 0), l.granted, l.amount
	FROM user_lease l LEFT JOIN user_budget_period p ON p.budget_id = l.target AND p.starts_at = l.starts_at `

func scanLease(r db.Row) (lease, error) {
	var l lease
	err := r.Scan(&l.id, &l.tenant, &l.node, &l.ask, &l.target, &l.state, &l.epoch, &l.start, &l.end, &l.granted, &l.amount)
	return l, err
}

func leaseByAsk(ctx context.Context, q db.Querier, node, ask string) (lease, error) {
	return db.One(ctx, q, scanLease, `SELECT `+leaseCols+`WHERE l.node = $1 AND l.ask_id = $2`, node, ask)
}

func leaseByID(ctx context.Context, q db.Querier, lid string) (lease, error) {
	return db.One(ctx, q, scanLease, `SELECT `+leaseCols+`WHERE l.id = $1`, lid)
}

func insertLease(ctx context.Context, tx *db.Tx, l lease, now, until time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_lease (id, tenant_id, node, ask_id, epoch, target, starts_at, granted, amount, state, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 'open', $9, $10)`,
		l.id, l.tenant, l.node, l.ask, l.epoch, l.target, l.start, l.granted, db.Micro(now), db.Micro(until))
	return err
}

func keepLease(ctx context.Context, tx *db.Tx, lid string, until time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_lease SET expires_at = $2 WHERE id = $1 AND state = 'open' AND expires_at < $2`, lid, db.Micro(until))
	return err
}

// lockAccount locks an account for what is leased of it.
func lockAccount(ctx context.Context, tx *db.Tx, aid string) (bookAccount, error) {
	return db.One(ctx, tx, scanAccount, `UPDATE user_account SET leased_micro = leased_micro WHERE id = $1 RETURNING `+accountCols, aid)
}

func lockedPeriod(ctx context.Context, tx *db.Tx, bid string, start int64) (period, error) {
	return db.One(ctx, tx, scanPeriod, `UPDATE user_budget_period SET leased = leased WHERE budget_id = $1 AND starts_at = $2 RETURNING `+periodCols, bid, start)
}

// liveNodes counts the other nodes that hold a live lease of a target.
func liveNodes(ctx context.Context, q db.Querier, target, node string, now time.Time) (int, error) {
	return db.One(ctx, q, db.Scalar[int], `SELECT COUNT(DISTINCT node) FROM user_lease WHERE target = $1 AND state = 'open' AND node <> $2 AND expires_at > $3`, target, node, db.Micro(now))
}

// closeLease ends an open or lost lease of which unused is given back, and returns how much of that it still held; db.ErrNoRow if it is over.
func closeLease(ctx context.Context, tx *db.Tx, lid string, unused int64, now time.Time) (int64, error) {
	amount, err := db.One(ctx, tx, db.Scalar[int64], `SELECT amount FROM user_lease WHERE id = $1 AND state IN ('open', 'lost')`, lid)
	if err != nil {
		return 0, err
	}
	n := min(unused, amount)
	state := leaseReturned
	if n == amount {
		state = leaseClosed
	}
	_, err = tx.Exec(ctx, `UPDATE user_lease SET amount = amount - $2, state = $3, expires_at = $4 WHERE id = $1`, lid, n, state, db.Micro(now))
	return n, err
}

// endLease closes a returned or lost lease whatever it holds, and returns that; db.ErrNoRow if it is over or in use again.
func endLease(ctx context.Context, tx *db.Tx, lid string) (int64, error) {
	amount, err := db.One(ctx, tx, db.Scalar[int64], `SELECT amount FROM user_lease WHERE id = $1 AND state IN ('returned', 'lost')`, lid)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `UPDATE user_lease SET amount = 0, state = 'closed' WHERE id = $1`, lid)
	return amount, err
}

func loseLeases(ctx context.Context, tx *db.Tx, now time.Time) (int64, error) {
	return tx.Exec(ctx, `UPDATE user_lease SET state = 'lost' WHERE state = 'open' AND expires_at < $1`, db.Micro(now))
}

// leasesOver lists leases that have waited since before a moment.
func leasesOver(ctx context.Context, q db.Querier, before time.Time, limit int) ([]lease, error) {
	return db.List(ctx, q, scanLease, `SELECT `+leaseCols+`WHERE l.state IN ('returned', 'lost') AND l.expires_at < $1 ORDER BY l.expires_at, l.id LIMIT $2`, db.Micro(before), limit)
}

// forgetLeases deletes leases that were over before a moment, some thousand at a time.
func forgetLeases(ctx context.Context, tx *db.Tx, before time.Time) error {
	_, err := tx.Exec(ctx, `DELETE FROM user_lease WHERE id IN (SELECT id FROM user_lease WHERE state = 'closed' AND expires_at < $1 ORDER BY expires_at LIMIT 5000)`, db.Micro(before))
	return err
}
