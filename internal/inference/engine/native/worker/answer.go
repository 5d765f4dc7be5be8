package worker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	"maas/internal/inference/dialect"
	"maas/internal/llm/run"
	"maas/internal/llm/token"
	"maas/internal/platform/fault"
)

const fingerprint = "maas-native"

// newID returns prefix and 24 random letters and digits.
func newID(prefix string) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return prefix + string(b)
}

// usage is the wire form.
func usage(u run.Usage) dialect.Usage {
	return dialect.Usage{
		PromptTokens: u.Prompt, CompletionTokens: u.Completion, TotalTokens: u.Prompt + u.Completion,
		PromptTokensDetails: &dialect.PromptDetails{CachedTokens: u.Cached}, CompletionTokensDetails: &dialect.CompletionDetails{},
	}
}

func rawUsage(u dialect.Usage) *json.RawMessage {
	b, _ := json.Marshal(u) // integers only
	raw := json.RawMessage(b)
	return &raw
}

// sse writes server-sent events. The first event sends the headers; until then an error can still have its own status.
type sse struct {
	w       http.ResponseWriter
	flush   *http.ResponseController
	started bool
	err     error // the client is gone
	buf     []byte
}

func newSSE(w http.ResponseWriter) *sse { return &sse{w: w, flush: http.NewResponseController(w)} }

func (s *sse) send(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	s.raw(b)
}

func (s *sse) raw(b []byte) {
	if s.err != nil {
		return
	}
	if !s.started {
		s.started = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		s.w.WriteHeader(http.StatusOK)
	}
	s.buf = append(append(append(s.buf[:0], "data: "...), b...), "\n\n"...)
	if _, s.err = s.w.Write(s.buf); s.err == nil {
		s.err = s.flush.Flush()
	}
}

// fail ends the stream with an error: with its status if nothing was sent yet, else as a last event without [DONE], which client libraries raise.
func (s *sse) fail(err error) {
	if !s.started {
		writeError(s.w, err)
		return
	}
	_, body := errorBody(err)
	s.send(body)
}

// reporting says how a stream reports usage.
type reporting struct{ last, each bool }

func reportingOf(o *dialect.StreamOptions) reporting {
	if o == nil {
		return reporting{}
	}
	return reporting{last: o.IncludeUsage, each: o.IncludeUsage && o.ContinuousUsageStats}
}

var nullUsage = json.RawMessage("null")

// chunk returns the usage field of a chunk in the middle.
func (r reporting) chunk(u dialect.Usage) *json.RawMessage {
	switch {
	case r.each:
		return rawUsage(u)
	case r.last:
		return &nullUsage
	}
	return nil
}

// piece is a chunk of one of several prompts' streams.
type piece struct {
	prompt int
	chunk  run.Chunk
	err    error // of Next, io.EOF left out
}

// merged runs the requests and calls f for each chunk of any of them, on one goroutine. It returns the total usage, exact also when f or ctx ended it early: then all streams are closed and read to their end.
func merged(ctx context.Context, e *run.Engine, requests []run.Request, f func(piece) error) (run.Usage, error) {
	streams := make([]*run.Stream, 0, len(requests))
	closeAll := func() {
		for _, s := range streams {
			s.Close()
		}
	}
	for _, r := range requests {
		s, err := e.Generate(ctx, r)
		if err != nil {
			closeAll()
			return run.Usage{}, err
		}
		streams = append(streams, s)
	}
	if len(streams) == 1 { // the usual case needs no goroutine
		return one(streams[0], f)
	}
	ch := make(chan piece)
	var wg sync.WaitGroup
	for i, s := range streams {
		wg.Go(func() {
			for {
				c, err := s.Next()
				if errors.Is(err, io.EOF) {
					return
				}
				ch <- piece{i, c, err}
				if err != nil {
					return
				}
			}
		})
	}
	go func() { wg.Wait(); close(ch) }()
	var failed error
	for p := range ch {
		if failed != nil {
			continue
		}
		err := p.err
		if err == nil {
			err = f(p)
		}
		if err != nil {
			failed = err
			closeAll()
		}
	}
	var sum run.Usage
	for _, s := range streams {
		u := s.Usage()
		sum.Prompt, sum.Cached, sum.Completion = sum.Prompt+u.Prompt, sum.Cached+u.Cached, sum.Completion+u.Completion
	}
	return sum, failed
}

func one(s *run.Stream, f func(piece) error) (run.Usage, error) {
	var failed error
	for {
		c, err := s.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = failed
			}
			return s.Usage(), err
		}
		if failed == nil {
			if failed = f(piece{0, c, nil}); failed != nil {
				s.Close()
			}
		}
	}
}

// finishReason is the wire form; nil while the choice goes on.
func finishReason(f run.Finish, toolCalls bool) *string {
	if f == "" {
		return nil
	}
	s := string(f)
	if f == run.FinishStop && toolCalls {
		s = "tool_calls"
	}
	return &s
}

// stopReason is the stop string that matched, or nil.
func stopReason(c run.Chunk) any {
	if c.StopText == "" {
		return nil
	}
	return c.StopText
}

// aborted is the error for choices that were cut off by us: the client that went away itself never sees it.
func aborted(c run.Chunk) error {
	if c.Finish == run.FinishAbort {
		return errDraining.With("the engine is shutting down; the answer was cut off")
	}
	return nil
}

// tokenLogprob is the wire form of one token with its alternatives.
func tokenLogprob(t *token.Tokenizer, lp run.TokenLogprob) dialect.TokenLogprob {
	out := plainLogprob(t, lp)
	out.TopLogprobs = []dialect.TokenLogprob{}
	for _, a := range lp.Top {
		out.TopLogprobs = append(out.TopLogprobs, plainLogprob(t, a))
	}
	return out
}

func plainLogprob(t *token.Tokenizer, lp run.TokenLogprob) dialect.TokenLogprob {
	b := t.Bytes(lp.ID)
	out := dialect.TokenLogprob{Token: b, Logprob: finite(lp.Logprob), Bytes: make([]int, len(b))}
	for i := range len(b) {
		out.Bytes[i] = int(b[i])
	}
	return out
}

// finite replaces what JSON cannot hold: a token of probability 0 has OpenAI's -9999.
func finite(x float32) float64 {
	if f := float64(x); f > -9999 {
		return f
	}
	return -9999
}

// isGone reports that the client went away.
func isGone(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled)
}

var errGone = fault.New(fault.Unavailable, "inference.worker_client_gone", "the client closed the connection")
