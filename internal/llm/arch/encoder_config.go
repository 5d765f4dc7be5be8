package arch

import (
	"encoding/json"
	"path/filepath"

	"maas/internal/llm/gguf"
)

// encoderGGUF reads a BERT model's configuration from the metadata of a file.
func encoderGGUF(f *gguf.File) (Config, error) {
	r := &ggufReader{f: f, arch: Bert}
	c := Config{Arch: Bert}
	c.Name, _ = f.Str("general.name")
	c.Layers, c.Dim, c.FF = r.need("block_count"), r.need("embedding_length"), r.need("feed_forward_length")
	c.Ctx, c.Heads = r.need("context_length"), r.need("attention.head_count")
	c.KVHeads = c.Heads
	if c.Heads > 0 {
		c.HeadDim = c.Dim / c.Heads
	}
	eps, ok := f.Float("bert.attention.layer_norm_epsilon")
	if !ok {
		r.fail("bert.attention.layer_norm_epsilon", "required", "is missing")
	}
	c.Eps = float32(eps)
	if causal, ok := f.Flag("bert.attention.causal"); ok && causal {
		r.fail("bert.attention.causal", "conflict", "is set, which the native engine does not run for this architecture")
	}
	rows := func(name string) int {
		if t := f.Tensor(name); t != nil {
			return t.Rows()
		}
		return 0
	}
	c.Vocab = rows("token_embd.weight")
	c.Encoder = EncoderConfig{Positions: rows("position_embd.weight"), Types: rows("token_types.weight"), Act: "gelu", Labels: rows("cls.output.weight")}
	kind := r.get("pooling_type", 1)
	names := []string{"", PoolMean, PoolCLS, PoolLast, PoolRank}
	if kind < 1 || kind >= len(names) {
		r.fail("bert.pooling_type", "not_in_list", "is %d, which the native engine does not run", kind)
	} else {
		c.Encoder.Pooling = names[kind]
	}
	c.check(&r.reader)
	return c, r.err()
}

// encoderJSON reads a BERT or RoBERTa model's configuration from config.json.
func encoderJSON(b []byte) (Config, error) {
	var h struct {
		hfConfig
		Eps       *float64          `json:"layer_norm_eps"`
		Types     *int              `json:"type_vocab_size"`
		Positions string            `json:"position_embedding_type"`
		Pad       *int              `json:"pad_token_id"`
		Decoder   bool              `json:"is_decoder"`
		Labels    map[string]string `json:"id2label"`
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return Config{}, ErrConfig.With("config.json cannot be read").Wrap(err)
	}
	if q := string(h.Quantization); q != "" && q != "null" {
		return Config{}, ErrUnsupported.With("the weights are quantized in a way that the native engine does not run (quantization_config)")
	}
	r := &reader{}
	c := Config{Arch: Bert, Layers: h.Layers, Dim: h.Dim, FF: h.FF, Vocab: h.Vocab, Ctx: h.Ctx, Heads: h.Heads, KVHeads: h.Heads, Eps: 1e-12}
	if c.Heads > 0 {
		c.HeadDim = c.Dim / c.Heads
	}
	if h.Eps != nil {
		c.Eps = float32(*h.Eps)
	}
	e := EncoderConfig{Positions: h.Ctx, Types: 2, Act: "gelu", Pooling: PoolMean}
	if h.Types != nil {
		e.Types = *h.Types
	}
	if h.ModelType != Bert { // RoBERTa numbers positions from behind the padding's id
		e.First = 2
		if h.Pad != nil {
			e.First = *h.Pad + 1
		}
		c.Ctx -= e.First
	}
	switch h.Act {
	case "", "gelu":
	case "gelu_new", "gelu_pytorch_tanh":
		e.Act = "gelu_tanh"
	case "relu":
		e.Act = "relu"
	default:
		r.fail("hidden_act", "not_in_list", "is %.50q, which the native engine does not run", h.Act)
	}
	if h.Positions != "" && h.Positions != "absolute" {
		r.fail("position_embedding_type", "not_in_list", "is %.50q, which the native engine does not run", h.Positions)
	}
	if h.Decoder {
		r.fail("is_decoder", "not_in_list", "is set, which the native engine does not run for this architecture")
	}
	for _, a := range h.Architectures {
		switch a {
		case "BertForSequenceClassification", "RobertaForSequenceClassification", "XLMRobertaForSequenceClassification", "CamembertForSequenceClassification":
			e.Pooling, e.Labels = PoolRank, max(1, len(h.Labels))
			if len(h.Labels) == 0 {
				e.Labels = 2 // transformers' default
			}
		}
	}
	c.Encoder = e
	c.check(r)
	return c, r.err()
}

// pooling reads how a sentence-transformers folder pools, where it says so.
func pooling(dir string, e *EncoderConfig) {
	b, err := readSmall(filepath.Join(dir, "1_Pooling", "config.json"))
	if err != nil || e.Pooling == PoolRank {
		return
	}
	var p struct {
		CLS  bool `json:"pooling_mode_cls_token"`
		Mean bool `json:"pooling_mode_mean_tokens"`
		Last bool `json:"pooling_mode_lasttoken"`
	}
	if json.Unmarshal(b, &p) != nil {
		return
	}
	switch {
	case p.CLS:
		e.Pooling = PoolCLS
	case p.Last:
		e.Pooling = PoolLast
	}
}

// checkEncoder adds what is out of range or contradicts itself.
func (c *Config) checkEncoder(r *reader) {
	e := &c.Encoder
	if c.Dim%c.Heads != 0 {
		r.fail("heads", "conflict", "is %d, which does not divide %d values", c.Heads, c.Dim)
	}
	if e.Positions < 1 || e.Positions > maxCtx || e.First < 0 || c.Ctx > e.Positions-e.First {
		r.fail("positions", "out_of_range", "is %d for a context of %d", e.Positions, c.Ctx)
	}
	if e.Types < 0 || e.Types > 256 {
		r.fail("types", "out_of_range", "is %d", e.Types)
	}
	if e.Labels < 0 || e.Labels > 4096 {
		r.fail("labels", "out_of_range", "is %d", e.Labels)
	}
	if e.Pooling == PoolRank && e.Labels < 1 {
		r.fail("labels", "required", "is missing: a ranker needs a head")
	}
	if !(c.Eps >= 0 && c.Eps < 1) {
		r.fail("eps", "out_of_range", "is %g", c.Eps)
	}
}
