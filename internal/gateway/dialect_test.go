package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference"
	"maas/internal/inference/engine"
	"maas/internal/user"
)

// wire plays upstreams of other dialects. What it does is chosen by words in the request: see its methods.
type wire struct {
	addr string

	mu      sync.Mutex
	bodies  map[string]string // by request id
	paths   map[string]string
	betas   map[string]string
	emitted map[string]int
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{bodies: map[string]string{}, paths: map[string]string{}, betas: map[string]string{}, emitted: map[string]int{}}
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	w.addr = strings.TrimPrefix(s.URL, "http://")
	return w
}

func (u *wire) body(rid string) string { u.mu.Lock(); defer u.mu.Unlock(); return u.bodies[rid] }

func (u *wire) path(rid string) string { u.mu.Lock(); defer u.mu.Unlock(); return u.paths[rid] }

func (u *wire) count(rid string) int { u.mu.Lock(); defer u.mu.Unlock(); return u.emitted[rid] }

func (u *wire) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	rid := r.Header.Get("X-Request-Id")
	u.mu.Lock()
	u.bodies[rid], u.paths[rid], u.betas[rid] = string(raw), r.URL.RequestURI(), r.Header.Get("Anthropic-Beta")
	u.mu.Unlock()
	body := string(raw)
	reply := func(s string) { w.Header().Set("Content-Type", "application/json"); _, _ = io.WriteString(w, s) }
	stream := strings.Contains(body, `"stream":true`) || strings.Contains(r.URL.Path, ":stream")
	switch p := r.URL.Path; {
	case strings.Contains(body, "SAY429"):
		w.WriteHeader(429)
		reply(`{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}`)
	case strings.Contains(body, "SAY529"):
		w.WriteHeader(529)
		reply(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
	case strings.Contains(body, "SAY400"):
		w.WriteHeader(400)
		reply(`{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}`)
	case p == "/ant/v1/messages" && (r.Header.Get("X-Api-Key") != "sk-ant" || r.Header.Get("Anthropic-Version") != "2023-06-01" || r.Header.Get("Authorization") != ""):
		w.WriteHeader(401)
		reply(`{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`)
	case p == "/ant/v1/messages" && stream:
		u.anthropicStream(w, r, rid, body)
	case p == "/ant/v1/messages":
		reply(`{"id":"msg_up","type":"message","role":"assistant","model":"up","content":[{"type":"text","text":"Hello"},{"type":"tool_use","id":"toolu_1","name":"look","input":{"error":"none","at":1}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,"output_tokens":9}}`)
	case p == "/ant/v1/messages/count_tokens":
		reply(`{"input_tokens":77}`)
	case strings.HasPrefix(p, "/gem/v1beta/models/up:") && r.Header.Get("X-Goog-Api-Key") != "sk-gem":
		w.WriteHeader(400)
		reply(`{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}`)
	case p == "/gem/v1beta/models/up:streamGenerateContent":
		u.geminiStream(w, rid)
	case p == "/gem/v1beta/models/up:generateContent":
		reply(`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":35,"cachedContentTokenCount":20,"candidatesTokenCount":5,"thoughtsTokenCount":4,"totalTokenCount":44}}`)
	case p == "/gem/v1beta/models/up:batchEmbedContents":
		reply(`{"embeddings":[{"values":[1,0.5]}]}`)
	case p == "/gem/v1beta/models/up:countTokens":
		reply(`{"totalTokens":78}`)
	case p == "/tokenize":
		reply(`{"count":79,"max_model_len":512,"tokens":[]}`)
	case p == "/az/openai/deployments/up/chat/completions" && r.Header.Get("Api-Key") == "sk-az" && r.URL.Query().Get("api-version") == "2024-10-21":
		reply(`{"id":"x","object":"chat.completion","model":"gpt","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`)
	case p == "/v1/embeddings":
		reply(`{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.25,-1],"error":{"inside":1}}],"model":"up","usage":{"prompt_tokens":8,"total_tokens":8}}`)
	case p == "/v1/moderations":
		reply(`{"id":"modr-1","model":"up","results":[{"flagged":false,"categories":{"hate":false},"category_scores":{"hate":0.01}}]}`)
	case p == "/v1/rerank":
		reply(`{"model":"up","results":[{"index":1,"relevance_score":0.9},{"index":0,"relevance_score":0.2}],"usage":{"total_tokens":12}}`)
	default:
		w.WriteHeader(404)
		reply(`{"error":{"message":"nothing at ` + p + `"}}`)
	}
}

