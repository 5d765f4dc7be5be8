package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPositional(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`INSERT INTO t (a, b) VALUES ($1, $2)`:           `INSERT INTO t (a, b) VALUES (?, ?)`,
		`SELECT 'it''s $1', a FROM t WHERE a = $1`:       `SELECT 'it''s $1', a FROM t WHERE a = ?`,
		`SELECT a FROM t WHERE a = $1 OR b = $1`:         `SELECT a FROM t WHERE a = $1 OR b = $1`,
		`UPDATE t SET a = $2 WHERE b = $1`:               `UPDATE t SET a = $2 WHERE b = $1`,
		`SELECT a FROM t WHERE a = $1 -- and $2`:         `SELECT a FROM t WHERE a = $1 -- and $2`,
		`SELECT a - $1 FROM t WHERE "b" = $2`:            `SELECT a - $1 FROM t WHERE "b" = $2`,
		`SELECT 'open`:                                   `SELECT 'open`,
		`SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10`: `SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`,
	} {
		require.Equal(t, want, positional(in))
	}
}

// one opens a pool of one connection and gives that connection, too.
func one(t testing.TB) (*sql.DB, *conn) {
	t.Helper()
	d, err := pool("file:" + filepath.Join(t.TempDir(), "x.db") + "?_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	require.NoError(t, err)
	d.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = d.Close() })
	var own *conn
	c, err := d.Conn(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Raw(func(raw any) error {
		own = raw.(*conn) //nolint:errcheck // it is what we made, or the test fails
		return nil
	}))
	require.NoError(t, c.Close())
	return d, own
}

func TestStatementsAreKeptAndFollowTheSchema(t *testing.T) {
	t.Parallel()
	d, own := one(t)
	exec := func(text string, args ...any) {
		t.Helper()
		_, err := d.ExecContext(t.Context(), text, args...)
		require.NoError(t, err)
	}
	exec(`CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE u (a TEXT)`)
	const insert = `INSERT INTO t (a, b) VALUES ($1, $2)`
	for i := range 50 {
		exec(insert, i, fmt.Sprint("b", i))
	}
	require.Len(t, own.kept, 1)
	first := own.kept[insert]
	_, err := d.ExecContext(t.Context(), insert, 3, "again")
	require.ErrorContains(t, err, "UNIQUE")
	exec(`ALTER TABLE t ADD COLUMN c TEXT NOT NULL DEFAULT 'c'`)
	exec(insert, 50, "b50")
	require.Same(t, first, own.kept[insert])

	var n int
	var b, c string
	require.NoError(t, d.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM t WHERE b LIKE 'b%'`).Scan(&n))
	require.Equal(t, 51, n)
	require.NoError(t, d.QueryRowContext(t.Context(), `SELECT b, c FROM t WHERE a = $1`, 50).Scan(&b, &c))
	require.Equal(t, "b50c", b+c)
	exec(`DROP TABLE u`)
	_, err = d.ExecContext(t.Context(), `INSERT INTO u (a) VALUES ($1)`, "x")
	require.ErrorContains(t, err, "no such table")

	// a text whose rows are being read runs a second time beside itself
	tx, err := d.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	const list = `SELECT a FROM t WHERE a < $1 ORDER BY a`
	outer, err := tx.QueryContext(t.Context(), list, 3)
	require.NoError(t, err)
	var got []int
	for outer.Next() {
		var a int
		require.NoError(t, outer.Scan(&a))
		within, err := tx.QueryContext(t.Context(), list, 2)
		require.NoError(t, err)
		for within.Next() {
			var x int
			require.NoError(t, within.Scan(&x))
			got = append(got, 10*a+x)
		}
		require.NoError(t, within.Err())
		require.NoError(t, within.Close())
	}
	require.NoError(t, outer.Err())
	require.NoError(t, outer.Close())
	require.NoError(t, tx.Rollback())
	require.Equal(t, []int{0, 1, 10, 11, 20, 21}, got)

	for i := range 2 * kept {
		require.NoError(t, d.QueryRowContext(t.Context(), fmt.Sprintf(`SELECT COUNT(*) FROM t WHERE a > $1 AND %d > 0`, i+1), 0).Scan(&n))
	}
	require.Len(t, own.kept, kept)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = own.ExecContext(gone, insert, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// BenchmarkRow is one row of a batch: kept prepared as in the program, and parsed each time as the driver does it.
func BenchmarkRow(b *testing.B) {
	const insert = `INSERT INTO t (a, b, c, d, e, f, g, h, i, j, k, l) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (a, b) DO NOTHING`
	for _, keep := range []bool{true, false} {
		b.Run(fmt.Sprint("kept=", keep), func(b *testing.B) {
			d, _ := one(b)
			text := insert
			if !keep {
				text = " " + insert + ";"
			}
			_, err := d.ExecContext(b.Context(), `CREATE TABLE t (a INTEGER, b TEXT, c TEXT, d TEXT, e TEXT, f TEXT, g INTEGER, h INTEGER, i INTEGER, j INTEGER, k INTEGER, l INTEGER, PRIMARY KEY (a, b)); CREATE INDEX t_i ON t (c, d)`)
			require.NoError(b, err)
			tx, err := d.BeginTx(b.Context(), nil)
			require.NoError(b, err)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := tx.ExecContext(b.Context(), text, 20000, fmt.Sprintf("req_%032d", i), "tnt_1234", "usr_1234", "model", "done", i, i, i, i, i, i); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, tx.Commit())
		})
	}
}
