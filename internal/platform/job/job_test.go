package job_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/fault"
	"maas/internal/platform/job"
)

var tables = dbtest.Source{Service: "job", FS: job.Migrations}

type args struct {
	N int `json:"n"`
}

var probe = job.Kind[args]{Name: "probe.work", Lane: "probe", Backoff: job.Exp(20*time.Millisecond, 50*time.Millisecond), MaxAttempts: 3}

func TestSchema(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, tables, ".", "job_stage", "job_log", "job_lane", "job_worker", "job_schedule")
}

// rig is a worker on a database with one handler that the test sets.
type rig struct {
	t   *testing.T
	d   *db.DB
	ctx context.Context // of tenant t1
}

func each(t *testing.T, f func(*rig)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) { f(&rig{t, d, auth.AsSystem(t.Context(), "t1")}) }, tables)
}

func (g *rig) enqueue(p args, o job.Options) (id string) {
	g.t.Helper()
	return g.enqueueAs(g.ctx, p, o)
}

func (g *rig) enqueueAs(ctx context.Context, p args, o job.Options) (id string) {
	g.t.Helper()
	require.NoError(g.t, g.d.Tx(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		id, err = job.Enqueue(ctx, tx, probe, p, o)
		return err
	}))
	return id
}

func (g *rig) tx(f func(ctx context.Context, tx *db.Tx) error) {
	g.t.Helper()
	require.NoError(g.t, g.d.Tx(g.ctx, f))
}

func (g *rig) system(f func(ctx context.Context, tx *db.Tx) error) {
	g.t.Helper()
	require.NoError(g.t, g.d.System().Tx(g.ctx, f))
}

func (g *rig) get(id string) (e job.Entry) {
	g.t.Helper()
	require.NoError(g.t, g.d.Read(g.ctx, func(ctx context.Context, q *db.Query) (err error) { e, err = job.Get(ctx, q, id); return err }))
	if e.State == job.Queued || e.State == job.Waiting {
		require.NotNil(g.t, e.Waiting)
		require.NotEmpty(g.t, e.Waiting.Code, "why it waits is never empty")
		require.NotEmpty(g.t, e.Waiting.Message)
	}
	return e
}

// until waits for a condition on an entry.
func (g *rig) until(id string, ok func(job.Entry) bool) job.Entry {
	g.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		e := g.get(id)
		if ok(e) {
			return e
		}
		require.True(g.t, time.Now().Before(end), "the entry stays %s (%+v)", e.State, e.Waiting)
		<-time.After(10 * time.Millisecond)
	}
}

func (g *rig) wait(id string) job.Entry {
	g.t.Helper()
	return g.until(id, func(e job.Entry) bool { return e.State.Final() })
}

// work starts a worker; stop ends it and waits.
func (g *rig) work(r *job.Registry, slots int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &job.Worker{DB: g.d, Registry: r, Log: slog.New(slog.DiscardHandler), Lanes: map[string]int{"probe": slots}, Poll: 20 * time.Millisecond, Reap: 50 * time.Millisecond, Grace: 5 * time.Second, Metrics: prometheus.NewRegistry()}
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); require.NoError(g.t, <-done) }) }
	g.t.Cleanup(stop)
	return stop
}

func handle(f func(ctx context.Context, r *job.Run, p args) error) *job.Registry {
	r := job.NewRegistry()
	job.Handle(r, probe, f)
	return r
}

