package gateway

import (
	"bufio"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/clock"
	"maas/internal/platform/meter"
	"maas/internal/user"
)

func TestRequestLimitOfAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	key, _ := r.newKey(user.NewKey{Name: "slow", Limits: user.KeyLimits{RequestsPerMinute: 18}}) // a burst of three
	for i := range 3 {
		res := r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, ""))
		require.Equal(t, 200, res.status, res.body)
		require.Equal(t, "18", res.header.Get("x-ratelimit-limit-requests"))
		require.Equal(t, []string{"2", "1", "0"}[i], res.header.Get("x-ratelimit-remaining-requests"))
	}
	calls := r.ups[0].total()
	res := r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, ""))
	require.Equal(t, 429, res.status, res.body)
	kind, code, words := res.code(t)
	require.Equal(t, []string{"requests", "rate_limit_exceeded"}, []string{kind, code})
	require.Contains(t, words, "18 requests per minute of this key")
	require.Contains(t, "1234", res.header.Get("Retry-After"))
	require.Empty(t, res.header.Get("X-Should-Retry"))
	require.Equal(t, "0", res.header.Get("x-ratelimit-remaining-requests"))
	require.Regexp(t, `^\d+(\.\d+)?s$`, res.header.Get("x-ratelimit-reset-requests"))
	require.Equal(t, calls, r.ups[0].total(), "a refused call reaches no engine")
	require.Equal(t, 200, r.call("/v1/chat/completions", r.key, chat(script{Tokens: 1}, "")).status, "another key goes on")

	res = r.call("/v1/messages", key, `{"model":"team/llama","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}`)
	require.Equal(t, 429, res.status)
	require.Contains(t, res.body, `"rate_limit_error"`)
	require.Equal(t, "18", res.header.Get("anthropic-ratelimit-requests-limit"))
	_, err := time.Parse(time.RFC3339, res.header.Get("anthropic-ratelimit-requests-reset"))
	require.NoError(t, err)
}

func TestSlotsOfAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	key, _ := r.newKey(user.NewKey{Name: "narrow", Limits: user.KeyLimits{Concurrent: 2}})
	var open []*http.Response
	for range 2 {
		open = append(open, r.post(t.Context(), "/v1/chat/completions", key, chat(script{Tokens: 2, Gap: 3000}, `,"stream":true`)))
	}
	res := r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, ""))
	require.Equal(t, 429, res.status, res.body)
	require.Contains(t, res.body, "may have 2 requests under way")
	for _, o := range open {
		_ = o.Body.Close()
	}
	require.Eventually(t, func() bool { return r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, "")).status == 200 }, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return r.g.meter.Open() == 0 }, 30*time.Second, 10*time.Millisecond)
}

func TestTokenLimitCountsTrueTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	key, id := r.newKey(user.NewKey{Name: "k"})
	_, err := r.users.MakeLimit(r.owner, user.NewLimit{Subject: user.LimitSubject{Kind: "key", ID: id}, Unit: meter.Tokens, Limit: 1000})
	require.NoError(t, err)
	res := r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, `,"max_tokens":2000`))
	require.Equal(t, 429, res.status, res.body)
	require.Equal(t, "false", res.header.Get("X-Should-Retry"), "no wait makes it fit")
	kind, _, words := res.code(t)
	require.Equal(t, "tokens", kind)
	require.Contains(t, words, "larger than the whole limit")
	res = r.call("/v1/chat/completions", key, chat(script{Tokens: 100}, `,"max_tokens":700`)) // reserved 700 and more, used 111
	require.Equal(t, 200, res.status, res.body)
	require.Eventually(t, func() bool { return r.g.meter.Open() == 0 }, 30*time.Second, 10*time.Millisecond)
	s, ok := meter.Tightest(r.g.meter.Now(), meter.Tokens, r.g.buckets(r.users.Verifier().LimitsOf(&r.who, user.KeyLimits{})))
	require.False(t, ok, "%v", s)
	b := r.g.meter.Bucket(limitOf(t, r, id))
	s, ok = meter.Tightest(r.g.meter.Now(), meter.Tokens, []*meter.Bucket{b})
	require.True(t, ok)
	require.InDelta(t, 1000-111, s.Left, 30)
}

