package meter

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// How leases are kept.
const (
	leaseCall    = 5 * time.Second        // patience with the grantor
	leaseUse     = LeaseLife * 3 / 4      // a lease is used for this long without news
	leaseRenew   = LeaseLife / 3          // and renewed from here on
	leaseIdle    = 5 * time.Second        // unused for this long it is returned
	refuseKeep   = time.Second            // a refusal is remembered
	tick         = 100 * time.Millisecond // renewals go together
	postpaidMost = 15 * time.Minute       // who pays later goes on for this long while the grantor is away
)

var errGrants = errors.New("the grantor answered other asks than it was sent")

// lease sends asks and takes the answers in. It ends every flight in them.
func (m *Meter) lease(ctx context.Context, asks []request) {
	ctx, cancel := context.WithTimeout(ctx, leaseCall)
	defer cancel()
	sent := m.Now()
	list := make([]LeaseAsk, len(asks))
	for i := range asks {
		list[i] = asks[i].ask
	}
	start := time.Now()
	grants, err := m.grantor.Lease(ctx, list)
	m.metrics.wait.Observe(time.Since(start).Seconds())
	if err == nil && len(grants) != len(asks) {
		err = errGrants
	}
	m.told(err)
	for i, q := range asks {
		q.t.mu.Lock()
		switch {
		case err != nil:
			q.t.failed(q)
		default:
			q.t.granted(q, grants[i], sent, m.Now())
		}
		if q.f != nil {
			q.f.err = err
			if q.t.flight == q.f {
				q.t.flight = nil
			}
			close(q.f.done)
		}
		q.t.mu.Unlock()
		q.t.due.Store(false)
	}
}

// failed: who has no limit goes on for a while although the grantor is away. The caller holds mu.
func (t *target) failed(q request) {
	if q.f != nil {
		t.lost = &q.ask
	}
	p := t.pool.Load()
	if p == nil || !p.unlimited || len(p.leases) == 0 {
		return
	}
	if last := p.leases[len(p.leases)-1]; last.ask.ID == q.ask.ID {
		p.until.Store(last.sent + int64(postpaidMost))
	}
}

// granted takes one answer in. The caller holds mu.
func (t *target) granted(q request, g Grant, sent, now int64) {
	p := t.pool.Load()
	if q.f == nil { // a renewal; its pool may have been retired meanwhile, and then its lease is on the way back
		if p == nil {
			return
		}
		i := slices.IndexFunc(p.leases, func(l lease) bool { return l.ask.ID == q.ask.ID })
		if i < 0 || t.renewed(p, i, g, sent) {
			return
		}
		p = nil
	}
	t.lost, t.left = nil, g.Left
	if g.Unlimited {
		t.left = -1
	}
	if g.LeaseID == "" && q.repeat && !g.Unlimited {
		return // closed since, or not enough then: whoever waits asks anew
	}
	if !g.Unlimited && (g.LeaseID == "" || g.Amount <= 0) {
		t.refuse = refused{q.ask.Need, now + int64(refuseKeep), t.m.mono(g.PeriodEnd)}
		if p != nil {
			p.dry.Store(true)
		}
		t.m.metrics.refused.Inc()
		return
	}
	t.m.metrics.granted.Inc()
	t.refuse = refused{}
	end := t.m.mono(g.PeriodEnd)
	l := lease{q.ask, g.LeaseID, g.Amount, sent}
	if g.Unlimited {
		l.amount = 0
	}
	if p == nil || now >= p.until.Load() || p.unlimited != g.Unlimited || p.left.Load() < poolClosed/2 || end != p.periodEnd && abs(end-p.periodEnd) > int64(time.Second) {
		t.retire(p)
		p = &pool{t: t, periodEnd: end, unlimited: g.Unlimited}
		p.used.Store(now)
		p.extendLife(l, sent)
		p.leases = []lease{l}
		p.left.Store(t.fine(l.amount))
		p.low.Store(t.fine(l.amount) / 2)
		t.pool.Store(p)
		return
	}
	p.leases = append(p.leases, l)
	p.low.Store((max(p.left.Load(), 0) + t.fine(l.amount)) / 2)
	p.dry.Store(false)
	p.left.Add(t.fine(l.amount))
	p.extendLife(l, sent)
}

func abs(n int64) int64 { return max(n, -n) }

// extendLife lets the pool live as long as its oldest lease.
func (p *pool) extendLife(l lease, sent int64) {
	until := sent + int64(leaseUse)
	for _, o := range p.leases {
		if o.ask.ID != l.ask.ID {
			until = min(until, o.sent+int64(leaseUse))
		}
	}
	if p.periodEnd > 0 {
		until = min(until, p.periodEnd)
	}
	p.until.Store(until)
}

// renewed takes the answer to a repeated ask: the lease lives on, or the grantor has closed it meanwhile, or a wallet without limits got one; then false, and the answer is a new lease. The caller holds mu.
func (t *target) renewed(p *pool, i int, g Grant, sent int64) bool {
	if p.unlimited && !g.Unlimited {
		t.retire(p)
		return false
	}
	if g.LeaseID != p.leases[i].id || g.Unlimited != p.unlimited {
		t.retire(p)
		t.m.metrics.lost.Inc()
		return true
	}
	p.leases[i].sent = sent
	p.extendLife(p.leases[i], sent)
	return true
}

