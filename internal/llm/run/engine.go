package run

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"maas/internal/llm/arch"
	"maas/internal/llm/kernel"
	"maas/internal/llm/quant"
	"maas/internal/llm/token"
	"maas/internal/platform/fault"
)

// Options of an engine. The zero value of each field takes the default named.
type Options struct {
	KVBytes     int64         // memory of the key/value cache; 0 = MaxSeqs sequences of MaxCtx
	FullKV      bool          // keep keys and values in float32 instead of float16
	MaxSeqs     int           // sequences computed side by side, 16
	MaxCtx      int           // longest sequence, the model's context
	MaxQueue    int           // requests that may wait, 4096
	ChunkTokens int           // most tokens of one prompt in one step, 256
	StepTokens  int           // most tokens of one step, 512
	StepTime    time.Duration // how long prompts may hold up decoding sequences in one step, 250 ms
	EndTokens   []int32       // end a generation beside those of the tokenizer, see arch.Source
	Pool        *kernel.Pool  // workers; nil = the caller's thread only
	Now         func() time.Time
	Report      func(failure any, stack []byte) // a step failed by a bug: for the log. nil = told to the requests only
}

func (o *Options) defaults(m *arch.Model) {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.MaxSeqs, 16)
	set(&o.MaxCtx, m.Config.Ctx)
	set(&o.MaxQueue, 4096)
	set(&o.ChunkTokens, 256)
	set(&o.StepTokens, 512)
	o.StepTokens = max(o.StepTokens, o.MaxSeqs+1)
	o.ChunkTokens = min(o.ChunkTokens, o.StepTokens)
	if o.StepTime <= 0 {
		o.StepTime = 250 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Engine serves one model. Its methods may be called by any number of goroutines.
type Engine struct {
	model   *arch.Model
	tok     *token.Tokenizer
	o       Options
	session *arch.Session
	forward func(*arch.Batch)
	end     []int32 // end-of-generation tokens
	vocab   int     // ids that both the model and the tokenizer have: rows beyond are never chosen
	ctx     int     // longest sequence that the cache can hold

	wake    chan struct{}
	done    chan struct{}
	cancels atomic.Int64 // cancelled streams not yet looked at

	mu      sync.Mutex // guards what follows
	inbox   []*generation
	queued  int // requests accepted and not yet ended
	closing bool
	abort   bool
	stats   Stats

	published time.Time // when stats was written last

	loop loop
}

// Open prepares an engine and starts its loop. The model must be loaded; the caller keeps it and the pool until Close has returned. arch.ErrMemory if KVBytes holds less than two pages.
func Open(m *arch.Model, tok *token.Tokenizer, o Options) (*Engine, error) {
	e, err := newEngine(m, tok, o)
	if err != nil {
		return nil, err
	}
	go e.run()
	return e, nil
}

func newEngine(m *arch.Model, tok *token.Tokenizer, o Options) (*Engine, error) {
	o.defaults(m)
	kv := quant.F16
	if o.FullKV {
		kv = quant.F32
	}
	per := m.Config.PageBytes(kv)
	pages := o.MaxSeqs * pagesFor(o.MaxCtx)
	if o.KVBytes > 0 {
		pages = min(pages, int(o.KVBytes/per))
	}
	if pages < 2 {
		return nil, arch.ErrMemory.With("%d bytes of cache hold %d pages of %d bytes; at least 2 are needed", o.KVBytes, pages, per)
	}
	s, err := m.NewSession(arch.SessionOptions{Pages: pages, FullKV: o.FullKV, MaxRows: o.StepTokens, MaxOut: o.MaxSeqs + pageTokens, Pool: o.Pool})
	if err != nil {
		return nil, err
	}
	e := &Engine{model: m, tok: tok, o: o, session: s, forward: s.Forward, ctx: min(o.MaxCtx, pages*pageTokens), vocab: min(tok.Size(), m.Config.Vocab), wake: make(chan struct{}, 1), done: make(chan struct{})}
	for id := range int32(e.vocab) {
		if tok.EOG(id) || slices.Contains(o.EndTokens, id) {
			e.end = append(e.end, id)
		}
	}
	e.stats = Stats{MaxSeqs: o.MaxSeqs, Pages: pages, FreePages: pages, PageTokens: pageTokens, Finished: map[Finish]int64{}, KVBytes: int64(pages) * per, MaxCtx: e.ctx}
	e.loop = loop{e: e, pool: newPool(pages), tenants: map[string]*tenant{}, stats: e.stats, scratch: []*scratch{{}}}
	e.loop.sample = e.loop.sampleRows
	return e, nil
}

// MaxContext returns the longest sequence, prompt and answer together.
func (e *Engine) MaxContext() int { return e.ctx }

// Generate queues a request. ErrRequest names every parameter out of range; ErrContextLength if no token would fit behind the prompt, with both numbers; ErrBusy if the queue is full; ErrClosed after Close.
// It does not block. When ctx ends, the stream ends with FinishAbort.
func (e *Engine) Generate(ctx context.Context, r Request) (*Stream, error) {
	if r.N == 0 {
		r.N = 1
	}
	if err := r.check(e.vocab); err != nil {
		return nil, err
	}
	if len(r.Prompt) >= e.ctx {
		return nil, ErrContextLength.With("the prompt has %d tokens, the context holds %d", len(r.Prompt), e.ctx).
			WithFields(fault.Field{Name: "prompt", Code: "too_long", Message: "too many tokens", Limit: e.ctx})
	}
	seed := rand.Uint64()
	if r.Seed != nil {
		seed = *r.Seed
	}
	s := newStream(r.N, seed, len(r.Prompt))
	g := &generation{req: r, stream: s, came: e.o.Now()}
	s.wake = func() { e.cancels.Add(1); e.poke() }
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return nil, ErrClosed
	}
	if e.queued >= e.o.MaxQueue {
		e.mu.Unlock()
		return nil, ErrBusy.With("%d requests are waiting", e.queued).After(time.Second)
	}
	e.queued++
	s.release = context.AfterFunc(ctx, s.Close)
	e.inbox = append(e.inbox, g)
	e.mu.Unlock()
	e.poke()
	return s, nil
}

