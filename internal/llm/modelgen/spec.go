// Package modelgen makes small models out of nothing: seeded, equal bytes for an equal [Spec], as a GGUF file or as a Hugging Face folder. They serve the tests of everything that runs models, the speed
// measurements, and the demo model that a fresh installation offers. No weight comes from anywhere else.
//
// What a model does is its [Kind]: [Random] weights for comparing numbers, [Successor] for a network that really counts, [Demo] for one that answers every message with [DemoAnswer].
// The last two work without attention: each token has a code (a row of +-1, orthogonal to all others), the output row of a token is the sum of the codes that it follows, so the logit of the right successor
// stands [margin] above all others, which survives every quantization here.
package modelgen

import (
	"maas/internal/llm/quant"
	"maas/internal/platform/fault"
)

// ErrSpec says that a Spec cannot be made.
var ErrSpec = fault.New(fault.Invalid, "llm.spec_invalid", "such a model cannot be generated")

// Kind is what a model does.
type Kind string

// The kinds.
const (
	Random    Kind = "random"    // weights N(0, 1/sqrt(Dim)): for logits; greedy text is noise
	Successor Kind = "successor" // after the token of a number comes the next: " 1 2 3 ..."; after anything else " 1"; after the last the end token
	Demo      Kind = "demo"      // answers DemoAnswer, then ends
	Embed     Kind = "embed"     // Arch bert: texts that share words are near each other
	Rank      Kind = "rank"      // Arch bert: a cross-encoder with random weights
)

// Tokenizer is the kind of vocabulary.
type Tokenizer string

// The tokenizers. Both are made on the spot and cover every byte.
const (
	ByteBPE Tokenizer = "bpe" // GGUF model gpt2, pre gpt-2; ids 0..255 are bytes, then merges, then <|endoftext|> <|im_start|> <|im_end|>
	SPM     Tokenizer = "spm" // GGUF model llama; <unk> <s> </s>, 256 bytes, pieces, then <|im_start|> <|im_end|>
)

// Spec describes a model. Zero fields take the defaults in the comments.
type Spec struct {
	Arch      string     // llama (default), qwen2, qwen3, bert
	Layers    int        // 2
	Dim       int        // 64
	Heads     int        // 4
	KVHeads   int        // Heads/2
	HeadDim   int        // Dim/Heads; another value only for llama and qwen3
	FF        int        // 2*Dim
	Vocab     int        // 320; Demo: as many as needed
	Ctx       int        // 512
	Seed      uint64     // 0 is a seed like any other
	Type      quant.Type // F32; weights of two dimensions, with the fallbacks of Recipe
	Kind      Kind       // Random
	Tokenizer Tokenizer  // ByteBPE
	Template  string     // Jinja source; "" = ChatML, "none" = no template
	Tied      bool       // no own output matrix; Random only
	Name      string     // general.name; default says the kind and shape
}

// DemoSpec is the demo model: a chat model that answers DemoAnswer, under half a megabyte.
func DemoSpec() Spec {
	return Spec{Kind: Demo, Ctx: 4096, Name: "maas demo toy network"}
}

// BenchSpec is the shape that speed is measured with: 134 M parameters, random.
func BenchSpec(t quant.Type) Spec {
	return Spec{Layers: 12, Dim: 768, Heads: 12, KVHeads: 12, FF: 2048, Vocab: 32000, Ctx: 2048, Type: t, Name: "bench 134M"}
}

// full returns the spec with its defaults, or ErrSpec.
func (s Spec) full() (Spec, error) {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if s.Arch == "" {
		s.Arch = "llama"
	}
	if s.Kind == "" {
		s.Kind = Random
	}
	if s.Tokenizer == "" {
		s.Tokenizer = ByteBPE
	}
	def(&s.Layers, 2)
	def(&s.Dim, 64)
	def(&s.Heads, 4)
	def(&s.KVHeads, max(1, s.Heads/2))
	if s.Heads > 0 {
		def(&s.HeadDim, s.Dim/s.Heads)
	}
	def(&s.FF, 2*s.Dim)
	if s.Kind != Demo {
		def(&s.Vocab, 320)
	}
	def(&s.Ctx, 512)
	if s.Name == "" {
		s.Name = "generated " + s.Arch + " " + string(s.Kind)
	}
	if s.Template == "" {
		s.Template = chatML
	}
	return s, s.check()
}

func (s Spec) check() error {
	switch {
	case s.Arch == "bert" && (!encoderKinds(s.Kind) || s.Dim%s.Heads != 0):
		return ErrSpec.With("a bert model is random, embed or rank, and its heads divide its size")
	case s.Arch == "bert":
	case s.Arch != "llama" && s.Arch != "qwen2" && s.Arch != "qwen3":
		return ErrSpec.With("architecture %q is not generated; llama, qwen2, qwen3 and bert are", s.Arch)
	case s.Kind != Random && s.Kind != Successor && s.Kind != Demo:
		return ErrSpec.With("kind %q is not known", s.Kind)
	case s.Tokenizer != ByteBPE && s.Tokenizer != SPM:
		return ErrSpec.With("tokenizer %q is not known", s.Tokenizer)
	case s.Layers < 1 || s.Dim < 2 || s.FF < 1 || s.Heads < 1 || s.KVHeads < 1 || s.Ctx < 1:
		return ErrSpec.With("every size must be positive")
	case s.Heads%s.KVHeads != 0 || s.HeadDim < 2 || s.HeadDim%2 != 0:
		return ErrSpec.With("%d heads need a divisor of key-value heads and an even head size", s.Heads)
	case s.Arch == "qwen2" && s.HeadDim*s.Heads != s.Dim:
		return ErrSpec.With("qwen2 heads have the size Dim/Heads")
	case s.Tied && s.Kind != Random:
		return ErrSpec.With("only random models can be tied")
	case s.Kind == Demo && s.Tokenizer != ByteBPE:
		return ErrSpec.With("the demo model has a byte-BPE vocabulary")
	}
	if i, ok := s.Type.Info(); !ok || !i.Write {
		return quant.ErrTypeUnsupported.With("%s is not written here", s.Type)
	}
	return nil
}

const chatML = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// DemoAnswer is what the demo model says, whatever it is told.
const DemoAnswer = "Hello! This is the built-in demo of maas: a small generated toy network, not a language model, so every message gets this same answer. It shows that loading, chat and streaming work here. " +
	"Next, either import a real model on the Models page, or connect an OpenAI-compatible URL under Providers."
