package inference

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/fake"
	"maas/internal/platform/auth"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/fault"
	"maas/internal/platform/rpc"
)

// watchOf is a clock that tests move.
type watchOf struct{ at atomic.Int64 }

func (w *watchOf) now() time.Time          { return t0.Add(time.Duration(w.at.Load())) }
func (w *watchOf) forward(d time.Duration) { w.at.Add(int64(d)) }

func tableOf(version uint64, ids ...string) Table {
	r := Route{Model: ModelInfo{ID: "m", Tenant: "ten_a", Deployment: "dep", State: Ready}}
	for _, id := range ids {
		r.Endpoints = append(r.Endpoints, RouteEndpoint{Replica: "rep_" + id, Endpoint: engine.Endpoint{ID: id, Slots: 4}})
	}
	return Table{Version: version, Routes: []Route{r}}
}

func TestPickTakesTheLeastLoaded(t *testing.T) {
	t.Parallel()
	var w watchOf
	var got []Outcome
	r := NewRouter(w.now, func(o Outcome) { got = append(got, o) })
	r.Set(tableOf(1, "a", "b"))
	target, err := r.Resolve("ten_a", "m")
	require.NoError(t, err)
	first, ok := target.Pick(&Tried{})
	require.True(t, ok)
	second, ok := target.Pick(&Tried{})
	require.True(t, ok)
	require.NotEqual(t, first.Endpoint.ID, second.Endpoint.ID)
	r.SetLoad("a", 3)
	third, _ := target.Pick(&Tried{})
	require.Equal(t, "b", third.Endpoint.ID, "the engine's own word counts")
	var tried Tried
	_, _ = target.Pick(&tried)
	_, ok = target.Pick(&tried)
	require.True(t, ok)
	_, ok = target.Pick(&tried)
	require.False(t, ok, "all were tried")
	require.Equal(t, 2, tried.Len())
	first.Done(Outcome{Class: OK, CompletionTokens: 3})
	first.Done(Outcome{Class: OK})
	require.Equal(t, []Outcome{{Deployment: "dep", Replica: first.Replica, Class: OK, CompletionTokens: 3}}, got, "once")

	r.Set(tableOf(2, "b"))
	require.Equal(t, 3, r.inFlight("b")(), "counters survive a new table")
	r.Set(tableOf(1, "c"))
	_, err = r.Resolve("ten_b", "m")
	require.ErrorIs(t, err, ErrModelNotFound)
	require.Empty(t, r.Models("ten_b"))
	require.Len(t, r.Models("ten_a"), 1)
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	var w watchOf
	r := NewRouter(w.now, nil)
	var moves []Move
	r.OnMove(func(m Move) { moves = append(moves, m) })
	r.Set(tableOf(1, "a", "b"))
	target, err := r.Resolve("ten_a", "m")
	require.NoError(t, err)
	r.SetLoad("b", 1000) // a is chosen as long as it may be
	pick := func() Attempt {
		a, ok := target.Pick(&Tried{})
		require.True(t, ok)
		return a
	}
	breaker := func() BreakerState { return r.Upstreams("ten_a")[0].Breaker }
	late := pick()
	for range breakerFailures {
		a := pick()
		require.Equal(t, "a", a.Endpoint.ID)
		a.Done(Outcome{Class: Broken, Code: "x"})
	}
	require.Equal(t, BreakerOpen, breaker())
	require.Len(t, moves, 1)
	require.Equal(t, Move{Tenant: "ten_a", Deployment: "dep", Name: "m", Replica: "rep_a", State: BreakerOpen, Reason: OpenedInRow, Until: moves[0].Until, Error: LastError{Code: "x", At: t0}}, moves[0])
	late.Done(Outcome{Class: Broken})
	require.Len(t, moves, 1, "what began before it opened changes nothing")
	b := pick()
	require.Equal(t, "b", b.Endpoint.ID, "open")
	b.Done(Outcome{Class: Aborted})
	w.forward(breakerFirst * 6 / 5)
	require.Equal(t, BreakerHalfOpen, breaker())
	probe := pick()
	require.Equal(t, "a", probe.Endpoint.ID, "half open: one may try")
	require.Equal(t, "b", pick().Endpoint.ID, "and no second one")
	probe.Done(Outcome{Class: Unreachable})
	w.forward(breakerFirst * 6 / 5)
	require.Equal(t, "b", pick().Endpoint.ID, "the wait doubled")
	w.forward(breakerFirst * 6 / 5)
	probe = pick()
	require.Equal(t, "a", probe.Endpoint.ID)
	probe.Done(Outcome{Class: OK})
	require.Equal(t, BreakerClosed, breaker())
	require.Equal(t, closedAnswer, moves[len(moves)-1].Reason)
	require.Equal(t, "a", pick().Endpoint.ID, "closed")

	pick().Done(Outcome{Class: Busy, RetryAfter: 3 * time.Second})
	require.Equal(t, "b", pick().Endpoint.ID, "cooling")
	require.Equal(t, BreakerClosed, breaker(), "a 429 is not the breaker's")
	w.forward(3 * time.Second)
	for range 20 {
		pick().Done(Outcome{Class: Rejected})
	}
	require.Equal(t, "a", pick().Endpoint.ID, "a client's mistakes are not the endpoint's")
}

