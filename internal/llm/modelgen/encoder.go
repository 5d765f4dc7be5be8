package modelgen

import (
	"bytes"
	"encoding/json"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"maas/internal/llm/gguf"
	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
)

// pieces is a WordPiece vocabulary that covers lower-case ASCII: special tokens, then every character and every pair of letters, as the beginning of a word and (##) within one.
func pieces() []string {
	list := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
	for _, mark := range []string{"", "##"} {
		for c := '!'; c <= '~'; c++ {
			if c < 'A' || c > 'Z' {
				list = append(list, mark+string(c))
			}
		}
		for a := 'a'; a <= 'z'; a++ {
			for b := 'a'; b <= 'z'; b++ {
				list = append(list, mark+string(a)+string(b))
			}
		}
	}
	return list
}

// Special tokens of pieces.
const (
	pieceUnknown = 1
	pieceBegin   = 2
	pieceEnd     = 3
	pieceSpecial = 5 // ids below
)

// encoderTensors lists the weights of a BERT model.
func (s Spec) encoderTensors(vocab int) []tensor {
	list := []tensor{
		{"token_embd.weight", "embeddings.word_embeddings.weight", vocab, s.Dim, roleEmbed, 0, 0}, {"position_embd.weight", "embeddings.position_embeddings.weight", s.Ctx, s.Dim, roleBranch, 0, 0},
		{"token_types.weight", "embeddings.token_type_embeddings.weight", 2, s.Dim, roleBranch, 0, 0},
		{"token_embd_norm.weight", "embeddings.LayerNorm.weight", 0, s.Dim, roleNorm, 0, 0}, {"token_embd_norm.bias", "embeddings.LayerNorm.bias", 0, s.Dim, roleBias, 0, 0},
	}
	for l := range s.Layers {
		for _, m := range []struct {
			gguf, hf   string
			rows, cols int
			role       role
		}{
			{"attn_q", "attention.self.query", s.Dim, s.Dim, roleMatrix}, {"attn_k", "attention.self.key", s.Dim, s.Dim, roleMatrix}, {"attn_v", "attention.self.value", s.Dim, s.Dim, roleMatrix},
			{"attn_output", "attention.output.dense", s.Dim, s.Dim, roleBranch}, {"attn_output_norm", "attention.output.LayerNorm", 0, s.Dim, roleNorm},
			{"ffn_up", "intermediate.dense", s.FF, s.Dim, roleMatrix}, {"ffn_down", "output.dense", s.Dim, s.FF, roleDown}, {"layer_output_norm", "output.LayerNorm", 0, s.Dim, roleNorm},
		} {
			g, h := "blk."+strconv.Itoa(l)+"."+m.gguf, "encoder.layer."+strconv.Itoa(l)+"."+m.hf
			bias := m.rows
			if m.role == roleNorm {
				bias = s.Dim
			}
			list = append(list, tensor{g + ".weight", h + ".weight", m.rows, m.cols, m.role, 0, l}, tensor{g + ".bias", h + ".bias", 0, bias, roleBias, 0, l})
		}
	}
	if s.Kind == Rank {
		list = append(list, tensor{"cls.weight", "pooler.dense.weight", s.Dim, s.Dim, roleMatrix, 0, 0}, tensor{"cls.bias", "pooler.dense.bias", 0, s.Dim, roleBias, 0, 0},
			tensor{"cls.output.weight", "classifier.weight", 1, s.Dim, roleMatrix, 0, 0}, tensor{"cls.output.bias", "classifier.bias", 0, 1, roleBias, 0, 0})
	}
	return list
}

// encoderValues makes the numbers of a tensor. Those of Embed leave the mean of the pieces' random vectors: texts that share pieces are near each other, and nothing else is.
func (s Spec) encoderValues(t tensor) []float32 {
	x := make([]float32, max(1, t.rows)*t.cols)
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.gguf))
	r := rand.NewPCG(s.Seed, h.Sum64())
	scale := float32(1 / math.Sqrt(float64(s.Dim)))
	still := s.Kind == Embed && t.role != roleEmbed
	for i := range x {
		v := normal(r.Uint64()) * scale
		switch {
		case still && t.role == roleNorm:
			v = 1
		case still:
			v = 0
		case t.role == roleNorm:
			v++
		}
		x[i] = v
	}
	if s.Kind == Embed && t.role == roleEmbed {
		clear(x[:pieceSpecial*s.Dim]) // what stands round every text says nothing
	}
	return x
}

