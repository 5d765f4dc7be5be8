package run

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
	"maas/internal/platform/fault"
)

func TestGeneratedModelCounts(t *testing.T) {
	t.Parallel()
	for _, typ := range []quant.Type{quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q4_K, quant.Q6_K} {
		for _, a := range []string{"llama", "qwen2", "qwen3"} {
			l := load(t, modelgen.Spec{Arch: a, Kind: modelgen.Successor, Dim: 256, Type: typ})
			e := l.open(t, Options{MaxSeqs: 2})
			got := generate(t, e, Request{Prompt: l.ids(t, "count:"), MaxTokens: 5})
			require.Equal(t, " 1 2 3 4 5", got.text[0], "%s %s", a, typ)
			require.Empty(t, cmp.Diff(Usage{Prompt: len(l.ids(t, "count:")), Completion: 5}, got.usage))
			require.Equal(t, FinishLength, got.finish[0])
		}
	}
}

func TestEndTokenEndsTheAnswer(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{Kind: modelgen.Successor})
	e := l.open(t, Options{})
	got := generate(t, e, Request{Prompt: l.ids(t, "count:")})
	require.Equal(t, FinishStop, got.finish[0])
	last := got.ids[0][len(got.ids[0])-1]
	require.True(t, l.tok.EOG(last))
	require.Equal(t, len(got.ids[0]), got.usage.Completion, "the end token counts")
	require.NotContains(t, got.text[0], l.tok.Text(last))
	on := generate(t, e, Request{Prompt: l.ids(t, "count:"), IgnoreEOS: true, MaxTokens: got.usage.Completion + 3})
	require.Equal(t, got.usage.Completion+3, on.usage.Completion)
	more := generate(t, e, Request{Prompt: l.ids(t, "count:"), MinTokens: got.usage.Completion + 1, MaxTokens: got.usage.Completion + 5})
	require.NotContains(t, more.ids[0][:got.usage.Completion+1], last)
}

func TestStopStringsAndIDs(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{Kind: modelgen.Successor})
	e := l.open(t, Options{})
	got := generate(t, e, Request{Prompt: l.ids(t, "count:"), Stop: []string{"4 5", " 9"}})
	require.Equal(t, " 1 2 3 ", got.text[0])
	require.Equal(t, "4 5", got.stop[0])
	require.Equal(t, FinishStop, got.finish[0])
	require.Equal(t, 5, got.usage.Completion, "the tokens of the stop string count")
	three := l.ids(t, " 3")
	got = generate(t, e, Request{Prompt: l.ids(t, "count:"), StopTokens: three[len(three)-1:]})
	require.Equal(t, " 1 2", got.text[0])
	require.Equal(t, FinishStop, got.finish[0])
}

func TestChoicesShareThePromptAndDiffer(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{})
	e := l.open(t, Options{})
	p := prompt(100, 300, 1)
	seed := uint64(5)
	r := Request{Prompt: p, N: 4, MaxTokens: 20, IgnoreEOS: true, Temperature: 1, Seed: &seed}
	got := generate(t, e, r)
	require.Equal(t, Usage{Prompt: 100, Completion: 80}, got.usage)
	require.NotEqual(t, got.ids[0], got.ids[1])
	require.EqualValues(t, 100+3*4, e.Stats().PromptTokens, "the shared prompt is computed once, its last 4 positions by each choice")
	again := generate(t, e, r)
	require.Equal(t, got.ids, again.ids)
	require.Equal(t, 96, again.usage.Cached)
	one := r
	one.N = 1
	require.Equal(t, got.ids[0], generate(t, e, one).ids[0])
	one.Seed = nil
	s, err := e.Generate(t.Context(), one)
	require.NoError(t, err)
	unseeded := read(t, s, 1)
	one.Seed = &s.Seed
	require.Equal(t, unseeded.ids, generate(t, e, one).ids, "the seed that was drawn is told")
}

func TestPrefixIsSharedWithinASaltOnly(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{})
	e := l.open(t, Options{})
	p := prompt(70, 300, 1)
	for _, c := range []struct {
		salt   string
		cached int
	}{{"a", 0}, {"a", 64}, {"b", 0}, {"b", 64}} {
		require.Equal(t, c.cached, generate(t, e, Request{Prompt: p, MaxTokens: 1, Salt: c.salt}).usage.Cached, c.salt)
	}
}

func TestPromptLogprobs(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{})
	e := l.open(t, Options{FullKV: true})
	p := prompt(75, 300, 2)
	rows := ownLogits(t, l.m, p)
	for range 2 { // the second finds its prefix cached and must not use it
		got := generate(t, e, Request{Prompt: p, MaxTokens: 2, IgnoreEOS: true, Logprobs: true, TopLogprobs: 3, PromptLogprobs: true})
		require.Len(t, got.prompt, len(p))
		require.Zero(t, got.usage.Cached)
		for i := 1; i < len(p); i++ {
			var want TokenLogprob
			d := (&scratch{}).distribution(rows[i-1], 3, &want)
			require.Equal(t, p[i], got.prompt[i].ID)
			require.InDelta(t, float64(rows[i-1][p[i]])-d.max-d.logSum, got.prompt[i].Logprob, 1e-6)
			require.Equal(t, want.Top, got.prompt[i].Top)
		}
		require.Len(t, got.logprobs[0], 2)
	}
}

func TestWrongRequestsAreRefusedWithEveryField(t *testing.T) {
	t.Parallel()
	l := load(t, modelgen.Spec{})
	e := l.open(t, Options{})
	_, err := e.Generate(t.Context(), Request{Prompt: []int32{-1}, Temperature: -1, TopP: 2, N: 99, TopLogprobs: 21, Stop: []string{""}, LogitBias: map[int32]float32{1 << 30: 1}})
	require.ErrorIs(t, err, ErrRequest)
	var names []string
	for _, f := range fault.From(err).Fields {
		names = append(names, f.Name)
	}
	require.ElementsMatch(t, []string{"prompt", "temperature", "top_p", "n", "top_logprobs", "stop", "logit_bias"}, names)
}
