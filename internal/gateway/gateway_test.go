package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"maas/internal/inference"
	"maas/internal/inference/engine"
	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event"
	"maas/internal/platform/job"
	"maas/internal/platform/netguard"
	"maas/internal/platform/seal"
	"maas/internal/platform/web"
	"maas/internal/user"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var discard = slog.New(slog.DiscardHandler)

// rig is a gateway behind the real edge with a real user service and scripted engines.
type rig struct {
	t     testing.TB
	g     *Gateway
	users *user.Service
	owner context.Context
	who   auth.Principal
	token string
	url   string
	ups   []*upstream
	key   string
	keyID string
	http  *http.Client
}

const model = "team/llama"

var tables = []dbtest.Source{{Service: "job", FS: job.Migrations}, {Service: "event", FS: event.Migrations}, {Service: "seal", FS: seal.Migrations}, {Service: "user", FS: user.Migrations}}

func newRig(t testing.TB, replicas int) *rig {
	t.Helper()
	var ups []*upstream
	for i := range replicas {
		ups = append(ups, newUpstream(t, fmt.Sprintf("r%d", i)))
	}
	return newRigOn(t, dbtest.Open(t, tables...), t.TempDir(), ups)
}

func newRigOn(t testing.TB, d *db.DB, dir string, ups []*upstream) *rig {
	t.Helper()
	r := &rig{t: t, ups: ups}
	ring, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + filepath.Join(t.TempDir(), "master.key")}, d)
	require.NoError(t, err)
	r.users, err = user.New(t.Context(), user.Deps{DB: d, Log: discard, Now: clock.Now, Seal: ring})
	require.NoError(t, err)
	tok, err := r.users.SetUp(t.Context(), user.Setup{Email: "ada@example.com", Password: "correct horse battery"}, user.Device{IP: "127.0.0.1"}, true)
	if err != nil {
		tok, err = r.users.SignIn(t.Context(), user.Login{Email: "ada@example.com", Password: "correct horse battery"}, user.Device{IP: "127.0.0.1"})
	}
	require.NoError(t, err)
	r.token = tok.Access
	r.who, err = r.users.Session(t.Context(), tok.Session.ID)
	require.NoError(t, err)
	r.owner = auth.With(t.Context(), r.who)
	r.key, r.keyID = r.newKey(user.NewKey{Name: "test"})
	router := inference.NewRouter(clock.Now, nil)
	table := inference.Table{Version: 1, Routes: []inference.Route{
		{Model: inference.ModelInfo{ID: model, Tenant: r.who.TenantID, Deployment: "dep_1", OwnedBy: "maas", Created: time.Unix(1_700_000_000, 0), State: inference.Ready, Task: "chat"}},
		{Model: inference.ModelInfo{ID: "cold", Tenant: r.who.TenantID, Deployment: "dep_2", State: inference.Starting}},
		{Model: inference.ModelInfo{ID: "foreign", Tenant: "ten_other", Deployment: "dep_3", State: inference.Ready}},
	}}
	for _, u := range ups {
		table.Routes[0].Endpoints = append(table.Routes[0].Endpoints, inference.RouteEndpoint{Replica: u.name, Endpoint: engine.Endpoint{
			ID: u.name, Network: "tcp", Addr: u.addr, Host: u.addr, BasePath: "/v1", Dialect: engine.OpenAI, Model: "engine-side-name", Slots: 8, Caps: engine.Caps{StreamUsage: true, OwnDefaults: true, AbortNonStream: true}}})
	}
	router.Set(table)
	r.g, err = New(Deps{Log: discard, Now: clock.Now, Verifier: r.users.Verifier(), Users: r.users, Router: router, Upstream: netguard.Policy{AllowLoopback: true}, Dir: dir, Config: Defaults()})
	require.NoError(t, err)
	s := web.New(web.Options{Version: "test", Log: discard, Authenticate: r.users.Authenticate})
	s.MountHot("v1", r.g.Handler())
	s.Mount("v2", r.g.Handler())
	r.g.Routes(s.Mux())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	serve, closeEdge := context.WithCancel(context.Background())
	ran, served := make(chan struct{}), make(chan struct{})
	go func() { defer close(served); _ = s.Serve(serve, l) }()
	go func() { defer close(ran); _ = r.g.Run(ctx) }()
	r.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 300}}
	t.Cleanup(func() {
		r.http.CloseIdleConnections()
		closeEdge()
		<-served
		cancel()
		<-ran
	})
	return r
}

