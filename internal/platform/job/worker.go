package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
)

// Worker runs entries of the registered kinds. Fill the fields, call Run.
type Worker struct {
	DB       *db.DB
	Registry *Registry
	Log      *slog.Logger
	Lanes    map[string]int        // slots of this process per lane; lanes of registered kinds that are missing here get DefaultSlots; 0 = none
	Node     string                // unique per process life; "" = made up
	Poll     time.Duration         // how often to look without being woken; 0 = 1 s
	Reap     time.Duration         // how often to look for dead workers' entries; 0 = 5 s
	Grace    time.Duration         // how long runs may take to stop; 0 = 20 s
	Metrics  prometheus.Registerer // nil = none

	lanes map[string]*lane
	said  time.Time    // when this process last said that it lives
	skew  atomic.Int64 // nanoseconds that the database's clock is ahead
	m     *metrics
	runs  sync.WaitGroup
	mu    sync.Mutex // guards live
	live  map[*Run]bool
}

type lane struct {
	kinds []string
	slots int
	free  atomic.Int64
}

// DefaultSlots are the slots of a lane without a setting: processor-bound work by cores, the rest a few.
func DefaultSlots(lane string) int {
	switch lane {
	case "cpu":
		return max(1, runtime.NumCPU()/2)
	case "net":
		return 8
	case "maintenance":
		return 1
	}
	return 2
}

// now is the present by the clock of the database.
func (w *Worker) now() time.Time { return clock.Now().Add(time.Duration(w.skew.Load())) }

// firstLease is the longest lease of the kinds: the kind is known only after the claim.
func (w *Worker) firstLease(kinds []string) time.Duration {
	var d time.Duration
	for _, k := range kinds {
		d = max(d, w.Registry.kinds[k].lease)
	}
	return d
}

// Run works until ctx ends, then cancels the runs, waits for them up to Grace and gives their entries back. It returns nil after an orderly stop.
func (w *Worker) Run(ctx context.Context) error {
	w.start()
	if err := w.announce(ctx, true); err != nil {
		return err
	}
	enqueued, stopA := w.DB.Listen(wakeLane)
	defer stopA()
	cancelled, stopB := w.DB.Listen(wakeCancel)
	defer stopB()
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // of heartbeats: they go on while runs stop
	defer end()
	poll, reap, beat := time.NewTicker(w.Poll), time.NewTicker(w.Reap), time.NewTicker(time.Second)
	defer poll.Stop()
	defer reap.Stop()
	defer beat.Stop()
	w.reap(ctx)
	w.turn(ctx)
	for {
		select {
		case <-ctx.Done():
			return w.stop(life)
		case <-enqueued:
			w.turn(ctx)
		case <-poll.C:
			w.turn(ctx)
		case <-reap.C:
			w.reap(ctx)
		case <-cancelled:
			w.beats(life, true)
		case <-beat.C:
			w.beats(life, false)
		}
	}
}

func (w *Worker) start() {
	if w.Node == "" {
		w.Node = id.New("node")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&w.Poll, time.Second)
	def(&w.Reap, 5*time.Second)
	def(&w.Grace, 20*time.Second)
	w.lanes, w.live = map[string]*lane{}, map[*Run]bool{}
	for name, kinds := range w.Registry.lanes() {
		slots, set := w.Lanes[name]
		if !set {
			slots = DefaultSlots(name)
		}
		if slots > 0 {
			l := &lane{kinds: kinds, slots: slots}
			l.free.Store(int64(slots))
			w.lanes[name] = l
		}
	}
	w.m = newMetrics(w.Metrics, w.lanes)
}

// turn promotes, then fills free slots.
func (w *Worker) turn(ctx context.Context) {
	promote, lanes, err := w.due(ctx)
	if err == nil && promote {
		if err = w.promote(ctx); err == nil {
			_, lanes, err = w.due(ctx)
		}
	}
	if err != nil {
		w.complain(ctx, "look for work", err)
		return
	}
	for name, found := range lanes {
		l := w.lanes[name]
		free := int(l.free.Load())
		if !found || free <= 0 {
			continue
		}
		start := time.Now()
		entries, err := w.claim(ctx, name, free)
		w.m.claim.Observe(time.Since(start).Seconds())
		if err != nil {
			w.complain(ctx, "claim work", err)
			continue
		}
		for _, e := range entries {
			w.launch(ctx, l, e)
		}
	}
}

