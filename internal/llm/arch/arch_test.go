package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"maas/internal/llm"
	"maas/internal/llm/gguf"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
	"maas/internal/platform/fault"
)

func parsed(t *testing.T, b []byte) *gguf.File {
	t.Helper()
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{})
	require.NoError(t, err)
	return f
}

func generate(t *testing.T, s modelgen.Spec) *gguf.File {
	t.Helper()
	b, err := modelgen.GGUF(s)
	require.NoError(t, err)
	return parsed(t, b)
}

// edit copies a file: entries and tensors for which keep is false are left out, dims may be changed, and entries are added.
func edit(t *testing.T, f *gguf.File, keep func(name string) bool, dims func(name string, d []int) []int, add ...gguf.KV) *gguf.File {
	t.Helper()
	var kvs []gguf.KV
	added := map[string]bool{}
	for _, kv := range add {
		added[kv.Key] = true
	}
	for _, kv := range f.KVs {
		if keep(kv.Key) && !added[kv.Key] {
			e, err := f.Entry(kv.Key)
			require.NoError(t, err)
			kvs = append(kvs, e)
		}
	}
	var infos []gguf.TensorInfo
	var from []*gguf.Tensor
	for i := range f.Tensors {
		ten := &f.Tensors[i]
		if keep(ten.Name) {
			infos = append(infos, gguf.TensorInfo{Name: ten.Name, Dims: dims(ten.Name, ten.Dims), Type: ten.Type})
			from = append(from, ten)
		}
	}
	var out bytes.Buffer
	w, err := gguf.NewWriter(&out, append(kvs, add...), infos)
	require.NoError(t, err)
	for i, ten := range from {
		size := 1
		for _, d := range infos[i].Dims {
			size *= d
		}
		b, err := f.Bytes(ten)
		require.NoError(t, err)
		b = append(bytes.Clone(b), make([]byte, 1<<20)...)[:ten.Type.RowBytes(size)]
		require.NoError(t, w.WriteTensor(ten.Name, bytes.NewReader(b)))
	}
	require.NoError(t, w.Close())
	return parsed(t, out.Bytes())
}

func all(string) bool { return true }

func same(_ string, d []int) []int { return d }

func without(names ...string) func(string) bool {
	return func(n string) bool {
		return !slices.Contains(names, n)
	}
}

func fields(err error) []string {
	var names []string
	for _, f := range fault.From(err).Fields {
		names = append(names, f.Name)
	}
	return names
}

func TestBothFormatsGiveOneConfig(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"llama", "qwen2", "qwen3"} {
		spec := modelgen.Spec{Arch: a, Tied: a == "qwen3", Heads: 8, KVHeads: 2}
		file, err := ConfigGGUF(generate(t, spec))
		require.NoError(t, err)
		files, err := modelgen.Dir(spec)
		require.NoError(t, err)
		folder, err := ConfigJSON(files["config.json"])
		require.NoError(t, err)
		file.Name = ""
		require.Empty(t, cmp.Diff(file, folder), a)
	}
}

func TestEveryWrongTensorIsNamed(t *testing.T) {
	t.Parallel()
	f := generate(t, modelgen.Spec{})
	_, err := FromGGUF(edit(t, f, without("blk.1.ffn_up.weight", "blk.0.attn_norm.weight"), same))
	require.ErrorIs(t, err, ErrTensorMissing)
	require.Equal(t, []string{"blk.0.attn_norm.weight", "blk.1.ffn_up.weight"}, fields(err))

	_, err = FromGGUF(edit(t, f, all, func(n string, d []int) []int {
		if n == "blk.1.attn_k.weight" {
			return []int{d[0], d[1] * 2}
		}
		return d
	}))
	require.ErrorIs(t, err, ErrTensorShape)
	require.Equal(t, []string{"blk.1.attn_k.weight"}, fields(err))
	require.ErrorContains(t, err, "[64 64], not [32 64]")

	bad := edit(t, f, all, same, gguf.U32("llama.block_count", 1))
	_, err = FromGGUF(bad)
	require.ErrorIs(t, err, ErrTensorExtra)
	require.Contains(t, fields(err), "blk.1.ffn_down.weight")

	_, err = FromGGUF(edit(t, f, without("output_norm.weight"), same, gguf.U32("llama.block_count", 3)))
	require.ErrorIs(t, err, ErrTensorMissing)
	require.Contains(t, fields(err), "output_norm.weight")
	require.Contains(t, fields(err), "blk.2.attn_q.weight")
}

