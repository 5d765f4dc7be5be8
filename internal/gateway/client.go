package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"maas/internal/platform/fault"
	"maas/internal/platform/web"
	"maas/internal/user"
)

// client is where an answer goes. head, then write and flush; or refuse instead; or breakOff after head.
type client interface {
	head(c *call, stream bool, length int64)
	write(p []byte) error
	flush() error
	refuse(c *call, e *fault.Error)
	breakOff(c *call, e *fault.Error)
}

const (
	stallMost = 30 * time.Second // a client that takes nothing for this long is let go
	streaming = "text/event-stream"
)

// httpClient is an HTTP client of either API.
type httpClient struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	r       *http.Request
	problem bool // errors as problem+json
	until   time.Time
	values  arena
}

// Values of headers that never change: setting one by name would make a slice each time. Nobody appends to them.
var (
	valueStream  = []string{streaming}
	valueNoCache = []string{"no-cache"}
	valueNo      = []string{"no"}
	valueJSON    = []string{"application/json"}
)

// arena holds the values of headers that differ from call to call, in one allocation instead of one for each.
type arena []string

func (a *arena) put(h http.Header, name, value string) {
	if len(*a) == cap(*a) {
		*a = make(arena, 0, 8)
	}
	*a = append(*a, value)
	n := len(*a)
	h[name] = (*a)[n-1 : n : n]
}

func (h *httpClient) head(c *call, stream bool, length int64) {
	out := h.w.Header()
	c.headers(out, &h.values)
	if stream {
		out["Content-Type"], out["Cache-Control"], out["X-Accel-Buffering"] = valueStream, valueNoCache, valueNo
	} else {
		out["Content-Type"] = valueJSON
		if length >= 0 {
			h.values.put(out, "Content-Length", strconv.FormatInt(length, 10))
		}
	}
	h.w.WriteHeader(http.StatusOK)
}

func (h *httpClient) write(p []byte) error {
	if now := time.Now(); h.until.Sub(now) < stallMost-time.Second {
		h.until = now.Add(stallMost)
		_ = h.rc.SetWriteDeadline(h.until) // recorders of tests have none
	}
	_, err := h.w.Write(p)
	return err
}

func (h *httpClient) flush() error { return h.rc.Flush() }

func (h *httpClient) refuse(c *call, e *fault.Error) { c.g.writeError(h.w, h.r, e, h.problem, c) }

// breakOff ends a stream that has begun with one error event, and no [DONE]: it must not look like a short answer.
func (h *httpClient) breakOff(c *call, e *fault.Error) {
	if !c.row.Stream { // half of a whole answer is out: the only honest end is a broken connection
		panic(http.ErrAbortHandler)
	}
	if h.write(errorEvent(c, e)) == nil {
		_ = h.flush() // the client is gone: nothing left to do
	}
}

// writeError answers with an error before anything else was sent. c may be nil.
func (g *Gateway) writeError(w http.ResponseWriter, r *http.Request, e *fault.Error, problem bool, c *call) {
	h := w.Header()
	if c != nil {
		c.headers(h, &arena{})
	}
	s := status(e)
	retryHeaders(h, e, s)
	if s == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="maas"`)
	}
	if problem {
		web.WriteProblem(w, r, e)
		return
	}
	if e.Kind == fault.Internal {
		g.Log.ErrorContext(r.Context(), "internal error on the path", "request_id", h.Get("X-Request-Id"), "error", e)
	}
	h.Set("Content-Type", "application/json")
	if speaksAnthropic(r) {
		h.Set("Request-Id", h.Get("X-Request-Id"))
		w.WriteHeader(anthropicStatus(e))
		_, _ = w.Write(anthropicError(e, h.Get("X-Request-Id"))) // the client is gone: nothing left to do
		return
	}
	w.WriteHeader(s)
	_, _ = w.Write(errorBody(e, h.Get("X-Request-Id"))) // the client is gone: nothing left to do
}

// refuseHTTP answers a request that never became a call.
func (g *Gateway) refuseHTTP(w http.ResponseWriter, r *http.Request, e *fault.Error, problem bool) {
	if w.Header().Get("X-Request-Id") == "" {
		w.Header().Set("X-Request-Id", requestID(r.Context()))
	}
	g.metrics.refused.WithLabelValues(e.Code).Inc()
	g.writeError(w, r, e, problem, nil)
}

// headers that every answer of a call carries.
func (c *call) headers(h http.Header, a *arena) {
	if has := h["X-Request-Id"]; len(has) != 1 || has[0] != c.row.RequestID { // the edge has set it as a rule
		a.put(h, "X-Request-Id", c.row.RequestID)
	}
	c.dialectHeaders(h)
	if c.target == nil {
		return
	}
	c.limitHeaders(h)
	a.put(h, "X-Maas-Model", c.row.Model)
	a.put(h, "X-Maas-Deployment", c.row.DeploymentID)
	a.put(h, "X-Maas-Attempts", strconv.Itoa(c.row.Attempts))
	a.put(h, "Openai-Processing-Ms", strconv.FormatInt(time.Since(c.start).Milliseconds(), 10))
}

// serveInference takes one call over HTTP.
func (g *Gateway) serveInference(w http.ResponseWriter, r *http.Request, op *operation, problem bool) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		g.refuseHTTP(w, r, ErrMethod.With("%s takes POST", r.URL.Path), problem)
		return
	}
	cred, err := g.credential(r.Context(), r)
	if err != nil {
		g.refuseHTTP(w, r, asFault(err), problem)
		return
	}
	buf := bodies.Get().(*[]byte) //nolint:errcheck // the pool holds nothing else
	body, err := readBody(w, r, (*buf)[:0], g.Config.BodyLimit)
	*buf = body
	defer func() {
		if cap(*buf) <= keptBody {
			bodies.Put(buf)
		}
	}()
	if err != nil {
		w.Header().Set("Connection", "close") // the rest of the body is not worth reading
		g.refuseHTTP(w, r, asFault(err), problem)
		return
	}
	out := &httpClient{w: w, rc: http.NewResponseController(w), r: r, problem: problem}
	g.serve(r.Context(), out, op, cred, body, requestID(r.Context()), clientRequestID(r))
}

// credential finds the credential of a request and refuses one that does not hold.
func (g *Gateway) credential(ctx context.Context, r *http.Request) (*user.Credential, error) {
	if g.draining.Load() {
		return nil, ErrDraining.After(5 * time.Second)
	}
	if err := g.Verifier.NeedSetup(ctx); err != nil {
		return nil, err
	}
	c, err := g.Verifier.Credential(ctx, user.FromRequest(r))
	if err != nil {
		return nil, g.badCredential(r, err)
	}
	if c, err = c.For(r); err != nil { // addresses it may be used from, the project it acts for
		return nil, err
	}
	_, err = c.Check(g.Now())
	return c, err
}

// clientRequestID is the client's own id of the request, kept beside ours if it is short and plain.
func clientRequestID(r *http.Request) string {
	s := r.Header.Get("X-Request-Id")
	if len(s) > 128 {
		return ""
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return ""
		}
	}
	return s
}
