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

// want is a tensor that the configuration asks for: a matrix of rows x cols, or a vector of cols with rows 0.
type want struct {
	role       role
	layer      int // -1 = none
	rows, cols int
	optional   bool
}

// wants lists every tensor of a model, in the order of the forward pass.
func (c *Config) wants() []want {
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

// name returns how a file of the scheme (0 GGUF, 1 safetensors) calls the tensor.
func (w want) name(scheme int) string {
	n := names[w.role][scheme]
	if w.layer >= 0 {
		return fmt.Sprintf(n, w.layer)
	}
	return n
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
func match(wants []want, have []Tensor, scheme int, tied bool) (map[want]*Tensor, error) {
	byName := make(map[string]*Tensor, len(have))
	for i := range have {
		byName[have[i].Name] = &have[i]
	}
	var missing, shape, kind, extra []fault.Field
	found := make(map[want]*Tensor, len(wants))
	for _, w := range wants {
		name := w.name(scheme)
		t := byName[name]
		delete(byName, name)
		switch {
		case name == "" || t == nil && w.optional:
		case t == nil:
			missing = append(missing, fault.Field{Name: name, Code: "required", Message: "is missing"})
		case !slices.Equal(t.Shape, w.shape()):
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
		if !strings.HasSuffix(name, ".rotary_emb.inv_freq") {
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
