package inference

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
)

// mostRoutes is how many routes a tenant may have: cycles are looked for over all of them.
const mostRoutes = 1000

// NewRoute is what a route is made from.
type NewRoute struct {
	Name        string           `json:"name" minLength:"1" maxLength:"96" doc:"Public model name. It goes before a deployment of the same name"`
	Description string           `json:"description,omitempty" maxLength:"500"`
	Aliases     []string         `json:"aliases,omitempty" maxItems:"16" doc:"Further public names of the same route"`
	Targets     []NewRouteTarget `json:"targets,omitempty" maxItems:"32"`
	Fallbacks   []string         `json:"fallbacks,omitempty" maxItems:"8" doc:"Public names - routes or deployments - whose targets follow when all of the route's own fail. Circles are refused"`
	Strategy    string           `json:"strategy,omitempty" enum:"weighted,least_loaded,session" doc:"How to choose among the targets of one priority; weighted if absent"`
	Retry       *NewRetry        `json:"retry,omitempty"`
	TimeoutMS   int              `json:"timeout_ms,omitempty" minimum:"0" maximum:"3600000" doc:"To the first piece of an answer, per attempt; 0 = two minutes for streams, ten for whole answers"`
	Enabled     *bool            `json:"enabled,omitempty" doc:"true if absent; a route that is off answers to no name"`
}

// NewRouteTarget is one deployment of a new route.
type NewRouteTarget struct {
	Deployment string `json:"deployment" minLength:"1" maxLength:"200" doc:"id or name"`
	Weight     *int   `json:"weight,omitempty" minimum:"0" maximum:"1000" doc:"Share among the targets of one priority, 100 if absent; 0 = takes nothing"`
	Priority   int    `json:"priority,omitempty" minimum:"0" maximum:"100" doc:"Lower ones are tried first"`
}

// NewRetry is the retry policy of a new route.
type NewRetry struct {
	Attempts      *int      `json:"attempts,omitempty" minimum:"1" maximum:"5" doc:"In all, the first one included; 3 if absent"`
	BudgetPercent *int      `json:"budget_percent,omitempty" minimum:"0" maximum:"100" doc:"Attempts beyond the first as a share of the requests of the last ten seconds; 20 if absent"`
	On            *[]string `json:"on,omitempty" doc:"connect, 429, 5xx, timeout; all if absent"`
}

// RoutePatch changes a route; nil fields stay, lists are replaced whole.
type RoutePatch struct {
	Name        *string           `json:"name,omitempty" minLength:"1" maxLength:"96"`
	Description *string           `json:"description,omitempty" maxLength:"500"`
	Aliases     *[]string         `json:"aliases,omitempty" maxItems:"16"`
	Targets     *[]NewRouteTarget `json:"targets,omitempty" maxItems:"32"`
	Fallbacks   *[]string         `json:"fallbacks,omitempty" maxItems:"8"`
	Strategy    *string           `json:"strategy,omitempty" enum:"weighted,least_loaded,session"`
	Retry       *NewRetry         `json:"retry,omitempty"`
	TimeoutMS   *int              `json:"timeout_ms,omitempty" minimum:"0" maximum:"3600000"`
	Enabled     *bool             `json:"enabled,omitempty"`
}

// RouteView is a route as the outside sees it.
type RouteView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Aliases     []string          `json:"aliases"`
	Targets     []RouteTargetView `json:"targets"`
	Fallbacks   []string          `json:"fallbacks"`
	Strategy    Strategy          `json:"strategy"`
	Retry       RetryPolicy       `json:"retry"`
	TimeoutMS   int               `json:"timeout_ms"`
	Enabled     bool              `json:"enabled"`
	State       []EndpointState   `json:"state"` // of every endpoint the route leads to, its fallbacks' included
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at"`
	Rev         int64             `json:"rev"`
}

// RouteTargetView is one target as the outside sees it.
type RouteTargetView struct {
	Deployment   string `json:"deployment"` // name
	DeploymentID string `json:"deployment_id"`
	Status       Status `json:"status"` // of the deployment
	Weight       int    `json:"weight"`
	Priority     int    `json:"priority"`
}

