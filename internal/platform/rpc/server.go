package rpc

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
)

// Mux dispatches calls. It is an http.Handler for /rpc/{method}. Register all methods before serving.
type Mux struct {
	o       Options
	methods map[string]func(ctx context.Context, body []byte) (any, error)
}

// NewMux makes a Mux. ErrBadSecret without a secret or an audience.
func NewMux(o Options) (*Mux, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return &Mux{o, map[string]func(context.Context, []byte) (any, error){}}, nil
}

// Handle registers a method `<service>.<Method>`; twice panics. f runs with the caller's principal in ctx (none if the caller had none) and until the caller's deadline.
func Handle[In, Out any](m *Mux, name string, f func(ctx context.Context, in In) (Out, error)) {
	if m.methods[name] != nil {
		panic("rpc: method registered twice: " + name)
	}
	m.methods[name] = func(ctx context.Context, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, ErrBadInput.Wrap(err)
		}
		return f(ctx, in)
	}
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := m.serve(w, r)
	if err == nil {
		var body []byte
		if body, err = json.Marshal(out); err == nil {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body) // the caller is gone
			return
		}
	}
	if f := fault.From(err); f.Kind == fault.Internal {
		m.o.Log.ErrorContext(r.Context(), "a call from another process failed", "method", strings.TrimPrefix(r.URL.Path, prefix), "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write(fault.Encode(err))
}

func (m *Mux) serve(w http.ResponseWriter, r *http.Request) (out any, err error) {
	name, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok || r.Method != http.MethodPost {
		return nil, ErrNoMethod
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, m.o.MaxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, ErrTooLarge.With("the call is over the limit of %d bytes", m.o.MaxBody)
	}
	if err != nil {
		return nil, ErrBadInput.Wrap(err)
	}
	p, err := m.verify(r.Header.Get(headerCall), name, body)
	if err != nil {
		return nil, err
	}
	f := m.methods[name]
	if f == nil {
		return nil, ErrNoMethod.With("this process does not know %s", name)
	}
	ctx := r.Context()
	if p != nil {
		ctx = auth.With(ctx, *p)
	}
	if ms, err := strconv.ParseInt(r.Header.Get(headerTimeout), 10, 32); err == nil && ms > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			m.o.Log.ErrorContext(ctx, "a call handler panicked", "method", name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = ErrPanic
		}
	}()
	out, err = f(ctx, body)
	var known *fault.Error
	if err != nil && !errors.As(err, &known) && errors.Is(err, context.DeadlineExceeded) {
		err = ErrTimeout.Wrap(err)
	}
	return out, err
}

// verify checks the call header. The answer to all that is wrong is the same.
func (m *Mux) verify(header, method string, body []byte) (*auth.Principal, error) {
	text, sum, ok := strings.Cut(header, ".")
	if !ok {
		return nil, ErrBadCall
	}
	mac, err := base64.RawURLEncoding.DecodeString(sum)
	if err != nil || !hmac.Equal(mac, m.o.mac(text)) {
		return nil, ErrBadCall
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, ErrBadCall
	}
	var c claims
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&c); err != nil {
		return nil, ErrBadCall
	}
	now, until := m.o.Now(), time.UnixMilli(c.Until)
	if c.Audience != m.o.Audience || c.Method != method || c.Body != digest(body) || now.After(until.Add(skew)) || until.After(now.Add(life+skew)) {
		return nil, ErrBadCall
	}
	return c.Principal, nil
}