func (r *rig) newKey(n user.NewKey) (text, id string) {
	r.t.Helper()
	k, err := r.users.MakeKey(r.owner, n)
	require.NoError(r.t, err)
	return k.Secret, k.ID
}

func chat(s script, more string) string {
	b, _ := json.Marshal(s)
	text, _ := json.Marshal(string(b))
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}]%s}`, model, text, more)
}

func (r *rig) post(ctx context.Context, path, key, body string) *http.Response {
	r.t.Helper()
	q, err := http.NewRequestWithContext(ctx, "POST", r.url+path, strings.NewReader(body))
	require.NoError(r.t, err)
	if key != "" {
		q.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := r.http.Do(q)
	require.NoError(r.t, err)
	return resp
}

type result struct {
	status int
	rid    string
	header http.Header
	body   string
}

func (r *rig) call(path, key, body string) result {
	r.t.Helper()
	resp := r.post(r.t.Context(), path, key, body)
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	require.NoError(r.t, err)
	return result{resp.StatusCode, resp.Header.Get("X-Request-Id"), resp.Header, string(b)}
}

// booked waits until the usage of a request is in the database.
func (r *rig) booked(rid string) user.UsageRequest {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		u, err := r.users.Request(r.owner, rid)
		if err == nil {
			return u
		}
		require.ErrorIs(r.t, err, user.ErrUsageNotFound)
		require.True(r.t, time.Now().Before(deadline), "usage of %s was never booked", rid)
		time.Sleep(50 * time.Millisecond)
	}
}

func (res result) code(t testing.TB) (kind, code, message string) {
	t.Helper()
	var e struct {
		Error struct{ Type, Code, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(res.body), &e), res.body)
	return e.Error.Type, e.Error.Code, e.Error.Message
}

func TestWholeAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	res := r.call("/v1/chat/completions", r.key, chat(script{Tokens: 5, Cached: 4}, ""))
	require.Equal(t, 200, res.status, res.body)
	require.Contains(t, res.body, `"model":"team/llama"`)
	require.NotContains(t, res.body, "engine-side-name")
	require.Equal(t, model, res.header.Get("X-Maas-Model"))
	require.Equal(t, "1", res.header.Get("X-Maas-Attempts"))
	require.Contains(t, r.ups[0].body(res.rid), `"model":"engine-side-name"`)
	require.NotContains(t, r.ups[0].body(res.rid), "stream_options")
	u := r.booked(res.rid)
	require.Equal(t, user.UsageRequest{RequestID: res.rid, At: u.At, Model: model, DeploymentID: "dep_1", KeyID: r.keyID, KeyName: "test", UserID: r.who.UserID, Op: "chat", Status: 200, End: "done", Source: "upstream", Attempts: 1,
		PromptTokens: promptTokens, CachedTokens: 4, CompletionTokens: 5, TTFTMS: u.TTFTMS, DurationMS: u.DurationMS}, u)
	res = r.call("/v1/completions", r.key, `{"model":"team/llama","prompt":"hi"}`)
	require.Equal(t, 200, res.status)
	require.Equal(t, "completion", r.booked(res.rid).Op)
	res = r.call("/api/v1/inference/chat", r.token, chat(script{Tokens: 2}, ""))
	require.Equal(t, 200, res.status, res.body)
	u = r.booked(res.rid)
	require.Empty(t, u.KeyID)
	require.Equal(t, int64(2), u.CompletionTokens)
	big := r.call("/v1/chat/completions", r.key, chat(script{Tokens: 400_000}, ""))
	require.Equal(t, 200, big.status)
	require.Greater(t, len(big.body), wholeKept)
	require.NotContains(t, big.body, "engine-side-name")
	require.Equal(t, int64(400_000), r.booked(big.rid).CompletionTokens)
}

func TestStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	want := map[string]script{} // by request id
	for name, s := range map[string]script{
		"plain": {Tokens: 20}, "crlf": {Tokens: 5, CRLF: true}, "drip": {Tokens: 3, Drip: 1}, "drip crlf": {Tokens: 3, Drip: 1, CRLF: true}, "comments": {Tokens: 3, Comments: true}, "running": {Tokens: 7, Running: true},
		"one": {Tokens: 1}, "none": {Tokens: 0}, "cached": {Tokens: 2, Cached: 9},
	} {
		for _, ask := range []bool{false, true} {
			more := `,"stream":true`
			if ask {
				more += `,"stream_options":{"include_usage":true}`
			}
			res := r.call("/v1/chat/completions", r.key, chat(s, more))
			require.Equal(t, 200, res.status, name)
			require.Equal(t, "text/event-stream", res.header.Get("Content-Type"))
			text := strings.ReplaceAll(res.body, "\r\n", "\n")
			require.True(t, strings.HasSuffix(text, "data: [DONE]\n\n"), "%s: %q", name, text)
			require.Equal(t, s.Tokens, strings.Count(text, `"content":"w`), name)
			require.Equal(t, ask, strings.Contains(text, `"choices":[],"usage":{`), "%s: %q", name, text)
			require.NotContains(t, text, "engine-side-name")
			for e := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
				if d, ok := strings.CutPrefix(e, "data: "); ok && d != "[DONE]" {
					require.True(t, json.Valid([]byte(d)), "%s: %q", name, e)
					if !ask {
						require.NotContains(t, d, `"usage":{`, name)
					}
				}
			}
			want[res.rid] = s
		}
	}
	for rid, s := range want {
		u := r.booked(rid)
		require.Equal(t, "done", u.End)
		require.Equal(t, "upstream", u.Source, "%+v", s)
		require.Equal(t, int64(s.Tokens), u.CompletionTokens, "%+v", s)
		require.Equal(t, int64(promptTokens), u.PromptTokens)
		require.Equal(t, int64(s.Cached), u.CachedTokens)
		require.True(t, u.Stream)
	}
}

func TestNoUsageTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	res := r.call("/v1/chat/completions", r.key, chat(script{Tokens: 30, NoUsage: true}, `,"stream":true`))
	u := r.booked(res.rid)
	require.Equal(t, "estimate", u.Source)
	require.Equal(t, "done", u.End)
	require.GreaterOrEqual(t, u.CompletionTokens, int64(30))
	require.Positive(t, u.PromptTokens)
	res = r.call("/v1/chat/completions", r.key, chat(script{Tokens: 30, NoUsage: true}, ""))
	require.Equal(t, "estimate", r.booked(res.rid).Source)
}

// An aborted stream is billed for what the engine produced, to the token.
func TestClientLeavesMidStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	for name, s := range map[string]script{
		"usage after the abort": {Tokens: 10_000, Gap: 2, OnAbort: true},
		"counted":               {Tokens: 10_000, Gap: 2},
		"running":               {Tokens: 10_000, Gap: 2, Running: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			resp := r.post(ctx, "/v1/chat/completions", r.key, chat(s, `,"stream":true`))
			rid := resp.Header.Get("X-Request-Id")
			buf := make([]byte, 4096)
			got := 0
			for got < 3000 {
				n, err := resp.Body.Read(buf)
				require.NoError(t, err)
				got += n
			}
			cancel()
			_ = resp.Body.Close()
			u := r.booked(rid)
			r.ups[0].finished(rid)
			require.Equal(t, "client_abort", u.End)
			require.Equal(t, map[string]string{"usage after the abort": "upstream", "counted": "counted", "running": "running"}[name], u.Source)
			require.Equal(t, int64(r.ups[0].count(rid)), u.CompletionTokens)
			require.Positive(t, u.PromptTokens)
			require.Less(t, u.CompletionTokens, int64(10_000))
		})
	}
}

func TestClientLeavesBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, "POST", r.url+"/v1/chat/completions", strings.NewReader(chat(script{Tokens: 3, BeforeHead: 1500}, `,"stream":true`)))
	require.NoError(t, err)
	q.Header.Set("Authorization", "Bearer "+r.key)
	_, err = r.http.Do(q)
	require.Error(t, err)
	deadline := time.Now().Add(20 * time.Second)
	for {
		list, err := r.users.Requests(r.owner, user.UsageFilter{})
		require.NoError(t, err)
		if len(list.Items) == 1 {
			u := list.Items[0]
			require.Equal(t, "client_abort", u.End)
			require.Equal(t, 499, u.Status)
			require.Zero(t, u.CompletionTokens)
			return
		}
		require.True(t, time.Now().Before(deadline))
		time.Sleep(50 * time.Millisecond)
	}
}

func TestUpstreamDies(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	for name, s := range map[string]script{"whole event": {Tokens: 50, Die: 8}, "half event": {Tokens: 50, Die: 8, Half: true}, "no end mark": {Tokens: 7, NoDone: true}, "error event": {Tokens: 50, ErrorAt: 8}} {
		res := r.call("/v1/chat/completions", r.key, chat(s, `,"stream":true`))
		require.Equal(t, 200, res.status)
		require.NotContains(t, res.body, "[DONE]", name)
		events := strings.Split(strings.TrimSuffix(res.body, "\n\n"), "\n\n")
		for _, e := range events {
			require.True(t, json.Valid([]byte(strings.TrimPrefix(e, "data: "))), "%s: %q", name, e)
		}
		last := events[len(events)-1]
		require.Contains(t, last, `data: {"error":{`, name)
		require.Contains(t, last, `"server_error"`)
		require.NotContains(t, last, "10.1.2.3", "addresses of engines stay inside")
		require.NotContains(t, last, "sk-abcdefgh")
		u := r.booked(res.rid)
		require.Equal(t, "upstream_error", u.End, name)
		require.Equal(t, "counted", u.Source)
		require.Equal(t, int64(r.ups[0].count(res.rid)), u.CompletionTokens, name)
	}
}

