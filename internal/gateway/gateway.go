package gateway

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/inference"
	"maas/internal/platform/clock"
	"maas/internal/platform/web"
	"maas/internal/user"
)

// Config of the gateway.
type Config struct {
	BodyLimit int64    `yaml:"body_limit" doc:"Largest request body in bytes"`
	Origins   []string `yaml:"origins" doc:"Origins besides our own that may open a WebSocket, as scheme://host[:port]"`
}

// Defaults returns the configuration of a fresh installation.
func Defaults() Config { return Config{BodyLimit: 16 << 20} }

// Deps is what the gateway needs.
type Deps struct {
	Log      *slog.Logger
	Now      clock.Clock
	Metrics  prometheus.Registerer // nil: none
	Verifier *user.Verifier        // of this process; somebody else runs it
	Users    user.API              // takes usage and tickets: the local service or a client
	Router   *inference.Router     // of this process; somebody else feeds it
	Dir      string                // folder of its own: <data>/gateway; holds the usage journal
	Config   Config
}

// Gateway takes inference calls.
type Gateway struct{ Deps }

// New opens the usage journal, settles what a crash left open, and makes the gateway. Run must be called, or usage stays in the journal.
func New(d Deps) (*Gateway, error) { panic("filled next") }

// Handler serves everything under /v1: mount it with web.Server.Mount("v1", ...).
func (g *Gateway) Handler() http.Handler { panic("filled next") }

// Routes declares the calls of the management API: POST /inference/chat and /inference/completion, GET /inference/stream (WebSocket).
func (g *Gateway) Routes(mux *web.Mux) { panic("filled next") }

// Run ships usage until ctx ends, then ships what is left (at most 10 s) and closes the journal. It ends after the last request: stop the listener first.
func (g *Gateway) Run(ctx context.Context) error { panic("filled next") }

// Drain refuses new requests with 503 from now on; running ones go on.
func (g *Gateway) Drain() { panic("filled next") }
