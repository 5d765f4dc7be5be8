package inference

import (
	"context"
	"embed"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/inference/engine"
	"maas/internal/model"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/object"
	"maas/internal/platform/seal"
)

// Migrations are the service's tables.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Deps is what the service is made of.
type Deps struct {
	DB      *db.DB
	Log     *slog.Logger
	Now     clock.Clock
	Metrics prometheus.Registerer
	Objects object.Bucket // logs of ended attempts; nil = not kept
	Seal    *seal.Ring    // keys of providers
	Models  model.API
	Engines []engine.Driver
	Config  Config
	Counts  func(ctx context.Context) (models, keys int64, err error) // for the overview, which shows what other services own; nil = not shown
}

// Service runs deployments. Run must run for anything to start; the other methods answer without it.
type Service struct {
	db      *db.DB // across tenants: every query of this service names its tenant, the loop has none
	store   store
	log     *slog.Logger
	now     clock.Clock
	objects object.Bucket
	seal    *seal.Ring
	models  model.API
	engines map[string]engine.Driver
	order   []string // names of engines, in the order given
	config  Config
	host    *host
	pace    pace
	router  *Router
	monitor *monitor
	counts  func(ctx context.Context) (models, keys int64, err error)
	metrics *metrics
	wake    chan struct{} // the loop has something to look at; capacity 1
	watch   watchers
	feed    feed
	fleet   *fleet // what is known of endpoints, here and in other processes

	mu          sync.Mutex             // guards supervisors
	supervisors map[string]*supervisor // by replica
}

// New makes the service. It starts nothing.
func New(d Deps) (*Service, error) {
	if bad := d.Config.Validate(); len(bad) > 0 {
		return nil, ErrSpec.WithFields(bad...)
	}
	s := &Service{
		db: d.DB.Within(), log: d.Log.With("component", "inference"), now: d.Now, objects: d.Objects, seal: d.Seal, models: d.Models, config: d.Config, counts: d.Counts,
		engines: map[string]engine.Driver{}, host: newHost(d.Config), pace: defaultPace, wake: make(chan struct{}, 1), supervisors: map[string]*supervisor{},
	}
	for _, e := range d.Engines {
		s.engines[e.Name()] = e
		s.order = append(s.order, e.Name())
	}
	var err error
	if s.metrics, err = newMetrics(d.Metrics); err != nil {
		return nil, err
	}
	s.monitor = newMonitor(d.Now)
	s.router = NewRouter(d.Now, s.outcome)
	s.fleet = newFleet()
	s.router.OnMove(s.fleet.moved)
	return s, nil
}

// Router is the table by which requests of this process find a replica; it is kept fresh by Run.
func (s *Service) Router() *Router { return s.router }

// outcome takes what became of an attempt: for charts and metrics. It is on the path of requests and does no I/O.
func (s *Service) outcome(o Outcome) {
	s.monitor.outcome(o)
	s.metrics.outcome(s.feed.name(o.Deployment), o)
}

// changed wakes whoever looks at a deployment: the loop, event streams.
func (s *Service) changed(deployment string) {
	s.poke()
	s.watch.wake(deployment)
}

func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// engine finds a driver by name. ErrMissing when this installation has none of that name.
func (s *Service) engine(name string) (engine.Driver, error) {
	if d := s.engines[name]; d != nil {
		return d, nil
	}
	return nil, engine.ErrMissing.With("there is no engine %q here", name)
}

// logError writes an error that nobody else hears of.
func (s *Service) logError(ctx context.Context, message string, err error, args ...any) {
	if ctx.Err() != nil {
		return // we are being stopped: what fails now fails because of it
	}
	s.log.ErrorContext(ctx, message, append(args, "error", fault.From(err).Error())...) //nolint:sloglint // every caller passes a constant
}

// watchers lets event streams wait for changes of a deployment.
type watchers struct {
	mu    sync.Mutex // guards chans
	chans map[string]map[chan struct{}]struct{}
}

// add returns a channel that gets a value after each change, never more than one waiting, and a function that ends it.
func (w *watchers) add(deployment string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chans == nil {
		w.chans = map[string]map[chan struct{}]struct{}{}
	}
	if w.chans[deployment] == nil {
		w.chans[deployment] = map[chan struct{}]struct{}{}
	}
	w.chans[deployment][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.chans[deployment], c)
		if len(w.chans[deployment]) == 0 {
			delete(w.chans, deployment)
		}
	}
}

func (w *watchers) wake(deployment string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.chans[deployment] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
