package run

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/arch"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
)

// tiny is the smallest model that still has pages, heads and two layers.
var tiny = modelgen.Spec{Dim: 16, Heads: 2, KVHeads: 1, FF: 16, Layers: 1, Ctx: 512}

// idle waits until the engine has nothing left and checks its books: every page is free or a cached prefix, no tenant, no request is remembered.
func idle(t *testing.T, e *Engine) {
	t.Helper()
	require.NoError(t, e.Close(context.Background()))
	require.True(t, e.loop.pool.check(0), "pages are lost or counted twice")
	require.Empty(t, e.loop.running)
	require.Empty(t, e.loop.waiting)
	require.Empty(t, e.loop.tenants)
	require.Zero(t, e.queued)
}

func TestThousandsOfRequestsWithCancelsAndFaults(t *testing.T) {
	t.Parallel()
	n := 10_000
	if testing.Short() {
		n = 1_000
	}
	l := load(t, tiny)
	per := l.m.Config.PageBytes(quant.F16)
	e, err := newEngine(l.m, l.tok, Options{MaxSeqs: 8, KVBytes: 24 * per, MaxQueue: n, ChunkTokens: 64})
	require.NoError(t, err)
	noise := rand.New(rand.NewPCG(1, 2))
	forward, step := e.forward, 0
	e.forward = func(b *arch.Batch) {
		if step++; step%97 == 0 {
			panic("a fault that the test wants")
		}
		forward(b)
	}
	go e.run()

	var wg sync.WaitGroup
	var failed, aborted, ended atomic.Int64
	open := make(chan struct{}, 200)
	for i := range n {
		open <- struct{}{}
		r := Request{
			Prompt: prompt(1+noise.IntN(120), 300, noise.IntN(30)), MaxTokens: 1 + noise.IntN(24), N: 1 + noise.IntN(20)/19*noise.IntN(3), IgnoreEOS: true, Temperature: float64(noise.IntN(2)),
			Tenant: string(rune('a' + noise.IntN(4))), Salt: string(rune('a' + noise.IntN(2))), Class: Class(noise.IntN(4) / 3), PromptLogprobs: noise.IntN(40) == 0, Logprobs: noise.IntN(10) == 0, TopLogprobs: 2,
		}
		cancelAfter := -1
		if noise.IntN(5) == 0 {
			cancelAfter = noise.IntN(4)
		}
		ctx, cancel := context.WithCancel(context.Background())
		s, err := e.Generate(ctx, r)
		require.NoError(t, err)
		wg.Add(1)
		go func() {
			defer func() { cancel(); <-open; wg.Done() }()
			if cancelAfter == 0 {
				cancel()
			}
			tokens, chunks := 0, 0
			finish := make([]Finish, max(1, r.N))
			for {
				c, err := s.Next()
				if err != nil {
					u := s.Usage()
					if u.Completion != tokens || u.Prompt != len(r.Prompt) || u.Cached >= u.Prompt {
						t.Errorf("request %d: usage %+v, but %d tokens came for a prompt of %d", i, u, tokens, len(r.Prompt))
					}
					switch {
					case errors.Is(err, ErrFailed):
						failed.Add(1)
					case !errors.Is(err, io.EOF):
						t.Errorf("request %d: %v", i, err)
					case slices.Contains(finish, FinishAbort):
						aborted.Add(1)
						if cancelAfter < 0 {
							t.Errorf("request %d was aborted by nobody", i)
						}
					default:
						ended.Add(1)
						if tokens != len(finish)*r.MaxTokens {
							t.Errorf("request %d: %d tokens, want %d x %d", i, tokens, len(finish), r.MaxTokens)
						}
					}
					return
				}
				tokens += len(c.Tokens)
				finish[c.Index] = c.Finish
				if chunks++; chunks == cancelAfter {
					if i%2 == 0 {
						cancel()
					} else {
						s.Close()
					}
				}
			}
		}()
	}
	wg.Wait()
	st := e.Stats()
	t.Logf("%d ended, %d aborted, %d failed; %d steps, %d preemptions, %d of %d prompt tokens from the cache", ended.Load(), aborted.Load(), failed.Load(), st.Steps, st.Preemptions, st.PrefixHits, st.PrefixQueries)
	require.EqualValues(t, n, ended.Load()+aborted.Load()+failed.Load())
	require.Positive(t, failed.Load())
	require.Positive(t, aborted.Load())
	require.Positive(t, st.Preemptions)
	require.Positive(t, st.PrefixHits)
	idle(t, e)
}

func TestTenantsShareEqually(t *testing.T) {
	t.Parallel()
	l := load(t, tiny)
	e, err := newEngine(l.m, l.tok, Options{MaxSeqs: 4, MaxQueue: 10_000})
	require.NoError(t, err)
	counts := map[string]int{}
	var order []string
	forward := e.forward
	e.forward = func(b *arch.Batch) {
		for i, s := range e.loop.members {
			counts[s.gen.req.Tenant] += b.Spans[i].Len
			if s.started.IsZero() {
				order = append(order, s.gen.req.Tenant)
			}
		}
		forward(b)
		if counts["a"]+counts["b"] > 20_000 {
			e.forward = forward
		}
	}
	var streams []*Stream
	add := func(tenant string, n, tokens int) {
		for i := range n {
			s, err := e.Generate(context.Background(), Request{Prompt: prompt(20, 300, i), MaxTokens: tokens, IgnoreEOS: true, Tenant: tenant, Salt: tenant})
			require.NoError(t, err)
			streams = append(streams, s)
		}
	}
	add("a", 600, 40) // came first, and with longer answers
	add("b", 1200, 10)
	go e.run()
	for _, s := range streams {
		read(t, s, 1)
	}
	share := float64(counts["a"]) / float64(counts["a"]+counts["b"])
	require.InDelta(t, 0.5, share, 0.05)
	idle(t, e)
}

