package meter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// grantor is an honest one in memory: it never hands out more than there is, and closes leases that were not renewed.
type grantor struct {
	h     *hand
	mu    sync.Mutex
	have  map[string]int64
	sum   map[string]int64 // spent, as returned
	asks  map[string]*held
	calls int
	away  bool
	slow  bool // answers are lost after they took effect
	end   time.Time
	free  map[string]bool
}

type held struct {
	target string
	id     string
	amount int64
	until  int64
	closed bool
}

var errAway = errors.New("away")

func newGrantor(h *hand, have map[string]int64) *grantor {
	return &grantor{h: h, have: have, sum: map[string]int64{}, asks: map[string]*held{}, free: map[string]bool{}}
}

func (g *grantor) Lease(_ context.Context, asks []LeaseAsk) ([]Grant, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	if g.away {
		return nil, errAway
	}
	var out []Grant
	for _, a := range asks {
		if a.Need < 1 || a.Want < a.Need {
			panic(fmt.Sprintf("need %d want %d", a.Need, a.Want))
		}
		if g.free[a.Target] {
			out = append(out, Grant{ID: a.ID, Unlimited: true, ExpiresAt: g.h.wall().Add(LeaseLife)})
			continue
		}
		l := g.asks[a.ID]
		if l == nil {
			n := min(a.Want, g.have[a.Target])
			if n < a.Need {
				out = append(out, Grant{ID: a.ID, Left: g.have[a.Target], PeriodEnd: g.end})
				continue
			}
			g.have[a.Target] -= n
			l = &held{target: a.Target, id: "lea_" + a.ID, amount: n}
			g.asks[a.ID] = l
		}
		if l.closed {
			out = append(out, Grant{ID: a.ID})
			continue
		}
		l.until = g.h.now() + int64(LeaseLife)
		out = append(out, Grant{ID: a.ID, LeaseID: l.id, Amount: l.amount, Left: g.have[a.Target], ExpiresAt: g.h.wall().Add(LeaseLife), PeriodEnd: g.end})
	}
	if g.slow {
		return nil, errAway
	}
	return out, nil
}

func (g *grantor) Return(_ context.Context, list []LeaseReturn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.away {
		return errAway
	}
	for _, r := range list {
		for _, l := range g.asks {
			if l.id != r.LeaseID || l.closed {
				continue
			}
			if r.Spent+r.Unused != l.amount || r.Unused < 0 || r.Spent < 0 {
				panic(fmt.Sprintf("%+v of %d", r, l.amount))
			}
			l.closed = true
			g.have[l.target] += r.Unused
			g.sum[l.target] += r.Spent
		}
	}
	if g.slow {
		return errAway
	}
	return nil
}

func (g *grantor) set(away, slow bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away, g.slow = away, slow
}

func (g *grantor) spent(target string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sum[target]
}

func (g *grantor) leased(target string) (n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.asks {
		if l.target == target && !l.closed {
			n += l.amount
		}
	}
	return n
}

func (g *grantor) left(target string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.have[target]
}

// drain ends a meter as a process does.
func drain(t *testing.T, m *Meter) {
	t.Helper()
	require.Eventually(t, func() bool { return !m.leasing.Load() && !m.returning.Load() }, 30*time.Second, time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, m.Run(ctx))
}

// quiet waits for what Tick started.
func quiet(t *testing.T, m *Meter) {
	t.Helper()
	require.Eventually(t, func() bool { return !m.leasing.Load() && !m.returning.Load() }, 30*time.Second, time.Millisecond)
}

// Random calls on several nodes with lost answers, an absent grantor, idle times and streams that outlive their leases: what is reserved never exceeds what there is, and in the end the sums agree.
func TestNodesNeverOverspend(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		h := newHand()
		const total = 100_000
		g := newGrantor(h, map[string]int64{"bud_x": total})
		var meters []*Meter
		var budgets []*Subject
		for n := range 3 {
			m := New(Options{Grantor: g, Node: fmt.Sprint("n", n), Clock: h.now, Wall: h.wall})
			meters = append(meters, m)
			budgets = append(budgets, &Subject{Budgets: []*Budget{m.Budget("bud_x", "tenant", "t", Tokens)}})
		}
		var reserved, spent atomic.Int64
		var wg sync.WaitGroup
		for w := range 6 {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			m, s := meters[w%3], budgets[w%3]
			wg.Go(func() {
				var k Ticket
				for range 400 {
					n := 1 + r.Int64N(200)
					if err := m.Admit(context.Background(), &k, m.Now(), s, Ask{Tokens: n}); err != nil {
						continue
					}
					if got := reserved.Add(n) + spent.Load(); got > total {
						panic(fmt.Sprintf("reserved %d of %d", got, total))
					}
					actual := r.Int64N(n + 1)
					spent.Add(actual)
					reserved.Add(-n)
					k.Settle(Ask{Tokens: actual})
				}
			})
		}
		r := rand.New(rand.NewPCG(seed, 99))
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			g.set(r.IntN(8) == 0, r.IntN(8) == 0)
			h.add(time.Duration(r.Int64N(int64(3 * time.Second))))
			for _, m := range meters {
				m.Tick(context.Background())
			}
		}
		g.set(false, false)
		for range 3 {
			for _, m := range meters {
				drain(t, m)
			}
		}
		require.LessOrEqual(t, spent.Load(), int64(total))
		// an ask whose answer was lost and that was never repeated leaves a lease behind, which the grantor takes back when it expires; all others are returned
		require.Equal(t, int64(total), g.left("bud_x")+g.spent("bud_x")+g.leased("bud_x"))
		for _, m := range meters {
			if to := budgets[0].Budgets[0].to; m == meters[0] && to.lost == nil {
				for id, l := range g.asks {
					require.True(t, l.closed || !strings.HasPrefix(id, "n0."), "a lease that nobody knows")
				}
			}
		}
		require.Equal(t, spent.Load(), g.spent("bud_x"))
		for _, m := range meters {
			require.Zero(t, m.Unsettled())
			require.Zero(t, m.Open())
		}
	}
}

