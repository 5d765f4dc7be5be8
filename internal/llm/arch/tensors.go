package arch

import (
	"fmt"
	"slices"
	"strings"

	"maas/internal/llm/quant"
	"maas/internal/platform/fault"
)

// role is what a tensor is for, independent of how a file names it.
type role uint8

const (
	roleEmbed role = iota
	roleOutput
	roleOutputNorm
	roleRopeFreqs
	roleAttnNorm
	roleQ
	roleK
	roleV
	roleO
	roleQBias
	roleKBias
	roleVBias
	roleOBias
	roleQNorm
	roleKNorm
	roleFFNorm
	roleGate
	roleUp
	roleDown

	// Of encoders: what decoders have no use for.
	rolePosition
	roleTypes
	roleEmbedNorm
	roleEmbedNormBias
	roleAttnNormBias
	roleFFNormBias
	roleUpBias
	roleDownBias
	rolePool
	rolePoolBias
	roleClass
	roleClassBias
)

// names of each role in GGUF files and in safetensors folders. Those of a layer have a %d.
var names = [...][2]string{
	roleEmbed:      {"token_embd.weight", "model.embed_tokens.weight"},
	roleOutput:     {"output.weight", "lm_head.weight"},
	roleOutputNorm: {"output_norm.weight", "model.norm.weight"},
	roleRopeFreqs:  {"rope_freqs.weight", ""},
	roleAttnNorm:   {"blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight"},
	roleQ:          {"blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight"},
	roleK:          {"blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight"},
	roleV:          {"blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight"},
	roleO:          {"blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight"},
	roleQBias:      {"blk.%d.attn_q.bias", "model.layers.%d.self_attn.q_proj.bias"},
	roleKBias:      {"blk.%d.attn_k.bias", "model.layers.%d.self_attn.k_proj.bias"},
	roleVBias:      {"blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias"},
	roleOBias:      {"blk.%d.attn_output.bias", "model.layers.%d.self_attn.o_proj.bias"},
	roleQNorm:      {"blk.%d.attn_q_norm.weight", "model.layers.%d.self_attn.q_norm.weight"},
	roleKNorm:      {"blk.%d.attn_k_norm.weight", "model.layers.%d.self_attn.k_norm.weight"},
	roleFFNorm:     {"blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight"},
	roleGate:       {"blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight"},
	roleUp:         {"blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight"},
	roleDown:       {"blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight"},
}

// encoderNames are those of BERT: GGUF files, and folders without the prefix "bert." or "roberta." that some carry.
var encoderNames = map[role][2]string{
	roleEmbed:         {"token_embd.weight", "embeddings.word_embeddings.weight"},
	rolePosition:      {"position_embd.weight", "embeddings.position_embeddings.weight"},
	roleTypes:         {"token_types.weight", "embeddings.token_type_embeddings.weight"},
	roleEmbedNorm:     {"token_embd_norm.weight", "embeddings.LayerNorm.weight"},
	roleEmbedNormBias: {"token_embd_norm.bias", "embeddings.LayerNorm.bias"},
	roleQ:             {"blk.%d.attn_q.weight", "encoder.layer.%d.attention.self.query.weight"},
	roleK:             {"blk.%d.attn_k.weight", "encoder.layer.%d.attention.self.key.weight"},
	roleV:             {"blk.%d.attn_v.weight", "encoder.layer.%d.attention.self.value.weight"},
	roleQBias:         {"blk.%d.attn_q.bias", "encoder.layer.%d.attention.self.query.bias"},
	roleKBias:         {"blk.%d.attn_k.bias", "encoder.layer.%d.attention.self.key.bias"},
	roleVBias:         {"blk.%d.attn_v.bias", "encoder.layer.%d.attention.self.value.bias"},
	roleO:             {"blk.%d.attn_output.weight", "encoder.layer.%d.attention.output.dense.weight"},
	roleOBias:         {"blk.%d.attn_output.bias", "encoder.layer.%d.attention.output.dense.bias"},
	roleAttnNorm:      {"blk.%d.attn_output_norm.weight", "encoder.layer.%d.attention.output.LayerNorm.weight"},
	roleAttnNormBias:  {"blk.%d.attn_output_norm.bias", "encoder.layer.%d.attention.output.LayerNorm.bias"},
	roleUp:            {"blk.%d.ffn_up.weight", "encoder.layer.%d.intermediate.dense.weight"},
	roleUpBias:        {"blk.%d.ffn_up.bias", "encoder.layer.%d.intermediate.dense.bias"},
	roleDown:          {"blk.%d.ffn_down.weight", "encoder.layer.%d.output.dense.weight"},
	roleDownBias:      {"blk.%d.ffn_down.bias", "encoder.layer.%d.output.dense.bias"},
	roleFFNorm:        {"blk.%d.layer_output_norm.weight", "encoder.layer.%d.output.LayerNorm.weight"},
	roleFFNormBias:    {"blk.%d.layer_output_norm.bias", "encoder.layer.%d.output.LayerNorm.bias"},
	rolePool:          {"cls.weight", "pooler.dense.weight"},
	rolePoolBias:      {"cls.bias", "pooler.dense.bias"},
	roleClass:         {"cls.output.weight", "classifier.weight"},
	roleClassBias:     {"cls.output.bias", "classifier.bias"},
}

