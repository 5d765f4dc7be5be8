package meter

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"maas/internal/platform/cache"
)

// How counters are shared.
const (
	blockLife  = 2 * time.Second // permits in hand are void after it
	blockShare = 4               // a node takes at most a quarter of its part of a limit in advance
	slotLife   = 5 * time.Second // slots of a node that says nothing are free after it
	slotUse    = 4 * time.Second // and the node does not count on them for quite as long
	slotBeat   = 1500 * time.Millisecond
	rateGrace  = 60 * time.Second       // limits are shared out among the nodes for this long while Redis is away
	noRepeat   = 100 * time.Millisecond // after a refusal
	streakGap  = 250 * time.Millisecond
	streakMost = 64
	sharedMost = 100_000_000 // larger limits are not shared: they are nearly none
)

// remote is the part of a shared limit that this node has in hand. Permits are taken from Redis before they are used, so the sum over all nodes never passes the limit.
type remote struct {
	key    string
	bucket atomic.Pointer[Bucket] // as it is now
	left   atomic.Int64           // permits in hand; below zero when calls consumed more than they had asked for
	until  atomic.Int64           // they hold until then
	low    atomic.Int64           // more are fetched below it
	global atomic.Int64           // what Redis had left when asked last
	have   atomic.Int64           // slots in hand
	taken  atomic.Int64           // since the last look
	due    atomic.Bool

	mu     sync.Mutex // one question at a time; guards the rest
	rate   int64      // per second, smoothed
	refuse refused
	wait   int64 // of that refusal: until
	asked  int64 // last time that a call had to wait for Redis
	streak int64 // how much such a call took along: doubles while they come close together
}

// shared is the state of sharing in a Meter.
type shared struct {
	cache   cache.Cache // nil: every limit holds in this process alone
	closed  bool        // refuse when Redis was away for longer than the grace
	away    atomic.Int64
	since   atomic.Int64 // away since
	list    []*remote    // guarded by Meter.mu; replaced, never changed
	dueMu   sync.Mutex
	due     []*remote
	asking  atomic.Bool
	looked  int64 // of Tick
	beaten  int64
	pending sync.WaitGroup
}

// remoteOf makes the shared part of a counter. The caller holds Meter.mu.
func (m *Meter) remoteOf(key string, w *counter) {
	w.remote = &remote{key: "limit:{" + key + "}"}
	m.shared.list = append(slices.Clip(m.shared.list), w.remote)
}

// units is the burst as Redis counts it.
func (b *Bucket) units() int64 {
	switch {
	case b.Burst > 0:
		return min(b.Burst, sharedMost)
	case b.Unit == Tokens:
		return b.Limit.Limit
	}
	return max(b.Limit.Limit/6, 1)
}

// grab takes n of the permits in hand.
func (r *remote) grab(now, n int64) bool {
	if now >= r.until.Load() {
		return false
	}
	for {
		l := r.left.Load()
		if l < n {
			return false
		}
		if r.left.CompareAndSwap(l, l-n) {
			return true
		}
	}
}

// block is how much to take at once: a quarter of a second of use. The caller holds mu.
func (m *Meter) block(b *Bucket, r *remote) int64 {
	if b.Limit.Limit < 60 {
		return 0
	}
	return min(r.rate/4, b.Limit.Limit/(blockShare*m.nodes.Load()))
}

// ahead bounds what a call takes along for those that follow.
func (m *Meter) ahead(b *Bucket, n int64) int64 {
	if b.Limit.Limit < 60 {
		return 0
	}
	return min(n, b.Limit.Limit/(16*m.nodes.Load()))
}

func (r *remote) ask(b *Bucket, need, want int64) cache.Take {
	return cache.Take{Key: r.key, Limit: b.Limit.Limit, Burst: b.units(), Need: min(need, sharedMost), Want: min(max(need, want), sharedMost)}
}

