package job

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/robfig/cron/v3"

	"maas/internal/platform/fault"
)

// Registry holds the kinds that this process works on, and the schedules. Fill it before the worker runs.
type Registry struct {
	kinds     map[string]*handler
	schedules []schedule
}

type handler struct {
	name, lane string
	lease      time.Duration
	backoff    Backoff
	run        func(ctx context.Context, r *Run, payload []byte) error
}

type schedule struct {
	name, spec, kind, lane string
	payload                []byte
	parsed                 cron.Schedule
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{kinds: map[string]*handler{}} }

// ErrPayload is the end of an entry whose payload this version of the program cannot read.
var ErrPayload = fault.New(fault.Invalid, "job.bad_payload", "the payload of the job cannot be read")

// Handle registers the work of a kind; twice panics. f runs at least once per entry as the system inside the entry's tenant; ctx ends when the entry is cancelled, the lease is lost or the process stops, and f
// returns soon after. Errors of kinds invalid, forbidden, not_found and too_large end the entry, others are repeated; see also After and Run.Yield.
func Handle[P any](r *Registry, k Kind[P], f func(ctx context.Context, run *Run, p P) error) {
	if k.Name == "" || r.kinds[k.Name] != nil {
		panic("job: kind without a name or registered twice: " + k.Name)
	}
	h := &handler{name: k.Name, lane: k.lane(), lease: k.Lease, backoff: k.Backoff}
	if h.lease <= 0 {
		h.lease = 20 * time.Second
	}
	if h.backoff == (Backoff{}) {
		h.backoff = Exp(5*time.Second, 10*time.Minute)
	}
	h.run = func(ctx context.Context, run *Run, payload []byte) error {
		var p P
		if err := json.Unmarshal(payload, &p); err != nil {
			return ErrPayload.Wrap(err)
		}
		return f(ctx, run, p)
	}
	r.kinds[k.Name] = h
}

// Schedule enqueues p, outside any tenant, at each occurrence of spec: five cron fields (UTC) or "@every 5m". Once over any number of processes; skipped while the last one is unfinished; once, at once, when
// occurrences were missed. A spec that cannot be read panics.
func Schedule[P any](r *Registry, name, spec string, k Kind[P], p P) {
	parsed, err := cron.ParseStandard(spec)
	if err != nil {
		panic(fmt.Sprintf("job: schedule %s: %v", name, err))
	}
	payload, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("job: schedule %s: %v", name, err))
	}
	if slices.ContainsFunc(r.schedules, func(s schedule) bool { return s.name == name }) {
		panic("job: schedule registered twice: " + name)
	}
	r.schedules = append(r.schedules, schedule{name, spec, k.Name, k.lane(), payload, parsed})
}

// lanes returns the lanes of the kinds with the names of the kinds in each, sorted.
func (r *Registry) lanes() map[string][]string {
	m := map[string][]string{}
	for _, h := range r.kinds {
		m[h.lane] = append(m[h.lane], h.name)
	}
	for _, names := range m {
		slices.Sort(names)
	}
	return m
}
