package meter

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hand is a clock that a test moves.
type hand struct{ ns atomic.Int64 }

func newHand() *hand {
	h := &hand{}
	h.ns.Store(int64(time.Hour))
	return h
}
func (h *hand) now() int64          { return h.ns.Load() }
func (h *hand) wall() time.Time     { return time.Unix(1_700_000_000, 0).Add(time.Duration(h.ns.Load())) }
func (h *hand) add(d time.Duration) { h.ns.Add(int64(d)) }
func (h *hand) options() Options    { return Options{Node: "n1", Epoch: 1, Clock: h.now, Wall: h.wall} }

func reasonOf(err error) Reason {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Reason
	}
	return ""
}

func TestBucketAdmitsExactlyItsLimitAtOneInstant(t *testing.T) {
	t.Parallel()
	for _, l := range []Limit{{Unit: Requests, Limit: 6000, Burst: 100}, {Unit: Requests, Limit: 7, Burst: 7}, {Unit: Requests, Limit: 1000, Burst: 1000}, {Unit: Requests, Limit: 60_000}} {
		h := newHand()
		m := New(h.options())
		b := m.Bucket(l)
		s := &Subject{Buckets: []*Bucket{b}}
		want := l.Burst
		if want == 0 {
			want = l.Limit / 6
		}
		var passed atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				var k Ticket
				for range 2 * want {
					if m.Admit(context.Background(), &k, h.now(), s, Ask{Requests: 1}) == nil {
						passed.Add(1)
						k.Settle(Ask{Requests: 1})
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, want, passed.Load(), "%+v", l)
		require.Zero(t, m.Unsettled())
		require.Zero(t, m.Open())
	}
}

// A naive log of what passed: no window of a minute holds more than limit + burst.
func TestBucketAgainstALog(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		limit := 1 + r.Int64N(500)
		burst := 1 + r.Int64N(limit)
		h := newHand()
		m := New(h.options())
		b := m.Bucket(Limit{Unit: Tokens, Limit: limit, Burst: burst, ID: "x"})
		type passed struct{ at, n int64 }
		var log []passed
		refused := 0
		for range 3000 {
			h.add(time.Duration(r.Int64N(minute / limit * 2)))
			n := 1 + r.Int64N(burst)
			wait := b.take(h.now(), n)
			if wait == 0 {
				log = append(log, passed{h.now(), n})
				continue
			}
			refused++
			require.Positive(t, wait)
			if r.IntN(20) == 0 { // what it names as the wait is enough, and no less would be
				require.Positive(t, b.take(h.now()+wait-1, n))
				require.Zero(t, b.take(h.now()+wait, n))
				h.add(time.Duration(wait))
				log = append(log, passed{h.now(), n})
			}
		}
		require.Positive(t, refused)
		from, sum := 0, int64(0)
		for _, p := range log {
			sum += p.n
			for log[from].at <= p.at-minute {
				sum -= log[from].n
				from++
			}
			require.LessOrEqual(t, sum, limit+burst, "seed %d limit %d burst %d", seed, limit, burst)
		}
	}
}

func TestBucketLargerThanBurstPassesWhenFull(t *testing.T) {
	t.Parallel()
	h := newHand()
	m := New(h.options())
	b := m.Bucket(Limit{Unit: Tokens, Limit: 600, Burst: 10})
	require.Zero(t, b.take(h.now(), 300)) // half a minute's worth
	require.Equal(t, int64(30*time.Second), b.take(h.now(), 300))
	h.add(29 * time.Second)
	require.Positive(t, b.take(h.now(), 300))
	h.add(time.Second)
	require.Zero(t, b.take(h.now(), 300))
}

func TestClockThatStandsOrJumpsForward(t *testing.T) {
	t.Parallel()
	h := newHand()
	m := New(h.options())
	b := m.Bucket(Limit{Unit: Requests, Limit: 60, Burst: 5})
	n := 0
	for range 100 {
		if b.take(h.now(), 1) == 0 {
			n++
		}
	}
	require.Equal(t, 5, n)
	h.add(1000 * time.Hour) // a suspended machine: one burst, not a thousand hours' worth
	for range 100 {
		if b.take(h.now(), 1) == 0 {
			n++
		}
	}
	require.Equal(t, 10, n)
}

func TestChangedLimitKeepsItsCounter(t *testing.T) {
	t.Parallel()
	h := newHand()
	m := New(h.options())
	b := m.Bucket(Limit{Kind: "key", ID: "k", Unit: Requests, Limit: 10, Burst: 10})
	for range 10 {
		require.Zero(t, b.take(h.now(), 1))
	}
	half := m.Bucket(Limit{Kind: "key", ID: "k", Unit: Requests, Limit: 5, Burst: 5})
	require.Positive(t, half.take(h.now(), 1))
	require.Nil(t, m.Bucket(Limit{Unit: Requests, Limit: noLimit}))
	none := m.Bucket(Limit{Kind: "key", ID: "z", Unit: Requests, Limit: 0})
	var k Ticket
	require.Equal(t, OverLimit, reasonOf(m.Admit(context.Background(), &k, h.now(), &Subject{Buckets: []*Bucket{none}}, Ask{Requests: 1})))
}