func TestFallback(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	var rids []string
	for name, s := range map[string]script{
		"dies before the head": {Die: -1, Only: "r0"}, "dies after the head": {Die: -2, Only: "r0"}, "500": {Status: 500, Only: "r0"}, "503": {Status: 503, Only: "r0"}, "429": {Status: 429, Only: "r0"},
		"error as first event": {Tokens: 2, ErrorAt: 0, Die: 0, Error200: true, Only: "r0"},
	} {
		for _, stream := range []string{"", `,"stream":true`} {
			if name == "error as first event" && stream != "" {
				continue
			}
			for range 2 { // whichever is picked first
				res := r.call("/v1/chat/completions", r.key, chat(s, stream))
				require.Equal(t, 200, res.status, "%s%s: %s", name, stream, res.body)
				rids = append(rids, res.rid)
			}
		}
	}
	for _, rid := range rids {
		u := r.booked(rid)
		require.Equal(t, "done", u.End)
		require.Equal(t, int64(3), u.CompletionTokens)
	}
	r = newRig(t, 2) // the breaker of the other one's replica is open by now
	res := r.call("/v1/chat/completions", r.key, chat(script{Status: 500, Words: "broken at http://10.2.3.4:1/x"}, ""))
	require.Equal(t, 502, res.status)
	require.Equal(t, "2", res.header.Get("X-Maas-Attempts"))
	_, code, message := res.code(t)
	require.Equal(t, "upstream_error", code)
	require.NotContains(t, message, "10.2.3.4")
	u := r.booked(res.rid)
	require.Equal(t, "upstream_error", u.End)
	require.Zero(t, u.PromptTokens+u.CompletionTokens)
	before := r.ups[0].calls + r.ups[1].calls
	res = r.call("/v1/chat/completions", r.key, chat(script{Status: 400, Words: "This model's maximum context length is 8 tokens", Code: "context_length_exceeded"}, ""))
	require.Equal(t, 400, res.status)
	_, code, _ = res.code(t)
	require.Equal(t, "context_length_exceeded", code)
	require.Equal(t, "false", res.header.Get("X-Should-Retry"))
	require.Equal(t, before+1, r.ups[0].calls+r.ups[1].calls, "what the client did wrong is not tried elsewhere")
	require.Equal(t, "refused", r.booked(res.rid).End)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	limited, _ := r.newKey(user.NewKey{Name: "limited", Models: []string{"other"}})
	noScope, _ := r.newKey(user.NewKey{Name: "no scope", Scopes: []string{"model:read"}})
	revoked, rid := r.newKey(user.NewKey{Name: "revoked"})
	_, err := r.users.RevokeKey(r.owner, rid)
	require.NoError(t, err)
	ok := chat(script{Tokens: 1}, "")
	for name, tc := range map[string]struct {
		path, key, body string
		status          int
		code            string
		retry           string
	}{
		"no key":         {"/v1/chat/completions", "", ok, 401, "invalid_api_key", "false"},
		"made up":        {"/v1/chat/completions", "sk-maas-" + strings.Repeat("a", 49), ok, 401, "invalid_api_key", "false"},
		"revoked":        {"/v1/chat/completions", revoked, ok, 401, "invalid_api_key", "false"},
		"no scope":       {"/v1/chat/completions", noScope, ok, 403, "scope_missing", "false"},
		"not allowed":    {"/v1/chat/completions", limited, ok, 403, "model_not_allowed", "false"},
		"bad json":       {"/v1/chat/completions", r.key, `{"model":`, 400, "invalid_json", "false"},
		"two models":     {"/v1/chat/completions", r.key, `{"model":"a","Model":"b"}`, 400, "ambiguous_field", "false"},
		"no model":       {"/v1/chat/completions", r.key, `{}`, 400, "invalid_model", "false"},
		"unknown model":  {"/v1/chat/completions", r.key, `{"model":"nope"}`, 404, "model_not_found", "false"},
		"foreign model":  {"/v1/chat/completions", r.key, `{"model":"foreign"}`, 404, "model_not_found", "false"},
		"cold model":     {"/v1/chat/completions", r.key, `{"model":"cold"}`, 503, "overloaded", ""},
		"no endpoint":    {"/v1/assistants", r.key, ok, 404, "endpoint_not_supported", "false"},
		"no embeddings":  {"/v1/embeddings", r.key, ok, 400, "operation_not_supported", "false"},
		"unsupported":    {"/v1/chat/completions", r.key, chat(script{Status: 422, Words: "tools are not supported"}, ""), 400, "unsupported_parameter", "false"},
		"engine's login": {"/v1/chat/completions", r.key, chat(script{Status: 401, Words: "bad key sk-xxxxxxxxxx"}, ""), 502, "upstream_error", ""},
		"error in 200":   {"/v1/chat/completions", r.key, chat(script{Error200: true}, ""), 502, "upstream_error", ""},
	} {
		res := r.call(tc.path, tc.key, tc.body)
		require.Equal(t, tc.status, res.status, "%s: %s", name, res.body)
		_, code, message := res.code(t)
		require.Equal(t, tc.code, code, "%s: %s", name, res.body)
		require.NotEmpty(t, message)
		require.Equal(t, tc.retry, res.header.Get("X-Should-Retry"), name)
		require.True(t, strings.HasPrefix(res.rid, "req_"), name)
		for _, key := range []string{`"message":`, `"type":`, `"param":`, `"code":`} {
			require.Contains(t, res.body, key)
		}
	}
	res := r.call("/v1/chat/completions", r.key, chat(script{Status: 429, After: "7", Words: "queue full"}, ""))
	require.Equal(t, 429, res.status)
	require.Equal(t, "7", res.header.Get("Retry-After"))
	calls := r.ups[0].total()
	res = r.call("/v1/chat/completions", r.key, ok)
	require.Equal(t, 429, res.status, "it asked for a pause, and has it")
	require.Contains(t, []string{"7", "6", "5", "4", "3", "2", "1"}, res.header.Get("Retry-After"))
	require.Equal(t, calls, r.ups[0].total())
	big := r.call("/v1/chat/completions", r.key, `{"model":"team/llama","x":"`+strings.Repeat("x", 17<<20)+`"}`)
	require.Equal(t, 413, big.status)
	problem := r.call("/api/v1/inference/chat", r.token, `{"model":"nope"}`)
	require.Equal(t, 404, problem.status)
	require.Equal(t, "application/problem+json", problem.header.Get("Content-Type"))
	require.Contains(t, problem.body, `"gateway.model_not_found"`)
	get, err := r.http.Get(r.url + "/v1/chat/completions")
	require.NoError(t, err)
	_ = get.Body.Close()
	require.Equal(t, 405, get.StatusCode)
}

