package dbtest

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
)

// schema has one table of each type, a unique key, a foreign key and a part for each engine.
const schema = `-- +goose Up
CREATE TABLE probe_thing (
  id TEXT NOT NULL PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  name TEXT NOT NULL,
  n BIGINT NOT NULL DEFAULT 0 CONSTRAINT probe_thing_n_check CHECK (n > -9223372036854775808),
  x DOUBLE PRECISION NOT NULL DEFAULT 0,
  ok BOOLEAN NOT NULL DEFAULT FALSE,
  raw BYTEA NOT NULL DEFAULT '',
  note TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX probe_thing_tenant_id_name_key ON probe_thing (tenant_id, name);
CREATE TABLE probe_part (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, thing_id TEXT NOT NULL CONSTRAINT probe_part_thing_id_fkey REFERENCES probe_thing (id));
CREATE INDEX probe_part_thing_id_idx ON probe_part (thing_id);
-- +maas sqlite
CREATE TABLE probe_engine (name TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL);
INSERT INTO probe_engine (name, tenant_id) VALUES ('sqlite', '');
-- +maas end
-- +maas postgres
CREATE TABLE probe_engine (name TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL);
INSERT INTO probe_engine (name, tenant_id) VALUES ('postgres', '');
-- +maas end
`

// Probe is the set of tables that Run works on.
var Probe = Source{"probe", fstest.MapFS{"migrations/0001_probe.sql": {Data: []byte(schema)}}}

type thing struct {
	ID, Name string
	N        int64
	X        float64
	OK       bool
	Raw      []byte
}

func scanThing(r db.Row) (v thing, err error) {
	return v, r.Scan(&v.ID, &v.Name, &v.N, &v.X, &v.OK, &v.Raw)
}

const insertThing = `INSERT INTO probe_thing (id, tenant_id, name, n, x, ok, raw) VALUES ($1, 't1', $2, $3, $4, $5, $6)`

func put(ctx context.Context, d *db.DB, v thing) error {
	return d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, insertThing, v.ID, v.Name, v.N, v.X, v.OK, v.Raw)
		return err
	})
}

