package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"maas/internal/inference/dialect"
	"maas/internal/llm/arch"
	"maas/internal/llm/run"
	"maas/internal/llm/token"
	"maas/internal/platform/fault"
)

// Errors of the data plane beside those of the engine. They leave as OpenAI error bodies.
var (
	errLoading  = fault.New(fault.Unavailable, "inference.worker_loading", "the model is still loading")
	errDraining = fault.New(fault.Unavailable, "inference.worker_draining", "this engine is shutting down and takes no new requests")
	errRoute    = fault.New(fault.NotFound, "inference.worker_route", "this engine has no such path")
	errBody     = fault.New(fault.TooLarge, "inference.worker_body", "the request body is too large")
	errRequest  = fault.New(fault.Invalid, "inference.worker_request", "the request cannot be understood")
	errMissing  = fault.New(fault.Invalid, "inference.capability_missing", "this engine does not offer what the request asks for")
	errFence    = fault.New(fault.Conflict, "inference.worker_fence", "a newer server owns this engine")
)

const maxBody = 32 << 20

// model is a loaded model with its engine.
type model struct {
	source      *arch.Source
	tok         *token.Tokenizer
	engine      *run.Engine  // nil = an encoder
	encoder     *run.Encoder // nil = a decoder
	template    *template
	templateErr error // why there is no template
}

func (m *model) close() { _ = m.source.Close() }

// computer is what both kinds of engines have.
type computer interface {
	MaxContext() int
	Stats() run.Stats
	Close(ctx context.Context) error
}

func (m *model) computer() computer {
	if m.encoder != nil {
		return m.encoder
	}
	return m.engine
}

// Tasks of an engine, as Note.Tasks names them.
const (
	TaskEmbedding = "embedding"
	TaskRerank    = "rerank"
)

// tasks names what an encoder does; a decoder chats and completes, which is not said.
func (m *model) tasks() []string {
	switch {
	case m.encoder == nil:
		return nil
	case m.encoder.Ranks():
		return []string{TaskRerank}
	}
	return []string{TaskEmbedding}
}

// server answers HTTP from the moment the socket exists.
type server struct {
	cfg     Config
	process *process
	mux     *http.ServeMux
	metrics *metrics
	created int64
	drained chan struct{} // closed when asked over HTTP to leave

	model    atomic.Pointer[model] // nil while loading
	draining atomic.Bool
	once     sync.Once
	done     atomic.Int64
	total    atomic.Int64
	fence    atomic.Int64
}

func newServer(cfg Config, p *process) *server {
	s := &server{cfg: cfg, process: p, mux: http.NewServeMux(), created: time.Now().Unix(), drained: make(chan struct{})}
	s.fence.Store(cfg.Fence)
	s.metrics = newMetrics(s)
	s.mux.HandleFunc("POST /v1/chat/completions", s.wrap(decoders(s.chat)))
	s.mux.HandleFunc("POST /v1/completions", s.wrap(decoders(s.completion)))
	s.mux.HandleFunc("POST /v1/embeddings", s.wrap(s.embeddings))
	s.mux.HandleFunc("POST /v1/rerank", s.wrap(s.rerank))
	s.mux.HandleFunc("POST /tokenize", s.wrap(s.tokenize))
	s.mux.HandleFunc("POST /detokenize", s.wrap(s.detokenize))
	s.mux.HandleFunc("GET /v1/models", s.models)
	s.mux.HandleFunc("GET /health", s.health)
	s.mux.HandleFunc("GET /stats", s.stats)
	s.mux.Handle("GET /metrics", s.metrics.handler())
	s.mux.HandleFunc("POST /drain", s.askDrain)
	s.mux.HandleFunc("POST /attach", s.attach)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, errRoute.With("this engine has no %s %s", r.Method, r.URL.Path))
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *server) progress(done, total int64) {
	s.done.Store(done)
	s.total.Store(total)
}

func (s *server) start(m *model) { s.model.Store(m) }

func (s *server) drain() { s.draining.Store(true) }

// handler is one of the data plane: it writes the answer, or returns the error to write.
type handler func(w http.ResponseWriter, r *http.Request, m *model, body []byte) error

// wrap guards a handler of the data plane: the model must be loaded, the body within its limit, and a panic, a bug of ours, costs one request.
func (s *server) wrap(f handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m := s.model.Load()
		if m == nil {
			writeError(w, errLoading.After(time.Second))
			return
		}
		if s.draining.Load() {
			writeError(w, errDraining)
			return
		}
		defer func() {
			if c := recover(); c != nil {
				s.process.log.Error("a request failed by a bug", "path", r.URL.Path, "panic", c)
				writeError(w, fault.ErrInternal)
			}
		}()
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				writeError(w, errBody.With("the body is over the limit of %d bytes", int64(maxBody)))
			}
			return
		}
		if err := f(w, r, m, body); err != nil && r.Context().Err() == nil {
			writeError(w, err)
		}
	}
}

