package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference"
	"maas/internal/inference/engine"
	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/front"
	"maas/internal/platform/h1"
	"maas/internal/platform/seal"
	"maas/internal/user"
)

// TestServeBare passes every request of /v1 to the upstream at MAAS_BENCH_UPSTREAM as it is, until it is interrupted: the loop of package front and the client of package h1 and nothing of the gateway between
// them, so that bench/gateway can tell what all features together cost. It prints url=.
func TestServeBare(t *testing.T) {
	up := os.Getenv("MAAS_BENCH_UPSTREAM")
	if up == "" {
		t.Skip("for bench/gateway only")
	}
	pool := h1.NewPool(h1.Options{})
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := bodies.Get().(*[]byte)
		defer bodies.Put(buf)
		body, err := readBody(w, r, (*buf)[:0], 1<<20)
		if *buf = body; err != nil {
			return
		}
		a, err := pool.Do(r.Context(), &h1.Request{Address: h1.Address{Network: "tcp", Addr: up}, Method: "POST", Path: r.URL.Path, Host: up, Auth: "Bearer up-key", Type: "application/json", Body: [][]byte{body}})
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer a.Close()
		w.Header()["Content-Type"] = valueJSON
		if n := a.Length(); n >= 0 {
			w.Header()["Content-Length"] = []string{strconv.FormatInt(n, 10)}
		} else {
			w.Header()["Content-Type"] = valueStream
		}
		for {
			piece, more, err := a.Next(time.Minute)
			if len(piece) > 0 {
				_, _ = w.Write(piece)
				if !more {
					w.(http.Flusher).Flush()
				}
			}
			if err != nil {
				return
			}
		}
	})
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := front.New(front.Options{Handler: bare, Hot: func(string) bool { return true }, Log: discard})
	hs := &http.Server{Handler: bare, ReadHeaderTimeout: time.Minute}
	rest := s.Listen(l)
	go func() { _ = hs.Serve(rest) }()
	fmt.Printf("url=http://%s\n", l.Addr())
	<-ctx.Done()
	_ = hs.Close()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = s.Shutdown(end)
	pool.Close()
}

// TestFillKeys makes MAAS_BENCH_KEYS keys of the bench's owner in the data folder MAAS_BENCH_DATA of an installation that does not run, and writes them to keys.txt there.
func TestFillKeys(t *testing.T) {
	dir := os.Getenv("MAAS_BENCH_DATA")
	if dir == "" {
		t.Skip("for bench/gateway only")
	}
	n, err := strconv.Atoi(os.Getenv("MAAS_BENCH_KEYS"))
	require.NoError(t, err)
	d, err := db.Open(t.Context(), db.Config{URL: "sqlite:" + filepath.Join(dir, "maas.db"), Sync: "normal"})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	ring, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + filepath.Join(dir, "keys", "master.key")}, d)
	require.NoError(t, err)
	users, err := user.New(t.Context(), user.Deps{DB: d, Log: discard, Now: clock.Now, Seal: ring, Config: user.Defaults()})
	require.NoError(t, err)
	tok, err := users.SignIn(t.Context(), user.Login{Email: "bench@example.com", Password: "bench-password-1"}, user.Device{IP: "127.0.0.1"})
	require.NoError(t, err)
	who, err := users.Session(t.Context(), tok.Session.ID)
	require.NoError(t, err)
	owner := auth.With(t.Context(), who)
	var out strings.Builder
	for made := 0; made < n; {
		err := d.Tx(owner, func(ctx context.Context, _ *db.Tx) error { // many at a time: one key is one commit
			for ; made < n; made++ {
				k, err := users.MakeKey(ctx, user.NewKey{Name: "bench"})
				if err != nil {
					return err
				}
				out.WriteString(k.Secret + "\n")
				if made%1000 == 999 {
					made++
					break
				}
			}
			return nil
		})
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "keys.txt"), []byte(out.String()), 0o600))
}

// BenchmarkChat measures a whole round: client, edge, gateway and engine in one process.
func BenchmarkChat(b *testing.B) {
	for _, stream := range []bool{false, true} {
		b.Run(fmt.Sprintf("stream=%v", stream), func(b *testing.B) {
			r := newRig(b, 1)
			more := ""
			if stream {
				more = `,"stream":true`
			}
			body := chat(script{Tokens: 10}, more)
			b.ReportAllocs()
			for b.Loop() {
				if res := r.call("/v1/chat/completions", r.key, body); res.status != 200 {
					b.Fatal(res.body)
				}
			}
		})
	}
}

// nothing is a client that takes everything at once.
type nothing struct {
	h http.Header
	n int
}

func (n *nothing) Header() http.Header         { return n.h }
func (n *nothing) Write(b []byte) (int, error) { n.n += len(b); return len(b), nil }
func (n *nothing) WriteHeader(int)             {}
func (n *nothing) Flush()                      {}

// BenchmarkPath is the gateway's own part of a call, with an engine that costs as little as it can.
func BenchmarkPath(b *testing.B) {
	r := newRig(b, 0)
	answer := `{"id":"chatcmpl-1","object":"chat.completion","model":"engine-side-name","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		_, _ = io.WriteString(w, answer)
	}))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	r.g.Router = inference.NewRouter(clock.Now, nil)
	r.g.Router.Set(inference.Table{Version: 1, Routes: []inference.Route{{Model: inference.ModelInfo{ID: model, Tenant: r.who.TenantID, Deployment: "dep_1", State: inference.Ready},
		Endpoints: []inference.RouteEndpoint{{Replica: "r0", Endpoint: engine.Endpoint{ID: "r0", Network: "tcp", Addr: addr, Host: addr, BasePath: "/v1", Model: "engine-side-name", Slots: 8}}}}}})
	body := benchBody(1 << 10)
	body = bytes.Replace(body, []byte(`"my-llama"`), []byte(`"team/llama"`), 1)
	body = bytes.Replace(body, []byte(`"stream":true`), []byte(`"stream":false`), 1)
	h := r.g.Handler()
	b.ReportAllocs()
	for b.Loop() {
		q := httptest.NewRequest("POST", "/v1/chat/completions", bytes.NewReader(body))
		q.Header.Set("Authorization", "Bearer "+r.key)
		w := &nothing{h: http.Header{}}
		h.ServeHTTP(w, q)
		if w.n == 0 {
			b.Fatal("no answer")
		}
	}
}
