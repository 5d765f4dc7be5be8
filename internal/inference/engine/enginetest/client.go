package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
)

// body is the part of a request that a test cares for.
type body map[string]any

// client speaks to an endpoint the way the gateway does: plain HTTP/1.1.
type client struct {
	ep   engine.Endpoint
	http *http.Client
}

func (s Subject) client(inst engine.Instance) client {
	ep := inst.Endpoint()
	if s.HTTP != nil {
		return client{ep, s.HTTP()}
	}
	return client{ep, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, ep.Network, ep.Addr)
		},
		MaxIdleConnsPerHost: 8,
	}}}
}

// name is what goes into `model`.
func (c client) name() string {
	if c.ep.Model == "" {
		return "a-public-name" // any, and the answer shows it again
	}
	return c.ep.Model
}

func (c client) url(path string) string {
	scheme := "http"
	if c.ep.TLS {
		scheme = "https"
	}
	return scheme + "://" + c.ep.Host + c.ep.BasePath + path
}

func (c client) send(ctx context.Context, path string, b []byte) (*http.Response, error) {
	method := http.MethodPost
	if b == nil {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url(path), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.ep.Auth != "" {
		r.Header.Set("Authorization", c.ep.Auth.Reveal())
	}
	return c.http.Do(r)
}

func (c client) raw(t *testing.T, path string, b []byte) (int, string) {
	t.Helper()
	resp, err := c.send(t.Context(), path, b) //nolint:bodyclose // drain does
	require.NoError(t, err)
	text, err := drain(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, text
}

func drain(r io.ReadCloser) (string, error) {
	b, err := io.ReadAll(r)
	_ = r.Close()
	return string(b), err
}

func (c client) models(t *testing.T) ([]string, error) {
	t.Helper()
	status, text := c.raw(t, "/models", nil)
	require.Equal(t, http.StatusOK, status, text)
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	err := json.Unmarshal([]byte(text), &list)
	ids := make([]string, 0, len(list.Data))
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids, err
}

// body makes a whole request body.
func (c client) body(chat bool, b body) []byte {
	m := map[string]any{"model": c.name()}
	if chat {
		m["messages"] = []map[string]string{{"role": "user", "content": "Tell me about foxes"}}
	} else {
		m["prompt"] = "Once upon a time"
	}
	maps.Copy(m, b)
	out, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return out
}

func path(chat bool) string {
	if chat {
		return "/chat/completions"
	}
	return "/completions"
}

type choice struct {
	Index   int    `json:"index"`
	Text    string `json:"text"`
	Finish  string `json:"finish_reason"`
	Message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	} `json:"message"`
	Delta struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	} `json:"delta"`
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

type answer struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage"`
}

func (a answer) text() string { return a.Choices[0].Text + a.Choices[0].Message.Content }

func (c client) whole(t *testing.T, chat bool, b body) answer {
	t.Helper()
	status, text := c.raw(t, path(chat), c.body(chat, b))
	require.Equal(t, http.StatusOK, status, text)
	var a answer
	require.NoError(t, json.Unmarshal([]byte(text), &a), text)
	require.NotEmpty(t, a.Choices, text)
	require.NotNil(t, a.Usage, text)
	return a
}

// try is whole for use beside the test's goroutine.
func (c client) try(ctx context.Context, chat bool, b body) (string, error) {
	resp, err := c.send(ctx, path(chat), c.body(chat, b)) //nolint:bodyclose // drain does
	if err != nil {
		return err.Error(), err
	}
	text, err := drain(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Sprint(resp.StatusCode, text, err), err
	}
	var a answer
	if err := json.Unmarshal([]byte(text), &a); err != nil || len(a.Choices) == 0 {
		return text, err
	}
	return a.text(), nil
}

// stream reads all events of a streamed answer up to [DONE].
func (c client) stream(t *testing.T, chat bool, b body) []answer {
	t.Helper()
	b = maps.Clone(b)
	b["stream"] = true
	resp, err := c.send(t.Context(), path(chat), c.body(chat, b))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Content-Type"), "text/event-stream")
	var events []answer
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		data, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok {
			require.True(t, sc.Text() == "" || strings.HasPrefix(sc.Text(), ":"), "line %q", sc.Text())
			continue
		}
		if data == "[DONE]" {
			require.NotEmpty(t, events)
			return events
		}
		var a answer
		require.NoError(t, json.Unmarshal([]byte(data), &a), data)
		events = append(events, a)
	}
	t.Fatalf("the stream ends without [DONE] after %d events: %v", len(events), sc.Err())
	return nil
}
