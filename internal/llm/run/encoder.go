package run

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"maas/internal/llm"
	"maas/internal/llm/arch"
	"maas/internal/llm/kernel"
	"maas/internal/llm/token"
)

// EncoderOptions of OpenEncoder. The zero value of each field takes the default named.
type EncoderOptions struct {
	MaxCtx   int          // longest sequence, the model's context
	MaxQueue int          // requests that may wait, 4096
	Pool     *kernel.Pool // workers; nil = the caller's thread only
	Report   func(failure any, stack []byte)
}

// Encoder serves one encoder model: vectors of texts and scores of pairs. Steps hold as many sequences as fit, one of each waiting request in turn, so a long list does not hold up a short one; a sequence's
// result is the same bits in any company. Its methods may be called by any number of goroutines.
type Encoder struct {
	model *arch.Model
	tok   *token.Tokenizer
	o     EncoderOptions
	enc   *arch.Encoder
	wake  chan struct{}
	done  chan struct{}

	mu      sync.Mutex // guards the rest
	waiting []*encoding
	closing bool
	stats   Stats
}

// encoding is one request: its sequences wait, are computed in any steps, and leave their results in place.
type encoding struct {
	ctx    context.Context //nolint:containedctx // of the caller, who waits
	list   []arch.Sequence
	next   int // first sequence not yet computed
	out    [][]float32
	rank   bool
	err    error
	finish chan struct{}
}

// OpenEncoder prepares an encoder and starts its loop. The model must be loaded; the caller keeps it and the pool until Close has returned. arch.ErrUnsupported if the model is no encoder.
func OpenEncoder(m *arch.Model, tok *token.Tokenizer, o EncoderOptions) (*Encoder, error) {
	if o.MaxCtx <= 0 || o.MaxCtx > m.Config.Ctx {
		o.MaxCtx = m.Config.Ctx
	}
	if o.MaxQueue <= 0 {
		o.MaxQueue = 4096
	}
	enc, err := m.NewEncoder(max(arch.EncoderRows, o.MaxCtx), o.Pool)
	if err != nil {
		return nil, err
	}
	e := &Encoder{model: m, tok: tok, o: o, enc: enc, wake: make(chan struct{}, 1), done: make(chan struct{})}
	e.stats = Stats{MaxSeqs: arch.EncoderSequences, MaxCtx: o.MaxCtx, Finished: map[Finish]int64{}}
	go e.run()
	return e, nil
}

// Ranks reports whether the model scores pairs instead of making vectors.
func (e *Encoder) Ranks() bool { return e.model.Config.Encoder.Pooling == arch.PoolRank }

// Dim returns how many values a vector has.
func (e *Encoder) Dim() int { return e.model.Config.Dim }

// MaxContext returns the longest sequence, in tokens.
func (e *Encoder) MaxContext() int { return e.o.MaxCtx }

// Stats returns counters and gauges; those of a key/value cache are zero.
func (e *Encoder) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Finished = map[Finish]int64{FinishStop: e.stats.Finished[FinishStop], FinishAbort: e.stats.Finished[FinishAbort], FinishError: e.stats.Finished[FinishError]}
	for _, q := range e.waiting {
		s.Waiting += len(q.list) - q.next
	}
	return s
}

// Embed makes a vector of length 1, [Dim], of each token sequence as the tokenizer makes it, begin and end tokens included. ErrContextLength names the first one that is too long, ErrRequest one that is empty
// or holds an id outside of the vocabulary; ErrBusy, ErrClosed, ErrFailed; ctx's error when it ends first.
func (e *Encoder) Embed(ctx context.Context, list [][]int32) ([][]float32, error) {
	if e.Ranks() {
		return nil, arch.ErrUnsupported.With("this model ranks pairs of texts; it makes no vectors")
	}
	seqs := make([]arch.Sequence, len(list))
	for i, ids := range list {
		if err := e.check(i, ids); err != nil {
			return nil, err
		}
		seqs[i] = arch.Sequence{Tokens: ids}
	}
	return e.do(ctx, seqs, false)
}

// Rank scores pairs: the raw output of the head's first class, or of the last one where it has two. pairs are sequences as Pair makes them. Errors as of Embed.
func (e *Encoder) Rank(ctx context.Context, pairs []arch.Sequence) ([]float32, error) {
	if !e.Ranks() {
		return nil, arch.ErrUnsupported.With("this model makes vectors; it does not rank pairs of texts")
	}
	for i, p := range pairs {
		if err := e.check(i, p.Tokens); err != nil {
			return nil, err
		}
	}
	out, err := e.do(ctx, pairs, true)
	scores := make([]float32, len(out))
	for i, v := range out {
		scores[i] = v[0]
		if len(v) == 2 {
			scores[i] = v[1] - v[0]
		}
	}
	return scores, err
}

// Pair puts two texts into one sequence: begin, first, end, second, end; RoBERTa has a second end between. Of the second text at most most tokens are taken (0 = no bound); if the sequence is too long for limit
// tokens, the second text is cut, then the first.
func (e *Encoder) Pair(first, second string, most, limit int) (arch.Sequence, error) {
	var s arch.Sequence
	a, err := e.tok.Encode(nil, []token.Part{{Text: first}}, token.Options{MaxTokens: limit})
	if err != nil {
		return s, err
	}
	if most <= 0 || most > limit {
		most = limit
	}
	b, err := e.tok.Encode(nil, []token.Part{{Text: second}}, token.Options{MaxTokens: most})
	if err != nil {
		return s, err
	}
	marks := []int32{e.tok.EOS()}
	if e.model.Config.Encoder.First > 0 {
		marks = append(marks, e.tok.EOS())
	}
	room := limit - 2 - len(marks)
	b = b[:min(len(b), max(room-len(a), room/4, 0))]
	a = a[:min(len(a), max(room-len(b), 0))]
	s.Tokens = slices.Concat([]int32{e.tok.BOS()}, a, marks, b, []int32{e.tok.EOS()})
	s.Types = make([]uint8, len(s.Tokens))
	for i := 1 + len(a) + len(marks); i < len(s.Types); i++ {
		s.Types[i] = 1
	}
	return s, nil
}

