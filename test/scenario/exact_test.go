package scenario

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest"
	"maas/internal/maastest/part"
	"maas/internal/platform/db"
)

// plan of one call, as text in its prompt.
type plan struct {
	Tokens int  `json:"tokens"`
	Fail   bool `json:"fail,omitempty"`  // the first attempt is refused
	Break  int  `json:"break,omitempty"` // the connection ends after this many tokens
}

const promptTokens = 40

var patient = &http.Client{Timeout: time.Minute}

// counter plays an OpenAI-compatible engine, as a provider has it, and counts what it emitted for each request.
type counter struct {
	mu      sync.Mutex
	emitted map[string]int64 // by request id: prompt and completion
	failed  map[string]bool
	fails   int
}

func (c *counter) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/models") {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"up","object":"model"}]}`)
		return
	}
	var q struct {
		Stream   bool
		Messages []struct{ Content string }
	}
	raw, _ := io.ReadAll(r.Body)
	p := plan{Tokens: 1}
	ours := false
	if json.Unmarshal(raw, &q) == nil && len(q.Messages) > 0 {
		ours = json.Unmarshal([]byte(strings.TrimSpace(q.Messages[0].Content)), &p) == nil
	}
	rid := r.Header.Get("X-Request-Id")
	count := func(n int64) {
		if ours {
			c.mu.Lock()
			c.emitted[rid] += n
			c.mu.Unlock()
		}
	}
	if p.Fail {
		c.mu.Lock()
		again := c.failed[rid]
		c.failed[rid] = true
		if !again {
			c.fails++
		}
		c.mu.Unlock()
		if !again {
			http.Error(w, `{"error":{"message":"not now","type":"server_error"}}`, http.StatusInternalServerError)
			return
		}
	}
	usage := func(n int) string {
		return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, promptTokens, n, promptTokens+n)
	}
	if !q.Stream {
		count(promptTokens + int64(p.Tokens))
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id":"x","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":%s}`, usage(p.Tokens))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	for i := 1; i <= p.Tokens; i++ {
		if r.Context().Err() != nil {
			return
		}
		if p.Break > 0 && i > p.Break {
			conn, _, err := flush.Hijack()
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if i == 1 {
			count(promptTokens)
		}
		count(1)
		_, _ = fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tok \"},\"finish_reason\":null}],\"usage\":%s}\n\n", usage(i))
		_ = flush.Flush()
		time.Sleep(time.Millisecond)
	}
	_, _ = fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up\",\"choices\":[],\"usage\":%s}\n\ndata: [DONE]\n\n", usage(p.Tokens))
}

// exactness is the size of the run.
type exactness struct {
	budget  int64
	clients int
	tokens  int
}

// sizeOf is small unless MAAS_TEST_FULL=1.
func sizeOf() exactness {
	if os.Getenv("MAAS_TEST_FULL") == "1" {
		return exactness{1_000_000, 200, 200}
	}
	return exactness{60_000, 30, 60}
}

// TestBudgetOfManyGatewaysIsExact: three gateways in processes of their own spend one budget for many clients, of whom a fifth leaves in the middle; engines refuse, break off and are replaced by others; one
// gateway is killed. In the end the ledger holds what the engines emitted, to the token, and no more was spent than the budget and what was in flight.
//
// A strict key reserves the most that a call can cost: then nothing is spent over the budget, whatever is in flight.
func TestBudgetOfManyGatewaysIsExact(t *testing.T) {
	t.Run("strict", func(t *testing.T) { exact(t, sizeOf(), true) })
	t.Run("usual", func(t *testing.T) { exact(t, sizeOf(), false) })
}

