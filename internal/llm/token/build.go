package token

import (
	"strings"
)

// spec is what the readers of the file forms agree on.
type spec struct {
	tokens   []entry // text, score, kind
	scored   bool    // SentencePiece: merge by score; else by merges
	merges   [][2]string
	bytes    bool // byte-level: tokens are spelled in the GPT-2 alphabet of bytes
	fallback bool // runes without token become <0xXX> tokens
	fuse     bool
	whole    bool // a word that is a token is that token
	lines    bool // only for words of newlines
	cut      cutter
	specials []special // nil: from the kinds

	wordPiece   bool   // pieces, longest first
	pieceMark   string // in front of pieces within a word
	startMarked bool   // instead, U+2581 stands in front of those that begin one
	maxRunes    int    // of a word

	spaced, prefixOnce bool
	prefix             prefix
	normalize          normalizer
	bos, eos, unk      int32
	cls, sep           int32   // of GGUF files
	ends               []int32 // further end-of-generation tokens that the file names
	add                Options
}

// build checks a spec and makes the tokenizer.
func (s *spec) build() (*Tokenizer, error) {
	if len(s.tokens) == 0 || len(s.tokens) > MaxVocab {
		return nil, ErrInvalid.With("the vocabulary has %d tokens; 1 to %d are accepted", len(s.tokens), MaxVocab)
	}
	if len(s.merges) > MaxMerges {
		return nil, ErrInvalid.With("there are %d merges; the limit is %d", len(s.merges), MaxMerges)
	}
	t := &Tokenizer{tokens: s.tokens, bos: s.bos, eos: s.eos, unk: s.unk, add: s.add, normalize: s.normalize, prefix: s.prefix, prefixOnce: s.prefixOnce, spaced: s.spaced, cache: new(wordCache)}
	for _, id := range []*int32{&t.bos, &t.eos, &t.unk} {
		if !t.has(*id) {
			*id = -1
		}
	}
	t.add.AddBOS = t.add.AddBOS && t.bos >= 0
	t.add.AddEOS = t.add.AddEOS && t.eos >= 0
	t.markEnds(s.ends)
	for i := range t.tokens {
		s.meaning(&t.tokens[i])
	}
	list := s.specials
	if list == nil {
		for id, e := range t.tokens {
			switch e.kind {
			case Control, Unknown:
				list = append(list, special{text: e.text, id: int32(id), control: true})
			case UserDefined:
				list = append(list, special{text: e.bytes, id: int32(id)})
			default: // found by merging
			}
		}
	}
	for i := range list {
		list[i].control = list[i].control || t.tokens[list[i].id].kind == Control
	}
	list = nonEmpty(list)
	t.specials = newSpecials(list)
	t.cut = s.cut
	if s.spaced {
		m := newMarks(t.tokens)
		if _, plain := s.cut.(whole); plain || s.cut == nil {
			t.cut = m
		} else {
			t.cut = passes{s.cut, m}
		}
	}
	if s.scored {
		return t, s.scorer(t)
	}
	if s.wordPiece {
		s.pieces(t)
		return t, nil
	}
	s.merger(t)
	return t, nil
}

func nonEmpty(list []special) []special {
	out := list[:0]
	for _, sp := range list {
		if sp.text != "" {
			out = append(out, sp)
		}
	}
	return out
}

// meaning sets the bytes that a token stands for.
func (s *spec) meaning(e *entry) {
	e.bytes = e.text
	switch {
	case e.kind == Byte:
		if b, ok := byteName(e.text); ok {
			e.bytes = byteStrings[b : b+1]
		}
	case e.kind == Control || e.kind == Unknown:
	case s.bytes:
		if e.kind != UserDefined {
			e.bytes, _ = fromAlphabet(e.text)
		}
	case s.spaced:
		e.bytes = strings.ReplaceAll(e.text, spaceMark, " ")
	}
}

// byteStrings holds every byte once, to be sliced.
var byteStrings = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}()

// byteName reads <0xXX>.
func byteName(s string) (int, bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	hex := func(c byte) int { return strings.IndexByte("0123456789ABCDEF", c) }
	hi, lo := hex(s[3]), hex(s[4])
	return hi<<4 | lo, hi >= 0 && lo >= 0
}

// alphabet spells each byte as a printable rune: bytes that are printable in Latin-1 stand for themselves, the others for 256 and up in their order. All byte-level vocabularies are written in it.
// alphabetBytes is the way back, -1 for runes that are not in it.
var alphabet, alphabetBytes = func() (to [256]rune, from [512]int16) {
	for i := range from {
		from[i] = -1
	}
	next := rune(256)
	for b := range int16(256) {
		r := rune(b)
		if b < '!' || b > '~' && b < 0xA1 || b == 0xAD {
			r = next
			next++
		}
		to[b] = r
		from[r] = b
	}
	return to, from
}()