func (n NewRoute) spec() RouteSpec {
	r := RouteSpec{
		Name: n.Name, Description: n.Description, Aliases: orEmpty(n.Aliases), Targets: targetsOf(n.Targets), Fallbacks: orEmpty(n.Fallbacks), Strategy: Strategy(n.Strategy), Retry: defaultRetry(), TimeoutMS: n.TimeoutMS,
		Enabled: n.Enabled == nil || *n.Enabled,
	}
	n.Retry.apply(&r.Retry)
	return r
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func targetsOf(list []NewRouteTarget) []RouteTarget {
	out := make([]RouteTarget, 0, len(list))
	for _, t := range list {
		w := 100
		if t.Weight != nil {
			w = *t.Weight
		}
		out = append(out, RouteTarget{Deployment: t.Deployment, Weight: w, Priority: t.Priority})
	}
	return out
}

func (n *NewRetry) apply(p *RetryPolicy) {
	if n == nil {
		return
	}
	set(&p.Attempts, n.Attempts)
	set(&p.BudgetPercent, n.BudgetPercent)
	set(&p.On, n.On)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (p RoutePatch) apply(r *RouteSpec) {
	set(&r.Name, p.Name)
	set(&r.Description, p.Description)
	set(&r.Aliases, p.Aliases)
	if p.Targets != nil {
		r.Targets = targetsOf(*p.Targets)
	}
	set(&r.Fallbacks, p.Fallbacks)
	if p.Strategy != nil {
		r.Strategy = Strategy(*p.Strategy)
	}
	p.Retry.apply(&r.Retry)
	set(&r.TimeoutMS, p.TimeoutMS)
	set(&r.Enabled, p.Enabled)
}

// CreateRoute makes a route. ErrRoute names every wrong field, ErrRouteName a name that is taken, ErrRouteCycle the way back.
func (s *Service) CreateRoute(ctx context.Context, n NewRoute) (RouteView, error) {
	now := s.now()
	r := storedRoute{ID: id.New("rte"), Tenant: auth.Tenant(ctx), Spec: n.spec(), CreatedAt: now, UpdatedAt: now, Rev: 1}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		r := r
		if err := s.checkRoute(ctx, tx, &r); err != nil {
			return err
		}
		if err := s.store.insertRoute(ctx, tx, r); err != nil {
			return err
		}
		tx.After(s.poke)
		return nil
	})
	if err != nil {
		return RouteView{}, routeError(err)
	}
	return s.Route(ctx, r.ID)
}

// checkRoute fills in what other rows know - ids of deployments - and refuses what does not hold together.
func (s *Service) checkRoute(ctx context.Context, q db.Querier, r *storedRoute) error {
	var bad []fault.Field
	r.Spec.Targets = slices.Clone(r.Spec.Targets)
	for i := range r.Spec.Targets {
		t := &r.Spec.Targets[i]
		d, err := s.load(ctx, q, r.Tenant, t.Deployment)
		switch {
		case errors.Is(err, ErrDeploymentNotFound):
			bad = append(bad, fault.Field{Name: fmt.Sprintf("body.targets.%d.deployment", i), Code: "not_found", Message: "there is no deployment " + t.Deployment})
		case err != nil:
			return err
		default:
			t.Deployment = d.ID
		}
	}
	if err := r.Spec.validate(); err != nil {
		return err
	}
	all, err := s.store.routes(ctx, q, r.Tenant, "", mostRoutes+1)
	if err != nil {
		return err
	}
	if len(all) > mostRoutes {
		return ErrRoute.With("at most %d routes", mostRoutes)
	}
	for i, f := range r.Spec.Fallbacks {
		if slices.ContainsFunc(all, func(o storedRoute) bool { return slices.Contains(o.Spec.names(), f) }) {
			continue
		}
		if _, err := s.load(ctx, q, r.Tenant, f); errors.Is(err, ErrDeploymentNotFound) {
			bad = append(bad, fault.Field{Name: fmt.Sprintf("body.fallbacks.%d", i), Code: "not_found", Message: "there is no route or deployment " + f})
		} else if err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return ErrRoute.With("%s", bad[0].Message).WithFields(bad...)
	}
	if way := findCycle(r, all); way != nil {
		return ErrRouteCycle.With("the fallbacks lead in a circle: %s", strings.Join(way, " -> ")).WithFields(fault.Field{Name: "body.fallbacks", Code: "cycle", Message: "leads back to " + way[len(way)-1]})
	}
	return nil
}

func routeError(err error) error {
	switch {
	case errors.Is(err, db.ErrNoRow):
		return ErrRouteNotFound
	case db.Duplicate(err, "name"):
		return ErrRouteName.WithFields(fault.Field{Name: "body.name", Code: "duplicate", Message: "the name or one of the aliases is taken"})
	}
	return err
}

// RouteList lists the tenant's routes by name.
func (s *Service) RouteList(ctx context.Context, after string, limit int) (page.List[RouteView], error) {
	keys, err := page.Decode("routes", after, 1)
	if err != nil {
		return page.List[RouteView]{}, err
	}
	from := ""
	if keys != nil {
		from = keys[0]
	}
	limit = page.Limit(limit)
	var views []RouteView
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		list, err := s.store.routes(ctx, q, auth.Tenant(ctx), from, limit+1)
		if err != nil {
			return err
		}
		views, err = s.routeViews(ctx, q, list)
		return err
	})
	return page.Of(views, limit, "routes", func(r RouteView) []string { return []string{r.Name} }), err
}

// Route finds one of the tenant's routes by id, name or alias.
func (s *Service) Route(ctx context.Context, ref string) (v RouteView, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		r, err := s.store.route(ctx, q, auth.Tenant(ctx), ref)
		if err != nil {
			return err
		}
		views, err := s.routeViews(ctx, q, []storedRoute{r})
		if err == nil {
			v = views[0]
		}
		return err
	})
	return v, routeError(err)
}