func exact(t *testing.T, x exactness, strict bool) {
	t.Helper()
	up := &counter{emitted: map[string]int64{}, failed: map[string]bool{}}
	s, gateways := maastest.WithGateways(t, 3)
	owner := s.As("owner")
	for _, name := range []string{"east", "west"} {
		server := httptest.NewServer(http.HandlerFunc(up.serve))
		t.Cleanup(server.Close)
		id := owner.Post("/api/v1/inference/providers", map[string]any{"name": name, "kind": "openai", "base_url": server.URL + "/v1", "api_key": "k"}).Want(http.StatusCreated).Str("id")
		owner.Post("/api/v1/inference/deployments", map[string]any{"name": name, "provider": id, "upstream_model": "up", "concurrency": 256}).Want(http.StatusCreated)
	}
	for _, name := range []string{"east", "west"} {
		await(t, owner, "/api/v1/inference/deployments/"+name, "status", "ready")
	}
	owner.Post("/api/v1/inference/routes", map[string]any{
		"name": "m", "targets": []map[string]any{{"deployment": "east", "weight": 100, "priority": 0}, {"deployment": "west", "weight": 100, "priority": 0}},
		"retry": map[string]any{"attempts": 3, "budget_percent": 100, "on": []string{"connect", "5xx"}},
	}).Want(http.StatusCreated)
	owner.Post("/api/v1/prices", map[string]any{"model": "m", "input_micro_per_mtok": 2_000_000, "output_micro_per_mtok": 8_000_000}).Want(http.StatusCreated)
	budget := owner.Post("/api/v1/budgets", map[string]any{"subject": map[string]any{"kind": "tenant"}, "unit": "tokens", "limit": x.budget, "window": "total", "hard": true}).Want(http.StatusCreated).Str("id")
	key := owner.Post("/api/v1/keys", map[string]any{"name": "exact", "strict": strict}).Want(http.StatusCreated).Str("secret")
	ready(t, gateways, key)

	run := &clients{t: t, gateways: gateways, key: key, tokens: x.tokens}
	var wg sync.WaitGroup
	for i := range x.clients {
		wg.Go(func() { run.client(rand.New(rand.NewPCG(uint64(i), 7))) })
	}
	require.Eventually(t, func() bool { return run.done.Load() > 0 && up.sum() > x.budget*2/5 }, 5*time.Minute, 20*time.Millisecond, "the clients do nothing")
	gateways[2].Kill()
	gateways[2].Start()
	wg.Wait()
	for _, g := range gateways {
		g.Stop()
	}
	up.check(t, s, x, budget, owner, strict)
	t.Logf("%d calls done, %d left, %d refused for the budget, %d lost with their gateway, %d first attempts refused", run.done.Load(), run.aborted.Load(), run.refused.Load(), run.lost.Load(), up.fails)
}

// ready waits until every gateway knows key and route.
func ready(t *testing.T, gateways []*maastest.Gateway, key string) {
	t.Helper()
	for _, g := range gateways {
		require.Eventually(t, func() bool {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+"/v1/models/m", nil)
			require.NoError(t, err)
			q.Header.Set("Authorization", "Bearer "+key)
			resp, err := patient.Do(q)
			if err != nil {
				return false
			}
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK && strings.Contains(string(b), `"ready"`)
		}, 60*time.Second, 50*time.Millisecond)
	}
}

// clients call until the budget is used up.
type clients struct {
	t        *testing.T
	gateways []*maastest.Gateway
	key      string
	tokens   int

	done, aborted, refused, lost, other atomic.Int64
}

func (c *clients) client(r *rand.Rand) {
	h := &http.Client{Transport: &http.Transport{}}
	defer h.CloseIdleConnections()
	deadline := time.Now().Add(10 * time.Minute)
	for spent := 0; spent < 5 && time.Now().Before(deadline); {
		if c.call(h, r) {
			spent++
			time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
		} else {
			spent = 0
		}
	}
}

// call makes one call; true when the budget refused it.
func (c *clients) call(h *http.Client, r *rand.Rand) bool {
	p := plan{Tokens: 1 + r.IntN(c.tokens)}
	stream, leave := r.IntN(4) > 0, 0
	switch n := r.IntN(100); {
	case n < 20 && stream:
		leave = 1 + r.IntN(p.Tokens)
	case n < 30:
		p.Fail = true
	case n < 35 && stream:
		p.Break = 1 + r.IntN(p.Tokens)
	}
	text, _ := json.Marshal(p)
	body, _ := json.Marshal(map[string]any{"model": "m", "stream": stream, "max_tokens": p.Tokens, "messages": []map[string]string{{"role": "user", "content": string(text) + strings.Repeat(" ", 160)}}})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, c.gateways[r.IntN(len(c.gateways))].URL+"/v1/chat/completions", strings.NewReader(string(body)))
	if err != nil {
		c.t.Error(err)
		return true
	}
	q.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := h.Do(q)
	if err != nil {
		c.lost.Add(1) // the killed one
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		if strings.Contains(string(b), "insufficient_quota") {
			c.refused.Add(1)
			return true
		}
		c.other.Add(1)
		return false
	}
	in := bufio.NewReader(resp.Body)
	for events := 0; ; {
		line, err := in.ReadString('\n')
		if strings.HasPrefix(line, "data:") {
			if events++; events == leave {
				c.aborted.Add(1)
				cancel()
				return false
			}
		}
		if err != nil {
			break
		}
	}
	c.done.Add(1)
	return false
}

func (c *counter) sum() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.emitted {
		n += e
	}
	return n
}

