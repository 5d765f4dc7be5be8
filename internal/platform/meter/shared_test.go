package meter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest/part"
	"maas/internal/platform/cache"
	"maas/internal/platform/cache/memory"
	_ "maas/internal/platform/cache/redis"
)

func nodesOn(h *hand, c cache.Cache, n int) []*Meter {
	var list []*Meter
	for i := range n {
		m := New(Options{Node: fmt.Sprint("n", i), Clock: h.now, Wall: h.wall, Cache: c})
		m.SetNodes(int64(n))
		list = append(list, m)
	}
	return list
}

// settleShared waits for what Tick started.
func settleShared(m *Meter) { m.shared.pending.Wait() }

func TestSharedLimitHoldsOverAllNodes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 3))
		h := newHand()
		nodes := nodesOn(h, memory.New(h.wall), 3)
		const limit, burst = 6000, 200
		subjects := make([]*Subject, 3)
		for i, m := range nodes {
			subjects[i] = &Subject{Buckets: []*Bucket{m.Bucket(Limit{Kind: "key", ID: "k", Unit: Requests, Limit: limit, Burst: burst})}}
		}
		passed, asked := int64(0), int64(0)
		start := h.now()
		for range 4000 {
			h.add(time.Duration(r.Int64N(int64(6 * time.Millisecond)))) // 333 a second, a hundred may pass
			i := r.IntN(3)
			var k Ticket
			asked++
			if nodes[i].Admit(context.Background(), &k, h.now(), subjects[i], Ask{Requests: 1}) == nil {
				passed++
				k.Settle(Ask{Requests: 1})
			}
			if r.IntN(30) == 0 {
				for _, m := range nodes {
					m.Tick(context.Background())
					settleShared(m)
				}
			}
			most := burst + (h.now()-start)*limit/minute + 1
			require.LessOrEqual(t, passed, most, "seed %d", seed)
		}
		most := burst + (h.now()-start)*limit/minute
		require.Greater(t, passed, most*8/10, "most of the limit is used where demand is higher")
		require.Greater(t, asked, passed)
	}
}

func TestSharedSlotsHoldOverAllNodes(t *testing.T) {
	t.Parallel()
	h := newHand()
	nodes := nodesOn(h, memory.New(h.wall), 3)
	const limit = 20
	var open, peak, passed atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i, m := range nodes {
		s := &Subject{Buckets: []*Bucket{m.Bucket(Limit{Kind: "key", ID: "k", Unit: Concurrent, Limit: limit})}}
		for range 12 {
			wg.Go(func() {
				var k Ticket
				for range 300 {
					if m.Admit(context.Background(), &k, h.now(), s, Ask{Requests: 1}) != nil {
						continue
					}
					n := open.Add(1)
					for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
					}
					passed.Add(1)
					open.Add(-1)
					k.Settle(Ask{Requests: 1})
				}
			})
		}
		_ = i
	}
	go func() { wg.Wait(); close(stop) }()
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
			h.add(20 * time.Millisecond)
			for _, m := range nodes {
				m.Tick(context.Background())
			}
		}
	}
	require.LessOrEqual(t, peak.Load(), int64(limit))
	require.Positive(t, passed.Load())
	for _, m := range nodes {
		settleShared(m)
		m.leaveShared(context.Background())
	}
	one := nodesOn(h, nodes[0].shared.cache, 1)[0]
	s := &Subject{Buckets: []*Bucket{one.Bucket(Limit{Kind: "key", ID: "k", Unit: Concurrent, Limit: limit})}}
	ks := make([]Ticket, limit)
	for i := range ks {
		require.NoError(t, one.Admit(context.Background(), &ks[i], h.now(), s, Ask{}), "slots that were let go are free: %d", i)
	}
}

