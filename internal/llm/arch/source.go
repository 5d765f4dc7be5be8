package arch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"maas/internal/llm"
	"maas/internal/llm/gguf"
	"maas/internal/llm/kernel"
	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
	"maas/internal/llm/token"
)

const maxJSON = 16 << 20 // of config.json and generation_config.json

// Source is an opened model: its configuration is read and every tensor matched, no weight read. Close it when the model is closed; a loaded Model keeps the embedding mapped.
type Source struct {
	Config  Config
	Tensors []Tensor // all of the file, in its order
	Format  string   // gguf or safetensors

	dir   string
	end   []int32
	gguf  *gguf.File
	st    *safetensors.File
	found map[want]*Tensor
}

// Open reads the headers at path: a .gguf file (any member of a split set), or a folder with config.json and safetensors files, or a folder with exactly one GGUF model.
// Errors of gguf and safetensors for broken files, llm.ErrFormatUnknown, and those of ConfigGGUF; then ErrTensorMissing, ErrTensorShape, quant.ErrTypeUnsupported or ErrTensorExtra, with every tensor concerned
// in the fields.
func Open(path string) (*Source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		if !isGGUF(path) {
			return nil, llm.ErrFormatUnknown.With("%s is neither a .gguf file nor a model folder", filepath.Base(path))
		}
		return openGGUF(path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var models []string
	for _, e := range entries {
		if isGGUF(e.Name()) {
			if _, no, _, split := gguf.SplitName(e.Name()); !split || no == 1 {
				models = append(models, e.Name())
			}
		}
	}
	switch {
	case len(models) == 1:
		return openGGUF(filepath.Join(path, models[0]))
	case len(models) > 1:
		return nil, llm.ErrFormatUnknown.With("the folder holds %d GGUF models: %s", len(models), strings.Join(models, ", ")).WithHint("name the one to open")
	}
	return openFolder(path)
}

func openGGUF(path string) (*Source, error) {
	f, err := gguf.OpenSet(path)
	if err != nil {
		return nil, err
	}
	s, err := FromGGUF(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	s.dir = filepath.Dir(path)
	return s, nil
}

// FromGGUF matches an opened or parsed file. The Source's Close closes it.
func FromGGUF(f *gguf.File) (*Source, error) {
	c, err := ConfigGGUF(f)
	if err != nil {
		return nil, err
	}
	s := &Source{Config: c, Format: "gguf", gguf: f}
	for i, t := range f.Tensors {
		_, known := t.Type.Info()
		shape := t.Shape()
		shape = essential(shape) // vectors may be written with trailing dims of 1
		s.Tensors = append(s.Tensors, Tensor{Name: t.Name, Shape: shape, Type: t.Type, Known: known, Bytes: t.Size, index: i})
	}
	s.found, err = match(c.wants(), s.Tensors, 0, c.Tied, c.Arch == Bert)
	return s, err
}

func openFolder(dir string) (*Source, error) {
	b, err := readSmall(filepath.Join(dir, "config.json"))
	if os.IsNotExist(err) {
		return nil, llm.ErrFormatUnknown.With("the folder has neither a .gguf file nor config.json")
	}
	if err != nil {
		return nil, err
	}
	c, err := ConfigJSON(b)
	if err != nil {
		return nil, err
	}
	if c.Arch == Bert {
		pooling(dir, &c.Encoder)
	}
	end := endTokens(b)
	if b, err := readSmall(filepath.Join(dir, "generation_config.json")); err == nil {
		c.Sampling = samplingJSON(b)
		end = append(end, endTokens(b)...)
	}
	f, err := safetensors.Open(dir)
	if err != nil {
		return nil, err
	}
	s, err := FromSafetensors(c, f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	s.dir, s.end = dir, end
	return s, nil
}

// FromSafetensors matches opened or parsed weights against a configuration. The Source's Close closes the file.
func FromSafetensors(c Config, f *safetensors.File) (*Source, error) {
	c.Tied = c.Arch != Bert && (c.Tied || f.Tensor("lm_head.weight") == nil)
	s := &Source{Config: c, Format: "safetensors", st: f}
	for i, t := range f.Tensors {
		q, known := t.DType.Quant()
		s.Tensors = append(s.Tensors, Tensor{Name: t.Name, Shape: slices.Clone(t.Shape), Type: q, Known: known, Bytes: t.Size, index: i})
	}
	var err error
	s.found, err = match(c.wants(), s.Tensors, 1, c.Tied, c.Arch == Bert)
	return s, err
}

func readSmall(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxJSON {
		return nil, ErrConfig.With("%s is larger than %d bytes", filepath.Base(path), maxJSON)
	}
	return os.ReadFile(path)
}

// Close unmaps the files. No model loaded from them may be used any more.
func (s *Source) Close() error {
	if s.gguf != nil {
		return s.gguf.Close()
	}
	return s.st.Close()
}

// GGUF returns the file, nil for a safetensors folder.
func (s *Source) GGUF() *gguf.File { return s.gguf }

// EndTokens returns the ids that the model's configuration names as ends of a generation, beside those that the tokenizer knows: give them to the engine. Ids may lie outside the vocabulary.
func (s *Source) EndTokens() []int32 { return s.end }

// Dir returns the folder of the model's files.
func (s *Source) Dir() string { return s.dir }

// Tokenizer reads the tokenizer that travels with the model.
func (s *Source) Tokenizer() (*token.Tokenizer, error) {
	if s.gguf != nil {
		return token.FromGGUF(s.gguf)
	}
	return token.FromDir(os.DirFS(s.dir))
}

// Parameters returns the number of weights.
func (s *Source) Parameters() int64 {
	var n int64
	for _, t := range s.Tensors {
		k := int64(1)
		for _, d := range t.Shape {
			k *= int64(d)
		}
		n += k
	}
	return n
}

// matrix returns a tensor as it lies in the file.
func (s *Source) matrix(t *Tensor) (quant.Matrix, error) {
	if s.gguf != nil {
		return s.gguf.Matrix(&s.gguf.Tensors[t.index])
	}
	return s.st.Matrix(&s.st.Tensors[t.index])
}

// drop says that the bytes of a tensor are not needed for now.
func (s *Source) drop(t *Tensor) {
	if s.gguf != nil {
		s.gguf.Drop(&s.gguf.Tensors[t.index])
	} else {
		s.st.Drop(&s.st.Tensors[t.index])
	}
}

// Memory is what running a model takes, in bytes by part.
type Memory struct {
	Weights  int64 // packed matrices and vectors
	KV       int64 // the key/value cache of all slots at full context
	Scratch  int64 // activations of one step and logits
	Fixed    int64 // the process itself
	PerToken int64 // of KV: what one more token of context costs over all slots
}

// Total returns the sum of the parts.
func (m Memory) Total() int64 { return m.Weights + m.KV + m.Scratch + m.Fixed }

// fixed is what the process takes without a model: Go's runtime, tokenizer tables, sockets.
const fixed = 48 << 20

// Memory estimates a run with slots sequences of ctx positions (0 = the model's), keys and values in float16, or float32 with full.
func (s *Source) Memory(ctx, slots int, full bool) Memory {
	c := &s.Config
	if ctx <= 0 {
		ctx = c.Ctx
	}
	kv := quant.F16
	if full {
		kv = quant.F32
	}
	m := Memory{Fixed: fixed + int64(c.Vocab)*256}
	for w, t := range s.found {
		switch {
		case w.rows == 0:
			m.Weights += int64(w.cols) * 4
		case w.looked(c): // read from the file, row by row
			m.Fixed += t.Bytes / 8
		default:
			if n, err := kernel.PackedBytes(t.Type, w.rows, w.cols); err == nil {
				m.Weights += n
			}
		}
	}
	if c.Arch == Bert { // keeps nothing between requests
		m.Scratch = c.encoderBytes(max(EncoderRows, c.Ctx))
		return m
	}
	per := c.PageBytes(kv)
	pages := int64((ctx + PageTokens - 1) / PageTokens)
	m.KV = per * pages * int64(slots)
	m.PerToken = per * int64(slots) / PageTokens
	m.Scratch = scratchBytes(c, defaultRows, slots+PageTokens)
	return m
}

// defaultRows is how many tokens a step of the engine computes at most.
const defaultRows = 512

// PageBytes returns the memory of one page of the key/value cache over all layers.
func (c *Config) PageBytes(kv quant.Type) int64 { return c.kvShape(kv == quant.F16).PageBytes() }

func (c *Config) kvShape(half bool) kernel.KVShape {
	return kernel.KVShape{Layers: c.Layers, Heads: c.KVHeads, HeadDim: c.HeadDim, Half: half}
}

// scratchBytes is what a Session allocates for steps of that many rows and logits of out rows.
func scratchBytes(c *Config, rows, out int) int64 {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	perRow := 3*c.Dim + 2*q + 2*kv + 2*c.FF + c.RopeDim // float32
	widest := max(c.Dim, q, c.FF)
	return 4*int64(rows)*int64(perRow) + int64(rows)*int64(widest)*2 + 4*int64(out)*int64(c.Vocab)
}
