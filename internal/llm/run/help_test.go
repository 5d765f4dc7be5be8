package run

import (
	"bytes"
	"context"
	"io"
	"strings"
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
func load(t testing.TB, s modelgen.Spec) loaded {
	t.Helper()
	b, err := modelgen.GGUF(s)
	require.NoError(t, err)
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{})
	require.NoError(t, err)
	src, err := arch.FromGGUF(f)
	require.NoError(t, err)
	tok, err := src.Tokenizer()
	require.NoError(t, err)
	m, err := src.Load(context.Background(), arch.LoadOptions{})
	require.NoError(t, err)
	return loaded{m, tok}
}

// open starts an engine that is closed with the test.
func (l loaded) open(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := Open(l.m, l.tok, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return e
}

// pool returns workers that end with the test.
func workers(t testing.TB, n int) *kernel.Pool {
	t.Helper()
	p := kernel.NewPool(n)
	t.Cleanup(p.Close)
	return p
}

func (l loaded) ids(t testing.TB, text string) []int32 {
	t.Helper()
	ids, err := l.tok.Encode(nil, []token.Part{{Text: text, Trusted: true}}, l.tok.Defaults())
	require.NoError(t, err)
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

func read(t testing.TB, s *Stream, n int) answer {
	t.Helper()
	a := answer{text: make([]string, n), ids: make([][]int32, n), logprobs: make([][]TokenLogprob, n), finish: make([]Finish, n), stop: make([]string, n)}
	done := false
	for {
		c, err := s.Next()
		if err != nil {
			if err != io.EOF {
				a.err = err
			}
			require.True(t, done, "the stream ended without a last chunk")
			return a
		}
		require.False(t, done, "a chunk came after the last one")
		require.Empty(t, a.finish[c.Index], "a chunk came after the end of choice %d", c.Index)
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

func generate(t testing.TB, e *Engine, r Request) answer {
	t.Helper()
	s, err := e.Generate(context.Background(), r)
	require.NoError(t, err)
	return read(t, s, max(1, r.N))
}

func words(n int) string { return strings.Repeat("word ", n) }