func TestShortPromptIsNotHeldUpByALongOne(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{Dim: 16, Heads: 2, KVHeads: 1, FF: 16, Layers: 1, Ctx: 8192})
	e, err := newEngine(l.m, l.tok, Options{MaxSeqs: 4, ChunkTokens: 64, StepTokens: 64})
	require.NoError(t, err)
	long, err := e.Generate(context.Background(), Request{Prompt: prompt(6000, 300, 1), MaxTokens: 1})
	require.NoError(t, err)
	short, err := e.Generate(context.Background(), Request{Prompt: prompt(30, 300, 2), MaxTokens: 1})
	require.NoError(t, err)
	steps, served := 0, 0
	forward := e.forward
	e.forward = func(b *arch.Batch) {
		steps++
		if served == 0 && slices.ContainsFunc(e.loop.members, func(s *seq) bool { return len(s.gen.req.Prompt) == 30 }) {
			served = steps
		}
		forward(b)
	}
	go e.run()
	read(t, short, 1)
	read(t, long, 1)
	idle(t, e)
	require.LessOrEqual(t, served, 2)
	require.Greater(t, steps, 90)
}

func TestInteractiveDisplacesBatch(t *testing.T) {
	t.Parallel()
	l := load(t, tiny)
	e, err := newEngine(l.m, l.tok, Options{MaxSeqs: 2})
	require.NoError(t, err)
	var slow []*Stream
	for i := range 6 {
		s, err := e.Generate(context.Background(), Request{Prompt: prompt(10, 300, i), MaxTokens: 400, IgnoreEOS: true, Class: Batch})
		require.NoError(t, err)
		slow = append(slow, s)
	}
	var urgent *Stream
	forward, steps := e.forward, 0
	e.forward = func(b *arch.Batch) {
		if steps++; steps == 10 { // both slots decode by now
			urgent, err = e.Generate(context.Background(), Request{Prompt: prompt(10, 300, 9), MaxTokens: 3, IgnoreEOS: true})
		}
		if steps == 12 && e.loop.members[len(e.loop.members)-1].gen.req.Class != Interactive && e.loop.members[0].gen.req.Class != Interactive {
			t.Error("the interactive request waits for a batch one")
		}
		forward(b)
	}
	go e.run()
	for _, s := range slow {
		require.Len(t, read(t, s, 1).ids[0], 400)
	}
	require.NoError(t, err)
	require.Len(t, read(t, urgent, 1).ids[0], 3)
	require.Positive(t, e.Stats().Preemptions)
	idle(t, e)
}

func TestRequestLargerThanTheCacheIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	l := load(t, tiny)
	e := l.open(t, Options{MaxSeqs: 2, KVBytes: 3 * l.m.Config.PageBytes(quant.F16)})
	require.Equal(t, 96, e.MaxContext())
	_, err := e.Generate(context.Background(), Request{Prompt: prompt(96, 300, 1)})
	require.ErrorIs(t, err, ErrContextLength)
	require.ErrorContains(t, err, "96 tokens")
	got := generate(t, e, Request{Prompt: prompt(90, 300, 1), IgnoreEOS: true})
	require.Equal(t, FinishLength, got.finish[0])
	require.Len(t, got.ids[0], 6)
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	l := load(t, tiny)
	e, err := newEngine(l.m, l.tok, Options{MaxQueue: 3})
	require.NoError(t, err)
	var streams []*Stream
	for range 3 {
		s, err := e.Generate(context.Background(), Request{Prompt: []int32{1}, MaxTokens: 1})
		require.NoError(t, err)
		streams = append(streams, s)
	}
	_, err = e.Generate(context.Background(), Request{Prompt: []int32{1}, MaxTokens: 1})
	require.ErrorIs(t, err, ErrBusy)
	go e.run()
	for _, s := range streams {
		read(t, s, 1)
	}
	_, err = e.Generate(context.Background(), Request{Prompt: []int32{1}, MaxTokens: 1})
	require.NoError(t, err)
	idle(t, e)
	_, err = e.Generate(context.Background(), Request{Prompt: []int32{1}})
	require.ErrorIs(t, err, ErrClosed)
}

func TestCloseCutsOffWhatOutlivesItsContext(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{Dim: 16, Heads: 2, KVHeads: 1, FF: 16, Layers: 1, Ctx: 100_000})
	e := l.open(t, Options{MaxSeqs: 1})
	s, err := e.Generate(context.Background(), Request{Prompt: []int32{1}, IgnoreEOS: true})
	require.NoError(t, err)
	_, err = s.Next()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, e.Close(ctx), context.Canceled)
	for err == nil {
		_, err = s.Next()
	}
	require.ErrorIs(t, err, ErrClosed)
}

func TestRequestCancelledBeforeItArrivesEnds(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{Dim: 16, Heads: 2, KVHeads: 1, FF: 16, Layers: 1, Ctx: 100_000})
	e := l.open(t, Options{MaxSeqs: 2})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 300 {
		s, err := e.Generate(ctx, Request{Prompt: []int32{1}, IgnoreEOS: true})
		require.NoError(t, err)
		require.Equal(t, FinishAbort, read(t, s, 1).finish[0])
	}
}
