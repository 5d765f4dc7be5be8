package inference

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"maas/internal/platform/fault"
)

// The errors of routes.
var (
	ErrRouteNotFound = fault.New(fault.NotFound, "inference.route_not_found", "there is no such route")
	ErrRoute         = fault.New(fault.Invalid, "inference.route_invalid", "the route cannot be made like this")
	ErrRouteCycle    = fault.New(fault.Invalid, "inference.route_cycle", "the fallbacks lead back to the route itself")
	ErrRouteName     = fault.New(fault.Conflict, "inference.route_name_taken", "a route of this name or alias exists").WithHint("Choose another name, or change the existing route")
	ErrRouted        = fault.New(fault.Conflict, "inference.deployment_routed", "routes lead to this deployment").WithHint("Take it out of those routes first")
)

// Strategy says how a route chooses among the targets of one priority.
type Strategy string

// The strategies.
const (
	Weighted    Strategy = "weighted"     // by weight; a session stays with the target it was given
	LeastLoaded Strategy = "least_loaded" // the endpoint with the most room
	BySession   Strategy = "session"      // the same session goes to the same endpoint while its load is bounded
)

// Failures that a route may answer with another attempt.
const (
	OnConnect = "connect" // no connection, or it broke before the first piece of the answer
	OnLimited = "429"     // the upstream takes no more now
	OnServer  = "5xx"     // the upstream failed, or refused our own credential or path
	OnTimeout = "timeout" // no first piece in time, for streams; a whole answer that timed out is never asked for again
)

// Limits of a route.
const (
	maxTargets      = 32
	maxAliases      = 16
	maxFallbacks    = 8
	maxRouteTries   = 5
	defaultTries    = 3
	defaultBudget   = 20 // percent
	maxWeight       = 1000
	maxRouteTimeout = time.Hour
)

// RouteSpec is a route as its tenant wrote it: a public name and the chain of deployments that answer to it.
type RouteSpec struct {
	Name        string        `json:"name"`
	Description string        `json:"description"`
	Aliases     []string      `json:"aliases"`
	Targets     []RouteTarget `json:"targets"`
	Fallbacks   []string      `json:"fallbacks"` // public names whose targets follow when all of the route's own fail
	Strategy    Strategy      `json:"strategy"`
	Retry       RetryPolicy   `json:"retry"`
	TimeoutMS   int           `json:"timeout_ms"` // to the first piece of an answer, per attempt; 0 = the gateway's own
	Enabled     bool          `json:"enabled"`
}

// RouteTarget is one deployment of a route. Lower priorities are tried first.
type RouteTarget struct {
	Deployment string `json:"deployment"` // id
	Weight     int    `json:"weight"`     // share among the targets of one priority; 0 = takes nothing
	Priority   int    `json:"priority"`
}

// RetryPolicy says when a failed attempt is followed by another one.
type RetryPolicy struct {
	Attempts      int      `json:"attempts"`       // in all, the first one included
	BudgetPercent int      `json:"budget_percent"` // attempts beyond the first may be at most this share of the requests of the last ten seconds
	On            []string `json:"on"`
}

// defaultRetry is the policy of routes and deployments that name none.
func defaultRetry() RetryPolicy {
	return RetryPolicy{Attempts: defaultTries, BudgetPercent: defaultBudget, On: []string{OnConnect, OnLimited, OnServer, OnTimeout}}
}

// storedRoute is a route with what the database adds.
type storedRoute struct {
	ID, Tenant           string
	Spec                 RouteSpec
	CreatedAt, UpdatedAt time.Time
	Rev                  int64
}

// validate fills defaults in and lists every wrong field. What needs other rows - deployments, names, cycles - is checked where they are read.
func (r *RouteSpec) validate() error {
	var bad []fault.Field
	add := func(name, code, format string, args ...any) {
		bad = append(bad, fault.Field{Name: "body." + name, Code: code, Message: fmt.Sprintf(format, args...)})
	}
	name := func(field, s string) {
		switch {
		case !nameForm.MatchString(s):
			add(field, "pattern", "must be 1 to 96 letters, digits, dots, dashes, underscores, colons and slashes, and begin with a letter or digit")
		case strings.HasPrefix(s, "app/"):
			add(field, "pattern", "names that begin with app/ belong to applications")
		}
	}
	r.Description = strings.TrimSpace(r.Description)
	name("name", r.Name)
	for i, a := range r.Aliases {
		name(fmt.Sprintf("aliases.%d", i), a)
		if a == r.Name || slices.Contains(r.Aliases[:i], a) {
			add(fmt.Sprintf("aliases.%d", i), "duplicate", "the route has this name already")
		}
	}
	for i, f := range r.Fallbacks {
		if f == r.Name || slices.Contains(r.Aliases, f) {
			add(fmt.Sprintf("fallbacks.%d", i), "cycle", "a route cannot fall back on itself")
		}
		if slices.Contains(r.Fallbacks[:i], f) {
			add(fmt.Sprintf("fallbacks.%d", i), "duplicate", "is listed twice")
		}
	}
	r.validateTargets(add)
	r.validatePolicy(add)
	if len(bad) > 0 {
		return ErrRoute.WithFields(bad...)
	}
	return nil
}

