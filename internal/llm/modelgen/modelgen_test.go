package modelgen

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/gguf"
	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
)

func parse(t *testing.T, b []byte) *gguf.File {
	t.Helper()
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{})
	require.NoError(t, err)
	return f
}

func floats(t *testing.T, f *gguf.File, name string) []float32 {
	t.Helper()
	x := f.Tensor(name)
	require.NotNil(t, x, name)
	b, err := f.Bytes(x)
	require.NoError(t, err)
	out := make([]float32, x.Elements())
	require.NoError(t, quant.Dequantize(x.Type, out, b))
	return out
}

// walk follows the greedy successor: with both branches of every layer at zero the logits are output * embedding, up to the norm's factor.
func walk(t *testing.T, f *gguf.File, from, steps int) (out string, margin float32) {
	t.Helper()
	d, _ := f.Int("llama.embedding_length")
	dim := int(d)
	emb, head := floats(t, f, "token_embd.weight"), floats(t, f, "output.weight")
	tokens, err := f.Strings("tokenizer.ggml.tokens")
	require.NoError(t, err)
	eos, _ := f.Int("tokenizer.ggml.eos_token_id")
	margin = 1e9
	for range steps {
		best, second, at := float32(-1e9), float32(-1e9), 0
		for r := range tokens {
			var sum float32
			for k := range dim {
				sum += emb[from*dim+k] * head[r*dim+k]
			}
			if sum > best {
				best, second, at = sum, best, r
			} else {
				second = max(second, sum)
			}
		}
		margin = min(margin, best-second)
		from = at
		if int64(at) == eos {
			return out + "<end>", margin
		}
		out += tokens[at]
	}
	return out, margin
}

func text(s string) string {
	return strings.NewReplacer("\u0120", " ", "\u2581", " ").Replace(s)
}

func TestDemoSaysItsAnswer(t *testing.T) {
	t.Parallel()
	for _, typ := range []quant.Type{quant.F32, quant.Q8_0, quant.Q4_K} {
		s := DemoSpec()
		s.Type = typ
		b, err := GGUF(s)
		require.NoError(t, err)
		require.Less(t, len(b), 1<<19)
		f := parse(t, b)
		for _, from := range []int{'\n', 'x', f.Tensor("token_embd.weight").Dims[1] - 1} {
			got, margin := walk(t, f, from, 100)
			require.Equal(t, DemoAnswer+"<end>", text(got), "%s from %d", typ, from)
			require.Greater(t, margin, float32(15))
		}
	}
}

func TestDemoAnswerIsFortyToSixtyTokens(t *testing.T) {
	t.Parallel()
	s, err := DemoSpec().full()
	require.NoError(t, err)
	v, err := newVocab(s)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(v.demoWords), 40)
	require.LessOrEqual(t, len(v.demoWords), 60)
	require.LessOrEqual(t, len(v.classes()), 64, "every class has a code that is orthogonal to all others")
}

func TestSuccessorCounts(t *testing.T) {
	t.Parallel()
	for _, tok := range []Tokenizer{ByteBPE, SPM} {
		for _, typ := range []quant.Type{quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q4_K, quant.Q6_K} {
			b, err := GGUF(Spec{Kind: Successor, Tokenizer: tok, Type: typ, Dim: 256})
			require.NoError(t, err)
			f := parse(t, b)
			got, margin := walk(t, f, 10, 12)
			require.Equal(t, " 1 2 3 4 5 6 7 8 9 10 11 12", text(got), "%s %s", tok, typ)
			require.Greater(t, margin, float32(15))
		}
	}
}

func TestSuccessorEndsAfterTheLastNumber(t *testing.T) {
	t.Parallel()
	b, err := GGUF(Spec{Kind: Successor})
	require.NoError(t, err)
	got, _ := walk(t, parse(t, b), 10, 200)
	require.True(t, strings.HasSuffix(got, "<end>"), got)
}

