package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"maas/internal/user"
)

type wsFrame struct {
	V    int
	Type string
	Seq  int64
	Data struct {
		ID        string
		RequestID string `json:"request_id"`
		Model     string
		Data      json.RawMessage
		Usage     *struct {
			CompletionTokens int `json:"completion_tokens"`
		}
		Error *struct{ Code, Message string }
	}
}

type wsClient struct {
	t *testing.T
	c *websocket.Conn
}

func (r *rig) dial(t *testing.T, path string, h http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	return websocket.Dial(t.Context(), strings.Replace(r.url, "http", "ws", 1)+path, &websocket.DialOptions{HTTPHeader: h, Subprotocols: protocols, HTTPClient: r.http}) //nolint:bodyclose // the library closes it
}

func (w wsClient) read() wsFrame {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	_, b, err := w.c.Read(ctx)
	require.NoError(w.t, err)
	var f wsFrame
	require.NoError(w.t, json.Unmarshal(b, &f), string(b))
	return f
}

func (w wsClient) write(v any) {
	w.t.Helper()
	b, err := json.Marshal(v)
	require.NoError(w.t, err)
	require.NoError(w.t, w.c.Write(w.t.Context(), websocket.MessageText, b))
}

func bearer(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }

func request(id, endpoint, body string) map[string]any {
	return map[string]any{"type": "request", "id": id, "endpoint": endpoint, "body": json.RawMessage(body)}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	c, _, err := r.dial(t, "/v1/inference/stream", bearer(r.key))
	require.NoError(t, err)
	defer func() { _ = c.CloseNow() }()
	w := wsClient{t, c}
	require.Equal(t, "hello", w.read().Type)

	w.write(request("a", "/v1/chat/completions", chat(script{Tokens: 4}, `,"stream":true,"stream_options":{"include_usage":true}`)))
	start := w.read()
	require.Equal(t, "start", start.Type)
	require.Equal(t, model, start.Data.Model)
	text, seq := "", start.Seq
	for {
		f := w.read()
		require.Equal(t, seq+1, f.Seq)
		seq = f.Seq
		require.Equal(t, "a", f.Data.ID)
		if f.Type == "done" {
			require.Equal(t, 4, f.Data.Usage.CompletionTokens)
			break
		}
		require.Equal(t, "chunk", f.Type)
		require.NotContains(t, string(f.Data.Data), "engine-side-name")
		var d struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		require.NoError(t, json.Unmarshal(f.Data.Data, &d))
		if len(d.Choices) > 0 {
			text += d.Choices[0].Delta.Content
		}
	}
	require.Equal(t, "w1 w2 w3 w4 ", text)
	require.Equal(t, int64(4), r.booked(start.Data.RequestID).CompletionTokens)

	w.write(request("whole", "/v1/completions", `{"model":"team/llama","prompt":"x"}`))
	require.Equal(t, "start", w.read().Type)
	require.Equal(t, "chunk", w.read().Type)
	done := w.read()
	require.Equal(t, "done", done.Type)
	require.Equal(t, 3, done.Data.Usage.CompletionTokens)

	for id, tc := range map[string][2]string{"bad": {"/v1/chat/completions", `{"model":"nope"}`}, "end": {"/v1/embeddings", `{}`}, "": {"/v1/completions", `{}`}} {
		w.write(request(id, tc[0], tc[1]))
		f := w.read()
		require.Equal(t, "error", f.Type, id)
		require.NotEmpty(t, f.Data.Error.Code)
	}

	w.write(request("long", "/v1/chat/completions", chat(script{Tokens: 10_000, Gap: 2}, `,"stream":true`)))
	start = w.read()
	for range 5 {
		require.Equal(t, "chunk", w.read().Type)
	}
	w.write(map[string]any{"type": "cancel", "id": "long"})
	u := r.booked(start.Data.RequestID)
	r.ups[0].finished(start.Data.RequestID)
	require.Equal(t, "client_abort", u.End)
	require.Equal(t, int64(r.ups[0].count(start.Data.RequestID)), u.CompletionTokens)

	w.write(request("lost", "/v1/chat/completions", chat(script{Tokens: 10_000, Gap: 2}, `,"stream":true`)))
	for {
		if f := w.read(); f.Type == "start" && f.Data.ID == "lost" {
			start = f
			break
		}
	}
	_ = c.CloseNow()
	require.Equal(t, "client_abort", r.booked(start.Data.RequestID).End, "a lost socket cancels its requests")
}

func TestWebSocketAdmission(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	_, resp, err := r.dial(t, "/v1/inference/stream", nil)
	require.Error(t, err)
	require.Equal(t, 401, resp.StatusCode)
	h := bearer(r.key)
	h.Set("Origin", "https://evil.example")
	_, resp, err = r.dial(t, "/v1/inference/stream", h)
	require.Error(t, err)
	require.Equal(t, 403, resp.StatusCode)
	h.Set("Origin", r.url)
	c, _, err := r.dial(t, "/v1/inference/stream", h)
	require.NoError(t, err)
	require.Equal(t, "hello", wsClient{t, c}.read().Type)
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte("nonsense")))
	_, _, err = c.Read(t.Context())
	require.Equal(t, closeBadFrame, websocket.CloseStatus(err))

	path := "/api/v1/inference/stream"
	ticket, _, err := r.users.Ticket(r.owner, path, user.Device{IP: "127.0.0.1"})
	require.NoError(t, err)
	c, _, err = r.dial(t, path, nil, subprotocol, bearerProtocol+ticket)
	require.NoError(t, err)
	require.Equal(t, subprotocol, c.Subprotocol())
	require.Equal(t, "hello", wsClient{t, c}.read().Type)
	r.g.Drain()
	_, _, err = c.Read(t.Context())
	require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(err))
	_, resp, err = r.dial(t, path, nil, subprotocol, bearerProtocol+ticket)
	require.Error(t, err)
	require.Equal(t, 503, resp.StatusCode)
}

func TestWebSocketResponses(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	c, _, err := r.dial(t, "/v1/inference/stream", bearer(r.key))
	require.NoError(t, err)
	defer func() { _ = c.CloseNow() }()
	w := wsClient{t, c}
	require.Equal(t, "hello", w.read().Type)
	for _, more := range []string{"", `,"stream":true`} {
		w.write(request("a", "/v1/responses", `{"model":"`+model+`","input":"{\"tokens\":4}"`+more+`}`))
		first := w.read()
		require.Equal(t, "start", first.Type, "%+v", first)
		chunks := 0
		for f := w.read(); f.Type != "done"; f = w.read() {
			require.Equal(t, "chunk", f.Type)
			chunks++
		}
		require.Equal(t, map[string]int{"": 1, `,"stream":true`: 12}[more], chunks)
	}
}