func (r *RouteSpec) validateTargets(add func(name, code, format string, args ...any)) {
	if len(r.Targets) == 0 && len(r.Fallbacks) == 0 {
		add("targets", "required", "name at least one deployment, or a fallback")
	}
	if len(r.Targets) > maxTargets || len(r.Aliases) > maxAliases || len(r.Fallbacks) > maxFallbacks {
		add("targets", "out_of_range", "at most %d targets, %d aliases and %d fallbacks", maxTargets, maxAliases, maxFallbacks)
	}
	weights := map[int]int{}
	for i, t := range r.Targets {
		at := fmt.Sprintf("targets.%d", i)
		if t.Weight < 0 || t.Weight > maxWeight {
			add(at+".weight", "out_of_range", "must be 0 to %d", maxWeight)
		}
		if t.Priority < 0 || t.Priority > 100 {
			add(at+".priority", "out_of_range", "must be 0 to 100")
		}
		if slices.ContainsFunc(r.Targets[:i], func(o RouteTarget) bool { return o.Deployment == t.Deployment }) {
			add(at+".deployment", "duplicate", "is listed twice")
		}
		weights[t.Priority] += t.Weight
	}
	for priority, sum := range weights {
		if sum == 0 {
			add("targets", "out_of_range", "the weights of priority %d sum to 0: nothing could be chosen there", priority)
		}
	}
}

func (r *RouteSpec) validatePolicy(add func(name, code, format string, args ...any)) {
	r.Strategy = cmp.Or(r.Strategy, Weighted)
	switch r.Strategy {
	case Weighted, LeastLoaded, BySession:
	default:
		add("strategy", "not_in_list", "must be weighted, least_loaded or session")
	}
	if r.Retry.Attempts < 1 || r.Retry.Attempts > maxRouteTries {
		add("retry.attempts", "out_of_range", "must be 1 to %d", maxRouteTries)
	}
	if r.Retry.BudgetPercent < 0 || r.Retry.BudgetPercent > 100 {
		add("retry.budget_percent", "out_of_range", "must be 0 to 100")
	}
	for _, on := range r.Retry.On {
		if !slices.Contains(defaultRetry().On, on) {
			add("retry.on", "not_in_list", "%s is none of connect, 429, 5xx, timeout", on)
		}
	}
	if r.TimeoutMS < 0 || int64(r.TimeoutMS) > maxRouteTimeout.Milliseconds() || r.TimeoutMS > 0 && r.TimeoutMS < 10 {
		add("timeout_ms", "out_of_range", "must be 0, or 10 to %d", maxRouteTimeout.Milliseconds())
	}
}

// names are all names the route answers to, its own first.
func (r *RouteSpec) names() []string { return append([]string{r.Name}, r.Aliases...) }

// findCycle follows the fallbacks of r through the tenant's other routes and returns the names of a way back to r, nil if there is none. All routes count, also those that are switched off.
func findCycle(r *storedRoute, all []storedRoute) []string {
	by := map[string]*storedRoute{}
	for i := range all {
		if all[i].ID != r.ID {
			for _, n := range all[i].Spec.names() {
				by[n] = &all[i]
			}
		}
	}
	for _, n := range r.Spec.names() {
		by[n] = r
	}
	seen := map[string]bool{}
	var walk func(at *storedRoute, way []string) []string
	walk = func(at *storedRoute, way []string) []string {
		for _, f := range at.Spec.Fallbacks {
			next := by[f]
			switch {
			case next == nil: // a deployment, which has none
			case next.ID == r.ID:
				return append(way, f)
			case !seen[next.ID]:
				seen[next.ID] = true
				if found := walk(next, append(way, f)); found != nil {
					return found
				}
			}
		}
		return nil
	}
	return walk(r, []string{r.Spec.Name})
}
