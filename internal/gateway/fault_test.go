package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference"
	"maas/internal/inference/engine"
	"maas/internal/maastest/faulty"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/user"
)

// faultRig is a rig with two faulty upstreams: "a", which the route asks first, and "b".
type faultRig struct {
	*rig
	a, b    *faulty.Upstream
	version uint64
	spec    inference.RouteSpec
	context [2]int // of a and b
}

const (
	routed    = "fast"
	firstWait = 3 * time.Second // a machine under load is slow
)

func newFaultRig(t *testing.T) *faultRig {
	t.Helper()
	return newFaultRigOn(t, dbtest.Open(t, tables...))
}

func newFaultRigOn(t *testing.T, d *db.DB) *faultRig {
	t.Helper()
	f := &faultRig{version: 1}
	var err error
	f.a, err = faulty.New("a")
	require.NoError(t, err)
	t.Cleanup(f.a.Close)
	f.b, err = faulty.New("b")
	require.NoError(t, err)
	t.Cleanup(f.b.Close)
	f.rig = newRigOn(t, d, t.TempDir(), nil)
	f.spec = inference.RouteSpec{
		Name: routed, Aliases: []string{"gpt-4o"}, Enabled: true, Strategy: inference.Weighted, TimeoutMS: int(firstWait.Milliseconds()),
		Targets: []inference.RouteTarget{{Deployment: "dep_a", Weight: 1}, {Deployment: "dep_b", Weight: 1, Priority: 1}},
		Retry:   inference.RetryPolicy{Attempts: 3, BudgetPercent: 100, On: []string{inference.OnConnect, inference.OnLimited, inference.OnServer, inference.OnTimeout}},
	}
	f.fresh()
	return f
}

// fresh gives both upstreams new endpoints, about which nothing is known yet, and the route a new retry budget.
func (f *faultRig) fresh() {
	f.version++
	f.g.Router.Set(inference.Table{Version: f.version})
	f.version++
	tenant := f.who.TenantID
	table := inference.Table{Version: f.version}
	for i, u := range []*faulty.Upstream{f.a, f.b} {
		table.Routes = append(table.Routes, inference.Route{
			Model: inference.ModelInfo{ID: "only-" + u.Name, Tenant: tenant, Deployment: "dep_" + u.Name, State: inference.Ready, Task: "chat"}, Provider: "prv_" + u.Name,
			Endpoints: []inference.RouteEndpoint{{Replica: u.Name, Endpoint: engine.Endpoint{
				ID: fmt.Sprintf("%s.%d", u.Name, f.version), Network: "tcp", Addr: u.Addr(), Host: u.Addr(), BasePath: "/v1", Dialect: engine.OpenAI, Model: "m", Slots: 8, Context: f.context[i], Caps: engine.Caps{StreamUsage: true, AbortNonStream: true}}}},
		})
	}
	spec := f.spec
	table.Routes = append(table.Routes, inference.Route{Model: inference.ModelInfo{ID: routed, Tenant: tenant, Route: "rte_1"}, Chain: &spec})
	f.g.Router.Set(table)
}