func TestBreakerOpensByShare(t *testing.T) {
	t.Parallel()
	var w watchOf
	r := NewRouter(w.now, nil)
	r.Set(tableOf(1, "a", "b"))
	target, err := r.Resolve("ten_a", "m")
	require.NoError(t, err)
	r.SetLoad("b", 1000)
	for i := range 2*breakerCount - 1 {
		a, _ := target.Pick(&Tried{})
		if a.Endpoint.ID != "a" {
			require.GreaterOrEqual(t, i, breakerCount-1, "not before %d requests", breakerCount)
			require.Equal(t, OpenedRate, r.Upstreams("")[0].Reason)
			return
		}
		if i%4 == 0 { // three of four fail, never five in a row
			a.Done(Outcome{Class: OK, TTFT: time.Millisecond})
		} else {
			a.Done(Outcome{Class: Broken})
		}
	}
	t.Fatal("the breaker never opened")
}

func TestLoneEndpointIsNeverKeptOut(t *testing.T) {
	t.Parallel()
	var w watchOf
	r := NewRouter(w.now, nil)
	r.Set(tableOf(1, "a"))
	target, err := r.Resolve("ten_a", "m")
	require.NoError(t, err)
	for range 3 * breakerFailures {
		a, ok := target.Pick(&Tried{})
		require.True(t, ok)
		a.Done(Outcome{Class: Broken})
	}
}

// A pause that the upstream asked for is kept even when nothing else is left.
func TestCoolingIsKept(t *testing.T) {
	t.Parallel()
	var w watchOf
	r := NewRouter(w.now, nil)
	r.Set(tableOf(1, "a"))
	target, err := r.Resolve("ten_a", "m")
	require.NoError(t, err)
	a, _ := target.Pick(&Tried{})
	a.Done(Outcome{Class: Busy, RetryAfter: 7 * time.Second})
	_, ok := target.Pick(&Tried{})
	require.False(t, ok)
	d, limited := target.Wait()
	require.Equal(t, 7*time.Second, d)
	require.True(t, limited)
	w.forward(7 * time.Second)
	_, ok = target.Pick(&Tried{})
	require.True(t, ok)
}

func TestUnreadyTargetSaysWhy(t *testing.T) {
	t.Parallel()
	r := NewRouter(func() time.Time { return t0 }, nil)
	r.Set(Table{Version: 1, Routes: []Route{
		{Model: ModelInfo{ID: "loads", Tenant: "ten_a", State: Starting}, Reason: because("loading").view()},
		{Model: ModelInfo{ID: "broken", Tenant: "ten_a", State: Failed}, Reason: because("crash_loop", "count", "5", "detail", "x").view()},
		{Model: ModelInfo{ID: "off", Tenant: "ten_a", State: Stopped}, Reason: because("operator_stop").view()},
	}})
	target, err := r.Resolve("ten_a", "loads")
	require.NoError(t, err)
	e := fault.From(target.Unready())
	require.ErrorIs(t, e, ErrNotReady)
	require.Contains(t, e.Text(), "reads the weights")
	require.Positive(t, e.RetryAfter)
	target, err = r.Resolve("ten_a", "broken")
	require.NoError(t, err)
	e = fault.From(target.Unready())
	require.Contains(t, e.Hint, "restart")
	require.Zero(t, e.RetryAfter)
	r.Set(Table{Version: 2, Routes: []Route{{Model: ModelInfo{ID: "broken", Tenant: "ten_a", State: Failed}, Reason: because("start_exit").view(), Retry: t0.Add(4 * time.Second)}}})
	target, err = r.Resolve("ten_a", "broken")
	require.NoError(t, err)
	require.Equal(t, 5*time.Second, fault.From(target.Unready()).RetryAfter, "it is tried again by itself")
	r.Set(Table{Version: 3, Routes: []Route{{Model: ModelInfo{ID: "loads", Tenant: "ten_a", State: Starting}}, {Model: ModelInfo{ID: "x", Tenant: "ten_a", State: Failed}}, {Model: ModelInfo{ID: "off", Tenant: "ten_a", State: Stopped}}}})
	require.Len(t, r.Models("ten_a"), 2, "a stopped one is not offered")
}

