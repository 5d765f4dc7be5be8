package token

import (
	"encoding/json"
	"io/fs"
	"strings"
)

// FromDir reads the tokenizer of a Hugging Face folder: tokenizer.json, else tokenizer.model (SentencePiece), else vocab.json with merges.txt, else vocab.txt (WordPiece); tokenizer_config.json, special_tokens_map.json and
// generation_config.json name the begin and end tokens. Errors: ErrInvalid, ErrPreUnknown.
func FromDir(dir fs.FS) (*Tokenizer, error) {
	cfg, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	raw, err := readFile(dir, "tokenizer.json")
	if err != nil {
		return nil, err
	}
	if raw != nil {
		return fromJSON(raw, cfg)
	}
	if raw, err = readFile(dir, "tokenizer.model"); err != nil {
		return nil, err
	}
	if raw != nil {
		return fromSentencePiece(raw, cfg)
	}
	vocab, err := readFile(dir, "vocab.json")
	if err != nil {
		return nil, err
	}
	merges, err := readFile(dir, "merges.txt")
	if err != nil {
		return nil, err
	}
	if vocab == nil || merges == nil {
		raw, err := readFile(dir, "vocab.txt")
		if err != nil {
			return nil, err
		}
		if raw != nil {
			return fromVocabTxt(raw, cfg)
		}
		return nil, ErrInvalid.With("the folder has no tokenizer.json, tokenizer.model, vocab.txt, or vocab.json with merges.txt")
	}
	return fromVocab(vocab, merges, cfg)
}

// config is what the files beside the tokenizer say about it.
type config struct {
	bos, eos       string
	addBOS, addEOS *bool
	addPrefix      *bool
	lower          *bool // WordPiece without tokenizer.json
	strip, han     *bool
	class          string
	added          []jsonAdded // by id, from added_tokens_decoder
	generationEnds []int32
}

// name reads "text" and {"content": "text"}.
type name string

func (n *name) UnmarshalJSON(b []byte) error {
	var s *string
	if json.Unmarshal(b, &s) == nil {
		if s != nil {
			*n = name(*s)
		}
		return nil
	}
	var o struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	*n = name(o.Content)
	return nil
}

func readConfig(dir fs.FS) (config, error) {
	var c config
	for _, file := range []string{"special_tokens_map.json", "tokenizer_config.json"} {
		raw, err := readFile(dir, file)
		if err != nil || raw == nil {
			if err != nil {
				return c, err
			}
			continue
		}
		var f struct {
			BOS       name                 `json:"bos_token"`
			EOS       name                 `json:"eos_token"`
			AddBOS    *bool                `json:"add_bos_token"`
			AddEOS    *bool                `json:"add_eos_token"`
			AddPrefix *bool                `json:"add_prefix_space"`
			Class     string               `json:"tokenizer_class"`
			Lower     *bool                `json:"do_lower_case"`
			Strip     *bool                `json:"strip_accents"`
			Han       *bool                `json:"tokenize_chinese_chars"`
			Added     map[int32]*jsonAdded `json:"added_tokens_decoder"`
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			return c, ErrInvalid.With("%s is not valid", file).Wrap(err)
		}
		if f.BOS != "" {
			c.bos = string(f.BOS)
		}
		if f.EOS != "" {
			c.eos = string(f.EOS)
		}
		c.addBOS, c.addEOS, c.addPrefix, c.class = f.AddBOS, f.AddEOS, f.AddPrefix, f.Class
		c.lower, c.strip, c.han = f.Lower, f.Strip, f.Han
		for id, a := range f.Added {
			if a != nil {
				a.ID = id
				c.added = append(c.added, *a)
			}
		}
	}
	return c, c.readGeneration(dir)
}

// readGeneration takes the end tokens of generation_config.json: one id or several.
func (c *config) readGeneration(dir fs.FS) error {
	raw, err := readFile(dir, "generation_config.json")
	if err != nil || raw == nil {
		return err
	}
	var g struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	_ = json.Unmarshal(raw, &g) // the sampling defaults in it have their own reader, which complains
	var one int32
	if json.Unmarshal(g.EOS, &one) == nil && len(g.EOS) > 0 {
		c.generationEnds = []int32{one}
		return nil
	}
	_ = json.Unmarshal(g.EOS, &c.generationEnds)
	return nil
}

// apply puts what the files say into a spec: they win over the tokenizer's own file.
func (c *config) apply(s *spec) {
	if id := s.find(c.bos); id >= 0 {
		s.bos = id
	}
	if id := s.find(c.eos); id >= 0 {
		s.eos = id
	}
	if c.addBOS != nil {
		s.add.AddBOS = *c.addBOS
	}
	if c.addEOS != nil {
		s.add.AddEOS = *c.addEOS
	}
	s.ends = append(s.ends, c.generationEnds...)
}

// fromVocab reads vocab.json and merges.txt: byte-level pairs without a file that says how text is cut. The class of the tokenizer says it, and GPT-2's way is the default.
func fromVocab(vocab, merges []byte, cfg config) (*Tokenizer, error) {
	s := &spec{bos: -1, eos: -1, unk: -1, bytes: true, cut: word(gpt2)}
	if strings.HasPrefix(cfg.class, "Qwen2") {
		s.cut = published[patQwen2]
	}
	if err := s.jsonVocab(jsonModel{Vocab: vocab}, cfg.added); err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.SplitSeq(string(merges), "\n") {
		if line = strings.TrimRight(line, "\r"); line != "" && !strings.HasPrefix(line, "#version") {
			lines = append(lines, line)
		}
	}
	var err error
	if s.merges, err = splitMerges(lines); err != nil {
		return nil, err
	}
	if cfg.addPrefix != nil && *cfg.addPrefix {
		s.prefix, s.prefixOnce = prefixAlways, true
	}
	for _, end := range []string{cfg.bos, cfg.eos} { // named as special, though only a line of the vocabulary
		if id := s.find(end); id >= 0 && s.tokens[id].kind == Normal {
			s.tokens[id].kind = Control
			s.specials = append(s.specials, special{text: end, id: id, control: true})
		}
	}
	cfg.apply(s)
	return s.build()
}