func asking(model, words, more string) string {
	text, _ := json.Marshal(words)
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}]%s}`, model, text, more)
}

const streamed = `,"stream":true`

func (f *faultRig) ask(words, more string) result {
	f.t.Helper()
	return f.call("/v1/chat/completions", f.key, asking(routed, words, more))
}

func (f *faultRig) breaker() inference.BreakerState {
	f.t.Helper()
	for _, s := range f.g.Router.Upstreams(f.who.TenantID) {
		if s.DeploymentID == "dep_a" {
			return s.Breaker
		}
	}
	f.t.Fatal("a has no endpoint")
	return ""
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !ok(); {
		require.True(t, time.Now().Before(until), what)
		time.Sleep(10 * time.Millisecond)
	}
}

// What goes wrong before the client has a byte is answered by the next upstream of the chain, and billed as that one's.
func TestFaultsBeforeTheFirstByteFallBack(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	both := []string{"reset", "close", "garbage", "endless-head", "interim-flood", "half-head", "two-lengths", "429", "500", "502", "503", "529", "401", "404", "die-after-head", "end-after-head", "half-first", "error-first",
		"error-told", "garbage-events", "bad-chunk", "error-200", "html", "empty", "long-length"}
	cases := map[string][]string{"": both, streamed: both}
	cases[""] = append(cases[""], "die-mid", "close-mid", "error-mid", "half-event")                                                    // half of a body is no byte for the client
	cases[streamed] = append(cases[streamed], "hang", "trickle-head", "hang-after-head", "short-length", "garbage-event", "text-event") // a whole answer that timed out is not asked for again
	names := map[string]string{}                                                                                                        // by request id
	for more, faults := range cases {
		for _, fault := range faults {
			f.fresh()
			res := f.ask("fault="+fault+" on=a tokens=4", more)
			name := fault + more
			require.Equal(t, 200, res.status, "%s: %s", name, res.body)
			require.Equal(t, "2", res.header.Get("X-Maas-Attempts"), name)
			require.Equal(t, "dep_b", res.header.Get("X-Maas-Deployment"), name)
			require.Equal(t, routed, res.header.Get("X-Maas-Model"), name)
			require.NotContains(t, res.body, "10.1.2.3")
			require.Equal(t, more != "", strings.HasSuffix(res.body, "data: [DONE]\n\n"), "%s: %q", name, res.body)
			require.Contains(t, res.body, `"model":"fast"`)
			names[res.rid] = name
		}
	}
	for rid, name := range names {
		u := f.booked(rid)
		require.Equal(t, "done", u.End, name)
		require.Equal(t, "upstream", u.Source, name)
		require.Equal(t, int64(4), u.CompletionTokens, name)
		require.Equal(t, int64(faulty.Prompt), u.PromptTokens, name)
		require.Equal(t, 2, u.Attempts, name)
		require.Equal(t, "dep_b", u.DeploymentID, name)
	}
	f.released(t)
}

// released waits until no connection to the upstreams is left but idle ones, and none at all once the pool is closed.
func (f *faultRig) released(t *testing.T) {
	t.Helper()
	f.g.pool.Close()
	eventually(t, "connections stay open", func() bool { return f.a.Open()+f.b.Open() == 0 })
	eventually(t, "attempts never ended", func() bool {
		return !slices.ContainsFunc(f.g.Router.Upstreams(""), func(s inference.EndpointState) bool { return s.InFlight > 0 })
	})
}

// What goes wrong after the client has a byte ends the stream with one error event and no end mark, and what was delivered is billed, to the token. Nothing is tried again.
func TestFaultsInTheMiddleEndCleanly(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	f.g.between = 700 * time.Millisecond
	for _, fault := range []string{"die-mid", "close-mid", "half-event", "hang-mid", "error-mid", "garbage-mid", "text-mid", "no-end", "bad-chunk-mid"} {
		f.fresh()
		res := f.ask("fault="+fault+" on=a tokens=5", streamed)
		require.Equal(t, 200, res.status, "%s: %s", fault, res.body)
		require.Equal(t, "1", res.header.Get("X-Maas-Attempts"), fault)
		events := strings.Split(strings.TrimSuffix(res.body, "\n\n"), "\n\n")
		for _, e := range events {
			d, ok := strings.CutPrefix(e, "data: ")
			require.True(t, ok && json.Valid([]byte(d)), "%s: %q", fault, e)
		}
		require.Contains(t, events[len(events)-1], `{"error":{`, fault)
		require.Equal(t, 1, strings.Count(res.body, `"error":`), fault)
		require.NotContains(t, res.body, "[DONE]", fault)
		require.NotContains(t, res.body, "10.1.2.3")
		u := f.booked(res.rid)
		require.Equal(t, "upstream_error", u.End, fault)
		require.Equal(t, "counted", u.Source, fault)
		require.LessOrEqual(t, u.CompletionTokens, int64(f.a.Emitted(res.rid)), fault)
		if fault != "die-mid" { // a reset may overtake what was written
			require.Equal(t, int64(5), u.CompletionTokens, fault)
		}
		require.Equal(t, int64(strings.Count(res.body, `"content":"w`)), u.CompletionTokens, fault)
		require.Equal(t, 1, u.Attempts)
		require.Equal(t, "dep_a", u.DeploymentID)
	}
	require.Zero(t, f.b.Calls(""))
	f.released(t)
}

