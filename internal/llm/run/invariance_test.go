package run

import (
	"context"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/arch"
	"maas/internal/llm/kernel"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
)

// trace is what must not change: the ids, and every bit of the logits behind them.
type trace struct {
	ids  []int32
	bits []uint64
}

// request makes a request that records its trace. Sampling is on, so that the draws are compared as well.
func traced(prompt []int32, n int) (Request, *trace) {
	seed := uint64(7)
	tr := &trace{}
	r := Request{Prompt: prompt, MaxTokens: n, IgnoreEOS: true, Temperature: 1.5, TopK: 40, TopP: 0.95, RepetitionPenalty: 1.1, Seed: &seed, Salt: "a"}
	r.Logits = func(_, pos int, l []float32) {
		h := fnv.New64a()
		var b [4]byte
		for _, x := range l {
			u := math.Float32bits(x)
			b = [4]byte{byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24)}
			_, _ = h.Write(b[:])
		}
		tr.bits = append(tr.bits, h.Sum64())
	}
	return r, tr
}

func runTraced(t *testing.T, e *Engine, prompt []int32, n int) (trace, answer) {
	t.Helper()
	r, tr := traced(prompt, n)
	a := generate(t, e, r)
	require.NoError(t, a.err)
	tr.ids = a.ids[0]
	return *tr, a
}

// prompts of different length from a fixed sequence.
func prompt(n, vocab, seed int) []int32 {
	ids := make([]int32, n)
	x := uint32(seed)*2654435761 + 12345
	for i := range ids {
		x = x*1664525 + 1013904223
		ids[i] = int32(x>>8) % int32(vocab)
	}
	return ids
}

func TestAnswersDoNotDependOnCompany(t *testing.T) {
	for _, c := range []struct {
		arch string
		typ  quant.Type
		dim  int
	}{{"llama", quant.F32, 64}, {"qwen2", quant.F32, 64}, {"qwen3", quant.F32, 64}, {"llama", quant.Q8_0, 64}, {"qwen2", quant.F16, 64}, {"qwen3", quant.Q4_0, 64}, {"qwen3", quant.Q4_K, 256}, {"llama", quant.Q6_K, 256}} {
		t.Run(c.arch+" "+c.typ.String(), func(t *testing.T) {
			spec := modelgen.Spec{Arch: c.arch, Dim: c.dim, Type: c.typ, Layers: 2, FF: c.dim}
			l := load(t, spec)
			p := prompt(101, 300, 1)
			const n = 24
			want, _ := runTraced(t, l.open(t, Options{ChunkTokens: 512}), p, n)
			require.Len(t, want.ids, n)
			require.Len(t, want.bits, n)
			same := func(t *testing.T, name string, got trace) {
				t.Helper()
				require.Equal(t, want.ids, got.ids, name)
				require.Equal(t, want.bits, got.bits, name)
			}
			e := l.open(t, Options{ChunkTokens: 32})
			got, _ := runTraced(t, e, p, n)
			same(t, "chunks of 32", got)
			got, a := runTraced(t, e, p, n)
			require.Equal(t, 96, a.usage.Cached)
			same(t, "prefix hit", got)
			for _, threads := range []int{1, 2, 3} {
				got, _ = runTraced(t, l.open(t, Options{Pool: workers(t, threads)}), p, n)
				same(t, "threads", got)
			}
			same(t, "batch of 8", inCompany(t, l, Options{MaxSeqs: 8}, p, n))
			same(t, "short of pages", inCompany(t, l, Options{MaxSeqs: 8, KVBytes: 14 * l.m.Config.PageBytes(quant.F16), ChunkTokens: 32}, p, n))
			same(t, "preempted twice", preemptedTwice(t, l, p, n))
			same(t, "folder", fromFolder(t, spec, p, n))
			was := kernel.Current()
			t.Cleanup(func() { require.NoError(t, kernel.Use(was)) })
			for _, level := range kernel.Levels() {
				require.NoError(t, kernel.Use(level))
				got, _ = runTraced(t, load(t, spec).open(t, Options{}), p, n)
				same(t, level.String(), got)
			}
		})
	}
}

