package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/arch"
	"maas/internal/llm/gguf"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
)

// oracle returns the path of the independent engine, see test/oracle/README.md.
func oracle(t testing.TB) string {
	t.Helper()
	path := os.Getenv("MAAS_ORACLE")
	if path == "" {
		if os.Getenv("MAAS_TEST_STRICT") != "" {
			t.Fatal("MAAS_ORACLE is not set: build it with test/oracle/build.sh")
		}
		t.Skip("SKIPPED: no llama.cpp to compare with; build it with test/oracle/build.sh and set MAAS_ORACLE, or run `make parity`")
	}
	return path
}

// oracleLogits runs the other engine: the logits after each id, and the ids that greedy decoding adds.
func oracleLogits(t *testing.T, bin, model string, ids []int32, greedy int) (logits [][]float32, next []int32) {
	t.Helper()
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.Itoa(int(id))
	}
	out := filepath.Join(t.TempDir(), "logits.f32")
	cmd := exec.CommandContext(t.Context(), bin, "logits", model, "--ids", strings.Join(words, ","), "--greedy", strconv.Itoa(greedy), "--out", out)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	var answer struct {
		Vocab, Positions int
		Greedy           []int32
	}
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &answer), stdout.String())
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(raw), 4*answer.Vocab*len(ids))
	for i := range ids {
		row := make([]float32, answer.Vocab)
		for j := range row {
			row[j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(i*answer.Vocab+j):]))
		}
		logits = append(logits, row)
	}
	return logits, answer.Greedy
}

// change is a way to alter a generated file: entries that are added, and a tensor.
type change struct {
	name   string
	kvs    []gguf.KV
	tensor string
	values []float32
}

// rewrite copies a GGUF file with a change.
func rewrite(t *testing.T, b []byte, c change) []byte {
	t.Helper()
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{})
	require.NoError(t, err)
	var kvs []gguf.KV
	for _, kv := range f.KVs {
		full, err := f.Entry(kv.Key)
		require.NoError(t, err)
		kvs = append(kvs, full)
	}
	var infos []gguf.TensorInfo
	for _, ten := range f.Tensors {
		infos = append(infos, gguf.TensorInfo{Name: ten.Name, Dims: ten.Dims, Type: ten.Type})
	}
	if c.tensor != "" {
		infos = append(infos, gguf.TensorInfo{Name: c.tensor, Dims: []int{len(c.values)}, Type: quant.F32})
	}
	var out bytes.Buffer
	w, err := gguf.NewWriter(&out, append(kvs, c.kvs...), infos)
	require.NoError(t, err)
	for i := range f.Tensors {
		require.NoError(t, w.WriteTensor(f.Tensors[i].Name, f.Reader(&f.Tensors[i])))
	}
	if c.tensor != "" {
		raw := make([]byte, 4*len(c.values))
		require.NoError(t, quant.Quantize(quant.F32, raw, c.values))
		require.NoError(t, w.WriteTensor(c.tensor, bytes.NewReader(raw)))
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// generated writes a model file with a change and loads it.
func generated(t *testing.T, s modelgen.Spec, c change) (string, loaded) {
	t.Helper()
	b, err := modelgen.GGUF(s)
	require.NoError(t, err)
	if len(c.kvs) > 0 {
		b = rewrite(t, b, c)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	m, src, err := arch.Load(t.Context(), path, arch.LoadOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = src.Close() })
	tok, err := src.Tokenizer()
	require.NoError(t, err)
	return path, loaded{m, tok}
}

// ownLogits computes the logits after each id in one pass, with a float32 cache.
func ownLogits(t *testing.T, m *arch.Model, ids []int32) [][]float32 {
	t.Helper()
	n := len(ids)
	pages := make([]int32, pagesFor(n))
	for i := range pages {
		pages[i] = int32(i)
	}
	s, err := m.NewSession(arch.SessionOptions{Pages: len(pages), FullKV: true, MaxRows: n, MaxOut: n})
	require.NoError(t, err)
	b := arch.Batch{Tokens: ids, Spans: []arch.Span{{Len: n, Pages: pages}}}
	for i := range ids {
		b.Out = append(b.Out, int32(i))
	}
	s.Forward(&b)
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = b.Row(i)
	}
	return rows
}

// distance is the largest difference of two rows relative to the largest value.
func distance(a, b []float32) float64 {
	diff, top := 0.0, 0.0
	for i := range a {
		diff = max(diff, math.Abs(float64(a[i])-float64(b[i])))
		top = max(top, math.Abs(float64(b[i])))
	}
	return diff / top
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}

var ropeChanges = []change{
	{name: "plain"},
	{name: "linear", kvs: []gguf.KV{gguf.Text("llama.rope.scaling.type", "linear"), gguf.F32("llama.rope.scaling.factor", 4)}},
	{name: "yarn", kvs: []gguf.KV{gguf.Text("llama.rope.scaling.type", "yarn"), gguf.F32("llama.rope.scaling.factor", 4), gguf.U32("llama.rope.scaling.original_context_length", 128)}},
	{name: "rope_freqs", kvs: []gguf.KV{gguf.Flag("llama.test", true)}, tensor: "rope_freqs.weight", values: []float32{1, 1, 1, 1.5, 2, 4, 8, 8}},
}

