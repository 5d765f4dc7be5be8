package run

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stream is the answer to one request, pulled by one reader. A slow reader gets larger chunks and holds up nobody.
type Stream struct {
	Seed uint64 // the one in use, also when the request had none

	cancelled atomic.Bool
	wake      func() // tells the engine to look at cancelled
	release   func() bool
	ready     chan struct{} // one token: something was added

	mu      sync.Mutex // guards what follows
	choices []pending
	turn    int
	usage   Usage
	timing  Timing
	prompt  []TokenLogprob
	live    int // choices not ended
	err     error
	over    bool // the last chunk was handed out
}

// pending is what a choice has produced since the last Next.
type pending struct {
	text     []byte
	tokens   []int32
	logprobs []TokenLogprob
	finish   Finish
	stopText string
	dirty    bool
	ended    bool
}

func newStream(n int, seed uint64, prompt int) *Stream {
	return &Stream{Seed: seed, ready: make(chan struct{}, 1), choices: make([]pending, n), live: n, usage: Usage{Prompt: prompt}}
}

// Next waits for the next chunk. After the one with Done it returns io.EOF, or the error if the engine failed. Cancelling the request's context ends the stream with FinishAbort within one step.
func (s *Stream) Next() (Chunk, error) {
	for {
		s.mu.Lock()
		c, ok := s.pop()
		over, err := s.over, s.err
		s.mu.Unlock()
		switch {
		case ok:
			return c, nil
		case over && err != nil:
			return Chunk{}, err
		case over:
			return Chunk{}, io.EOF
		}
		<-s.ready
	}
}

// Close tells the engine that nobody reads any more: the request's pages are free within one step. Next may be called until its end to learn the exact usage. Close may be called twice.
func (s *Stream) Close() {
	if !s.cancelled.Swap(true) {
		s.wake()
	}
}

// Usage returns the tokens counted so far.
func (s *Stream) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usage
}

// pop takes what the next dirty choice has; the caller holds mu.
func (s *Stream) pop() (Chunk, bool) {
	for i := range s.choices {
		at := (s.turn + i) % len(s.choices)
		p := &s.choices[at]
		if !p.dirty {
			continue
		}
		s.turn = at + 1
		c := Chunk{Index: at, Text: string(p.text), Tokens: slices.Clone(p.tokens), Logprobs: slices.Clone(p.logprobs), Finish: p.finish, StopText: p.stopText, Prompt: s.prompt, Usage: s.usage, Timing: s.timing}
		s.prompt = nil
		p.text, p.tokens, p.logprobs, p.dirty = p.text[:0], p.tokens[:0], p.logprobs[:0], false
		c.Done = s.live == 0 && !slices.ContainsFunc(s.choices, func(p pending) bool { return p.dirty })
		s.over = c.Done
		return c, true
	}
	return Chunk{}, false
}

// signal wakes the reader.
func (s *Stream) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// begin records hits of the prefix cache and the waiting time of the first choice.
func (s *Stream) begin(cached int, queued time.Duration) {
	s.mu.Lock()
	s.usage.Cached += cached
	if queued > 0 {
		s.timing.Queued = queued
	}
	s.mu.Unlock()
}

// token adds one generated token to a choice.
func (s *Stream) token(choice int, id int32, text []byte, lp *TokenLogprob) {
	s.mu.Lock()
	p := &s.choices[choice]
	p.tokens = append(p.tokens, id)
	p.text = append(p.text, text...)
	if lp != nil {
		p.logprobs = append(p.logprobs, *lp)
	}
	p.dirty = true
	s.usage.Completion++
	s.mu.Unlock()
	s.signal()
}

// promptLogprobs hands over the prompt's log probabilities; they go out with the first chunk.
func (s *Stream) promptLogprobs(lp []TokenLogprob) {
	s.mu.Lock()
	s.prompt = lp
	s.mu.Unlock()
}

// end closes a choice with the text that was still held back.
func (s *Stream) end(choice int, text []byte, f Finish, stopText string, t Timing, err error) {
	s.mu.Lock()
	p := &s.choices[choice]
	if p.ended {
		s.mu.Unlock()
		return
	}
	p.text = append(p.text, text...)
	p.finish, p.stopText, p.dirty, p.ended = f, stopText, true, true
	s.live--
	if choice == 0 {
		t.Queued = max(t.Queued, s.timing.Queued)
		s.timing = t
	}
	if err != nil && s.err == nil {
		s.err = err
	}
	last := s.live == 0
	s.mu.Unlock()
	if last && s.release != nil {
		s.release()
	}
	s.signal()
}