// takeShared charges a shared limit: from the permits in hand, else by asking Redis for more.
func (m *Meter) takeShared(ctx context.Context, b *Bucket, r *remote, now, n int64) *Refusal {
	r.taken.Add(n)
	if r.grab(now, n) {
		if r.left.Load() < r.low.Load() {
			m.fetch(r)
		}
		return nil
	}
	if now < m.shared.away.Load() {
		return m.takeAlone(b, now, n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now = m.Now()
	if r.grab(now, n) {
		return nil
	}
	if now < r.refuse.until && n >= r.refuse.need {
		return limited(b, r.wait-now)
	}
	if now < m.shared.away.Load() {
		return m.takeAlone(b, now, n)
	}
	if l := r.left.Load(); l > 0 && now >= r.until.Load() { // permits that nobody used are void
		r.left.CompareAndSwap(l, 0)
	}
	if r.streak = min(2*r.streak, streakMost); r.streak == 0 || now-r.asked > int64(streakGap) {
		r.streak = 1
	}
	r.asked = now
	need := n + max(-r.left.Load(), 0)
	g, err := m.askCache(context.WithoutCancel(ctx), []cache.Take{r.ask(b, need, max(m.block(b, r), n*m.ahead(b, r.streak)))})
	if err != nil {
		return m.takeAlone(b, now, n)
	}
	r.global.Store(g[0].Left)
	if g[0].Amount == 0 {
		r.wait = now + max(int64(g[0].Wait), 1)
		r.refuse = refused{need: n, until: now + min(int64(g[0].Wait), int64(noRepeat))}
		return limited(b, int64(g[0].Wait))
	}
	r.refuse = refused{}
	r.left.Add(g[0].Amount - n)
	r.until.Store(now + int64(blockLife))
	r.low.Store((g[0].Amount - need) / 2)
	return nil
}

func limited(b *Bucket, wait int64) *Refusal {
	return &Refusal{Reason: RateLimited, Kind: b.Kind, ID: b.ID, Unit: b.Unit, Limit: b.Limit.Limit, Wait: time.Duration(max(wait, 1))}
}

// takeAlone charges this node's share of a limit while Redis is away.
func (m *Meter) takeAlone(b *Bucket, now, n int64) *Refusal {
	if m.shared.closed && now-m.shared.since.Load() > int64(rateGrace) {
		return &Refusal{Reason: LimitsUnknown, Kind: b.Kind, ID: b.ID, Unit: b.Unit, Wait: time.Second}
	}
	l, nodes := b.Limit, m.nodes.Load()
	l.Limit, l.Burst = max(l.Limit/nodes, 1), max(b.units()/nodes, 1)
	if wait := newBucket(l, b.word).take(now, n); wait > 0 {
		return limited(b, wait)
	}
	return nil
}

// enterShared takes a slot of a shared limit.
func (m *Meter) enterShared(ctx context.Context, b *Bucket, r *remote, now int64) bool {
	if r.slot(b.word, now) {
		return true
	}
	if now < m.shared.away.Load() {
		return m.enterAlone(b)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now = m.Now()
	if r.slot(b.word, now) {
		return true
	}
	if now < r.refuse.until || b.Limit.Limit <= 0 {
		return false
	}
	used := b.word.used.Load()
	g, err := m.askCache(context.WithoutCancel(ctx), []cache.Take{m.hold(b, r, used+1, used+1+used/4)})
	if err != nil {
		return m.enterAlone(b)
	}
	r.have.Store(g[0].Amount)
	r.until.Store(now + int64(slotUse))
	if r.slot(b.word, now) {
		return true
	}
	r.refuse = refused{until: now + int64(noRepeat)/5}
	return false
}

// slot takes one of the slots in hand.
func (r *remote) slot(w *counter, now int64) bool {
	if now >= r.until.Load() {
		return false
	}
	for {
		u := w.used.Load()
		if u >= r.have.Load() {
			return false
		}
		if w.used.CompareAndSwap(u, u+1) {
			return true
		}
	}
}

func (m *Meter) hold(b *Bucket, r *remote, need, want int64) cache.Take {
	return cache.Take{Key: r.key, Limit: b.Limit.Limit, Need: need, Want: max(need, min(want, need+max(b.Limit.Limit/(blockShare*m.nodes.Load()), 0))), Holder: m.node + "." + m.salt, TTL: slotLife}
}

// enterAlone takes a slot of this node's share while Redis is away.
func (m *Meter) enterAlone(b *Bucket) bool {
	most := max(b.Limit.Limit/m.nodes.Load(), 1)
	if b.Limit.Limit <= 0 || m.shared.closed && m.Now()-m.shared.since.Load() > int64(rateGrace) {
		return false
	}
	if b.word.used.Add(1) > most {
		b.word.used.Add(-1)
		return false
	}
	return true
}

// askCache asks Redis and notes whether it answers.
func (m *Meter) askCache(ctx context.Context, asks []cache.Take) ([]cache.Grant, error) {
	g, err := m.shared.cache.Take(ctx, asks)
	m.metrics.cacheCalls.Inc()
	if err != nil {
		now := m.Now()
		if m.shared.away.Swap(now+int64(time.Second)) == 0 {
			m.shared.since.Store(now)
			m.metrics.cacheAway.Set(1)
			m.log.Warn("shared limits cannot be counted; this process applies its share of each", "error", err)
		}
		return nil, err
	}
	if m.shared.away.Swap(0) != 0 {
		m.metrics.cacheAway.Set(0)
		m.log.Info("shared limits are counted again")
	}
	return g, nil
}

// fetch marks a limit whose permits in hand run low.
func (m *Meter) fetch(r *remote) {
	if r.due.Load() || !r.due.CompareAndSwap(false, true) {
		return
	}
	m.shared.dueMu.Lock()
	defer m.shared.dueMu.Unlock()
	m.shared.due = append(m.shared.due, r)
}

// errand is one ask of a tick.
type errand struct {
	r    *remote
	slot bool
}

// tickShared fetches permits that run low and keeps slots, in one call.
func (m *Meter) tickShared(ctx context.Context, now int64) {
	s := &m.shared
	if s.cache == nil || !s.asking.CompareAndSwap(false, true) {
		return
	}
	s.dueMu.Lock()
	due := s.due
	s.due = nil
	s.dueMu.Unlock()
	second, beat := now-s.looked >= int64(time.Second), now-s.beaten >= int64(slotBeat)
	var all []*remote
	if second || beat {
		m.mu.RLock()
		all = s.list
		m.mu.RUnlock()
	}
	var asks []cache.Take
	var errands []errand
	for _, r := range due {
		r.due.Store(false)
		b := r.bucket.Load()
		r.mu.Lock()
		n := m.block(b, r)
		r.mu.Unlock()
		if n > 0 && now >= s.away.Load() {
			asks, errands = append(asks, r.ask(b, 1, n)), append(errands, errand{r, false})
		}
	}
	for _, r := range all {
		b := r.bucket.Load()
		switch {
		case b.Unit == Concurrent && beat && r.have.Load() > 0:
			used := b.word.used.Load()
			asks, errands = append(asks, m.hold(b, r, used, used+used/4)), append(errands, errand{r, true})
		case b.Unit != Concurrent && second:
			r.mu.Lock()
			r.rate = (r.rate + r.taken.Swap(0)) / 2
			r.mu.Unlock()
		}
	}
	if second {
		s.looked = now
	}
	if beat {
		s.beaten = now
	}
	if len(asks) == 0 {
		s.asking.Store(false)
		return
	}
	s.pending.Go(func() {
		defer s.asking.Store(false)
		m.runErrands(context.WithoutCancel(ctx), now, asks, errands)
	})
}

func (m *Meter) runErrands(ctx context.Context, now int64, asks []cache.Take, errands []errand) {
	grants, err := m.askCache(ctx, asks)
	if err != nil {
		return
	}
	for i, e := range errands {
		e.r.global.Store(grants[i].Left)
		if e.slot {
			e.r.have.Store(grants[i].Amount)
			e.r.until.Store(now + int64(slotUse))
			continue
		}
		if grants[i].Amount > 0 {
			e.r.left.Add(grants[i].Amount)
			e.r.until.Store(now + int64(blockLife))
			e.r.low.Store(grants[i].Amount / 2)
		}
	}
}

// leaveShared lets go of all slots.
func (m *Meter) leaveShared(ctx context.Context) {
	if m.shared.cache == nil {
		return
	}
	m.shared.pending.Wait()
	m.mu.RLock()
	all := m.shared.list
	m.mu.RUnlock()
	var asks []cache.Take
	for _, r := range all {
		if b := r.bucket.Load(); b.Unit == Concurrent && r.have.Load() > 0 {
			asks = append(asks, cache.Take{Key: r.key, Limit: b.Limit.Limit, Holder: m.node + "." + m.salt, TTL: slotLife})
		}
	}
	if len(asks) > 0 {
		_, _ = m.shared.cache.Take(ctx, asks) // they run out by themselves
	}
}
