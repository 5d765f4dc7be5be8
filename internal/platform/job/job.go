// Package job runs durable background work. An entry is inserted in the transaction of what it is for; a worker leases it, runs it in stages, and every write checks the fence.
package job

import (
	"context"
	"time"

	"maas/internal/platform/db"
)

// Kind is a sort of work with payload P (a struct that JSON can hold, at most 256 KiB). Kinds are package variables; the process that does the work registers a handler with Handle.
type Kind[P any] struct {
	Name        string        // `<service>.<verb>`
	Lane        string        // cpu, net, maintenance or one of the caller's; slots are set on the worker. "" = cpu
	Lease       time.Duration // how long a dead worker blocks the entry; 0 = 20 s
	MaxAttempts int           // 0 = 8
	Backoff     Backoff       // zero = Exp(5 s, 10 min)
}

// Backoff says how long to wait before attempt n+1.
type Backoff struct{ First, Max time.Duration }

// Exp doubles from first up to max, with jitter of 20 %.
func Exp(first, max time.Duration) Backoff { return Backoff{first, max} }

// Options of an entry. All may be zero.
type Options struct {
	Key         string // at most one unfinished entry of a kind and tenant has this key: enqueuing another returns the id of the first
	SubjectKind string // what it is about: "model_version"
	SubjectID   string
	Sub         string // second level of fair share: a project, a knowledge base
	Priority    int    // higher first inside a tenant
	NotBefore   time.Time
	Cost        int64  // share charged; 0 = 1
	Parent      string // waits until that entry has succeeded; fails when it fails
}

// Enqueue adds an entry in tx under the tenant of ctx and returns its id (`job_...`).
func Enqueue[P any](ctx context.Context, tx *db.Tx, k Kind[P], p P, o Options) (string, error) {
	panic("filled next")
}

// Registry holds the kinds that this process works on, and the schedules.
type Registry struct{}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{} }

// Handle registers the work of a kind. f runs at least once per entry as the system inside the entry's tenant; ctx ends when the entry is cancelled, the lease is lost or the process stops. Errors of kinds
// invalid, forbidden, not_found and too_large end the entry, others are repeated; see also After.
func Handle[P any](r *Registry, k Kind[P], f func(ctx context.Context, run *Run, p P) error) {
	panic("filled next")
}

// Schedule enqueues p at each occurrence of spec: five cron fields (UTC) or "@every 5m". Once over any number of processes; skipped while the last one is unfinished; once at start when occurrences were missed.
func Schedule[P any](r *Registry, name, spec string, k Kind[P], p P) { panic("filled next") }

// After makes err an error that is repeated after d (a provider's Retry-After), with the attempt counted.
func After(err error, d time.Duration) error { panic("filled next") }

// Run is one attempt at an entry, in the hands of its handler.
type Run struct {
	ID       string
	TenantID string
	Attempt  int   // from 1
	Fence    int64 // rises with every attempt: part of the key of what the attempt writes outside the database
}

// Commit runs f in a transaction that holds only if the lease is still ours; job.lost else. Domain rows, events, stage and checkpoint go together.
func (r *Run) Commit(ctx context.Context, f func(ctx context.Context, tx *db.Tx) error) error {
	panic("filled next")
}

// Stage runs f unless an earlier attempt finished the stage of this name.
func (r *Run) Stage(ctx context.Context, name string, f func(ctx context.Context) error) error {
	panic("filled next")
}

// Progress notes how far the work is. Cheap: it goes out with the heartbeat. total 0 = unknown.
func (r *Run) Progress(done, total int64, unit, note string) { panic("filled next") }

// Checkpoint stores v (JSON, at most 256 KiB) for Resume, at once.
func (r *Run) Checkpoint(ctx context.Context, v any) error { panic("filled next") }

// Resume reads the last checkpoint of this entry into v; false if there is none.
func (r *Run) Resume(ctx context.Context, v any) (bool, error) { panic("filled next") }

// Yield gives the slot back and waits for `after` with a reason; return its error from the handler. The attempt is not counted.
func (r *Run) Yield(after time.Duration, why Reason) error { panic("filled next") }

// Log adds a line to the entry's log (at most 1,000).
func (r *Run) Log(ctx context.Context, level, text string) { panic("filled next") }

// Result sets the JSON that a succeeded entry shows (at most 64 KiB).
func (r *Run) Result(v any) { panic("filled next") }

// Reason says why an entry waits.
type Reason struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Position int       `json:"position,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Until    time.Time `json:"until,omitzero"`
}

// State of an entry.
type State string

// The states.
const (
	Queued    State = "queued"
	Waiting   State = "waiting"
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)
