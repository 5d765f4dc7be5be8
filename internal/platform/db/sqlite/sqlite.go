// Package sqlite is the embedded database engine: modernc.org/sqlite, one file, one writing connection beside several readers.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"maas/internal/platform/db"
)

func init() { db.Register("sqlite", open) }

func open(ctx context.Context, c db.Config) (*db.Driver, error) {
	path := strings.TrimPrefix(c.URL, "sqlite:")
	if path == "" || strings.HasPrefix(path, ":memory:") || strings.Contains(path, "?") {
		return nil, db.ErrBadURL.With("a SQLite URL is sqlite:PATH with the path of a file")
	}
	sync := c.Sync
	switch sync {
	case "":
		sync = "full"
	case "full", "normal":
	default:
		return nil, db.ErrBadURL.With("database.sync is full or normal, not %q", c.Sync)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("folder of the database: %w", err)
	}
	lock, err := lockFile(ctx, path)
	if err != nil {
		return nil, err
	}
	base := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=journal_mode(wal)&_pragma=synchronous(" + sync + ")&_pragma=temp_store(2)&_pragma=wal_autocheckpoint(4000)" // 16 MB of log: pages that batch after batch changes are copied back less often
	w, err := pool(base + "&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	w.SetMaxOpenConns(1)
	r, err := pool(base + "&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	readers := c.MaxOpen
	if readers <= 0 {
		readers = max(4, runtime.NumCPU())
	}
	r.SetMaxOpenConns(readers)
	r.SetMaxIdleConns(readers)
	stop, done := make(chan struct{}), make(chan struct{})
	d := &db.Driver{
		Dialect: db.SQLite, Write: w, Read: r, ReadTx: sql.TxOptions{ReadOnly: true}, Translate: translate, Retry: retry,
		Migrate: func(ctx context.Context, f func(context.Context, *sql.DB) error) error { return f(ctx, w) }, // the file lock makes this process the only one
		Close: func() error {
			close(stop)
			<-done
			return errors.Join(r.Close(), w.Close(), lock.Close())
		},
	}
	if err := w.PingContext(ctx); err != nil { // makes the file and switches it to WAL before the first reader
		close(done)
		_ = d.Close()
		return nil, translate(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		close(done)
		_ = d.Close()
		return nil, err
	}
	go tend(w, stop, done)
	return d, nil
}

// pool is a pool of connections that keep their statements prepared.
func pool(dsn string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c}), nil
}

// lockWait is how long the lock of a process that was just killed may take to go: the kernel drops it when the last thread has ended.
const lockWait = 3 * time.Second

// flock tries to lock f until it succeeds, lockWait is over or ctx ends.
func flock(ctx context.Context, f *os.File) error {
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	over := time.After(lockWait)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-over:
			return err
		case <-retry.C:
		}
	}
}

// lockFile takes the lock beside the database file for the life of the process; the kernel drops it however the process ends.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of the database: %w", err)
	}
	if err := flock(ctx, f); err != nil {
		pid := make([]byte, 32)
		n, _ := f.ReadAt(pid, 0)
		_ = f.Close()
		return nil, db.ErrInUse.With("process %s has the database open", strings.TrimSpace(string(pid[:n]))).WithHint("Stop it, or use PostgreSQL to run several processes on one database").Wrap(err)
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tend cuts the write-ahead log and refreshes the planner's statistics each hour.
func tend(w *sql.DB, stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			for _, text := range []string{"PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA optimize"} {
				_, _ = w.ExecContext(ctx, text) // housekeeping: the next hour tries again
			}
			cancel()
		}
	}
}

func retry(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}

// translate maps result codes (https://sqlite.org/rescode.html).
func translate(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return db.Violation(db.ErrDuplicate, columns(e.Error()), err)
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return db.Violation(db.ErrReference, nil, err)
	case sqlite3.SQLITE_CONSTRAINT_CHECK, sqlite3.SQLITE_CONSTRAINT_NOTNULL:
		return db.ErrCheck.Wrap(err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return db.ErrDiskFull.Wrap(err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return db.ErrBusy.Wrap(err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
		return db.ErrUnavailable.Wrap(err)
	case sqlite3.SQLITE_INTERRUPT:
		return db.ErrTimeout.Wrap(err)
	}
	return err
}

// columns reads the names out of "constraint failed: UNIQUE constraint failed: user_account.tenant_id, user_account.email (2067)".
func columns(text string) []string {
	_, list, ok := strings.Cut(text, "constraint failed: UNIQUE constraint failed: ")
	if !ok {
		if _, list, ok = strings.Cut(text, "UNIQUE constraint failed: "); !ok {
			return nil
		}
	}
	list, _, _ = strings.Cut(list, " (")
	var names []string
	for _, full := range strings.Split(list, ", ") {
		if _, c, ok := strings.Cut(full, "."); ok {
			names = append(names, c)
		}
	}
	return names
}