// Stats returns a snapshot, at most one step old.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Finished = make(map[Finish]int64, len(e.stats.Finished))
	maps.Copy(s.Finished, e.stats.Finished)
	s.Waiting += len(e.inbox)
	if e.o.Now().Sub(e.published) > 10*time.Second {
		s.GeneratedPerSecond = 0 // nothing has run since
	}
	return s
}

// Close refuses new requests, waits until the running ones have ended, or until ctx ends and then aborts them with ErrClosed. It returns when the loop has stopped; the error is ctx's if it was needed.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	e.poke()
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
	}
	e.mu.Lock()
	e.abort = true
	e.mu.Unlock()
	e.poke()
	<-e.done
	return ctx.Err()
}

func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// check returns ErrRequest with every field that is out of range.
func (r *Request) check(vocab int) error {
	var bad []fault.Field
	need := func(ok bool, name, msg string, limit any) {
		if !ok {
			bad = append(bad, fault.Field{Name: name, Code: "out_of_range", Message: msg, Limit: limit})
		}
	}
	valid := func(id int32) bool { return id >= 0 && int(id) < vocab }
	need(len(r.Prompt) > 0, "prompt", "is empty", 1)
	need(!slices.ContainsFunc(r.Prompt, func(id int32) bool { return !valid(id) }), "prompt", "holds an id outside the vocabulary", vocab-1)
	need(!slices.ContainsFunc(r.StopTokens, func(id int32) bool { return !valid(id) }), "stop_token_ids", "holds an id outside the vocabulary", vocab-1)
	need(r.N >= 1 && r.N <= 16, "n", "must be 1 to 16", 16)
	need(r.MaxTokens >= 0, "max_tokens", "must not be negative", 0)
	need(r.MinTokens >= 0 && (r.MaxTokens == 0 || r.MinTokens <= r.MaxTokens), "min_tokens", "must be between 0 and max_tokens", r.MaxTokens)
	need(r.Temperature >= 0 && r.Temperature <= 100, "temperature", "must be 0 to 100", 100)
	need(r.TopK >= 0, "top_k", "must not be negative", 0)
	need(r.TopP >= 0 && r.TopP <= 1, "top_p", "must be 0 to 1", 1)
	need(r.MinP >= 0 && r.MinP <= 1, "min_p", "must be 0 to 1", 1)
	need(r.RepetitionPenalty >= 0 && r.RepetitionPenalty <= 100, "repetition_penalty", "must be above 0", 100)
	need(r.FrequencyPenalty >= -2 && r.FrequencyPenalty <= 2, "frequency_penalty", "must be -2 to 2", 2)
	need(r.PresencePenalty >= -2 && r.PresencePenalty <= 2, "presence_penalty", "must be -2 to 2", 2)
	need(r.TopLogprobs >= 0 && r.TopLogprobs <= 20, "top_logprobs", "must be 0 to 20", 20)
	need(len(r.Stop) <= 16, "stop", "too many strings", 16)
	for _, s := range r.Stop {
		need(len(s) > 0 && len(s) <= 256, "stop", "a string must have 1 to 256 bytes", 256)
	}
	for id := range r.LogitBias {
		need(valid(id), "logit_bias", "names an id outside the vocabulary", vocab-1)
	}
	if len(bad) > 0 {
		return ErrRequest.With("%s %s", bad[0].Name, bad[0].Message).WithFields(bad...)
	}
	return nil
}
