package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
)

func TestRate(t *testing.T) {
	t.Parallel()
	s := New(Options{Log: slog.New(slog.DiscardHandler), RatePerMinute: 6, Authenticate: func(_ context.Context, r *http.Request) (auth.Principal, error) {
		return auth.Principal{Kind: auth.User, TenantID: "t", UserID: r.Header.Get("X-Who")}, nil
	}})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.rates.now = func() time.Time { return now }
	Get(s.API(), "/thing", "probe_thing_get", SignedIn, http.StatusOK, func(context.Context, *struct{}) (string, error) { return "x", nil })
	Get(s.API(), "/open", "probe_open_get", Public, http.StatusOK, func(context.Context, *struct{}) (string, error) { return "x", nil })
	get := func(path, who string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, Prefix+path, http.NoBody)
		r.Header.Set("X-Who", who)
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for i := range 6 {
		w := get("/thing", "ann")
		require.Equal(t, http.StatusOK, w.Code, "%d: %s", i, w.Body)
		require.Equal(t, `"api";q=6;w=60`, w.Header().Get("RateLimit-Policy"))
	}
	w := get("/thing", "ann")
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "10", w.Header().Get("Retry-After"))
	require.Equal(t, `"api";r=0;t=60`, w.Header().Get("RateLimit"))
	require.Contains(t, w.Body.String(), "web.rate_limited")
	require.Equal(t, http.StatusOK, get("/thing", "bob").Code, "others are not held up")
	for range 6 {
		require.Equal(t, http.StatusOK, get("/open", "").Code)
	}
	require.Equal(t, http.StatusTooManyRequests, get("/open", "").Code, "an address without a credential")
	now = now.Add(10 * time.Second)
	require.Equal(t, http.StatusOK, get("/thing", "ann").Code)
	require.Equal(t, http.StatusTooManyRequests, get("/thing", "ann").Code)
}

// Callers whose bucket is full again take no memory.
func TestRatesForget(t *testing.T) {
	t.Parallel()
	r := newRates(60)
	now := time.Unix(1, 0)
	r.now = func() time.Time { return now }
	for i := range 400_000 {
		if i%1000 == 0 {
			now = now.Add(time.Second)
		}
		r.take(string([]byte{byte(i), byte(i >> 8), byte(i >> 16)}))
	}
	n := 0
	for i := range r.shards {
		n += len(r.shards[i].full)
	}
	require.Less(t, n, 2*64*1024)
}