func TestFloatLogitsEqualLlamaCpp(t *testing.T) {
	bin := oracle(t)
	var cases []modelgen.Spec
	for _, a := range []string{"llama", "qwen2", "qwen3"} {
		cases = append(cases, modelgen.Spec{Arch: a, Layers: 3, Seed: 1}, modelgen.Spec{Arch: a, Tied: true, Heads: 8, KVHeads: 1, Tokenizer: modelgen.SPM, Seed: 2})
	}
	cases = append(cases, modelgen.Spec{Arch: "qwen3", HeadDim: 32, Seed: 3})
	for _, s := range cases {
		for _, c := range ropeChanges {
			if c.name != "plain" && (s.Arch != "llama" || s.Tied) {
				continue
			}
			t.Run(fmt.Sprintf("%s %d %s", s.Arch, s.Seed, c.name), func(t *testing.T) {
				path, l := generated(t, s, c)
				ids := prompt(40, l.m.Config.Vocab, 5)
				want, greedy := oracleLogits(t, bin, path, ids, 64)
				got := ownLogits(t, l.m, ids)
				worst := 0.0
				for i := range ids {
					worst = max(worst, distance(got[i], want[i]))
				}
				t.Logf("largest relative difference %.2g", worst)
				require.Less(t, worst, 1e-3)
				e := l.open(t, Options{FullKV: true})
				a := generate(t, e, Request{Prompt: ids, MaxTokens: 64, IgnoreEOS: true})
				require.Equal(t, greedy, a.ids[0])
			})
		}
	}
}

func TestQuantizedLogitsAreNearLlamaCpp(t *testing.T) {
	bin := oracle(t)
	for _, a := range []string{"llama", "qwen2", "qwen3"} {
		for _, typ := range []quant.Type{quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q5_0, quant.Q4_K, quant.Q6_K} {
			t.Run(a+" "+typ.String(), func(t *testing.T) {
				path, l := generated(t, modelgen.Spec{Arch: a, Dim: 256, FF: 512, Seed: 4, Type: typ}, change{})
				ids := prompt(40, l.m.Config.Vocab, 6)
				want, _ := oracleLogits(t, bin, path, ids, 1)
				got := ownLogits(t, l.m, ids)
				least := 1.0
				for i := range ids {
					least = min(least, cosine(got[i], want[i]))
				}
				t.Logf("least cosine %.6f", least)
				require.Greater(t, least, 0.999)
			})
		}
	}
}

// golden is what the other engine answered, kept so that parity is checked where it is not installed: the ids of greedy decoding and some logits.
type golden struct {
	Prompt []int32     `json:"prompt"`
	Greedy []int32     `json:"greedy"`
	Logits [][]float32 `json:"logits"` // after each of the last 4 prompt tokens
}

var update = flag.Bool("update", false, "rewrite the golden files; needs MAAS_ORACLE")

func TestGoldenLogitsOfLlamaCpp(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"llama", "qwen2", "qwen3"} {
		path := filepath.Join("testdata", "llamacpp-"+a+".json")
		file, l := generated(t, modelgen.Spec{Arch: a, Layers: 3, Seed: 11}, change{})
		if *update {
			g := golden{Prompt: prompt(20, l.m.Config.Vocab, 12)}
			rows, greedy := oracleLogits(t, oracle(t), file, g.Prompt, 64)
			g.Greedy, g.Logits = greedy, rows[16:]
			b, err := json.Marshal(g)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, append(b, '\n'), 0o600))
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		var g golden
		require.NoError(t, json.Unmarshal(b, &g))
		got := ownLogits(t, l.m, g.Prompt)
		for i, want := range g.Logits {
			require.Less(t, distance(got[16+i], want), 1e-4, a)
		}
		e := l.open(t, Options{FullKV: true})
		require.Equal(t, g.Greedy, generate(t, e, Request{Prompt: g.Prompt, MaxTokens: 64, IgnoreEOS: true}).ids[0], a)
	}
}

// The hashes of all logits of a generated model are kept for each number format. They are the same on every machine, whatever its instructions: a change here is a change of the numeric contract.
func TestLogitsHaveTheSameBitsEverywhere(t *testing.T) {
	t.Parallel()
	path := filepath.Join("testdata", "bits.json")
	got := map[quant.Type]uint64{}
	for _, typ := range []quant.Type{quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q5_0, quant.Q4_K, quant.Q6_K} {
		l := load(t, modelgen.Spec{Arch: "qwen3", Dim: 256, FF: 256, Seed: 21, Type: typ})
		h := fnv.New64a()
		for _, row := range ownLogits(t, l.m, prompt(40, 300, 22)) {
			require.NoError(t, binary.Write(h, binary.LittleEndian, row))
		}
		got[typ] = h.Sum64()
	}
	if *update {
		b, err := json.Marshal(got)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, append(b, '\n'), 0o600))
	}
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	var want map[quant.Type]uint64
	require.NoError(t, json.Unmarshal(b, &want))
	require.Equal(t, want, got)
}
