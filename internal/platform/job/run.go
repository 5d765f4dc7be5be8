package job

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
)

// Run is one attempt at an entry, in the hands of its handler. Its methods may be called from several goroutines, stages one after the other.
type Run struct {
	ID       string
	TenantID string
	Attempt  int   // from 1
	Fence    int64 // rises with every attempt: part of the key of what the attempt writes outside the database

	w      *Worker
	h      *handler
	cancel context.CancelCauseFunc

	mu       sync.Mutex // guards what follows
	progress Progress
	dirty    bool
	result   string
	lease    time.Time // until when the entry is ours, by this process's monotonic clock
}

// Commit runs f in a transaction that holds only if the lease is still ours; ErrLost else, and everything this attempt did must be dropped. Domain rows and events go in here together. Like every transaction
// it may be repeated: no effects outside.
func (r *Run) Commit(ctx context.Context, f func(ctx context.Context, tx *db.Tx) error) error {
	return r.w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := r.fenced(ctx, tx, `updated_at = $3`, db.Micro(r.w.now())); err != nil {
			return err
		}
		return f(ctx, tx)
	})
}

// fenced changes the entry if it is still ours. set uses $3 and up.
func (r *Run) fenced(ctx context.Context, tx *db.Tx, set string, args ...any) error {
	n, err := tx.Exec(ctx, `UPDATE job_entry SET `+set+` WHERE id = $1 AND fence = $2 AND state = 'running'`, append([]any{r.ID, r.Fence}, args...)...)
	return db.Guard(n, err, ErrLost)
}

// Stage runs f unless an earlier attempt finished the stage of this name. f may run again if the process dies before the stage is noted; see Once.
func (r *Run) Stage(ctx context.Context, name string, f func(ctx context.Context) error) error {
	done, err := r.enter(ctx, name)
	if err != nil || done {
		return err
	}
	if err := f(ctx); err != nil {
		return err
	}
	return r.Commit(ctx, func(ctx context.Context, tx *db.Tx) error { return r.note(ctx, tx, name) })
}

// Once is a stage whose effects are all in one transaction: they happen exactly once.
func (r *Run) Once(ctx context.Context, name string, f func(ctx context.Context, tx *db.Tx) error) error {
	done, err := r.enter(ctx, name)
	if err != nil || done {
		return err
	}
	return r.Commit(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := r.note(ctx, tx, name); err != nil {
			return err
		}
		return f(ctx, tx)
	})
}

func (r *Run) enter(ctx context.Context, name string) (done bool, err error) {
	err = r.Commit(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.One(ctx, tx, db.Scalar[int64], `SELECT COUNT(*) FROM job_stage WHERE entry_id = $1 AND name = $2`, r.ID, name)
		if done = n > 0; err != nil || done {
			return err
		}
		return r.fenced(ctx, tx, `stage = $3`, name)
	})
	return done, err
}

func (r *Run) note(ctx context.Context, tx *db.Tx, name string) error {
	_, err := tx.Exec(ctx, `INSERT INTO job_stage (entry_id, name, at) VALUES ($1, $2, $3)`, r.ID, name, db.Micro(r.w.now()))
	return err
}

// Progress notes how far the work is. Cheap: it goes out with the next sign of life, about once a second. total 0 = unknown.
func (r *Run) Progress(done, total int64, unit, note string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress, r.dirty = Progress{Done: done, Total: total, Unit: unit, Note: note}, true
}

// Checkpoint stores v (JSON, at most 256 KiB) for Resume. ErrTooLarge, ErrLost.
func (r *Run) Checkpoint(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxPayload {
		return ErrTooLarge.With("the checkpoint has %d bytes, over the limit of %d", len(b), maxPayload)
	}
	return r.Commit(ctx, func(ctx context.Context, tx *db.Tx) error { return r.fenced(ctx, tx, `checkpoint = $3`, string(b)) })
}

// Resume reads the last checkpoint of this entry into v; false if there is none.
func (r *Run) Resume(ctx context.Context, v any) (bool, error) {
	var text string
	err := r.w.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		text, err = db.One(ctx, q, db.Scalar[string], `SELECT checkpoint FROM job_entry WHERE id = $1`, r.ID)
		return err
	})
	if err != nil || text == "" {
		return false, err
	}
	return true, json.Unmarshal([]byte(text), v)
}

// Yield gives the slot back and lets the entry wait with a reason; return its error from the handler. The attempt is not counted.
func (r *Run) Yield(after time.Duration, why Reason) error { return &yieldError{after, why} }

// maxLog is the number of lines kept of an entry: later ones are dropped, the first ones tell the cause.
const maxLog = 1000

// Log adds a line (level info, warn, error) to the entry's log, which people see. Never content of users. A failure to write it is the process log's matter.
func (r *Run) Log(ctx context.Context, level, text string) {
	text = text[:min(len(text), 4096)]
	err := r.w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO job_log (entry_id, seq, at, level, text) SELECT id, (SELECT COALESCE(MAX(seq), 0) + 1 FROM job_log WHERE entry_id = $1), $2, $3, $4 FROM job_entry
			WHERE id = $1 AND fence = $5 AND (SELECT COUNT(*) FROM job_log WHERE entry_id = $1) < $6`, r.ID, db.Micro(clock.Now()), level, text, r.Fence, maxLog)
		return err
	})
	if err != nil {
		r.w.Log.WarnContext(ctx, "the line for a job's log was lost", "job", r.ID, "error", err)
	}
}

// Result sets what a succeeded entry shows, as JSON of at most 64 KiB. ErrTooLarge.
func (r *Run) Result(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxResult {
		return ErrTooLarge.With("the result has %d bytes, over the limit of %d", len(b), maxResult)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result = string(b)
	return nil
}

// beat extends the lease, sends progress and brings back a wish to cancel. every = also without news.
func (r *Run) beat(ctx context.Context, every bool) error {
	r.mu.Lock()
	p, dirty := r.progress, r.dirty
	r.dirty = false
	r.mu.Unlock()
	if !dirty && !every {
		return nil
	}
	start := time.Now()
	var cancelAt int64
	err := r.w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		got, err := db.List(ctx, tx, db.Scalar[int64], `UPDATE job_entry SET lease_until = $3, done = $4, total = $5, unit = $6, note = $7, updated_at = $8 WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING cancel_at`,
			r.ID, r.Fence, db.Micro(r.w.now().Add(r.h.lease)), p.Done, p.Total, p.Unit, p.Note, db.Micro(r.w.now()))
		if err == nil && len(got) == 0 {
			return ErrLost
		}
		if err == nil {
			cancelAt = got[0]
		}
		return err
	})
	if err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		return err
	}
	r.mu.Lock()
	r.lease = start.Add(r.h.lease)
	r.mu.Unlock()
	if cancelAt != 0 {
		r.cancel(errCancelled)
	}
	return nil
}

func (r *Run) expired() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !time.Now().Before(r.lease)
}

// Why the context of a run ended.
var (
	errCancelled = fault.New(fault.Conflict, "job.cancelled", "the job was cancelled")
	errStopping  = fault.New(fault.Unavailable, "job.stopping", "the process stops")
)

// Stopped reports whether the context of a run ended because its process stops: the work goes on in another one.
func Stopped(ctx context.Context) bool { return context.Cause(ctx) == error(errStopping) } //nolint:errorlint // identity
