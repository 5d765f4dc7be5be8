package inference

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/fake"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event"
	"maas/internal/platform/fault"
)

// deployed is a table entry of a deployment with n endpoints, named d0, d1, ...
func deployed(name string, n int) Route {
	r := Route{Model: ModelInfo{ID: name, Tenant: "ten_a", Deployment: "dep_" + name, State: Ready, ContextLength: 100, Task: "chat"}}
	for i := range n {
		id := fmt.Sprintf("%s%d", name, i)
		r.Endpoints = append(r.Endpoints, RouteEndpoint{Replica: id, Endpoint: engine.Endpoint{ID: id, Slots: 4, Context: 100}})
	}
	return r
}

func chainOf(name string, spec RouteSpec) Route {
	spec.Name, spec.Enabled = name, true
	if spec.Retry.Attempts == 0 {
		spec.Retry = defaultRetry()
	}
	return Route{Model: ModelInfo{ID: name, Tenant: "ten_a", Route: "rte_" + name}, Chain: &spec}
}

func to(name string, weight, priority int) RouteTarget {
	return RouteTarget{Deployment: "dep_" + name, Weight: weight, Priority: priority}
}

func routerOf(t *testing.T, w *watchOf, routes ...Route) func(name string) *Target {
	t.Helper()
	r := NewRouter(w.now, nil)
	r.Set(Table{Version: 1, Routes: routes})
	return func(name string) *Target {
		x, err := r.Resolve("ten_a", name)
		require.NoError(t, err)
		return x
	}
}

// way is the endpoints that one request is given, one after the other.
func way(t *Target, tried *Tried, o Outcome) []string {
	var out []string
	for {
		a, ok := t.Pick(tried)
		if !ok {
			return out
		}
		out = append(out, a.Endpoint.ID)
		a.Done(o)
	}
}

func TestChainGoesByPriorityThenFallbacks(t *testing.T) {
	t.Parallel()
	var w watchOf
	resolve := routerOf(t, &w, deployed("a", 3), deployed("b", 1), deployed("c", 1), deployed("d", 1),
		chainOf("main", RouteSpec{Targets: []RouteTarget{to("b", 1, 1), to("a", 1, 0), to("gone", 1, 0)}, Fallbacks: []string{"spare", "nothing"}, Aliases: []string{"gpt", "c"}, Strategy: LeastLoaded}),
		chainOf("spare", RouteSpec{Targets: []RouteTarget{to("c", 1, 0)}, Fallbacks: []string{"d", "main"}}))
	got := way(resolve("main"), &Tried{}, Outcome{Class: Rejected})
	require.Len(t, got, 6)
	require.Equal(t, []string{"b0", "c0", "d0"}, got[2:5], "two of a at most, then the next ones; the third of a is the last resort")
	require.Equal(t, "a", got[5][:1])
	require.Same(t, resolve("main"), resolve("gpt"))
	require.Same(t, resolve("main"), resolve("c"), "an alias goes before a deployment of that name")
	require.Equal(t, "dep_a", resolve("a").Model.Deployment)
}

func TestChainPassesOverWhatIsBroken(t *testing.T) {
	t.Parallel()
	var w watchOf
	resolve := routerOf(t, &w, deployed("a", 1), deployed("b", 1), chainOf("main", RouteSpec{Targets: []RouteTarget{to("a", 1, 0), to("b", 1, 1)}}))
	main, alone := resolve("main"), resolve("a")
	for range breakerFailures {
		a, _ := main.Pick(&Tried{})
		require.Equal(t, "a0", a.Endpoint.ID)
		a.Done(Outcome{Class: Unreachable})
	}
	b, _ := main.Pick(&Tried{})
	require.Equal(t, "b0", b.Endpoint.ID, "a lone endpoint does not get its chance while there is a better one")
	b.Done(Outcome{Class: Busy, RetryAfter: time.Second})
	a, ok := main.Pick(&Tried{})
	require.True(t, ok)
	require.Equal(t, "a0", a.Endpoint.ID, "but when nothing else is left")
	a.Done(Outcome{Class: Unreachable})
	_, ok = alone.Pick(&Tried{})
	require.True(t, ok)
}

