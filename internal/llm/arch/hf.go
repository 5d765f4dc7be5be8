package arch

import (
	"encoding/json"
	"slices"
)

// hfRope is rope_scaling, or rope_parameters of newer files, which holds the base as well.
type hfRope struct {
	Type      string   `json:"rope_type"`
	OldType   string   `json:"type"`
	Factor    float64  `json:"factor"`
	Original  int      `json:"original_max_position_embeddings"`
	Low       float64  `json:"low_freq_factor"`
	High      float64  `json:"high_freq_factor"`
	BetaFast  *float64 `json:"beta_fast"`
	BetaSlow  *float64 `json:"beta_slow"`
	Attn      *float64 `json:"attention_factor"`
	RopeTheta *float64 `json:"rope_theta"`
	Partial   *float64 `json:"partial_rotary_factor"`
}

// hfConfig is the part of config.json that decides the forward pass.
type hfConfig struct {
	ModelType     string          `json:"model_type"`
	Architectures []string        `json:"architectures"`
	Layers        int             `json:"num_hidden_layers"`
	Dim           int             `json:"hidden_size"`
	FF            int             `json:"intermediate_size"`
	Vocab         int             `json:"vocab_size"`
	Ctx           int             `json:"max_position_embeddings"`
	Heads         int             `json:"num_attention_heads"`
	KVHeads       *int            `json:"num_key_value_heads"`
	HeadDim       *int            `json:"head_dim"`
	Eps           *float64        `json:"rms_norm_eps"`
	Act           string          `json:"hidden_act"`
	RopeTheta     *float64        `json:"rope_theta"`
	RopeScaling   *hfRope         `json:"rope_scaling"`
	RopeParams    *hfRope         `json:"rope_parameters"`
	Partial       *float64        `json:"partial_rotary_factor"`
	Window        *int            `json:"sliding_window"`
	UseWindow     *bool           `json:"use_sliding_window"`
	LayerTypes    []string        `json:"layer_types"`
	AttnBias      bool            `json:"attention_bias"`
	MLPBias       bool            `json:"mlp_bias"`
	Tied          bool            `json:"tie_word_embeddings"`
	Experts       int             `json:"num_experts"`
	LocalExperts  int             `json:"num_local_experts"`
	Quantization  json.RawMessage `json:"quantization_config"`
}

// ConfigJSON reads the configuration from config.json. Errors as of ConfigGGUF.
func ConfigJSON(b []byte) (Config, error) {
	var h hfConfig
	if err := json.Unmarshal(b, &h); err != nil {
		return Config{}, ErrConfig.With("config.json cannot be read").Wrap(err)
	}
	var c Config
	switch h.ModelType {
	case "llama", "mistral":
		c.Arch = Llama
	case "qwen2":
		c.Arch, c.QKVBias = Qwen2, true
	case "qwen3":
		c.Arch, c.QKNorm = Qwen3, true
	case "bert", "roberta", "xlm-roberta", "camembert":
		return encoderJSON(b)
	case "":
		return c, ErrConfig.With("config.json does not name its model_type")
	default:
		return c, ErrUnsupported.With("architecture %.100q is not run by the native engine; it runs llama, mistral, qwen2, qwen3, bert and roberta", h.ModelType)
	}
	if h.Experts > 0 || h.LocalExperts > 0 {
		return c, ErrUnsupported.With("this %s model is a mixture of experts, which the native engine does not run", h.ModelType)
	}
	if q := string(h.Quantization); q != "" && q != "null" {
		return c, ErrUnsupported.With("the weights are quantized in a way that the native engine does not run (quantization_config)").WithHint("import the original weights, or a GGUF file")
	}
	r := &reader{}
	c.Layers, c.Dim, c.FF, c.Vocab, c.Ctx, c.Heads, c.KVHeads = h.Layers, h.Dim, h.FF, h.Vocab, h.Ctx, h.Heads, h.Heads
	if h.KVHeads != nil {
		c.KVHeads = *h.KVHeads
	}
	switch {
	case h.HeadDim != nil:
		c.HeadDim = *h.HeadDim
	case c.Arch == Qwen3:
		c.HeadDim = 128
	case c.Heads > 0:
		c.HeadDim = c.Dim / c.Heads
	}
	c.Eps = 1e-6
	if h.Eps != nil {
		c.Eps = float32(*h.Eps)
	}
	if h.Act != "" && h.Act != "silu" && h.Act != "swish" {
		r.fail("hidden_act", "not_in_list", "is %.50q, which the native engine does not run", h.Act)
	}
	if h.MLPBias {
		r.fail("mlp_bias", "not_in_list", "is set, which the native engine does not run")
	}
	if h.AttnBias {
		c.QKVBias, c.OBias = true, true
	}
	c.Tied = h.Tied
	h.window(&c, r)
	h.rope(&c, r)
	c.check(r)
	return c, r.err()
}

