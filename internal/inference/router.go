package inference

import (
	"context"
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

// Table is what a Router routes by: one entry per deployment that exists, and one per route that tenants wrote. Version grows with every change.
type Table struct {
	Version uint64
	Routes  []Route
}

// Route is one public model name of one tenant: a deployment called by its own name, or a chain of deployments under a name that was made for it.
type Route struct {
	Model     ModelInfo
	Defaults  engine.Defaults
	Reason    *Reason   // why it is not ready, nil when it is
	Retry     time.Time // failed: when it is tried again; zero = not by itself
	Endpoints []RouteEndpoint
	Provider  string     // id of the upstream account; "" = an engine of ours
	Chain     *RouteSpec // of a route that a tenant wrote; it goes before a deployment of the same name. Endpoints are empty then: they are those of the deployments it names
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
	Deployment    string // id, "" for a route
	Route         string // id, "" for a deployment
	AliasOf       string // the route's own name, in the entry of one of its aliases
	OwnedBy       string
	Created       time.Time
	ContextLength int
	State         Status // of the deployment: ready, degraded, starting, ...
	Task          string // chat, completion, embedding, rerank, moderation
}

// Router answers which endpoint a request goes to. It does no I/O: the table is immutable behind an atomic pointer and replaced as a whole when something changes.
// Its methods may be called from any number of goroutines.
type Router struct {
	view   atomic.Pointer[view]
	now    clock.Clock
	report func(Outcome)
	moved  atomic.Pointer[func(Move)]
}

type routeKey struct{ tenant, model string }

// view is a Table made ready for look-ups.
type view struct {
	version uint64
	targets map[routeKey]*Target
	models  map[string][]ModelInfo
	infos   []*endpointInfo           // every endpoint once, in the order of the table
	state   map[string]*endpointState // by endpoint id: survives the next table
}

// Class says how an attempt ended, seen from the endpoint.
type Class string

// The classes. Broken, Unreachable and TimedOut count against the endpoint; Rejected and Aborted are the client's doing; Busy cools the endpoint.
const (
	OK          Class = "ok"
	Aborted     Class = "aborted"     // the client left, or we shut down
	Rejected    Class = "rejected"    // a 4xx that another endpoint would give too
	Busy        Class = "busy"        // 429
	Broken      Class = "broken"      // 5xx, protocol error, end in the middle
	Unreachable Class = "unreachable" // no connection, reset before the first byte
	TimedOut    Class = "timeout"     // no first byte in time
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
	Code             string        `json:"code,omitempty"`    // of what went wrong
	Message          string        `json:"message,omitempty"` // in words that may be shown: no address, no key
}

// Feed keeps a Router fresh and takes outcomes back: the local Service, or a client of it.
type Feed interface {
	// Routes returns the table as soon as its version is above since; it blocks until then or until ctx ends.
	Routes(ctx context.Context, since uint64) (Table, error)
	// Report takes outcomes for charts and the breaker. It never blocks for long and may lose.
	Report(ctx context.Context, o []Outcome) error
	// Upstreams takes what a process knows of its endpoints, and the breakers that moved since. It is told every few seconds and forgotten when it is not.
	Upstreams(ctx context.Context, r UpstreamReport) error
}

// NewRouter makes a Router with an empty table. report, if not nil, is called with every outcome and must not block.
func NewRouter(now clock.Clock, report func(Outcome)) *Router {
	r := &Router{now: now, report: report}
	r.view.Store(&view{})
	return r
}

// OnMove names who is told of breakers that open and close; it must not block.
func (r *Router) OnMove(f func(Move)) { r.moved.Store(&f) }

func (r *Router) tellMove(m Move) {
	if f := r.moved.Load(); f != nil {
		(*f)(m)
	}
}

// Set replaces the table. A table that is not newer than the present one is ignored. Only one goroutine may call it at a time.
func (r *Router) Set(t Table) {
	old := r.view.Load()
	if t.Version <= old.version {
		return
	}
	b := newTableBuilder(r, old, t)
	for i := range t.Routes {
		b.add(&t.Routes[i])
	}
	b.sort()
	r.view.Store(b.next)
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

// Route finds the target of a route by its id or one of its names; nil if there is none, or if it is switched off. A deployment is no route.
func (r *Router) Route(tenant, ref string) *Target {
	v := r.view.Load()
	if t := v.targets[routeKey{tenant, ref}]; t != nil && t.Model.Route != "" {
		return t
	}
	for k, t := range v.targets {
		if k.tenant == tenant && t.Model.Route == ref && ref != "" {
			return t
		}
	}
	return nil
}

// Models lists the models that a tenant may call, sorted by name. The slice must not be changed.
func (r *Router) Models(tenant string) []ModelInfo { return r.view.Load().models[tenant] }
