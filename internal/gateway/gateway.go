package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/inference"
	"maas/internal/platform/cache"
	"maas/internal/platform/clock"
	"maas/internal/platform/fault"
	"maas/internal/platform/h1"
	"maas/internal/platform/meter"
	"maas/internal/platform/netguard"
	"maas/internal/platform/web"
	"maas/internal/user"
)

// Config of the gateway.
type Config struct {
	BodyLimit int64    `yaml:"body_limit" doc:"Largest request body in bytes"`
	Origins   []string `yaml:"origins" doc:"Origins besides our own that may open a WebSocket, as scheme://host[:port]"`

	LimitsAway  string `yaml:"limits_away" doc:"When the shared counters of limits were away for a minute: share (each gateway goes on with its part of every limit) or closed (calls with limits are refused)."`
	OnExhausted string `yaml:"on_exhausted" doc:"What happens to a running stream whose budget is used up: finish, or cut (it ends with an error event)."`
}

// Defaults returns the configuration of a fresh installation.
func Defaults() Config {
	return Config{BodyLimit: 16 << 20, OnExhausted: "finish", LimitsAway: "share"}
}

// Validate lists everything that is wrong.
func (c Config) Validate() []fault.Field {
	if c.BodyLimit < 1<<10 || c.BodyLimit > 1<<30 {
		return []fault.Field{{Name: "gateway.body_limit", Code: "out_of_range", Message: "must be 1 KiB to 1 GiB"}}
	}
	if c.LimitsAway != "share" && c.LimitsAway != "closed" {
		return []fault.Field{{Name: "gateway.limits_away", Code: "not_in_list", Message: "must be share or closed"}}
	}
	if c.OnExhausted != "finish" && c.OnExhausted != "cut" {
		return []fault.Field{{Name: "gateway.on_exhausted", Code: "not_in_list", Message: "must be finish or cut"}}
	}
	return nil
}

// Deps is what the gateway needs.
type Deps struct {
	Log      *slog.Logger
	Now      clock.Clock
	Metrics  prometheus.Registerer // nil: none
	Verifier *user.Verifier        // of this process; somebody else runs it
	Users    user.API              // takes usage and tickets: the local service or a client
	Router   *inference.Router     // of this process; somebody else feeds it
	Cache    cache.Cache           // counts limits of several gateways together; nil or not shared: this process counts alone
	Upstream netguard.Policy       // which TCP addresses engines may have: inference.Config.Upstream.Policy()
	Dir      string                // folder of its own: <data>/gateway; holds the usage journal
	Config   Config
}

// Gateway takes inference calls.
type Gateway struct {
	Deps
	pool     *h1.Pool
	between  time.Duration // the longest silence in the middle of an answer
	journal  *meter.Journal
	metrics  *metrics
	ratios   ratios
	meter    *meter.Meter
	sizes    sizeTable
	suspects suspects
	draining atomic.Bool
	calls    sync.Pool
	sockets  sockets
}

// New opens the usage journal, settles what a crash left open, and makes the gateway. Run must be called, or usage stays in the journal.
func New(d Deps) (*Gateway, error) {
	g := &Gateway{Deps: d}
	g.Log = d.Log.With("component", "gateway")
	g.between = betweenEvents
	g.pool = h1.NewPool(h1.Options{TCP: d.Upstream.Dialer()})
	g.calls.New = func() any { return &call{g: g} }
	g.sockets.open = map[*socket]struct{}{}
	g.sockets.who = map[string]int{}
	journal, orphans, err := meter.Open(filepath.Join(d.Dir, "journal"))
	if err != nil {
		return nil, err
	}
	g.journal = journal
	if err := g.claim(); err != nil {
		return nil, errors.Join(err, journal.Stop())
	}
	g.metrics = newMetrics(g)
	g.meter = newMeter(g)
	if n := settleOrphans(journal, orphans); n > 0 {
		g.Log.Warn("requests were under way when the last process ended; booked as far as they were marked", "requests", n)
	}
	return g, nil
}

// Handler serves everything under /v1: mount it with web.Server.Mount("v1", ...).
func (g *Gateway) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p := r.URL.Path; {
		case operationAt(p) != nil:
			g.serveInference(w, r, operationAt(p), false)
		case p == "/v1/models":
			g.serveModels(w, r)
		case strings.HasPrefix(p, "/v1/models/") && len(p) > len("/v1/models/"):
			g.serveModel(w, r)
		case p == "/v1/inference/stream":
			g.serveSocket(w, r)
		default:
			e := ErrEndpoint.With("%s %s is not offered here", r.Method, p).WithHint("%s", replacement(p))
			g.refuseHTTP(w, r, e, false)
		}
	})
}

