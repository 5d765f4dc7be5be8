package token

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// The shape of tokenizer.json, as far as byte pairs need it.
type (
	jsonFile struct {
		Added      []jsonAdded     `json:"added_tokens"`
		Normalizer json.RawMessage `json:"normalizer"`
		Pre        json.RawMessage `json:"pre_tokenizer"`
		Post       json.RawMessage `json:"post_processor"`
		Model      jsonModel       `json:"model"`
	}
	jsonAdded struct {
		ID      int32  `json:"id"`
		Content string `json:"content"`
		Single  bool   `json:"single_word"`
		Left    bool   `json:"lstrip"`
		Right   bool   `json:"rstrip"`
		Special bool   `json:"special"`
	}
	jsonModel struct {
		Type     string          `json:"type"`
		Unk      *string         `json:"unk_token"`
		Prefix   *string         `json:"continuing_subword_prefix"`
		Suffix   *string         `json:"end_of_word_suffix"`
		Fuse     bool            `json:"fuse_unk"`
		Fallback bool            `json:"byte_fallback"`
		Whole    bool            `json:"ignore_merges"`
		MaxRunes int             `json:"max_input_chars_per_word"`
		Vocab    json.RawMessage `json:"vocab"`
		Merges   json.RawMessage `json:"merges"`
	}
	// jsonPart is a normalizer, pre-tokenizer or post-processor: each uses some of the fields.
	jsonPart struct {
		Type          string            `json:"type"`
		Normalizers   []json.RawMessage `json:"normalizers"`
		Pretokenizers []json.RawMessage `json:"pretokenizers"`
		Processors    []json.RawMessage `json:"processors"`
		Pattern       struct {
			String *string `json:"String"`
			Regex  *string `json:"Regex"`
		} `json:"pattern"`
		Content     string   `json:"content"`
		Prepend     string   `json:"prepend"`
		Clean       *bool    `json:"clean_text"`
		Han         *bool    `json:"handle_chinese_chars"`
		Accents     *bool    `json:"strip_accents"`
		Lower       *bool    `json:"lowercase"`
		Left        bool     `json:"strip_left"`
		Right       bool     `json:"strip_right"`
		AddPrefix   *bool    `json:"add_prefix_space"`
		UseRegex    *bool    `json:"use_regex"`
		Behavior    string   `json:"behavior"`
		Invert      bool     `json:"invert"`
		Individual  bool     `json:"individual_digits"`
		Scheme      string   `json:"prepend_scheme"`
		Replacement string   `json:"replacement"`
		Split       *bool    `json:"split"`
		CLS         jsonPair `json:"cls"`
		SEP         jsonPair `json:"sep"`
		Single      []struct {
			Special *struct {
				ID string `json:"id"`
			} `json:"SpecialToken"`
			Sequence *struct{} `json:"Sequence"`
		} `json:"single"`
	}
)

// jsonPair is ["[CLS]", 101].
type jsonPair struct{ text string }

// UnmarshalJSON implements json.Unmarshaler.
func (p *jsonPair) UnmarshalJSON(b []byte) error {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil || len(list) == 0 {
		return err
	}
	return json.Unmarshal(list[0], &p.text)
}

func (p jsonPair) id(s *spec) int32 { return s.find(p.text) }

// readFile reads a file of at most MaxFile bytes; nil if there is none.
func readFile(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, nil
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, ErrInvalid.With("%s cannot be read", name).Wrap(err)
	}
	if len(b) > MaxFile {
		return nil, ErrInvalid.With("%s is larger than %d bytes", name, MaxFile)
	}
	return b, nil
}

