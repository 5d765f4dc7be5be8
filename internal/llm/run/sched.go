package run

import (
	"cmp"
	"runtime/debug"
	"slices"
	"time"

	"maas/internal/llm/arch"
	"maas/internal/platform/fault"
)

// loop is the state that only the engine's goroutine touches.
type loop struct {
	e        *Engine
	pool     *pool
	tenants  map[string]*tenant
	waiting  []*seq
	running  []*seq
	order    []*seq // scratch of plan
	batch    arch.Batch
	members  []*seq // of the batch, in span order
	steps    uint64
	arrivals uint64
	perTok   time.Duration // measured time of one computed token, for StepTime
	sample   func(lo, hi int)
	outs     []*seq // who owns Batch.Out rows that are sampled, parallel to outRow
	outRow   []int
	scratch  []*scratch // one for each of outs, since they are sampled side by side
	recent   rate
	stats    Stats // copied out after each step, but for Finished
}

// run is the engine's goroutine: steps while there is work, sleeps while there is none.
func (e *Engine) run() {
	defer close(e.done)
	for {
		closing := e.loop.intake()
		worked := e.loop.step()
		e.loop.publish()
		if worked {
			continue
		}
		if closing && len(e.loop.waiting)+len(e.loop.running) == 0 {
			return
		}
		<-e.wake
	}
}

// intake takes new requests and cancellations, and after an abort ends everything.
func (l *loop) intake() (closing bool) {
	e := l.e
	e.mu.Lock()
	fresh := e.inbox
	e.inbox = nil
	closing, abort := e.closing, e.abort
	e.mu.Unlock()
	for _, g := range fresh {
		l.arrive(g)
		if g.stream.cancelled.Load() { // perhaps before it was in the inbox, when nobody could find it
			e.cancels.Add(1)
		}
	}
	if abort {
		l.endAll(func(*seq) bool { return true }, FinishAbort, ErrClosed)
	} else if e.cancels.Swap(0) > 0 {
		l.endAll(func(s *seq) bool { return s.gen.stream.cancelled.Load() }, FinishAbort, nil)
	}
	return closing
}

// arrive makes the sequences of a request. Only the first waits for a slot; the others follow once it has computed the prompt they share.
func (l *loop) arrive(g *generation) {
	t := l.tenants[g.req.Tenant]
	if t == nil {
		t = &tenant{name: g.req.Tenant}
		l.tenants[t.name] = t
	}
	if t.active == 0 {
		t.served = max(t.served, l.leastServed())
	}
	g.tenant = t
	r := &g.req
	for i := range r.N {
		room := l.e.ctx
		if r.MaxTokens > 0 {
			room = min(room, len(r.Prompt)+r.MaxTokens)
		}
		l.arrivals++
		s := &seq{gen: g, choice: i, order: l.arrivals, limit: room, text: l.e.tok.Stream(), sampler: newSampler(r, g.stream.Seed, i, l.e.end)}
		s.tokens = slices.Grow(slices.Clone(r.Prompt), min(room-len(r.Prompt), 512))
		s.text.KeepSpecial = r.KeepSpecial
		for _, stop := range r.Stop {
			s.stop.stops = append(s.stop.stops, []byte(stop))
		}
		t.active++
		g.live++
		if i == 0 {
			l.waiting = append(l.waiting, s)
		} else {
			g.held = append(g.held, s)
		}
	}
}

func (l *loop) leastServed() float64 {
	least, any := 0.0, false
	for _, t := range l.tenants {
		if t.active > 0 && (!any || t.served < least) {
			least, any = t.served, true
		}
	}
	return least
}

// endAll ends every sequence for which f holds, wherever it is.
func (l *loop) endAll(f func(*seq) bool, why Finish, err error) {
	for _, s := range slices.Clone(l.running) {
		if f(s) {
			l.finish(s, why, "", err)
		}
	}
	for _, s := range slices.Clone(l.waiting) {
		if f(s) {
			l.finish(s, why, "", err)
		}
	}
}

// step admits, plans, computes and samples once. It returns false if there was nothing to compute.
func (l *loop) step() bool {
	l.steps++
	for _, s := range l.members {
		s.inBatch = false
	}
	l.batch.Reset()
	l.members = l.members[:0]
	l.admit()
	l.plan()
	if len(l.members) == 0 {
		return false
	}
	start := l.e.o.Now()
	if err := l.compute(); err != nil {
		for _, s := range slices.Clone(l.members) {
			l.fail(s, err)
		}
		return true
	}
	took := l.e.o.Now().Sub(start)
	n := len(l.batch.Tokens)
	if per := took / time.Duration(n); n >= 16 {
		l.perTok = (3*l.perTok + per) / 4
	}
	l.stats.LastStepTokens, l.stats.LastStepMicros = n, took.Microseconds()
	l.settle()
	return true
}

