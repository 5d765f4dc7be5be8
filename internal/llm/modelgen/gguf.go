package modelgen

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync"

	"maas/internal/llm/gguf"
	"maas/internal/llm/quant"
)

// GGUF makes the file in memory.
func GGUF(s Spec) ([]byte, error) {
	var b bytes.Buffer
	if err := WriteGGUF(&b, s); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// WriteGGUF makes the file, tensor by tensor: memory is twice the largest one.
func WriteGGUF(w io.Writer, s Spec) error {
	s, err := s.full()
	if err != nil {
		return err
	}
	if s.Arch == "bert" {
		return s.writeEncoderGGUF(w)
	}
	v, err := newVocab(s)
	if err != nil {
		return err
	}
	list := s.tensors(len(v.tokens))
	infos := make([]gguf.TensorInfo, len(list))
	for i, t := range list {
		infos[i] = gguf.TensorInfo{Name: t.gguf, Dims: []int{t.cols, t.rows}, Type: s.typeOf(t)}
		if t.rows == 0 {
			infos[i].Dims = infos[i].Dims[:1]
		}
	}
	g, err := gguf.NewWriter(w, s.kvs(v), infos)
	if err != nil {
		return err
	}
	for i, t := range list {
		x := s.values(t, v)
		if t.heads > 0 && s.Arch == "llama" {
			x = permute(x, t.cols, t.heads)
		}
		b, err := encode(infos[i].Type, x, t.cols)
		if err != nil {
			return err
		}
		if err := g.WriteTensor(t.gguf, bytes.NewReader(b)); err != nil {
			return err
		}
	}
	return g.Close()
}

// encode quantizes rows on all cores: the K types search for their scales, about 80 ns a value.
func encode(typ quant.Type, x []float32, cols int) ([]byte, error) {
	rows, size := len(x)/cols, typ.RowBytes(cols)
	b := make([]byte, rows*size)
	n := min(rows, runtime.GOMAXPROCS(0))
	faults := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		lo, hi := rows*i/n, rows*(i+1)/n
		wait.Go(func() { faults[i] = quant.Quantize(typ, b[lo*size:hi*size], x[lo*cols:hi*cols]) })
	}
	wait.Wait()
	return b, errors.Join(faults...)
}

// fileTypes are the numbers of general.file_type.
var fileTypes = map[quant.Type]uint32{quant.F32: 0, quant.F16: 1, quant.Q4_0: 2, quant.Q8_0: 7, quant.Q5_0: 8, quant.Q4_K: 15, quant.Q6_K: 18, quant.BF16: 32}

func (s Spec) ropeBase() float32 {
	if s.Arch == "llama" {
		return 10000
	}
	return 1e6
}

func (s Spec) eps() float32 {
	if s.Arch == "llama" {
		return 1e-5
	}
	return 1e-6
}

func (s Spec) kvs(v *vocab) []gguf.KV {
	a := s.Arch + "."
	n := func(i int) uint32 { return uint32(i) }
	kvs := []gguf.KV{
		gguf.Text("general.architecture", s.Arch), gguf.Text("general.type", "model"), gguf.Text("general.name", s.Name), gguf.Text("general.license", "apache-2.0"),
		gguf.U32("general.quantization_version", 2), gguf.U32("general.file_type", fileTypes[s.Type]),
		gguf.U32(a+"block_count", n(s.Layers)), gguf.U32(a+"context_length", n(s.Ctx)), gguf.U32(a+"embedding_length", n(s.Dim)), gguf.U32(a+"feed_forward_length", n(s.FF)),
		gguf.U32(a+"attention.head_count", n(s.Heads)), gguf.U32(a+"attention.head_count_kv", n(s.KVHeads)),
		gguf.U32(a+"attention.key_length", n(s.HeadDim)), gguf.U32(a+"attention.value_length", n(s.HeadDim)),
		gguf.F32(a+"attention.layer_norm_rms_epsilon", s.eps()), gguf.F32(a+"rope.freq_base", s.ropeBase()), gguf.U32(a+"rope.dimension_count", n(s.HeadDim)),
		gguf.U32(a+"vocab_size", n(len(v.tokens))),
	}
	if v.spm {
		kvs = append(kvs, gguf.Text("tokenizer.ggml.model", "llama"), gguf.Text("tokenizer.ggml.pre", "default"), gguf.Texts("tokenizer.ggml.tokens", v.tokens), gguf.F32s("tokenizer.ggml.scores", v.scores),
			gguf.I32s("tokenizer.ggml.token_type", v.types), gguf.U32("tokenizer.ggml.unknown_token_id", n(v.unk)),
			gguf.Flag("tokenizer.ggml.add_space_prefix", true), gguf.Flag("tokenizer.ggml.add_bos_token", true))
	} else {
		pairs := make([]string, len(v.merges))
		for i, m := range v.merges {
			pairs[i] = m[0] + " " + m[1]
		}
		kvs = append(kvs, gguf.Text("tokenizer.ggml.model", "gpt2"), gguf.Text("tokenizer.ggml.pre", "gpt-2"), gguf.Texts("tokenizer.ggml.tokens", v.tokens),
			gguf.I32s("tokenizer.ggml.token_type", v.types), gguf.Texts("tokenizer.ggml.merges", pairs), gguf.Flag("tokenizer.ggml.add_bos_token", false))
	}
	kvs = append(kvs, gguf.U32("tokenizer.ggml.bos_token_id", n(v.bos)), gguf.U32("tokenizer.ggml.eos_token_id", n(v.eos)))
	if s.Template != "none" {
		kvs = append(kvs, gguf.Text("tokenizer.chat_template", s.Template))
	}
	return kvs
}
