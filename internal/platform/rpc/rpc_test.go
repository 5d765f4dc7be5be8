package rpc_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/fault"
	"maas/internal/platform/rpc"
	"maas/internal/platform/rpc/rpctest"
)

type in struct{ A, B int }

type out struct {
	Sum int
	Who auth.Principal
}

var errOdd = fault.New(fault.Conflict, "probe.odd", "the sum is odd")

func register(m *rpc.Mux) {
	rpc.Handle(m, "probe.Add", func(ctx context.Context, i in) (out, error) {
		p, _ := auth.From(ctx)
		if i.A < 0 {
			return out{}, errors.New("secret of the inside")
		}
		if (i.A+i.B)%2 == 1 {
			return out{}, errOdd.With("%d is odd", i.A+i.B).WithHint("even out").WithFields(fault.Field{Name: "a", Code: "odd", Message: "m"}).After(3 * time.Second).Wrap(errors.New("cause"))
		}
		return out{i.A + i.B, p}, nil
	})
	rpc.Handle(m, "probe.Wait", func(ctx context.Context, _ in) (string, error) { <-ctx.Done(); return "", ctx.Err() })
	rpc.Handle(m, "probe.Panic", func(context.Context, in) (string, error) { panic("oh") })
	rpc.Handle(m, "probe.Large", func(context.Context, in) (string, error) { return strings.Repeat("x", 9<<20), nil })
	rpc.Handle(m, "probe.Echo", func(_ context.Context, s string) (string, error) { return s, nil })
}

func TestCalls(t *testing.T) {
	t.Parallel()
	c := rpctest.Serve(t, "probe", register)
	who := auth.Principal{Kind: auth.Key, TenantID: "t1", UserID: "u1", KeyID: "k1", Permissions: []string{"a:b"}, Models: []string{"m"}}
	ctx := auth.With(t.Context(), who)
	got, err := rpc.Call[out](ctx, c, "probe.Add", in{1, 3})
	require.NoError(t, err)
	require.Equal(t, out{4, who}, got)
	_, err = rpc.Call[out](ctx, c, "probe.Add", in{1, 2})
	require.ErrorIs(t, err, errOdd)
	f := fault.From(err)
	require.Equal(t, []any{fault.Conflict, "3 is odd", "even out", 3 * time.Second, "a"}, []any{f.Kind, f.Detail, f.Hint, f.RetryAfter, f.Fields[0].Name})
	require.NotContains(t, err.Error(), "cause")
	_, err = rpc.Call[out](ctx, c, "probe.Add", in{-1, 2})
	require.ErrorIs(t, err, fault.ErrInternal)
	require.NotContains(t, err.Error(), "secret")
	_, err = rpc.Call[string](ctx, c, "probe.Panic", in{})
	require.ErrorIs(t, err, rpc.ErrPanic)
	_, err = rpc.Call[string](ctx, c, "probe.None", in{})
	require.ErrorIs(t, err, rpc.ErrNoMethod)
	_, err = rpc.Call[string](ctx, c, "probe.Large", in{})
	require.ErrorIs(t, err, rpc.ErrTooLarge)
	_, err = rpc.Call[string](ctx, c, "probe.Echo", strings.Repeat("x", 9<<20))
	require.ErrorIs(t, err, rpc.ErrTooLarge)
	_, err = rpc.Call[string](ctx, c, "probe.Echo", 5)
	require.ErrorIs(t, err, rpc.ErrBadInput)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = rpc.Call[string](short, c, "probe.Wait", in{})
	require.ErrorIs(t, err, rpc.ErrTimeout)
	gone, stop := context.WithCancel(ctx)
	go stop()
	_, err = rpc.Call[string](gone, c, "probe.Wait", in{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	c, err := rpc.NewClient(rpc.Options{Secret: rpctest.Secret, Audience: "probe", URL: "http://127.0.0.1:1"})
	require.NoError(t, err)
	_, err = rpc.Call[string](t.Context(), c, "probe.Echo", "x")
	require.ErrorIs(t, err, rpc.ErrUnavailable)
	for _, bad := range []string{"http://example.com", "http://10.0.0.1:80", "ftp://x", "", "https://"} {
		_, err := rpc.NewClient(rpc.Options{Secret: rpctest.Secret, Audience: "probe", URL: bad})
		require.ErrorIs(t, err, rpc.ErrBadURL, bad)
	}
	_, err = rpc.NewMux(rpc.Options{Secret: []byte("short"), Audience: "x"})
	require.ErrorIs(t, err, rpc.ErrBadSecret)
}

// A call is refused when its signature, audience, method, body or age is not right.
func TestForgery(t *testing.T) {
	t.Parallel()
	m, err := rpc.NewMux(rpc.Options{Secret: rpctest.Secret, Audience: "probe"})
	require.NoError(t, err)
	register(m)
	var last *http.Request
	var body string
	tamper := func(*http.Request) {}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		r.Body = io.NopCloser(strings.NewReader(body))
		tamper(r)
		last = r
		m.ServeHTTP(w, r)
	}))
	defer s.Close()
	call := func(o rpc.Options) error {
		if o.Secret == nil {
			o.Secret = rpctest.Secret
		}
		if o.Audience == "" {
			o.Audience = "probe"
		}
		o.URL = s.URL
		c, err := rpc.NewClient(o)
		require.NoError(t, err)
		_, err = rpc.Call[string](t.Context(), c, "probe.Echo", "x")
		return err
	}
	require.NoError(t, call(rpc.Options{}))
	header := last.Header.Get("Maas-Call")
	require.ErrorIs(t, call(rpc.Options{Secret: []byte(strings.Repeat("z", 32))}), rpc.ErrBadCall)
	require.ErrorIs(t, call(rpc.Options{Audience: "other"}), rpc.ErrBadCall)
	require.ErrorIs(t, call(rpc.Options{Now: clock.Fixed(time.Now().Add(-3 * time.Minute))}), rpc.ErrBadCall, "too old")
	require.ErrorIs(t, call(rpc.Options{Now: clock.Fixed(time.Now().Add(3 * time.Minute))}), rpc.ErrBadCall, "from the future")
	require.NoError(t, call(rpc.Options{Now: clock.Fixed(time.Now().Add(20 * time.Second))}), "clocks apart by a little")
	for name, f := range map[string]func(*http.Request){
		"no header": func(r *http.Request) { r.Header.Del("Maas-Call") },
		"bit":       func(r *http.Request) { r.Header.Set("Maas-Call", "A"+r.Header.Get("Maas-Call")[1:]) },
		"method":    func(r *http.Request) { r.URL.Path = "/rpc/probe.Add" },
		"body":      func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`"y"`)) },
		"unsigned":  func(r *http.Request) { r.Header.Set("Maas-Call", strings.Split(header, ".")[0]+".") },
	} {
		tamper = f
		require.ErrorIs(t, call(rpc.Options{}), rpc.ErrBadCall, name)
	}
}