// limitOf is the one limit of a key as the verifier has it.
func limitOf(t *testing.T, r *rig, key string) meter.Limit {
	t.Helper()
	who := r.who
	who.KeyID = key
	list := r.users.Verifier().LimitsOf(&who, user.KeyLimits{})
	require.Len(t, list, 1)
	return list[0]
}

func TestModelAndTenantLimitsHoldForAllKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	other, _ := r.newKey(user.NewKey{Name: "other"})
	_, err := r.users.MakeLimit(r.owner, user.NewLimit{Subject: user.LimitSubject{Kind: "model", ID: model}, Unit: meter.Requests, Limit: 60, Burst: 4})
	require.NoError(t, err)
	var passed, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 10 {
		key := []string{r.key, other}[i%2]
		wg.Go(func() {
			switch res := r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, "")); res.status {
			case 200:
				passed.Add(1)
			case 429:
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(10), passed.Load()+refused.Load())
	require.GreaterOrEqual(t, passed.Load(), int64(4))
	require.LessOrEqual(t, passed.Load(), int64(6), "four at once, and one more for each second that the test took")
}

func TestBudgetOfTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	key, id := r.newKey(user.NewKey{Name: "k"})
	_, err := r.users.MakeBudget(r.owner, user.NewBudget{Subject: user.Subject{Kind: "key", ID: id}, Unit: meter.Tokens, Limit: 300, Window: "total", Hard: true})
	require.NoError(t, err)
	var last result
	n := 0
	for ; n < 20; n++ {
		if last = r.call("/v1/chat/completions", key, chat(script{Tokens: 29}, `,"max_tokens":29`)); last.status != 200 { // 11 + 29
			break
		}
	}
	require.Equal(t, 429, last.status, last.body)
	kind, code, words := last.code(t)
	require.Equal(t, []string{"insufficient_quota", "insufficient_quota"}, []string{kind, code})
	require.Contains(t, words, "budget of tokens")
	require.Equal(t, "false", last.header.Get("X-Should-Retry"))
	require.Empty(t, last.header.Get("Retry-After"))
	require.GreaterOrEqual(t, n, 5)
	require.LessOrEqual(t, n, 8)
	require.Equal(t, 200, r.call("/v1/chat/completions", r.key, chat(script{Tokens: 1}, "")).status)
	require.NoError(t, r.g.Flush(t.Context()))
	require.Zero(t, r.g.meter.Unsettled())
}

func TestRevokedKeyAndSpentBudgetEndAStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.g.Config.OnExhausted = "cut"
	key, id := r.newKey(user.NewKey{Name: "k"})
	_, err := r.users.MakeBudget(r.owner, user.NewBudget{Subject: user.Subject{Kind: "key", ID: id}, Unit: meter.Tokens, Limit: 400, Window: "total", Hard: true})
	require.NoError(t, err)
	resp := r.post(t.Context(), "/v1/chat/completions", key, chat(script{Tokens: 100_000, Gap: 10, Running: true}, `,"stream":true`))
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, 200, resp.StatusCode)
	var last string
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if s := in.Text(); s != "" {
			last = s
		}
	}
	require.NoError(t, in.Err(), "the body ends as a body should")
	require.Contains(t, last, "insufficient_quota")
	require.NotContains(t, last, "[DONE]")
	u := r.booked(resp.Header.Get("X-Request-Id"))
	require.Equal(t, "refused", u.End)
	require.Greater(t, u.CompletionTokens, int64(300))
	require.Equal(t, 429, r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, "")).status)
}

func TestBadKeysOfOneAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	bad := strings.Repeat("x", 60)
	for range badPerMinute {
		require.Equal(t, 401, r.call("/v1/chat/completions", "sk-maas-"+bad, "{}").status)
	}
	res := r.call("/v1/chat/completions", "sk-maas-"+bad, "{}")
	require.Equal(t, 429, res.status)
	require.NotEmpty(t, res.header.Get("Retry-After"))
	require.Equal(t, 200, r.call("/v1/chat/completions", r.key, chat(script{Tokens: 1}, "")).status, "a good key is not in doubt")
}

