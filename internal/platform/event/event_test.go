package event_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event"
	"maas/internal/platform/event/eventtest"
	"maas/internal/platform/job"
)

func TestSchema(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, dbtest.Source{Service: "event", FS: event.Migrations}, ".", "event_inbox", "event_group")
}

func TestMemory(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) { eventtest.Suite(t, d, eventtest.Memory) }, eventtest.Tables...)
}

type moved struct{ ID string }

func (moved) Topic() string { return "probe.thing.moved" }
func (e moved) Key() string { return e.ID }

// A handler that never succeeds ends on the dead-letter page and can be replayed from there.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := auth.AsSystem(t.Context(), "t1")
		var heal atomic.Bool
		var effects atomic.Int64
		r := event.NewRegistry()
		event.Subscribe(r, "probe.dead", func(_ context.Context, tx *db.Tx, _ moved) error {
			if heal.Load() {
				tx.After(func() { effects.Add(1) })
				return nil
			}
			return errors.New("no")
		})
		eventtest.Memory(t, d, r)
		require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return event.Publish(ctx, tx, moved{"x"}) }))
		require.Equal(t, []string{"probe.thing.moved"}, eventtest.Topics(t, d))
		var dead job.Entry
		require.Eventually(t, func() bool {
			require.NoError(t, d.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error { // its back-off would take minutes
				_, err := tx.Exec(ctx, `UPDATE job_entry SET run_at = 1 WHERE state = 'waiting'`)
				return err
			}))
			require.NoError(t, d.Read(ctx, func(ctx context.Context, q *db.Query) error {
				l, err := job.List(ctx, q, job.Filter{Dead: true})
				if len(l.Items) == 1 {
					dead = l.Items[0]
				}
				return err
			}))
			return dead.ID != ""
		}, 20*time.Second, 20*time.Millisecond)
		require.Equal(t, "event.redeliver.probe.dead", dead.Kind)
		require.Zero(t, effects.Load())
		heal.Store(true)
		require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { _, err := job.Retry(ctx, tx, dead.ID); return err }))
		e, err := job.Wait(ctx, d, dead.ID)
		require.NoError(t, err)
		require.Equal(t, job.Succeeded, e.State)
		require.EqualValues(t, 1, effects.Load())
	}, eventtest.Tables...)
}

// Delivery is woken by the commit, not by the poll.
func TestWokenByCommit(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t, eventtest.Tables...)
	ctx := auth.AsSystem(t.Context(), "t1")
	got := make(chan time.Time, 1)
	r := event.NewRegistry()
	event.Subscribe(r, "probe.fast", func(_ context.Context, tx *db.Tx, _ moved) error {
		tx.After(func() { got <- time.Now() })
		return nil
	})
	l := &event.Relay{DB: d, Registry: r, Log: slog.New(slog.DiscardHandler), Poll: time.Hour}
	eventtest.Run(t, l.Run)
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, d.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
			n, err = db.One(ctx, q, db.Scalar[int], `SELECT COUNT(*) FROM event_group`)
			return err
		}))
		return n == 1
	}, 10*time.Second, time.Millisecond)
	for range 5 {
		require.NoError(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return event.Publish(ctx, tx, moved{"x"}) }))
		<-got // hangs if only the poll would find it
	}
}