func TestSharedTokensPayTheirDebt(t *testing.T) {
	t.Parallel()
	h := newHand()
	m := nodesOn(h, memory.New(h.wall), 1)[0]
	s := &Subject{Buckets: []*Bucket{m.Bucket(Limit{Kind: "key", ID: "k", Unit: Tokens, Limit: 600})}}
	var k Ticket
	ctx := context.Background()
	require.NoError(t, m.Admit(ctx, &k, h.now(), s, Ask{Tokens: 100}))
	k.Settle(Ask{Tokens: 1100}) // a thousand more than it had said
	require.Equal(t, RateLimited, reasonOf(m.Admit(ctx, &k, h.now(), s, Ask{Tokens: 1})))
	h.add(11 * time.Second)
	require.NoError(t, m.Admit(ctx, &k, h.now(), s, Ask{Tokens: 1}), "a full bucket takes more than it holds")
	k.Settle(Ask{Tokens: 1})
	h.add(30 * time.Second)
	require.Equal(t, RateLimited, reasonOf(m.Admit(ctx, &k, h.now(), s, Ask{Tokens: 1})), "and is paid off")
	h.add(2 * time.Minute)
	require.NoError(t, m.Admit(ctx, &k, h.now(), s, Ask{Tokens: 100}))
	k.Settle(Ask{Tokens: 0})
}

func TestRedisGoesAwayAndReturns(t *testing.T) {
	t.Parallel()
	server := part.Redis(t)
	c, err := cache.Open(t.Context(), server.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	h := newHand()
	nodes := nodesOn(h, c, 2)
	subject := func(m *Meter) *Subject {
		return &Subject{Buckets: []*Bucket{m.Bucket(Limit{Kind: "key", ID: "k", Unit: Requests, Limit: 60, Burst: 20})}}
	}
	count := func(s *Subject, m *Meter, tries int) (n int) {
		var k Ticket
		for range tries {
			if m.Admit(context.Background(), &k, h.now(), s, Ask{Requests: 1}) == nil {
				k.Settle(Ask{Requests: 1})
				n++
			}
			h.add(noRepeat)
		}
		return n
	}
	a, b := subject(nodes[0]), subject(nodes[1])
	got := count(a, nodes[0], 15) + count(b, nodes[1], 15)
	require.GreaterOrEqual(t, got, 20)
	require.LessOrEqual(t, got, 24, "a burst of twenty for both together")
	server.Stop()
	h.add(time.Hour)
	got = count(a, nodes[0], 40)
	require.GreaterOrEqual(t, got, 10)
	require.LessOrEqual(t, got, 14, "half of the limit each")
	require.Equal(t, "away", nodes[0].State().Shared)
	server.Start()
	h.add(2 * time.Second)
	require.Eventually(t, func() bool {
		h.add(2 * time.Second)
		return count(a, nodes[0], 1) == 1 && nodes[0].State().Shared == "redis"
	}, 30*time.Second, 50*time.Millisecond)
}

// Few questions are asked where much is used.
func TestRedisIsAskedSeldom(t *testing.T) {
	t.Parallel()
	h := newHand()
	counting := &counted{Cache: memory.New(h.wall)}
	m := nodesOn(h, counting, 1)[0]
	s := &Subject{Buckets: []*Bucket{m.Bucket(Limit{Kind: "key", ID: "k", Unit: Requests, Limit: 60_000, Burst: 10_000})}}
	var k Ticket
	const n = 10_000
	for i := range n {
		require.NoError(t, m.Admit(context.Background(), &k, h.now(), s, Ask{Requests: 1}))
		k.Settle(Ask{Requests: 1})
		h.add(2 * time.Millisecond) // 500 a second
		if i%50 == 0 {
			m.Tick(context.Background())
			settleShared(m)
		}
	}
	require.Less(t, counting.calls.Load(), int64(n/20))
}

type counted struct {
	cache.Cache
	calls atomic.Int64
}

func (c *counted) Take(ctx context.Context, asks []cache.Take) ([]cache.Grant, error) {
	c.calls.Add(1)
	return c.Cache.Take(ctx, asks)
}

func TestClosedTenantsAreRefusedWithoutRedis(t *testing.T) {
	t.Parallel()
	h := newHand()
	m := New(Options{Node: "n", Clock: h.now, Wall: h.wall, Cache: gone{}, Closed: true})
	s := &Subject{Buckets: []*Bucket{m.Bucket(Limit{Kind: "key", ID: "k", Unit: Requests, Limit: 60, Burst: 5})}}
	var k Ticket
	require.NoError(t, m.Admit(context.Background(), &k, h.now(), s, Ask{Requests: 1}))
	k.Settle(Ask{})
	h.add(2 * rateGrace)
	require.Equal(t, LimitsUnknown, reasonOf(m.Admit(context.Background(), &k, h.now(), s, Ask{Requests: 1})))
}

type gone struct{ cache.Cache }

func (gone) Take(context.Context, []cache.Take) ([]cache.Grant, error) { return nil, cache.ErrAway }