func TestBudgetIsUsedToTheLast(t *testing.T) {
	t.Parallel()
	h := newHand()
	g := newGrantor(h, map[string]int64{"wal_x": 1000}) // micro-units
	o := h.options()
	o.Grantor = g
	m := New(o)
	s := &Subject{Budgets: []*Budget{m.Budget("wal_x", "wallet", "t", Money)}}
	var k Ticket
	n := 0
	for {
		err := m.Admit(context.Background(), &k, m.Now(), s, Ask{MoneyPico: 300_000}) // three tenths of a micro-unit
		if err != nil {
			require.Equal(t, BalanceSpent, reasonOf(err))
			break
		}
		k.Settle(Ask{MoneyPico: 300_000})
		n++
		if n%100 == 0 {
			h.add(100 * time.Millisecond)
			m.Tick(context.Background())
			quiet(t, m)
		}
	}
	require.Equal(t, 3333, n)
	require.Less(t, g.calls, 1100)
}

func TestRenewalRunsAhead(t *testing.T) {
	t.Parallel()
	h := newHand()
	g := newGrantor(h, map[string]int64{"bud_x": 1_000_000_000})
	o := h.options()
	o.Grantor = g
	m := New(o)
	s := &Subject{Budgets: []*Budget{m.Budget("bud_x", "tenant", "t", Tokens)}}
	var k Ticket
	for range 120 { // two minutes of ten calls a second
		for range 10 {
			require.NoError(t, m.Admit(context.Background(), &k, m.Now(), s, Ask{Tokens: 100}))
			k.Settle(Ask{Tokens: 100})
			h.add(100 * time.Millisecond)
			m.Tick(context.Background())
			quiet(t, m)
		}
	}
	require.Less(t, g.calls, 100, "1200 calls")
	h.add(10 * time.Second)
	m.Tick(context.Background())
	quiet(t, m)
	m.Tick(context.Background())
	quiet(t, m)
	require.Zero(t, g.leased("bud_x"), "an idle lease goes back")
	require.Equal(t, int64(120_000), g.spent("bud_x"))
}

func TestStreamKeepsItsLease(t *testing.T) {
	t.Parallel()
	h := newHand()
	g := newGrantor(h, map[string]int64{"bud_x": 1000})
	o := h.options()
	o.Grantor = g
	m := New(o)
	s := &Subject{Budgets: []*Budget{m.Budget("bud_x", "tenant", "t", Tokens)}}
	var k Ticket
	require.NoError(t, m.Admit(context.Background(), &k, m.Now(), s, Ask{Tokens: 400}))
	for range 300 { // five minutes
		h.add(time.Second)
		m.Tick(context.Background())
		quiet(t, m)
	}
	for _, l := range g.asks {
		require.Greater(t, l.until, h.now(), "renewed while the stream runs")
	}
	require.NoError(t, k.Extend(Ask{Tokens: 900}))
	m.Tick(context.Background())
	quiet(t, m)
	require.NoError(t, k.Extend(Ask{Tokens: 1000}))
	m.Tick(context.Background())
	quiet(t, m)
	require.NoError(t, k.Extend(Ask{Tokens: 1000}))
	h.add(2 * time.Second)
	_ = k.Extend(Ask{Tokens: 1100}) // charged beyond the end: the grantor is asked
	m.Tick(context.Background())
	quiet(t, m)
	require.Equal(t, BudgetSpent, reasonOf(k.Extend(Ask{Tokens: 1200})))
	k.Settle(Ask{Tokens: 1200})
	drain(t, m)
	require.Equal(t, int64(1000), g.spent("bud_x"))
}