func count(t *testing.T, d *db.DB) (n int64) {
	t.Helper()
	require.NoError(t, d.System().Read(t.Context(), func(ctx context.Context, q *db.Query) (err error) {
		n, err = db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM probe_thing`)
		return err
	}))
	return n
}

// Run is the conformance suite of an engine. d is empty and open for this test alone.
func Run(t *testing.T, d *db.DB) {
	ctx := auth.AsSystem(t.Context(), "t1")
	require.NoError(t, d.Migrate(t.Context(), Probe.Service, Probe.FS))
	t.Run("migrate", func(t *testing.T) { runMigrate(t, d) })
	t.Run("types", func(t *testing.T) { runTypes(ctx, t, d) })
	t.Run("errors", func(t *testing.T) { runErrors(ctx, t, d) })
	t.Run("transactions", func(t *testing.T) { runTx(ctx, t, d) })
	t.Run("snapshot", func(t *testing.T) { runSnapshot(ctx, t, d) })
	t.Run("contention", func(t *testing.T) { runContention(ctx, t, d) })
	t.Run("wake", func(t *testing.T) { runWake(ctx, t, d) })
}

func runMigrate(t *testing.T, d *db.DB) {
	ctx := t.Context()
	require.NoError(t, d.Migrate(ctx, Probe.Service, Probe.FS), "a second time finds nothing to do")
	next := fstest.MapFS{"migrations/0001_probe.sql": {Data: []byte(schema)}, "migrations/0002_next.sql": {Data: []byte("-- +goose Up\nALTER TABLE probe_part ADD COLUMN note TEXT NOT NULL DEFAULT '';\n")}}
	require.ErrorIs(t, d.CheckSchema(ctx, Probe.Service, next), db.ErrSchema)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = d.Migrate(ctx, Probe.Service, next) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...), "four at once")
	require.NoError(t, d.CheckSchema(ctx, Probe.Service, next))
	require.NoError(t, d.CheckSchema(ctx, Probe.Service, Probe.FS), "an older program on a newer schema")
	list, err := d.Migrations(ctx, Probe.Service, next)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, "0002_next.sql", list[1].File)
	require.False(t, list[1].Applied.IsZero())
	broken := fstest.MapFS{"migrations/0001_a.sql": {Data: []byte("-- +maas sqlite\n")}}
	require.ErrorContains(t, d.Migrate(ctx, "broken", broken), "has no end")
	require.NoError(t, d.System().Read(ctx, func(ctx context.Context, q *db.Query) error {
		name, err := db.One(ctx, q, db.Scalar[string], `SELECT name FROM probe_engine`)
		require.Equal(t, string(d.Dialect()), name, "the part of this engine and no other")
		return err
	}))
}

func runTypes(ctx context.Context, t *testing.T, d *db.DB) {
	values := []thing{
		{ID: "a", Name: "", N: math.MaxInt64, X: -0.5, Raw: []byte{}},
		{ID: "b", Name: "𝄞 \"quoted\" '%_", N: math.MinInt64 + 1, X: math.MaxFloat64, OK: true, Raw: []byte{0, 1, 255}},
		{ID: "c", Name: "c", N: -1, X: math.SmallestNonzeroFloat64, Raw: make([]byte, 1<<16)},
		{ID: "d", Name: "1e5", X: 0.1, Raw: []byte{}},
	}
	for _, v := range values {
		require.NoError(t, put(ctx, d, v))
	}
	long := strings.Repeat("ä", 1<<19)
	require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		got, err := db.One(ctx, tx, db.Scalar[string], `UPDATE probe_thing SET note = $1 WHERE id = 'a' RETURNING note`, long)
		require.True(t, got == long, "1 MiB of text comes back")
		return err
	}))
	var got []thing
	require.NoError(t, d.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		got, err = db.List(ctx, q, scanThing, `SELECT id, name, n, x, ok, raw FROM probe_thing WHERE tenant_id = $1 AND id IN (`+db.In(2, 4)+`) ORDER BY id`, db.Args([]string{"a", "b", "c", "d"}, "t1")...)
		return err
	}))
	require.Empty(t, cmp.Diff(values, got, cmpopts.EquateEmpty()))
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.FixedZone("x", 3600))
	require.True(t, db.FromMicro(db.Micro(at)).Equal(at))
	require.True(t, db.FromMicro(db.Micro(time.Time{})).IsZero())
}

func runErrors(ctx context.Context, t *testing.T, d *db.DB) {
	require.NoError(t, put(ctx, d, thing{ID: "e1", Name: "taken", Raw: []byte{}}))
	err := put(ctx, d, thing{ID: "e2", Name: "taken", Raw: []byte{}})
	require.ErrorIs(t, err, db.ErrDuplicate)
	require.True(t, db.Duplicate(err, "name"), "the column is named: %v", err)
	require.False(t, db.Duplicate(err, "id"))
	err = put(ctx, d, thing{ID: "e1", Name: "other", Raw: []byte{}})
	require.True(t, db.Duplicate(err, "id"), "%v", err)
	exec := func(text string, args ...any) error {
		return d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { _, err := tx.Exec(ctx, text, args...); return err })
	}
	require.ErrorIs(t, exec(`INSERT INTO probe_part (id, tenant_id, thing_id) VALUES ('p', 't1', 'none')`), db.ErrReference)
	require.ErrorIs(t, exec(insertThing, "e3", "n", int64(math.MinInt64), 0.0, false, []byte{}), db.ErrCheck)
	require.ErrorIs(t, exec(`INSERT INTO probe_part (id, tenant_id, thing_id) VALUES ('p', 't1', NULL)`), db.ErrCheck)
	require.Error(t, exec(`SELEC`))
	require.ErrorIs(t, d.Read(ctx, func(ctx context.Context, q *db.Query) error {
		_, err := db.One(ctx, q, db.Scalar[string], `SELECT name FROM probe_thing WHERE id = 'nowhere'`)
		return err
	}), db.ErrNoRow)
	nothing := func(context.Context, *db.Tx) error { return nil }
	require.ErrorIs(t, d.Tx(context.Background(), nothing), db.ErrNoTenant)
	require.ErrorIs(t, d.Read(context.Background(), func(context.Context, *db.Query) error { return nil }), db.ErrNoTenant)
	require.NoError(t, d.System().Tx(context.Background(), nothing))
	before := count(t, d)
	require.ErrorIs(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Exec(ctx, insertThing, "e9", "nine", 0, 0.0, false, []byte{}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertThing, "e1", "again", 0, 0.0, false, []byte{})
		require.ErrorIs(t, err, db.ErrDuplicate)
		return nil // goes on as if nothing had happened
	}), db.ErrAborted)
	require.Equal(t, before, count(t, d))
	miss := errors.New("miss")
	require.ErrorIs(t, db.Guard(0, nil, miss), miss)
	require.NoError(t, db.Guard(1, nil, miss))
	require.Error(t, d.Read(ctx, func(ctx context.Context, q *db.Query) error {
		_, err := db.List(ctx, q, db.Scalar[string], `INSERT INTO probe_part (id, tenant_id, thing_id) VALUES ('w', 't1', 'e1') RETURNING id`)
		return err
	}), "a snapshot cannot write")
}

func runTx(ctx context.Context, t *testing.T, d *db.DB) {
	before := count(t, d)
	boom := errors.New("boom")
	var after []string
	insert := func(ctx context.Context, tx *db.Tx, id string) {
		_, err := tx.Exec(ctx, insertThing, id, id, 0, 0.0, false, []byte{})
		require.NoError(t, err)
		tx.After(func() { after = append(after, id) })
	}
	require.ErrorIs(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { insert(ctx, tx, "x1"); return boom }), boom)
	require.Panics(t, func() {
		_ = d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { insert(ctx, tx, "x2"); panic("x2") })
	})
	gone, cancel := context.WithCancel(ctx)
	require.ErrorIs(t, d.Tx(gone, func(ctx context.Context, tx *db.Tx) error { insert(ctx, tx, "x3"); cancel(); return nil }), context.Canceled)
	require.ErrorIs(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		insert(ctx, tx, "x4")
		require.NoError(t, d.Tx(ctx, func(ctx context.Context, inner *db.Tx) error {
			require.Same(t, tx, inner)
			insert(ctx, inner, "x5")
			return nil
		}))
		return boom
	}), boom, "the inner one belongs to the outer")
	require.Equal(t, before, count(t, d))
	require.Empty(t, after, "nothing happens after a rollback")
	require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		insert(ctx, tx, "y1")
		require.NoError(t, d.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error { insert(ctx, tx, "y2"); return nil }))
		return d.Read(ctx, func(ctx context.Context, q *db.Query) error {
			n, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM probe_thing`)
			require.Equal(t, before+2, n, "a read inside sees the writes")
			return err
		})
	}))
	require.Equal(t, []string{"y1", "y2"}, after)
	require.Equal(t, before+2, count(t, d))
}