// fromJSON reads tokenizer.json.
func fromJSON(raw []byte, cfg config) (*Tokenizer, error) {
	var f jsonFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, ErrInvalid.With("tokenizer.json is not valid").Wrap(err)
	}
	m := f.Model
	s := &spec{bos: -1, eos: -1, unk: -1, fallback: m.Fallback, fuse: m.Fuse, whole: m.Whole}
	switch {
	case m.Type == "WordPiece":
		s = bertSpec()
		s.add = Options{} // the post-processor says it
		if m.Prefix != nil {
			s.pieceMark = *m.Prefix
		}
		if m.MaxRunes > 0 {
			s.maxRunes = m.MaxRunes
		}
	case m.Type != "" && m.Type != "BPE":
		return nil, ErrInvalid.With("tokenizer.json is of the kind %.40q; supported are BPE and WordPiece", m.Type)
	case m.Prefix != nil && *m.Prefix != "" || m.Suffix != nil && *m.Suffix != "":
		return nil, ErrInvalid.With("tokenizer.json marks word parts with a prefix or suffix, which is not supported")
	}
	if err := s.jsonVocab(m, f.Added); err != nil {
		return nil, err
	}
	if m.Unk != nil {
		s.unk = s.find(*m.Unk)
	}
	norm, err := s.normalizer(f.Normalizer, 0)
	if err != nil {
		return nil, err
	}
	s.normalize = norm
	var cutters passes
	if cutters, err = s.preTokenizer(f.Pre, nil, 0); err != nil {
		return nil, err
	}
	if s.wordPiece && len(cutters) == 0 {
		return nil, ErrInvalid.With("tokenizer.json does not say how text is cut into words")
	}
	switch len(cutters) {
	case 0:
		s.cut = whole{}
	case 1:
		s.cut = cutters[0]
	default:
		s.cut = cutters
	}
	if err := s.postProcessor(f.Post, 0); err != nil {
		return nil, err
	}
	cfg.apply(s)
	return s.build()
}

// find returns the id of a token by its text, or -1.
func (s *spec) find(text string) int32 {
	for id, e := range s.tokens {
		if e.text == text && text != "" {
			return int32(id)
		}
	}
	return -1
}

// jsonVocab reads vocabulary, merges and added tokens.
func (s *spec) jsonVocab(m jsonModel, added []jsonAdded) error {
	var vocab map[string]int32
	if err := json.Unmarshal(m.Vocab, &vocab); err != nil {
		return ErrInvalid.With("the vocabulary of tokenizer.json is not valid").Wrap(err)
	}
	size := int32(0)
	for _, id := range vocab {
		size = max(size, id+1)
	}
	for _, a := range added {
		size = max(size, a.ID+1)
	}
	if size <= 0 || size > MaxVocab {
		return ErrInvalid.With("the ids of tokenizer.json go to %d; 0 to %d are accepted", size-1, MaxVocab-1)
	}
	s.tokens = make([]entry, size)
	for i := range s.tokens {
		s.tokens[i].kind = Unused
	}
	for text, id := range vocab {
		if id < 0 {
			return ErrInvalid.With("token %.40q has the id %d", text, id)
		}
		e := entry{text: text, kind: Normal}
		if _, isByte := byteName(text); isByte && m.Fallback {
			e.kind = Byte
		}
		s.tokens[id] = e
	}
	s.specials = []special{}
	for _, a := range added {
		if a.ID < 0 || a.Content == "" {
			return ErrInvalid.With("the added token %.40q has the id %d", a.Content, a.ID)
		}
		kind := UserDefined
		if a.Special {
			kind = Control
		}
		s.tokens[a.ID] = entry{text: a.Content, kind: kind}
		s.specials = append(s.specials, special{text: a.Content, id: a.ID, control: a.Special, left: a.Left, right: a.Right, alone: a.Single})
	}
	return s.jsonMerges(m.Merges)
}

// jsonMerges reads merges in both forms: "a b" and ["a", "b"].
func (s *spec) jsonMerges(raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	if json.Unmarshal(raw, &s.merges) == nil {
		if len(s.merges) > MaxMerges {
			return ErrInvalid.With("there are %d merges; the limit is %d", len(s.merges), MaxMerges)
		}
		return nil
	}
	var lines []string
	if err := json.Unmarshal(raw, &lines); err != nil {
		return ErrInvalid.With("the merges of tokenizer.json are not valid").Wrap(err)
	}
	var err error
	s.merges, err = splitMerges(lines)
	return err
}