// retire closes a pool: nothing is reserved in it any more; its leases are returned once the last call in it has ended. The caller holds mu.
func (t *target) retire(p *pool) {
	if p == nil {
		return
	}
	t.pool.CompareAndSwap(p, nil)
	if p.left.Load() > poolClosed/2 {
		p.left.Add(poolClosed)
		t.m.retiring.put(p)
	}
}

// unused is what a closed pool without holders gives back, coarse and per lease: newest first, for the oldest were used first.
func (p *pool) unused() []LeaseReturn {
	left := max(p.left.Load()-poolClosed, 0)
	if p.t.money {
		left /= PicoPerMicro
	}
	out := make([]LeaseReturn, 0, len(p.leases))
	if p.unlimited {
		return nil
	}
	for _, l := range slices.Backward(p.leases) {
		u := min(left, l.amount)
		left -= u
		out = append(out, LeaseReturn{l.id, l.amount - u, u})
	}
	return out
}

// Run renews and returns leases and keeps shared counters, until ctx ends; then it returns what is left. Stop the calls first.
func (m *Meter) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseCall)
			defer cancel()
			m.returnAll(end)
			m.leaveShared(end)
			return nil
		case <-t.C:
		}
		m.Tick(ctx)
	}
}

// Tick does what Run does every 100 ms: for tests with a clock of their own.
func (m *Meter) Tick(ctx context.Context) {
	now := m.Now()
	m.renewDue(ctx, now)
	m.returnRetired(ctx)
	m.tickShared(ctx, now)
}

// renewDue sends one call for all targets that want more and, once a second, all leases that grow old; and retires the pools that nobody uses.
func (m *Meter) renewDue(ctx context.Context, now int64) {
	if !m.leasing.CompareAndSwap(false, true) {
		return // the last call still runs
	}
	second := now-m.looked >= int64(time.Second)
	list := m.takeDue()
	if second {
		m.looked = now
		m.mu.RLock()
		list = m.list
		m.mu.RUnlock()
	}
	var asks []request
	for _, t := range list {
		t.mu.Lock()
		t.look(now, second, &asks)
		t.mu.Unlock()
	}
	if len(asks) == 0 {
		m.leasing.Store(false)
		return
	}
	go func() {
		defer m.leasing.Store(false)
		m.lease(context.WithoutCancel(ctx), asks)
	}()
}

// look decides what a target needs now. The caller holds mu.
func (t *target) look(now int64, second bool, asks *[]request) {
	if second {
		t.rate = (3*t.rate + t.taken.Swap(0)) / 4
	}
	p := t.pool.Load()
	switch {
	case p == nil:
		t.due.Store(false)
		return
	case p.periodEnd > 0 && now >= p.periodEnd:
		t.retire(p)
		return
	case now-p.used.Load() > int64(leaseIdle) && p.holders.Load() == 0 && !p.unlimited,
		now-p.used.Load() > int64(LeaseLife) && p.holders.Load() == 0:
		t.retire(p)
		return
	}
	for _, l := range p.leases {
		if now-l.sent > int64(leaseRenew) {
			*asks = append(*asks, request{t: t, ask: l.ask})
		}
	}
	if t.due.Load() && t.flight == nil {
		if p.left.Load() >= p.low.Load() || now < t.refuse.until {
			t.due.Store(false)
			return
		}
		t.flight = &flight{done: make(chan struct{}), need: t.need(0)}
		*asks = append(*asks, t.request(t.flight.need))
	}
}

// returnRetired gives back what closed pools hold, once their last call has ended or their leases are lost anyway.
func (m *Meter) returnRetired(ctx context.Context) {
	ready := m.retiring.take(func(p *pool) bool { return p.holders.Load() == 0 })
	if len(ready) == 0 {
		return
	}
	if !m.returning.CompareAndSwap(false, true) {
		for _, p := range ready {
			m.retiring.put(p)
		}
		return
	}
	go func() {
		defer m.returning.Store(false)
		m.sendReturns(context.WithoutCancel(ctx), ready)
	}()
}

func (m *Meter) sendReturns(ctx context.Context, pools []*pool) {
	var list []LeaseReturn
	for _, p := range pools {
		p.t.mu.Lock()
		list = append(list, p.unused()...)
		p.t.mu.Unlock()
	}
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaseCall)
	defer cancel()
	if err := m.grantor.Return(ctx, list); err != nil { // tried again: until then the grantor holds the amounts, and at last takes them for lost
		for _, p := range pools {
			m.retiring.put(p)
		}
		m.told(err)
		return
	}
	m.metrics.returned.Add(float64(len(list)))
}

// returnAll retires everything and gives it back.
func (m *Meter) returnAll(ctx context.Context) {
	m.mu.RLock()
	all := m.list
	m.mu.RUnlock()
	for _, t := range all {
		t.mu.Lock()
		t.retire(t.pool.Load())
		t.mu.Unlock()
	}
	if ready := m.retiring.take(func(p *pool) bool { return p.holders.Load() == 0 }); len(ready) > 0 {
		m.sendReturns(ctx, ready)
	}
}

// pools is a list of closed pools.
type pools struct {
	mu   sync.Mutex
	list []*pool
}

func (l *pools) put(p *pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, p)
}

// take removes and returns those that are ready.
func (l *pools) take(ready func(*pool) bool) []*pool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*pool
	keep := l.list[:0]
	for _, p := range l.list {
		if ready(p) {
			out = append(out, p)
		} else {
			keep = append(keep, p)
		}
	}
	clear(l.list[len(keep):])
	l.list = keep
	return out
}