// Oddities that are no failures are not made into ones.
func TestSlowAndImpoliteAnswersAreTaken(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	f.spec.TimeoutMS = 0
	f.fresh()
	for _, more := range []string{"", streamed} {
		for _, fault := range []string{"slow-head", "close-after", "ok"} {
			for range 3 {
				res := f.ask("fault="+fault+" on=a", more)
				require.Equal(t, 200, res.status, "%s: %s", fault, res.body)
				require.Equal(t, "dep_a", res.header.Get("X-Maas-Deployment"), fault+more)
				require.Equal(t, int64(3), f.booked(res.rid).CompletionTokens)
			}
		}
	}
	f.released(t)
}

// An answer that is longer than it said must not become the next one's.
func TestBytesBehindAnAnswerAreNotTheNextOne(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	for range 10 {
		res := f.ask("fault=short-length on=a", "")
		require.Equal(t, 200, res.status, res.body)
		require.Equal(t, "1", res.header.Get("X-Maas-Attempts"))
		res = f.ask("fault=ok on=a", "")
		require.Equal(t, 200, res.status, res.body)
		require.Equal(t, "1", res.header.Get("X-Maas-Attempts"), "smuggled bytes were taken for an answer")
	}
}

func TestWhatTheClientDidWrongIsFinal(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	res := f.ask("fault=400 on=a", "")
	require.Equal(t, 400, res.status)
	require.Equal(t, "1", res.header.Get("X-Maas-Attempts"))
	u := f.booked(res.rid)
	require.Equal(t, "refused", u.End)
	require.Zero(t, u.PromptTokens+u.CompletionTokens)

	res = f.ask("fault=long on=a", "")
	require.Equal(t, 400, res.status, "b is not known to hold more")
	f.context = [2]int{8, 8}
	f.fresh()
	require.Equal(t, 400, f.ask("fault=long on=a", "").status)
	f.context = [2]int{8, 16}
	f.fresh()
	res = f.ask("fault=long on=a", "")
	require.Equal(t, 200, res.status, res.body)
	require.Equal(t, "dep_b", res.header.Get("X-Maas-Deployment"))

	for _, fault := range []string{"hang", "hang-after-head"} { // the upstream may be at work: a whole answer is not asked for twice
		f.fresh()
		res = f.ask("fault="+fault+" on=a", "")
		require.Equal(t, http.StatusGatewayTimeout, res.status, fault)
		require.Equal(t, "1", res.header.Get("X-Maas-Attempts"), fault)
	}
	f.released(t)
}

func TestPolicyOfARoute(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	f.spec.Retry.On = []string{inference.OnLimited}
	f.fresh()
	require.Equal(t, 502, f.ask("fault=500 on=a", "").status, "not named by the policy")
	require.Equal(t, 200, f.ask("fault=429 on=a", "").status)
	f.spec.Retry.On = []string{inference.OnServer}
	f.spec.Retry.Attempts = 1
	f.fresh()
	require.Equal(t, 502, f.ask("fault=500 on=a", "").status, "one attempt is one attempt")
	f.spec.Retry.Attempts, f.spec.Retry.BudgetPercent = 3, 0
	f.fresh()
	res := f.ask("fault=500 on=a", "")
	require.Equal(t, 502, res.status, "no budget")
	require.Equal(t, "1", res.header.Get("X-Maas-Attempts"))

	f.spec.Retry.BudgetPercent, f.spec.Retry.On = 100, []string{inference.OnConnect, inference.OnLimited, inference.OnServer, inference.OnTimeout}
	f.fresh()
	calls := f.a.Calls("") + f.b.Calls("")
	res = f.ask("fault=429 after=9", "")
	require.Equal(t, 429, res.status, "both are busy")
	require.Equal(t, "9", res.header.Get("Retry-After"))
	require.Equal(t, "2", res.header.Get("X-Maas-Attempts"))
	res = f.ask("", "")
	require.Equal(t, 429, res.status)
	require.Equal(t, "0", res.header.Get("X-Maas-Attempts"), "they asked for a pause")
	require.Equal(t, calls+2, f.a.Calls("")+f.b.Calls(""))
	require.Equal(t, inference.BreakerClosed, f.breaker(), "a 429 is no failure")
}