// inCompany runs the traced request beside seven others.
func inCompany(t *testing.T, l loaded, o Options, p []int32, n int) trace {
	t.Helper()
	e, err := newEngine(l.m, l.tok, o)
	require.NoError(t, err)
	var streams []*Stream
	for i := range 7 {
		s, err := e.Generate(context.Background(), Request{Prompt: prompt(40+9*i, 300, 100+i), MaxTokens: 40, IgnoreEOS: true, Salt: "b"})
		require.NoError(t, err)
		streams = append(streams, s)
	}
	r, tr := traced(p, n)
	s, err := e.Generate(context.Background(), r)
	require.NoError(t, err)
	go e.run()
	tr.ids = read(t, s, 1).ids[0]
	for _, s := range streams {
		read(t, s, 1)
	}
	idle(t, e)
	return *tr
}

// preemptedTwice steps the engine by hand, takes the sequence's pages away twice, once with and once without what the prefix tree kept of them.
func preemptedTwice(t *testing.T, l loaded, p []int32, n int) trace {
	t.Helper()
	e, err := newEngine(l.m, l.tok, Options{})
	require.NoError(t, err)
	r, tr := traced(p, n)
	s, err := e.Generate(context.Background(), r)
	require.NoError(t, err)
	for e.loop.intake(); e.loop.step(); {
		if len(e.loop.running) == 0 {
			break
		}
		seq := e.loop.running[0]
		if seq.made == 5 || seq.made == 12 {
			e.loop.preempt(seq)
		}
		if seq.made == 12 {
			var all []int32
			for page, ok := e.loop.pool.take(); ok; page, ok = e.loop.pool.take() {
				all = append(all, page)
			}
			require.Len(t, all, e.loop.pool.total)
			e.loop.pool.free = all
		}
	}
	require.EqualValues(t, 2, e.loop.stats.Preemptions)
	require.EqualValues(t, 96, e.loop.stats.PrefixHits)
	tr.ids = read(t, s, 1).ids[0]
	return *tr
}

func fromFolder(t *testing.T, spec modelgen.Spec, p []int32, n int) trace {
	t.Helper()
	switch spec.Type {
	case quant.F32:
	default: // a folder would round the vectors too: a quantized file is compared in its own form, but mapped
		dir := t.TempDir()
		b, err := modelgen.GGUF(spec)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "m.gguf"), b, 0o600))
		return openedTrace(t, dir, p, n)
	}
	dir := t.TempDir()
	require.NoError(t, modelgen.WriteDir(dir, spec))
	return openedTrace(t, dir, p, n)
}

func openedTrace(t *testing.T, path string, p []int32, n int) trace {
	t.Helper()
	m, src, err := arch.Load(context.Background(), path, arch.LoadOptions{})
	require.NoError(t, err)
	defer func() { _ = src.Close() }()
	l := load(t, modelgen.Spec{}) // only its tokenizer: ids are compared
	l.m = m
	e, err := Open(m, l.tok, Options{})
	require.NoError(t, err)
	defer func() { _ = e.Close(context.Background()) }()
	got, _ := runTraced(t, e, p, n)
	return got
}

func TestFloatCacheChangesLittle(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{})
	logits := func(full bool) []float32 {
		var out []float32
		r := Request{Prompt: prompt(50, 300, 3), MaxTokens: 1, Logits: func(_, _ int, l []float32) { out = slices.Clone(l) }}
		generate(t, l.open(t, Options{FullKV: full}), r)
		return out
	}
	half, full := logits(false), logits(true)
	for i := range half {
		require.InDelta(t, full[i], half[i], 0.02)
	}
	require.NotEqual(t, half, full)
}