// anthropicStream emits 5 words, or goes on for long (LONG) until its client leaves, or breaks off (DIE), or says that it failed (FAIL).
func (u *wire) anthropicStream(w http.ResponseWriter, r *http.Request, rid, body string) {
	w.Header().Set("Content-Type", "text/event-stream")
	f := w.(http.Flusher)
	put := func(name, data string) {
		_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data)
		f.Flush()
	}
	put("message_start", `{"type":"message_start","message":{"id":"msg_up","type":"message","role":"assistant","content":[],"model":"up","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,"output_tokens":1}}}`)
	put("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
	put("ping", `{"type":"ping"}`)
	n := 5
	if strings.Contains(body, "LONG") {
		n = 100_000
	}
	for i := range n {
		if strings.Contains(body, "DIE") && i == 3 {
			panic(http.ErrAbortHandler)
		}
		if strings.Contains(body, "FAIL") && i == 3 {
			put("error", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded at http://10.0.0.1/x"}}`)
			return
		}
		if n > 5 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
		u.mu.Lock()
		u.emitted[rid]++
		u.mu.Unlock()
		put("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"w%d "}}`, i))
	}
	put("content_block_stop", `{"type":"content_block_stop","index":0}`)
	put("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}`)
	put("message_stop", `{"type":"message_stop"}`)
}

func (u *wire) geminiStream(w http.ResponseWriter, _ string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range []string{
		`{"candidates":[{"content":{"parts":[{"text":"Hel"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":35,"candidatesTokenCount":1,"totalTokenCount":36}}`,
		`{"candidates":[{"content":{"parts":[{"text":"lo"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":35,"cachedContentTokenCount":20,"candidatesTokenCount":5,"thoughtsTokenCount":4,"totalTokenCount":44}}`,
	} {
		_, _ = io.WriteString(w, "data: "+e+"\r\n\r\n")
	}
}

// serve adds models of all dialects to the rig's table: ant, gem, az, oai (which embeds, moderates and ranks), vllm (which counts), and both (ant, then the rig's first engine).
func (u *wire) serve(r *rig) {
	r.t.Helper()
	endpoint := func(id string, d engine.Dialect, base string, caps engine.Caps) engine.Endpoint {
		return engine.Endpoint{ID: id, Network: "tcp", Addr: u.addr, Host: u.addr, BasePath: base, Dialect: d, Model: "up", Slots: 8, Caps: caps}
	}
	ant := endpoint("ant", engine.Anthropic, "/ant/v1", engine.Caps{StreamUsage: true, Ops: engine.OpChat | engine.OpCount})
	ant.AuthName, ant.Auth, ant.Headers = "X-Api-Key", "sk-ant", []string{"Anthropic-Version", "2023-06-01"}
	gem := endpoint("gem", engine.Gemini, "/gem/v1beta", engine.Caps{StreamUsage: true, Ops: engine.OpChat | engine.OpEmbedding | engine.OpCount})
	gem.AuthName, gem.Auth = "X-Goog-Api-Key", "sk-gem"
	az := endpoint("az", engine.Azure, "/az/openai/deployments/up", engine.Caps{StreamUsage: true, MaxCompletion: true})
	az.AuthName, az.Auth, az.Query = "Api-Key", "sk-az", "api-version=2024-10-21"
	oai := endpoint("oai", engine.OpenAI, "/v1", engine.Caps{StreamUsage: true, Ops: engine.OpChat | engine.OpEmbedding | engine.OpModeration | engine.OpRerank})
	vllm := endpoint("vllm", engine.OpenAI, "/v1", engine.Caps{StreamUsage: true, Ops: engine.OpChat | engine.OpCount})
	table := inference.Table{Version: 2}
	add := func(name string, list ...engine.Endpoint) {
		route := inference.Route{Model: inference.ModelInfo{ID: name, Tenant: r.who.TenantID, Deployment: "dep_" + name, State: inference.Ready, Task: "chat", Created: time.Unix(1_700_000_000, 0), ContextLength: 4096}}
		for _, e := range list {
			route.Endpoints = append(route.Endpoints, inference.RouteEndpoint{Replica: e.ID, Endpoint: e})
		}
		table.Routes = append(table.Routes, route)
	}
	for _, e := range []engine.Endpoint{ant, gem, az, oai, vllm} {
		add(e.ID, e)
	}
	local := engine.Endpoint{ID: "r0", Network: "tcp", Addr: r.ups[0].addr, Host: r.ups[0].addr, BasePath: "/v1", Dialect: engine.OpenAI, Model: "engine-side-name", Slots: 8, Caps: engine.Caps{StreamUsage: true, OwnDefaults: true}}
	add(model, local)
	ant.ID, local.ID = "ant2", "r0b"
	add("both", ant, local)
	r.g.Router.Set(table)
}

// want is what usage must say of a request: tokens are disjoint there, and prompt is all of the input.
func (r *rig) want(res result, op string, prompt, cached, completion int64, end, source string) {
	r.t.Helper()
	u := r.booked(res.rid)
	require.Equal(r.t, []any{op, prompt, cached, completion, end, source}, []any{u.Op, u.PromptTokens, u.CachedTokens, u.CompletionTokens, u.End, u.Source}, res.body)
}

func TestChatByAnthropic(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	res := r.call("/v1/chat/completions", r.key, `{"model":"ant","messages":[{"role":"user","content":"Hi"}],"seed":3}`)
	require.Equal(t, 200, res.status, res.body)
	require.Contains(t, res.body, `"arguments":"{\"error\":\"none\",\"at\":1}"`)
	require.Contains(t, res.body, `"model":"ant"`)
	require.Equal(t, "seed", res.header.Get("X-Maas-Dropped"))
	require.JSONEq(t, `{"model":"up","max_tokens":8192,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`, u.body(res.rid))
	r.want(res, "chat", 35, 20, 9, "done", "upstream")

	res = r.call("/v1/chat/completions", r.key, `{"model":"ant","messages":[{"role":"user","content":"Hi"}],"stream":true}`)
	require.Equal(t, 200, res.status, res.body)
	require.True(t, strings.HasSuffix(res.body, "data: [DONE]\n\n"), res.body)
	require.Equal(t, 5, strings.Count(res.body, `"content":"w`))
	require.NotContains(t, res.body, `"usage"`)
	r.want(res, "chat", 35, 20, 9, "done", "upstream")
	res = r.call("/v1/chat/completions", r.key, `{"model":"ant","messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}}`)
	require.Contains(t, res.body, `"choices":[],"usage":{"prompt_tokens":35,`)

	res = r.call("/v1/chat/completions", r.key, `{"model":"ant","messages":[{"role":"user","content":"Hi"}],"n":2}`)
	require.Equal(t, 400, res.status, res.body)
	require.Contains(t, res.body, `"param":"n"`)
	require.Empty(t, u.body(res.rid), "the upstream was not asked")
	for word, want := range map[string]string{"SAY429": "rate_limit_exceeded", "SAY529": "overloaded", "SAY400": "context_length_exceeded"} {
		_, code, _ := r.call("/v1/chat/completions", r.key, `{"model":"ant","messages":[{"role":"user","content":"`+word+`"}]}`).code(t)
		require.Equal(t, want, code)
		if word != "SAY400" {
			return // the endpoint cools down
		}
	}
}

func TestStreamsOfAnthropicThatEndEarly(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	for path, body := range map[string]string{"/v1/chat/completions": `{"model":"ant","messages":[{"role":"user","content":"%s"}],"stream":true}`, "/v1/messages": `{"model":"ant","max_tokens":9,"messages":[{"role":"user","content":"%s"}],"stream":true}`} {
		op := map[string]string{"/v1/chat/completions": "chat", "/v1/messages": "messages"}[path]
		for _, word := range []string{"DIE", "FAIL"} {
			res := r.call(path, r.key, fmt.Sprintf(body, word))
			require.Equal(t, 200, res.status)
			require.NotContains(t, res.body, "[DONE]")
			require.NotContains(t, res.body, "message_stop")
			require.NotContains(t, res.body, "10.0.0.1")
			events := strings.Split(strings.TrimSuffix(res.body, "\n\n"), "\n\n")
			last := events[len(events)-1]
			if op == "messages" {
				require.True(t, strings.HasPrefix(last, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"), last)
			} else {
				require.True(t, strings.HasPrefix(last, `data: {"error":{`), last)
			}
			got := r.booked(res.rid)
			require.Equal(t, "upstream_error", got.End)
			require.Equal(t, int64(35), got.PromptTokens)
			require.Equal(t, int64(3), got.CompletionTokens)
			require.Equal(t, "counted", got.Source)
		}
		ctx, cancel := context.WithCancel(t.Context())
		resp := r.post(ctx, path, r.key, fmt.Sprintf(body, "LONG"))
		rid := resp.Header.Get("X-Request-Id")
		_, err := io.CopyN(io.Discard, resp.Body, 4000)
		require.NoError(t, err)
		cancel()
		_ = resp.Body.Close()
		got := r.booked(rid)
		require.Equal(t, "client_abort", got.End)
		require.Equal(t, int64(35), got.PromptTokens)
		require.Equal(t, int64(u.count(rid)), got.CompletionTokens, "%s: what was produced is billed: %s", op, got.Source)
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	const hi = `"max_tokens":9,"messages":[{"role":"user","content":"Hi"}]`
	// The same dialect: the bytes pass, but for the model's name.
	res := r.call("/v1/messages", r.key, `{"model":"ant",`+hi+`,"new_field":{"x":1}}`)
	require.Equal(t, 200, res.status, res.body)
	require.Equal(t, `{"model":"up",`+hi+`,"new_field":{"x":1}}`, u.body(res.rid)) //nolint:testifylint // the same bytes, not the same meaning
	require.Contains(t, res.body, `"model":"ant","content":[{"type":"text","text":"Hello"},{"type":"tool_use","id":"toolu_1","name":"look","input":{"error":"none","at":1}}]`)
	require.Equal(t, res.rid, res.header.Get("Request-Id"))
	r.want(res, "messages", 35, 20, 9, "done", "upstream")
	res = r.call("/v1/messages", r.key, `{"model":"ant",`+hi+`,"stream":true}`)
	require.True(t, strings.HasSuffix(res.body, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), res.body)
	require.Contains(t, res.body, "event: ping\n")
	require.Contains(t, res.body, `"model":"ant"`)
	require.NotContains(t, u.body(res.rid), "stream_options")
	r.want(res, "messages", 35, 20, 9, "done", "upstream")

	// An engine of the OpenAI dialect.
	ask := func(s script, more string) string {
		b, _ := json.Marshal(s)
		text, _ := json.Marshal(string(b))
		return fmt.Sprintf(`{"model":%q,"max_tokens":500,"messages":[{"role":"user","content":%s}]%s}`, model, text, more)
	}
	res = r.call("/v1/messages", r.key, ask(script{Tokens: 5, Cached: 4}, ""))
	require.Equal(t, 200, res.status, res.body)
	require.Contains(t, res.body, `"content":[{"type":"text","text":"word word word word word "}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":5}`)
	r.want(res, "messages", promptTokens, 4, 5, "done", "upstream")
	for name, s := range map[string]script{"plain": {Tokens: 20}, "crlf": {Tokens: 5, CRLF: true}, "drip": {Tokens: 3, Drip: 1}, "comments": {Tokens: 3, Comments: true}, "running": {Tokens: 7, Running: true}, "none": {Tokens: 0}} {
		res = r.call("/v1/messages", r.key, ask(s, `,"stream":true`))
		require.Equal(t, 200, res.status, name)
		require.Equal(t, s.Tokens, strings.Count(res.body, `"type":"text_delta"`), name)
		require.Equal(t, 1, strings.Count(res.body, "event: message_stop"), name)
		require.Contains(t, res.body, fmt.Sprintf(`"output_tokens":%d}}`, s.Tokens), name)
		r.want(res, "messages", promptTokens, 0, int64(s.Tokens), "done", "upstream")
	}
	res = r.call("/v1/messages", r.key, ask(script{Tokens: 30, NoUsage: true}, `,"stream":true`))
	require.Equal(t, "estimate", r.booked(res.rid).Source)
	res = r.call("/v1/messages", r.key, ask(script{Tokens: 50, Die: 8}, `,"stream":true`))
	require.Contains(t, res.body, "event: error\n")
	r.want(res, "messages", r.booked(res.rid).PromptTokens, 0, int64(r.ups[0].count(res.rid)), "upstream_error", "counted")
	res = r.call("/v1/messages", r.key, `{"model":"gem",`+hi+`,"stream":true}`)
	require.Contains(t, res.body, "event: message_stop")
	require.Equal(t, "/gem/v1beta/models/up:streamGenerateContent?alt=sse", u.path(res.rid))
	r.want(res, "messages", 35, 20, 9, "done", "upstream")
}

// A chain of two dialects: the translation is chosen for each attempt.
func TestFallbackToAnotherDialect(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	for range 4 {
		res := r.call("/v1/messages", r.key, `{"model":"both","max_tokens":9,"messages":[{"role":"user","content":"SAY529"}],"stream":true}`)
		require.Equal(t, 200, res.status, res.body)
		require.Contains(t, res.body, "event: message_stop")
		require.Contains(t, res.body, `"model":"both"`)
		r.want(res, "messages", promptTokens, 0, 3, "done", "upstream")
	}
}

func TestAnthropicErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	const hi = `"max_tokens":9,"messages":[{"role":"user","content":"Hi"}]`
	for name, tc := range map[string]struct {
		key, body string
		status    int
		kind      string
	}{
		"no key":        {"", `{"model":"ant",` + hi + `}`, 401, "authentication_error"},
		"unknown model": {r.key, `{"model":"nope",` + hi + `}`, 404, "not_found_error"},
		"no limit":      {r.key, `{"model":"team/llama","messages":[{"role":"user","content":"Hi"}]}`, 400, "invalid_request_error"},
		"no json":       {r.key, `{"model":`, 400, "invalid_request_error"},
		"server tool":   {r.key, `{"model":"team/llama",` + hi + `,"tools":[{"type":"web_search_20250305","name":"web_search"}]}`, 400, "invalid_request_error"},
		"too long":      {r.key, `{"model":"ant","max_tokens":9,"messages":[{"role":"user","content":"SAY400"}]}`, 400, "invalid_request_error"},
		"overloaded":    {r.key, `{"model":"ant","max_tokens":9,"messages":[{"role":"user","content":"SAY529"}]}`, 529, "overloaded_error"},
	} {
		res := r.call("/v1/messages", tc.key, tc.body)
		require.Equal(t, tc.status, res.status, "%s: %s", name, res.body)
		var e struct {
			Type      string
			Error     struct{ Type, Message string }
			RequestID string `json:"request_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(res.body), &e), res.body)
		require.Equal(t, "error", e.Type)
		require.Equal(t, tc.kind, e.Error.Type, name)
		require.NotEmpty(t, e.Error.Message)
		require.Equal(t, res.rid, e.RequestID)
	}
	q, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/v1/messages", strings.NewReader(`{"model":"gem",`+hi+`}`))
	require.NoError(t, err)
	q.Header.Set("X-Api-Key", r.key)
	resp, err := r.http.Do(q)
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode, "the key may stand in x-api-key")
}

// What Anthropic offers beyond the standard is asked for by a header, which reaches it and no other.
func TestBetaHeader(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	for _, tc := range []struct{ model, beta, want string }{{"ant", "context-1m-2025-08-07,tools-2024-04-04", "context-1m-2025-08-07,tools-2024-04-04"}, {"ant", "a;b", ""}, {"gem", "context-1m-2025-08-07", ""}} {
		q, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/v1/messages?beta=true", strings.NewReader(`{"model":"`+tc.model+`","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}`))
		require.NoError(t, err)
		q.Header.Set("X-Api-Key", r.key)
		q.Header.Set("Anthropic-Beta", tc.beta)
		resp, err := r.http.Do(q)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
		u.mu.Lock()
		require.Equal(t, tc.want, u.betas[resp.Header.Get("X-Request-Id")])
		u.mu.Unlock()
	}
}

// Streams of all dialects side by side, a quarter of them left in the middle: each is booked with what its engine produced, to the token.
func TestManyStreamsOfManyDialects(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	script := `{\"tokens\":60,\"gap\":5}`
	kinds := []struct{ path, body string }{
		{"/v1/chat/completions", `{"model":"team/llama","stream":true,"messages":[{"role":"user","content":"` + script + `"}]}`},
		{"/v1/messages", `{"model":"team/llama","stream":true,"max_tokens":99,"messages":[{"role":"user","content":"` + script + `"}]}`},
		{"/v1/responses", `{"model":"team/llama","stream":true,"input":"` + script + `"}`},
		{"/v1/messages", `{"model":"ant","stream":true,"max_tokens":99,"messages":[{"role":"user","content":"LONG"}]}`},
		{"/v1/chat/completions", `{"model":"ant","stream":true,"messages":[{"role":"user","content":"LONG"}]}`},
		{"/v1/responses", `{"model":"ant","stream":true,"input":"LONG"}`},
	}
	const n = 60
	rids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k := kinds[i%len(kinds)]
			resp := r.post(ctx, k.path, r.key, k.body)
			rids[i] = resp.Header.Get("X-Request-Id")
			defer func() { _ = resp.Body.Close() }()
			if i%4 == 0 || strings.Contains(k.body, "LONG") {
				_, _ = io.CopyN(io.Discard, resp.Body, 3000)
				cancel()
				return
			}
			if _, err := io.ReadAll(resp.Body); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, r.settled())
	require.NoError(t, r.g.Flush(t.Context()))
	for i, rid := range rids {
		b := r.booked(rid)
		r.ups[0].finished(rid)
		require.Equal(t, int64(u.count(rid)+r.ups[0].count(rid)), b.CompletionTokens, "stream %d of %s: end %s, source %s", i, kinds[i%len(kinds)].path, b.End, b.Source)
		require.Equal(t, map[bool]int64{true: 35, false: b.PromptTokens}[b.Model == "ant"], b.PromptTokens)
	}
}

func TestResponses(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	for _, m := range []string{model, "ant", "gem", "az"} {
		res := r.call("/v1/responses", r.key, `{"model":"`+m+`","input":"Hi","instructions":"Be brief."}`)
		require.Equal(t, 200, res.status, "%s: %s", m, res.body)
		require.Contains(t, res.body, `"status":"completed"`)
		require.Contains(t, res.body, `"model":"`+m+`"`)
		require.Positive(t, r.booked(res.rid).CompletionTokens)
		if m == "az" {
			require.Equal(t, "/az/openai/deployments/up/chat/completions?api-version=2024-10-21", u.path(res.rid))
			continue
		}
		res = r.call("/v1/responses", r.key, `{"model":"`+m+`","input":"Hi","stream":true}`)
		require.Contains(t, res.body, "event: response.completed\n", m)
		require.NotContains(t, res.body, "[DONE]")
		require.Equal(t, "upstream", r.booked(res.rid).Source)
	}
	for field, body := range map[string]string{"store": `"store":true`, "previous_response_id": `"previous_response_id":"resp_1"`, "tools[0]": `"tools":[{"type":"web_search"}]`} {
		res := r.call("/v1/responses", r.key, `{"model":"`+model+`","input":"Hi",`+body+`}`)
		require.Equal(t, 400, res.status)
		require.Contains(t, res.body, `"param":"`+field+`"`)
	}
	res := r.call("/v1/responses", r.key, `{"model":"`+model+`","stream":true,"input":"{\"tokens\":9,\"die\":4}"}`)
	require.Contains(t, res.body, "event: error\ndata: {\"type\":\"error\",")
	require.Equal(t, "upstream_error", r.booked(res.rid).End)
}

func TestOtherOperations(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	res := r.call("/v1/embeddings", r.key, `{"model":"oai","input":["a","b"],"encoding_format":"float","stream":false}`)
	require.Equal(t, 200, res.status, res.body)
	require.JSONEq(t, `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.25,-1],"error":{"inside":1}}],"model":"oai","usage":{"prompt_tokens":8,"total_tokens":8}}`, res.body)
	require.Equal(t, `{"model":"up","input":["a","b"],"encoding_format":"float","stream":false}`, u.body(res.rid)) //nolint:testifylint // the same bytes, not the same meaning
	r.want(res, "embedding", 8, 0, 0, "done", "upstream")
	res = r.call("/v1/embeddings", r.key, `{"model":"gem","input":"some words to embed"}`)
	require.Equal(t, 200, res.status, res.body)
	require.Contains(t, res.body, `"embedding":[1,0.5]`)
	got := r.booked(res.rid)
	require.Equal(t, "estimate", got.Source, "this upstream tells no usage")
	require.Positive(t, got.PromptTokens)
	require.Zero(t, got.CompletionTokens)
	res = r.call("/api/v1/inference/embedding", r.token, `{"model":"oai","input":"a"}`)
	require.Equal(t, 200, res.status, res.body)
	res = r.call("/v1/moderations", r.key, `{"model":"oai","input":"a"}`)
	require.Equal(t, 200, res.status, res.body)
	require.Contains(t, res.body, `"flagged":false`)
	got = r.booked(res.rid)
	require.Equal(t, []any{"moderation", "estimate", int64(0)}, []any{got.Op, got.Source, got.CompletionTokens})
	for _, path := range []string{"/v1/rerank", "/v2/rerank", "/api/v1/inference/rerank"} {
		key := r.key
		if strings.HasPrefix(path, "/api") {
			key = r.token
		}
		res = r.call(path, key, `{"model":"oai","query":"q","documents":["a","b"],"top_n":1}`)
		require.Equal(t, 200, res.status, "%s: %s", path, res.body)
		require.Contains(t, res.body, `"results":[{"index":1,"relevance_score":0.9}]`)
		r.want(res, "rerank", 12, 0, 0, "done", "upstream")
	}
	for path, m := range map[string]string{"/v1/embeddings": "ant", "/v1/moderations": "gem", "/v1/rerank": model, "/v1/completions": "ant"} {
		res = r.call(path, r.key, `{"model":"`+m+`","input":"a","prompt":"a","query":"q","documents":["a"]}`)
		require.Equal(t, 400, res.status, "%s: %s", path, res.body)
		_, code, _ := res.code(t)
		require.Equal(t, "operation_not_supported", code)
		require.Equal(t, user.EndRefused, r.booked(res.rid).End)
	}
}

func TestCountTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	u := newWire(t)
	u.serve(r)
	for m, n := range map[string]string{"ant": "77", "gem": "78", "vllm": "79"} {
		res := r.call("/v1/messages/count_tokens", r.key, `{"model":"`+m+`","messages":[{"role":"user","content":"Hi"}]}`)
		require.Equal(t, 200, res.status, res.body)
		require.JSONEq(t, `{"input_tokens":`+n+`}`, res.body)
		r.want(res, "count_tokens", 0, 0, 0, "done", "none")
	}
	res := r.call("/v1/messages/count_tokens", r.key, `{"model":"`+model+`","messages":[{"role":"user","content":"some words that are counted by their weight"}]}`)
	require.Equal(t, 200, res.status, res.body)
	require.Equal(t, "estimate", res.header.Get("X-Maas-Source"))
	require.NotContains(t, res.body, `:0}`)
	r.want(res, "count_tokens", 0, 0, 0, "done", "none")
}

func TestModelsInAnthropicForm(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	newWire(t).serve(r)
	get := func(path string) (int, string) {
		q, err := http.NewRequestWithContext(t.Context(), "GET", r.url+path, nil)
		require.NoError(t, err)
		q.Header.Set("X-Api-Key", r.key)
		q.Header.Set("Anthropic-Version", "2023-06-01")
		resp, err := r.http.Do(q)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode, string(b)
	}
	status, body := get("/v1/models?limit=2")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"data":[{"type":"model","id":"ant","display_name":"ant","created_at":"2023-11-14T22:13:20Z","max_input_tokens":4096},{"type":"model","id":"az","display_name":"az","created_at":"2023-11-14T22:13:20Z","max_input_tokens":4096}],"first_id":"ant","last_id":"az","has_more":true}`, body)
	_, body = get("/v1/models?after_id=vllm")
	require.JSONEq(t, `{"data":[],"first_id":null,"last_id":null,"has_more":false}`, body)
	_, body = get("/v1/models?before_id=both&limit=1")
	require.Contains(t, body, `"id":"az"`)
	status, body = get("/v1/models/" + model)
	require.Equal(t, 200, status)
	require.Contains(t, body, `"id":"team/llama"`)
	status, body = get("/v1/models/nope")
	require.Equal(t, 404, status)
	require.Contains(t, body, "not_found_error")
}
