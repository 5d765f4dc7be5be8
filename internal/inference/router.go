package inference

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/clock"
	"maas/internal/platform/fault"
)

// The errors of routing. A caller shows them in its own wire form.
var (
	ErrModelNotFound = fault.New(fault.NotFound, "inference.model_not_found", "there is no such model").WithHint("GET /v1/models lists the models you can call")
	ErrNotReady      = fault.New(fault.Unavailable, "inference.not_ready", "the model has no replica that is ready")
)

// Breaker and cooling figures: gateways of other projects settled on the same order of magnitude; taste, not measurement.
const (
	breakerFailures = 5
	breakerFirst    = 5 * time.Second
	breakerLast     = 60 * time.Second
)

// Table is what a Router routes by: one entry per deployment that exists. Version grows with every change.
type Table struct {
	Version uint64
	Routes  []Route
}

// Route is one public model name of one tenant.
type Route struct {
	Model     ModelInfo
	Defaults  engine.Defaults
	Reason    *Reason   // why it is not ready, nil when it is
	Retry     time.Time // failed: when it is tried again; zero = not by itself
	Endpoints []RouteEndpoint
}

// RouteEndpoint is one ready replica.
type RouteEndpoint struct {
	Replica  string
	Endpoint engine.Endpoint
}

// ModelInfo is one entry of the list of models.
type ModelInfo struct {
	ID            string // public name: what a request puts into `model`
	Tenant        string
	Deployment    string
	OwnedBy       string
	Created       time.Time
	ContextLength int
	State         Status // of the deployment: ready, degraded, starting, ...
	Task          string // "chat"
}

// Router answers which endpoint a request goes to. It does no I/O: the table is immutable behind an atomic pointer and replaced as a whole when something changes.
// Its methods may be called from any number of goroutines.
type Router struct {
	view   atomic.Pointer[view]
	now    clock.Clock
	report func(Outcome)
}

type routeKey struct{ tenant, model string }

// view is a Table made ready for look-ups.
type view struct {
	version uint64
	targets map[routeKey]*Target
	models  map[string][]ModelInfo
	state   map[string]*endpointState // by endpoint id: survives the next table
}

// Target is where the requests of one public model name may go. It is immutable but for the counters of its endpoints.
type Target struct {
	Model    ModelInfo
	Defaults engine.Defaults // to be put into a request's body where it names none, unless the endpoint does so itself (Caps.OwnDefaults)

	unready    error
	candidates []candidate
	now        clock.Clock
	report     func(Outcome)
}

type candidate struct {
	replica  string
	endpoint engine.Endpoint
	slots    float64 // at least 1
	state    *endpointState
}

// endpointState is what this process knows of an endpoint beyond the table. Every field is atomic: no lock on the request path.
type endpointState struct {
	inFlight atomic.Int64
	polled   atomic.Int64 // running + waiting as the engine told last
	failures atomic.Int64 // in a row
	opens    atomic.Int64 // how often the breaker opened in a row
	until    atomic.Int64 // breaker or cooling ends, unix nanoseconds
	probing  atomic.Int64 // 1 while the one half-open request runs
}

// Attempt is one try at one endpoint. Done must be called once, whatever happened; later calls do nothing.
type Attempt struct {
	Endpoint   engine.Endpoint
	Deployment string
	Replica    string
	Done       func(Outcome)
}

// Class says how an attempt ended, seen from the endpoint.
type Class string

// The classes. Broken and Unreachable count against the endpoint; Rejected and Aborted are the client's doing; Busy cools the endpoint.
const (
	OK          Class = "ok"
	Aborted     Class = "aborted"     // the client left, or we shut down
	Rejected    Class = "rejected"    // a 4xx that another endpoint would give too
	Busy        Class = "busy"        // 429
	Broken      Class = "broken"      // 5xx, protocol error, end in the middle
	Unreachable Class = "unreachable" // no connection, reset before the first byte
)