func TestSucceed(t *testing.T) {
	each(t, func(g *rig) {
		var stages, once atomic.Int64
		boom := errors.New("boom")
		id := g.enqueue(args{7}, job.Options{Key: "k", SubjectKind: "thing", SubjectID: "thing_1"})
		require.Equal(g.t, id, g.enqueue(args{8}, job.Options{Key: "k"}), "one unfinished entry per key")
		require.Equal(g.t, "no_worker", g.get(id).Waiting.Code)
		require.ErrorIs(g.t, g.d.Tx(g.ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := job.Enqueue(ctx, tx, probe, args{9}, job.Options{})
			return errors.Join(err, boom)
		}), boom)
		g.work(handle(func(ctx context.Context, r *job.Run, p args) error {
			if auth.Tenant(ctx) != "t1" {
				return errors.New("the tenant is missing")
			}
			if err := r.Stage(ctx, "one", func(context.Context) error { stages.Add(1); return nil }); err != nil {
				return err
			}
			var at int
			seen, err := r.Resume(ctx, &at)
			if err != nil {
				return err
			}
			if !seen {
				if err := r.Checkpoint(ctx, 41); err != nil {
					return err
				}
				return boom // the second attempt goes on from here
			}
			if err := r.Once(ctx, "two", func(ctx context.Context, tx *db.Tx) error { tx.After(func() { once.Add(1) }); return nil }); err != nil {
				return err
			}
			r.Progress(int64(p.N), 10, "items", "on the way")
			r.Log(ctx, "info", "a line")
			return r.Result(map[string]int{"at": at + 1})
		}), 1)
		e := g.wait(id)
		require.Equal(g.t, job.Succeeded, e.State)
		require.JSONEq(g.t, `{"at":42}`, string(e.Result))
		require.Equal(g.t, 2, e.Attempt)
		require.EqualValues(g.t, 1, stages.Load())
		require.EqualValues(g.t, 1, once.Load())
		require.Equal(g.t, "thing_1", e.Subject.ID)
		require.EqualValues(g.t, 10, e.Progress.Done)
		require.Nil(g.t, e.Waiting)
		again := g.enqueue(args{7}, job.Options{Key: "k"})
		require.NotEqual(g.t, id, again, "the key is free after success")
		g.wait(again)
		require.NoError(g.t, g.d.Read(g.ctx, func(ctx context.Context, q *db.Query) error {
			l, err := job.List(ctx, q, job.Filter{Limit: 1})
			require.NoError(g.t, err)
			require.Len(g.t, l.Items, 1)
			require.Equal(g.t, again, l.Items[0].ID)
			l, err = job.List(ctx, q, job.Filter{Limit: 1, After: *l.Next})
			require.NoError(g.t, err)
			require.Equal(g.t, id, l.Items[0].ID)
			require.Nil(g.t, l.Next, "the rolled back one does not exist")
			return nil
		}))
		require.ErrorIs(g.t, g.d.Read(auth.AsSystem(g.ctx, "t2"), func(ctx context.Context, q *db.Query) error { _, err := job.Get(ctx, q, id); return err }), job.ErrNotFound)
	})
}

func TestFailAndRetry(t *testing.T) {
	each(t, func(g *rig) {
		var heal atomic.Bool
		bad := fault.New(fault.Invalid, "probe.bad_"+string(g.d.Dialect()), "bad input").WithHint("send a good one")
		g.work(handle(func(_ context.Context, _ *job.Run, p args) error {
			switch {
			case heal.Load():
				return nil
			case p.N == 1:
				return bad.With("number %d", p.N)
			case p.N == 2:
				panic("oh no")
			}
			return job.After(errors.New("later"), 30*time.Millisecond)
		}), 2)
		permanent, panics, temporary := g.enqueue(args{1}, job.Options{}), g.enqueue(args{2}, job.Options{}), g.enqueue(args{3}, job.Options{})
		e := g.wait(permanent)
		require.Equal(g.t, job.Failed, e.State)
		require.Equal(g.t, 1, e.Attempt, "an input that is wrong is not tried again")
		require.Equal(g.t, &job.Problem{Code: bad.Code, Title: "bad input", Detail: "number 1", Hint: "send a good one"}, e.Error)
		e = g.wait(panics)
		require.Equal(g.t, 3, e.Attempt)
		require.Equal(g.t, "job.panic", e.Error.Code)
		e = g.wait(temporary)
		require.Equal(g.t, 3, e.Attempt)
		require.Equal(g.t, "platform.internal", e.Error.Code)
		dead := func() (n int) {
			require.NoError(g.t, g.d.Read(g.ctx, func(ctx context.Context, q *db.Query) error {
				l, err := job.List(ctx, q, job.Filter{Dead: true})
				n = len(l.Items)
				return err
			}))
			return n
		}
		require.Equal(g.t, 3, dead())
		g.tx(func(ctx context.Context, tx *db.Tx) error { return job.Dismiss(ctx, tx, permanent) })
		require.Equal(g.t, 2, dead())
		heal.Store(true)
		g.tx(func(ctx context.Context, tx *db.Tx) error { _, err := job.Retry(ctx, tx, panics); return err })
		require.Equal(g.t, job.Succeeded, g.wait(panics).State)
		require.ErrorIs(g.t, g.d.Tx(g.ctx, func(ctx context.Context, tx *db.Tx) error { _, err := job.Retry(ctx, tx, panics); return err }), job.ErrNotFailed)
		require.ErrorIs(g.t, g.d.Tx(g.ctx, func(ctx context.Context, tx *db.Tx) error { _, err := job.Cancel(ctx, tx, panics); return err }), job.ErrEnded)
		require.ErrorIs(g.t, g.d.Tx(g.ctx, func(ctx context.Context, tx *db.Tx) error { _, err := job.Cancel(ctx, tx, "job_none"); return err }), job.ErrNotFound)
	})
}

