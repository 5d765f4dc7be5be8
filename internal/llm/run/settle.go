package run

import (
	"slices"
	"time"
)

// collect lists whose logits are sampled, shows them to the tests that ask, and scores prompts.
func (l *loop) collect() {
	l.outs, l.outRow = l.outs[:0], l.outRow[:0]
	for i, s := range l.members {
		if s.out < 0 {
			continue
		}
		n := l.batch.Spans[i].Len
		last := s.out
		if s.wantsPrompt() {
			l.score(s, n)
			last += n - 1
		}
		if s.done+n != len(s.tokens) {
			continue
		}
		if f := s.gen.req.Logits; f != nil {
			f(s.choice, len(s.tokens), l.batch.Row(last))
		}
		l.outs, l.outRow = append(l.outs, s), append(l.outRow, last)
		if len(l.scratch) < len(l.outs) {
			l.scratch = append(l.scratch, &scratch{})
		}
	}
}

// score takes the log probabilities of the prompt tokens that follow the n rows just computed.
func (l *loop) score(s *seq, n int) {
	if len(s.plp) == 0 {
		s.plp = append(s.plp, TokenLogprob{ID: s.tokens[0]})
	}
	for i := range n {
		pos := s.done + i + 1
		if pos >= len(s.tokens) || pos < len(s.plp) {
			continue
		}
		row := l.batch.Row(s.out + i)[:l.e.vocab]
		lp := TokenLogprob{ID: s.tokens[pos]}
		d := l.scratch[0].distribution(row, s.gen.req.TopLogprobs, &lp)
		lp.Logprob = float32(float64(row[lp.ID]) - d.max - d.logSum)
		s.plp = append(s.plp, lp)
	}
	if len(s.plp) == len(s.tokens) {
		s.gen.stream.promptLogprobs(s.plp)
	}
}

// sampleRows chooses the next token of some sequences; ranges run at the same time.
func (l *loop) sampleRows(lo, hi int) {
	for i := lo; i < hi; i++ {
		s := l.outs[i]
		var lp *TokenLogprob
		if s.gen.req.Logprobs {
			lp = &s.lp
		}
		s.chosen = s.sampler.next(l.scratch[i], l.batch.Row(l.outRow[i])[:l.e.vocab], len(s.tokens), s.made, lp)
	}
}

// settle books the computed positions and hands out the sampled tokens.
func (l *loop) settle() {
	for i, s := range l.members {
		n := l.batch.Spans[i].Len
		if !s.decoding() {
			l.stats.PromptTokens += int64(n)
		}
		s.done += n
		s.gen.tenant.served += float64(n)
		l.share(s)
	}
	l.stats.Steps++
	for _, s := range l.outs {
		l.accept(s)
	}
}

// share makes tree nodes of pages that are full.
func (l *loop) share(s *seq) {
	for !s.alone && s.shared < s.done/pageTokens {
		i := s.shared
		n := l.pool.add(s.leaf, s.tokens[i*pageTokens:(i+1)*pageTokens], s.pages[i])
		if n == nil {
			s.alone = true
			return
		}
		s.pages[i], s.leaf = n.page, n
		s.shared++
	}
}

// accept takes the chosen token of a sequence: text, stop conditions, end.
func (l *loop) accept(s *seq) {
	r, id := &s.gen.req, s.chosen
	s.tokens = append(s.tokens, id)
	s.made++
	s.sampler.accept(id)
	l.stats.CompletionTokens++
	if s.made == 1 {
		s.first = l.e.o.Now()
		s.timing.Prefill = s.first.Sub(s.started)
		l.waiting = append(l.waiting, s.gen.held...)
		s.gen.held = nil
	}
	var lp *TokenLogprob
	if r.Logprobs {
		lp = &s.lp
	}
	stopped := s.made > r.MinTokens && (slices.Contains(r.StopTokens, id) || !r.IgnoreEOS && slices.Contains(l.e.end, id))
	s.buf = s.buf[:0]
	if stopped {
		s.gen.stream.token(s.choice, id, nil, lp)
		l.finish(s, FinishStop, "", nil)
		return
	}
	hit := -1
	if text := s.text.Push(id); s.made > r.MinTokens {
		s.buf, hit = s.stop.push(s.buf, text)
	} else {
		s.buf = append(s.buf, text...)
	}
	s.gen.stream.token(s.choice, id, s.buf, lp)
	switch {
	case hit >= 0:
		l.finish(s, FinishStop, r.Stop[hit], nil)
	case len(s.tokens) >= s.limit:
		l.finish(s, FinishLength, "", nil)
	}
}

// finish ends a sequence wherever it is, gives its pages back and tells the reader. Choices held behind it end with it if it never made a token.
func (l *loop) finish(s *seq, why Finish, stopText string, err error) {
	l.leave(s)
	if i := slices.Index(l.waiting, s); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	if s.leaf != nil {
		l.detach(s)
	}
	t, g := s.gen.tenant, s.gen
	if t.active--; t.active == 0 {
		delete(l.tenants, t.name)
	}
	g.live--
	l.e.mu.Lock()
	l.e.stats.Finished[why]++
	if g.live == 0 {
		l.e.queued--
	}
	l.e.mu.Unlock()
	s.buf = s.buf[:0]
	if stopText == "" && s.made > 0 {
		s.buf = append(s.stop.flush(s.buf), s.text.Flush()...)
	}
	if !s.first.IsZero() {
		s.timing.Decode = l.e.o.Now().Sub(s.first)
	}
	held := g.held
	g.held = nil
	g.stream.end(s.choice, s.buf, why, stopText, s.timing, err)
	for _, h := range held {
		l.finish(h, why, "", err)
	}
}

// publish copies the counters out.
func (l *loop) publish() {
	s := &l.stats
	s.Running, s.Waiting = len(l.running), len(l.waiting)
	s.FreePages, s.CachedPages = l.pool.available(), l.pool.idle
	now := l.e.o.Now()
	s.GeneratedPerSecond = l.recent.update(now, s.CompletionTokens)
	l.e.mu.Lock()
	finished := l.e.stats.Finished
	l.e.stats = *s
	l.e.stats.Finished, l.e.published = finished, now
	l.e.mu.Unlock()
}

// rate measures a counter's growth over about ten seconds.
type rate struct {
	at    [10]int64 // counter at the start of each second
	when  [10]time.Time
	n     int
	value float64
}

func (r *rate) update(now time.Time, count int64) float64 {
	last := (r.n + 9) % 10
	if r.n == 0 || now.Sub(r.when[last]) >= time.Second {
		r.at[r.n%10], r.when[r.n%10] = count, now
		r.n++
	}
	first := 0
	if r.n >= 10 {
		first = r.n % 10
	}
	if d := now.Sub(r.when[first]).Seconds(); d > 0 && d < 15 {
		r.value = float64(count-r.at[first]) / d
	} else {
		r.value = 0
	}
	return r.value
}
