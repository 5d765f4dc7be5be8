package run

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/arch"
	"maas/internal/llm/kernel"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/token"
)

func openEncoder(t *testing.T, s modelgen.Spec, o EncoderOptions) (*Encoder, *token.Tokenizer) {
	t.Helper()
	b, err := modelgen.GGUF(s)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	o.Pool = kernel.NewPool(2)
	t.Cleanup(o.Pool.Close)
	m, src, err := arch.Load(t.Context(), path, arch.LoadOptions{Pool: o.Pool})
	require.NoError(t, err)
	t.Cleanup(func() { _ = src.Close() })
	tok, err := src.Tokenizer()
	require.NoError(t, err)
	e, err := OpenEncoder(m, tok, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, e.Close(ctx))
	})
	return e, tok
}

func ids(t *testing.T, tok *token.Tokenizer, text string) []int32 {
	t.Helper()
	out, err := tok.Encode(nil, []token.Part{{Text: text}}, tok.Defaults())
	require.NoError(t, err)
	return out
}

func TestEncoderServes(t *testing.T) {
	t.Parallel()
	e, tok := openEncoder(t, modelgen.Spec{Arch: "bert", Seed: 3}, EncoderOptions{})
	var texts [][]int32
	for i := range 300 { // more than one step
		texts = append(texts, ids(t, tok, strings.Repeat(fmt.Sprintf("word%d ", i), 1+i%7)))
	}
	want, err := e.Embed(t.Context(), texts)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 40 { // alone and among others: the same bits
		wg.Go(func() {
			at := i * 7
			got, err := e.Embed(t.Context(), texts[at:at+1+i%3])
			if err != nil || len(got) != 1+i%3 {
				t.Errorf("%d: %d vectors, %v", i, len(got), err)
				return
			}
			for k := range got {
				for j := range got[k] {
					if got[k][j] != want[at+k][j] {
						t.Errorf("request %d, text %d, value %d differs", i, k, j)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 300+40+39, e.Stats().Finished[FinishStop], "%+v", e.Stats())

	_, err = e.Embed(t.Context(), [][]int32{{2, 3}, {}})
	require.ErrorIs(t, err, ErrRequest)
	_, err = e.Embed(t.Context(), [][]int32{{2, 1 << 30}})
	require.ErrorIs(t, err, ErrRequest)
	_, err = e.Embed(t.Context(), [][]int32{make([]int32, 513)})
	require.ErrorIs(t, err, ErrContextLength)
	_, err = e.Rank(t.Context(), nil)
	require.ErrorIs(t, err, arch.ErrUnsupported)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.Embed(gone, texts)
	if err != nil { // computed before it looked
		require.ErrorIs(t, err, context.Canceled)
	}
}

func TestRanker(t *testing.T) {
	t.Parallel()
	e, _ := openEncoder(t, modelgen.Spec{Arch: "bert", Kind: modelgen.Rank, Seed: 4}, EncoderOptions{})
	pair := func(a, b string, limit int) arch.Sequence {
		p, err := e.Pair(a, b, 0, limit)
		require.NoError(t, err)
		require.LessOrEqual(t, len(p.Tokens), limit)
		require.Len(t, p.Types, len(p.Tokens))
		return p
	}
	long := strings.Repeat("some words ", 400)
	one := pair("a question", "an answer", 64)
	cut, err := e.Pair("q", long, 5, 512)
	require.NoError(t, err)
	require.Len(t, cut.Tokens, 1+1+1+5+1)
	require.EqualValues(t, 2, one.Tokens[0])
	require.EqualValues(t, 3, one.Tokens[len(one.Tokens)-1])
	list := []arch.Sequence{one, pair("a question", "something else", 64), pair("q", long, 512), pair(long, "a", 512), pair(long, long, 512), pair("", "", 16)}
	scores, err := e.Rank(t.Context(), list)
	require.NoError(t, err)
	require.NotEqual(t, scores[0], scores[1])
	again, err := e.Rank(t.Context(), list[1:2])
	require.NoError(t, err)
	require.Equal(t, scores[1], again[0])
	_, err = e.Embed(t.Context(), [][]int32{{2, 3}})
	require.ErrorIs(t, err, arch.ErrUnsupported)
}

// A long list does not hold up a short request: each step takes one sequence of everybody in turn.
func TestEncoderIsFair(t *testing.T) {
	t.Parallel()
	e := &Encoder{model: &arch.Model{}, enc: nil, o: EncoderOptions{MaxCtx: 512, MaxQueue: 10}}
	long := &encoding{ctx: t.Context(), list: make([]arch.Sequence, 5000), out: make([][]float32, 5000)}
	short := &encoding{ctx: t.Context(), list: make([]arch.Sequence, 3), out: make([][]float32, 3)}
	e.stats.Finished = map[Finish]int64{}
	e.waiting = []*encoding{long, short}
	e.enc = newIdleEncoder(t)
	step := e.pick()
	require.Len(t, step, arch.EncoderSequences)
	require.Equal(t, 3, short.next, "all of the short one is in the first step")
	require.Equal(t, arch.EncoderSequences-3, long.next)
}

func newIdleEncoder(t *testing.T) *arch.Encoder {
	t.Helper()
	b, err := modelgen.GGUF(modelgen.Spec{Arch: "bert"})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	m, src, err := arch.Load(t.Context(), path, arch.LoadOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = src.Close() })
	enc, err := m.NewEncoder(64, nil)
	require.NoError(t, err)
	return enc
}