func (w *Worker) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		w.Log.WarnContext(ctx, "the job worker could not do its turn", "what", what, "error", err)
	}
}

func (w *Worker) launch(ctx context.Context, l *lane, e Entry) {
	h := w.Registry.kinds[e.Kind]
	run, cancel := context.WithCancelCause(auth.AsSystem(context.WithoutCancel(ctx), e.TenantID))
	r := &Run{ID: e.ID, TenantID: e.TenantID, Attempt: e.Attempt, Fence: e.fence, w: w, h: h, cancel: cancel, lease: time.Now().Add(h.lease)}
	r.progress = Progress{Done: e.Progress.Done, Total: e.Progress.Total, Unit: e.Progress.Unit, Note: e.Progress.Note}
	l.free.Add(-1)
	w.mu.Lock()
	w.live[r] = true
	w.mu.Unlock()
	w.runs.Go(func() {
		defer func() {
			w.mu.Lock()
			delete(w.live, r)
			w.mu.Unlock()
			l.free.Add(1)
			cancel(nil)
			w.DB.Notify(wakeLane) // a slot is free
		}()
		beat := make(chan struct{})
		var beats sync.WaitGroup
		beats.Go(func() { r.heart(run, beat) })
		start := time.Now()
		err := w.work(run, r, e)
		close(beat)
		beats.Wait()
		w.finish(run, r, e, err, time.Since(start))
	})
}

// heart keeps the lease until the work ends; when it cannot, the work is stopped before somebody else may begin it.
func (r *Run) heart(ctx context.Context, end <-chan struct{}) {
	t := time.NewTicker(r.h.lease / 3)
	defer t.Stop()
	for {
		select {
		case <-end:
			return
		case <-t.C:
		}
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.h.lease/4)
		err := r.beat(try, true)
		cancel()
		if errors.Is(err, ErrLost) || err != nil && r.expired() {
			r.cancel(ErrLost)
			return
		}
	}
}

// beats sends the news of all runs now; with every also without news, to hear of cancels.
func (w *Worker) beats(ctx context.Context, every bool) {
	w.mu.Lock()
	live := make([]*Run, 0, len(w.live))
	for r := range w.live {
		live = append(live, r)
	}
	w.mu.Unlock()
	for _, r := range live {
		if err := r.beat(ctx, every); errors.Is(err, ErrLost) {
			r.cancel(ErrLost)
		} else if err != nil {
			w.complain(ctx, "send progress", err)
		}
	}
}

// work calls the handler; a panic becomes an error with its stack in the log.
func (w *Worker) work(ctx context.Context, r *Run, e Entry) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.ErrorContext(ctx, "a job handler panicked", "job", e.ID, "kind", e.Kind, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = ErrPanic.Wrap(fmt.Errorf("panic: %v", p))
		}
	}()
	return r.h.run(ctx, r, e.Payload)
}

