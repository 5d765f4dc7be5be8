package job

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
)

type claimArgs struct{ N int }

var claimKind = Kind[claimArgs]{Name: "probe.claim", Lane: "probe"}

func claimer(t testing.TB, d *db.DB, queued int) *Worker {
	t.Helper()
	r := NewRegistry()
	Handle(r, claimKind, func(context.Context, *Run, claimArgs) error { return nil })
	w := &Worker{DB: d, Registry: r, Lanes: map[string]int{"probe": 1}}
	w.start()
	require.NoError(t, w.announce(t.Context(), true))
	for tenant := range 4 {
		require.NoError(t, d.Tx(auth.AsSystem(t.Context(), fmt.Sprint("t", tenant)), func(ctx context.Context, tx *db.Tx) error {
			for n := range queued / 4 {
				if _, err := Enqueue(ctx, tx, claimKind, claimArgs{n}, Options{}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return w
}

// The cost of a claim does not follow the length of the queue.
func BenchmarkClaim(b *testing.B) {
	source := dbtest.Source{Service: "job", FS: Migrations}
	for _, queued := range []int{100, 50_000} {
		for name, open := range map[string]func(testing.TB, ...dbtest.Source) *db.DB{"sqlite": dbtest.Open, "postgres": dbtest.OpenPostgres} {
			b.Run(fmt.Sprintf("%s/%d", name, queued), func(b *testing.B) {
				w := claimer(b, open(b, source), queued)
				if w.DB.Dialect() == db.Postgres {
					require.NoError(b, w.DB.System().Tx(b.Context(), func(ctx context.Context, tx *db.Tx) error { _, err := tx.Exec(ctx, "ANALYZE job_entry"); return err }))
				}
				for b.Loop() {
					got, err := w.claim(b.Context(), "probe", 1)
					require.NoError(b, err)
					require.Len(b, got, 1)
					b.StopTimer()
					require.NoError(b, w.DB.System().Tx(b.Context(), func(ctx context.Context, tx *db.Tx) error {
						_, err := tx.Exec(ctx, `UPDATE job_entry SET state = 'queued', run_at = run_at + 1 WHERE id = $1`, got[0].ID)
						return err
					}))
					b.StartTimer()
				}
			})
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := Exp(time.Second, 10*time.Second)
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second, 60: 10 * time.Second} {
		for range 20 {
			got := b.wait(n)
			require.InDelta(t, float64(want), float64(got), 0.2*float64(want)+1, "attempt %d", n)
		}
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	a, b := &share{tenant: "a", weight: 1, used: 10, queued: 1}, &share{tenant: "b", weight: 2, used: 10, queued: 1}
	require.Equal(t, b, pick([]*share{a, b}, 0), "the least used by weight")
	idle := &share{tenant: "idle", weight: 1, queued: 1}
	require.Equal(t, idle, pick([]*share{a, b, idle}, 5), "equal tags: who used less")
	b.cap, b.running = 1, 1
	require.Equal(t, a, pick([]*share{a, b}, 0), "at its cap")
	a.queued = 0
	require.Nil(t, pick([]*share{a, b}, 0))
}
