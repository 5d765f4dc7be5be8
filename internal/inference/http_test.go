package inference

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine/fake"
	"maas/internal/platform/auth"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/web"
)

// edge is the service behind the management API. The bearer token is "<tenant>:<permission>,<permission>".
func edge(t *testing.T, r *rig) *httptest.Server {
	t.Helper()
	s := web.New(web.Options{Version: "test", Log: slog.New(slog.DiscardHandler), Authenticate: func(_ context.Context, req *http.Request) (auth.Principal, error) {
		tenant, may, ok := strings.Cut(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), "|")
		if !ok {
			return auth.Principal{}, auth.ErrUnauthenticated
		}
		p := auth.Principal{Kind: auth.User, TenantID: tenant, UserID: "usr_1", Permissions: strings.Split(may, ",")}
		slices.Sort(p.Permissions)
		return p, nil
	}})
	r.Routes(s.API(), s.Mux())
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return h
}

const everything = "ten_a|inference:operate,inference:read,inference:write"

type httpAnswer struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

func call(t *testing.T, h *httptest.Server, who, method, path string, body any, header ...string) httpAnswer {
	t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(t, err)
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, h.URL+"/api/v1"+path, in)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+who)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.Client().Do(req)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	_ = resp.Body.Close()
	a := httpAnswer{resp.StatusCode, resp.Header, string(b), nil}
	_ = json.Unmarshal(b, &a.body)
	return a
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{Need: 1 << 20, PerToken: 1 << 10})
	h := edge(t, r)
	base := "/inference/deployments"

	a := call(t, h, everything, "POST", base+"?dry_run=true", map[string]any{"name": "toy", "model": "toy"})
	require.Equal(t, http.StatusCreated, a.status, a.text)
	require.Equal(t, true, a.body["fits"])
	require.NotContains(t, a.body, "status", "a plan is no deployment")
	require.Equal(t, http.StatusNotFound, call(t, h, everything, "GET", base+"/toy", nil).status)

	a = call(t, h, everything, "POST", base, map[string]any{"name": "toy", "model": "toy", "engine": "auto", "config": map[string]any{"max_tokens": 5, "temperature": 0.5}})
	require.Equal(t, http.StatusCreated, a.status, a.text)
	id, _ := a.body["id"].(string)
	require.Equal(t, "/api/v1/inference/deployments/"+id, a.header.Get("Location"))
	for _, key := range []string{"model", "provider", "upstream_model", "engine", "engine_reason", "desired", "status", "reason", "progress", "context", "concurrency", "config", "need", "measured_bytes", "replicas", "live", "created_at", "updated_at", "rev"} {
		require.Contains(t, a.body, key)
	}
	r.status(t, "toy", Ready)

	a = call(t, h, everything, "GET", base+"/toy", nil)
	require.Equal(t, "ready", a.body["status"])
	require.Equal(t, `"1"`, a.header.Get("ETag"))
	reason, _ := a.body["reason"].(map[string]any)
	require.Equal(t, "It answers requests", reason["message"])
	a = call(t, h, everything, "GET", base+"/"+id, nil, "Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8")
	reason, _ = a.body["reason"].(map[string]any)
	require.Equal(t, "服务正常", reason["message"])

	for _, path := range []string{"", "/replicas", "/events", "/logs", "/metrics"} {
		require.Equal(t, http.StatusNotFound, call(t, h, "ten_b|inference:read", "GET", base+"/"+id+path, nil).status, "another tenant's %s", path)
		require.Equal(t, http.StatusForbidden, call(t, h, "ten_a|model:read", "GET", base+"/"+id+path, nil).status, path)
		require.Equal(t, http.StatusOK, call(t, h, "ten_a|inference:read", "GET", base+"/"+id+path, nil).status, path)
	}
	for _, verb := range []string{"start", "stop", "restart"} {
		require.Equal(t, http.StatusForbidden, call(t, h, "ten_a|inference:read", "POST", base+"/toy/"+verb, nil).status)
		require.Equal(t, http.StatusNotFound, call(t, h, "ten_b|inference:write", "POST", base+"/"+id+"/"+verb, nil).status)
	}

	a = call(t, h, everything, "GET", base+"/toy/events", nil)
	items, _ := a.body["items"].([]any)
	require.NotEmpty(t, items)
	newest, _ := items[0].(map[string]any)
	require.Equal(t, "ready", newest["to"])
	require.NotEmpty(t, newest["message"])
	a = call(t, h, everything, "GET", base+"/toy/logs?tail=1", nil)
	require.Equal(t, []any{"scripted engine begins"}, a.body["lines"])
	a = call(t, h, everything, "GET", base+"/toy/logs?tail=1", nil, "Accept", "text/plain")
	require.Equal(t, "scripted engine begins\n", a.text)

	r.pick(t, "toy").Done(Outcome{Class: OK, Stream: true, TTFT: 30 * time.Millisecond, Duration: time.Second, CompletionTokens: 11})
	a = call(t, h, everything, "GET", base+"/toy/metrics?window=5m", nil)
	require.Equal(t, http.StatusOK, a.status, a.text)
	series, _ := a.body["series"].([]any)
	require.Len(t, series, len(seriesOf))
	summary, _ := a.body["summary"].(map[string]any)
	require.EqualValues(t, 11, summary["completion_tokens"])
	require.InDelta(t, 30, summary["ttft_ms_p50"], 8)
	require.Equal(t, http.StatusUnprocessableEntity, call(t, h, everything, "GET", base+"/toy/metrics?window=x", nil).status)

	a = call(t, h, everything, "PATCH", base+"/toy", map[string]any{"config": map[string]any{"max_tokens": 9}}, "If-Match", `"7"`)
	require.Equal(t, http.StatusPreconditionFailed, a.status, a.text)
	a = call(t, h, everything, "PATCH", base+"/toy", map[string]any{"config": map[string]any{"max_tokens": 9}}, "If-Match", `"1"`)
	require.Equal(t, http.StatusOK, a.status, a.text)
	require.Equal(t, `"2"`, a.header.Get("ETag"))
	a = call(t, h, everything, "POST", base, map[string]any{"name": "toy", "model": "toy", "surprise": 1})
	require.Equal(t, http.StatusUnprocessableEntity, a.status, a.text)
	a = call(t, h, everything, "POST", base, map[string]any{"name": "other", "model": "missing"})
	require.Equal(t, http.StatusNotFound, a.status, a.text)

	require.Equal(t, http.StatusOK, call(t, h, everything, "GET", "/inference/engines", nil).status)
	a = call(t, h, everything, "POST", "/inference/fit", map[string]any{"model": "toy", "context": 1024, "concurrency": 2})
	require.Equal(t, true, a.body["fits"], a.text)
	a = call(t, h, everything, "GET", "/overview", nil)
	require.Equal(t, http.StatusOK, a.status, a.text)
	require.EqualValues(t, 1, a.body["requests_24h"])

	a = call(t, h, everything, "POST", "/inference/providers", map[string]any{"name": "up", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-secret"})
	require.Equal(t, http.StatusCreated, a.status, a.text)
	require.NotContains(t, a.text, "sk-secret")
	provider, _ := a.body["id"].(string)
	require.Equal(t, http.StatusForbidden, call(t, h, "ten_a|inference:read,inference:write", "POST", "/inference/providers", map[string]any{"name": "x", "base_url": "https://x.example/v1"}).status)
	a = call(t, h, everything, "POST", "/inference/providers/"+provider+"/test", nil)
	require.Equal(t, http.StatusOK, a.status, a.text)
	require.Equal(t, false, a.body["ok"])
	require.Equal(t, http.StatusNotFound, call(t, h, "ten_b|inference:read", "GET", "/inference/providers/"+provider, nil).status)
	require.Equal(t, http.StatusNoContent, call(t, h, everything, "DELETE", "/inference/providers/"+provider, nil).status)

	a = call(t, h, everything, "POST", base, map[string]any{"name": "acme/Toy-1:8b", "model": "toy"})
	require.Equal(t, http.StatusCreated, a.status, a.text)
	require.Equal(t, http.StatusOK, call(t, h, everything, "GET", base+"/acme%2FToy-1:8b", nil).status, "a name with a slash, escaped")
	require.Equal(t, http.StatusOK, call(t, h, everything, "GET", base+"/acme%2FToy-1:8b/logs", nil).status)

	r.host.mu.Lock()
	r.host.measure = func() (int64, int64) { return 257 << 20, 1 << 20 }
	r.host.mu.Unlock()
	a = call(t, h, everything, "POST", base, map[string]any{"name": "huge", "model": "toy", "context": 4096, "concurrency": 200}, "Accept-Language", "zh")
	require.Equal(t, http.StatusConflict, a.status, a.text)
	require.Contains(t, a.text, "本机总共只有")

	require.Equal(t, http.StatusNoContent, call(t, h, everything, "DELETE", base+"/toy", nil).status)
	r.gone(t, "toy")
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{})
	h := edge(t, r)
	_, err := r.Deploy(as(t, "ten_a"), NewDeployment{Name: "toy", Model: "toy"})
	require.NoError(t, err)
	r.status(t, "toy", Ready)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/api/v1/inference/deployments/toy/events", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+everything)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", "1")
	resp, err := h.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	var events []string
	sc := bufio.NewScanner(resp.Body)
	stopped := false
	for sc.Scan() {
		line := sc.Text()
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			events = append(events, name)
		}
		if strings.Contains(line, `"to":"ready"`) && !stopped {
			stopped = true // the past has come: now something happens
			_, err = r.Stop(as(t, "ten_a"), "toy")
			require.NoError(t, err)
		}
		if strings.HasPrefix(line, "data: ") && strings.Contains(line, `"code":"operator_stop"`) && strings.Contains(line, `"status":"stopped"`) {
			break
		}
	}
	require.NoError(t, sc.Err())
	require.True(t, stopped)
	require.Equal(t, "deployment", events[0])
	require.Contains(t, events, "transition")
}