// stop cancels the runs and waits for them; what does not stop in time is left to the reaper of another process.
func (w *Worker) stop(ctx context.Context) error {
	w.mu.Lock()
	for r := range w.live {
		r.cancel(errStopping)
	}
	w.mu.Unlock()
	done := make(chan struct{})
	go func() { w.runs.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(w.Grace):
		w.Log.WarnContext(ctx, "jobs did not stop in time; another worker takes them over when their leases end")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM job_worker WHERE node = $1`, w.Node)
		return err
	})
	if err != nil {
		w.Log.WarnContext(ctx, "the worker's row could not be removed", "error", err)
	}
	return nil
}

// finish writes how the attempt ended.
func (w *Worker) finish(ctx context.Context, r *Run, e Entry, err error, took time.Duration) {
	cause := context.Cause(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	result, write := w.outcome(r, e, err, cause)
	if write == nil {
		w.Log.WarnContext(ctx, "a job was lost to another worker", "job", e.ID, "kind", e.Kind)
		w.m.lost.Inc()
		return
	}
	writeErr := w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return write(ctx, tx) })
	switch {
	case errors.Is(writeErr, ErrLost):
		w.m.lost.Inc()
		w.Log.WarnContext(ctx, "a job was lost to another worker", "job", e.ID, "kind", e.Kind)
		return
	case writeErr != nil:
		w.Log.ErrorContext(ctx, "the end of a job could not be written; it will run again", "job", e.ID, "kind", e.Kind, "error", writeErr)
		return
	}
	w.m.total.WithLabelValues(e.Kind, result).Inc()
	w.m.seconds.WithLabelValues(e.Kind).Observe(took.Seconds())
	if err != nil && (result == "failed" || result == "retry") {
		w.Log.WarnContext(ctx, "a job attempt failed", "job", e.ID, "kind", e.Kind, "attempt", e.Attempt, "result", result, "error", err)
	}
}

// outcome decides what the end of an attempt means; a nil write = the entry is not ours any more.
func (w *Worker) outcome(r *Run, e Entry, err, cause error) (result string, write func(context.Context, *db.Tx) error) {
	now := w.now()
	at := db.Micro(now)
	r.mu.Lock()
	p, out := r.progress, r.result
	r.mu.Unlock()
	end := func(state State, problem string) func(context.Context, *db.Tx) error {
		return func(ctx context.Context, tx *db.Tx) error {
			if state == Succeeded && p.Total > 0 {
				p.Done = p.Total
			}
			if err := r.fenced(ctx, tx, `state = $3, finished_at = $4, updated_at = $4, result = $5, error = $6, done = $7, total = $8, unit = $9, note = $10, lease_until = 0`,
				string(state), at, out, problem, p.Done, p.Total, p.Unit, p.Note); err != nil {
				return err
			}
			return settleChildren(ctx, tx, r.ID, state == Succeeded, at)
		}
	}
	wait := func(until time.Time, counted int, code, message, problem string) func(context.Context, *db.Tx) error {
		return func(ctx context.Context, tx *db.Tx) error {
			return r.fenced(ctx, tx, `state = 'waiting', run_at = $3, attempt = attempt - 1 + $4, wait_code = $5, wait_message = $6, wait_since = $7, updated_at = $7, error = $8, lease_until = 0, done = $9, total = $10, unit = $11, note = $12`,
				db.Micro(until), counted, code, message, at, problem, p.Done, p.Total, p.Unit, p.Note)
		}
	}
	var yield *yieldError
	var after *afterError
	switch {
	case err == nil:
		return "succeeded", end(Succeeded, "")
	case cause == error(ErrLost) || errors.Is(err, ErrLost): //nolint:errorlint // the cause is ours, unwrapped
		return "lost", nil
	case cause == error(errCancelled): //nolint:errorlint // as above
		return "cancelled", end(Cancelled, "")
	case cause == error(errStopping): //nolint:errorlint // as above
		return "stopped", wait(now, 0, "restart", "The process that ran it stopped; another one goes on.", "")
	case errors.As(err, &yield):
		return "yield", wait(now.Add(yield.after), 0, yield.why.Code, yield.why.Message, "")
	}
	problem := string(fault.Encode(err))
	if k := fault.KindOf(err); k == fault.Invalid || k == fault.Forbidden || k == fault.NotFound || k == fault.TooLarge || e.Attempt >= e.Attempts {
		return "failed", end(Failed, problem)
	}
	pause := r.h.backoff.wait(e.Attempt)
	if errors.As(err, &after) {
		pause = after.wait
	}
	f := fault.From(err)
	pause = max(pause, f.RetryAfter)
	return "retry", wait(now.Add(pause), 1, "backoff", fmt.Sprintf("Attempt %d of %d failed (%s); it is repeated after a pause.", e.Attempt, e.Attempts, f.Code), problem)
}

// announce says which lanes and kinds this process works on; first also makes the lanes and the schedules.
func (w *Worker) announce(ctx context.Context, first bool) error {
	if !first && time.Since(w.said) < alive/3 {
		return nil
	}
	w.said = time.Now()
	if skew, err := w.DB.Skew(ctx); err == nil {
		w.skew.Store(int64(skew))
	}
	return w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		for name, l := range w.lanes {
			kinds, err := json.Marshal(l.kinds)
			if err != nil {
				return err
			}
			if first {
				if _, err := tx.Exec(ctx, `INSERT INTO job_lane (lane) VALUES ($1) ON CONFLICT (lane) DO NOTHING`, name); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, `INSERT INTO job_worker (node, lane, slots, kinds, seen_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node, lane) DO UPDATE SET seen_at = excluded.seen_at`, w.Node, name, l.slots, string(kinds), db.Micro(w.now())); err != nil {
				return err
			}
		}
		if first {
			return w.plan(ctx, tx)
		}
		return nil
	})
}