func TestStrictKeyReservesTheMost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	key, id := r.newKey(user.NewKey{Name: "k", Strict: true})
	res := r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, ""))
	require.Equal(t, 400, res.status, res.body)
	require.Contains(t, res.body, "max_tokens")
	_, err := r.users.MakeBudget(r.owner, user.NewBudget{Subject: user.Subject{Kind: "key", ID: id}, Unit: meter.Tokens, Limit: 2000, Window: "total", Hard: true})
	require.NoError(t, err)
	require.Equal(t, 429, r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, `,"max_tokens":1990`)).status)
	require.Equal(t, 200, r.call("/v1/chat/completions", key, chat(script{Tokens: 1}, `,"max_tokens":1500`)).status)
}

// What a call is held to costs no allocation once it is known.
func TestPolicyIsKept(t *testing.T) {
	r := newRig(t, 0)
	cred, err := r.users.Verifier().Credential(t.Context(), r.key)
	require.NoError(t, err)
	who, err := cred.Check(clock.Now())
	require.NoError(t, err)
	p := r.g.policyOf(cred, who)
	require.Same(t, p, r.g.policyOf(cred, who))
	if n := testing.AllocsPerRun(100, func() { r.g.policyOf(cred, who).of(r.g, "m") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	target, err := r.g.Router.Resolve(who.TenantID, model)
	require.NoError(t, err)
	c := &call{g: r.g, op: &opChat, gone: t.Context(), cred: cred, body: []byte("{}"), target: target}
	c.row.Model, c.row.At = model, clock.Now()
	if n := testing.AllocsPerRun(100, func() {
		if err := c.enter(who); err != nil {
			t.Fatal(err)
		}
		c.release()
	}); n > 0 {
		t.Errorf("%v allocations of an admission", n)
	}
	_, err = r.users.MakeLimit(r.owner, user.NewLimit{Subject: user.LimitSubject{Kind: "tenant"}, Unit: meter.Requests, Limit: 5})
	require.NoError(t, err)
	next := r.g.policyOf(cred, who)
	require.NotSame(t, p, next)
	require.Len(t, next.subject.Buckets, 1)
}

func TestSizesLearn(t *testing.T) {
	t.Parallel()
	var table sizeTable
	s := table.of("m")
	require.Same(t, s, table.of("m"))
	for i := range 2000 {
		s.learn(4000, 1000-int64(i%10)*10, int64(i%100)) // 4 to 4.4 bytes a token; answers up to 99
	}
	require.InDelta(t, 1000, s.prompt(4000), 120)
	require.Equal(t, int64(answerStart), s.answerTokens())
	for i := range 4000 {
		s.learn(0, 0, 1000+int64(i%100))
	}
	require.InDelta(t, 1095, s.answerTokens(), 250)
	require.Equal(t, int64(1), s.prompt(1))
	require.Zero(t, s.prompt(0))
}

func TestResetText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{120 * time.Millisecond: "120ms", 1234 * time.Millisecond: "1.2s", 6 * time.Minute: "6m0s", 0: "0s"} {
		require.Equal(t, want, resetText(d))
	}
}

func TestPicturesAreNoText(t *testing.T) {
	t.Parallel()
	f, err := scan([]byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + strings.Repeat("A", 1<<20) + `"}}]}]}`))
	require.NoError(t, err)
	require.Less(t, f.textBytes, mediaBytes+100)
	f, err = scan([]byte(`{"model":"m","prompt":"data: ` + strings.Repeat("A", 1000) + `"}`))
	require.NoError(t, err)
	require.Equal(t, 1006, f.textBytes)
}

func BenchmarkAdmission(b *testing.B) {
	r := newRig(b, 0)
	for _, unit := range []meter.Unit{meter.Requests, meter.Tokens, meter.Concurrent} {
		_, err := r.users.MakeLimit(r.owner, user.NewLimit{Subject: user.LimitSubject{Kind: "tenant"}, Unit: unit, Limit: 9_000_000_000})
		require.NoError(b, err)
	}
	cred, err := r.users.Verifier().Credential(b.Context(), r.key)
	require.NoError(b, err)
	who, err := cred.Check(clock.Now())
	require.NoError(b, err)
	target, err := r.g.Router.Resolve(who.TenantID, model)
	require.NoError(b, err)
	c := &call{g: r.g, op: &opChat, gone: b.Context(), cred: cred, body: []byte("{}"), target: target}
	c.row.Model, c.row.At = model, clock.Now()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.enter(who); err != nil {
			b.Fatal(err)
		}
		c.release()
	}
}
