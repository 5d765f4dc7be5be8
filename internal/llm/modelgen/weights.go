package modelgen

import (
	"hash/fnv"
	"math"
	"math/bits"
	"math/rand/v2"
	"strconv"

	"maas/internal/llm/quant"
)

// margin is how far the right successor's logit stands above the others.
const margin = 24

// tensor is one weight: its names in both worlds, its shape (rows 0 for a vector) and what it is.
type tensor struct {
	gguf, hf   string
	rows, cols int
	role       role
	heads      int // of a matrix whose rows are heads: GGUF files of llama store them permuted
	layer      int
}

type role uint8

const (
	roleEmbed role = iota
	roleOutput
	roleNorm
	roleBias
	roleMatrix // attention and feed-forward inputs
	roleValue  // attn_v: more bits in mixed recipes
	roleDown   // ffn_down: ends a residual branch, more bits
	roleBranch // attn_output: ends a residual branch
)

// tensors lists the weights in file order.
func (s Spec) tensors(vocab int) []tensor {
	q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	list := []tensor{{"token_embd.weight", "model.embed_tokens.weight", vocab, s.Dim, roleEmbed, 0, 0}}
	for l := range s.Layers {
		g, h := "blk."+strconv.Itoa(l)+".", "model.layers."+strconv.Itoa(l)+"."
		add := func(gguf, hf string, rows, cols int, r role, heads int) {
			list = append(list, tensor{g + gguf, h + hf, rows, cols, r, heads, l})
		}
		add("attn_norm.weight", "input_layernorm.weight", 0, s.Dim, roleNorm, 0)
		add("attn_q.weight", "self_attn.q_proj.weight", q, s.Dim, roleMatrix, s.Heads)
		add("attn_k.weight", "self_attn.k_proj.weight", kv, s.Dim, roleMatrix, s.KVHeads)
		add("attn_v.weight", "self_attn.v_proj.weight", kv, s.Dim, roleValue, 0)
		if s.Arch == "qwen2" {
			add("attn_q.bias", "self_attn.q_proj.bias", 0, q, roleBias, 0)
			add("attn_k.bias", "self_attn.k_proj.bias", 0, kv, roleBias, 0)
			add("attn_v.bias", "self_attn.v_proj.bias", 0, kv, roleBias, 0)
		}
		if s.Arch == "qwen3" {
			add("attn_q_norm.weight", "self_attn.q_norm.weight", 0, s.HeadDim, roleNorm, 0)
			add("attn_k_norm.weight", "self_attn.k_norm.weight", 0, s.HeadDim, roleNorm, 0)
		}
		add("attn_output.weight", "self_attn.o_proj.weight", s.Dim, q, roleBranch, 0)
		add("ffn_norm.weight", "post_attention_layernorm.weight", 0, s.Dim, roleNorm, 0)
		add("ffn_gate.weight", "mlp.gate_proj.weight", s.FF, s.Dim, roleMatrix, 0)
		add("ffn_up.weight", "mlp.up_proj.weight", s.FF, s.Dim, roleMatrix, 0)
		add("ffn_down.weight", "mlp.down_proj.weight", s.Dim, s.FF, roleDown, 0)
	}
	list = append(list, tensor{"output_norm.weight", "model.norm.weight", 0, s.Dim, roleNorm, 0, 0})
	if !s.Tied {
		list = append(list, tensor{"output.weight", "lm_head.weight", vocab, s.Dim, roleOutput, 0, 0})
	}
	return list
}

// values makes the numbers of a tensor, in the order of Hugging Face files.
func (s Spec) values(t tensor, v *vocab) []float32 {
	x := make([]float32, max(1, t.rows)*t.cols)
	if s.Kind != Random {
		switch t.role {
		case roleEmbed:
			s.embed(x, v)
			return x
		case roleOutput:
			s.output(x, v)
			return x
		case roleDown, roleBranch: // both branches add nothing
			return x
		case roleNorm:
			for i := range x {
				x[i] = 1
			}
			return x
		default:
		}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.gguf))
	r := rand.NewPCG(s.Seed, h.Sum64())
	scale := float32(1 / math.Sqrt(float64(s.Dim)))
	for i := range x {
		x[i] = normal(r.Uint64()) * scale
		if t.role == roleNorm {
			x[i] = 1 + x[i]
		}
	}
	return x
}