// replacement names what to use instead of an endpoint that does not exist.
func replacement(path string) string {
	switch {
	case strings.HasPrefix(path, "/v1/responses/"), strings.HasPrefix(path, "/v1/conversations"):
		return "Answers are not kept here: send the whole conversation to POST /v1/responses"
	case strings.HasPrefix(path, "/v1/assistants"), strings.HasPrefix(path, "/v1/threads"):
		return "Use POST /v1/responses or POST /v1/chat/completions"
	case strings.HasPrefix(path, "/v1/organization"):
		return "Use GET /api/v1/usage"
	}
	return "Offered: GET /v1/models, POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, /v1/embeddings, /v1/moderations, /v1/rerank"
}

// Routes declares the calls of the management API: POST /inference/chat and /inference/completion, GET /inference/stream (WebSocket).
func (g *Gateway) Routes(mux *web.Mux) {
	mux.Handle(http.MethodPost, "/inference/chat", "inference_chat_create", "inference:invoke", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.serveInference(w, r, &opChat, true)
	}))
	mux.Handle(http.MethodPost, "/inference/completion", "inference_completion_create", "inference:invoke", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.serveInference(w, r, &opCompletion, true)
	}))
	mux.Handle(http.MethodPost, "/inference/embedding", "inference_embedding_create", "inference:invoke", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.serveInference(w, r, &opEmbedding, true)
	}))
	mux.Handle(http.MethodPost, "/inference/rerank", "inference_rerank_create", "inference:invoke", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.serveInference(w, r, &opRerank, true)
	}))
	mux.Handle(http.MethodPost, "/inference/routes/{id}/test", "inference_route_test", "inference:write", http.HandlerFunc(g.serveRouteTest))
	// Public for the edge: browsers bring a ticket, which is read here.
	mux.Handle(http.MethodGet, "/inference/stream", "inference_stream_open", web.Public, http.HandlerFunc(g.serveSocket))
}

// Run ships usage until ctx ends, then ships what is left (at most 10 s) and closes the journal. It ends after the last request: stop the listener first.
func (g *Gateway) Run(ctx context.Context) error {
	done := make(chan struct{})
	probes := make(chan struct{})
	go func() { defer close(probes); g.probe(ctx) }()
	defer func() { <-probes }()
	go func() {
		defer close(done)
		t := time.NewTicker(2 * time.Second)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				g.pool.Sweep()
			}
		}
	}()
	metered := make(chan struct{})
	go func() { defer close(metered); g.runMeter(ctx) }()
	defer func() { <-metered }()
	failing := false
	err := g.journal.Run(ctx, g.send, func(err error) {
		if err != nil && !failing && ctx.Err() == nil {
			g.Log.WarnContext(ctx, "usage cannot be booked now; it stays in the journal", "error", err, "records", g.journal.Lag())
		}
		failing = err != nil
	})
	<-done
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := g.journal.Flush(end, g.send); err != nil {
		g.Log.WarnContext(end, "usage stays in the journal until the next start", "error", err, "records", g.journal.Lag())
	}
	g.pool.Close()
	if e := g.journal.Stop(); err == nil {
		err = e
	}
	return err
}

// Drain refuses new requests with 503 from now on and tells open WebSockets to reconnect elsewhere; running requests go on.
func (g *Gateway) Drain() {
	g.draining.Store(true)
	g.sockets.drain()
}

// Flush ships all usage that is closed now: for tests and before a backup.
func (g *Gateway) Flush(ctx context.Context) error { return g.journal.Flush(ctx, g.send) }

// ratios is what a model's texts weigh: bytes per token, learned from answers that told their usage. For estimates only.
type ratios struct{ m sync.Map } // model -> *atomic.Int64, in 1/1000 byte per token

const ratioStart = 3000

func (r *ratios) of(model string) *atomic.Int64 {
	if v, ok := r.m.Load(model); ok {
		return v.(*atomic.Int64) //nolint:errcheck // the map holds nothing else
	}
	n := &atomic.Int64{}
	n.Store(ratioStart)
	v, _ := r.m.LoadOrStore(model, n)
	return v.(*atomic.Int64) //nolint:errcheck // the map holds nothing else
}

// learn moves the ratio an eighth of the way. Short texts say little: templates outweigh them.
func (r *ratios) learn(model string, bytes int, tokens int64) {
	if bytes < 200 || tokens < 20 {
		return
	}
	n := r.of(model)
	old := n.Load()
	n.Store(old + (min(max(int64(bytes)*1000/tokens, 500), 12_000)-old)/8)
}

func (r *ratios) estimate(model string, bytes int64) int64 {
	if bytes == 0 {
		return 0
	}
	return max(1, bytes*1000/r.of(model).Load())
}
