package inference

import (
	"cmp"
	"hash/fnv"
	"math"
	"slices"
	"time"
)

// tableBuilder turns a Table into a view.
type tableBuilder struct {
	r     *Router
	old   *view
	next  *view
	names map[routeKey]*Route        // what a name leads to: routes and their aliases before deployments
	by    map[routeKey]*Route        // deployments by id
	infos map[*Route][]*endpointInfo // of deployments
}

// seedOf is a replica's part of rendezvous hashes: the same in every process, so that a session finds its endpoint whichever gateway it comes through.
func seedOf(replica string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(replica)) // never fails
	return mix(h.Sum64())
}

func newTableBuilder(r *Router, old *view, t Table) *tableBuilder {
	b := &tableBuilder{
		r: r, old: old, names: map[routeKey]*Route{}, by: map[routeKey]*Route{}, infos: map[*Route][]*endpointInfo{},
		next: &view{version: t.Version, targets: make(map[routeKey]*Target, len(t.Routes)), models: map[string][]ModelInfo{}, state: map[string]*endpointState{}},
	}
	for i := range t.Routes {
		if p := &t.Routes[i]; p.Chain == nil {
			b.by[routeKey{p.Model.Tenant, p.Model.Deployment}] = p
			b.names[routeKey{p.Model.Tenant, p.Model.ID}] = p
			b.endpoints(p)
		}
	}
	for _, alias := range []bool{true, false} { // own names overwrite aliases, and both overwrite deployments
		for i := range t.Routes {
			p := &t.Routes[i]
			switch {
			case p.Chain == nil:
			case alias:
				for _, a := range p.Chain.Aliases {
					b.names[routeKey{p.Model.Tenant, a}] = p
				}
			default:
				b.names[routeKey{p.Model.Tenant, p.Model.ID}] = p
			}
		}
	}
	return b
}

// endpoints makes the infos of a deployment; what was known of an endpoint stays.
func (b *tableBuilder) endpoints(p *Route) {
	for _, e := range p.Endpoints {
		state := b.old.state[e.Endpoint.ID]
		if state == nil {
			state = &endpointState{}
		}
		b.next.state[e.Endpoint.ID] = state
		info := &endpointInfo{tenant: p.Model.Tenant, deployment: p.Model.Deployment, name: p.Model.ID, replica: e.Replica, provider: p.Provider, endpoint: e.Endpoint, defaults: p.Defaults, state: state}
		b.infos[p] = append(b.infos[p], info)
		b.next.infos = append(b.next.infos, info)
	}
}

// add makes the target of one entry and lists it.
func (b *tableBuilder) add(p *Route) {
	t := b.target(p)
	t.sticky = slices.ContainsFunc(t.levels, func(l level) bool { return l.strategy == BySession || len(l.groups) > 1 })
	names := []string{p.Model.ID}
	if p.Chain != nil {
		names = p.Chain.names()
	}
	for _, n := range names {
		key := routeKey{p.Model.Tenant, n}
		if b.names[key] != p {
			continue // a route goes before it
		}
		b.next.targets[key] = t
		if t.Model.State == Stopped || t.Model.State == Deleting {
			continue
		}
		m := t.Model
		if n != m.ID {
			m.ID, m.AliasOf = n, m.ID
		}
		b.next.models[m.Tenant] = append(b.next.models[m.Tenant], m)
	}
}

func (b *tableBuilder) sort() {
	for _, list := range b.next.models {
		slices.SortStableFunc(list, func(x, y ModelInfo) int { return cmp.Compare(x.ID, y.ID) })
	}
}

func (b *tableBuilder) target(p *Route) *Target {
	t := &Target{Model: p.Model, Defaults: p.Defaults, Retry: defaultRetry(), now: b.r.now, report: b.r.report, moved: b.r.tellMove}
	if o := b.old.targets[routeKey{p.Model.Tenant, p.Model.ID}]; o != nil {
		t.budget = o.budget
	} else {
		t.budget = &budget{}
	}
	c := chain{b: b, t: t, numbers: map[string]int32{}, seen: map[*Route]bool{}}
	if p.Chain == nil {
		c.deployments(LeastLoaded, []*Route{p}, []RouteTarget{{Weight: 1}})
	} else {
		t.Retry, t.Timeout = p.Chain.Retry, time.Duration(p.Chain.TimeoutMS)*time.Millisecond
		c.follow(p)
		c.describe(p)
	}
	for _, kind := range t.Retry.On {
		t.on |= onBit(kind)
	}
	if len(t.candidates) == 0 {
		t.unready = notReady(c.worst(p, t), b.r.now())
	}
	return t
}