func TestEveryWrongKeyIsNamed(t *testing.T) {
	t.Parallel()
	f := generate(t, modelgen.Spec{})
	_, err := ConfigGGUF(edit(t, f, without("llama.block_count", "llama.attention.layer_norm_rms_epsilon"), same))
	require.ErrorIs(t, err, ErrConfig)
	require.Contains(t, fields(err), "llama.block_count")
	require.Contains(t, fields(err), "llama.attention.layer_norm_rms_epsilon")
	for _, kv := range []gguf.KV{
		gguf.U32("llama.attention.head_count_kv", 3), gguf.U32("llama.attention.head_count", 0), gguf.U32("llama.rope.dimension_count", 7), gguf.F32("llama.rope.freq_base", -1),
		gguf.Text("llama.rope.scaling.type", "longrope"), gguf.I32s("llama.attention.head_count_kv", []int32{1, 2}), gguf.U32("llama.context_length", 0), gguf.U64("llama.embedding_length", 1<<40),
		gguf.U32("llama.attention.value_length", 5),
	} {
		_, err := ConfigGGUF(edit(t, f, all, same, kv))
		require.ErrorIs(t, err, ErrConfig, kv.Key)
	}
	_, err = ConfigGGUF(edit(t, f, all, same, gguf.Text("general.architecture", "mamba")))
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "mamba")
	_, err = ConfigGGUF(edit(t, f, all, same, gguf.U32("llama.expert_count", 8)))
	require.ErrorIs(t, err, ErrUnsupported)
}

func TestForeignNumberFormatIsNamed(t *testing.T) {
	t.Parallel()
	f := generate(t, modelgen.Spec{Dim: 256})
	f.Tensors[1].Type = 10 // q2_K, as the parser would report it
	_, err := FromGGUF(f)
	require.ErrorIs(t, err, quant.ErrTypeUnsupported)
	require.ErrorContains(t, err, "q2_K")
}

func TestNormsMustBeFinite(t *testing.T) {
	t.Parallel()
	b, err := modelgen.GGUF(modelgen.Spec{})
	require.NoError(t, err)
	f := parsed(t, b)
	at := f.Tensor("blk.1.ffn_norm.weight").Offset + 4*3
	copy(b[at:], []byte{0, 0, 0xc0, 0x7f})
	s, err := FromGGUF(parsed(t, b))
	require.NoError(t, err)
	_, err = s.Load(context.Background(), LoadOptions{})
	require.ErrorIs(t, err, ErrTensorNaN)
	require.ErrorContains(t, err, "blk.1.ffn_norm.weight is not finite at 3")
}

func TestHuggingFaceConfigs(t *testing.T) {
	t.Parallel()
	base := func(change string) []byte {
		m := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(`{"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":320,"max_position_embeddings":512,"rms_norm_eps":1e-5,"hidden_act":"silu"}`), &m))
		require.NoError(t, json.Unmarshal([]byte(change), &m))
		b, err := json.Marshal(m)
		require.NoError(t, err)
		return b
	}
	ok := func(change string) Config {
		c, err := ConfigJSON(base(change))
		require.NoError(t, err, change)
		return c
	}
	require.Equal(t, 4, ok(`{}`).KVHeads)
	require.Equal(t, 16, ok(`{}`).HeadDim)
	require.Equal(t, 4096, ok(`{"model_type":"mistral","sliding_window":4096}`).Window)
	require.Zero(t, ok(`{"model_type":"mistral","sliding_window":null}`).Window)
	require.Zero(t, ok(`{"model_type":"qwen2","sliding_window":4096,"use_sliding_window":false}`).Window)
	require.True(t, ok(`{"model_type":"qwen2"}`).QKVBias)
	require.Equal(t, 128, ok(`{"model_type":"qwen3","num_key_value_heads":2}`).HeadDim)
	require.Equal(t, RopeScale{Kind: "llama3", Factor: 8, Original: 8192, Low: 1, High: 4},
		ok(`{"rope_scaling":{"rope_type":"llama3","factor":8,"original_max_position_embeddings":8192,"low_freq_factor":1,"high_freq_factor":4}}`).RopeScale)
	require.Equal(t, RopeScale{Kind: "linear", Factor: 2}, ok(`{"rope_scaling":{"type":"linear","factor":2}}`).RopeScale)
	require.InDelta(t, 5e5, ok(`{"rope_parameters":{"rope_type":"default","rope_theta":500000}}`).RopeBase, 0)
	require.Equal(t, 512, ok(`{"rope_scaling":{"rope_type":"yarn","factor":4}}`).RopeScale.Original)
	for change, want := range map[string]error{
		`{"model_type":"gemma2"}`: ErrUnsupported, `{"model_type":""}`: ErrConfig, `{"num_local_experts":8}`: ErrUnsupported, `{"quantization_config":{"quant_method":"awq"}}`: ErrUnsupported,
		`{"hidden_act":"gelu"}`: ErrConfig, `{"mlp_bias":true}`: ErrConfig, `{"rope_scaling":{"rope_type":"dynamic","factor":2}}`: ErrConfig, `{"num_attention_heads":0}`: ErrConfig,
		`{"num_key_value_heads":3}`: ErrConfig, `{"rope_scaling":{"rope_type":"linear","factor":0}}`: ErrConfig, `{"hidden_size":-5}`: ErrConfig,
		`{"model_type":"qwen2","sliding_window":8,"use_sliding_window":true}`: ErrConfig,
	} {
		_, err := ConfigJSON(base(change))
		require.ErrorIs(t, err, want, change)
	}
	_, err := ConfigJSON([]byte("{"))
	require.ErrorIs(t, err, ErrConfig)
}

