package inference

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
	"maas/internal/platform/id"
)

// step is one thing to do so that what runs becomes what is wanted.
type step struct {
	do      stepKind
	replica string
	why     cause
}

type stepKind string

const (
	doCreate  stepKind = "create"   // a replica of the present revision
	doRun     stepKind = "run"      // keep a supervisor at the replica
	doEnd     stepKind = "end"      // drain and stop the replica
	doNoSurge stepKind = "no_surge" // old and new do not fit at once: give up the old one
	doForget  stepKind = "forget"   // everything is stopped: delete
)

// plan compares what is wanted with the replicas and lists the steps. It is pure: the same picture gives the same steps, so any step may be lost or repeated.
func plan(d Deployment, replicas []Replica) []step {
	var steps []step
	var current *Replica
	wanted := d.Desired == DesiredRunning && !d.Deleting
	for i := range replicas {
		if replicas[i].Revision == d.Revision {
			current = &replicas[i]
		}
	}
	older := false // a former revision's replica still has, or may have, a process
	for _, r := range replicas {
		if r.Revision == d.Revision || r.State.final() {
			continue
		}
		older = true
		keep := wanted && d.Surge && r.State == RReady && (current == nil || current.State != RReady)
		switch {
		case keep && current != nil && current.State == RPending && current.Cause.Code == "host_memory":
			steps = append(steps, step{do: doNoSurge, why: because("no_surge")})
		case keep:
			steps = append(steps, step{do: doRun, replica: r.ID})
		default:
			steps = append(steps, step{do: doEnd, replica: r.ID, why: endCause(d)})
		}
	}
	switch {
	case wanted && current == nil && (d.Surge || !older):
		return append(steps, step{do: doCreate})
	case wanted && current != nil && (current.State != RFailed || !current.RetryAt.IsZero()):
		return append(steps, step{do: doRun, replica: current.ID})
	case !wanted && current != nil && !current.State.final():
		return append(steps, step{do: doEnd, replica: current.ID, why: endCause(d)})
	case d.Deleting && !older && (current == nil || current.State.final()):
		return append(steps, step{do: doForget})
	}
	return steps
}

func endCause(d Deployment) cause {
	switch {
	case d.Deleting:
		return because("operator_delete")
	case d.Desired == DesiredStopped:
		return because("operator_stop")
	case d.Surge:
		return because("replaced")
	default:
		return because("operator_restart")
	}
}

// loopEvery is the longest the loop sleeps: whatever a lost wake-up or another process did is seen then.
const loopEvery = 2 * time.Second

// Run brings what runs in line with what is wanted until ctx ends, then drains and stops every engine of this process. It first looks after what a former run left behind.
func (s *Service) Run(ctx context.Context) error {
	if err := s.adopt(ctx); err != nil {
		if ctx.Err() != nil { // asked to stop before it had begun
			return nil //nolint:nilerr // that is no failure
		}
		return err
	}
	stats := make(chan struct{})
	go func() { defer close(stats); s.tally(ctx) }()
	defer func() { <-stats }()
	breakers := make(chan struct{})
	go func() { defer close(breakers); s.watchBreakers(ctx) }()
	defer func() { <-breakers }()
	tick := time.NewTicker(loopEvery)
	defer tick.Stop()
	var seen string
	woken := true
	for ctx.Err() == nil {
		if err := s.round(ctx, woken, &seen); err != nil {
			s.logError(ctx, "deployments could not be looked after", err)
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
			woken = true
		case <-tick.C:
			woken = false
		}
	}
	s.mu.Lock()
	var all sync.WaitGroup
	for _, p := range s.supervisors {
		p.end(because("server_stop"))
		all.Go(func() { <-p.done })
	}
	s.mu.Unlock()
	all.Wait()
	return nil
}

// round reconciles when there may be something to do: after a wake-up, or when the mark of the tables is another than seen. So an idle installation pays one small query every two seconds.
func (s *Service) round(ctx context.Context, woken bool, seen *string) error {
	var mark string
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		if mark, err = s.store.mark(ctx, q); err != nil {
			return err
		}
		routes, err := s.store.routesMark(ctx, q)
		mark += "/" + routes
		return err
	})
	if err != nil || !woken && mark == *seen {
		return err
	}
	*seen = "" // a step that fails is tried again at the next tick
	done, err := s.reconcile(ctx)
	if done {
		*seen = mark // taken before the look: what changed during it is seen next time
	}
	return err
}