// chain collects the levels of one target.
type chain struct {
	b       *tableBuilder
	t       *Target
	numbers map[string]int32 // of deployments inside the target
	seen    map[*Route]bool
	all     []*Route // deployments in order
}

// follow appends the levels of an entry: its own targets by priority, then those of its fallbacks.
func (c *chain) follow(p *Route) {
	if c.seen[p] {
		return
	}
	c.seen[p] = true
	if p.Chain == nil {
		c.deployments(LeastLoaded, []*Route{p}, []RouteTarget{{Weight: 1}})
		return
	}
	targets := slices.Clone(p.Chain.Targets)
	slices.SortStableFunc(targets, func(x, y RouteTarget) int { return cmp.Compare(x.Priority, y.Priority) })
	for from := 0; from < len(targets); {
		to := from + 1
		for to < len(targets) && targets[to].Priority == targets[from].Priority {
			to++
		}
		var list []*Route
		var weights []RouteTarget
		for _, x := range targets[from:to] {
			if d := c.b.by[routeKey{p.Model.Tenant, x.Deployment}]; d != nil { // else it was deleted, or is being deleted
				list, weights = append(list, d), append(weights, x)
			}
		}
		c.deployments(p.Chain.Strategy, list, weights)
		from = to
	}
	for _, f := range p.Chain.Fallbacks {
		if next := c.b.names[routeKey{p.Model.Tenant, f}]; next != nil {
			c.follow(next)
		}
	}
}

// deployments appends one level.
func (c *chain) deployments(s Strategy, list []*Route, weights []RouteTarget) {
	t := c.t
	l := level{from: len(t.candidates), strategy: s}
	for i, d := range list {
		c.all = append(c.all, d)
		infos := c.b.infos[d]
		weight := weights[i].Weight
		if len(infos) == 0 || weight == 0 {
			continue
		}
		number, known := c.numbers[d.Model.Deployment]
		if !known {
			number = int32(len(c.numbers))
			c.numbers[d.Model.Deployment] = number
		}
		g := group{from: len(t.candidates), weight: uint64(weight)}
		for _, info := range infos {
			e := &info.endpoint
			t.candidates = append(t.candidates, candidate{
				state: info.state, perSlot: 1 / float32(max(e.Slots, 1)), context: int32(min(e.Context, math.MaxInt32)),
				deployment: number, seed: seedOf(info.replica), share: float32(weight) / float32(len(infos)), info: info,
			})
		}
		g.to = len(t.candidates)
		l.groups = append(l.groups, g)
		l.weight += g.weight
	}
	if l.to = len(t.candidates); l.to > l.from {
		t.levels = append(t.levels, l)
	}
}

// describe makes the entry of a route for the list of models: the best state of its deployments, and what the first of them holds.
func (c *chain) describe(p *Route) {
	m := &c.t.Model
	m.ID, m.Tenant, m.State, m.Task = p.Model.ID, p.Model.Tenant, Stopped, "chat"
	if len(c.all) == 0 {
		return
	}
	best := slices.MinFunc(c.all, func(x, y *Route) int { return cmp.Compare(rank(x.Model.State), rank(y.Model.State)) })
	m.State = best.Model.State
	if len(c.t.candidates) > 0 && rank(m.State) > rank(Degraded) {
		m.State = Degraded
	}
	m.ContextLength, m.Task = c.all[0].Model.ContextLength, c.all[0].Model.Task
	if len(c.t.candidates) > 0 {
		c.t.Defaults = c.t.candidates[0].info.defaults
		m.ContextLength = max(m.ContextLength, c.t.candidates[0].info.endpoint.Context)
	}
}

// rank orders states from the best.
func rank(s Status) int {
	return slices.Index([]Status{Ready, Degraded, Updating, Starting, Pending, Failed, Stopped, Deleting}, s)
}

// worst is what a target without endpoints is unready for: the reason of its best deployment, under the name that was asked for.
func (c *chain) worst(p *Route, t *Target) Route {
	out := *p
	out.Model = t.Model
	if p.Chain == nil || len(c.all) == 0 {
		return out
	}
	best := slices.MinFunc(c.all, func(x, y *Route) int { return cmp.Compare(rank(x.Model.State), rank(y.Model.State)) })
	out.Reason, out.Retry = best.Reason, best.Retry
	return out
}