func TestCancelAndWaiting(t *testing.T) {
	each(t, func(g *rig) {
		running := make(chan string, 10)
		release := make(chan struct{})
		g.work(handle(func(ctx context.Context, r *job.Run, p args) error {
			running <- r.ID
			if p.N == 5 && r.Fence == 1 {
				return r.Yield(time.Hour, job.Reason{Code: "quota", Message: "The quota is used up."})
			}
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}), 1)
		first := g.enqueue(args{1}, job.Options{})
		require.Equal(g.t, first, <-running)
		second := g.enqueue(args{2}, job.Options{})
		child := g.enqueue(args{3}, job.Options{Parent: second})
		grandchild := g.enqueue(args{3}, job.Options{Parent: child})
		later := g.enqueue(args{4}, job.Options{NotBefore: time.Now().Add(time.Hour)})
		yields := g.enqueue(args{5}, job.Options{Priority: 5})
		require.Equal(g.t, "no_slot", g.get(second).Waiting.Code)
		require.EqualValues(g.t, 2, g.get(second).Waiting.Position)
		require.EqualValues(g.t, 1, g.get(yields).Waiting.Position, "priority first")
		require.Equal(g.t, "parent", g.get(child).Waiting.Code)
		require.Equal(g.t, "not_before", g.get(later).Waiting.Code)
		require.False(g.t, g.get(later).Waiting.Until.IsZero())
		g.tx(func(ctx context.Context, tx *db.Tx) error { return job.SetShare(ctx, tx, "probe", "t1", 1, 1) })
		require.Equal(g.t, "tenant_cap", g.get(second).Waiting.Code)
		g.tx(func(ctx context.Context, tx *db.Tx) error { return job.Pause(ctx, tx, "probe", true) })
		require.Equal(g.t, "lane_paused", g.get(second).Waiting.Code)
		cancel := func(id string) (e job.Entry) {
			g.tx(func(ctx context.Context, tx *db.Tx) (err error) { e, err = job.Cancel(ctx, tx, id); return err })
			return e
		}
		start := time.Now()
		require.True(g.t, cancel(first).Cancelling)
		require.Equal(g.t, job.Cancelled, g.wait(first).State)
		require.Less(g.t, time.Since(start), 5*time.Second, "in the same process a cancel is heard at once")
		require.Equal(g.t, job.Cancelled, cancel(second).State, "at once")
		e := g.get(grandchild)
		require.Equal(g.t, job.Failed, e.State)
		require.Equal(g.t, "job.parent_failed", e.Error.Code)
		require.Equal(g.t, job.Cancelled, cancel(later).State)
		g.tx(func(ctx context.Context, tx *db.Tx) error { return job.Pause(ctx, tx, "probe", false) })
		require.Equal(g.t, yields, <-running)
		e = g.until(yields, func(e job.Entry) bool { return e.State == job.Waiting })
		require.Equal(g.t, "quota", e.Waiting.Code)
		require.Equal(g.t, 0, e.Attempt, "not counted")
		close(release)
		parent := g.enqueue(args{1}, job.Options{})
		child = g.enqueue(args{1}, job.Options{Parent: parent})
		require.Equal(g.t, job.Succeeded, g.wait(child).State)
		require.Equal(g.t, job.Succeeded, g.get(parent).State)
	})
}

