package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
	"maas/internal/platform/front"
	"maas/internal/platform/id"
	"maas/internal/platform/telemetry"
)

// Options of a Server.
type Options struct {
	Version      string
	Log          *slog.Logger
	Authenticate Authenticator // may be set later with SetAuthenticator, before Serve
	Drain        time.Duration // how long running requests may go on after the context ends; default 30 s

	RatePerMinute  int      // requests of one caller to the management API; 0 = no limit
	TrustedProxies []string // addresses and CIDR blocks whose X-Forwarded-For is believed
}

// Server is the one HTTP listener of a process. Build it, register routes, then Serve.
type Server struct {
	opt          Options
	api          API
	mux          *http.ServeMux // /api/v1
	authenticate Authenticator
	clients      clients
	rates        *rates                  // nil = no limit
	first        map[string]http.Handler // by first path segment
	rest         http.Handler
	forward      map[string]http.Handler // /api/v1/<segment> of services that run in other processes
	hot          map[string]bool         // segments that the lean loop of package front serves where it can
	version      []string                // header value
	replay       func(http.ResponseWriter, *http.Request, auth.Principal, http.Handler)
	draining     atomic.Bool

	mu    sync.Mutex // guards ready
	ready map[string]func(context.Context) error
}

// New makes a server with the management API mounted and /livez, /readyz answering.
func New(o Options) *Server {
	if o.Drain == 0 {
		o.Drain = 30 * time.Second
	}
	s := &Server{opt: o, mux: http.NewServeMux(), authenticate: o.Authenticate, first: map[string]http.Handler{}, forward: map[string]http.Handler{}, ready: map[string]func(context.Context) error{}, hot: map[string]bool{}, version: []string{o.Version}}
	if s.authenticate == nil {
		s.authenticate = func(context.Context, *http.Request) (auth.Principal, error) {
			return auth.Principal{}, auth.ErrUnauthenticated
		}
	}
	s.rates = newRates(o.RatePerMinute)
	s.clients, _ = parseProxies(o.TrustedProxies)
	s.api = newAPI(s, s.mux, o.Version)
	s.first["api"] = http.HandlerFunc(s.serveAPI)
	s.first["livez"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	s.first["readyz"] = http.HandlerFunc(s.serveReady)
	s.rest = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { WriteProblem(w, r, ErrNotFound) })
	return s
}

// API is where services register JSON routes.
func (s *Server) API() API { return s.api }

// Mux is where services register plain handlers of the management API.
func (s *Server) Mux() *Mux { return &Mux{s, s.mux} }

// SetAuthenticator sets who reads credentials. Call it before Serve.
func (s *Server) SetAuthenticator(a Authenticator) { s.authenticate = a }

// SetReplay sets what answers the requests of signed-in callers that carry an Idempotency-Key; it calls the handler for those it has not seen. Before serving.
func (s *Server) SetReplay(f func(http.ResponseWriter, *http.Request, auth.Principal, http.Handler)) {
	s.replay = f
}

// Mount serves everything under /segment with h. Dispatch is by the first path segment and not by one big ServeMux: patterns of different dialects overlap, which panics there.
func (s *Server) Mount(segment string, h http.Handler) { s.first[segment] = h }

// MountHot is Mount for the path that most requests take: where it can, Serve answers it with the lean loop of package front. The handler must not keep header maps after it has returned.
func (s *Server) MountHot(segment string, h http.Handler) {
	s.first[segment] = h
	s.hot[segment] = true
}

// isHot reports whether a path lies below a segment of MountHot.
func (s *Server) isHot(path string) bool {
	segment, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return s.hot[segment]
}

// MountRest serves all paths that no segment owns: the console.
func (s *Server) MountRest(h http.Handler) { s.rest = h }

// Forward passes /api/v1/segment/... to h, for a service that runs in another process. That process checks the credential.
func (s *Server) Forward(segment string, h http.Handler) { s.forward[segment] = h }

// Ready adds a check that /readyz runs; its error is shown there in words.
func (s *Server) Ready(name string, check func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready[name] = check
}

// Routes lists the declared routes of the management API, sorted by path and method.
func (s *Server) Routes() []Route {
	var all []Route
	for path, item := range s.api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete, item.Head} {
			if op != nil {
				permission, _ := op.Metadata["permission"].(string)
				all = append(all, Route{op.Method, path, op.OperationID, permission})
			}
		}
	}
	slices.SortFunc(all, func(a, b Route) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) })
	return all
}

// Handler is the whole edge as one handler.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

var noSniff = []string{"nosniff"}

// serveHTTP stands before every request, also before those of the gateway: header values are set as slices that exist already, and the context is not wrapped where it can hold values itself.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &record{ResponseWriter: w, id: id.New("req"), start: time.Now()}
	rec.ids[0] = rec.id
	h := w.Header()
	h["X-Request-Id"] = rec.ids[:]
	h["X-Maas-Version"] = s.version
	h["X-Content-Type-Options"] = noSniff
	if l, ok := r.Context().(*front.Life); ok {
		telemetry.SetTraceparent(l, r.Header.Get("Traceparent"))
		l.Set(recordKey{}, rec)
	} else {
		ctx := telemetry.WithTraceparent(r.Context(), r.Header.Get("Traceparent"))
		r = r.WithContext(context.WithValue(ctx, recordKey{}, rec))
	}
	if s.clients.trusted != nil {
		s.clients.settle(r)
	}
	defer s.finish(rec, r)
	if s.draining.Load() && r.URL.Path != "/livez" && r.URL.Path != "/readyz" {
		WriteProblem(rec, r, ErrDraining.After(5*time.Second))
		return
	}
	segment, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if f, ok := s.first[segment]; ok {
		f.ServeHTTP(rec, r)
		return
	}
	s.rest.ServeHTTP(rec, r)
}

