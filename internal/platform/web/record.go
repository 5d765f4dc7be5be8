package web

import (
	"context"
	"io"
	"net/http"
	"time"

	"maas/internal/platform/auth"
)

// record is what the request log knows of one request. It wraps the ResponseWriter and keeps io.ReaderFrom, so that file downloads still use sendfile.
type record struct {
	http.ResponseWriter
	id     string
	ids    [1]string // header value
	start  time.Time
	status int
	bytes  int64
	who    string
	err    error
}

type recordKey struct{}

func recordOf(ctx context.Context) *record { r, _ := ctx.Value(recordKey{}).(*record); return r }

// RequestID returns the id that the edge gave this request, "" outside of one.
func RequestID(ctx context.Context) string {
	if r := recordOf(ctx); r != nil {
		return r.id
	}
	return ""
}

func noteError(ctx context.Context, err error) {
	if r := recordOf(ctx); r != nil {
		r.err = err
	}
}

func notePrincipal(ctx context.Context, p auth.Principal) {
	if r := recordOf(ctx); r != nil {
		r.who = p.UserID
		if p.KeyID != "" {
			r.who = p.KeyID
		}
	}
}

// WriteHeader notes the status.
func (r *record) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes.
func (r *record) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// ReadFrom keeps the server's fast path for files.
func (r *record) ReadFrom(src io.Reader) (int64, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := io.Copy(r.ResponseWriter, src)
	r.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the server's writer.
func (r *record) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush implements http.Flusher for handlers that ask by type assertion.
func (r *record) Flush() { _ = r.FlushError() }

// FlushError sends what is written so far; [http.ResponseController] prefers it.
func (r *record) FlushError() error {
	if f, ok := r.ResponseWriter.(interface{ FlushError() error }); ok {
		return f.FlushError()
	}
	return http.NewResponseController(r.ResponseWriter).Flush()
}

// statusProbe runs a ServeMux's own error handler to learn what it would have said.
type statusProbe struct {
	header http.Header
	status int
}

func (p *statusProbe) Header() http.Header         { return p.header }
func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }
func (p *statusProbe) WriteHeader(status int)      { p.status = status }
