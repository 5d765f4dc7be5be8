package arch

import (
	"maas/internal/platform/fault"
)

// Errors of this package. Each names the tensor, key or value at hand in its detail or fields.
var (
	ErrUnsupported   = fault.New(fault.Invalid, "llm.arch_unsupported", "this architecture is not run by the native engine")
	ErrConfig        = fault.New(fault.Invalid, "llm.config_invalid", "the model's configuration is incomplete or contradicts itself")
	ErrTensorMissing = fault.New(fault.Invalid, "llm.tensor_missing", "a weight tensor is missing")
	ErrTensorShape   = fault.New(fault.Invalid, "llm.tensor_shape", "a weight tensor has the wrong shape")
	ErrTensorExtra   = fault.New(fault.Invalid, "llm.tensor_extra", "the file holds a tensor that this architecture does not know")
	ErrTensorNaN     = fault.New(fault.Invalid, "llm.tensor_nan", "a weight tensor holds a value that is not finite")
	ErrMemory        = fault.New(fault.Unavailable, "llm.memory_limit", "the model needs more memory than it was given")
)

// Families that the native engine runs. Mistral files call themselves llama (GGUF) or mistral (config.json); both are Llama here.
const (
	Llama = "llama"
	Qwen2 = "qwen2"
	Qwen3 = "qwen3"
	Bert  = "bert" // encoders: BERT and RoBERTa
)

// Ways in which an encoder's rows become one vector.
const (
	PoolMean = "mean"
	PoolCLS  = "cls"  // the first token's
	PoolLast = "last" // the last token's
	PoolRank = "rank" // a score of a pair of texts, by the head of classes
)

// EncoderConfig is what an encoder has beside the common part.
type EncoderConfig struct {
	Positions int    `json:"positions"`        // rows of the position embedding
	First     int    `json:"first,omitempty"`  // row of the first token: RoBERTa counts from behind its padding
	Types     int    `json:"types,omitempty"`  // kinds of segments: 2 in BERT, for pairs
	Act       string `json:"act"`              // gelu (with the error function), gelu_tanh, relu
	Pooling   string `json:"pooling"`          // PoolMean, ...
	Labels    int    `json:"labels,omitempty"` // classes of the head; 1 = a ranker
}

// RopeScale stretches the rotary embedding beyond the context of training. The zero value scales nothing.
type RopeScale struct {
	Kind     string  `json:"kind,omitempty"` // "", linear, llama3, yarn
	Factor   float64 `json:"factor,omitempty"`
	Original int     `json:"original,omitempty"`  // context of training, in positions
	Low      float64 `json:"low,omitempty"`       // llama3: low_freq_factor
	High     float64 `json:"high,omitempty"`      // llama3: high_freq_factor
	BetaFast float64 `json:"beta_fast,omitempty"` // yarn, 32
	BetaSlow float64 `json:"beta_slow,omitempty"` // yarn, 1
	Attn     float64 `json:"attn,omitempty"`      // yarn: magnitude of cos and sin; 0 = 1+0.1*ln(factor)
}

// Sampling holds the defaults that travel in the model's files; nil = the file says nothing.
type Sampling struct {
	Temperature       *float64 `json:"temperature,omitempty"`
	TopK              *int     `json:"top_k,omitempty"`
	TopP              *float64 `json:"top_p,omitempty"`
	MinP              *float64 `json:"min_p,omitempty"`
	RepetitionPenalty *float64 `json:"repetition_penalty,omitempty"`
}

// Config is all that the forward pass of a decoder needs to know, read from GGUF metadata or config.json. Both give equal values for the same model.
type Config struct {
	Arch      string        `json:"arch"` // llama, qwen2, qwen3
	Name      string        `json:"name,omitempty"`
	Layers    int           `json:"layers"`
	Dim       int           `json:"dim"`
	FF        int           `json:"ff"`
	Vocab     int           `json:"vocab"`
	Ctx       int           `json:"ctx"` // positions the model was made for
	Heads     int           `json:"heads"`
	KVHeads   int           `json:"kv_heads"`
	HeadDim   int           `json:"head_dim"`
	Eps       float32       `json:"eps"`
	RopeBase  float64       `json:"rope_base"`
	RopeDim   int           `json:"rope_dim"` // leading values of a head that are rotated; an even number
	RopeScale RopeScale     `json:"rope_scale,omitzero"`
	Window    int           `json:"window,omitempty"` // sliding window over all layers, 0 = none
	QKVBias   bool          `json:"qkv_bias,omitempty"`
	OBias     bool          `json:"o_bias,omitempty"`
	QKNorm    bool          `json:"qk_norm,omitempty"`
	Tied      bool          `json:"tied,omitempty"` // the output matrix is the token embedding
	Sampling  Sampling      `json:"sampling,omitzero"`
	Encoder   EncoderConfig `json:"encoder,omitzero"` // Arch bert only
}