// compute runs the forward pass and the samplers. A panic in it, a bug of ours, becomes an error of the requests in the batch: the engine and everybody else's request go on.
func (l *loop) compute() (err error) {
	defer func() {
		if c := recover(); c != nil {
			if l.e.o.Report != nil {
				l.e.o.Report(c, debug.Stack())
			}
			err = fault.From(ErrFailed.With("step %d: %v", l.steps, c))
		}
	}()
	l.e.forward(&l.batch)
	l.collect()
	l.e.o.Pool.For(len(l.outs), 1, l.sample)
	return nil
}

// fail ends a whole request whose step went wrong, with all its choices.
func (l *loop) fail(s *seq, err error) {
	g := s.gen
	l.endAll(func(o *seq) bool { return o.gen == g }, FinishError, err)
}

// admit moves waiting sequences into free slots, in the order class, tenant served least, arrival. The first that does not fit stops it, so that no large request is passed for ever.
func (l *loop) admit() {
	for len(l.waiting) > 0 {
		at := l.nextWaiting()
		s := l.waiting[at]
		if len(l.running) >= l.e.o.MaxSeqs {
			if !l.displace(s) {
				return
			}
			continue
		}
		l.attach(s)
		if need := pagesFor(len(s.tokens)+1) - len(s.pages); need > l.pool.available()-l.owed() {
			l.detach(s)
			if !l.displace(s) {
				return
			}
			continue
		}
		l.waiting = slices.Delete(l.waiting, at, at+1)
		l.running = append(l.running, s)
		s.gen.tenant.running++
		if s.started.IsZero() {
			s.started = l.e.o.Now()
			s.timing.Queued = s.started.Sub(s.gen.came)
			if s.choice == 0 {
				s.gen.stream.begin(0, s.timing.Queued)
			}
		}
		l.stats.PrefixQueries += int64(len(s.tokens))
		l.hit(s, s.done)
	}
}

func (l *loop) nextWaiting() int {
	best := 0
	for i, s := range l.waiting {
		b := l.waiting[best]
		c := cmp.Compare(s.gen.req.Class, b.gen.req.Class)
		if c == 0 && s.gen.tenant != b.gen.tenant {
			c = cmp.Compare(s.gen.tenant.load(), b.gen.tenant.load())
		}
		if c == 0 {
			c = cmp.Compare(s.order, b.order)
		}
		if c < 0 {
			best = i
		}
	}
	return best
}

// owed is how many pages running sequences still need for tokens they have.
func (l *loop) owed() int {
	n := 0
	for _, s := range l.running {
		n += max(0, pagesFor(len(s.tokens)+1)-len(s.pages))
	}
	return n
}

// displace makes room for an interactive sequence by sending a batch one back to wait.
func (l *loop) displace(s *seq) bool {
	if s.gen.req.Class != Interactive {
		return false
	}
	v := l.victim(s)
	if v == nil || v.gen.req.Class == Interactive {
		return false
	}
	l.preempt(v)
	return true
}

// victim returns the youngest running sequence of the lowest class, other than not and those already in the batch.
func (l *loop) victim(not *seq) *seq {
	var v *seq
	for _, s := range l.running {
		if s != not && !s.inBatch && (v == nil || before(v, s) < 0) {
			v = s
		}
	}
	return v
}

// preempt takes the pages of a running sequence and lets it wait; its tokens stay, and what it had computed may be found again in the prefix tree.
func (l *loop) preempt(s *seq) {
	l.leave(s)
	l.detach(s)
	s.again = true
	l.waiting = append(l.waiting, s)
	l.stats.Preemptions++
}

func (l *loop) leave(s *seq) {
	if i := slices.Index(l.running, s); i >= 0 {
		l.running = slices.Delete(l.running, i, i+1)
		s.gen.tenant.running--
	}
}

// attach gives a sequence its root and the pages of the prefix tree that hold its first tokens.
func (l *loop) attach(s *seq) {
	s.leaf, s.alone = l.pool.root(s.gen.req.Salt), false
	s.pages, s.shared, s.done = s.pages[:0], 0, 0
	l.adopt(s)
}