// Outcome is what became of an attempt.
type Outcome struct {
	Deployment       string        `json:"deployment"` // filled by Done
	Replica          string        `json:"replica"`    // filled by Done
	Class            Class         `json:"class"`
	Status           int           `json:"status,omitempty"`
	RetryAfter       time.Duration `json:"retry_after,omitempty"` // for Busy
	TTFT             time.Duration `json:"ttft,omitempty"`        // to the first piece of the answer; 0 = none came
	Duration         time.Duration `json:"duration,omitempty"`
	PromptTokens     int           `json:"prompt_tokens,omitempty"`
	CachedTokens     int           `json:"cached_tokens,omitempty"`
	CompletionTokens int           `json:"completion_tokens,omitempty"`
	Stream           bool          `json:"stream,omitempty"`
}

// Tried remembers the endpoints a request has been at. The zero value is ready to use; it belongs to one request.
type Tried struct {
	ids []string
}

// Len is the number of attempts made.
func (t *Tried) Len() int { return len(t.ids) }

func (t *Tried) has(id string) bool { return slices.Contains(t.ids, id) }

// Feed keeps a Router fresh and takes outcomes back: the local Service, or a client of it.
type Feed interface {
	// Routes returns the table as soon as its version is above since; it blocks until then or until ctx ends.
	Routes(ctx context.Context, since uint64) (Table, error)
	// Report takes outcomes for charts and the breaker. It never blocks for long and may lose.
	Report(ctx context.Context, o []Outcome) error
}

// NewRouter makes a Router with an empty table. report, if not nil, is called with every outcome and must not block.
func NewRouter(now clock.Clock, report func(Outcome)) *Router {
	r := &Router{now: now, report: report}
	r.view.Store(&view{})
	return r
}

// Set replaces the table. A table that is not newer than the present one is ignored. Only one goroutine may call it at a time.
func (r *Router) Set(t Table) {
	old := r.view.Load()
	if t.Version <= old.version {
		return
	}
	next := &view{version: t.Version, targets: make(map[routeKey]*Target, len(t.Routes)), models: map[string][]ModelInfo{}, state: map[string]*endpointState{}}
	for _, route := range t.Routes {
		target := &Target{Model: route.Model, Defaults: route.Defaults, now: r.now, report: r.report}
		for _, e := range route.Endpoints {
			state := old.state[e.Endpoint.ID]
			if state == nil {
				state = &endpointState{}
			}
			next.state[e.Endpoint.ID] = state
			target.candidates = append(target.candidates, candidate{replica: e.Replica, endpoint: e.Endpoint, slots: float64(max(e.Endpoint.Slots, 1)), state: state})
		}
		if len(target.candidates) == 0 {
			target.unready = notReady(route, r.now())
		}
		next.targets[routeKey{route.Model.Tenant, route.Model.ID}] = target
		if route.Model.State != Stopped && route.Model.State != Deleting {
			next.models[route.Model.Tenant] = append(next.models[route.Model.Tenant], route.Model)
		}
	}
	r.view.Store(next)
}

func notReady(route Route, now time.Time) error {
	err := ErrNotReady.With("the model %s is %s", route.Model.ID, route.Model.State)
	if route.Reason != nil {
		err = ErrNotReady.With("the model %s is %s: %s", route.Model.ID, route.Model.State, route.Reason.Message).WithHint("%s", route.Reason.Hint)
	}
	switch route.Model.State {
	case Starting, Pending, Updating, Degraded:
		return err.After(2 * time.Second)
	case Failed:
		if !route.Retry.IsZero() {
			return err.After(max(route.Retry.Sub(now), 0) + time.Second)
		}
		return err
	default:
		return err
	}
}

// SetLoad stores how many requests an endpoint's engine said to run and hold.
func (r *Router) SetLoad(endpoint string, requests int) {
	if s := r.view.Load().state[endpoint]; s != nil {
		s.polled.Store(int64(requests))
	}
}

