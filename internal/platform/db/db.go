package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"maas/internal/platform/fault"
)

// Errors of this package. Constraint errors carry the columns as fields (without tenant_id).
var (
	ErrNoRow       = fault.New(fault.NotFound, "db.no_row", "there is no such row")
	ErrDuplicate   = fault.New(fault.Conflict, "db.duplicate", "another object has this value already")
	ErrReference   = fault.New(fault.Conflict, "db.reference", "the object refers to one that is missing, or is still in use")
	ErrCheck       = fault.New(fault.Invalid, "db.check", "the value is not allowed here")
	ErrDiskFull    = fault.New(fault.Unavailable, "db.disk_full", "the database has no space left")
	ErrUnavailable = fault.New(fault.Unavailable, "db.unavailable", "the database does not answer")
	ErrBusy        = fault.New(fault.Unavailable, "db.busy", "the database is busy, try again")
	ErrTimeout     = fault.New(fault.Unavailable, "db.timeout", "the database took too long")
	ErrInUse       = fault.New(fault.Unavailable, "db.in_use", "another process has this database file open")
	ErrNoTenant    = fault.New(fault.Internal, "db.no_tenant", "a query ran without a tenant")
	ErrBadURL      = fault.New(fault.Invalid, "db.bad_url", "this database URL cannot be used")
	ErrAborted     = fault.New(fault.Internal, "db.aborted", "a transaction went on after an error of the database")
	ErrSchema      = fault.New(fault.Unavailable, "db.schema", "the tables are not those of this version")
)

// Dialect is the engine behind a DB, for the few places where the text must differ.
type Dialect string

// The engines.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// Config says which database to open.
type Config struct {
	URL     string `yaml:"url"`      // sqlite:PATH or postgres://user:password@host/name
	Sync    string `yaml:"sync"`     // SQLite only: full (default) survives power cuts, normal may lose the last commits
	RLS     string `yaml:"rls"`      // PostgreSQL only: row-level security as a second wall between tenants: auto (default: where the login may make roles), on, off
	MaxOpen int    `yaml:"max_open"` // connections at most; 0 = four per core, at most 50 (PostgreSQL); readers on SQLite: one per core, at least 4
}

// Driver is what an engine gives to Open. Write and Read may be the same pool.
type Driver struct {
	Dialect     Dialect
	Write, Read *sql.DB
	ReadTx      sql.TxOptions                                                           // options of a snapshot
	Translate   func(error) error                                                       // engine error -> fault of this package; others unchanged
	Retry       func(error) bool                                                        // the transaction was refused for reasons of timing: repeat it
	Migrate     func(ctx context.Context, f func(context.Context, *sql.DB) error) error // runs f alone on this database, without time limits
	Enter       Wall                                                                    // nil = the engine has no second wall between tenants
	Walled      func() bool                                                             // may be nil
	Protect     func(ctx context.Context) error                                         // puts tables made by migrations behind the wall; may be nil
	Close       func() error                                                            // closes pools and locks
}

// Wall lets a transaction see the rows of one tenant, or of all, until its end.
type Wall func(ctx context.Context, tx *sql.Tx, tenant string, system bool) error

var (
	driversMu sync.Mutex // guards drivers, written by init functions
	drivers   = map[string]func(context.Context, Config) (*Driver, error){}
)

// Register adds an engine under a URL scheme. Called by init functions of drivers.
func Register(scheme string, open func(context.Context, Config) (*Driver, error)) {
	driversMu.Lock()
	defer driversMu.Unlock()
	drivers[scheme] = open
}

// DB is a database handle, safe for concurrent use. Copies made by System share pools.
type DB struct {
	*shared
	system bool
	within bool
}

type shared struct {
	driver *Driver
	hub    hub
}

// Open connects to the database of the URL and checks that it can be used. It never changes tables: see Migrate. ErrBadURL for an unknown scheme, ErrInUse if another process holds the file.
func Open(ctx context.Context, c Config) (*DB, error) {
	scheme, _, ok := strings.Cut(c.URL, ":")
	driversMu.Lock()
	open := drivers[scheme]
	names := make([]string, 0, len(drivers))
	for n := range drivers {
		names = append(names, n)
	}
	driversMu.Unlock()
	if !ok || open == nil {
		slices.Sort(names)
		return nil, ErrBadURL.With("the database URL begins with %q; this program knows %s", scheme, strings.Join(names, ", "))
	}
	d, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	return &DB{shared: &shared{driver: d}}, nil
}