// finish recovers a panic of a handler into a 500 and writes the request's log line.
func (s *Server) finish(rec *record, r *http.Request) {
	if v := recover(); v != nil {
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		s.opt.Log.ErrorContext(r.Context(), "panic in a request", "request_id", rec.id, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
		if rec.status == 0 {
			WriteProblem(rec, r, fault.ErrInternal)
		}
	}
	level := slog.LevelDebug
	if rec.err == nil && !s.opt.Log.Enabled(r.Context(), level) {
		return
	}
	path := r.URL.Path
	if before, token, ok := strings.Cut(path, "/by-token/"); ok { // what opens a door is not for the log
		_, rest, _ := strings.Cut(token, "/")
		path = before + "/by-token/***/" + rest
	}
	attrs := []any{"request_id", rec.id, "method", r.Method, "path", path, "status", rec.status, "bytes", rec.bytes, "ms", time.Since(rec.start).Milliseconds(), "who", rec.who}
	if rec.err != nil {
		attrs = append(attrs, "error", rec.err.Error())
		if fault.KindOf(rec.err) == fault.Internal {
			level = slog.LevelError
		}
	}
	s.opt.Log.Log(r.Context(), level, "request", attrs...)
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/openapi.json", "/api/openapi.yaml", "/api/openapi-3.0.json", "/api/openapi-3.0.yaml":
		s.serveDocument(w, r)
		return
	}
	if !strings.HasPrefix(r.URL.Path, Prefix+"/") {
		WriteProblem(w, r, ErrNotFound)
		return
	}
	segment, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix+"/"), "/")
	if h, ok := s.forward[segment]; ok {
		h.ServeHTTP(w, r)
		return
	}
	h, pattern := s.mux.Handler(r)
	if pattern == "" { // ServeMux would answer in plain text
		probe := &statusProbe{header: http.Header{}}
		h.ServeHTTP(probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", probe.header.Get("Allow"))
			WriteProblem(w, r, ErrMethod.With("%s takes %s", r.URL.Path, probe.header.Get("Allow")))
			return
		}
		WriteProblem(w, r, ErrNotFound.With("there is no %s", r.URL.Path))
		return
	}
	if s.replay != nil && r.Method == http.MethodPost && r.Header.Get("Idempotency-Key") != "" && repeatable(r.Header.Get("Content-Type")) {
		if p, err := s.authenticate(r.Context(), r); err == nil { // callers without a credential have nothing to repeat; a wrong one is refused behind this
			s.replay(w, r, p, s.mux)
			return
		}
	}
	s.mux.ServeHTTP(w, r)
}

// repeatable: JSON or no body at all. Uploads have a way of their own to go on.
func repeatable(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	return kind == "" || strings.TrimSpace(kind) == "application/json"
}

// Document returns the OpenAPI 3.1 document as YAML: what api/openapi.yaml holds.
func (s *Server) Document() ([]byte, error) { return s.api.OpenAPI().YAML() }

func (s *Server) serveDocument(w http.ResponseWriter, r *http.Request) {
	o := s.api.OpenAPI()
	var b []byte
	var err error
	switch r.URL.Path {
	case "/api/openapi.json":
		b, err = json.Marshal(o)
	case "/api/openapi.yaml":
		b, err = o.YAML()
	case "/api/openapi-3.0.json":
		b, err = o.Downgrade()
	default:
		b, err = o.DowngradeYAML()
	}
	if err != nil {
		WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", map[bool]string{true: "application/json", false: "application/yaml"}[strings.HasSuffix(r.URL.Path, "json")])
	_, _ = w.Write(b)
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	checks := make(map[string]func(context.Context) error, len(s.ready))
	maps.Copy(checks, s.ready)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	answer := map[string]string{}
	status := http.StatusOK
	for name, check := range checks {
		answer[name] = "ok"
		if err := check(ctx); err != nil {
			answer[name], status = fault.From(err).Text(), http.StatusServiceUnavailable
		}
	}
	if s.draining.Load() {
		answer["listener"], status = ErrDraining.Message, http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// Serve answers on l until ctx ends, then stops taking requests, lets running ones finish for Options.Drain and closes. Slow heads are cut after 10 s, idle connections after 2 minutes, heads over 32 KiB refused.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	// What the lean loop does not serve goes to net/http.
	hs := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	lean := front.New(front.Options{Handler: s.Handler(), Hot: s.isHot, Log: s.opt.Log, Base: context.WithoutCancel(ctx), Head: hs.ReadHeaderTimeout, Idle: hs.IdleTimeout})
	done := make(chan error, 1)
	rest := lean.Listen(l)
	go func() { done <- hs.Serve(rest) }()
	select {
	case err := <-done:
		return errors.Join(err, lean.Shutdown(context.WithoutCancel(ctx)))
	case <-ctx.Done():
	}
	s.draining.Store(true)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opt.Drain)
	defer cancel()
	both := make(chan error, 1)
	go func() { both <- lean.Shutdown(end) }()
	err := hs.Shutdown(end)
	if err != nil {
		err = errors.Join(err, hs.Close())
	}
	err = errors.Join(err, <-both)
	<-done // the error that matters is that of Shutdown
	return err
}