// adopt takes over following pages from the tree while the sequence stands at a page's border. One position always remains to be computed: its logits are needed.
func (l *loop) adopt(s *seq) {
	if s.alone || s.wantsPrompt() {
		return
	}
	for s.done == s.shared*pageTokens && len(s.pages) == s.shared && s.pending() > pageTokens {
		n := l.pool.child(s.leaf, s.tokens[s.done:s.done+pageTokens])
		if n == nil {
			return
		}
		s.leaf, s.pages = n, append(s.pages, n.page)
		s.shared++
		s.done += pageTokens
	}
}

// detach gives all pages back: tree nodes stay as cached prefixes, the others are free.
func (l *loop) detach(s *seq) {
	for _, p := range s.pages[s.shared:] {
		l.pool.give(p)
	}
	for n := s.leaf; n != nil; {
		up := n.parent
		l.pool.release(n)
		n = up
	}
	s.leaf, s.pages, s.shared, s.done = nil, s.pages[:0], 0, 0
}

// plan fills the batch: every decoding sequence, then chunks of prompts.
func (l *loop) plan() {
	l.order = append(l.order[:0], l.running...)
	slices.SortFunc(l.order, before)
	for _, s := range l.order {
		if s.decoding() && s.leaf != nil && l.grow(s, len(s.tokens)) {
			l.enter(s, 1)
		}
	}
	budget := l.e.o.StepTokens - len(l.members)
	if l.perTok > 0 {
		limit := l.e.o.StepTime
		if len(l.members) == 0 {
			limit *= 4 // nobody waits for a token, but a cancelled prompt should not be computed for long
		}
		budget = min(budget, max(pageTokens, int(limit/l.perTok)))
	}
	slices.SortFunc(l.order, func(a, b *seq) int {
		if c := cmp.Compare(a.gen.req.Class, b.gen.req.Class); c != 0 {
			return c
		}
		if a.gen.tenant != b.gen.tenant {
			if c := cmp.Compare(a.gen.tenant.served, b.gen.tenant.served); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(a.order, b.order))
	})
	scored := false
	for _, s := range l.order {
		if budget <= 0 {
			break
		}
		if s.inBatch || s.leaf == nil || s.decoding() {
			continue
		}
		n := min(budget, l.e.o.ChunkTokens)
		if s.wantsPrompt() {
			if scored {
				continue
			}
			n, scored = min(n, pageTokens), true
		}
		budget -= l.prefill(s, n)
	}
}

// prefill puts up to n tokens of a prompt into the batch and returns how many.
func (l *loop) prefill(s *seq, n int) int {
	was := s.done
	l.adopt(s)
	l.hit(s, s.done-was)
	n = min(n, s.pending())
	for pagesFor(s.done+n) > len(s.pages) {
		p, ok := l.pool.take()
		if ok {
			s.pages = append(s.pages, p)
			continue
		}
		if len(l.members) > 0 {
			n = min(n, len(s.pages)*pageTokens-s.done) // decoding ones will give pages back; what fits goes on
			break
		}
		v := l.victim(s)
		if v == nil {
			return 0
		}
		l.preempt(v)
	}
	if n <= 0 {
		return 0
	}
	l.enter(s, n)
	return n
}

// hit counts n tokens that the prefix tree has saved.
func (l *loop) hit(s *seq, n int) {
	if n == 0 {
		return
	}
	l.stats.PrefixHits += int64(n)
	l.stats.CachedTokens += int64(n)
	if !s.again && s.choice == 0 {
		s.gen.stream.begin(n, 0)
	}
}

// grow makes sure that the page table covers n positions, sending the youngest sequence of the lowest class back to wait if no page is left: possibly s itself, and then it returns false.
func (l *loop) grow(s *seq, n int) bool {
	for pagesFor(n) > len(s.pages) {
		p, ok := l.pool.take()
		if ok {
			s.pages = append(s.pages, p)
			continue
		}
		v := l.victim(nil)
		l.preempt(v)
		if v == s {
			return false
		}
	}
	return true
}

// enter adds the next n positions of s to the batch, with logits for the last one if it is the last known token, and for all if the prompt is scored.
func (l *loop) enter(s *seq, n int) {
	b := &l.batch
	row := len(b.Tokens)
	b.Tokens = append(b.Tokens, s.tokens[s.done:s.done+n]...)
	b.Spans = append(b.Spans, arch.Span{Row: row, Len: n, Pos: s.done, Pages: s.pages})
	s.out = -1
	switch {
	case s.wantsPrompt():
		s.out = len(b.Out)
		for i := range n {
			b.Out = append(b.Out, int32(row+i))
		}
	case s.done+n == len(s.tokens):
		s.out = len(b.Out)
		b.Out = append(b.Out, int32(row+n-1))
	}
	s.inBatch, s.last = true, l.steps
	l.members = append(l.members, s)
}