// normal turns 64 random bits into a nearly normal number of variance 1: the sum of four 16-bit ones. Whole numbers only, so that every machine makes the same.
func normal(u uint64) float32 {
	sum := int32(u&0xffff) + int32(u>>16&0xffff) + int32(u>>32&0xffff) + int32(u>>48) - 2*65535
	return float32(sum) * (1 / 37837.2) // sqrt(4 * (2^32-1) / 12)
}

// class is the code number of a token: tokens with the same successor share one. 0 is "anything else".
func (v *vocab) class(id int) int {
	if v.next[id] < 0 {
		return 0
	}
	return 1 + v.next[id]
}

// classes numbers the codes in use from 0 without gaps.
func (v *vocab) classes() map[int]int {
	m := map[int]int{0: 0}
	for id := range v.tokens {
		c := v.class(id)
		if _, ok := m[c]; !ok {
			m[c] = len(m)
		}
	}
	return m
}

// code returns element k of the code: a row of the Hadamard matrix of the largest power of two in Dim, repeated. Rows are orthogonal; past the last the codes are random signs, nearly so.
func (s Spec) code(class, k int) float32 {
	n := s.Dim & -s.Dim
	var odd bool
	if class < n {
		odd = bits.OnesCount(uint(class&(k%n)))%2 == 1
	} else {
		h := (uint64(class)<<32 ^ uint64(k) ^ s.Seed) * 0x9e3779b97f4a7c15
		h = (h ^ h>>29) * 0xbf58476d1ce4e5b9
		odd = h>>40&1 == 1
	}
	if odd {
		return -1
	}
	return 1
}

func (s Spec) embed(x []float32, v *vocab) {
	m := v.classes()
	for id := range v.tokens {
		c := m[v.class(id)]
		for k := range s.Dim {
			x[id*s.Dim+k] = s.code(c, k)
		}
	}
}

// output sets the row of each token that follows another to that one's code; the row of the first word is the code of "anything else". Other rows stay zero.
func (s Spec) output(x []float32, v *vocab) {
	scale := float32(margin) / float32(s.Dim)
	for class, c := range v.classes() {
		id := class - 1
		if class == 0 {
			id = v.first
		}
		for k := range s.Dim {
			x[id*s.Dim+k] += s.code(c, k) * scale
		}
	}
}

// permute reorders the rows of a q or k matrix from halves (Hugging Face) to pairs (GGUF files of llama): row 2i+j of a head was row j*half+i.
func permute(x []float32, cols, heads int) []float32 {
	y := make([]float32, len(x))
	d := len(x) / cols / heads
	for h := range heads {
		for i := range d / 2 {
			for j := range 2 {
				from, to := h*d+j*d/2+i, h*d+2*i+j
				copy(y[to*cols:(to+1)*cols], x[from*cols:])
			}
		}
	}
	return y
}

// typeOf is the number format of a tensor in a GGUF file: vectors stay f32; q4_K is the mix "Q4_K_M"; rows that are no whole number of blocks fall back as llama.cpp's files do.
func (s Spec) typeOf(t tensor) quant.Type {
	if t.rows == 0 {
		return quant.F32
	}
	typ := s.Type
	if typ == quant.Q4_K {
		switch {
		case t.role == roleOutput || t.role == roleEmbed && s.Tied:
			typ = quant.Q6_K
		case (t.role == roleValue || t.role == roleDown) && moreBits(t.layer, s.Layers):
			typ = quant.Q6_K
		}
	}
	return Fallback(typ, t.cols)
}

// moreBits tells which layers of a mixed recipe keep more: the first and last eighth, and every third between.
func moreBits(i, n int) bool { return i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2 }

// Fallback returns typ if rows of cols values are whole blocks, else the nearest type that has smaller ones: q4_K -> q5_0, q5_K -> q5_1, q6_K -> q8_0, and f16 where not even 32 divides.
func Fallback(typ quant.Type, cols int) quant.Type {
	if typ.RowBytes(cols) >= 0 {
		return typ
	}
	switch typ {
	case quant.Q4_K:
		typ = quant.Q5_0
	case quant.Q5_K:
		typ = quant.Q5_1
	case quant.Q6_K:
		typ = quant.Q8_0
	default:
	}
	if typ.RowBytes(cols) >= 0 {
		return typ
	}
	return quant.F16
}
