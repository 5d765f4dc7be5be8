package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/arch"
	"maas/internal/llm/gguf"
	"maas/internal/llm/kernel"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/token"
)

// loaded is a generated model, ready to run.
type loaded struct {
	m   *arch.Model
	tok *token.Tokenizer
}

// load generates a model in memory and loads it through the GGUF reader.
func load(tb testing.TB, s modelgen.Spec) loaded {
	tb.Helper()
	b, err := modelgen.GGUF(s)
	require.NoError(tb, err)
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{})
	require.NoError(tb, err)
	src, err := arch.FromGGUF(f)
	require.NoError(tb, err)
	tok, err := src.Tokenizer()
	require.NoError(tb, err)
	m, err := src.Load(context.Background(), arch.LoadOptions{})
	require.NoError(tb, err)
	return loaded{m, tok}
}

// open starts an engine that is closed with the test.
func (l loaded) open(tb testing.TB, o Options) *Engine {
	tb.Helper()
	e, err := Open(l.m, l.tok, o)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = e.Close(context.Background()) })
	return e
}

// pool returns workers that end with the test.
func workers(tb testing.TB, n int) *kernel.Pool {
	tb.Helper()
	p := kernel.NewPool(n)
	tb.Cleanup(p.Close)
	return p
}

func (l loaded) ids(tb testing.TB, text string) []int32 {
	tb.Helper()
	ids, err := l.tok.Encode(nil, []token.Part{{Text: text, Trusted: true}}, l.tok.Defaults())
	require.NoError(tb, err)
	return ids
}

// answer is a whole stream put together.
type answer struct {
	text     []string // by choice
	ids      [][]int32
	logprobs [][]TokenLogprob
	finish   []Finish
	stop     []string
	prompt   []TokenLogprob
	usage    Usage
	err      error
}

func read(tb testing.TB, s *Stream, n int) answer {
	tb.Helper()
	a := answer{text: make([]string, n), ids: make([][]int32, n), logprobs: make([][]TokenLogprob, n), finish: make([]Finish, n), stop: make([]string, n)}
	done := false
	for {
		c, err := s.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				a.err = err
			}
			require.True(tb, done, "the stream ended without a last chunk")
			return a
		}
		require.False(tb, done, "a chunk came after the last one")
		require.Empty(tb, a.finish[c.Index], "a chunk came after the end of choice %d", c.Index)
		a.text[c.Index] += c.Text
		a.ids[c.Index] = append(a.ids[c.Index], c.Tokens...)
		a.logprobs[c.Index] = append(a.logprobs[c.Index], c.Logprobs...)
		a.finish[c.Index], a.stop[c.Index] = c.Finish, c.StopText
		if c.Prompt != nil {
			a.prompt = c.Prompt
		}
		a.usage, done = c.Usage, c.Done
	}
}

func generate(tb testing.TB, e *Engine, r Request) answer {
	tb.Helper()
	s, err := e.Generate(context.Background(), r)
	require.NoError(tb, err)
	return read(tb, s, max(1, r.N))
}
