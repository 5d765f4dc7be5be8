package modelgen

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
)

// WriteDir makes a Hugging Face folder: config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json. Type is F32, F16 or BF16.
func WriteDir(dir string, s Spec) error {
	files, err := Dir(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Dir makes the files of WriteDir in memory, by name.
func Dir(s Spec) (map[string][]byte, error) {
	s, err := s.full()
	if err != nil {
		return nil, err
	}
	if _, ok := safetensors.Of(s.Type); !ok {
		return nil, quant.ErrTypeUnsupported.With("a folder holds f32, f16 or bf16, not %s", s.Type)
	}
	if s.Arch == "bert" {
		return s.encoderDir()
	}
	v, err := newVocab(s)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	var weights bytes.Buffer
	if err := s.writeSafetensors(&weights, v); err != nil {
		return nil, err
	}
	files[safetensors.SingleName] = weights.Bytes()
	for name, x := range map[string]any{
		"config.json": s.config(v), "generation_config.json": s.generation(v), "tokenizer.json": v.tokenizerJSON(), "tokenizer_config.json": s.tokenizerConfig(v),
	} {
		if files[name], err = json.MarshalIndent(x, "", "  "); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (s Spec) writeSafetensors(w io.Writer, v *vocab) error {
	typ, _ := safetensors.Of(s.Type)
	byName := map[string]tensor{}
	var infos []safetensors.TensorInfo
	for _, t := range s.tensors(len(v.tokens)) {
		shape := []int{t.rows, t.cols}
		if t.rows == 0 {
			shape = shape[1:]
		}
		byName[t.hf] = t
		infos = append(infos, safetensors.TensorInfo{Name: t.hf, DType: typ, Shape: shape})
	}
	sw, err := safetensors.NewWriter(w, infos)
	if err != nil {
		return err
	}
	for _, name := range sw.Names() {
		x := s.values(byName[name], v)
		b := make([]byte, s.Type.RowBytes(len(x)))
		if err := quant.Quantize(s.Type, b, x); err != nil {
			return err
		}
		if err := sw.WriteTensor(name, bytes.NewReader(b)); err != nil {
			return err
		}
	}
	return sw.Close()
}

var classNames = map[string]string{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

var torchTypes = map[quant.Type]string{quant.F32: "float32", quant.F16: "float16", quant.BF16: "bfloat16"}

type object = map[string]any

func (s Spec) config(v *vocab) object {
	c := object{
		"architectures": []string{classNames[s.Arch]}, "model_type": s.Arch, "hidden_size": s.Dim, "intermediate_size": s.FF, "num_hidden_layers": s.Layers,
		"num_attention_heads": s.Heads, "num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim, "max_position_embeddings": s.Ctx, "rms_norm_eps": s.eps(), "rope_theta": s.ropeBase(),
		"vocab_size": len(v.tokens), "tie_word_embeddings": s.Tied, "torch_dtype": torchTypes[s.Type], "hidden_act": "silu", "bos_token_id": v.bos, "eos_token_id": v.eos,
		"attention_bias": false, "initializer_range": 0.02, "use_cache": true,
	}
	if s.Arch != "llama" {
		c["use_sliding_window"] = false
	}
	return c
}

func (s Spec) generation(v *vocab) object {
	return object{"bos_token_id": v.bos, "eos_token_id": v.eos}
}

func (s Spec) tokenizerConfig(v *vocab) object {
	c := object{
		"bos_token": v.tokens[v.bos], "eos_token": v.tokens[v.eos], "model_max_length": s.Ctx, "add_bos_token": v.spm, "add_eos_token": false, "clean_up_tokenization_spaces": false,
		"tokenizer_class": "PreTrainedTokenizerFast",
	}
	if v.spm {
		c["unk_token"] = v.tokens[v.unk]
	}
	if s.Template != "none" {
		c["chat_template"] = s.Template
	}
	return c
}

// tokenizerJSON writes the vocabulary as the tokenizers library reads it.
func (v *vocab) tokenizerJSON() object {
	words, added := map[string]int{}, []object{}
	for id, t := range v.tokens {
		words[t] = id
		if v.types[id] == typeControl || v.types[id] == typeUnknown {
			added = append(added, object{"id": id, "content": t, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
		}
	}
	merges := make([][2]string, len(v.merges))
	copy(merges, v.merges)
	model := object{
		"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
		"vocab": words, "merges": merges,
	}
	out := object{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "model": model, "normalizer": nil, "post_processor": nil}
	if !v.spm {
		out["pre_tokenizer"] = object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
		out["post_processor"] = object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}
		out["decoder"] = object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}
		return out
	}
	model["unk_token"], model["fuse_unk"], model["byte_fallback"] = v.tokens[v.unk], true, true
	out["normalizer"] = object{"type": "Sequence", "normalizers": []object{
		{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": object{"String": " "}, "content": "\u2581"},
	}}
	out["pre_tokenizer"] = nil
	bos := v.tokens[v.bos]
	out["post_processor"] = object{
		"type":           "TemplateProcessing",
		"single":         []object{{"SpecialToken": object{"id": bos, "type_id": 0}}, {"Sequence": object{"id": "A", "type_id": 0}}},
		"pair":           []object{{"SpecialToken": object{"id": bos, "type_id": 0}}, {"Sequence": object{"id": "A", "type_id": 0}}, {"Sequence": object{"id": "B", "type_id": 1}}},
		"special_tokens": object{bos: object{"id": bos, "ids": []int{v.bos}, "tokens": []string{bos}}},
	}
	out["decoder"] = object{"type": "Sequence", "decoders": []object{
		{"type": "Replace", "pattern": object{"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
	}}
	return out
}