func TestWeights(t *testing.T) {
	t.Parallel()
	var w watchOf
	resolve := routerOf(t, &w, deployed("a", 2), deployed("b", 1), deployed("off", 1), chainOf("main", RouteSpec{Strategy: Weighted, Targets: []RouteTarget{to("a", 90, 0), to("b", 10, 0), to("off", 0, 0)}}))
	main := resolve("main")
	require.True(t, main.Sticky())
	count := map[string]int{}
	home := map[uint64]string{}
	const n = 20_000
	for i := range n {
		tried := Tried{}
		if i%2 == 1 {
			tried.Session = mix(uint64(i % 2001))
		}
		a, ok := main.Pick(&tried)
		require.True(t, ok)
		count[a.Deployment]++
		if s := tried.Session; s != 0 {
			if home[s] == "" {
				home[s] = a.Deployment
			}
			require.Equal(t, home[s], a.Deployment, "a session stays")
		}
		a.Done(Outcome{Class: OK, TTFT: time.Millisecond})
	}
	require.Zero(t, count["dep_off"])
	require.InDelta(t, 0.1, float64(count["dep_b"])/n, 0.03)
	require.Len(t, way(main, &Tried{}, Outcome{Class: Rejected}), 3, "when one fails the others follow")
}

func TestSessionsStayWhileLoadIsBounded(t *testing.T) {
	t.Parallel()
	var w watchOf
	resolve := routerOf(t, &w, deployed("a", 2), deployed("b", 2), chainOf("main", RouteSpec{Strategy: BySession, Targets: []RouteTarget{to("a", 100, 0), to("b", 100, 0)}}))
	main := resolve("main")
	homes := map[string]int{}
	for s := range uint64(200) {
		first, _ := main.Pick(&Tried{Session: mix(s)})
		first.Done(Outcome{Class: OK, TTFT: time.Millisecond})
		second, _ := main.Pick(&Tried{Session: mix(s)})
		second.Done(Outcome{Class: OK, TTFT: time.Millisecond})
		require.Equal(t, first.Endpoint.ID, second.Endpoint.ID)
		homes[first.Endpoint.ID]++
	}
	for id, n := range homes {
		require.InDelta(t, 50, n, 35, id)
	}
	session := mix(7)
	used := map[string]bool{}
	for range 12 { // all at once: the home fills up, others help
		a, _ := main.Pick(&Tried{Session: session})
		used[a.Endpoint.ID] = true
	}
	require.Greater(t, len(used), 2)
}

func TestLeaveAndLonger(t *testing.T) {
	t.Parallel()
	var w watchOf
	long := deployed("long", 1)
	long.Endpoints[0].Endpoint.Context = 1000
	resolve := routerOf(t, &w, deployed("a", 3), deployed("b", 1), long, chainOf("main", RouteSpec{Targets: []RouteTarget{to("a", 1, 0), to("b", 1, 1), to("long", 1, 2)}}))
	var tried Tried
	a, _ := resolve("main").Pick(&tried)
	a.Done(Outcome{Class: Broken})
	tried.Leave()
	require.Equal(t, []string{"b0", "long0"}, way(resolve("main"), &tried, Outcome{Class: Rejected}))
	tried = Tried{}
	a, _ = resolve("main").Pick(&tried)
	require.False(t, tried.Longer(0), "not known")
	require.True(t, tried.Longer(a.Endpoint.Context))
	require.Equal(t, []string{"long0"}, way(resolve("main"), &tried, Outcome{Class: Rejected}))
}

func TestRetryBudget(t *testing.T) {
	t.Parallel()
	var w watchOf
	main := routerOf(t, &w, deployed("a", 1))("a")
	granted := func() (n int) {
		for main.Spend() {
			n++
		}
		return n
	}
	require.Equal(t, budgetFloor, granted(), "a quiet one may fall back too")
	require.Zero(t, granted())
	w.forward(budgetSlots * time.Second)
	for range 1000 {
		a, _ := main.Pick(&Tried{})
		a.Done(Outcome{Class: OK})
	}
	require.Equal(t, 200, granted(), "a fifth of the requests")
	w.forward(5 * time.Second)
	require.Zero(t, granted())
	w.forward(5 * time.Second)
	require.Equal(t, budgetFloor, granted(), "ten seconds are over")
}