func runSnapshot(ctx context.Context, t *testing.T, d *db.DB) {
	require.NoError(t, d.Read(ctx, func(rctx context.Context, q *db.Query) error {
		read := func() int64 {
			n, err := db.One(rctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM probe_thing`)
			require.NoError(t, err)
			return n
		}
		n := read()
		require.NoError(t, put(ctx, d, thing{ID: "snap", Name: "snap", Raw: []byte{}}), "writers do not wait for readers")
		require.Equal(t, n, read(), "one moment")
		return nil
	}))
}

func runContention(ctx context.Context, t *testing.T, d *db.DB) {
	require.NoError(t, put(ctx, d, thing{ID: "c1", Name: "c1", Raw: []byte{}}))
	require.NoError(t, put(ctx, d, thing{ID: "c2", Name: "c2", Raw: []byte{}}))
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			ids := []string{"c1", "c2"}
			for range 5 { // opposite orders: PostgreSQL breaks the deadlock by refusing one, which is repeated
				errs[i] = errors.Join(errs[i], d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
					for k := range 2 {
						if _, err := tx.Exec(ctx, `UPDATE probe_thing SET n = n + 1 WHERE id = $1`, ids[(i+k)%2]); err != nil {
							return err
						}
					}
					return nil
				}))
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.NoError(t, d.Read(ctx, func(ctx context.Context, q *db.Query) error {
		got, err := db.List(ctx, q, db.Scalar[int64], `SELECT n FROM probe_thing WHERE id IN ('c1', 'c2')`)
		require.Equal(t, []int64{20, 20}, got, "no update is lost")
		return err
	}))
}

func runWake(ctx context.Context, t *testing.T, d *db.DB) {
	wake, stop := d.Listen("probe")
	defer stop()
	require.Error(t, d.Tx(ctx, func(_ context.Context, tx *db.Tx) error { tx.Notify("probe"); return errors.New("no") }))
	select {
	case <-wake:
		t.Fatal("woken by a rollback")
	default:
	}
	require.NoError(t, d.Tx(ctx, func(_ context.Context, tx *db.Tx) error { tx.Notify("probe"); tx.Notify("probe"); return nil }))
	<-wake
	skew, err := d.Skew(ctx)
	require.NoError(t, err)
	require.Less(t, skew.Abs(), 5*time.Second)
	require.NoError(t, d.Ping(ctx))
}