// adopt gives each replica that had, or may have had, a process when the server ended a supervisor, which attaches to it or clears it away.
func (s *Service) adopt(ctx context.Context) error {
	var live []Replica
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		live, err = s.store.liveReplicas(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	var refs []engine.Ref
	for _, r := range live {
		if r.State.running() {
			refs = append(refs, r.Ref)
		}
	}
	for _, e := range s.engines {
		if w, ok := e.(engine.Sweeper); ok {
			w.Sweep(refs)
		}
	}
	for _, r := range live {
		s.supervise(ctx, r)
	}
	return nil
}

// reconcile looks at every deployment once and does what plan says; then it publishes the routes. It reports whether every step was done.
func (s *Service) reconcile(ctx context.Context) (bool, error) {
	all, replicas, chains, err := s.picture(ctx)
	if err != nil {
		return false, err
	}
	done := true
	for _, d := range all {
		for _, st := range plan(d, replicas[d.ID]) {
			err := s.do(ctx, d, replicas[d.ID], st)
			done = done && err == nil
			if err != nil && !errors.Is(err, errLost) && !errors.Is(err, ErrDeploymentNotFound) {
				s.logError(ctx, "a step for a deployment failed", err, "deployment", d.ID, "step", string(st.do))
			}
		}
	}
	s.publish(all, replicas, chains)
	return done, nil
}

// picture reads all deployments and, of each, the replicas that matter; and what routes tenants wrote.
func (s *Service) picture(ctx context.Context) ([]Deployment, map[string][]Replica, []Route, error) {
	var all []Deployment
	var chains []Route
	replicas := map[string][]Replica{}
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		for after := ""; ; {
			part, err := s.store.all(ctx, q, after, 500)
			if err != nil {
				return err
			}
			all = append(all, part...)
			if len(part) < 500 {
				break
			}
			after = part[len(part)-1].ID
		}
		list, err := s.store.present(ctx, q)
		for _, r := range list {
			replicas[r.Deployment] = append(replicas[r.Deployment], r)
		}
		if err != nil {
			return err
		}
		chains, err = s.chains(ctx, q)
		return err
	})
	return all, replicas, chains, err
}

func (s *Service) do(ctx context.Context, d Deployment, replicas []Replica, st step) error {
	find := func() (Replica, bool) {
		for _, r := range replicas {
			if r.ID == st.replica {
				return r, true
			}
		}
		return Replica{}, false
	}
	switch st.do {
	case doCreate:
		_, _, err := s.change(ctx, "", d.ID, func(_ context.Context, c *draft) error {
			if c.d.Revision != d.Revision || c.d.Desired != DesiredRunning || c.d.Deleting || len(c.replicas) > 0 && c.replicas[0].Revision >= d.Revision {
				return errLost
			}
			c.add(newReplica(id.New("rep"), c.d, s.now()))
			return nil
		})
		return err
	case doNoSurge:
		_, _, err := s.change(ctx, "", d.ID, func(_ context.Context, c *draft) error {
			if !c.d.Surge {
				return errLost
			}
			c.d.Surge = false
			c.note(st.why)
			return nil
		})
		return err
	case doForget:
		return s.forget(ctx, d)
	case doRun:
		if r, ok := find(); ok {
			s.supervise(ctx, r)
		}
	case doEnd:
		if r, ok := find(); ok {
			s.supervise(ctx, r).end(st.why)
		}
	}
	return nil
}

// supervise returns the replica's supervisor and starts one where there is none.
func (s *Service) supervise(ctx context.Context, r Replica) *supervisor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.supervisors[r.ID]; p != nil {
		return p
	}
	p := newSupervisor(ctx, s, r)
	s.supervisors[r.ID] = p
	go p.run() //nolint:contextcheck // a supervisor outlives the look that starts it
	return p
}

// left is called by a supervisor that has ended.
func (s *Service) left(p *supervisor) {
	s.mu.Lock()
	if s.supervisors[p.id] == p {
		delete(s.supervisors, p.id)
	}
	s.mu.Unlock()
	close(p.done)
	s.poke()
}

// forget deletes a deployment whose replicas have all ended.
func (s *Service) forget(ctx context.Context, d Deployment) error {
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.store.deleteDeployment(ctx, tx, d.ID); err != nil {
			return err
		}
		if err := event.Publish(auth.AsSystem(ctx, d.Tenant), tx, DeploymentDeleted{d.ID, d.Name}); err != nil {
			return err
		}
		tx.After(func() { s.changed(d.ID) })
		return nil
	})
	if err == nil {
		s.monitor.forget(d.ID)
		s.metrics.forget(d.Name)
	}
	return err
}

// publish makes the route table from the picture and the endpoints of our supervisors.
func (s *Service) publish(all []Deployment, replicas map[string][]Replica, chains []Route) {
	s.mu.Lock()
	live := maps.Clone(s.supervisors)
	s.mu.Unlock()
	t := Table{Routes: make([]Route, 0, len(all)+len(chains))}
	counts := map[ReplicaState]int{}
	for _, d := range all {
		if d.Deleting {
			continue // its name answers like one that never was
		}
		route := Route{Model: ModelInfo{ID: d.Name, Tenant: d.Tenant, Deployment: d.ID, OwnedBy: ownedBy(d), Created: d.CreatedAt, ContextLength: d.Spec.Context, State: d.Status, Task: "chat"}, Defaults: d.Spec.Config, Provider: d.Spec.ProviderID}
		if d.Status != Ready {
			route.Reason = d.Cause.view()
		}
		for _, r := range replicas[d.ID] {
			counts[r.State]++
			if r.Revision == d.Revision {
				route.Retry = r.RetryAt
			}
			if p := live[r.ID]; p != nil && r.State == RReady {
				if ep, ok := p.serving(); ok {
					route.Endpoints = append(route.Endpoints, RouteEndpoint{Replica: r.ID, Endpoint: ep})
					route.Model.Task = ep.Caps.Ops.Task()
					route.Model.ContextLength = max(ep.Context, route.Model.ContextLength)
				}
			}
		}
		t.Routes = append(t.Routes, route)
	}
	t.Routes = append(t.Routes, chains...)
	s.metrics.replicaStates(counts)
	s.router.Set(s.feed.set(t))
}

func ownedBy(d Deployment) string {
	if d.Spec.ProviderName != "" {
		return d.Spec.ProviderName
	}
	return "maas"
}