func TestStopGivesBack(t *testing.T) {
	each(t, func(g *rig) {
		running := make(chan struct{}, 10)
		var finish atomic.Bool
		r := handle(func(ctx context.Context, _ *job.Run, _ args) error {
			running <- struct{}{}
			if finish.Load() {
				return nil
			}
			<-ctx.Done()
			require.True(g.t, job.Stopped(ctx))
			return ctx.Err()
		})
		stop := g.work(r, 1)
		id := g.enqueue(args{}, job.Options{})
		<-running
		stop()
		e := g.get(id)
		require.Equal(g.t, job.Waiting, e.State)
		require.Equal(g.t, 0, e.Attempt, "not counted")
		finish.Store(true)
		g.work(r, 1)
		require.Equal(g.t, job.Succeeded, g.wait(id).State)
	})
}

// A worker that slept through its lease finds all its writes refused.
func TestStaleWorkerIsFencedOff(t *testing.T) {
	each(t, func(g *rig) {
		taken, late := make(chan struct{}), make(chan error, 3)
		g.work(handle(func(ctx context.Context, r *job.Run, _ args) error {
			if r.Fence > 1 {
				return nil
			}
			<-taken
			late <- r.Commit(ctx, func(context.Context, *db.Tx) error { late <- errors.New("the late transaction ran"); return nil })
			late <- r.Checkpoint(ctx, 1)
			return nil
		}), 2)
		id := g.enqueue(args{}, job.Options{})
		g.until(id, func(e job.Entry) bool { return e.State == job.Running })
		require.NoError(g.t, g.d.System().Tx(g.ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE job_entry SET lease_until = 1`)
			return err
		}))
		e := g.wait(id)
		require.Equal(g.t, job.Succeeded, e.State)
		require.Equal(g.t, 2, e.Attempt)
		close(taken)
		require.ErrorIs(g.t, <-late, job.ErrLost)
		require.ErrorIs(g.t, <-late, job.ErrLost)
	})
}

func TestPoison(t *testing.T) {
	each(t, func(g *rig) {
		hold := make(chan struct{})
		g.t.Cleanup(func() { close(hold) })
		var runs atomic.Int64
		g.work(handle(func(context.Context, *job.Run, args) error { runs.Add(1); <-hold; return nil }), 10)
		id := g.enqueue(args{}, job.Options{MaxAttempts: 10})
		for n := range 3 {
			g.until(id, func(job.Entry) bool { return runs.Load() == int64(n+1) })
			require.NoError(g.t, g.d.System().Tx(g.ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE job_entry SET lease_until = 1 WHERE state = 'running'`)
				return err
			}))
		}
		e := g.wait(id)
		require.Equal(g.t, job.Failed, e.State)
		require.Equal(g.t, "job.poison", e.Error.Code)
	})
}