func TestSamplingDefaultsTravel(t *testing.T) {
	t.Parallel()
	f := edit(t, generate(t, modelgen.Spec{}), all, same, gguf.F32("general.sampling.temp", 0.5), gguf.I32("general.sampling.top_k", 20), gguf.F32("general.sampling.top_p", 7))
	c, err := ConfigGGUF(f)
	require.NoError(t, err)
	require.InDelta(t, 0.5, *c.Sampling.Temperature, 1e-6)
	require.Equal(t, 20, *c.Sampling.TopK)
	require.Nil(t, c.Sampling.TopP, "7 is no probability")
	s := samplingJSON([]byte(`{"do_sample":true,"temperature":0.6,"top_p":0.9,"repetition_penalty":1.1}`))
	require.InDelta(t, 0.6, *s.Temperature, 0)
	require.InDelta(t, 1.1, *s.RepetitionPenalty, 0)
	require.Zero(t, *samplingJSON([]byte(`{"do_sample":false,"temperature":0.6}`)).Temperature)
}

func TestEndTokensAreANumberOrAList(t *testing.T) {
	t.Parallel()
	require.Equal(t, []int32{7}, endTokens([]byte(`{"eos_token_id":7}`)))
	require.Equal(t, []int32{7, 9}, endTokens([]byte(`{"eos_token_id":[7,9]}`)))
	for _, none := range []string{`{}`, `{"eos_token_id":null}`, `{"eos_token_id":"x"}`, `[`} {
		require.Empty(t, endTokens([]byte(none)), none)
	}
}

func TestRopeScaling(t *testing.T) {
	t.Parallel()
	c := Config{HeadDim: 128, RopeDim: 128, RopeBase: 500000}
	plain := newRope(&c, nil)
	require.InDelta(t, 1, plain.speed[0], 0)
	require.InDelta(t, math.Pow(500000, -0.5), plain.speed[32], 1e-12)
	c.RopeScale = RopeScale{Kind: "linear", Factor: 4}
	for i, f := range newRope(&c, nil).speed {
		require.InEpsilon(t, plain.speed[i]/4, f, 1e-12)
	}
	c.RopeScale = RopeScale{Kind: "llama3", Factor: 8, Original: 8192, Low: 1, High: 4}
	l3 := newRope(&c, nil).speed
	require.InDelta(t, plain.speed[0], l3[0], 0)
	require.InEpsilon(t, plain.speed[63]/8, l3[63], 1e-9)
	between := 0
	for i := range l3 {
		if r := plain.speed[i] / l3[i]; r > 1.0001 && r < 7.9999 {
			between++
		}
	}
	require.Positive(t, between)
	c.RopeScale = RopeScale{Kind: "yarn", Factor: 4, Original: 32768, BetaFast: 32, BetaSlow: 1}
	y := newRope(&c, nil)
	require.InDelta(t, plain.speed[0], y.speed[0], 0)
	require.InEpsilon(t, plain.speed[63]/4, y.speed[63], 1e-9)
	require.InDelta(t, 1+0.1*math.Log(4), y.scale, 1e-12)
	factors := make([]float32, 64)
	for i := range factors {
		factors[i] = 2
	}
	c.RopeScale = RopeScale{}
	require.InDelta(t, plain.speed[5]/2, newRope(&c, factors).speed[5], 0)
}

func TestOpenFindsTheModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Open(dir)
	require.ErrorIs(t, err, llm.ErrFormatUnknown)
	b, err := modelgen.GGUF(modelgen.Spec{})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.gguf"), b, 0o600))
	s, err := Open(dir)
	require.NoError(t, err)
	require.Equal(t, "gguf", s.Format)
	require.NoError(t, s.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.gguf"), b, 0o600))
	_, err = Open(dir)
	require.ErrorIs(t, err, llm.ErrFormatUnknown)
	require.ErrorContains(t, err, "a.gguf, b.gguf")
	other := filepath.Join(dir, "model.bin")
	require.NoError(t, os.WriteFile(other, b, 0o600))
	_, err = Open(other)
	require.ErrorIs(t, err, llm.ErrFormatUnknown)
	folder := t.TempDir()
	require.NoError(t, modelgen.WriteDir(folder, modelgen.Spec{Arch: "qwen2"}))
	s, err = Open(folder)
	require.NoError(t, err)
	require.Equal(t, "safetensors", s.Format)
	tok, err := s.Tokenizer()
	require.NoError(t, err)
	require.Equal(t, s.Config.Vocab, tok.Size())
	require.Contains(t, s.EndTokens(), tok.EOS())
	require.NoError(t, s.Close())
}

func TestWindowHidesWhatIsOutside(t *testing.T) {
	t.Parallel()
	f := generate(t, modelgen.Spec{Layers: 1})
	logits := func(window uint32, first int32) []float32 {
		s, err := FromGGUF(edit(t, f, all, same, gguf.U32("llama.attention.sliding_window", window)))
		require.NoError(t, err)
		m, err := s.Load(context.Background(), LoadOptions{})
		require.NoError(t, err)
		ses, err := m.NewSession(SessionOptions{Pages: 2, MaxRows: 64, MaxOut: 1})
		require.NoError(t, err)
		b := Batch{Spans: []Span{{Len: 50, Pages: []int32{1, 0}}}, Out: []int32{49}}
		for i := range int32(50) {
			b.Tokens = append(b.Tokens, i+3)
		}
		b.Tokens[10] = first
		ses.Forward(&b)
		return bytesClone(b.Row(0))
	}
	require.NotEqual(t, logits(0, 5), logits(0, 99))
	require.NotEqual(t, logits(40, 5), logits(40, 99), "position 10 is the first of 40 that position 49 sees")
	require.Equal(t, logits(39, 5), logits(39, 99))
}

func bytesClone(x []float32) []float32 { return append([]float32(nil), x...) }

func TestMemoryIsNearWhatIsHeld(t *testing.T) {
	t.Parallel()
	for _, typ := range []quant.Type{quant.F32, quant.Q8_0, quant.Q4_K} {
		s, err := FromGGUF(generate(t, modelgen.Spec{Dim: 256, FF: 512, Vocab: 1000, Type: typ}))
		require.NoError(t, err)
		m, err := s.Load(context.Background(), LoadOptions{})
		require.NoError(t, err)
		mem := s.Memory(512, 4, false)
		require.InEpsilon(t, float64(m.Bytes()), float64(mem.Weights), 0.02)
		require.Equal(t, m.Config.PageBytes(quant.F16)*16*4, mem.KV)
		require.Equal(t, mem.KV, mem.PerToken*512)
	}
}

func FuzzConfigJSON(f *testing.F) {
	f.Add([]byte(`{"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":320,"max_position_embeddings":512}`))
	f.Add([]byte(`{"model_type":"qwen3","rope_scaling":{"rope_type":"yarn","factor":1e300},"num_attention_heads":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ConfigJSON(b)
		if err != nil {
			return
		}
		_ = newRope(&c, nil)
		if c.Layers <= 4 {
			_ = c.wants()
		}
	})
}