// A dead upstream is left alone after five failures, found alive again by a probe, and used again after one request that went well.
func TestBreakerOnThePath(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	f.a.Mode(func() string { return "down" })
	for i := range 5 {
		require.Equal(t, inference.BreakerClosed, f.breaker(), i)
		res := f.ask("", streamed)
		require.Equal(t, 200, res.status, res.body)
		require.Equal(t, "2", res.header.Get("X-Maas-Attempts"))
	}
	eventually(t, "it never opened", func() bool { return f.breaker() == inference.BreakerOpen }) // an attempt ends after its answer
	before := f.a.Calls("down")
	for range 5 {
		res := f.ask("", "")
		require.Equal(t, "1", res.header.Get("X-Maas-Attempts"), "it is left alone")
		require.Equal(t, "dep_b", res.header.Get("X-Maas-Deployment"))
	}
	require.Equal(t, before, f.a.Calls("down"))
	f.a.Mode(nil)
	eventually(t, "no probe found it alive", func() bool { return f.breaker() == inference.BreakerHalfOpen })
	res := f.ask("", "")
	require.Equal(t, "dep_a", res.header.Get("X-Maas-Deployment"))
	eventually(t, "it never closed", func() bool { return f.breaker() == inference.BreakerClosed })
}

// A client that leaves while one upstream hangs holds nothing.
func TestClientLeavesAHangingUpstream(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	f.spec.TimeoutMS = 0
	f.fresh()
	for _, fault := range []string{"hang", "hang-after-head", "hang-mid", "trickle-head"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		q, err := http.NewRequestWithContext(ctx, "POST", f.url+"/v1/chat/completions", strings.NewReader(asking(routed, "fault="+fault, streamed)))
		require.NoError(t, err)
		q.Header.Set("Authorization", "Bearer "+f.key)
		resp, err := f.http.Do(q)
		if err == nil {
			for err == nil {
				_, err = resp.Body.Read(make([]byte, 512))
			}
			_ = resp.Body.Close()
		}
		cancel()
	}
	eventually(t, "connections of clients that left stay open", func() bool { f.g.pool.Close(); return f.a.Open()+f.b.Open() == 0 })
	list, err := f.users.Requests(f.owner, user.UsageFilter{})
	require.NoError(t, err)
	for _, u := range list.Items {
		require.Equal(t, "client_abort", u.End)
	}
	f.released(t)
}

// What a failed attempt told is cost, and is not billed.
func TestFailedAttemptsAreCost(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t, tables...)
	f := newFaultRigOn(t, d)
	for _, provider := range []string{"prv_a", "prv_b"} {
		_, err := f.users.SetPrice(f.owner, user.NewPrice{Model: "*", Provider: provider, Input: 1_000_000, Output: 2_000_000})
		require.NoError(t, err)
	}
	cost := func(rid string) (pico, price int64) {
		f.booked(rid)
		require.NoError(t, d.System().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
			return q.QueryRow(ctx, `SELECT cost_pico, price_pico FROM user_usage WHERE request_id = $1`, rid).Scan(&pico, &price)
		}))
		return pico, price
	}
	var one int64
	eventually(t, "the prices never came", func() bool {
		one, _ = cost(f.ask("fault=ok tokens=7", streamed).rid)
		return one > 0
	})
	two, price := cost(f.ask("fault=error-told on=a tokens=7", streamed).rid)
	require.Equal(t, 2*one, two, "both upstreams take their money")
	require.Zero(t, price)
	res := f.ask("fault=error-told tokens=7", streamed)
	require.Equal(t, 502, res.status)
	none, _ := cost(res.rid)
	require.Equal(t, 2*one, none, "also when nobody answered")
	u := f.booked(res.rid)
	require.Zero(t, u.PromptTokens+u.CompletionTokens, "which costs the client nothing")
	require.Equal(t, 2, u.Attempts)
}

func (f *faultRig) get(path string) string {
	f.t.Helper()
	q, err := http.NewRequestWithContext(f.t.Context(), "GET", f.url+path, nil)
	require.NoError(f.t, err)
	q.Header.Set("Authorization", "Bearer "+f.key)
	resp, err := f.http.Do(q)
	require.NoError(f.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err)
	return string(b)
}