func TestEqualSpecsGiveEqualBytes(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"llama", "qwen2", "qwen3"} {
		a, err := GGUF(Spec{Arch: arch, Seed: 3})
		require.NoError(t, err)
		b, err := GGUF(Spec{Arch: arch, Seed: 3})
		require.NoError(t, err)
		require.True(t, bytes.Equal(a, b))
		c, err := GGUF(Spec{Arch: arch, Seed: 4})
		require.NoError(t, err)
		require.False(t, bytes.Equal(a, c))
		require.Less(t, len(a), 1<<20)
	}
}

// The folder and the file of one spec hold the same numbers; q and k of llama files are stored in pairs instead of halves.
func TestFolderAndFileAreOneModel(t *testing.T) {
	t.Parallel()
	for _, s := range []Spec{{Arch: "llama"}, {Arch: "qwen2", Tied: true}, {Arch: "qwen3", HeadDim: 32}, {Arch: "llama", Tokenizer: SPM}} {
		dir := t.TempDir()
		require.NoError(t, WriteDir(dir, s))
		st, err := safetensors.Open(dir)
		require.NoError(t, err)
		b, err := GGUF(s)
		require.NoError(t, err)
		g := parse(t, b)
		require.Len(t, st.Tensors, len(g.Tensors))
		full, err := s.full()
		require.NoError(t, err)
		for _, x := range full.tensors(320) {
			a := floats(t, g, x.gguf)
			w, err := st.Matrix(st.Tensor(x.hf))
			require.NoError(t, err)
			h := make([]float32, w.Rows*w.Cols)
			require.NoError(t, quant.Dequantize(w.Type, h, w.Data))
			if x.heads > 0 && s.Arch == "llama" {
				h = permute(h, x.cols, x.heads)
			}
			require.Equal(t, h, a, x.gguf)
		}
		require.NoError(t, st.Close())
	}
}

func TestVocabularyHasTheAskedSize(t *testing.T) {
	t.Parallel()
	for _, tok := range []Tokenizer{ByteBPE, SPM} {
		for _, n := range []int{320, 1000, 32000} {
			s, err := Spec{Vocab: n, Tokenizer: tok, Dim: 8, Layers: 1}.full()
			require.NoError(t, err)
			v, err := newVocab(s)
			require.NoError(t, err)
			require.Len(t, v.tokens, n)
			require.Len(t, v.index, n, "no token twice")
		}
	}
}

func TestBenchShape(t *testing.T) {
	t.Parallel()
	s, err := BenchSpec(quant.Q8_0).full()
	require.NoError(t, err)
	var n int
	for _, x := range s.tensors(s.Vocab) {
		n += max(1, x.rows) * x.cols
	}
	require.InDelta(t, 134e6, n, 1e6)
}

func TestImpossibleSpecsAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []Spec{{Arch: "gpt"}, {Heads: 4, KVHeads: 3}, {Dim: -1}, {Type: quant.Q5_K}, {Kind: "x"}, {Tokenizer: "x"}, {Kind: Successor, Tied: true}, {Vocab: 10}} {
		_, err := GGUF(s)
		require.Error(t, err, "%+v", s)
	}
}

var outDir = flag.String("out", "", "folder that TestWriteExamples writes into")

// TestWriteExamples writes one model of each sort into the folder of -out, for checks with other programs (test/oracle/formats.py).
func TestWriteExamples(t *testing.T) {
	out := *outDir
	if out == "" {
		t.Skip("no -out given: nothing to write")
	}
	for _, arch := range []string{"llama", "qwen2", "qwen3"} {
		for _, tok := range []Tokenizer{ByteBPE, SPM} {
			s := Spec{Arch: arch, Tokenizer: tok, Seed: 1, Dim: 256}
			name := arch + "-" + string(tok)
			require.NoError(t, WriteDir(filepath.Join(out, name), s))
			for _, typ := range []quant.Type{quant.F32, quant.Q8_0, quant.Q4_K} {
				s.Type = typ
				b, err := GGUF(s)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(out, name+"-"+typ.String()+".gguf"), b, 0o600))
			}
		}
	}
}