// inFlight returns a function that tells how many requests of this process an endpoint has, also after it left the table.
func (r *Router) inFlight(endpoint string) func() int {
	s := r.view.Load().state[endpoint]
	if s == nil {
		return func() int { return 0 }
	}
	return func() int { return int(s.inFlight.Load()) }
}

// Resolve finds the target of a public model name. ErrModelNotFound when the tenant has none of that name. A target without a ready endpoint is found all the same: its Unready says why.
func (r *Router) Resolve(tenant, model string) (*Target, error) {
	if t := r.view.Load().targets[routeKey{tenant, model}]; t != nil {
		return t, nil
	}
	return nil, ErrModelNotFound.With("there is no model %q", model)
}

// Models lists the models that a tenant may call, sorted by name. The slice must not be changed.
func (r *Router) Models(tenant string) []ModelInfo { return r.view.Load().models[tenant] }

// Unready is nil when the target has an endpoint, else ErrNotReady with the deployment's reason, the next step and, while it starts, when to come back.
func (t *Target) Unready() error { return t.unready }

// Pick chooses the least loaded endpoint that was not tried yet and whose breaker is closed, and counts the request there until Done. False when there is none left.
// At most half of a target's endpoints are kept out by their breakers: a lone endpoint always gets its chance.
func (t *Target) Pick(tried *Tried) (Attempt, bool) {
	now := t.now().UnixNano()
	kept := 0
	var best, any choice // the least loaded of those in service, and of all
	for i := range t.candidates {
		c := &t.candidates[i]
		open := c.state.open(now)
		if open {
			kept++
		}
		if tried.has(c.endpoint.ID) {
			continue
		}
		load := float64(max(c.state.inFlight.Load(), c.state.polled.Load())) / c.slots
		any.take(c, load)
		if !open {
			best.take(c, load)
		}
	}
	if kept > len(t.candidates)/2 {
		best = any
	}
	if best.c == nil {
		return Attempt{}, false
	}
	tried.ids = append(tried.ids, best.c.endpoint.ID)
	return t.attempt(best.c), true
}

// choice is the least loaded candidate seen so far.
type choice struct {
	c    *candidate
	load float64
}

func (b *choice) take(c *candidate, load float64) {
	if b.c == nil || load < b.load {
		b.c, b.load = c, load
	}
}

func (t *Target) attempt(c *candidate) Attempt {
	c.state.inFlight.Add(1)
	probe := c.state.opens.Load() > 0 && c.state.probing.CompareAndSwap(0, 1)
	var done atomic.Bool
	return Attempt{Endpoint: c.endpoint, Deployment: t.Model.Deployment, Replica: c.replica, Done: func(o Outcome) {
		if done.Swap(true) {
			return
		}
		c.state.inFlight.Add(-1)
		if probe {
			c.state.probing.Store(0)
		}
		c.state.learn(o, t.now())
		o.Deployment, o.Replica = t.Model.Deployment, c.replica
		if t.report != nil {
			t.report(o)
		}
	}}
}

// open reports whether the endpoint is kept out: cooling, breaker open, or half-open with its one request running.
func (s *endpointState) open(now int64) bool {
	return now < s.until.Load() || s.opens.Load() > 0 && s.probing.Load() == 1
}

// learn moves the breaker. Aborted and Rejected say nothing about the endpoint.
func (s *endpointState) learn(o Outcome, now time.Time) {
	switch o.Class {
	case OK:
		s.failures.Store(0)
		s.opens.Store(0)
	case Busy:
		s.until.Store(now.Add(min(max(o.RetryAfter, time.Second), breakerLast)).UnixNano())
	case Broken, Unreachable:
		n := s.failures.Add(1)
		opens := s.opens.Load()
		if n >= breakerFailures || opens > 0 {
			wait := min(breakerFirst<<min(opens, 10), breakerLast)
			s.until.Store(now.Add(wait).UnixNano())
			s.opens.Add(1)
			s.failures.Store(0)
		}
	case Aborted, Rejected:
	}
}