func TestModels(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	limited, _ := r.newKey(user.NewKey{Name: "limited", Models: []string{"cold"}})
	get := func(path, key string) (int, string) {
		q, err := http.NewRequestWithContext(t.Context(), "GET", r.url+path, nil)
		require.NoError(t, err)
		q.Header.Set("X-Api-Key", key)
		resp, err := r.http.Do(q)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode, string(b)
	}
	s, body := get("/v1/models", r.key)
	require.Equal(t, 200, s)
	require.Contains(t, body, `"id":"team/llama","object":"model","created":1700000000`)
	require.Contains(t, body, `"id":"cold"`)
	require.NotContains(t, body, "foreign")
	s, body = get("/v1/models", limited)
	require.Equal(t, 200, s)
	require.NotContains(t, body, "team/llama")
	for _, p := range []string{"/v1/models/team/llama", "/v1/models/team%2Fllama"} {
		s, _ = get(p, r.key)
		require.Equal(t, 200, s, p)
		s, _ = get(p, limited)
		require.Equal(t, 404, s, p)
	}
	s, _ = get("/v1/models/foreign", r.key)
	require.Equal(t, 404, s)
}

// A stream of a key that is revoked ends within seconds with a clear error.
func TestRevokedKeyEndsItsStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	key, id := r.newKey(user.NewKey{Name: "short"})
	resp := r.post(t.Context(), "/v1/chat/completions", key, chat(script{Tokens: 10_000, Gap: 5}, `,"stream":true`))
	defer func() { _ = resp.Body.Close() }()
	_, err := resp.Body.Read(make([]byte, 10))
	require.NoError(t, err)
	_, err = r.users.RevokeKey(r.owner, id)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(b), "revoked")
	u := r.booked(resp.Header.Get("X-Request-Id"))
	require.Equal(t, "refused", u.End)
	require.Positive(t, u.CompletionTokens)
}

func TestSlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits ten seconds")
	}
	r := newRig(t, 1)
	pr, pw := io.Pipe()
	defer func() { _ = pw.Close() }()
	q, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/v1/chat/completions", pr)
	require.NoError(t, err)
	q.Header.Set("Authorization", "Bearer "+r.key)
	go func() { _, _ = pw.Write([]byte(`{"model":`)) }()
	start := time.Now()
	resp, err := r.http.Do(q)
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, 408, resp.StatusCode)
	require.Less(t, time.Since(start), 15*time.Second)
}