// One of four peers is ten times slower for over a minute: it is kept out, for longer each time.
func TestSlowEndpointIsEjected(t *testing.T) {
	t.Parallel()
	var w watchOf
	r := NewRouter(w.now, nil)
	var moves []Move
	r.OnMove(func(m Move) { moves = append(moves, m) })
	r.Set(Table{Version: 1, Routes: []Route{deployed("a", 4)}})
	target, _ := r.Resolve("ten_a", "a")
	for range 40 {
		for range 8 {
			a, _ := target.Pick(&Tried{})
			ttft := 10 * time.Millisecond
			if a.Endpoint.ID == "a0" {
				ttft *= 10
			}
			a.Done(Outcome{Class: OK, TTFT: ttft})
		}
		for i := range 4 { // each is used
			c := &target.candidates[i]
			a := target.attempt(c, &Tried{})
			ttft := 10 * time.Millisecond
			if i == 0 {
				ttft *= 10
			}
			a.Done(Outcome{Class: OK, TTFT: ttft})
		}
		w.forward(2 * time.Second)
		r.Tend()
		if len(moves) > 0 {
			break
		}
	}
	require.Len(t, moves, 1)
	require.Equal(t, OpenedSlow, moves[0].Reason)
	require.Equal(t, "a0", moves[0].Replica)
	require.GreaterOrEqual(t, time.Duration(w.at.Load()), slowFor)
	require.Equal(t, BreakerOpen, r.Upstreams("")[0].Breaker)
	for range 20 {
		a, _ := target.Pick(&Tried{})
		require.NotEqual(t, "a0", a.Endpoint.ID)
		a.Done(Outcome{Class: OK, TTFT: 10 * time.Millisecond})
	}
	w.forward(slowFirst)
	r.Tend()
	require.Equal(t, closedTime, moves[1].Reason)
	require.Equal(t, BreakerClosed, r.Upstreams("")[0].Breaker)
}

func TestProbes(t *testing.T) {
	t.Parallel()
	var w watchOf
	r := NewRouter(w.now, nil)
	r.Set(Table{Version: 1, Routes: []Route{deployed("a", 1), deployed("b", 1)}})
	even := func() float64 { return 0.5 }
	require.Empty(t, r.Due(time.Second, 10*time.Second, even), "new ones are spread")
	w.forward(5 * time.Second)
	due := r.Due(time.Second, 10*time.Second, even)
	require.Len(t, due, 2)
	require.Empty(t, r.Due(time.Second, 10*time.Second, even), "once")
	due[0].Done(false, "x", "no answer")
	w.forward(10 * time.Second)
	due = r.Due(time.Second, 10*time.Second, even)
	require.Len(t, due, 2)
	due[0].Done(false, "x", "no answer")
	s := r.Upstreams("")[0]
	require.Equal(t, BreakerOpen, s.Breaker)
	require.Equal(t, OpenedProbe, s.Reason)
	require.Empty(t, r.Due(time.Second, 10*time.Second, even))
	w.forward(time.Second)
	due = r.Due(time.Second, 10*time.Second, even)
	require.Len(t, due, 1, "an open one is asked sooner")
	require.True(t, due[0].Open)
	due[0].Done(true, "", "")
	require.Equal(t, BreakerHalfOpen, r.Upstreams("")[0].Breaker, "the next request decides")
}

func TestFindCycle(t *testing.T) {
	t.Parallel()
	at := func(name string, fallbacks ...string) storedRoute {
		return storedRoute{ID: "rte_" + name, Spec: RouteSpec{Name: name, Aliases: []string{name + "-alias"}, Fallbacks: fallbacks}}
	}
	all := []storedRoute{at("a", "b"), at("b", "c-alias"), at("c", "dep"), at("e", "e2"), at("e2", "e")}
	x := at("c", "a")
	require.Equal(t, []string{"c", "a", "b", "c-alias"}, findCycle(&x, all))
	x = at("c", "dep", "e")
	require.Nil(t, findCycle(&x, all), "a circle of others does not hang it")
	x = at("new", "a", "b", "c")
	require.Nil(t, findCycle(&x, all), "two ways to one are no circle")
}

func TestScoreIsWeighted(t *testing.T) {
	t.Parallel()
	wins := 0
	for i := range uint64(10_000) {
		if score(mix(i), 3) > score(mix(i^0xabcdef), 1) {
			wins++
		}
	}
	require.InDelta(t, 0.75, float64(wins)/10_000, 0.03)
	require.False(t, math.IsNaN(float64(score(0, 1))))
}