func TestRefusalGivesBackWhatWasTaken(t *testing.T) {
	t.Parallel()
	h := newHand()
	g := newGrantor(h, map[string]int64{"bud_a": 1000, "bud_b": 5})
	o := h.options()
	o.Grantor = g
	m := New(o)
	req := m.Bucket(Limit{Kind: "key", ID: "k", Unit: Requests, Limit: 60, Burst: 3})
	slots := m.Bucket(Limit{Kind: "key", ID: "k", Unit: Concurrent, Limit: 2})
	model := m.Bucket(Limit{Kind: "model", ID: "m", Unit: Requests, Limit: 60, Burst: 60})
	a, b := m.Budget("bud_a", "key", "k", Tokens), m.Budget("bud_b", "tenant", "t", Tokens)
	s := &Subject{Buckets: []*Bucket{req, slots}, Budgets: []*Budget{a, b}}
	ctx := context.Background()
	var k Ticket
	for range 10 { // each passes the limits and the first budget, and is refused by the second
		err := m.Admit(ctx, &k, h.now(), s, Ask{Requests: 1, Tokens: 100, Also: []*Bucket{model}})
		require.Equal(t, BudgetSpent, reasonOf(err), "%v", err)
		require.False(t, k.Held())
	}
	require.Zero(t, slots.word.used.Load())
	require.LessOrEqual(t, req.word.tat.Load(), h.now())
	require.LessOrEqual(t, model.word.tat.Load(), h.now())
	require.NoError(t, m.Admit(ctx, &k, h.now(), s, Ask{Requests: 1, Tokens: 5, Also: []*Bucket{model}}))
	require.True(t, k.Settle(Ask{Requests: 1, Tokens: 5}))
	require.False(t, k.Settle(Ask{Requests: 1, Tokens: 5}), "a second time is a bug")
	require.Equal(t, int64(1), m.Unsettled())
	drain(t, m)
	require.Equal(t, int64(5), g.spent("bud_a"))
	require.Equal(t, int64(5), g.spent("bud_b"))
	require.Zero(t, g.leased("bud_a"))
	require.Zero(t, g.leased("bud_b"))
}

func TestSlots(t *testing.T) {
	t.Parallel()
	m := New(newHand().options())
	s := &Subject{Buckets: []*Bucket{m.Bucket(Limit{Kind: "key", ID: "k", Unit: Concurrent, Limit: 3})}}
	ctx := context.Background()
	var ks [3]Ticket
	for i := range ks {
		require.NoError(t, m.Admit(ctx, &ks[i], m.Now(), s, Ask{Requests: 1}))
	}
	var one Ticket
	require.Equal(t, TooMany, reasonOf(m.Admit(ctx, &one, m.Now(), s, Ask{Requests: 1})))
	require.Equal(t, int64(3), m.Open())
	ks[1].Settle(Ask{})
	require.NoError(t, m.Admit(ctx, &one, m.Now(), s, Ask{Requests: 1}))
}

func TestTokensAreTrueAfterSettle(t *testing.T) {
	t.Parallel()
	h := newHand()
	m := New(h.options())
	b := m.Bucket(Limit{Kind: "key", ID: "k", Unit: Tokens, Limit: 6000})
	s := &Subject{Buckets: []*Bucket{b}}
	held := func() int64 { return (b.word.tat.Load() - h.now()) * 6000 / minute }
	var k Ticket
	require.NoError(t, m.Admit(context.Background(), &k, h.now(), s, Ask{Requests: 1, Tokens: 1000}))
	require.Equal(t, int64(1000), held())
	require.NoError(t, k.Extend(Ask{Tokens: 400}))
	require.Equal(t, int64(1000), held())
	require.NoError(t, k.Extend(Ask{Tokens: 1500}))
	require.Equal(t, int64(1500), held())
	k.Settle(Ask{Tokens: 1600})
	require.Equal(t, int64(1600), held())
	require.NoError(t, m.Admit(context.Background(), &k, h.now(), s, Ask{Requests: 1, Tokens: 1000}))
	k.Settle(Ask{Tokens: 10})
	require.Equal(t, int64(1610), held())
}

func BenchmarkAdmitSettle(b *testing.B) {
	g := newGrantor(newHand(), map[string]int64{"bud_k": 1 << 40, "bud_t": 1 << 40, "wal_t": 1 << 40})
	m := New(Options{Grantor: g})
	s := &Subject{
		Buckets: []*Bucket{m.Bucket(Limit{Kind: "key", ID: "k", Unit: Requests, Limit: noLimit - 1}), m.Bucket(Limit{Kind: "key", ID: "k", Unit: Tokens, Limit: noLimit - 1, Burst: noLimit}), m.Bucket(Limit{Kind: "key", ID: "k", Unit: Concurrent, Limit: 1000})},
		Budgets: []*Budget{m.Budget("bud_k", "key", "k", Tokens), m.Budget("wal_t", "wallet", "t", Money)},
	}
	ctx := context.Background()
	for _, bg := range s.Budgets { // one large lease, so that what is measured is the path
		bg.to.left, bg.to.rate = 1<<42, 1<<50
	}
	var k Ticket
	a := Ask{Requests: 1, Tokens: 500, MoneyPico: 1000}
	require.NoError(b, m.Admit(ctx, &k, m.Now(), s, a))
	k.Settle(a)
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Admit(ctx, &k, m.Now(), s, a); err != nil {
			b.Fatal(err)
		}
		k.Settle(Ask{Requests: 1})
	}
}
