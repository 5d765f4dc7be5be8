package arch

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/kernel"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
	"maas/internal/llm/token"
)

// encoderFiles writes a generated encoder as a GGUF file and as a folder.
func encoderFiles(t *testing.T, s modelgen.Spec) (file, dir string) {
	t.Helper()
	b, err := modelgen.GGUF(s)
	require.NoError(t, err)
	file, dir = filepath.Join(t.TempDir(), "m.gguf"), filepath.Join(t.TempDir(), "m")
	require.NoError(t, os.WriteFile(file, b, 0o600))
	require.NoError(t, modelgen.WriteDir(dir, s))
	return file, dir
}

func loadEncoder(t *testing.T, path string) (*Model, *Source, *Encoder) {
	t.Helper()
	p := kernel.NewPool(2)
	t.Cleanup(p.Close)
	m, src, err := Load(t.Context(), path, LoadOptions{Pool: p})
	require.NoError(t, err)
	t.Cleanup(func() { _ = src.Close() })
	e, err := m.NewEncoder(256, p)
	require.NoError(t, err)
	return m, src, e
}

// plain is an encoder's forward pass in float64, written as the paper has it: no pages, no batches, no shared code.
type plain struct {
	t *testing.T
	s *Source
	c Config
}

func (p plain) tensor(name string) (x [][]float64) {
	p.t.Helper()
	for i := range p.s.Tensors {
		if p.s.Tensors[i].Name != name {
			continue
		}
		m, err := p.s.matrix(&p.s.Tensors[i])
		require.NoError(p.t, err)
		row := make([]float32, m.Cols)
		for r := range m.Rows {
			m.Row(row, r)
			out := make([]float64, m.Cols)
			for k, v := range row {
				out[k] = float64(v)
			}
			x = append(x, out)
		}
		return x
	}
	require.Fail(p.t, "no tensor "+name)
	return nil
}

func (p plain) linear(x [][]float64, name string) [][]float64 {
	w, b := p.tensor(name+".weight"), p.tensor(name + ".bias")[0]
	out := make([][]float64, len(x))
	for i, row := range x {
		out[i] = make([]float64, len(w))
		for r := range w {
			out[i][r] = b[r]
			for k, v := range row {
				out[i][r] += w[r][k] * v
			}
		}
	}
	return out
}

func (p plain) norm(x [][]float64, name string) {
	w, b := p.tensor(name + ".weight")[0], p.tensor(name + ".bias")[0]
	for _, row := range x {
		mean, sq := 0.0, 0.0
		for _, v := range row {
			mean += v / float64(len(row))
		}
		for _, v := range row {
			sq += (v - mean) * (v - mean) / float64(len(row))
		}
		for k, v := range row {
			row[k] = (v-mean)/math.Sqrt(sq+float64(p.c.Eps))*w[k] + b[k]
		}
	}
}

func add(x, y [][]float64) {
	for i := range x {
		for k := range x[i] {
			x[i][k] += y[i][k]
		}
	}
}

func (p plain) rows(s Sequence) [][]float64 {
	word, pos, kind := p.tensor("embeddings.word_embeddings.weight"), p.tensor("embeddings.position_embeddings.weight"), p.tensor("embeddings.token_type_embeddings.weight")
	x := make([][]float64, len(s.Tokens))
	for i, id := range s.Tokens {
		x[i] = make([]float64, p.c.Dim)
		k := uint8(0)
		if s.Types != nil {
			k = s.Types[i]
		}
		add(x[i:i+1], [][]float64{word[id]})
		add(x[i:i+1], [][]float64{pos[i]})
		add(x[i:i+1], [][]float64{kind[k]})
	}
	p.norm(x, "embeddings.LayerNorm")
	for l := range p.c.Layers {
		at := "encoder.layer." + string(rune('0'+l)) + "."
		q, k, v := p.linear(x, at+"attention.self.query"), p.linear(x, at+"attention.self.key"), p.linear(x, at+"attention.self.value")
		out := make([][]float64, len(x))
		for i := range x {
			out[i] = make([]float64, p.c.Dim)
			for h := range p.c.Heads {
				lo, hi := h*p.c.HeadDim, (h+1)*p.c.HeadDim
				weights, sum := make([]float64, len(x)), 0.0
				for j := range x {
					dot := 0.0
					for d := lo; d < hi; d++ {
						dot += q[i][d] * k[j][d]
					}
					weights[j] = math.Exp(dot / math.Sqrt(float64(p.c.HeadDim)))
					sum += weights[j]
				}
				for j := range x {
					for d := lo; d < hi; d++ {
						out[i][d] += weights[j] / sum * v[j][d]
					}
				}
			}
		}
		add(x, p.linear(out, at+"attention.output.dense"))
		p.norm(x, at+"attention.output.LayerNorm")
		f := p.linear(x, at+"intermediate.dense")
		for _, row := range f {
			for k, v := range row {
				row[k] = v / 2 * (1 + math.Erf(v/math.Sqrt2))
			}
		}
		add(x, p.linear(f, at+"output.dense"))
		p.norm(x, at+"output.LayerNorm")
	}
	return x
}

