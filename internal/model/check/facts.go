package check

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"maas/internal/llm/gguf"
	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
)

// maxJSON bounds the small files of a folder that are read whole.
const maxJSON = 16 << 20

// small reads a file of the folder, nil if it is not there or too large.
func (r *runner) small(name string) []byte {
	p := filepath.Join(r.in.Dir, name)
	st, err := os.Stat(p)
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxJSON {
		return nil
	}
	b, err := os.ReadFile(p)
	if err != nil {
		return nil
	}
	return b
}

// model opens the GGUF file or set.
func (r *runner) model() (*gguf.File, error) { return gguf.OpenSet(r.path(r.ending(".gguf")[0])) }

// weight is a tensor of either container.
type weight struct {
	name   string
	typ    quant.Type
	known  bool // typ is a format of package quant
	label  string
	matrix bool
	n      int64
}

// facts reads what the headers say, whether our engine runs the model or not.
func (r *runner) facts() error {
	var weights []weight
	if r.out.Facts.Format == "gguf" {
		f, err := r.model()
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		for i := range f.Tensors {
			t := &f.Tensors[i]
			weights = append(weights, weight{t.Name, t.Type, true, t.Type.String(), len(t.Dims) > 1, t.Elements()})
		}
		r.count(weights)
		r.ggufFacts(f)
		return nil
	}
	f, err := safetensors.Open(r.in.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for i := range f.Tensors {
		t := &f.Tensors[i]
		q, ok := t.DType.Quant()
		weights = append(weights, weight{t.Name, q, ok, strings.ToLower(string(t.DType)), len(t.Shape) > 1, int64(t.Rows()) * int64(t.Cols())})
	}
	r.count(weights)
	r.jsonFacts()
	return nil
}

// count sums parameters by number format; the format of most matrices is the quantization.
func (r *runner) count(weights []weight) {
	types, matrices := map[string]int64{}, map[string]int64{}
	for _, w := range weights {
		r.out.Facts.Parameters += w.n
		types[w.label] += w.n
		if w.matrix {
			matrices[w.label] += w.n
		}
	}
	for label, n := range matrices {
		if q := r.out.Facts.Quantization; n > matrices[q] || n == matrices[q] && label < q {
			r.out.Facts.Quantization = label
		}
	}
	r.out.Facts.Values["parameters_by_type"] = types
	r.out.Facts.Values["tensors"] = len(weights)
}

// mixes are names of general.file_type for mixed recipes; the number may lie, so it only refines what the tensors show.
var mixes = map[int64]string{14: "q4_K_S", 15: "q4_K_M", 16: "q5_K_S", 17: "q5_K_M"}

func (r *runner) ggufFacts(f *gguf.File) {
	facts := &r.out.Facts
	facts.Architecture = f.Arch()
	a := f.Arch() + "."
	if n, ok := f.Int(a + "context_length"); ok && n > 0 && n < 1<<31 {
		facts.ContextLength = int(n)
	}
	if n, ok := f.Int("general.file_type"); ok && strings.HasPrefix(mixes[n], facts.Quantization) && mixes[n] != "" {
		facts.Quantization = mixes[n]
	}
	for field, key := range map[string]string{
		"layers": a + "block_count", "hidden": a + "embedding_length", "feed_forward": a + "feed_forward_length", "heads": a + "attention.head_count", "kv_heads": a + "attention.head_count_kv",
		"head_dim": a + "attention.key_length", "experts": a + "expert_count", "window": a + "attention.sliding_window",
	} {
		if n, ok := f.Int(key); ok {
			facts.Values[field] = n
		}
	}
	for field, key := range map[string]string{"name": "general.name", "license": "general.license", "base_model": "general.base_model.0.name", "tokenizer": "tokenizer.ggml.model", "tokenizer_pre": "tokenizer.ggml.pre"} { //nolint:gosec // names of keys
		if s, ok := f.Str(key); ok && len(s) <= 1024 {
			facts.Values[field] = s
		}
	}
	if v, ok := f.Get("tokenizer.ggml.tokens"); ok && v.Kind == gguf.Array {
		facts.Values["vocabulary"] = v.Len
	}
	if s, ok := f.Str("tokenizer.chat_template"); ok {
		r.templateFacts(s)
	}
}

func (r *runner) templateFacts(s string) {
	sum := sha256.Sum256([]byte(s))
	r.out.Facts.Values["chat_template_sha256"] = hex.EncodeToString(sum[:])
	r.out.Facts.Values["chat_template_tools"] = strings.Contains(s, "tools")
}

func (r *runner) jsonFacts() {
	facts := &r.out.Facts
	var c struct {
		ModelType     string   `json:"model_type"`
		Architectures []string `json:"architectures"`
		Ctx           int      `json:"max_position_embeddings"`
		Layers        int      `json:"num_hidden_layers"`
		Hidden        int      `json:"hidden_size"`
		FF            int      `json:"intermediate_size"`
		Heads         int      `json:"num_attention_heads"`
		KVHeads       int      `json:"num_key_value_heads"`
		HeadDim       int      `json:"head_dim"`
		Vocab         int      `json:"vocab_size"`
		Experts       int      `json:"num_local_experts"`
		Window        int      `json:"sliding_window"`
	}
	if json.Unmarshal(r.small("config.json"), &c) != nil {
		return // the shape check says what is wrong
	}
	facts.Architecture, facts.ContextLength = c.ModelType, max(0, c.Ctx)
	for field, n := range map[string]int{"layers": c.Layers, "hidden": c.Hidden, "feed_forward": c.FF, "heads": c.Heads, "kv_heads": c.KVHeads, "head_dim": c.HeadDim, "vocabulary": c.Vocab, "experts": c.Experts, "window": c.Window} {
		if n > 0 {
			facts.Values[field] = n
		}
	}
	if len(c.Architectures) > 0 {
		facts.Values["class"] = c.Architectures[0]
	}
	if s := r.folderTemplate(); s != "" {
		r.templateFacts(s)
	}
}

// folderTemplate finds the chat template of a folder: chat_template.jinja, else tokenizer_config.json (the one called default, if there are several).
func (r *runner) folderTemplate() string {
	if b := r.small("chat_template.jinja"); len(b) > 0 {
		return string(b)
	}
	var c struct {
		Template json.RawMessage `json:"chat_template"`
	}
	if json.Unmarshal(r.small("tokenizer_config.json"), &c) != nil {
		return ""
	}
	var one string
	if json.Unmarshal(c.Template, &one) == nil {
		return one
	}
	var named []struct {
		Name     string `json:"name"`
		Template string `json:"template"`
	}
	if json.Unmarshal(c.Template, &named) != nil {
		return ""
	}
	for _, n := range named {
		if n.Name == "default" {
			return n.Template
		}
	}
	return ""
}
