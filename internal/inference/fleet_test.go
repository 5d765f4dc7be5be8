package inference

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine/fake"
	"maas/internal/platform/auth"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/rpc"
)

// A process that only routes has the routes that tenants wrote, and what its breakers do is seen where the routes are shown.
func TestBreakersOfOtherProcesses(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{Need: 1 << 20})
	options := rpc.Options{Secret: make([]byte, 32), Audience: "maas"}
	m, err := rpc.NewMux(options)
	require.NoError(t, err)
	r.Serve(m)
	h := httptest.NewServer(m)
	t.Cleanup(h.Close)
	options.URL = h.URL
	c, err := rpc.NewClient(options)
	require.NoError(t, err)
	ctx := as(t, "ten_a")
	_, err = r.Deploy(ctx, NewDeployment{Name: "one", Model: "toy"})
	require.NoError(t, err)
	r.status(t, "one", Ready)
	_, err = r.CreateRoute(ctx, NewRoute{Name: "chat", Targets: []NewRouteTarget{{Deployment: "one"}}})
	require.NoError(t, err)

	f := NewFollower(NewClient(c), time.Now, slog.New(slog.DiscardHandler))
	run, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(run) }()
	defer func() { cancel(); require.NoError(t, <-done) }()
	require.Equal(t, 1, f.Router().eventually(t, "chat"))
	target, err := f.Router().Resolve("ten_a", "chat")
	require.NoError(t, err)
	for range breakerFailures {
		a, ok := target.Pick(&Tried{})
		require.True(t, ok)
		a.Done(Outcome{Class: Unreachable, Code: "gateway.upstream_error", Message: "no connection"})
	}
	deadline := time.Now().Add(time.Minute)
	for {
		v, err := r.Route(ctx, "chat")
		require.NoError(t, err)
		require.Len(t, v.State, 1)
		if s := v.State[0]; s.Breaker == BreakerOpen {
			require.Equal(t, OpenedInRow, s.Reason)
			require.Equal(t, "no connection", s.LastError.Message)
			require.Equal(t, int64(breakerFailures), s.Requests)
			require.InDelta(t, 1, s.ErrorRate, 1e-9)
			break
		}
		require.True(t, time.Now().Before(deadline), "it was never told")
		wait(ctx, 10*time.Millisecond)
	}
	require.Equal(t, BreakerClosed, r.router.Upstreams("ten_a")[0].Breaker, "our own router has seen nothing")
	_, err = rpc.Call[struct{}](ctx, c, "inference.Upstreams", UpstreamReport{Node: "forged"})
	require.ErrorIs(t, err, auth.ErrForbidden)
}

func TestStatesOfProcessesAddUp(t *testing.T) {
	t.Parallel()
	now := t0
	v := EndpointState{Breaker: BreakerClosed, Requests: 30, ErrorRate: 0, InFlight: 2, LatencyP50: 10}
	v.merge(EndpointState{Breaker: BreakerOpen, Reason: OpenedRate, EjectedUntil: now.Add(time.Second), Requests: 10, ErrorRate: 1, InFlight: 1, LatencyP50: 30, LastError: &LastError{Code: "x", At: now}})
	require.Equal(t, EndpointState{Breaker: BreakerOpen, Reason: OpenedRate, EjectedUntil: now.Add(time.Second), Requests: 40, ErrorRate: 0.25, InFlight: 3, LatencyP50: 30, LastError: &LastError{Code: "x", At: now}}, v)
	v.merge(EndpointState{Breaker: BreakerHalfOpen})
	require.Equal(t, BreakerOpen, v.Breaker, "the worst counts")
	f := newFleet()
	f.report(UpstreamReport{Node: "a", States: []EndpointState{{Endpoint: "r"}}}, now)
	require.Len(t, f.others(now.Add(reportOld)), 1)
	require.Empty(t, f.others(now.Add(reportOld+1)), "what is not told any more is forgotten")
}