func TestEncoder(t *testing.T) {
	t.Parallel()
	file, dir := encoderFiles(t, modelgen.Spec{Arch: "bert", Kind: modelgen.Rank, Layers: 3, Dim: 96, Heads: 6, FF: 200, Ctx: 128, Seed: 5})
	m, src, e := loadEncoder(t, dir)
	_, gsrc, ge := loadEncoder(t, file)
	src.Config.Name, gsrc.Config.Name = "", ""
	require.Equal(t, src.Config, gsrc.Config, "both files say the same")
	seq := func(n, from int) (s Sequence) {
		for i := range n {
			s.Tokens = append(s.Tokens, int32((from+i*37)%m.Config.Vocab)) //nolint:gosec // small
			s.Types = append(s.Types, uint8(i*2/n))                        //nolint:gosec // 0 or 1
		}
		return s
	}
	list := []Sequence{seq(1, 3), seq(2, 8), seq(32, 11), seq(33, 5), seq(128, 1), {Tokens: []int32{2, 40, 3}}}
	rows := append([]float32(nil), e.Encode(list)...)
	require.Equal(t, rows, ge.Encode(list), "equal bits from both files")
	at := 0
	for i, s := range list {
		want := plain{t, src, m.Config}.rows(s)
		for r := range s.Tokens {
			for k := range m.Config.Dim {
				require.InDelta(t, want[r][k], float64(rows[at+r*m.Config.Dim+k]), 5e-5, "sequence %d, row %d, value %d", i, r, k)
			}
		}
		one := e.Encode(list[i : i+1])
		require.Equal(t, rows[at:at+len(one)], one, "alone as among others, bit by bit")
		var class [1]float32
		require.NoError(t, m.Classes(class[:], one))
		p := plain{t, src, m.Config}
		h := p.linear(want[:1], "pooler.dense")
		for k, v := range h[0] {
			h[0][k] = math.Tanh(v)
		}
		require.InDelta(t, p.linear(h, "classifier")[0][0], float64(class[0]), 5e-5)
		at += len(one)
	}
}

// The generated embedder puts texts that share words near each other.
func TestEmbed(t *testing.T) {
	t.Parallel()
	b, err := modelgen.GGUF(modelgen.Spec{Arch: "bert", Kind: modelgen.Embed, Type: quant.Q8_0})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(file, b, 0o600))
	m, src, e := loadEncoder(t, file)
	tok, err := src.Tokenizer()
	require.NoError(t, err)
	embed := func(text string) []float32 {
		ids, err := tok.Encode(nil, []token.Part{{Text: text}}, tok.Defaults())
		require.NoError(t, err)
		v := make([]float32, m.Config.Dim)
		m.Pool(v, e.Encode([]Sequence{{Tokens: ids}}))
		return v
	}
	near := func(a, b string) (dot float64) {
		x, y := embed(a), embed(b)
		for i := range x {
			dot += float64(x[i]) * float64(y[i])
		}
		return dot
	}
	require.InDelta(t, 1, near("green tea", "Green TEA"), 1e-5)
	require.Greater(t, near("green tea is warm", "warm green tea"), near("green tea is warm", "quarterly tax report")+0.3)
}

func TestEncoderRefusals(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]error{
		`{"model_type":"bert","hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":3,"vocab_size":9,"max_position_embeddings":4}`:                                          ErrConfig,
		`{"model_type":"bert","hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":9,"max_position_embeddings":4,"hidden_act":"tanh"}`:                      ErrConfig,
		`{"model_type":"bert","hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":9,"max_position_embeddings":4,"position_embedding_type":"relative_key"}`: ErrConfig,
		`{"model_type":"bert","hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":9,"max_position_embeddings":4,"is_decoder":true}`:                        ErrConfig,
		`{"model_type":"roberta","hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":9,"max_position_embeddings":2}`:                                       ErrConfig,
		`{"model_type":"bert"}`: ErrConfig,
	} {
		_, err := ConfigJSON([]byte(body))
		require.ErrorIs(t, err, want, body)
	}
	c, err := ConfigJSON([]byte(`{"model_type":"roberta","hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":9,"max_position_embeddings":514,"type_vocab_size":1,"pad_token_id":1}`))
	require.NoError(t, err)
	require.Equal(t, []int{512, 514, 2, 1}, []int{c.Ctx, c.Encoder.Positions, c.Encoder.First, c.Encoder.Types})
	b, err := modelgen.GGUF(modelgen.Spec{})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "d.gguf")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	m, src, err := Load(t.Context(), path, LoadOptions{})
	require.NoError(t, err)
	defer func() { _ = src.Close() }()
	_, err = m.NewEncoder(8, nil)
	require.ErrorIs(t, err, ErrUnsupported)
}
