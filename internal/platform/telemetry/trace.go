package telemetry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
)

// Trace is the position in a distributed trace (W3C Trace Context, level 1).
type Trace struct {
	TraceID string // 32 hex digits
	SpanID  string // 16 hex digits
	Sampled bool
}

type traceKey struct{}

// WithTrace returns a context that carries t; log lines written with it have trace_id and span_id.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// pending is the trace of an incoming request, made when somebody asks for it: most requests write no log line and no span.
type pending struct {
	header string
	once   sync.Once
	trace  Trace
}

// WithTraceparent returns a context that carries the trace of an incoming request.
func WithTraceparent(ctx context.Context, header string) context.Context {
	return context.WithValue(ctx, traceKey{}, &pending{header: header})
}

// SetTraceparent is WithTraceparent for a context that keeps values itself.
func SetTraceparent(s interface{ Set(key, value any) }, header string) {
	s.Set(traceKey{}, &pending{header: header})
}

// TraceOf returns the trace of ctx.
func TraceOf(ctx context.Context) (Trace, bool) {
	switch t := ctx.Value(traceKey{}).(type) {
	case Trace:
		return t, true
	case *pending:
		t.once.Do(func() { t.trace = ParseTraceparent(t.header) })
		return t.trace, true
	}
	return Trace{}, false
}

// ParseTraceparent reads the header of an incoming request and returns a new span of that trace; a missing or malformed header starts a trace.
func ParseTraceparent(header string) Trace {
	t := Trace{SpanID: randomHex(8)}
	parts := strings.Split(header, "-")
	if len(parts) >= 4 && len(parts[0]) == 2 && parts[0] != "ff" && isHex(parts[1], 32) && isHex(parts[2], 16) && len(parts[3]) == 2 && (parts[0] != "00" || len(parts) == 4) {
		t.TraceID = parts[1]
		flags, err := hex.DecodeString(parts[3])
		t.Sampled = err == nil && flags[0]&1 == 1
		return t
	}
	t.TraceID = randomHex(16)
	return t
}

// Traceparent is the header for an outgoing request.
func (t Trace) Traceparent() string {
	flags := "00"
	if t.Sampled {
		flags = "01"
	}
	return "00-" + t.TraceID + "-" + t.SpanID + "-" + flags
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == "" && strings.Trim(s, "0") != ""
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}

// traced adds the trace of the context to each record.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if t, ok := TraceOf(ctx); ok {
		r.AddAttrs(slog.String("trace_id", t.TraceID), slog.String("span_id", t.SpanID))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(a []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(a)} }
func (h traced) WithGroup(n string) slog.Handler      { return traced{h.Handler.WithGroup(n)} }
