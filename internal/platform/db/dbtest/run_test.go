package dbtest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
)

func TestEngines(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, dbtest.Run)
}

func TestLint(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, dbtest.Probe, ".")
	for _, bad := range []string{
		`id INTEGER PRIMARY KEY`, `at TIMESTAMP NOT NULL`, `SELECT now()`, `SELECT a FROM t WHERE a ILIKE 'x'`, `SELECT a FROM t WHERE a = ANY($1)`, `SELECT a FROM t LIMIT 5 OFFSET 10`,
		`SELECT SUM(n) FROM t`, `INSERT INTO t (a) VALUES (?)`, `INSERT OR REPLACE INTO t (a) VALUES ($1)`, `SELECT a FROM t FOR UPDATE`, `WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x`,
	} {
		require.NotEmpty(t, dbtest.LintSQL(bad), bad)
	}
	for _, good := range []string{
		`SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM t WHERE (a, b) > ($1, $2) ORDER BY a LIMIT $3`, `INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET a = excluded.a WHERE t.a < $2 RETURNING a`,
		`UPDATE t SET updated_at = $1 WHERE code = 'what now()?'`,
	} {
		require.Empty(t, dbtest.LintSQL(good), good)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	_, err := db.Open(t.Context(), db.Config{URL: "mysql://x"})
	require.ErrorIs(t, err, db.ErrBadURL)
	require.ErrorContains(t, err, "postgres, postgresql, sqlite")
	_, err = db.Open(t.Context(), db.Config{URL: "sqlite:"})
	require.ErrorIs(t, err, db.ErrBadURL)
	path := filepath.Join(t.TempDir(), "odd ?#%name.db")
	_, err = db.Open(t.Context(), db.Config{URL: "sqlite:" + path})
	require.ErrorIs(t, err, db.ErrBadURL)
	path = strings.ReplaceAll(path, "?", "")
	d := dbtest.OpenURL(t, "sqlite:"+path)
	require.NoError(t, d.Ping(t.Context()))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	_, err = db.Open(t.Context(), db.Config{URL: "sqlite:" + path})
	require.ErrorIs(t, err, db.ErrInUse)
	require.ErrorContains(t, err, "process "+strconv.Itoa(os.Getpid()))
	_, err = db.Open(t.Context(), db.Config{URL: "postgres://nobody@127.0.0.1:1/none?connect_timeout=2"})
	require.ErrorIs(t, err, db.ErrUnavailable)
}

// A disk without space is a fault that says so, and what was committed before stays.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t, dbtest.Probe)
	ctx := auth.AsSystem(t.Context(), "t1")
	write := func(n int) error {
		return d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO probe_thing (id, tenant_id, name, note) VALUES ($1, 't1', $1, $2)`, fmt.Sprint("full", n), strings.Repeat("x", 100_000))
			return err
		})
	}
	require.NoError(t, write(0))
	require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { // SQLite's own limit stands for the disk's end: the same code path and result code
		_, err := db.One(ctx, tx, db.Scalar[int], `PRAGMA max_page_count = 100`)
		return err
	}))
	var err error
	kept := 1
	for n := 1; n < 20 && err == nil; n++ {
		if err = write(n); err == nil {
			kept++
		}
	}
	require.ErrorIs(t, err, db.ErrDiskFull)
	require.NoError(t, d.Read(ctx, func(ctx context.Context, q *db.Query) error {
		n, err := db.One(ctx, q, db.Scalar[int], `SELECT COUNT(*) FROM probe_thing`)
		require.Equal(t, kept, n)
		return err
	}))
}

// A connection that is cut in the middle of a transaction is a fault that says so; nothing of the transaction is there, and the next one works.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	url := dbtest.PostgresURL(t)
	d := dbtest.OpenURL(t, url)
	require.NoError(t, d.Migrate(t.Context(), dbtest.Probe.Service, dbtest.Probe.FS))
	other, err := db.Open(t.Context(), db.Config{URL: url, RLS: "off"}) // acts as the login: only that may end sessions of its own
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	ctx := auth.AsSystem(t.Context(), "t1")
	insert := func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO probe_thing (id, tenant_id, name) VALUES ('lost', 't1', 'lost')`)
		return err
	}
	err = d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insert(ctx, tx); err != nil {
			return err
		}
		pid, err := db.One(ctx, tx, db.Scalar[int], `SELECT pg_backend_pid()`)
		require.NoError(t, err)
		require.NoError(t, other.Read(auth.AsSystem(context.Background(), "t1"), func(ctx context.Context, q *db.Query) error {
			_, err := db.One(ctx, q, db.Scalar[bool], `SELECT pg_terminate_backend($1, 5000)`, pid)
			return err
		}))
		_, err = tx.Exec(ctx, `UPDATE probe_thing SET n = 1`)
		return err
	})
	require.ErrorIs(t, err, db.ErrUnavailable)
	require.NoError(t, d.Tx(ctx, insert), "the next one has a new connection, and the row is not there")
}