// maxSteps bounds how deep sequences of normalizers and the like may nest.
const maxSteps = 8

func readPart(raw json.RawMessage, what string, depth int) (jsonPart, bool, error) {
	var p jsonPart
	if len(raw) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return p, false, nil
	}
	if err := json.Unmarshal(raw, &p); err != nil || depth > maxSteps {
		return p, false, ErrInvalid.With("the %s of tokenizer.json is not valid", what).Wrap(err)
	}
	return p, true, nil
}

// normalizer changes a text before it is cut.
type normalizer func(string) (string, error)

// bounded refuses texts that a step before made longer than any that is accepted.
func bounded(f func(string) string) normalizer {
	return func(t string) (string, error) {
		if len(t) > MaxText {
			return "", ErrTextLong.With("the normalizer of this tokenizer makes a text of more than %d bytes", MaxText)
		}
		return f(t), nil
	}
}

// normalizer returns the function that a normalizer stands for; nil = none. Those that put U+2581 for spaces set fields of s instead.
func (s *spec) normalizer(raw json.RawMessage, depth int) (normalizer, error) {
	p, ok, err := readPart(raw, "normalizer", depth)
	if !ok {
		return nil, err
	}
	switch p.Type {
	case "Sequence":
		var all []normalizer
		for _, n := range p.Normalizers {
			f, err := s.normalizer(n, depth+1)
			if err != nil {
				return nil, err
			}
			if f != nil {
				all = append(all, f)
			}
		}
		if len(all) == 0 {
			return nil, nil
		}
		return func(t string) (string, error) {
			var err error
			for _, f := range all {
				if t, err = f(t); err != nil {
					return "", err
				}
			}
			return t, nil
		}, nil
	case "BertNormalizer":
		on := func(v *bool) bool { return v == nil || *v }
		n := bertNormalizer{clean: on(p.Clean), han: on(p.Han), lower: on(p.Lower)}
		n.strip = n.lower // where the file does not say it
		if p.Accents != nil {
			n.strip = *p.Accents
		}
		return bounded(n.apply), nil
	case "NFC":
		return bounded(norm.NFC.String), nil
	case "NFD":
		return bounded(norm.NFD.String), nil
	case "NFKC":
		return bounded(norm.NFKC.String), nil
	case "NFKD":
		return bounded(norm.NFKD.String), nil
	case "Lowercase":
		return bounded(strings.ToLower), nil
	case "Strip":
		return bounded(func(t string) string { return strip(t, p.Left, p.Right) }), nil
	case "Prepend":
		if p.Prepend != spaceMark {
			return nil, ErrInvalid.With("the normalizer of tokenizer.json prepends %.40q, which is not supported", p.Prepend)
		}
		s.prefix = prefixAlways
		return nil, nil
	case "Replace":
		if p.Pattern.String == nil {
			return nil, ErrInvalid.With("the normalizer of tokenizer.json replaces by a pattern, which is not supported")
		}
		if *p.Pattern.String == " " && p.Content == spaceMark {
			s.spaced = true
			return nil, nil
		}
		if len(p.Content) > 4*len(*p.Pattern.String) { // bounds how far a text can grow
			return nil, ErrInvalid.With("the normalizer of tokenizer.json replaces %.40q by a much longer text", *p.Pattern.String)
		}
		return bounded(strings.NewReplacer(*p.Pattern.String, p.Content).Replace), nil
	}
	return nil, ErrInvalid.With("the normalizer %.40q of tokenizer.json is not supported", p.Type)
}

func strip(t string, left, right bool) string {
	if left {
		t = strings.TrimLeft(t, " \t\r\n")
	}
	if right {
		t = strings.TrimRight(t, " \t\r\n")
	}
	return t
}

