package parity

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/arch"
	"maas/internal/llm/gguf"
	"maas/internal/llm/kernel"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
	"maas/internal/llm/run"
	"maas/internal/llm/token"
)

// BenchmarkEngine decodes with the whole engine, q8_0 of 134 M parameters: an iteration is one token of each of the streams. Allocations count per iteration.
func BenchmarkEngine(b *testing.B) {
	path := filepath.Join(b.TempDir(), "bench.gguf")
	f, err := os.Create(path)
	require.NoError(b, err)
	require.NoError(b, modelgen.WriteGGUF(f, modelgen.BenchSpec(quant.Q8_0)))
	require.NoError(b, f.Close())
	file, err := gguf.Open(path)
	require.NoError(b, err)
	tok, err := token.FromGGUF(file)
	require.NoError(b, err)
	m, source, err := arch.Load(b.Context(), path, arch.LoadOptions{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, source.Close()) })
	for _, threads := range []int{1, 2} {
		for _, streams := range []int{1, 8} {
			for _, temperature := range []float64{0, 1} {
				b.Run(fmt.Sprintf("threads=%d/streams=%d/temperature=%g", threads, streams, temperature), func(b *testing.B) {
					p := kernel.NewPool(threads)
					defer p.Close()
					e, err := run.Open(m, tok, run.Options{MaxSeqs: 8, MaxCtx: 1024, Pool: p})
					require.NoError(b, err)
					defer func() { require.NoError(b, e.Close(b.Context())) }()
					b.ReportAllocs()
					generate(b, e, streams, temperature)
				})
			}
		}
	}
}

// generate runs b.N tokens in each of the streams, in answers of at most 500.
func generate(b *testing.B, e *run.Engine, streams int, temperature float64) {
	b.Helper()
	var wait sync.WaitGroup
	for i := range streams {
		wait.Go(func() {
			for left := b.N; left > 0; left -= 500 {
				s, err := e.Generate(b.Context(), run.Request{Prompt: []int32{int32(i + 1), 2, 3}, MaxTokens: min(left, 500), IgnoreEOS: true, Temperature: temperature})
				if err != nil {
					b.Error(err)
					return
				}
				for {
					if _, err := s.Next(); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Error(err)
						return
					}
				}
				s.Close()
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*streams), "us/token")
}