// fromAlphabet returns the bytes that a byte-level token spells; a text that is not written in the alphabet stands for itself, and encoding never reaches it.
func fromAlphabet(s string) (text string, spelled bool) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if int(r) >= len(alphabetBytes) || alphabetBytes[r] < 0 {
			return s, false
		}
		b = append(b, byte(alphabetBytes[r]))
	}
	return string(b), true
}

// byText maps the texts of the tokens that text may become. Control tokens are not among them, nor bytes' names: text that looks like one is text.
func (s *spec) byText(t *Tokenizer) map[string]int32 {
	m := make(map[string]int32, len(t.tokens))
	for id, e := range t.tokens {
		if e.kind != Normal && e.kind != UserDefined && e.kind != Unused || e.text == "" {
			continue
		}
		if _, twice := m[e.text]; !twice {
			m[e.text] = int32(id)
		}
	}
	return m
}

// byBytes is byText by what the tokens of a byte-level vocabulary spell.
func (s *spec) byBytes(byText map[string]int32) map[string]int32 {
	m := make(map[string]int32, len(byText))
	for text, id := range byText {
		if b, spelled := fromAlphabet(text); spelled {
			m[b] = id
		}
	}
	return m
}

// byteTokens finds the token of each byte.
func (s *spec) byteTokens(t *Tokenizer, byText map[string]int32) (ids [256]int32, all bool) {
	for b := range ids {
		ids[b] = -1
		if s.bytes {
			if id, ok := byText[string(alphabet[b])]; ok {
				ids[b] = id
			}
		}
	}
	if !s.bytes {
		for id, e := range t.tokens {
			if b, ok := byteName(e.text); ok && (e.kind == Byte || e.kind == Normal || e.kind == UserDefined) {
				ids[b] = int32(id)
			}
		}
	}
	all = true
	for _, id := range ids {
		all = all && id >= 0
	}
	return ids, all
}

func (s *spec) scorer(t *Tokenizer) error {
	ids := s.byText(t)
	bytes, _ := s.byteTokens(t, ids)
	if t.unk < 0 && bytes['a'] < 0 && len(ids) == 0 {
		return ErrInvalid.With("no token of the vocabulary stands for text")
	}
	t.machine = &scorer{t: t, ids: ids, bytes: bytes, unk: t.unk}
	return nil
}

func (s *spec) merger(t *Tokenizer) {
	ids := s.byText(t)
	m := &merger{table: newMergeTable(len(s.merges)), unk: t.unk, fuse: s.fuse, wholeIsLine: s.lines}
	bytes, all := s.byteTokens(t, ids)
	m.bytes = bytes
	if !s.bytes {
		m.runes = ids
		m.fallback = s.fallback && all
	}
	switch {
	case s.whole && s.bytes:
		m.whole = s.byBytes(ids)
	case s.whole || s.lines:
		m.whole = ids
	}
	for rank, p := range s.merges {
		left, ok := ids[p[0]]
		right, ok2 := ids[p[1]]
		id, ok3 := ids[p[0]+p[1]]
		if ok && ok2 && ok3 { // a merge out of or into what is no token can never show
			m.table.add(left, right, int32(rank), id)
		}
	}
	t.machine = m
}

// endNames are the tokens that end a turn, a message or a text in the published families; files often name only one of them.
var endNames = map[string]bool{
	"<|eot_id|>": true, "<|im_end|>": true, "<|end|>": true, "<|return|>": true, "<|call|>": true, "<|flush|>": true, "<|calls|>": true, "<end_of_turn>": true, "<|endoftext|>": true,
	"<|eom_id|>": true, "<EOT>": true, "_<EOT>": true, "[EOT]": true, "[EOS]": true, "<|end_of_text|>": true, "<end_of_utterance>": true, "<turn|>": true, "<｜end▁of▁sentence｜>": true, "[e~[": true,
	"</s>": true, "<eos>": true, "<|tool_response>": true,
}

// markEnds sets which tokens end a generation: those that the file names and those with a known name. A known name makes a token a control token, whatever the file says.
func (t *Tokenizer) markEnds(named []int32) {
	byName := map[string]int{}
	for i := range t.tokens {
		if e := &t.tokens[i]; endNames[e.text] {
			e.eog, e.kind = true, Control
			byName[e.text] = i
		}
	}
	for _, id := range append(named, t.eos) {
		if t.has(id) {
			t.tokens[id].eog = true
		}
	}
	has := func(name string) bool { _, ok := byName[name]; return ok }
	if i, ok := byName["<|end|>"]; ok && (has("<|return|>") && has("<|call|>") || has("<|flush|>") && has("<|calls|>")) {
		t.tokens[i].eog = false // there it ends a message within an answer
	}
	if i, ok := byName["</s>"]; ok && has("<|tool_response>") {
		t.tokens[i].eog, t.tokens[i].kind = false, Normal // left over in a vocabulary that ends with other tokens
	}
}