// preTokenizer appends the cutters that a pre-tokenizer stands for.
func (s *spec) preTokenizer(raw json.RawMessage, to passes, depth int) (passes, error) {
	p, ok, err := readPart(raw, "pre-tokenizer", depth)
	if !ok {
		return to, err
	}
	switch p.Type {
	case "Sequence":
		for _, q := range p.Pretokenizers {
			if to, err = s.preTokenizer(q, to, depth+1); err != nil {
				return nil, err
			}
		}
		return to, nil
	case "BertPreTokenizer":
		return append(to, bertWords{}), nil
	case "ByteLevel":
		s.bytes = true
		if p.AddPrefix == nil || *p.AddPrefix {
			s.prefix, s.prefixOnce = prefixAlways, true
		}
		if p.UseRegex == nil || *p.UseRegex {
			to = append(to, word(gpt2))
		}
		return to, nil
	case "Metaspace":
		s.spaced, s.prefixOnce = true, true
		switch {
		case p.Replacement != "" && p.Replacement != spaceMark:
			return nil, ErrInvalid.With("the pre-tokenizer of tokenizer.json puts %.40q for spaces, which is not supported", p.Replacement)
		case p.Scheme == "first":
			s.prefix = prefixFirst
		case p.Scheme == "always", p.Scheme == "" && (p.AddPrefix == nil || *p.AddPrefix):
			s.prefix = prefixAlways
		}
		if p.Split == nil || *p.Split {
			to = append(to, marks{})
		}
		return to, nil
	case "Digits":
		if p.Individual {
			return append(to, isolateNumbers(1)), nil
		}
		return append(to, isolateNumbers(MaxText)), nil
	case "Split":
		c, err := p.split()
		return append(to, c), err
	}
	return nil, ErrInvalid.With("the pre-tokenizer %.40q of tokenizer.json is not supported", p.Type)
}

// split returns the cutter of a Split.
func (p jsonPart) split() (cutter, error) {
	b := isolated
	switch p.Behavior {
	case "Isolated":
	case "Removed":
		if !p.Invert { // inverted, a pattern that covers all text removes nothing
			return nil, ErrInvalid.With("the pre-tokenizer of tokenizer.json removes text, which is not supported")
		}
	case "MergedWithPrevious":
		b = mergedPrevious
	case "MergedWithNext":
		b = mergedNext
	case "Contiguous":
		b = contiguous
	default:
		return nil, ErrInvalid.With("the behavior %.40q of a pre-tokenizer is not known", p.Behavior)
	}
	expr := ""
	switch {
	case p.Pattern.Regex != nil:
		expr = *p.Pattern.Regex
	case p.Pattern.String != nil:
		expr = quoteMeta(*p.Pattern.String)
	}
	if expr == "" || len(expr) > 1<<14 {
		return nil, ErrInvalid.With("a splitting pattern of tokenizer.json is empty or too long")
	}
	if c, ok := published[expr]; ok && b == isolated {
		return c, nil
	}
	return newPattern(expr, b)
}

// quoteMeta makes a pattern that matches just this text.
func quoteMeta(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(`\.+*?()|[]{}^$# `, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// postProcessor finds out whether the begin and end tokens are put round a text.
func (s *spec) postProcessor(raw json.RawMessage, depth int) error {
	p, ok, err := readPart(raw, "post-processor", depth)
	if !ok {
		return err
	}
	switch p.Type {
	case "Sequence":
		for _, q := range p.Processors {
			if err := s.postProcessor(q, depth+1); err != nil {
				return err
			}
		}
	case "TemplateProcessing":
		seen := false
		for _, x := range p.Single {
			switch {
			case x.Sequence != nil:
				seen = true
			case x.Special == nil:
			case !seen:
				s.bos, s.add.AddBOS = s.find(x.Special.ID), true
			default:
				s.eos, s.add.AddEOS = s.find(x.Special.ID), true
			}
		}
	case "BertProcessing", "RobertaProcessing":
		s.bos, s.eos = p.CLS.id(s), p.SEP.id(s)
		s.add = Options{AddBOS: true, AddEOS: true}
	case "ByteLevel":
	default:
		return ErrInvalid.With("the post-processor %.40q of tokenizer.json is not supported", p.Type)
	}
	return nil
}
