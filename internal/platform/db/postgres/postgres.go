// Package postgres is the server database engine: PostgreSQL 14 or later through pgx and database/sql.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"maas/internal/platform/db"
)

func init() {
	db.Register("postgres", open)
	db.Register("postgresql", open)
}

const oldest = 140000

func open(ctx context.Context, c db.Config) (*db.Driver, error) {
	conf, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, db.ErrBadURL.With("this is no PostgreSQL URL: postgres://user:password@host/name").Wrap(err)
	}
	if c.RLS != "" && c.RLS != "auto" && c.RLS != "on" && c.RLS != "off" {
		return nil, db.ErrBadURL.With("row-level security is %q; it can be auto, on or off", c.RLS)
	}
	limits := map[string]string{"statement_timeout": "30000", "lock_timeout": "5000", "idle_in_transaction_session_timeout": "60000", "timezone": "UTC", "application_name": "maas"}
	slow := conf.Copy() // for migrations: no time limits
	slow.RuntimeParams["timezone"], slow.RuntimeParams["application_name"] = "UTC", "maas-migrate"
	for k, v := range limits {
		if conf.RuntimeParams[k] == "" {
			conf.RuntimeParams[k] = v
		}
	}
	pool := stdlib.OpenDB(*conf)
	n := c.MaxOpen
	if n <= 0 {
		n = min(50, 4*runtime.NumCPU())
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	pool.SetConnMaxLifetime(30 * time.Minute)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	w := &wall{}
	err = check(ctx, pool)
	if err == nil && c.RLS != "off" {
		err = w.find(ctx, pool)
	}
	if err != nil {
		_ = pool.Close()
		return nil, err
	}
	return &db.Driver{
		Dialect: db.Postgres, Write: pool, Read: pool, ReadTx: sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, Translate: w.translate, Retry: retry,
		Migrate: func(ctx context.Context, f func(context.Context, *sql.DB) error) error { return alone(ctx, *slow, f) },
		Enter:   w.enter,
		Walled:  w.up.Load,
		Protect: func(ctx context.Context) error {
			return alone(ctx, *slow, func(ctx context.Context, pool *sql.DB) error { return w.build(ctx, pool, c.RLS) })
		},
		Close: pool.Close,
	}, nil
}

// check refuses servers on which our SQL would mean something else.
func check(ctx context.Context, pool *sql.DB) error {
	var version int
	var encoding, collation string
	err := pool.QueryRowContext(ctx, `SELECT CAST(current_setting('server_version_num') AS INT), pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()`).Scan(&version, &encoding, &collation)
	if err != nil {
		if t := translate(err); t != err { //nolint:errorlint // identity: was it translated?
			return t
		}
		return db.ErrUnavailable.Wrap(err)
	}
	switch {
	case version < oldest:
		return db.ErrBadURL.With("the server is PostgreSQL %d, this program needs 14 or later", version/10000)
	case encoding != "UTF8":
		return db.ErrBadURL.With("the database is encoded in %s, this program needs UTF8", encoding)
	case collation != "C" && !strings.EqualFold(collation, "C.UTF-8") && !strings.EqualFold(collation, "C.utf8"):
		return db.ErrBadURL.With("the database sorts by %s, this program needs C.UTF-8", collation).WithHint("CREATE DATABASE name ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' TEMPLATE template0")
	}
	return nil
}

// migrateLock is the advisory lock of migrations: "maas" in ASCII.
const migrateLock = 0x6d616173

// alone runs f on connections without time limits while this process holds the advisory lock of migrations.
func alone(ctx context.Context, conf pgx.ConnConfig, f func(context.Context, *sql.DB) error) error {
	pool := stdlib.OpenDB(conf)
	defer func() { _ = pool.Close() }()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", migrateLock); err != nil {
		return err
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrateLock)
	}() // the server drops it with the connection anyway
	return f(ctx, pool)
}

func retry(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01" || e.Code == "55P03")
}

// translate maps SQLSTATE codes (https://www.postgresql.org/docs/current/errcodes-appendix.html).
func translate(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch e.Code {
		case "42P04":
			return db.ErrDuplicate.With("a database of this name exists").Wrap(err)
		case "23505":
			return db.Violation(db.ErrDuplicate, columns(e.Detail), err)
		case "23503":
			return db.Violation(db.ErrReference, columns(e.Detail), err)
		case "23502", "23514", "22021", "22P02", "22003":
			return db.ErrCheck.Wrap(err)
		case "53100":
			return db.ErrDiskFull.Wrap(err)
		case "40001", "40P01", "55P03":
			return db.ErrBusy.Wrap(err)
		case "57014":
			return db.ErrTimeout.Wrap(err)
		case "57P01", "57P02", "57P03", "53300", "25006", "25P03":
			return db.ErrUnavailable.Wrap(err)
		case "28P01", "28000", "3D000":
			return db.ErrUnavailable.With("the database refuses us: %s", e.Message).Wrap(err)
		}
		if strings.HasPrefix(e.Code, "08") {
			return db.ErrUnavailable.Wrap(err)
		}
		return err
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "bad connection") {
		return db.ErrUnavailable.Wrap(fmt.Errorf("postgres: %w", err))
	}
	return err
}

// columns reads the names out of "Key (tenant_id, email)=(a, b) already exists.".
func columns(detail string) []string {
	_, list, ok := strings.Cut(detail, "Key (")
	if !ok {
		return nil
	}
	list, _, _ = strings.Cut(list, ")=")
	return strings.Split(list, ", ")
}

// CreateDatabase makes a database in the form this program needs, on the server of an administrator's URL, and returns its URL. template "" = an empty one. For tests and for moving an installation.
func CreateDatabase(ctx context.Context, admin, name, template string) (string, error) {
	u, err := url.Parse(admin)
	if err != nil || u.Host == "" {
		return "", db.ErrBadURL.With("the administrator's URL must have the form postgres://user:password@host/name")
	}
	u.Path = "/" + name
	text := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize()
	if template == "" {
		text += " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
	} else {
		text += " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	}
	return u.String(), administer(ctx, admin, text)
}

// DropDatabase removes a database with its connections; a missing one is fine.
func DropDatabase(ctx context.Context, admin, name string) error {
	return administer(ctx, admin, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
}

// RenameDatabase gives a database without connections another name. ErrDuplicate if that is taken.
func RenameDatabase(ctx context.Context, admin, from, to string) error {
	return administer(ctx, admin, "ALTER DATABASE "+pgx.Identifier{from}.Sanitize()+" RENAME TO "+pgx.Identifier{to}.Sanitize())
}

func administer(ctx context.Context, admin, text string) error {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, text); err != nil {
		return translate(err)
	}
	return nil
}
