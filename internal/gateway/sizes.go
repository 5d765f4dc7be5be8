package gateway

import (
	"sync"
	"sync/atomic"
)

// sizes is what the texts of a model weigh, learned from calls that told their usage: for reservations only, bills are true.
type sizes struct {
	ratio  atomic.Int64 // bytes per token, lower decile, in 1/1000: prompts are rather over- than underestimated
	answer atomicQuantile
}

// atomicQuantile follows a quantile of a stream of numbers with one word: each number moves it a step up or down, in the proportion of the quantile.
type atomicQuantile struct{ n atomic.Int64 }

// add moves the estimate. up of 100 steps go up: 95 for the 95th percentile.
func (q *atomicQuantile) add(x, up, least int64) {
	old := q.n.Load()
	step := max(old/8, least)
	switch {
	case x > old:
		old += step * up / 100
	case x < old:
		old -= step * (100 - up) / 100
	}
	q.n.Store(max(old, 0)) // a lost update of another call does not matter
}

const (
	ratioLeast  = 500
	ratioMost   = 12_000
	answerStart = 256
)

// prompt estimates the tokens of a text.
func (s *sizes) prompt(bytes int64) int64 {
	if bytes == 0 {
		return 0
	}
	return max(1, bytes*1000/s.ratio.Load())
}

// answerTokens estimates the tokens of an answer without a bound of its own.
func (s *sizes) answerTokens() int64 { return max(s.answer.n.Load(), answerStart) }

// learn takes a call in. Short texts say little: templates outweigh them.
func (s *sizes) learn(bytes, prompt, answer int64) {
	if bytes >= 200 && prompt >= 20 {
		x := min(max(bytes*1000/prompt, ratioLeast), ratioMost)
		q := atomicQuantile{}
		q.n.Store(s.ratio.Load())
		q.add(x, 10, 80)
		s.ratio.Store(min(max(q.n.Load(), ratioLeast), ratioMost))
	}
	if answer > 0 {
		s.answer.add(answer, 95, 32)
	}
}

// sizeTable holds the sizes of all models.
type sizeTable struct{ m sync.Map }

func (t *sizeTable) of(model string) *sizes {
	if v, ok := t.m.Load(model); ok {
		return v.(*sizes)
	}
	s := &sizes{}
	s.ratio.Store(ratioStart)
	s.answer.n.Store(answerStart)
	v, _ := t.m.LoadOrStore(model, s)
	return v.(*sizes)
}