func TestRouteLife(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Helper()
		r := start(t, d, fake.Script{Need: 1 << 20})
		h := edge(t, r)
		base := "/inference/routes"
		for _, name := range []string{"one", "two"} {
			require.Equal(t, 201, call(t, h, everything, "POST", "/inference/deployments", map[string]any{"name": name, "model": "toy"}).status)
			r.status(t, name, Ready)
		}
		type m = map[string]any
		type l = []any
		a := call(t, h, everything, "POST", base, m{"name": "chat", "description": "x", "aliases": l{"gpt"}, "targets": l{m{"deployment": "one", "weight": 90}, m{"deployment": "two", "weight": 10, "priority": 1}}, "retry": m{"attempts": 2}, "timeout_ms": 500})
		require.Equal(t, 201, a.status, a.text)
		id, _ := a.body["id"].(string)
		require.Equal(t, "/api/v1/inference/routes/"+id, a.header.Get("Location"))
		require.Equal(t, "weighted", a.body["strategy"])
		require.Equal(t, m{"attempts": 2.0, "budget_percent": 20.0, "on": l{"connect", "429", "5xx", "timeout"}}, a.body["retry"])
		require.Equal(t, true, a.body["enabled"])
		target := a.body["targets"].(l)[0].(m)
		require.Equal(t, "one", target["deployment"])
		require.Equal(t, "ready", target["status"])
		require.Equal(t, 2, r.router.eventually(t, "chat"))

		for name, bad := range map[string]m{
			"body.targets.0.deployment": {"name": "x", "targets": l{m{"deployment": "none"}}},
			"body.fallbacks.0":          {"name": "x", "targets": l{m{"deployment": "one"}}, "fallbacks": l{"none"}},
			"body.targets":              {"name": "x"},
			"body.aliases.0":            {"name": "x", "aliases": l{"a b"}, "fallbacks": l{"one"}},
			"body.retry.on":             {"name": "x", "fallbacks": l{"one"}, "retry": m{"on": l{"404"}}},
			"body.name":                 {"name": "app/x", "fallbacks": l{"one"}},
		} {
			got := call(t, h, everything, "POST", base, bad)
			require.Equal(t, http.StatusUnprocessableEntity, got.status, got.text)
			require.Contains(t, got.text, `"`+name+`"`)
		}
		for _, bad := range []m{{"name": "chat", "fallbacks": l{"one"}}, {"name": "y", "aliases": l{"gpt"}, "fallbacks": l{"one"}}, {"name": "gpt", "fallbacks": l{"one"}}} {
			got := call(t, h, everything, "POST", base, bad)
			require.Equal(t, 409, got.status, got.text)
			require.Equal(t, "inference.route_name_taken", got.body["code"])
		}

		a = call(t, h, everything, "POST", base, m{"name": "spare", "fallbacks": l{"chat"}})
		require.Equal(t, 201, a.status, a.text)
		a = call(t, h, everything, "PATCH", base+"/gpt", m{"fallbacks": l{"spare"}})
		require.Equal(t, http.StatusUnprocessableEntity, a.status, a.text)
		require.Equal(t, "inference.route_cycle", a.body["code"])
		require.Contains(t, a.text, "chat -> spare -> chat")

		a = call(t, h, everything, "GET", base+"/chat", nil)
		require.Equal(t, 200, a.status)
		require.Len(t, a.body["state"], 2)
		require.Equal(t, `"1"`, a.header.Get("ETag"))
		require.Equal(t, 412, call(t, h, everything, "PATCH", base+"/chat", m{"enabled": false}, "If-Match", `"7"`).status)
		a = call(t, h, everything, "PATCH", base+"/chat", m{"aliases": l{"gpt", "gpt-2"}, "strategy": "session"}, "If-Match", `"1"`)
		require.Equal(t, 200, a.status, a.text)
		require.InDelta(t, 2, a.body["rev"], 0)
		require.Equal(t, 2, r.router.eventually(t, "gpt-2"))
		a = call(t, h, everything, "GET", base, nil)
		require.Len(t, a.body["items"], 2)
		require.Len(t, call(t, h, everything, "GET", base+"?limit=1", nil).body["items"], 1)

		const stranger = "ten_b|inference:operate,inference:read,inference:write"
		require.Equal(t, 404, call(t, h, stranger, "GET", base+"/"+id, nil).status)
		require.Equal(t, 404, call(t, h, stranger, "DELETE", base+"/"+id, nil).status)
		require.Empty(t, call(t, h, stranger, "GET", base, nil).body["items"])
		require.Empty(t, call(t, h, stranger, "GET", "/inference/upstreams", nil).body["items"])
		require.Equal(t, 403, call(t, h, "ten_a|inference:read", "DELETE", base+"/"+id, nil).status)

		a = call(t, h, everything, "DELETE", "/inference/deployments/one", nil)
		require.Equal(t, 409, a.status, a.text)
		require.Equal(t, "inference.deployment_routed", a.body["code"])

		opened(t, r, h)

		require.Equal(t, 200, call(t, h, everything, "PATCH", base+"/chat", m{"enabled": false}).status)
		r.router.goes(t, "chat")
		require.Equal(t, 204, call(t, h, everything, "DELETE", base+"/spare", nil).status)
		require.Equal(t, 204, call(t, h, everything, "DELETE", base+"/chat", nil).status)
		require.Equal(t, 404, call(t, h, everything, "GET", base+"/gpt", nil).status)
		require.Equal(t, 204, call(t, h, everything, "DELETE", "/inference/deployments/one", nil).status)
	}, tables...)
}