// decoders lets a handler see models that make text only.
func decoders(f handler) handler {
	return func(w http.ResponseWriter, r *http.Request, m *model, body []byte) error {
		if m.engine == nil {
			return errMissing.With("this model makes no text: it serves %s", strings.Join(m.tasks(), ", "))
		}
		return f(w, r, m, body)
	}
}

// decode reads a body; the error names the field.
func decode(body []byte, v any) error {
	if err := dialect.Decode(body, v); err != nil {
		var fe *dialect.FieldError
		if errors.As(err, &fe) && fe.Param != "" {
			return errRequest.With("%s", fe.Error()).WithFields(fault.Field{Name: fe.Param, Code: "type", Message: fe.Message})
		}
		return errRequest.With("%s", err.Error())
	}
	return nil
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) {
	info := dialect.ModelInfo{ID: s.cfg.Nonce, Object: "model", Created: s.created, OwnedBy: "maas", Root: s.cfg.Model}
	if m := s.model.Load(); m != nil {
		info.MaxModelLen = m.computer().MaxContext()
	}
	list := dialect.ModelList{Object: "list", Data: []dialect.ModelInfo{info}}
	if s.cfg.Model != "" && s.cfg.Model != s.cfg.Nonce {
		named := info
		named.ID = s.cfg.Model
		list.Data = append(list.Data, named)
	}
	writeJSON(w, http.StatusOK, list)
}

// healthBody is the answer of /health.
type healthBody struct {
	Status  string `json:"status"` // loading, ok, draining
	Percent int    `json:"percent"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	h := healthBody{Status: "ok", Percent: 100}
	code := http.StatusOK
	switch {
	case s.draining.Load():
		h.Status, code = "draining", http.StatusServiceUnavailable
	case s.model.Load() == nil:
		h.Done, h.Total, h.Percent = s.done.Load(), s.total.Load(), 0
		if h.Total > 0 {
			h.Percent = int(100 * h.Done / h.Total)
		}
		h.Status, code = "loading", http.StatusServiceUnavailable
	}
	writeJSON(w, code, h)
}

func (s *server) stats(w http.ResponseWriter, _ *http.Request) {
	m := s.model.Load()
	if m == nil {
		writeError(w, errLoading.After(time.Second))
		return
	}
	writeJSON(w, http.StatusOK, m.computer().Stats())
}

func (s *server) askDrain(w http.ResponseWriter, _ *http.Request) {
	s.drain()
	s.once.Do(func() { close(s.drained) })
	writeJSON(w, http.StatusAccepted, healthBody{Status: "draining", Percent: 100})
}

// attach lets a server own this engine as long as it holds the request open.
func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Nonce string `json:"nonce"`
		Fence int64  `json:"fence"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&in); err != nil || in.Nonce != s.cfg.Nonce {
		writeError(w, errRequest.With("the nonce is not this engine's"))
		return
	}
	for {
		was := s.fence.Load()
		if in.Fence < was {
			writeError(w, errFence.With("the newest fence is %d", was))
			return
		}
		if s.fence.CompareAndSwap(was, in.Fence) {
			break
		}
	}
	s.process.orphan.hold()
	defer s.process.orphan.release()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, "{}\n")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-r.Context().Done():
	case <-s.drained:
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// statuses of the fault kinds.
var statuses = map[fault.Kind]int{
	fault.Internal: 500, fault.Invalid: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404, fault.Conflict: 409, fault.TooLarge: 413, fault.Limited: 429, fault.Upstream: 502,
	fault.Unavailable: 503,
}

// errorBody maps an error to OpenAI's form and its status.
func errorBody(err error) (int, dialect.ErrorBody) {
	e := fault.From(err)
	status := statuses[e.Kind]
	typ, code, param, text := "invalid_request_error", e.Code, "", e.Text()
	switch {
	case errors.Is(err, run.ErrContextLength):
		code = "context_length_exceeded"
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		typ = "overloaded_error"
	case status >= http.StatusInternalServerError:
		typ = "server_error"
	}
	if e.Kind == fault.Internal { // what exactly went wrong is for the log
		text = e.Message
	}
	if len(e.Fields) > 0 {
		param = e.Fields[0].Name
	}
	return status, dialect.NewError(text, typ, param, code)
}

func writeError(w http.ResponseWriter, err error) {
	status, body := errorBody(err)
	if e := fault.From(err); e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(e.RetryAfter.Seconds()))))
	}
	writeJSON(w, status, body)
}