// 200 streams side by side: none fails, each is booked exactly, nothing leaks (TestMain looks for goroutines).
func TestManyStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	const n = 200
	rids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp := r.post(ctx, "/v1/chat/completions", r.key, chat(script{Tokens: 60, Gap: 5}, `,"stream":true`))
			rids[i] = resp.Header.Get("X-Request-Id")
			defer func() { _ = resp.Body.Close() }()
			if i%4 == 0 { // a quarter leaves in the middle
				_, _ = io.CopyN(io.Discard, resp.Body, 1500)
				cancel()
				return
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.HasSuffix(b, []byte("data: [DONE]\n\n")) {
				t.Errorf("stream %d: %v, %d bytes", i, err, len(b))
			}
		})
	}
	wg.Wait()
	require.NoError(t, r.settled())
	require.NoError(t, r.g.Flush(t.Context()))
	for i, rid := range rids {
		u := r.booked(rid)
		emitted := 0
		for _, up := range r.ups {
			up.finished(rid)
			emitted += up.count(rid)
		}
		require.Equal(t, int64(emitted), u.CompletionTokens, "stream %d, end %s, source %s", i, u.End, u.Source)
	}
	all, err := r.users.Usage(r.owner, user.UsageQuery{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.Equal(t, int64(n), all.Totals.Requests)
}

// settled waits until no call is under way.
func (r *rig) settled() error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if gaugeValue(r.g.metrics.inflight) == 0 {
			return nil
		}
	}
	return fmt.Errorf("calls are still under way")
}

func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	resp := r.post(t.Context(), "/v1/chat/completions", r.key, chat(script{Tokens: 40, Gap: 10}, `,"stream":true`))
	r.g.Drain()
	res := r.call("/v1/chat/completions", r.key, chat(script{Tokens: 1}, ""))
	require.Equal(t, 503, res.status)
	require.NotEmpty(t, res.header.Get("Retry-After"))
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	require.NoError(t, err)
	require.Contains(t, string(b), "[DONE]", "running streams finish")
}

// What was under way when a process died is booked by the next one as far as it was marked, once.
func TestCrash(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t, tables...)
	dir := t.TempDir()
	ups := []*upstream{newUpstream(t, "r0")}
	r := newRigOn(t, d, filepath.Join(dir, "a"), ups)
	row := user.Usage{RequestID: requestID(t.Context()), At: clock.Now(), TenantID: r.who.TenantID, UserID: r.who.UserID, Op: "chat", Model: model, Stream: true, Attempts: 1}
	j2 := filepath.Join(dir, "b")
	g, err := New(Deps{Log: discard, Now: clock.Now, Verifier: r.users.Verifier(), Users: r.users, Router: r.g.Router, Dir: j2, Config: Defaults()})
	require.NoError(t, err)
	e, err := g.journal.Begin(appendUsage(nil, &row))
	require.NoError(t, err)
	row.InFresh, row.OutText = 7, 42
	require.NoError(t, e.Mark(appendUsage(nil, &row)))
	for range 2 { // the process is gone without a word; the next one settles, the one after it has nothing to do
		g, err = New(Deps{Log: discard, Now: clock.Now, Verifier: r.users.Verifier(), Users: r.users, Router: r.g.Router, Dir: j2, Config: Defaults()})
		require.NoError(t, err)
		require.NoError(t, g.Flush(t.Context()))
	}
	u := r.booked(row.RequestID)
	require.Equal(t, "node_crash", u.End)
	require.Equal(t, "partial", u.Source)
	require.Equal(t, int64(42), u.CompletionTokens)
	require.NoError(t, g.journal.Stop())
}
