// Package eventtest is the conformance suite of event drivers, and helps tests of services to see events.
package eventtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event"
	"maas/internal/platform/job"
)

// Tables are the migrations that publishing needs.
var Tables = []dbtest.Source{{Service: "job", FS: job.Migrations}, {Service: "event", FS: event.Migrations}}

// Seen is one published event.
type Seen struct {
	Topic, Key, Tenant string
	Data               json.RawMessage
}

// Published returns what was published so far and not pruned, in the order of its ids.
func Published(t testing.TB, d *db.DB) (list []Seen) {
	t.Helper()
	require.NoError(t, d.System().Read(t.Context(), func(ctx context.Context, q *db.Query) (err error) {
		list, err = db.List(ctx, q, func(r db.Row) (s Seen, err error) {
			var data string
			err = r.Scan(&s.Topic, &s.Key, &s.Tenant, &data)
			s.Data = json.RawMessage(data)
			return s, err
		}, `SELECT topic, key, tenant_id, data FROM event_outbox ORDER BY id`)
		return err
	}))
	return list
}

// Topics returns the topics of Published.
func Topics(t testing.TB, d *db.DB) (list []string) {
	t.Helper()
	for _, s := range Published(t, d) {
		list = append(list, s.Topic)
	}
	return list
}

// Run runs loops (a relay, a worker) until the test ends.
func Run(t testing.TB, loops ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	errs := make([]error, len(loops))
	for i, f := range loops {
		wg.Go(func() { errs[i] = f(ctx) })
	}
	t.Cleanup(func() { cancel(); wg.Wait(); require.NoError(t, errors.Join(errs...)) })
}

type happened struct {
	ID string `json:"id"`
	N  int    `json:"n"`
}

func (happened) Topic() string { return "probe.thing.happened" }
func (e happened) Key() string { return e.ID }

// Start brings up a process with these subscriptions on a database: what a driver's test hands to Suite.
type Start func(t *testing.T, d *db.DB, r *event.Registry)

// Memory starts the relay with a job worker.
func Memory(t *testing.T, d *db.DB, r *event.Registry) {
	t.Helper()
	l := &event.Relay{DB: d, Registry: r, Log: slog.New(slog.DiscardHandler), Poll: 50 * time.Millisecond}
	jobs := job.NewRegistry()
	l.Jobs(jobs)
	w := &job.Worker{DB: d, Registry: jobs, Log: slog.New(slog.DiscardHandler), Poll: 50 * time.Millisecond}
	Run(t, l.Run, w.Run)
}

// Suite checks a driver: committed = delivered once to each group, rolled back = never; failures come again; tenants are kept; several processes share a database.
func Suite(t *testing.T, d *db.DB, start Start) {
	ctx := auth.AsSystem(t.Context(), "t1")
	publish := func(n int, fail error) error {
		return d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := event.Publish(ctx, tx, happened{fmt.Sprint("thing_", n), n}); err != nil {
				return err
			}
			return fail
		})
	}
	const events = 300
	var slow, broken atomic.Int64
	var mu sync.Mutex
	counts := map[string]map[int]int{}
	count := func(group string, n int) {
		mu.Lock()
		defer mu.Unlock()
		if counts[group] == nil {
			counts[group] = map[int]int{}
		}
		counts[group][n]++
	}
	process := func(groups ...string) {
		r := event.NewRegistry()
		for _, g := range groups {
			event.Subscribe(r, g, func(ctx context.Context, tx *db.Tx, e happened) error {
				if auth.Tenant(ctx) != "t1" {
					return errors.New("the tenant is missing")
				}
				switch {
				case g == "probe.failing" && e.N == 7 && broken.Add(1) < 3:
					return errors.New("not yet")
				case g == "probe.failing" && e.N == 8 && broken.Load() < 3:
					panic("not yet")
				}
				slow.Add(1)
				tx.After(func() { count(g, e.N) })
				return nil
			})
		}
		start(t, d, r)
	}
	process("probe.one", "probe.failing")
	process("probe.one", "probe.other") // a second process with a group of its own
	number := func(text string) (n int) {
		require.NoError(t, d.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
			n, err = db.One(ctx, q, db.Scalar[int], text)
			return err
		}))
		return n
	}
	require.Eventually(t, func() bool { return number(`SELECT COUNT(*) FROM event_group`) == 3 }, 20*time.Second, 5*time.Millisecond, "the groups are known")
	boom := errors.New("boom")
	require.ErrorIs(t, publish(-1, boom), boom)
	for n := range events {
		require.NoError(t, publish(n, nil))
	}
	require.Eventually(t, func() bool {
		require.NoError(t, d.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error { // the pauses between redeliveries would take seconds
			_, err := tx.Exec(ctx, `UPDATE job_entry SET run_at = 1 WHERE state = 'waiting'`)
			return err
		}))
		mu.Lock()
		defer mu.Unlock()
		return len(counts["probe.one"]) == events && len(counts["probe.failing"]) == events && len(counts["probe.other"]) == events
	}, 60*time.Second, 20*time.Millisecond)
	mu.Lock()
	for g, seen := range counts {
		for n, times := range seen {
			require.Equal(t, 1, times, "%s, event %d", g, n)
			require.GreaterOrEqual(t, n, 0, "a rolled back event was delivered")
		}
	}
	mu.Unlock()
	require.Eventually(t, func() bool { return number(`SELECT COUNT(*) FROM event_outbox WHERE sent_at = 0`) == 0 }, 20*time.Second, 20*time.Millisecond, "all are marked as sent")
	require.ErrorIs(t, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return event.Publish(ctx, tx, happened{ID: string(make([]byte, 200<<10))})
	}), event.ErrTooLarge)
}