func TestGrantorAway(t *testing.T) {
	t.Parallel()
	h := newHand()
	g := newGrantor(h, map[string]int64{"bud_x": 1000, "wal_p": 0})
	g.free["wal_p"] = true
	o := h.options()
	o.Grantor = g
	m := New(o)
	x := &Subject{Budgets: []*Budget{m.Budget("bud_x", "tenant", "t", Tokens)}}
	p := &Subject{Budgets: []*Budget{m.Budget("wal_p", "wallet", "t", Money)}}
	var k Ticket
	ctx := context.Background()
	x.Budgets[0].to.rate = 20 // a lease of 200
	require.NoError(t, m.Admit(ctx, &k, m.Now(), x, Ask{Tokens: 50}))
	k.Settle(Ask{Tokens: 50})
	require.NoError(t, m.Admit(ctx, &k, m.Now(), p, Ask{MoneyPico: 1 << 50}))
	k.Settle(Ask{MoneyPico: 1 << 50})
	g.set(true, false)
	for range 3 { // the lease in hand is spent
		require.NoError(t, m.Admit(ctx, &k, m.Now(), x, Ask{Tokens: 50}))
		k.Settle(Ask{Tokens: 50})
	}
	require.Equal(t, QuotaUnknown, reasonOf(m.Admit(ctx, &k, m.Now(), x, Ask{Tokens: 50})))
	calls := g.calls
	require.Equal(t, QuotaUnknown, reasonOf(m.Admit(ctx, &k, m.Now(), x, Ask{Tokens: 50})))
	require.Equal(t, calls, g.calls, "not asked for every call")
	for range 14 * 60 { // who pays later goes on
		h.add(time.Second)
		m.Tick(ctx)
		quiet(t, m)
		require.NoError(t, m.Admit(ctx, &k, m.Now(), p, Ask{MoneyPico: 1}))
		k.Settle(Ask{MoneyPico: 1})
	}
	h.add(2 * time.Minute)
	require.Equal(t, QuotaUnknown, reasonOf(m.Admit(ctx, &k, m.Now(), p, Ask{MoneyPico: 1})))
	g.set(false, false)
	h.add(2 * time.Second)
	require.NoError(t, m.Admit(ctx, &k, m.Now(), x, Ask{Tokens: 50}))
	k.Settle(Ask{Tokens: 50})
	require.NoError(t, m.Admit(ctx, &k, m.Now(), p, Ask{MoneyPico: 1}))
	k.Settle(Ask{MoneyPico: 1})
}

func TestPeriodEnds(t *testing.T) {
	t.Parallel()
	h := newHand()
	g := newGrantor(h, map[string]int64{"bud_x": 100})
	g.end = h.wall().Add(30 * time.Second)
	o := h.options()
	o.Grantor = g
	m := New(o)
	s := &Subject{Budgets: []*Budget{m.Budget("bud_x", "tenant", "t", Tokens)}}
	var k, long Ticket
	ctx := context.Background()
	require.NoError(t, m.Admit(ctx, &long, m.Now(), s, Ask{Tokens: 60}))
	require.NoError(t, m.Admit(ctx, &k, m.Now(), s, Ask{Tokens: 40}))
	k.Settle(Ask{Tokens: 40})
	err := m.Admit(ctx, &k, m.Now(), s, Ask{Tokens: 1})
	require.Equal(t, BudgetSpent, reasonOf(err))
	var r *Refusal
	require.ErrorAs(t, err, &r)
	require.InDelta(t, 30, r.Wait.Seconds(), 1)
	h.add(31 * time.Second)
	g.mu.Lock()
	g.end, g.have["bud_x"] = h.wall().Add(time.Hour), 100
	g.mu.Unlock()
	require.NoError(t, m.Admit(ctx, &k, m.Now(), s, Ask{Tokens: 100}), "a new period")
	long.Settle(Ask{Tokens: 10}) // belongs to the old one: frees nothing in the new
	var more Ticket
	require.Equal(t, BudgetSpent, reasonOf(m.Admit(ctx, &more, m.Now(), s, Ask{Tokens: 1})))
	k.Settle(Ask{Tokens: 100})
	drain(t, m)
	require.Zero(t, g.leased("bud_x"))
}

func TestPostpaidBecomesPrepaid(t *testing.T) {
	t.Parallel()
	h := newHand()
	g := newGrantor(h, map[string]int64{"wal_p": 10})
	g.free["wal_p"] = true
	o := h.options()
	o.Grantor = g
	m := New(o)
	s := &Subject{Budgets: []*Budget{m.Budget("wal_p", "wallet", "t", Money)}}
	var k Ticket
	ctx := context.Background()
	require.NoError(t, m.Admit(ctx, &k, m.Now(), s, Ask{MoneyPico: 1 << 50}))
	k.Settle(Ask{MoneyPico: 1 << 50})
	g.mu.Lock()
	g.free["wal_p"] = false
	g.mu.Unlock()
	for range 30 { // noticed when the lease is renewed
		h.add(time.Second)
		m.Tick(ctx)
		quiet(t, m)
		if err := m.Admit(ctx, &k, m.Now(), s, Ask{}); err == nil {
			k.Settle(Ask{})
		}
	}
	require.Equal(t, BalanceSpent, reasonOf(m.Admit(ctx, &k, m.Now(), s, Ask{MoneyPico: 11 * PicoPerMicro})))
	require.NoError(t, m.Admit(ctx, &k, m.Now(), s, Ask{MoneyPico: 10 * PicoPerMicro}))
	k.Settle(Ask{MoneyPico: 10 * PicoPerMicro})
	drain(t, m)
	require.Equal(t, int64(10), g.spent("wal_p"))
}
