package meter

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Budget is a wallet or a budget that calls reserve in: hard ones only, soft ones never refuse. Make it with Meter.Budget.
type Budget struct {
	Target   string // wal_.. or bud_..
	Kind, ID string // of the subject; Kind "wallet" for wallets
	Unit     Unit
	to       *target
}

// refusal is the error of a budget that gives no more.
func (b *Budget) refusal(p *pool) *Refusal {
	r := &Refusal{Reason: BudgetSpent, Kind: b.Kind, ID: b.ID, Unit: b.Unit}
	if b.Kind == "wallet" {
		r.Reason = BalanceSpent
	}
	if p != nil && p.periodEnd > 0 {
		r.Wait = time.Duration(max(p.periodEnd-p.t.m.Now(), 0))
	}
	return r
}

// fineMost bounds what one lease holds, so that sums stay far from the edge of an int64: 144,000 units of a currency.
const fineMost = 1 << 57

// fine turns an amount of the grantor's unit into the unit of reservations; coarse the other way, rounded up.
func (t *target) fine(n int64) int64 {
	if t.money {
		return min(n, fineMost/PicoPerMicro) * PicoPerMicro
	}
	return min(n, fineMost)
}

func (t *target) coarse(n int64) int64 {
	if t.money {
		return n/PicoPerMicro + min(n%PicoPerMicro, 1)
	}
	return n
}

// target is what this node knows of a wallet or budget.
type target struct {
	m     *Meter
	name  string
	money bool
	pool  atomic.Pointer[pool] // nil: nothing leased
	taken atomic.Int64         // reserved since the last look, for the size of the next lease
	due   atomic.Bool          // wants to be renewed; set once until it was

	mu     sync.Mutex // guards the rest, and the leases of its pools
	rate   int64      // use per second, smoothed; fine units
	left   int64      // what others still can get, as told last; -1 = not known
	flight *flight
	refuse refused
	lost   *LeaseAsk // its answer did not arrive: it may have taken effect, so it is repeated
}

// refused remembers that the grantor gave nothing, so that it is not asked for each call.
type refused struct {
	need  int64 // coarse; this much or more is refused
	until int64
	end   int64 // of the period, 0 = none
}

// flight is one question to the grantor that several calls may wait for.
type flight struct {
	done chan struct{}
	need int64 // coarse
	err  error
}

// pool is what a target's open leases hold on this node. granted = left + reserved + spent. It is replaced as a whole when its leases end.
type pool struct {
	t         *target
	left      atomic.Int64 // not reserved; below zero when calls consumed more than they had reserved; far below when closed
	spent     atomic.Int64 // settled
	holders   atomic.Int64 // calls that may still give back
	until     atomic.Int64 // leases hold until then
	low       atomic.Int64 // renew when less than this is left
	dry       atomic.Bool  // the grantor gives no more
	used      atomic.Int64 // time of the last reservation
	periodEnd int64        // 0 = none
	unlimited bool
	leases    []lease // guarded by t.mu
}

type lease struct {
	ask    LeaseAsk
	id     string
	amount int64 // coarse
	sent   int64 // when it was asked for or renewed
}

const poolClosed = -1 << 61

// reserve takes n if it is there.
func (p *pool) reserve(now, n int64) bool {
	p.holders.Add(1) // before left: who closes the pool looks at holders after
	if now < p.until.Load() {
		for {
			l := p.left.Load()
			if l < n && !p.unlimited || l < poolClosed/2 {
				break
			}
			if p.unlimited || p.left.CompareAndSwap(l, l-n) {
				p.touch(now, n, l-n)
				return true
			}
		}
	}
	p.holders.Add(-1)
	return false
}

// touch notes use and asks for more where little is left.
func (p *pool) touch(now, n, left int64) {
	if p.used.Load() < now-int64(time.Second) {
		p.used.Store(now)
	}
	p.t.taken.Add(n)
	if left < p.low.Load() && !p.unlimited {
		p.t.want()
	}
}

// free undoes a reservation.
func (p *pool) free(n int64) {
	if !p.unlimited {
		p.left.Add(n)
	}
	p.holders.Add(-1)
}

// settle turns a reservation into what was spent.
func (p *pool) settle(held, actual int64) {
	if !p.unlimited {
		p.left.Add(held - actual)
	}
	p.spent.Add(actual)
	p.holders.Add(-1)
}

// extend takes n more for a running call. It is charged in any case; false when there is no cover and none to be had.
func (p *pool) extend(now, n int64) bool {
	if p.unlimited {
		return true
	}
	l := p.left.Add(-n)
	p.touch(now, n, l)
	return l >= 0 || !p.dry.Load()
}