// routeViews adds names and states of the deployments.
func (s *Service) routeViews(ctx context.Context, q db.Querier, list []storedRoute) ([]RouteView, error) {
	names := map[string]Deployment{}
	for _, r := range list {
		for _, t := range r.Spec.Targets {
			names[t.Deployment] = Deployment{}
		}
	}
	for ref := range names {
		d, err := s.store.deploymentByID(ctx, q, ref)
		if err != nil && !errors.Is(err, db.ErrNoRow) {
			return nil, err
		}
		names[ref] = d
	}
	tenant := auth.Tenant(ctx)
	states := s.upstreams(tenant)
	out := make([]RouteView, 0, len(list))
	for _, r := range list {
		p := r.Spec
		v := RouteView{
			ID: r.ID, Name: p.Name, Description: p.Description, Aliases: p.Aliases, Targets: []RouteTargetView{}, Fallbacks: p.Fallbacks, Strategy: p.Strategy, Retry: p.Retry, TimeoutMS: p.TimeoutMS, Enabled: p.Enabled,
			State: []EndpointState{}, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Rev: r.Rev,
		}
		for _, t := range p.Targets {
			d := names[t.Deployment]
			v.Targets = append(v.Targets, RouteTargetView{Deployment: d.Name, DeploymentID: t.Deployment, Status: d.Status, Weight: t.Weight, Priority: t.Priority})
		}
		leads := s.router.leads(tenant, r)
		for _, st := range states {
			if leads[st.DeploymentID] {
				v.State = append(v.State, st)
			}
		}
		out = append(out, v)
	}
	return out, nil
}

// leads are the deployments that a route's requests may reach: those of the table, and its own targets where the table does not have it (yet).
func (r *Router) leads(tenant string, s storedRoute) map[string]bool {
	out := map[string]bool{}
	for _, t := range s.Spec.Targets {
		out[t.Deployment] = true
	}
	if t, err := r.Resolve(tenant, s.Spec.Name); err == nil && t.Model.Route == s.ID {
		for i := range t.candidates {
			out[t.candidates[i].info.deployment] = true
		}
	}
	return out
}

// UpdateRoute changes a route. check, if not nil, sees the present revision first.
func (s *Service) UpdateRoute(ctx context.Context, ref string, patch RoutePatch, check func(rev int64) error) (RouteView, error) {
	var r storedRoute
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if r, err = s.store.route(ctx, tx, auth.Tenant(ctx), ref); err != nil {
			return err
		}
		if check != nil {
			if err := check(r.Rev); err != nil {
				return err
			}
		}
		patch.apply(&r.Spec)
		r.UpdatedAt = s.now()
		if err := s.checkRoute(ctx, tx, &r); err != nil {
			return err
		}
		tx.After(s.poke)
		return s.store.updateRoute(ctx, tx, r)
	})
	if err != nil {
		return RouteView{}, routeError(err)
	}
	return s.Route(ctx, r.ID)
}

// DeleteRoute forgets a route. Routes that fall back on it go on without. check, if not nil, sees the present revision first.
func (s *Service) DeleteRoute(ctx context.Context, ref string, check func(rev int64) error) error {
	return routeError(s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		r, err := s.store.route(ctx, tx, auth.Tenant(ctx), ref)
		if err != nil {
			return err
		}
		if check != nil {
			if err := check(r.Rev); err != nil {
				return err
			}
		}
		tx.After(s.poke)
		return s.store.deleteRoute(ctx, tx, r.Tenant, r.ID, r.Rev)
	}))
}

// routed refuses when routes lead to a deployment.
func (s *Service) routed(ctx context.Context, q db.Querier, d Deployment) error {
	all, err := s.store.routes(ctx, q, d.Tenant, "", mostRoutes)
	if err != nil {
		return err
	}
	var names []string
	for _, r := range all {
		if slices.ContainsFunc(r.Spec.Targets, func(t RouteTarget) bool { return t.Deployment == d.ID }) && len(names) < 5 {
			names = append(names, r.Spec.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return ErrRouted.With("routes lead to %s: %s", d.Name, strings.Join(names, ", "))
}

// chains are the entries that routes make in the table.
func (s *Service) chains(ctx context.Context, q db.Querier) ([]Route, error) {
	var out []Route
	for after := ""; ; {
		part, err := s.store.allRoutes(ctx, q, after, 500)
		if err != nil {
			return nil, err
		}
		for _, r := range part {
			after = r.ID
			if !r.Spec.Enabled {
				continue
			}
			out = append(out, Route{Model: ModelInfo{ID: r.Spec.Name, Tenant: r.Tenant, Route: r.ID, OwnedBy: "maas", Created: r.CreatedAt}, Chain: &r.Spec})
		}
		if len(part) < 500 {
			return out, nil
		}
	}
}
