package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/dialect"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/run"
)

// child is a worker running in this process, over real pipes and a real socket.
type child struct {
	t     testing.TB
	cfg   Config
	http  *http.Client
	stdin io.WriteCloser
	notes chan Note
	exit  chan int
	logs  *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func modelDir(t testing.TB, spec modelgen.Spec) string {
	t.Helper()
	dir := t.TempDir()
	b, err := modelgen.GGUF(spec)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "model.gguf"), b, 0o600))
	return dir
}

// spawn starts a worker without waiting for it.
func spawn(t testing.TB, cfg Config) *child {
	t.Helper()
	run, err := os.MkdirTemp("", "w") //nolint:usetesting // short: a unix address holds few bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	cfg.Socket, cfg.Nonce, cfg.Replica, cfg.Attempt, cfg.Fence, cfg.Model = filepath.Join(run, "s"), "nonce-1", "rep_1", 1, 5, "counter"
	if cfg.MaxSeqs == 0 {
		cfg.MaxSeqs = 4
	}
	cfg.Threads = 1
	in, stdin := io.Pipe()
	out, stdout := io.Pipe()
	c := &child{t: t, cfg: cfg, stdin: stdin, notes: make(chan Note, 1000), exit: make(chan int, 1), logs: &syncBuffer{}}
	c.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket)
	}}}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		code := Main(ctx, in, stdout, c.logs)
		_ = stdout.Close()
		c.exit <- code
	}()
	go func() {
		defer close(c.notes)
		d := json.NewDecoder(out)
		for {
			var n Note
			if d.Decode(&n) != nil {
				return
			}
			c.notes <- n
		}
	}()
	go func() {
		b, _ := json.Marshal(cfg)
		_, _ = stdin.Write(append(b, '\n'))
	}()
	t.Cleanup(func() { cancel(); _ = stdin.Close(); c.http.CloseIdleConnections() })
	return c
}

// start waits until the worker is ready.
func start(t testing.TB, spec modelgen.Spec, cfg Config) *child {
	t.Helper()
	cfg.Dir = modelDir(t, spec)
	c := spawn(t, cfg)
	for n := range c.notes {
		require.NotEqual(t, "fatal", n.T, n.Message)
		if n.T == "ready" {
			return c
		}
	}
	t.Fatal("the worker ended before it was ready")
	return nil
}

func (c *child) do(ctx context.Context, method, path, body string) *http.Response {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, strings.NewReader(body))
	require.NoError(c.t, err)
	resp, err := c.http.Do(req)
	require.NoError(c.t, err)
	return resp
}

func (c *child) post(path, body string) (int, string) {
	c.t.Helper()
	resp := c.do(context.Background(), http.MethodPost, path, body)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return resp.StatusCode, string(b)
}

func (c *child) get(path string) (int, string) {
	c.t.Helper()
	resp := c.do(context.Background(), http.MethodGet, path, "")
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return resp.StatusCode, string(b)
}

// events returns the data of each server-sent event.
func events(t testing.TB, body string) []string {
	t.Helper()
	var out []string
	for e := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(e, "data: ")
		require.True(t, ok, e)
		out = append(out, data)
	}
	return out
}

func decodeInto[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

func (c *child) stats() run.Stats {
	_, body := c.get("/stats")
	return decodeInto[run.Stats](c.t, body)
}

func TestCompletionWhole(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Kind: modelgen.Successor}, Config{})
	code, body := c.post("/v1/completions", `{"model":"m","prompt":"count:","max_tokens":4,"temperature":0,"unknown_field":[1]}`)
	require.Equal(t, 200, code, body)
	a := decodeInto[dialect.CompletionAnswer](t, body)
	require.Equal(t, " 1 2 3 4", a.Choices[0].Text)
	require.Equal(t, "length", *a.Choices[0].FinishReason)
	require.Equal(t, "m", a.Model)
	require.Equal(t, "text_completion", a.Object)
	u := decodeInto[dialect.Usage](t, string(*a.Usage))
	require.Equal(t, 4, u.CompletionTokens)
	require.Equal(t, u.PromptTokens+4, u.TotalTokens)
}

func TestCompletionStopEchoLogprobsAndChoices(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Kind: modelgen.Successor}, Config{})
	_, body := c.post("/v1/completions", `{"prompt":["go:","x 7"],"max_tokens":9,"temperature":0,"n":2,"stop":[" 3","12"],"echo":true,"logprobs":2}`)
	a := decodeInto[dialect.CompletionAnswer](t, body)
	require.Len(t, a.Choices, 4)
	for i, want := range []string{"go: 1 2", "go: 1 2", "x 7 8 9 10 11 ", "x 7 8 9 10 11 "} {
		ch := a.Choices[i]
		require.Equal(t, i, ch.Index)
		require.Equal(t, strings.TrimRight(want, " "), strings.TrimRight(ch.Text, " "))
		require.Equal(t, "stop", *ch.FinishReason)
		require.Equal(t, map[bool]string{true: " 3", false: "12"}[i < 2], ch.StopReason)
		n := len(ch.Logprobs.Tokens)
		require.Len(t, ch.Logprobs.TokenLogprobs, n)
		require.Len(t, ch.Logprobs.TextOffset, n)
		if i%2 == 0 { // the prompt's are told once per prompt
			require.Nil(t, ch.Logprobs.TokenLogprobs[0])
		}
		require.Greater(t, *ch.Logprobs.TokenLogprobs[n-1], -0.01)
		require.GreaterOrEqual(t, len(ch.Logprobs.TopLogprobs[n-1]), 2)
	}
}

