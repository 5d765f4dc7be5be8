package db

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"maas/internal/platform/auth"
)

// Row is what a scan function reads from.
type Row interface{ Scan(dest ...any) error }

// Querier reads: *Tx and *Query. Prefer List and One, which close and translate. A second statement must not start while rows are open.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (*sql.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) Row // Scan answers ErrNoRow without a row
}

// reader is the reading half of both.
type reader struct {
	d      *DB
	tx     *sql.Tx
	broken *error // the first statement that the engine refused; nil in snapshots
}

// Query is a read-only snapshot: all statements see the same moment.
type Query struct{ reader }

// Tx is a write transaction. It reads its own writes. After an error of the database nothing may follow but returning it: a transaction that goes on is not committed (ErrAborted), on both engines.
type Tx struct {
	reader
	scope scope
	after []func()
}

// Query runs a statement that gives rows. The caller closes them.
func (q reader) Query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	rows, err := q.tx.QueryContext(ctx, text, args...)
	return rows, q.translate(err)
}

// QueryRow runs a statement that gives at most one row.
func (q reader) QueryRow(ctx context.Context, text string, args ...any) Row {
	return row{q, q.tx.QueryRowContext(ctx, text, args...)}
}

type row struct {
	q reader
	r *sql.Row
}

func (r row) Scan(dest ...any) error { return r.q.translate(r.r.Scan(dest...)) }

// Exec runs one statement and returns the rows affected.
func (t *Tx) Exec(ctx context.Context, text string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, t.translate(err)
	}
	return res.RowsAffected()
}

// After has f called once the outermost transaction is committed, in order; not at all if it rolls back.
func (t *Tx) After(f func()) { t.after = append(t.after, f) }

// Notify wakes the listeners of a name in this process after the commit (see DB.Listen).
func (t *Tx) Notify(name string) { t.After(func() { t.d.hub.wake(name) }) }

// ForUpdate is the clause that locks the rows of a SELECT and passes over those locked by others; empty on SQLite, where a writer is alone. of names the table or its alias.
func (t *Tx) ForUpdate(of string) string {
	if t.d.driver.Dialect == SQLite {
		return ""
	}
	return " FOR UPDATE OF " + of + " SKIP LOCKED"
}

// List runs a query and scans all its rows.
func List[T any](ctx context.Context, q Querier, scan func(Row) (T, error), text string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return nil, translate(q, err)
	}
	return list, nil
}

// One runs a query and scans its first row; ErrNoRow if there is none.
func One[T any](ctx context.Context, q Querier, scan func(Row) (T, error), text string, args ...any) (T, error) {
	v, err := scan(q.QueryRow(ctx, text, args...))
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// Scalar is the scan function of a query with one column.
func Scalar[T any](r Row) (T, error) {
	var v T
	return v, r.Scan(&v)
}

// translate also notes that the engine refused a statement: PostgreSQL then refuses all others of the transaction, SQLite would go on.
func (q reader) translate(err error) error {
	out := q.d.fault(err)
	if err != nil && q.broken != nil && *q.broken == nil && !errors.Is(err, sql.ErrNoRows) && q.d.driver.Translate(err) != err { //nolint:errorlint // identity: was it translated?
		*q.broken = out
	}
	return out
}

func translate(q Querier, err error) error {
	if r, ok := q.(interface{ translate(error) error }); ok {
		return r.translate(err)
	}
	return err
}

type txKey struct{ s *shared }

// attempts of a write transaction that is refused for reasons of timing, with random waits between them: up to 20 ms at first, doubled up to 1 s.
const attempts = 10

// Tx runs f in a write transaction of the tenant of ctx and commits when it returns nil. A Tx inside a Tx of the same database joins it. Transactions refused for reasons of timing are repeated, so f must
// have no effects outside but through After. A panic rolls back and goes on.
func (d *DB) Tx(ctx context.Context, f func(ctx context.Context, tx *Tx) error) error {
	if !d.system && !d.within && auth.Tenant(ctx) == "" {
		return ErrNoTenant
	}
	if outer, ok := ctx.Value(txKey{d.shared}).(*Tx); ok {
		return d.inside(ctx, outer, func() error { return f(ctx, outer) })
	}
	wait := 20 * time.Millisecond
	for try := 1; ; try++ {
		err := d.once(ctx, f)
		if err == nil || !d.driver.Retry(err) || ctx.Err() != nil || try == attempts {
			return d.fault(err)
		}
		select {
		case <-time.After(rand.N(wait)):
		case <-ctx.Done():
			return d.fault(ctx.Err())
		}
		wait = min(2*wait, time.Second)
	}
}

// scope is whose rows a transaction sees.
type scope struct {
	tenant string
	system bool
}

func (d *DB) scope(ctx context.Context) scope {
	tenant := auth.Tenant(ctx)
	return scope{tenant, d.system || d.within && tenant == ""}
}

func (d *DB) enter(ctx context.Context, raw *sql.Tx, s scope) error {
	if d.driver.Enter == nil {
		return nil
	}
	return d.driver.Enter(ctx, raw, s.tenant, s.system)
}

// inside runs f in an outer transaction with the scope of this handle, and gives the outer one its own back.
func (d *DB) inside(ctx context.Context, outer *Tx, f func() error) error {
	was, now := outer.scope, d.scope(ctx)
	if was == now || d.driver.Enter == nil {
		return f()
	}
	if err := d.enter(ctx, outer.tx, now); err != nil {
		return d.fault(err)
	}
	outer.scope = now
	err := f()
	outer.scope = was
	if back := d.enter(ctx, outer.tx, was); err == nil && *outer.broken == nil {
		err = d.fault(back)
	}
	return err
}

func (d *DB) once(ctx context.Context, f func(context.Context, *Tx) error) (err error) {
	raw, err := d.driver.Write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	var broken error
	tx := &Tx{reader: reader{d, raw, &broken}, scope: d.scope(ctx)}
	done := false
	defer func() {
		if !done { // f panicked or failed
			_ = raw.Rollback()
		}
	}()
	if err := d.enter(ctx, raw, tx.scope); err != nil {
		return err
	}
	if err := f(context.WithValue(ctx, txKey{d.shared}, tx), tx); err != nil {
		return err
	}
	if broken != nil {
		return ErrAborted.Wrap(broken)
	}
	if err := raw.Commit(); err != nil {
		return err
	}
	done = true
	for _, f := range tx.after {
		f()
	}
	return nil
}

// readLimit ends snapshots that were forgotten: on SQLite they keep the log from being cut, on PostgreSQL rows from being cleaned.
const readLimit = 30 * time.Second

// Read runs f on a read-only snapshot of the tenant of ctx, for at most 30 seconds. Inside a Tx it reads in that transaction.
func (d *DB) Read(ctx context.Context, f func(ctx context.Context, q *Query) error) error {
	if !d.system && !d.within && auth.Tenant(ctx) == "" {
		return ErrNoTenant
	}
	if outer, ok := ctx.Value(txKey{d.shared}).(*Tx); ok {
		return d.inside(ctx, outer, func() error { return f(ctx, &Query{outer.reader}) })
	}
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	opts := d.driver.ReadTx
	raw, err := d.driver.Read.BeginTx(ctx, &opts)
	if err != nil {
		return d.fault(err)
	}
	defer func() { _ = raw.Rollback() }() // nothing to commit
	if err := d.enter(ctx, raw, d.scope(ctx)); err != nil {
		return d.fault(err)
	}
	return d.fault(f(ctx, &Query{reader{d, raw, nil}}))
}
