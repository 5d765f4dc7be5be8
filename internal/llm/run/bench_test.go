package run

import (
	"context"
	"fmt"
	"testing"

	"maas/internal/llm/arch"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
)

// benchModels caches the 134 M models of a benchmark run.
var benchModels = map[quant.Type]loaded{}

func benchModel(b *testing.B, t quant.Type) loaded {
	b.Helper()
	l, ok := benchModels[t]
	if !ok {
		l = load(b, modelgen.BenchSpec(t))
		benchModels[t] = l
	}
	return l
}

// batchOf is a decoding step of n sequences that have some positions each.
func batchOf(n, pos, pages int) arch.Batch {
	var b arch.Batch
	for i := range n {
		table := make([]int32, pages)
		for j := range table {
			table[j] = int32(i*pages + j)
		}
		b.Tokens = append(b.Tokens, int32(100+i))
		b.Spans = append(b.Spans, arch.Span{Row: i, Len: 1, Pos: pos, Pages: table})
		b.Out = append(b.Out, int32(i))
	}
	return b
}

// BenchmarkStep measures forward passes of the 134 M shape: one decoding step of 1 and of 8 sequences, and a prompt of 128. ns/token is comparable between them.
func BenchmarkStep(b *testing.B) {
	for _, typ := range []quant.Type{quant.Q8_0, quant.Q4_K, quant.F32} {
		for _, n := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/decode%d", typ, n), func(b *testing.B) {
				l := benchModel(b, typ)
				s, err := l.m.NewSession(arch.SessionOptions{Pages: n * 8, MaxRows: n, MaxOut: n})
				if err != nil {
					b.Fatal(err)
				}
				batch := batchOf(n, 130, 8)
				s.Forward(&batch)
				b.ReportAllocs()
				b.ResetTimer()
				for b.Loop() {
					s.Forward(&batch)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/token")
			})
		}
		b.Run(fmt.Sprintf("%s/prefill128", typ), func(b *testing.B) {
			l := benchModel(b, typ)
			s, err := l.m.NewSession(arch.SessionOptions{Pages: 4, MaxRows: 128, MaxOut: 1})
			if err != nil {
				b.Fatal(err)
			}
			batch := arch.Batch{Tokens: prompt(128, 30000, 1), Spans: []arch.Span{{Len: 128, Pages: []int32{0, 1, 2, 3}}}, Out: []int32{127}}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				s.Forward(&batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*128), "ns/token")
		})
	}
}

// BenchmarkLongPrompt measures the last 128 tokens of a prompt of 2,048: what attention to a long past costs.
func BenchmarkLongPrompt(b *testing.B) {
	l := benchModel(b, quant.Q8_0)
	s, err := l.m.NewSession(arch.SessionOptions{Pages: 64, MaxRows: 128, MaxOut: 1})
	if err != nil {
		b.Fatal(err)
	}
	pages := make([]int32, 64)
	for i := range pages {
		pages[i] = int32(i)
	}
	batch := arch.Batch{Tokens: prompt(128, 30000, 1), Spans: []arch.Span{{Len: 128, Pos: 1920, Pages: pages}}, Out: []int32{127}}
	for b.Loop() {
		s.Forward(&batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*128), "ns/token")
}

// BenchmarkEngine measures whole requests, sampling and text included.
func BenchmarkEngine(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("q8_0/%d", n), func(b *testing.B) {
			l := benchModel(b, quant.Q8_0)
			e, err := Open(l.m, l.tok, Options{MaxSeqs: n, MaxCtx: 512})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = e.Close(context.Background()) }()
			const tokens = 64
			b.ReportAllocs()
			for b.Loop() {
				var streams []*Stream
				for i := range n {
					s, err := e.Generate(context.Background(), Request{Prompt: prompt(16, 30000, i), MaxTokens: tokens, IgnoreEOS: true, Temperature: 0.8, TopP: 0.95})
					if err != nil {
						b.Fatal(err)
					}
					streams = append(streams, s)
				}
				for _, s := range streams {
					for {
						if _, err := s.Next(); err != nil {
							break
						}
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n*tokens), "ns/token")
		})
	}
}

// BenchmarkSample measures the choice of one token from a vocabulary of 152,000 with a distribution like a real model's.
func BenchmarkSample(b *testing.B) {
	logits := randomLogits(noise(1), 152_000, 3)
	work := make([]float32, len(logits))
	for name, r := range map[string]Request{"greedy": {}, "temperature": {Temperature: 0.8}, "top_p": {Temperature: 0.8, TopP: 0.95}, "top_k": {Temperature: 0.8, TopK: 40, TopP: 0.95}, "logprobs": {Logprobs: true, TopLogprobs: 5}} {
		b.Run(name, func(b *testing.B) {
			s, sc := newSampler(&r, 1, 0, nil), &scratch{}
			var lp *TokenLogprob
			if r.Logprobs {
				lp = &TokenLogprob{}
			}
			b.ReportAllocs()
			pos := 0
			for b.Loop() {
				copy(work, logits)
				s.next(sc, work, pos, 1, lp)
				pos++
			}
		})
	}
}