func TestCompletionStream(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Kind: modelgen.Successor}, Config{})
	code, body := c.post("/v1/completions", `{"prompt":"count:","max_tokens":5,"temperature":0,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`)
	require.Equal(t, 200, code)
	es := events(t, body)
	require.Equal(t, "[DONE]", es[len(es)-1])
	text, last := "", 0
	var textSb211 strings.Builder
	for _, e := range es[:len(es)-2] {
		a := decodeInto[dialect.CompletionAnswer](t, e)
		textSb211.WriteString(a.Choices[0].Text)
		u := decodeInto[dialect.Usage](t, string(*a.Usage))
		require.GreaterOrEqual(t, u.CompletionTokens, last)
		last = u.CompletionTokens
	}
	text += textSb211.String()
	require.Equal(t, " 1 2 3 4 5", text)
	tail := decodeInto[dialect.CompletionAnswer](t, es[len(es)-2])
	require.Empty(t, tail.Choices)
	require.Equal(t, 5, decodeInto[dialect.Usage](t, string(*tail.Usage)).CompletionTokens)
}

func TestErrorsHaveTheOpenAIForm(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Kind: modelgen.Successor, Ctx: 64}, Config{})
	for _, x := range []struct {
		path, body, code, param string
		status                  int
	}{
		{"/v1/completions", `{"prompt":"` + strings.Repeat("a ", 200) + `"}`, "context_length_exceeded", "prompt", 400},
		{"/v1/completions", `{"prompt":`, "inference.worker_request", "", 400},
		{"/v1/completions", `{}`, "inference.worker_request", "prompt", 400},
		{"/v1/completions", `{"prompt":"a","temperature":"x"}`, "inference.worker_request", "temperature", 400},
		{"/v1/completions", `{"prompt":"a","temperature":3}`, "inference.worker_request", "temperature", 400},
		{"/v1/completions", `{"prompt":"a","max_tokens":0}`, "inference.worker_request", "max_tokens", 400},
		{"/v1/completions", `{"prompt":[99999]}`, "llm.request_invalid", "prompt", 400},
		{"/v1/completions", `{"prompt":"a","guided_json":{}}`, "inference.capability_missing", "guided_json", 400},
		{"/v1/completions", `{"prompt":"a","response_format":{"type":"json_object"}}`, "inference.capability_missing", "response_format", 400},
		{"/v1/chat/completions", `{"messages":[]}`, "inference.worker_request", "messages", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"wizard","content":"x"}]}`, "inference.worker_request", "messages[0].role", 400},
		{"/v1/nothing", `{}`, "inference.worker_route", "", 404},
	} {
		status, body := c.post(x.path, x.body)
		require.Equal(t, x.status, status, body)
		var raw struct{ Error map[string]any }
		require.NoError(t, json.Unmarshal([]byte(body), &raw))
		require.Len(t, raw.Error, 4, "all four keys, null where empty")
		e := decodeInto[dialect.ErrorBody](t, body).Error
		require.Equal(t, x.code, *e.Code, body)
		if x.param != "" {
			require.Equal(t, x.param, *e.Param, body)
		}
		require.Equal(t, "invalid_request_error", e.Type)
	}
	_, body := c.post("/v1/completions", `{"prompt":"`+strings.Repeat("a ", 200)+`"}`)
	require.Contains(t, body, "maximum context length is 64 tokens")
	require.Regexp(t, `resulted in [1-9][0-9]+ tokens`, body)
	status, _ := c.post("/v1/completions", `{"prompt":"`+strings.Repeat("a", maxBody)+`"}`)
	require.Equal(t, 413, status)
}

func TestClosedConnectionFreesTheSlot(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Kind: modelgen.Random, Ctx: 8192}, Config{Context: 8192})
	for _, stream := range []bool{true, false} {
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/v1/completions", strings.NewReader(fmt.Sprintf(`{"prompt":"a","max_tokens":8000,"ignore_eos":true,"stream":%v}`, stream)))
			resp, err := c.http.Do(req)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		require.Eventually(t, func() bool { return c.stats().Running == 1 }, 20*time.Second, 5*time.Millisecond)
		before := c.stats().Finished[run.FinishAbort]
		cancel()
		<-gone
		require.Eventually(t, func() bool { s := c.stats(); return s.Running == 0 && s.Finished[run.FinishAbort] == before+1 }, 5*time.Second, 5*time.Millisecond)
	}
}

func TestModelsHealthTokenizeAndMetrics(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Kind: modelgen.Successor}, Config{})
	_, body := c.get("/v1/models")
	list := decodeInto[dialect.ModelList](t, body)
	require.Equal(t, "nonce-1", list.Data[0].ID)
	require.Equal(t, "counter", list.Data[1].ID)
	code, body := c.get("/health")
	require.Equal(t, 200, code)
	require.Equal(t, "ok", decodeInto[healthBody](t, body).Status)
	_, body = c.post("/tokenize", `{"prompt":" 1 2 3"}`)
	tok := decodeInto[struct {
		Count  int
		Tokens []int32
	}](t, body)
	require.Len(t, tok.Tokens, tok.Count)
	ids, _ := json.Marshal(tok.Tokens)
	_, body = c.post("/detokenize", `{"tokens":`+string(ids)+`}`)
	require.JSONEq(t, `{"prompt":" 1 2 3"}`, body)
	_, _ = c.post("/v1/completions", `{"prompt":"count:","max_tokens":5,"temperature":0}`)
	_, page := c.get("/metrics")
	for _, want := range []string{
		`vllm:generation_tokens_total{engine="0",model_name="counter"} 5`, `vllm:num_requests_running{engine="0",model_name="counter"} 0`,
		`vllm:request_success_total{engine="0",finished_reason="length",model_name="counter"} 1`, `vllm:time_to_first_token_seconds_count{engine="0",model_name="counter"} 1`,
		`vllm:inter_token_latency_seconds_bucket`, `vllm:kv_cache_usage_perc`,
	} {
		require.Contains(t, page, want)
	}
	st, err := os.Stat(c.cfg.Socket)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
}

// last returns the final note and the exit code.
func (c *child) last() (Note, int) {
	c.t.Helper()
	var n Note
	for n = range c.notes { //nolint:revive // the last one is wanted
	}
	select {
	case code := <-c.exit:
		return n, code
	case <-time.After(20 * time.Second):
		c.t.Fatal("the worker does not end")
		return n, 0
	}
}

func TestFatalNotesAndExitCodes(t *testing.T) {
	t.Parallel()
	whole := modelDir(t, modelgen.Spec{})
	b, err := os.ReadFile(filepath.Join(whole, "model.gguf"))
	require.NoError(t, err)
	cut := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(cut, "model.gguf"), b[:len(b)-1000], 0o600))
	for name, x := range map[string]struct {
		cfg  Config
		code string
		exit int
	}{
		"truncated":    {Config{Dir: cut}, "llm.file_truncated", ExitCorrupt},
		"empty folder": {Config{Dir: t.TempDir()}, "llm.format_unknown", ExitCorrupt},
		"memory":       {Config{Dir: whole, MemoryLimit: 8 << 20}, "llm.memory_limit", ExitMemory},
		"small cache":  {Config{Dir: whole, KVBytes: 1000}, "llm.memory_limit", ExitMemory},
		"kernel":       {Config{Dir: whole, Kernel: "abacus"}, "llm.kernel_level", ExitConfig},
		"kv type":      {Config{Dir: whole, KVType: "q2"}, "inference.worker_config", ExitConfig},
	} {
		n, code := spawn(t, x.cfg).last()
		require.Equal(t, "fatal", n.T, name)
		require.Equal(t, x.code, n.Code, name)
		require.NotEmpty(t, n.Message, name)
		require.Equal(t, x.exit, code, name)
	}
}

func TestConfigLineIsChecked(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "{}", "no json\n", "{}\n", strings.Repeat("x", 2<<20)} {
		var out, logs bytes.Buffer
		require.Equal(t, ExitConfig, Main(context.Background(), strings.NewReader(in), &out, &logs))
		require.Contains(t, out.String(), `"t":"fatal"`)
	}
}

func TestDrainLetsRunningRequestsEnd(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Ctx: 4096}, Config{})
	resp := c.do(context.Background(), http.MethodPost, "/v1/completions", `{"prompt":"a","max_tokens":400,"ignore_eos":true,"stream":true}`)
	defer func() { _ = resp.Body.Close() }()
	r := bufio.NewReader(resp.Body)
	_, err := r.ReadString('\n')
	require.NoError(t, err)
	code, _ := c.post("/drain", "")
	require.Equal(t, 202, code)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(rest), "data: [DONE]\n\n"), "the running answer was not cut")
	_, exit := c.last()
	require.Equal(t, ExitAsked, exit)
	_, err = os.Stat(c.cfg.Socket)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestOrphanLeavesUnlessAttached(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{}, Config{OrphanSeconds: 1})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	resp := c.do(ctx, http.MethodPost, "/attach", `{"nonce":"nonce-1","fence":4}`)
	require.Equal(t, 409, resp.StatusCode)
	_ = resp.Body.Close()
	resp = c.do(ctx, http.MethodPost, "/attach", `{"nonce":"nonce-1","fence":6}`)
	require.Equal(t, 200, resp.StatusCode)
	require.NoError(t, c.stdin.Close())
	select {
	case code := <-c.exit:
		t.Fatalf("the worker left with %d although a server holds it", code)
	case <-time.After(1500 * time.Millisecond):
	}
	cancel()
	_ = resp.Body.Close()
	_, exit := c.last()
	require.Equal(t, ExitAsked, exit)
}