// want marks the target as due.
func (t *target) want() {
	if !t.due.Load() && t.due.CompareAndSwap(false, true) {
		t.m.addDue(t)
	}
}

// reserve passes budget i of a subject.
func (m *Meter) reserve(ctx context.Context, s *Subject, i int, now int64, a *Ask) (*pool, *Refusal) {
	b := s.Budgets[i]
	n := a.of(b.Unit)
	if p := b.to.pool.Load(); p != nil && p.reserve(now, n) {
		return p, nil
	}
	return m.reserveSlow(ctx, s, i, a)
}

// reserveSlow asks the grantor, together with all later budgets of the subject that would have to ask too.
func (m *Meter) reserveSlow(ctx context.Context, s *Subject, i int, a *Ask) (*pool, *Refusal) {
	b := s.Budgets[i]
	n := a.of(b.Unit)
	for range 32 { // others may be quicker than we are; each round had an answer of the grantor
		now := m.Now()
		if p := b.to.pool.Load(); p != nil && p.reserve(now, n) {
			return p, nil
		}
		f, r := m.ask(ctx, s, i, a, now)
		if r != nil {
			return nil, r
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, &Refusal{Reason: QuotaUnknown, Kind: b.Kind, ID: b.ID, Unit: b.Unit, Wait: time.Second}
		}
		if f.err != nil {
			return nil, &Refusal{Reason: QuotaUnknown, Kind: b.Kind, ID: b.ID, Unit: b.Unit, Wait: 2 * time.Second}
		}
	}
	return nil, &Refusal{Reason: QuotaUnknown, Kind: b.Kind, ID: b.ID, Unit: b.Unit, Wait: time.Second}
}

// ask joins or starts the flight of budget i, and starts those of later budgets that have nothing, in one call.
func (m *Meter) ask(ctx context.Context, s *Subject, i int, a *Ask, now int64) (*flight, *Refusal) {
	b := s.Budgets[i]
	if now < m.away.Load() {
		return nil, &Refusal{Reason: QuotaUnknown, Kind: b.Kind, ID: b.ID, Unit: b.Unit, Wait: 2 * time.Second}
	}
	var asks []request
	mine, r := b.to.join(now, a.of(b.Unit), &asks)
	if r {
		e := b.refusal(b.to.pool.Load())
		b.to.mu.Lock()
		if end := b.to.refuse.end; end > 0 {
			e.Wait = time.Duration(max(end-now, 0))
		}
		b.to.mu.Unlock()
		return nil, e
	}
	for _, o := range s.Budgets[i+1:] {
		if o.to.pool.Load() == nil {
			o.to.join(now, a.of(o.Unit), &asks)
		}
	}
	if len(asks) > 0 {
		go m.lease(context.WithoutCancel(ctx), asks) // the answer serves all who wait, not only us
	}
	return mine, nil
}

// request is a question about one target.
type request struct {
	t      *target
	f      *flight // nil: a renewal
	ask    LeaseAsk
	repeat bool
}

// request makes the question of the target's flight: the one whose answer was lost, else a new one. The caller holds mu.
func (t *target) request(need int64) request {
	if t.lost != nil {
		return request{t, t.flight, *t.lost, true}
	}
	return request{t, t.flight, t.newAsk(need), false}
}

// join returns the flight that will bring at least n, started now if there is none; true when the grantor refused as much a moment ago.
func (t *target) join(now, n int64, asks *[]request) (*flight, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	need := t.need(n)
	if t.refuse.until > now && need >= t.refuse.need {
		return nil, true
	}
	if t.flight != nil {
		return t.flight, false
	}
	t.flight = &flight{done: make(chan struct{}), need: need}
	*asks = append(*asks, t.request(need))
	return t.flight, false
}

// need is what has to be leased so that n can be reserved, coarse. The caller holds mu.
func (t *target) need(n int64) int64 {
	if p := t.pool.Load(); p != nil {
		if l := p.left.Load(); l > poolClosed/2 {
			n -= l
		}
	}
	return max(t.coarse(n), 1)
}

// leaseSeconds is how long a lease should last at the present use.
const leaseSeconds = 10

// newAsk sizes a lease: ten seconds of use, at most a quarter of a node's share of what is left, at least what is needed. The caller holds mu.
func (t *target) newAsk(need int64) LeaseAsk {
	want := t.coarse(min(t.rate, fineMost/leaseSeconds) * leaseSeconds)
	if t.left >= 0 {
		want = min(want, t.left/(4*t.m.nodes.Load()))
	}
	return LeaseAsk{ID: t.m.askID(), Node: t.m.node, Epoch: t.m.epoch, Target: t.name, Need: need, Want: max(want, need)}
}