// TestRouterUnderLoad has many goroutines pick and finish while tables change.
func TestRouterUnderLoad(t *testing.T) {
	t.Parallel()
	r := NewRouter(time.Now, nil)
	r.Set(tableOf(1, "a", "b", "c"))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 2000 {
				target, err := r.Resolve("ten_a", "m")
				if err != nil {
					t.Error(err)
					return
				}
				var tried Tried
				for range 3 {
					a, ok := target.Pick(&tried)
					if !ok || tried.Len() > 1 && !target.Spend() {
						a.Done(Outcome{Class: Aborted})
						break
					}
					a.Done(Outcome{Class: []Class{OK, OK, Broken, TimedOut, Rejected}[i%5], TTFT: time.Duration(i%7) * time.Millisecond})
				}
			}
		})
	}
	for v := uint64(2); v < 200; v++ {
		r.Set(tableOf(v, "a", "b", "c"))
		r.Tend()
		for _, p := range r.Due(0, 0, func() float64 { return 0 }) {
			p.Done(v%3 == 0, "x", "x")
		}
		require.Len(t, r.Upstreams(""), 3)
	}
	all.Wait()
	for _, id := range []string{"a", "b", "c"} {
		require.Zero(t, r.inFlight(id)())
	}
}

func BenchmarkPick64(b *testing.B) {
	ids := make([]string, 64)
	for i := range ids {
		ids[i] = string(rune('A'+i/26)) + string(rune('a'+i%26))
	}
	r := NewRouter(time.Now, nil)
	r.Set(tableOf(1, ids...))
	var tried Tried // part of a pooled call in the gateway
	b.ReportAllocs()
	for b.Loop() {
		target, _ := r.Resolve("ten_a", "m")
		tried = Tried{}
		a, _ := target.Pick(&tried)
		a.Done(Outcome{Class: OK})
	}
}

// TestAPI runs the same calls on the service and on a client of it over the wire; and a follower gets the routes, the key of an upstream included.
func TestAPI(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{})
	up := fake.NewServer("gpt-up", 4, 512)
	up.Key = "sk-right"
	upstream := httptest.NewServer(up)
	t.Cleanup(upstream.Close)
	options := rpc.Options{Secret: make([]byte, 32), Audience: "maas"}
	m, err := rpc.NewMux(options)
	require.NoError(t, err)
	r.Serve(m)
	h := httptest.NewServer(m)
	t.Cleanup(h.Close)
	options.URL = h.URL
	c, err := rpc.NewClient(options)
	require.NoError(t, err)
	remote := NewClient(c)
	ctx := as(t, "ten_a")
	for name, api := range map[string]API{"local": r.Service, "remote": remote} {
		v, err := api.Deploy(ctx, NewDeployment{Name: name, Model: "toy"})
		require.NoError(t, err, name)
		r.status(t, name, Ready)
		got, err := api.Deployment(ctx, name)
		require.NoError(t, err, name)
		require.Equal(t, v.ID, got.ID, name)
		_, err = api.Deploy(ctx, NewDeployment{Name: name, Model: "toy"})
		require.ErrorIs(t, err, ErrNameTaken, name)
		_, err = api.Deployment(as(t, "ten_b"), v.ID)
		require.ErrorIs(t, err, ErrDeploymentNotFound, name)
		a, err := api.Fit(ctx, FitQuery{Model: "toy"})
		require.NoError(t, err, name)
		require.True(t, a.Fits, name)
		_, err = api.Stop(ctx, name)
		require.NoError(t, err, name)
		_, err = api.Start(ctx, name)
		require.NoError(t, err, name)
		_, err = api.Restart(ctx, name)
		require.NoError(t, err, name)
		l, err := api.Deployments(ctx, DeploymentFilter{})
		require.NoError(t, err, name)
		require.NotEmpty(t, l.Items, name)
		require.NoError(t, api.Delete(ctx, name), name)
		r.gone(t, name)
	}

	p, err := r.CreateProvider(ctx, NewProvider{Name: "up", BaseURL: upstream.URL + "/v1", APIKey: "sk-right"})
	require.NoError(t, err)
	_, err = r.Deploy(ctx, NewDeployment{Name: "remote", Provider: p.ID, UpstreamModel: "gpt-up"})
	require.NoError(t, err)
	f := NewFollower(remote, time.Now, slog.New(slog.DiscardHandler))
	run, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(run) }()
	other := &rig{Service: &Service{router: f.Router()}}
	a := other.pick(t, "remote")
	require.Equal(t, "Bearer sk-right", a.Endpoint.Auth.Reveal())
	a.Done(Outcome{Class: OK, CompletionTokens: 21})
	for r.monitor.live(a.Deployment).RequestsTotal == 0 {
		wait(ctx, 10*time.Millisecond)
	}
	cancel()
	require.NoError(t, <-done)
	_, err = remote.Routes(auth.With(t.Context(), auth.Principal{Kind: auth.User, TenantID: "ten_a"}), 0)
	require.NoError(t, err, "the client asks as the system")
	_, err = rpc.Call[wireTable](ctx, c, "inference.Routes", struct{ Since uint64 }{})
	require.ErrorIs(t, err, auth.ErrForbidden, "and nobody else may")
}
