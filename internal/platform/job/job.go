// Package job runs durable background work. An entry is inserted in the transaction of what it is for; a worker leases it, runs it in stages, and every write checks the fence.
//
//	queued -> running -> succeeded | failed | cancelled        waiting = not before a time, backing off, parent unfinished, or Yield with a reason
//	  ^  \-> waiting -/     |--error, lease lost--> waiting -> queued
//
// Invariants: at least once for execution, once for effects that go through Run.Commit or Run.Once. At most one live holder of an entry's fence can write. A queued or waiting entry always says why it waits.
// Failed entries stay (the dead-letter page) until someone retries or dismisses them. Lanes bound how much runs at once; inside a lane tenants get their share by weight (start-time fair queueing).
package job

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
)

// Migrations are the tables of this package, service name "job".
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Errors of this package.
var (
	ErrNotFound  = fault.New(fault.NotFound, "job.not_found", "there is no such job")
	ErrLost      = fault.New(fault.Conflict, "job.lost", "another worker holds this job now")
	ErrEnded     = fault.New(fault.Conflict, "job.ended", "the job has already ended")
	ErrNotFailed = fault.New(fault.Conflict, "job.not_failed", "only a failed or cancelled job can be repeated")
	ErrTooLarge  = fault.New(fault.TooLarge, "job.too_large", "payload and checkpoint of a job hold at most 256 KiB, its result 64 KiB")
	ErrPoison    = fault.New(fault.Internal, "job.poison", "the program died three times while working on this")
	ErrPanic     = fault.New(fault.Internal, "job.panic", "the work broke down by a mistake in the program")
	ErrParent    = fault.New(fault.Conflict, "job.parent_failed", "the job that this one waited for has not succeeded")
)

const (
	maxPayload = 256 << 10
	maxResult  = 64 << 10
	never      = int64(1) << 62 // run_at of entries that wait for something else than time
)

// Kind is a sort of work with payload P (a struct that JSON can hold, at most 256 KiB). Kinds are package variables; the process that does the work registers a handler with Handle.
type Kind[P any] struct {
	Name        string        // `<service>.<verb>`
	Lane        string        // cpu, net, maintenance or one of the caller's; slots are set on the worker. "" = cpu
	Lease       time.Duration // how long a dead worker blocks the entry; 0 = 20 s
	MaxAttempts int           // 0 = 8
	Backoff     Backoff       // zero = Exp(5 s, 10 min)
}

func (k Kind[P]) lane() string {
	if k.Lane == "" {
		return "cpu"
	}
	return k.Lane
}

// Backoff says how long to wait before attempt n+1.
type Backoff struct{ First, Max time.Duration }

// Exp doubles from first up to most, with jitter of 20 %.
func Exp(first, most time.Duration) Backoff { return Backoff{first, most} }

// wait returns the pause after attempt n (from 1).
func (b Backoff) wait(n int) time.Duration {
	d := b.First
	for i := 1; i < n && d < b.Max; i++ {
		d *= 2
	}
	d = min(d, b.Max)
	return d + time.Duration((rand.Float64()*0.4-0.2)*float64(d)) //nolint:gosec // spreads load
}

// Options of an entry. All may be zero.
type Options struct {
	Key         string // at most one unfinished entry of a kind and tenant has this key: enqueuing another returns the id of the first
	SubjectKind string // what it is about: "model_version"
	SubjectID   string
	Priority    int // higher first inside a tenant
	NotBefore   time.Time
	Cost        int64  // share charged; 0 = 1
	Parent      string // waits until that entry of the same tenant has succeeded; fails when it does not
	MaxAttempts int    // 0 = the kind's
}

// Enqueue adds an entry in tx under the tenant of ctx and returns its id (`job_...`).
func Enqueue[P any](ctx context.Context, tx *db.Tx, k Kind[P], p P, o Options) (string, error) {
	payload, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = k.MaxAttempts
	}
	return enqueue(ctx, tx, k.Name, k.lane(), payload, o)
}

func enqueue(ctx context.Context, tx *db.Tx, kind, lane string, payload []byte, o Options) (string, error) {
	if len(payload) > maxPayload {
		return "", ErrTooLarge.With("the payload of %s has %d bytes, over the limit of %d", kind, len(payload), maxPayload)
	}
	now := clock.Now()
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = 8
	}
	if o.Cost <= 0 {
		o.Cost = 1
	}
	tenant := auth.Tenant(ctx)
	state, runAt, wait, message := Queued, db.Micro(now), "", ""
	if o.NotBefore.After(now) {
		state, runAt, wait, message = Waiting, db.Micro(o.NotBefore), "not_before", "It is planned for a later time."
	}
	if o.Parent != "" {
		// An UPDATE that changes nothing: it holds the parent's row, so that the parent cannot end between this look and our commit and pass its child over.
		parent, err := db.One(ctx, tx, db.Scalar[State], `UPDATE job_entry SET parent = parent WHERE id = $1 AND tenant_id = $2 RETURNING state`, o.Parent, tenant)
		switch {
		case errors.Is(err, db.ErrNoRow):
			return "", ErrNotFound.With("the parent job %s does not exist", o.Parent)
		case err != nil:
			return "", err
		case parent == Failed || parent == Cancelled:
			return "", ErrParent
		case parent != Succeeded:
			state, runAt, wait, message = Waiting, never, "parent", "It waits for another job to finish."
		}
	}
	me := id.New("job")
	got, err := db.List(ctx, tx, db.Scalar[string], `INSERT INTO job_entry (id, tenant_id, kind, lane, subject_kind, subject_id, key, state, priority, cost, run_at, not_before, parent, max_attempts, payload, wait_code, wait_message, wait_since, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18, $18)
		ON CONFLICT (tenant_id, kind, key) WHERE key <> '' AND finished_at = 0 DO NOTHING RETURNING id`,
		me, tenant, kind, lane, o.SubjectKind, o.SubjectID, o.Key, string(state), o.Priority, o.Cost, runAt, db.Micro(o.NotBefore), o.Parent, o.MaxAttempts, string(payload), wait, message, db.Micro(now))
	if err != nil {
		return "", err
	}
	if len(got) == 0 {
		return db.One(ctx, tx, db.Scalar[string], `SELECT id FROM job_entry WHERE tenant_id = $1 AND kind = $2 AND key = $3 AND finished_at = 0`, tenant, kind, o.Key)
	}
	tx.Notify(wakeLane)
	return me, nil
}

// Names of wake-ups inside a process (db.DB.Listen).
const (
	wakeLane   = "job.enqueued"
	wakeCancel = "job.cancelled"
)

// After makes err an error that is repeated after d (a provider's Retry-After), with the attempt counted.
func After(err error, d time.Duration) error { return &afterError{err, d} }

type afterError struct {
	err  error
	wait time.Duration
}

func (e *afterError) Error() string { return e.err.Error() }
func (e *afterError) Unwrap() error { return e.err }

// Reason says why an entry waits: a stable code, a sentence, the place in the line where there is one.
type Reason struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Position int64     `json:"position,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Until    time.Time `json:"until,omitzero"`
}

type yieldError struct {
	after time.Duration
	why   Reason
}

func (e *yieldError) Error() string { return "job: waits: " + e.why.Code }
