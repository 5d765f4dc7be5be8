package openai_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/dialect"
	"maas/internal/inference/engine"
	"maas/internal/inference/engine/enginetest"
	"maas/internal/inference/engine/fake"
	"maas/internal/inference/engine/openai"
)

// anthropicFace answers Anthropic's dialect with what a scripted engine says.
type anthropicFace struct {
	model string
	inner http.Handler
}

func (a anthropicFace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, kind, words string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "error", "error": map[string]string{"type": kind, "message": words}})
	}
	switch {
	case r.URL.Path == "/metrics":
		a.inner.ServeHTTP(w, r)
		return
	case r.Header.Get("X-Api-Key") != "sk-right" || r.Header.Get("Anthropic-Version") == "":
		fail(http.StatusUnauthorized, "authentication_error", "invalid x-api-key")
		return
	case r.URL.Path == "/v1/models":
		_ = json.NewEncoder(w).Encode(map[string]any{"data": []any{map[string]string{"type": "model", "id": a.model}}, "has_more": false})
		return
	case r.URL.Path != "/v1/messages":
		fail(http.StatusNotFound, "not_found_error", "nothing there")
		return
	}
	raw, _ := io.ReadAll(r.Body)
	tr, _ := dialect.New(dialect.Messages, dialect.Chat, dialect.Options{Model: a.model, Public: a.model, ID: "1", StreamUsage: true})
	body, err := tr.Request(nil, raw)
	if err != nil {
		fail(http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	q := httptest.NewRequestWithContext(r.Context(), http.MethodPost, "/v1/chat/completions", bytes.NewReader(body))
	out := &turned{w: w, tr: tr, stream: bytes.Contains(body, []byte(`"stream":true`)), status: http.StatusOK, head: http.Header{}}
	a.inner.ServeHTTP(out, q)
	switch {
	case out.status != http.StatusOK:
		var e struct{ Error struct{ Message string } }
		_ = json.Unmarshal(out.buf.Bytes(), &e)
		fail(out.status, "invalid_request_error", e.Error.Message)
	case !out.stream:
		if b, err := tr.Response(nil, out.buf.Bytes()); err == nil {
			_, _ = w.Write(b)
		}
	}
}

// turned translates what is written to it.
type turned struct {
	w      http.ResponseWriter
	head   http.Header
	tr     dialect.Translator
	stream bool
	status int
	buf    bytes.Buffer
}

func (t *turned) Header() http.Header { return t.head }
func (t *turned) WriteHeader(s int)   { t.status = s }
func (t *turned) Flush()              {}
func (t *turned) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if t.status != http.StatusOK || !t.stream {
		return len(p), nil
	}
	t.w.Header().Set("Content-Type", "text/event-stream")
	return len(p), passEvents(&t.buf, t.tr, t.w)
}

// passEvents translates the whole events of a buffer.
func passEvents(from *bytes.Buffer, tr dialect.Translator, to io.Writer) error {
	for {
		i := bytes.Index(from.Bytes(), []byte("\n\n"))
		if i < 0 {
			return nil
		}
		event := from.Next(i + 2)
		_, data, ok := bytes.Cut(append([]byte("\n"), event...), []byte("\ndata: "))
		if !ok {
			continue
		}
		out, err := tr.Event(nil, bytes.TrimSpace(data))
		if err != nil {
			return err
		}
		if _, err := to.Write(out); err != nil {
			return err
		}
		if f, ok := to.(http.Flusher); ok {
			f.Flush()
		}
	}
}

// interpreter lets the suite, which speaks OpenAI's dialect, talk to an endpoint of Anthropic's, as the gateway does.
type interpreter struct{ model string }

func (i interpreter) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	r.Header.Set("X-Api-Key", "sk-right")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
		return http.DefaultTransport.RoundTrip(r)
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	tr, err := dialect.New(dialect.Chat, dialect.Messages, dialect.Options{Model: i.model, Public: i.model, ID: "1", AskedUsage: bytes.Contains(raw, []byte("include_usage"))})
	if err != nil {
		return nil, err
	}
	body, err := tr.Request(nil, raw)
	if err != nil { //nolint:nilerr // the error is the answer
		return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"error":{"message":"refused"}}`))}, nil
	}
	r.URL.Path = strings.TrimSuffix(r.URL.Path, "/chat/completions") + "/messages"
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	pr, pw := io.Pipe()
	inner := resp.Body
	resp.Body, resp.ContentLength = struct {
		io.Reader
		io.Closer
	}{pr, closers{pr, inner}}, -1
	go func() {
		_ = pw.CloseWithError(translateBody(inner, pw, tr, strings.Contains(resp.Header.Get("Content-Type"), "event-stream")))
	}()
	return resp, nil
}

type closers [2]io.Closer

func (c closers) Close() error { return errors.Join(c[0].Close(), c[1].Close()) }

func translateBody(from io.Reader, to io.Writer, tr dialect.Translator, stream bool) error {
	if !stream {
		b, err := io.ReadAll(from)
		if err == nil {
			b, err = tr.Response(nil, b)
		}
		if err == nil {
			_, err = to.Write(b)
		}
		return err
	}
	var buf bytes.Buffer
	piece := make([]byte, 4096)
	for {
		n, err := from.Read(piece)
		buf.Write(piece[:n])
		if perr := passEvents(&buf, tr, to); perr != nil {
			return perr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func TestAnthropicConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		t.Helper()
		s := fake.NewServer("claude-fake", 16, 512)
		s.TokenDelay = time.Millisecond
		h := httptest.NewServer(anthropicFace{"claude-fake", s})
		t.Cleanup(h.Close)
		l := launch(h, "sk-right", "claude-fake")
		l.Upstream.Dialect = engine.Anthropic
		return enginetest.Subject{
			Driver: openai.New(loopback), Launch: l, Upstream: true, Dialect: engine.Anthropic, ChatOnly: true,
			HTTP: func() *http.Client { return &http.Client{Transport: interpreter{"claude-fake"}} },
		}
	})
}

func TestAnthropicRefusals(t *testing.T) {
	t.Parallel()
	h := httptest.NewServer(anthropicFace{"claude-fake", fake.NewServer("claude-fake", 16, 512)})
	t.Cleanup(h.Close)
	l := launch(h, "sk-wrong", "claude-fake")
	l.Upstream.Dialect = engine.Anthropic
	_, err := openai.New(loopback).Start(t.Context(), l, nil)
	require.ErrorIs(t, err, engine.ErrUpstreamAuth)
	require.NotContains(t, err.Error(), "sk-wrong")
}