func (e *Encoder) check(i int, ids []int32) error {
	if len(ids) == 0 {
		return ErrRequest.With("text %d is empty", i)
	}
	if len(ids) > e.o.MaxCtx {
		return ErrContextLength.With("text %d has %d tokens; the model takes %d", i, len(ids), e.o.MaxCtx)
	}
	for _, id := range ids {
		if id < 0 || int(id) >= e.model.Config.Vocab {
			return ErrRequest.With("text %d holds the token %d, which is not in the vocabulary", i, id)
		}
	}
	return nil
}

// do waits in the queue until all sequences are computed.
func (e *Encoder) do(ctx context.Context, list []arch.Sequence, rank bool) ([][]float32, error) {
	if len(list) == 0 {
		return nil, nil
	}
	q := &encoding{ctx: ctx, list: list, rank: rank, out: make([][]float32, len(list)), finish: make(chan struct{})}
	e.mu.Lock()
	switch {
	case e.closing:
		e.mu.Unlock()
		return nil, ErrClosed
	case len(e.waiting) >= e.o.MaxQueue:
		e.mu.Unlock()
		return nil, ErrBusy.After(time.Second)
	}
	e.waiting = append(e.waiting, q)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
	select {
	case <-q.finish:
		return q.out, q.err
	case <-ctx.Done(): // the loop drops what nobody waits for
		return nil, ctx.Err()
	}
}

// Close takes no more requests and returns when the waiting ones are computed, or with ctx's error when it ends first; those left get ErrClosed.
func (e *Encoder) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
	}
	e.mu.Lock()
	for _, q := range e.waiting {
		q.err = ErrClosed
		close(q.finish)
	}
	e.waiting = nil
	e.mu.Unlock()
	<-e.done
	return ctx.Err()
}

// share is a sequence of a request within a step.
type share struct {
	q *encoding
	i int
}

func (e *Encoder) run() {
	defer close(e.done)
	for {
		step := e.pick()
		if len(step) == 0 {
			e.mu.Lock()
			over := e.closing && len(e.waiting) == 0
			e.mu.Unlock()
			if over {
				return
			}
			<-e.wake
			continue
		}
		e.settle(step, e.compute(step))
	}
}

// pick takes sequences for a step: one of each request in turn, until rows or sequences are used up.
func (e *Encoder) pick() []share {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = slices.DeleteFunc(e.waiting, func(q *encoding) bool {
		gone := q.ctx.Err() != nil
		if gone {
			e.stats.Finished[FinishAbort] += int64(len(q.list) - q.next)
		}
		return gone
	})
	var step []share
	rows := 0
	for took := true; took && len(step) < arch.EncoderSequences; {
		took = false
		for _, q := range e.waiting {
			if q.next == len(q.list) || len(step) == arch.EncoderSequences {
				continue
			}
			if n := len(q.list[q.next].Tokens); rows+n <= e.enc.Rows() {
				step = append(step, share{q, q.next})
				rows += n
				q.next++
				took = true
			}
		}
	}
	e.stats.Running = len(step)
	return step
}

// compute runs one step. A failure of the engine itself belongs to all requests in it.
func (e *Encoder) compute(step []share) (err error) {
	defer func() {
		if c := recover(); c != nil {
			err = ErrFailed
			if f, ok := c.(error); ok && errors.Is(f, llm.ErrFileChanged) {
				err = f
			} else if e.o.Report != nil {
				e.o.Report(c, debug.Stack())
			}
		}
	}()
	start := time.Now()
	list := make([]arch.Sequence, len(step))
	tokens := 0
	for i, s := range step {
		list[i] = s.q.list[s.i]
		tokens += len(list[i].Tokens)
	}
	rows, d := e.enc.Encode(list), e.Dim()
	for i, s := range step {
		n := len(list[i].Tokens) * d
		if s.q.rank {
			out := make([]float32, e.model.Config.Encoder.Labels)
			if err := e.model.Classes(out, rows[:d]); err != nil {
				return err
			}
			s.q.out[s.i] = out
		} else {
			v := make([]float32, d)
			e.model.Pool(v, rows[:n])
			s.q.out[s.i] = v
		}
		rows = rows[n:]
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Steps++
	e.stats.PromptTokens += int64(tokens)
	e.stats.LastStepTokens, e.stats.LastStepMicros = tokens, time.Since(start).Microseconds()
	return nil
}

// settle tells the requests whose last sequence was computed, or whose step failed.
func (e *Encoder) settle(step []share, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Running = 0
	for _, s := range step {
		if err != nil {
			s.q.err, s.q.next = err, len(s.q.list)
			e.stats.Finished[FinishError]++
		} else {
			e.stats.Finished[FinishStop]++
		}
	}
	e.waiting = slices.DeleteFunc(e.waiting, func(q *encoding) bool {
		over := q.next == len(q.list)
		if over {
			close(q.finish)
		}
		return over
	})
}