func (s Spec) writeEncoderGGUF(w io.Writer) error {
	vocab := pieces()
	list := s.encoderTensors(len(vocab))
	infos := make([]gguf.TensorInfo, len(list))
	for i, t := range list {
		typ := s.typeOf(t)
		if t.gguf == "position_embd.weight" || t.gguf == "token_types.weight" {
			typ = quant.F32
		}
		infos[i] = gguf.TensorInfo{Name: t.gguf, Dims: []int{t.cols, t.rows}, Type: typ}
		if t.rows == 0 {
			infos[i].Dims = infos[i].Dims[:1]
		}
	}
	texts, types := make([]string, len(vocab)), make([]int32, len(vocab))
	for i, p := range vocab {
		types[i] = typeNormal
		switch {
		case i < pieceSpecial:
			texts[i], types[i] = p, typeControl
		case len(p) > 2 && p[:2] == "##":
			texts[i] = p[2:]
		default:
			texts[i] = "\u2581" + p
		}
	}
	types[pieceUnknown] = typeUnknown
	n := func(i int) uint32 { return uint32(i) } //nolint:gosec // sizes of a Spec
	pool := n(1)
	if s.Kind == Rank {
		pool = 4
	}
	g, err := gguf.NewWriter(w, []gguf.KV{
		gguf.Text("general.architecture", "bert"), gguf.Text("general.type", "model"), gguf.Text("general.name", s.Name), gguf.Text("general.license", "apache-2.0"),
		gguf.U32("general.quantization_version", 2), gguf.U32("general.file_type", fileTypes[s.Type]),
		gguf.U32("bert.block_count", n(s.Layers)), gguf.U32("bert.context_length", n(s.Ctx)), gguf.U32("bert.embedding_length", n(s.Dim)), gguf.U32("bert.feed_forward_length", n(s.FF)),
		gguf.U32("bert.attention.head_count", n(s.Heads)), gguf.F32("bert.attention.layer_norm_epsilon", 1e-12), gguf.Flag("bert.attention.causal", false), gguf.U32("bert.pooling_type", pool),
		gguf.Text("tokenizer.ggml.model", "bert"), gguf.Text("tokenizer.ggml.pre", "default"), gguf.Texts("tokenizer.ggml.tokens", texts), gguf.I32s("tokenizer.ggml.token_type", types),
		gguf.U32("tokenizer.ggml.token_type_count", 2), gguf.U32("tokenizer.ggml.cls_token_id", pieceBegin), gguf.U32("tokenizer.ggml.seperator_token_id", pieceEnd), gguf.U32("tokenizer.ggml.unknown_token_id", pieceUnknown),
	}, infos)
	if err != nil {
		return err
	}
	for i, t := range list {
		b, err := encode(infos[i].Type, s.encoderValues(t), t.cols)
		if err != nil {
			return err
		}
		if err := g.WriteTensor(t.gguf, bytes.NewReader(b)); err != nil {
			return err
		}
	}
	return g.Close()
}

// encoderDir makes the files of a sentence-transformers folder.
func (s Spec) encoderDir() (map[string][]byte, error) {
	vocab := pieces()
	typ, _ := safetensors.Of(s.Type)
	byName := map[string]tensor{}
	var infos []safetensors.TensorInfo
	for _, t := range s.encoderTensors(len(vocab)) {
		shape := []int{t.rows, t.cols}
		if t.rows == 0 {
			shape = shape[1:]
		}
		byName[t.hf] = t
		infos = append(infos, safetensors.TensorInfo{Name: t.hf, DType: typ, Shape: shape})
	}
	var weights bytes.Buffer
	w, err := safetensors.NewWriter(&weights, infos)
	if err != nil {
		return nil, err
	}
	for _, name := range w.Names() {
		x := s.encoderValues(byName[name])
		b := make([]byte, s.Type.RowBytes(len(x)))
		if err := quant.Quantize(s.Type, b, x); err != nil {
			return nil, err
		}
		if err := w.WriteTensor(name, bytes.NewReader(b)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	files := map[string][]byte{safetensors.SingleName: weights.Bytes()}
	words, special := map[string]int{}, []object{}
	for id, p := range vocab {
		words[p] = id
		if id < pieceSpecial {
			special = append(special, object{"id": id, "content": p, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
		}
	}
	class := "BertModel"
	if s.Kind == Rank {
		class = "BertForSequenceClassification"
	}
	config := object{
		"architectures": []string{class}, "model_type": "bert", "hidden_size": s.Dim, "intermediate_size": s.FF, "num_hidden_layers": s.Layers, "num_attention_heads": s.Heads, "hidden_act": "gelu",
		"max_position_embeddings": s.Ctx, "layer_norm_eps": 1e-12, "vocab_size": len(vocab), "type_vocab_size": 2, "pad_token_id": 0, "position_embedding_type": "absolute", "torch_dtype": torchTypes[s.Type],
	}
	if s.Kind == Rank {
		config["id2label"] = object{"0": "LABEL_0"}
	}
	for name, x := range map[string]any{
		"config.json": config,
		"tokenizer.json": object{
			"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": special,
			"normalizer":    object{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true},
			"pre_tokenizer": object{"type": "BertPreTokenizer"}, "decoder": object{"type": "WordPiece", "prefix": "##", "cleanup": true},
			"post_processor": object{"type": "BertProcessing", "sep": []any{"[SEP]", pieceEnd}, "cls": []any{"[CLS]", pieceBegin}},
			"model":          object{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": words},
		},
		"tokenizer_config.json": object{"tokenizer_class": "BertTokenizer", "do_lower_case": true, "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]", "model_max_length": s.Ctx},
	} {
		if files[name], err = json.MarshalIndent(x, "", "  "); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// encoderKinds are the kinds of Arch bert.
func encoderKinds(k Kind) bool { return slices.Contains([]Kind{Random, Embed, Rank}, k) }