// window reads the sliding window: on in Mistral files that name one, in Qwen files only where use_sliding_window says so.
func (h *hfConfig) window(c *Config, r *reader) {
	if h.Window == nil || *h.Window <= 0 {
		return
	}
	on := h.ModelType == "mistral"
	if h.UseWindow != nil {
		on = *h.UseWindow
	}
	if len(h.LayerTypes) > 0 {
		on = on && slices.Contains(h.LayerTypes, "sliding_attention")
		if on && slices.Contains(h.LayerTypes, "full_attention") {
			r.fail("layer_types", "not_in_list", "mixes full and sliding attention, which the native engine does not run for this architecture")
		}
	} else if on && h.ModelType != "mistral" {
		r.fail("use_sliding_window", "not_in_list", "is set without layer_types, so that it is not known which layers it means")
	}
	if on {
		c.Window = *h.Window
	}
}

func (h *hfConfig) rope(c *Config, r *reader) {
	c.RopeBase = 10000
	partial := 1.0
	set := func(to *float64, v *float64) {
		if v != nil {
			*to = *v
		}
	}
	set(&c.RopeBase, h.RopeTheta)
	set(&partial, h.Partial)
	s := h.RopeScaling
	if h.RopeParams != nil {
		s = h.RopeParams
		set(&c.RopeBase, s.RopeTheta)
		set(&partial, s.Partial)
	}
	c.RopeDim = int(float64(c.HeadDim) * partial)
	if s == nil {
		return
	}
	kind := s.Type
	if kind == "" {
		kind = s.OldType
	}
	switch kind {
	case "", "default":
	case "linear":
		c.RopeScale = RopeScale{Kind: "linear", Factor: s.Factor}
	case "llama3":
		c.RopeScale = RopeScale{Kind: "llama3", Factor: s.Factor, Original: s.Original, Low: s.Low, High: s.High}
	case "yarn":
		y := RopeScale{Kind: "yarn", Factor: s.Factor, Original: s.Original, BetaFast: 32, BetaSlow: 1}
		if y.Original == 0 {
			y.Original = c.Ctx
		}
		set(&y.BetaFast, s.BetaFast)
		set(&y.BetaSlow, s.BetaSlow)
		set(&y.Attn, s.Attn)
		c.RopeScale = y
	default:
		r.fail("rope_scaling", "not_in_list", "is %.50q, which the native engine does not run", kind)
	}
}

// samplingJSON reads generation_config.json. A file that cannot be read has no defaults.
func samplingJSON(b []byte) Sampling {
	var g struct {
		DoSample *bool `json:"do_sample"`
		Sampling
	}
	if json.Unmarshal(b, &g) != nil {
		return Sampling{}
	}
	if g.DoSample != nil && !*g.DoSample {
		zero := 0.0
		return Sampling{Temperature: &zero, RepetitionPenalty: g.RepetitionPenalty}.clean()
	}
	return g.clean()
}

// endTokens reads eos_token_id of generation_config.json or config.json: a number or a list. Instruction models name their end-of-turn tokens there.
func endTokens(b []byte) []int32 {
	var g struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	if json.Unmarshal(b, &g) != nil {
		return nil
	}
	var one *int32
	var many []int32
	if json.Unmarshal(g.EOS, &one) == nil && one != nil {
		return []int32{*one}
	}
	if json.Unmarshal(g.EOS, &many) != nil {
		return nil
	}
	return many
}