// Two tenants of weight 1 : 3 share a lane accordingly, and a third one's only entry does not wait for their backlog.
func TestFairShare(t *testing.T) {
	each(t, func(g *rig) {
		var mu sync.Mutex
		var order []string
		a, b, c := auth.AsSystem(g.ctx, "a"), auth.AsSystem(g.ctx, "b"), auth.AsSystem(g.ctx, "c")
		g.system(func(ctx context.Context, tx *db.Tx) error { return job.SetShare(ctx, tx, "probe", "b", 3, 0) })
		for _, ctx := range []context.Context{a, b} {
			require.NoError(g.t, g.d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
				for n := range 120 {
					if _, err := job.Enqueue(ctx, tx, probe, args{n}, job.Options{}); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		half, lone, all := make(chan struct{}), make(chan struct{}), make(chan struct{})
		g.work(handle(func(ctx context.Context, _ *job.Run, _ args) error {
			mu.Lock()
			order = append(order, auth.Tenant(ctx))
			n := len(order)
			mu.Unlock()
			switch n {
			case 40:
				close(half)
				<-lone
			case 121:
				close(all)
			}
			return nil
		}), 1)
		<-half
		g.enqueueAs(c, args{}, job.Options{})
		close(lone)
		<-all
		mu.Lock()
		defer mu.Unlock()
		count := map[string]int{}
		for _, x := range order[:120] {
			count[x]++
		}
		require.InDelta(g.t, 30, count["a"], 3, "one in four: %v", count)
		at := 0
		for i, x := range order {
			if x == "c" {
				at = i
			}
		}
		require.Contains(g.t, []int{40, 41, 42}, at, "the newcomer comes next")
	})
}

func TestScheduleOnceOverProcesses(t *testing.T) {
	each(t, func(g *rig) {
		var runs atomic.Int64
		ran := make(chan struct{}, 100)
		for range 3 {
			r := handle(func(context.Context, *job.Run, args) error { runs.Add(1); ran <- struct{}{}; return nil })
			job.Schedule(r, "probe.hourly", "@every 1h", probe, args{1})
			g.work(r, 1)
		}
		tick := func() {
			require.NoError(g.t, g.d.System().Tx(g.ctx, func(ctx context.Context, tx *db.Tx) error {
				n, err := tx.Exec(ctx, `UPDATE job_schedule SET next_at = 1`) // missed long ago
				return db.Guard(n, err, errors.New("no schedule yet"))
			}))
		}
		require.Eventually(g.t, func() bool {
			return g.d.System().Read(g.ctx, func(ctx context.Context, q *db.Query) error {
				_, err := db.One(ctx, q, db.Scalar[string], `SELECT name FROM job_schedule`)
				return err
			}) == nil
		}, 10*time.Second, 10*time.Millisecond)
		tick()
		<-ran
		<-time.After(300 * time.Millisecond) // several turns of all three
		require.EqualValues(g.t, 1, runs.Load(), "once for all missed ones, over three workers")
		tick()
		<-ran
	})
}

func TestManyClaimers(t *testing.T) {
	each(t, func(g *rig) {
		const entries = 200
		var runs [entries]atomic.Int64
		var left atomic.Int64
		left.Store(entries)
		all := make(chan struct{})
		g.tx(func(ctx context.Context, tx *db.Tx) error {
			for n := range entries {
				if _, err := job.Enqueue(ctx, tx, probe, args{n}, job.Options{}); err != nil {
					return err
				}
			}
			return nil
		})
		for range 4 {
			g.work(handle(func(_ context.Context, _ *job.Run, p args) error {
				runs[p.N].Add(1)
				if left.Add(-1) == 0 {
					close(all)
				}
				return nil
			}), 4)
		}
		<-all
		for n := range runs {
			require.EqualValues(g.t, 1, runs[n].Load(), fmt.Sprint("entry ", n))
		}
	})
}

// A child is made while its parent ends: whichever commits first, the child runs.
func TestChildOfAnEndingParent(t *testing.T) {
	each(t, func(g *rig) {
		running, release := make(chan string, 4), make(chan struct{})
		g.work(handle(func(ctx context.Context, r *job.Run, p args) error {
			if p.N == 1 {
				running <- r.ID
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return ctx.Err()
		}), 2)
		parent := g.enqueue(args{1}, job.Options{})
		<-running
		var child string
		g.tx(func(ctx context.Context, tx *db.Tx) (err error) {
			if child, err = job.Enqueue(ctx, tx, probe, args{2}, job.Options{Parent: parent}); err != nil {
				return err
			}
			close(release) // the parent ends now, and our transaction is open a while longer
			<-time.After(300 * time.Millisecond)
			return nil
		})
		require.Equal(g.t, job.Succeeded, g.wait(parent).State)
		require.Equal(g.t, job.Succeeded, g.wait(child).State)
	})
}
