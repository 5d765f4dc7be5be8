package inference

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
)

// reportEvery is how often a process that routes requests tells what it knows; what was not told for reportOld is forgotten.
const (
	reportEvery = 2 * time.Second
	reportOld   = 15 * time.Second
)

// UpstreamOpened is published when a breaker opens: requests go elsewhere for a while.
type UpstreamOpened struct {
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
	Replica    string `json:"replica"`
	Reason     string `json:"reason"` // consecutive_failures, failure_rate, probe_failed, slow, still_failing
	Code       string `json:"code"`   // of the last failure
}

// Topic implements event.Event.
func (UpstreamOpened) Topic() string { return "inference.upstream.opened" }

// Key implements event.Event.
func (e UpstreamOpened) Key() string { return e.Replica }

// UpstreamClosed is published when a breaker lets requests pass again.
type UpstreamClosed struct {
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
	Replica    string `json:"replica"`
	Reason     string `json:"reason"` // answered, probe_answered, time_over
}

// Topic implements event.Event.
func (UpstreamClosed) Topic() string { return "inference.upstream.closed" }

// Key implements event.Event.
func (e UpstreamClosed) Key() string { return e.Replica }

// fleet gathers what the processes that route requests know of the endpoints: this one's router, and the reports of others.
type fleet struct {
	mu    sync.Mutex // guards nodes
	nodes map[string]nodeReport
	moves chan Move
}

type nodeReport struct {
	at     time.Time
	states []EndpointState
}

func newFleet() *fleet { return &fleet{nodes: map[string]nodeReport{}, moves: make(chan Move, 1024)} }

// moved takes a breaker that opened or closed. It is on the path of requests.
func (f *fleet) moved(m Move) {
	select {
	case f.moves <- m:
	default: // the state shows it; only the event is lost
	}
}

func (f *fleet) report(r UpstreamReport, now time.Time) {
	f.mu.Lock()
	f.nodes[r.Node] = nodeReport{now, r.States}
	for node, n := range f.nodes {
		if now.Sub(n.at) > reportOld {
			delete(f.nodes, node)
		}
	}
	f.mu.Unlock()
	for _, m := range r.Moves {
		f.moved(m)
	}
}

// others are the states that other processes told of late.
func (f *fleet) others(now time.Time) []EndpointState {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []EndpointState
	for _, n := range f.nodes {
		if now.Sub(n.at) <= reportOld {
			out = append(out, n.states...)
		}
	}
	return out
}

// Upstreams implements Feed.
func (l localFeed) Upstreams(_ context.Context, r UpstreamReport) error {
	l.s.fleet.report(r, l.s.now())
	return nil
}

// upstreams are the states of a tenant's endpoints over all processes: the worst breaker counts, requests add up.
func (s *Service) upstreams(tenant string) []EndpointState {
	list := s.router.Upstreams(tenant)
	by := make(map[string]int, len(list))
	for i, v := range list {
		by[v.Endpoint] = i
	}
	for _, o := range s.fleet.others(s.now()) {
		if i, ours := by[o.Endpoint]; ours {
			list[i].merge(o)
		}
	}
	return list
}

// merge adds what another process knows of the same endpoint.
func (v *EndpointState) merge(o EndpointState) {
	if severity(o.Breaker) > severity(v.Breaker) {
		v.Breaker, v.Reason = o.Breaker, o.Reason
	}
	later := func(a *time.Time, b time.Time) {
		if b.After(*a) {
			*a = b
		}
	}
	later(&v.EjectedUntil, o.EjectedUntil)
	later(&v.CoolingUntil, o.CoolingUntil)
	later(&v.LastUsed, o.LastUsed)
	if n := v.Requests + o.Requests; n > 0 {
		v.ErrorRate = (v.ErrorRate*float64(v.Requests) + o.ErrorRate*float64(o.Requests)) / float64(n)
		v.Requests = n
	}
	v.InFlight += o.InFlight
	v.LatencyP50 = max(v.LatencyP50, o.LatencyP50)
	if o.LastError != nil && (v.LastError == nil || o.LastError.At.After(v.LastError.At)) {
		v.LastError = o.LastError
	}
}

func severity(b BreakerState) int {
	return slices.Index([]BreakerState{BreakerClosed, BreakerHalfOpen, BreakerOpen}, b)
}

// watchBreakers writes events and log lines of breakers that move, and ejects slow endpoints of this process's router, until ctx ends.
func (s *Service) watchBreakers(ctx context.Context) {
	tend := time.NewTicker(reportEvery)
	defer tend.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tend.C:
			s.router.Tend()
		case m := <-s.fleet.moves:
			s.tellMove(ctx, m)
		}
	}
}

func (s *Service) tellMove(ctx context.Context, m Move) {
	s.metrics.moved(m)
	var e event.Event
	if m.State == BreakerClosed {
		s.log.InfoContext(ctx, "an upstream takes requests again", "deployment", m.Deployment, "replica", m.Replica, "reason", m.Reason)
		e = UpstreamClosed{m.Deployment, m.Name, m.Replica, m.Reason}
	} else {
		s.log.WarnContext(ctx, "an upstream is left alone", "deployment", m.Deployment, "replica", m.Replica, "reason", m.Reason, "until", m.Until, "code", m.Error.Code, "words", m.Error.Message)
		e = UpstreamOpened{m.Deployment, m.Name, m.Replica, m.Reason, cmp.Or(m.Error.Code, m.Reason)}
	}
	if m.Reason == OpenedAgain { // it never closed
		return
	}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return event.Publish(auth.AsSystem(ctx, m.Tenant), tx, e)
	})
	if err != nil {
		s.logError(ctx, "the event of a breaker was not written", err, "replica", m.Replica)
	}
}