// opened has a breaker open: it shows under upstreams and in the route, and an event is written.
func opened(t *testing.T, r *rig, h *httptest.Server) {
	t.Helper()
	a := r.pick(t, "one")
	a.Done(Outcome{Class: Broken})
	for range breakerFailures - 1 {
		r.pick(t, "one").Done(Outcome{Class: Broken, Status: 500, Code: "gateway.upstream_error", Message: "it fell over"})
	}
	list := call(t, h, everything, "GET", "/inference/upstreams", nil)
	require.Equal(t, 200, list.status)
	require.Len(t, list.body["items"], 2)
	one := list.body["items"].([]any)[0].(map[string]any)
	require.Equal(t, "one", one["deployment"])
	require.Equal(t, "open", one["breaker"])
	require.Equal(t, "consecutive_failures", one["reason"])
	require.NotEmpty(t, one["ejected_until"])
	require.InDelta(t, 1, one["error_rate"], 1e-9)
	require.Equal(t, "it fell over", one["last_error"].(map[string]any)["message"])
	deadline := time.Now().Add(time.Minute)
	for {
		var n int
		require.NoError(t, r.db.System().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
			return q.QueryRow(ctx, `SELECT COUNT(*) FROM event_outbox WHERE topic = 'inference.upstream.opened'`).Scan(&n)
		}))
		if n == 1 {
			return
		}
		require.True(t, time.Now().Before(deadline), "no event was written")
		wait(t.Context(), 10*time.Millisecond)
	}
}

var _ event.Event = UpstreamOpened{}

// eventually waits until a name is in the table and returns how many endpoints it leads to.
func (r *Router) eventually(t *testing.T, name string) int {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		target, err := r.Resolve("ten_a", name)
		if err == nil {
			return len(target.candidates)
		}
		require.True(t, time.Now().Before(deadline), "%s never came", name)
		wait(t.Context(), 5*time.Millisecond)
	}
}

func (r *Router) goes(t *testing.T, name string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := r.Resolve("ten_a", name)
		if err != nil {
			require.Equal(t, ErrModelNotFound.Code, fault.From(err).Code)
			return
		}
		require.True(t, time.Now().Before(deadline), "%s never went", name)
		wait(t.Context(), 5*time.Millisecond)
	}
}

// BenchmarkPickChain chooses among 64 endpoints of eight deployments by each strategy.
func BenchmarkPickChain(b *testing.B) {
	var routes []Route
	var targets []RouteTarget
	for i := range 8 {
		name := fmt.Sprintf("d%d", i)
		routes = append(routes, deployed(name, 8))
		targets = append(targets, to(name, 10+i, 0))
	}
	for _, s := range []Strategy{Weighted, LeastLoaded, BySession} {
		routes = append(routes, chainOf(string(s), RouteSpec{Strategy: s, Targets: targets}))
	}
	r := NewRouter(time.Now, nil)
	r.Set(Table{Version: 1, Routes: routes})
	for _, s := range []Strategy{Weighted, LeastLoaded, BySession} {
		b.Run(string(s), func(b *testing.B) {
			var tried Tried
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				target, _ := r.Resolve("ten_a", string(s))
				tried = Tried{Session: mix(i)}
				a, _ := target.Pick(&tried)
				a.Done(Outcome{Class: OK, TTFT: time.Millisecond})
			}
		})
	}
}