// check compares the books with what the engines emitted.
func (c *counter) check(t *testing.T, s *maastest.Set, x exactness, budget string, owner maastest.Caller, strict bool) {
	t.Helper()
	type row struct {
		rid, ended, source string
		tokens, pico       int64
	}
	var rows []row
	require.NoError(t, s.DB().System().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
		var err error
		rows, err = db.List(ctx, q, func(r db.Row) (row, error) {
			var x row
			err := r.Scan(&x.rid, &x.ended, &x.source, &x.tokens, &x.pico)
			return x, err
		}, `SELECT request_id, ended, source, in_fresh + in_cache + out_text + out_reasoning, price_pico FROM user_usage ORDER BY request_id`)
		return err
	}))
	c.mu.Lock()
	defer c.mu.Unlock()
	var booked, emitted, crashed, unmarked int64
	for _, r := range rows {
		have := c.emitted[r.rid]
		booked += r.tokens
		if r.ended == "node_crash" {
			crashed++
			unmarked += have - r.tokens
			require.LessOrEqual(t, r.tokens, have+promptTokens*2, "a killed call is booked as far as it was marked")
		} else {
			require.Equal(t, have, r.tokens, "%s ended %s, counted by %s", r.rid, r.ended, r.source)
		}
		emitted += have
		delete(c.emitted, r.rid)
	}
	for rid, n := range c.emitted {
		require.Zero(t, n, "%s was served and never booked", rid)
	}
	b := owner.Get("/api/v1/budgets/" + budget).Want(http.StatusOK)
	var state struct{ Used, Leased int64 }
	b.Into(&state)
	require.Equal(t, booked, state.Used, "the budget counts what the rows say")
	over := int64(0)
	if !strict {
		over = int64(x.clients) * promptTokens // prompts are estimated; answers are bounded by max_tokens
	}
	require.LessOrEqual(t, state.Used, x.budget+over, "no more than what was in flight")
	require.LessOrEqual(t, state.Used+state.Leased, x.budget+over, "what a killed gateway held is still kept for it")
	require.Greater(t, state.Used, x.budget*8/10, "the budget is used up but for what the killed gateway held")
	require.Equal(t, "true", owner.Post("/api/v1/ledger/verify", nil).Want(http.StatusOK).Str("ok"))
	t.Logf("budget %d, used %d (over by %d), emitted %d, calls killed with their gateway %d, of whose tokens %d were not marked yet; still held by leases %d", x.budget, state.Used, max(state.Used-x.budget, 0), emitted, crashed, unmarked, state.Leased)
}

// Three gateways with one Redis let no more calls of a key pass than its limit, and no more at a time than its slots.
func TestGatewaysShareLimits(t *testing.T) {
	redis := part.Redis(t)
	up := &counter{emitted: map[string]int64{}, failed: map[string]bool{}}
	s, gateways := maastest.WithGateways(t, 3, "cache="+redis.URL())
	owner := s.As("owner")
	server := httptest.NewServer(http.HandlerFunc(up.serve))
	t.Cleanup(server.Close)
	id := owner.Post("/api/v1/inference/providers", map[string]any{"name": "east", "kind": "openai", "base_url": server.URL + "/v1", "api_key": "k"}).Want(http.StatusCreated).Str("id")
	owner.Post("/api/v1/inference/deployments", map[string]any{"name": "m", "provider": id, "upstream_model": "up", "concurrency": 256}).Want(http.StatusCreated)
	await(t, owner, "/api/v1/inference/deployments/m", "status", "ready")
	made := owner.Post("/api/v1/keys", map[string]any{"name": "shared"}).Want(http.StatusCreated)
	key := made.Str("secret")
	owner.Post("/api/v1/limits", map[string]any{"subject": map[string]any{"kind": "key", "id": made.Str("id")}, "unit": "requests", "limit": 600, "burst": 50}).Want(http.StatusCreated)
	ready(t, gateways, key)
	ask := func(g *maastest.Gateway) (*http.Response, error) {
		body := `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"{\"tokens\":1}"}]}`
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		q.Header.Set("Authorization", "Bearer "+key)
		resp, err := patient.Do(q)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		return resp, err
	}
	var passed, refused atomic.Int64
	start := time.Now()
	for _, g := range gateways { // a limit reaches a gateway half a second after it was set; a call that tells of it counts
		require.Eventually(t, func() bool {
			resp, err := ask(g)
			require.NoError(t, err)
			knows := resp.Header.Get("X-Ratelimit-Limit-Requests") == "600"
			if knows && resp.StatusCode == http.StatusOK {
				passed.Add(1)
			}
			return knows
		}, 30*time.Second, 20*time.Millisecond)
	}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			for range 20 {
				resp, err := ask(gateways[i%3])
				if err != nil {
					t.Error(err)
					return
				}
				switch resp.StatusCode {
				case http.StatusOK:
					passed.Add(1)
				case http.StatusTooManyRequests:
					refused.Add(1)
				default:
					t.Errorf("status %d", resp.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	most := 50 + int64(time.Since(start).Seconds()*10) + 1
	require.LessOrEqual(t, passed.Load(), most, "of three gateways together")
	require.GreaterOrEqual(t, passed.Load(), int64(50))
	require.Positive(t, refused.Load())
	live := owner.Get("/api/v1/limits/live").Want(http.StatusOK)
	require.Equal(t, "redis", live.Str("nodes.0.shared"))
	t.Logf("%d passed of at most %d, %d refused", passed.Load(), most, refused.Load())
}
