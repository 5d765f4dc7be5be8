package arch

import (
	"fmt"
	"slices"
	"strings"

	"maas/internal/llm/gguf"
	"maas/internal/platform/fault"
)

// limits of what a configuration may ask for: far above every published model, low enough that no product overflows.
const (
	maxLayers = 1024
	maxDim    = 1 << 18
	maxVocab  = 1 << 21
	maxCtx    = 1 << 26
)

// reader collects every fault of a configuration, so that all are told at once.
type reader struct {
	bad []fault.Field
}

func (r *reader) fail(name, code, format string, args ...any) {
	r.bad = append(r.bad, fault.Field{Name: name, Code: code, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) err() error {
	if len(r.bad) == 0 {
		return nil
	}
	return ErrConfig.With("%s %s", r.bad[0].Name, r.bad[0].Message).WithFields(r.bad...)
}

// ConfigGGUF reads the configuration from the metadata of a file. ErrUnsupported for a foreign family, ErrConfig with every missing or contradicting key.
func ConfigGGUF(f *gguf.File) (Config, error) {
	a := f.Arch()
	c := Config{Arch: a}
	switch a {
	case Llama, Qwen2, Qwen3:
	case Bert:
		return encoderGGUF(f)
	case "":
		return c, ErrConfig.With("the file does not name its architecture (general.architecture)")
	default:
		return c, ErrUnsupported.With("architecture %.100q is not run by the native engine; it runs llama, qwen2, qwen3 and bert", a)
	}
	if n, _ := f.Int(a + ".expert_count"); n > 0 {
		return c, ErrUnsupported.With("this %s model is a mixture of %d experts, which the native engine does not run", a, n)
	}
	r := &ggufReader{f: f, arch: a}
	c.Name, _ = f.Str("general.name")
	c.Layers, c.Dim, c.FF = r.need("block_count"), r.need("embedding_length"), r.need("feed_forward_length")
	c.Ctx, c.Heads = r.need("context_length"), r.need("attention.head_count")
	c.KVHeads = r.get("attention.head_count_kv", c.Heads)
	if c.Heads > 0 {
		c.HeadDim = r.get("attention.key_length", c.Dim/c.Heads)
	}
	if v := r.get("attention.value_length", c.HeadDim); v != c.HeadDim {
		r.fail(a+".attention.value_length", "conflict", "is %d, but keys have %d values", v, c.HeadDim)
	}
	eps, ok := f.Float(a + ".attention.layer_norm_rms_epsilon")
	if !ok {
		r.fail(a+".attention.layer_norm_rms_epsilon", "required", "is missing")
	}
	c.Eps = float32(eps)
	c.RopeBase = 10000
	if b, ok := f.Float(a + ".rope.freq_base"); ok {
		c.RopeBase = b
	}
	c.RopeDim = r.get("rope.dimension_count", c.HeadDim)
	c.Window = r.get("attention.sliding_window", 0)
	r.scaling(&c)
	if t := f.Tensor("token_embd.weight"); t != nil {
		c.Vocab = t.Rows()
	} else {
		r.fail("token_embd.weight", "required", "is missing")
	}
	c.Tied = f.Tensor("output.weight") == nil
	c.QKVBias = a == Qwen2 || f.Tensor("blk.0.attn_q.bias") != nil
	c.OBias = a == Llama && f.Tensor("blk.0.attn_output.bias") != nil
	c.QKNorm = a == Qwen3
	c.Sampling = ggufSampling(f)
	c.check(&r.reader)
	return c, r.err()
}

// ggufReader reads integers under the architecture's prefix.
type ggufReader struct {
	reader
	f    *gguf.File
	arch string
}

func (r *ggufReader) need(key string) int {
	v := r.get(key, -1)
	if v == -1 {
		r.fail(r.arch+"."+key, "required", "is missing")
		return 0
	}
	return v
}

// get reads a number; a list counts as one if all its entries are equal, as some writers give a value per layer.
func (r *ggufReader) get(key string, def int) int {
	name := r.arch + "." + key
	if _, ok := r.f.Get(name); !ok {
		return def
	}
	all, err := r.f.Ints(name)
	if err != nil || len(all) == 0 {
		r.fail(name, "type", "is not a number")
		return def
	}
	if slices.ContainsFunc(all, func(v int64) bool { return v != all[0] }) {
		r.fail(name, "conflict", "differs between layers, which the native engine does not run")
	}
	if all[0] < 0 || all[0] > maxCtx {
		r.fail(name, "out_of_range", "is %d", all[0])
		return def
	}
	return int(all[0])
}

func (r *ggufReader) scaling(c *Config) {
	p := r.arch + ".rope.scaling."
	kind, ok := r.f.Str(p + "type")
	factor, hasFactor := r.f.Float(p + "factor")
	if !ok {
		// Before scaling had a type, a linear factor stood alone, under one of two names.
		if !hasFactor {
			factor, hasFactor = r.f.Float(r.arch + ".rope.scale_linear")
		}
		if hasFactor && factor != 1 && factor != 0 {
			kind = "linear"
		}
	}
	switch kind {
	case "", "none":
	case "linear":
		c.RopeScale = RopeScale{Kind: "linear", Factor: factor}
	case "yarn":
		s := RopeScale{Kind: "yarn", Factor: factor, Original: r.get("rope.scaling.original_context_length", c.Ctx), BetaFast: 32, BetaSlow: 1}
		if v, ok := r.f.Float(p + "yarn_beta_fast"); ok {
			s.BetaFast = v
		}
		if v, ok := r.f.Float(p + "yarn_beta_slow"); ok {
			s.BetaSlow = v
		}
		if v, ok := r.f.Float(p + "attn_factor"); ok && v != 1 && v != 0 {
			s.Attn = v * yarnMagnitude(factor)
		}
		c.RopeScale = s
	default:
		r.fail(p+"type", "not_in_list", "is %.50q, which the native engine does not run", kind)
	}
}

func ggufSampling(f *gguf.File) Sampling {
	var s Sampling
	num := func(key string, to **float64) {
		if v, ok := f.Float("general.sampling." + key); ok {
			*to = &v
		}
	}
	num("temp", &s.Temperature)
	num("top_p", &s.TopP)
	num("min_p", &s.MinP)
	num("penalty_repeat", &s.RepetitionPenalty)
	if v, ok := f.Int("general.sampling.top_k"); ok {
		k := int(v)
		s.TopK = &k
	}
	return s.clean()
}

// clean drops values that no request could carry.
func (s Sampling) clean() Sampling {
	keep := func(v **float64, hi float64) {
		if *v != nil && !(**v >= 0 && **v <= hi) {
			*v = nil
		}
	}
	keep(&s.Temperature, 100)
	keep(&s.TopP, 1)
	keep(&s.MinP, 1)
	keep(&s.RepetitionPenalty, 100)
	if s.TopK != nil && *s.TopK < 0 {
		s.TopK = nil
	}
	return s
}

// check adds what is out of range or contradicts itself.
func (c *Config) check(r *reader) {
	in := func(name string, v, lo, hi int) bool {
		if v < lo || v > hi {
			r.fail(name, "out_of_range", "is %d, not within %d to %d", v, lo, hi)
			return false
		}
		return true
	}
	ok := in("layers", c.Layers, 1, maxLayers)
	ok = in("dim", c.Dim, 1, maxDim) && ok
	ok = in("ff", c.FF, 1, 8*maxDim) && ok
	ok = in("vocab", c.Vocab, 1, maxVocab) && ok
	ok = in("context", c.Ctx, 1, maxCtx) && ok
	ok = in("heads", c.Heads, 1, maxDim) && ok
	ok = in("kv_heads", c.KVHeads, 1, maxDim) && ok
	ok = in("head_dim", c.HeadDim, 2, 1024) && ok
	if !ok {
		return
	}
	if c.Heads%c.KVHeads != 0 {
		r.fail("kv_heads", "conflict", "is %d, which does not divide %d heads", c.KVHeads, c.Heads)
	}
	if c.Arch == Bert {
		c.checkEncoder(r)
		return
	}
	if c.RopeDim < 2 || c.RopeDim > c.HeadDim || c.RopeDim%2 != 0 {
		r.fail("rope_dim", "out_of_range", "is %d; a head has %d values", c.RopeDim, c.HeadDim)
	}
	if !(c.Eps >= 0 && c.Eps < 1) {
		r.fail("eps", "out_of_range", "is %g", c.Eps)
	}
	if !(c.RopeBase > 1 && c.RopeBase < 1e15) {
		r.fail("rope_base", "out_of_range", "is %g", c.RopeBase)
	}
	s := c.RopeScale
	if s.Kind != "" && !(s.Factor > 0 && s.Factor < 1e6) {
		r.fail("rope_scale.factor", "out_of_range", "is %g", s.Factor)
	}
	if (s.Kind == "yarn" || s.Kind == "llama3") && s.Original < 1 {
		r.fail("rope_scale.original", "required", "is missing")
	}
	if s.Kind == "llama3" && !(s.Low > 0 && s.High > s.Low) {
		r.fail("rope_scale", "conflict", "has low_freq_factor %g and high_freq_factor %g", s.Low, s.High)
	}
}

// isGGUF says that a file name is one of a GGUF file.
func isGGUF(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".gguf") }