// want is a tensor that the configuration asks for: a matrix of rows x cols, or a vector of cols with rows 0.
type want struct {
	role       role
	layer      int // -1 = none
	rows, cols int
	optional   bool
}

// wants lists every tensor of a model, in the order of the forward pass.
func (c *Config) wants() []want {
	if c.Arch == Bert {
		return c.encoderWants()
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	all := []want{{roleEmbed, -1, c.Vocab, c.Dim, false}, {roleRopeFreqs, -1, 0, c.RopeDim / 2, true}}
	for l := range c.Layers {
		all = append(all, want{roleAttnNorm, l, 0, c.Dim, false},
			want{roleQ, l, q, c.Dim, false}, want{roleK, l, kv, c.Dim, false}, want{roleV, l, kv, c.Dim, false})
		if c.QKVBias {
			all = append(all, want{roleQBias, l, 0, q, false}, want{roleKBias, l, 0, kv, false}, want{roleVBias, l, 0, kv, false})
		}
		if c.QKNorm {
			all = append(all, want{roleQNorm, l, 0, c.HeadDim, false}, want{roleKNorm, l, 0, c.HeadDim, false})
		}
		all = append(all, want{roleO, l, c.Dim, q, false})
		if c.OBias {
			all = append(all, want{roleOBias, l, 0, c.Dim, false})
		}
		all = append(all, want{roleFFNorm, l, 0, c.Dim, false},
			want{roleGate, l, c.FF, c.Dim, false}, want{roleUp, l, c.FF, c.Dim, false}, want{roleDown, l, c.Dim, c.FF, false})
	}
	return append(all, want{roleOutputNorm, -1, 0, c.Dim, false}, want{roleOutput, -1, c.Vocab, c.Dim, c.Tied})
}

func (c *Config) encoderWants() []want {
	e, d := c.Encoder, c.Dim
	all := []want{{roleEmbed, -1, c.Vocab, d, false}, {rolePosition, -1, e.Positions, d, false}}
	if e.Types > 0 {
		all = append(all, want{roleTypes, -1, e.Types, d, false})
	}
	all = append(all, want{roleEmbedNorm, -1, 0, d, false}, want{roleEmbedNormBias, -1, 0, d, false})
	for l := range c.Layers {
		for _, m := range []struct {
			matrix, bias role
			rows, cols   int
		}{{roleQ, roleQBias, d, d}, {roleK, roleKBias, d, d}, {roleV, roleVBias, d, d}, {roleO, roleOBias, d, d}, {roleUp, roleUpBias, c.FF, d}, {roleDown, roleDownBias, d, c.FF}} {
			all = append(all, want{m.matrix, l, m.rows, m.cols, false}, want{m.bias, l, 0, m.rows, false})
		}
		for _, n := range []role{roleAttnNorm, roleAttnNormBias, roleFFNorm, roleFFNormBias} {
			all = append(all, want{n, l, 0, d, false})
		}
	}
	if e.Labels > 0 {
		all = append(all, want{rolePool, -1, d, d, true}, want{rolePoolBias, -1, 0, d, true}, want{roleClass, -1, e.Labels, d, false}, want{roleClassBias, -1, 0, e.Labels, false})
	}
	return all
}

// name returns how a file of the scheme (0 GGUF, 1 safetensors) calls the tensor.
func (w want) name(scheme int, encoder bool) string {
	n := encoderNames[w.role][scheme]
	if !encoder {
		n = names[w.role][scheme]
	}
	if w.layer >= 0 {
		return fmt.Sprintf(n, w.layer)
	}
	return n
}

// essential leaves out leading dims of 1: a matrix of one row is written as a vector by some.
func essential(shape []int) []int {
	for len(shape) > 1 && shape[0] == 1 {
		shape = shape[1:]
	}
	return shape
}

// shape returns the dims, slowest first.
func (w want) shape() []int {
	if w.rows == 0 {
		return []int{w.cols}
	}
	return []int{w.rows, w.cols}
}

// Tensor is a weight tensor as a file describes it. Shape is slowest first.
type Tensor struct {
	Name  string
	Shape []int
	Type  quant.Type
	Known bool // Type is one that package quant names; false for formats of safetensors that it does not
	Bytes int64

	index int
}

// match finds the file's tensor for each wanted one and checks shapes and types. The first kind of fault is the error; all faults are in its fields.
func match(wants []want, have []Tensor, scheme int, tied, encoder bool) (map[want]*Tensor, error) {
	byName := make(map[string]*Tensor, len(have))
	for i := range have {
		name := have[i].Name
		if encoder {
			name = encoderName(name)
		}
		byName[name] = &have[i]
	}
	var missing, shape, kind, extra []fault.Field
	found := make(map[want]*Tensor, len(wants))
	for _, w := range wants {
		name := w.name(scheme, encoder)
		t := byName[name]
		delete(byName, name)
		switch {
		case name == "" || t == nil && w.optional:
		case t == nil:
			missing = append(missing, fault.Field{Name: name, Code: "required", Message: "is missing"})
		case !slices.Equal(essential(t.Shape), essential(w.shape())):
			shape = append(shape, fault.Field{Name: name, Code: "conflict", Message: fmt.Sprintf("has shape %v, not %v", t.Shape, w.shape())})
		case !t.runs(w):
			kind = append(kind, fault.Field{Name: name, Code: "not_in_list", Message: "is " + t.typeName() + ", which the native engine does not run"})
		case w.role == roleOutput && tied && scheme == 1:
			// A folder that ties its output to the embedding may still carry the copy.
		default:
			found[w] = t
		}
	}
	for name := range byName {
		if !strings.HasSuffix(name, ".rotary_emb.inv_freq") && !(encoder && idle(name)) {
			extra = append(extra, fault.Field{Name: name, Code: "unknown", Message: "is not a tensor of this architecture"})
		}
	}
	slices.SortFunc(extra, func(a, b fault.Field) int { return strings.Compare(a.Name, b.Name) })
	all := slices.Concat(missing, shape, kind, extra)
	if len(all) > 100 {
		all = all[:100]
	}
	for _, f := range []struct {
		list []fault.Field
		err  *fault.Error
	}{{missing, ErrTensorMissing}, {shape, ErrTensorShape}, {kind, quant.ErrTypeUnsupported}, {extra, ErrTensorExtra}} {
		if len(f.list) > 0 {
			return nil, f.err.With("tensor %s %s%s", f.list[0].Name, f.list[0].Message, more(len(f.list)-1)).WithFields(all...)
		}
	}
	return found, nil
}

// encoderName takes off what a model class puts in front.
func encoderName(name string) string {
	for _, prefix := range []string{"bert.", "roberta.", "model."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name = rest
			break
		}
	}
	switch name { // the head of RoBERTa's classifier
	case "classifier.dense.weight", "classifier.dense.bias":
		return strings.Replace(name, "classifier", "pooler", 1)
	case "classifier.out_proj.weight", "classifier.out_proj.bias":
		return strings.Replace(name, ".out_proj", "", 1)
	}
	return name
}

// idle is a tensor of an encoder that embedding and ranking do not read: numbers of positions, the pooler of a model without classes, heads of pre-training.
func idle(name string) bool {
	return name == "embeddings.position_ids" || strings.HasPrefix(name, "pooler.") || strings.HasPrefix(name, "cls.predictions.") || strings.HasPrefix(name, "cls.seq_relationship.") || strings.HasPrefix(name, "lm_head.")
}

func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}

// runs reports whether the kernels can use the tensor: vectors must be floats.
func (t *Tensor) runs(w want) bool {
	if !t.Known {
		return false
	}
	if w.rows == 0 {
		return t.Type == quant.F32 || t.Type == quant.F16 || t.Type == quant.BF16
	}
	i, ok := t.Type.Info()
	return ok && i.Run
}

func (t *Tensor) typeName() string {
	if t.Known {
		return t.Type.String()
	}
	return "in a format"
}