// Queries that forgot their tenant see and change nothing of another one.
func TestWall(t *testing.T) {
	t.Parallel()
	url := dbtest.PostgresURL(t)
	d := dbtest.OpenURL(t, url)
	require.False(t, d.Walled())
	require.NoError(t, d.Migrate(t.Context(), dbtest.Probe.Service, dbtest.Probe.FS))
	require.True(t, d.Walled())
	later := dbtest.OpenURL(t, url) // finds the wall standing
	require.True(t, later.Walled())
	ctx1, ctx2 := auth.AsSystem(t.Context(), "t1"), auth.AsSystem(t.Context(), "t2")
	const insert = `INSERT INTO probe_thing (id, tenant_id, name) VALUES ($1, $2, $1)`
	exec := func(d *db.DB, ctx context.Context, text string, args ...any) (n int64, err error) {
		err = d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			n, err = tx.Exec(ctx, text, args...)
			return err
		})
		return n, err
	}
	seen := func(d *db.DB, ctx context.Context) (n int) {
		require.NoError(t, d.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
			n, err = db.One(ctx, q, db.Scalar[int], `SELECT COUNT(*) FROM probe_thing`)
			return err
		}))
		return n
	}
	for _, d := range []*db.DB{d, later} {
		_, err := exec(d.System(), t.Context(), `DELETE FROM probe_thing`)
		require.NoError(t, err)
		_, err = exec(d, ctx1, insert, "a", "t1")
		require.NoError(t, err)
		_, err = exec(d, ctx2, insert, "b", "t2")
		require.NoError(t, err)
		_, err = exec(d, ctx1, insert, "c", "t2")
		require.Error(t, err, "a row for somebody else")
		require.Equal(t, []int{1, 1, 2}, []int{seen(d, ctx1), seen(d, ctx2), seen(d.System(), t.Context())})
		n, err := exec(d, ctx1, `UPDATE probe_thing SET n = 1`)
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		_, err = exec(d, ctx1, `UPDATE probe_thing SET tenant_id = 't2'`)
		require.Error(t, err, "a row given away")
		n, err = exec(d, ctx2, `DELETE FROM probe_thing WHERE id = 'a'`)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, d.Tx(ctx1, func(ctx context.Context, _ *db.Tx) error { // the program itself inside a tenant's transaction, and back again
			require.Equal(t, 2, seen(d.System(), ctx))
			require.Equal(t, 1, seen(d, ctx))
			require.Equal(t, 1, seen(d, auth.AsSystem(ctx, "t2")))
			return nil
		}))
	}
	plain, err := db.Open(t.Context(), db.Config{URL: url, RLS: "off"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, plain.Close()) })
	require.False(t, plain.Walled())
	require.Equal(t, 2, seen(plain, ctx1), "migrations move rows of all")
}

// A process that writes as fast as it can is killed; what it said was committed is there, and the file is sound.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("DBTEST_CHILD"); path != "" {
		writeForever(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "kill.db")
	said := -1
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillUnderLoad$", "-test.v")
		cmd.Env = append(os.Environ(), "DBTEST_CHILD="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // a second time does nothing
		buf, text := make([]byte, 4096), ""
		for strings.Count(text, "row ") < 30*(round+1) {
			n, err := out.Read(buf)
			require.NoError(t, err, text)
			text += string(buf[:n])
		}
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		for _, line := range strings.Split(text[:strings.LastIndexByte(text, '\n')+1], "\n") {
			if n, ok := strings.CutPrefix(line, "row "); ok {
				v, err := strconv.Atoi(n)
				require.NoError(t, err)
				said = max(said, v)
			}
		}
	}
	d := dbtest.OpenURL(t, "sqlite:"+path)
	require.NoError(t, d.System().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
		ok, err := db.One(ctx, q, db.Scalar[string], `PRAGMA integrity_check`)
		require.NoError(t, err)
		require.Equal(t, "ok", ok)
		n, err := db.One(ctx, q, db.Scalar[int], `SELECT COUNT(*) FROM probe_thing`)
		require.Greater(t, n, said, "rows 0..%d were acknowledged", said)
		return err
	}))
}

func writeForever(t *testing.T, path string) {
	t.Helper()
	ctx := auth.AsSystem(context.Background(), "t1")
	var d *db.DB
	for { // the killed one's lock goes when the kernel has cleaned up
		var err error
		if d, err = db.Open(ctx, db.Config{URL: "sqlite:" + path}); err == nil {
			break
		}
		require.ErrorIs(t, err, db.ErrInUse)
		<-time.After(10 * time.Millisecond)
	}
	require.NoError(t, d.Migrate(ctx, dbtest.Probe.Service, dbtest.Probe.FS))
	var n int
	require.NoError(t, d.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		n, err = db.One(ctx, q, db.Scalar[int], `SELECT COUNT(*) FROM probe_thing`)
		return err
	}))
	for ; ; n++ {
		require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO probe_thing (id, tenant_id, name) VALUES ($1, 't1', $2)`, fmt.Sprint("id", n), fmt.Sprint("name", n))
			return err
		}))
		_, err := fmt.Printf("row %d\n", n)
		require.NoError(t, err)
	}
}