// Close ends all connections. Transactions under way fail.
func (d *DB) Close() error { return d.driver.Close() }

// Dialect names the engine.
func (d *DB) Dialect() Dialect { return d.driver.Dialect }

// System returns a handle that needs no tenant in the context: for work across tenants (jobs, events, migrations, sign-in).
func (d *DB) System() *DB { return &DB{shared: d.shared, system: true} }

// Within returns a handle for a service that serves both people of a tenant and the program itself: it keeps to the tenant of the context where there is one, and needs none else.
func (d *DB) Within() *DB { return &DB{shared: d.shared, within: true} }

// Walled reports whether the engine keeps tenants apart too (row-level security on PostgreSQL).
func (d *DB) Walled() bool { return d.driver.Walled != nil && d.driver.Walled() }

// Ping asks the database for a sign of life.
func (d *DB) Ping(ctx context.Context) error {
	var one int
	if err := d.driver.Read.QueryRowContext(ctx, "SELECT 1").Scan(&one); err != nil {
		return d.fault(err)
	}
	return nil
}

// Skew returns how far the clock of the database is ahead of this process's; always 0 on SQLite. Half the round trip is taken off.
func (d *DB) Skew(ctx context.Context) (time.Duration, error) {
	if d.driver.Dialect == SQLite {
		return 0, nil
	}
	var at int64
	start := time.Now()
	if err := d.driver.Read.QueryRowContext(ctx, "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)").Scan(&at); err != nil {
		return 0, d.fault(err)
	}
	trip := time.Since(start)
	return FromMicro(at).Sub(start.Add(trip / 2)), nil
}

// fault translates an engine's error, also inside a chain; faults and foreign errors stay as they are.
func (d *DB) fault(err error) error {
	var f *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return ErrNoRow.Wrap(err)
	case errors.Is(err, context.DeadlineExceeded):
		return ErrTimeout.Wrap(err)
	case errors.Is(err, context.Canceled):
		return err
	}
	if t := d.driver.Translate(err); t != err { //nolint:errorlint // identity: was it translated?
		return t
	}
	if errors.Is(err, sql.ErrConnDone) {
		return ErrUnavailable.Wrap(err)
	}
	return err
}

// Duplicate reports whether err is ErrDuplicate on a unique key that holds the column.
func Duplicate(err error, column string) bool {
	return errors.Is(err, ErrDuplicate) && slices.ContainsFunc(fault.From(err).Fields, func(f fault.Field) bool { return f.Name == column })
}

// Violation makes a constraint fault with its columns. For drivers.
func Violation(e *fault.Error, columns []string, cause error) error {
	code := "duplicate"
	if errors.Is(e, ErrReference) {
		code = "not_found"
	}
	for _, c := range columns {
		if c != "tenant_id" && c != "" {
			e = e.WithFields(fault.Field{Name: c, Code: code, Message: e.Message})
		}
	}
	return e.Wrap(cause)
}

// Micro is the database form of a time: microseconds since 1970 in UTC, 0 for the zero time.
func Micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// FromMicro reads what Micro wrote.
func FromMicro(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// In returns the placeholders "$first,...,$(first+n-1)" for an IN list. n = 0 gives "NULL", which no value is in.
func In(first, n int) string {
	if n <= 0 {
		return "NULL"
	}
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "$%d", first+i)
	}
	return b.String()
}

// Args makes the argument list of a statement with an IN list: the fixed values first, then the list.
func Args[T any](list []T, fixed ...any) []any {
	for _, v := range list {
		fixed = append(fixed, v)
	}
	return fixed
}

// Guard turns the result of a guarded statement into an error: err as it is, miss when no row was touched.
func Guard(n int64, err error, miss error) error {
	if err == nil && n == 0 {
		return miss
	}
	return err
}
