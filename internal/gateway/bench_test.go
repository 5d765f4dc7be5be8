package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/inference"
	"maas/internal/inference/engine"
	"maas/internal/platform/clock"
)

// TestServeForLoad serves the whole edge in front of the upstream at MAAS_BENCH_UPSTREAM until it is interrupted, for the load generator in another process:
//
//	MAAS_BENCH_UPSTREAM=127.0.0.1:9100 go test ./internal/gateway -run TestServeForLoad -v
//
// It prints its address, process id and a key; the model is "mock".
func TestServeForLoad(t *testing.T) {
	up := os.Getenv("MAAS_BENCH_UPSTREAM")
	if up == "" {
		t.Skip("for the load generator only")
	}
	r := newRig(t, 0)
	r.g.metrics = newMetrics(&Gateway{Deps: Deps{Metrics: prometheus.NewRegistry(), Verifier: r.users.Verifier()}, journal: r.g.journal})
	r.g.Router = inference.NewRouter(clock.Now, nil)
	r.g.Router.Set(inference.Table{Version: 1, Routes: []inference.Route{{Model: inference.ModelInfo{ID: "mock", Tenant: r.who.TenantID, Deployment: "dep_1", State: inference.Ready},
		Endpoints: []inference.RouteEndpoint{{Replica: "r0", Endpoint: engine.Endpoint{ID: "r0", Network: "tcp", Addr: up, Host: up, BasePath: "/v1", Model: "mock", Auth: "Bearer up-key", Slots: 1000, Caps: engine.Caps{StreamUsage: true, OwnDefaults: true}}}}}}})
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	go func() { _ = r.users.Run(ctx) }()
	t.Logf("url=%s pid=%d key=%s", r.url, os.Getpid(), r.key)
	<-ctx.Done()
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
