package token

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// WordPiece, the machine of BERT models: text is cleaned and cut into words at white space, punctuation and ideographs, then each word is taken apart greedily, longest piece first. Source: Devlin et al. 2018
// (arXiv 1810.04805) and the normalizer "BertNormalizer" of tokenizer.json.

// wordPieces is the machine. Pieces within a word are spelled ##piece in Hugging Face files; GGUF files mark the beginning of a word instead.
type wordPieces struct {
	start, inside map[string]int32
	longest       int // bytes of the longest piece
	maxRunes      int // a longer word is unknown as a whole
	unk           int32
}

// encode implements machine. A word that cannot be taken apart as a whole is one unknown token.
func (m *wordPieces) encode(dst []int32, w string, _ *scratch) []int32 {
	if r, _ := utf8.DecodeRuneInString(w); unicode.IsSpace(r) {
		return dst
	}
	unknown := func() []int32 {
		if m.unk < 0 {
			return dst
		}
		return append(dst, m.unk)
	}
	if len(w) > m.maxRunes && utf8.RuneCountInString(w) > m.maxRunes {
		return unknown()
	}
	out, pieces := dst, m.start
	for pos := 0; pos < len(w); {
		end := min(len(w), pos+m.longest)
		for end < len(w) && !utf8.RuneStart(w[end]) {
			end--
		}
		id, ok := int32(-1), false
		for ; end > pos; end-- {
			if end < len(w) && !utf8.RuneStart(w[end]) {
				continue
			}
			if id, ok = pieces[w[pos:end]]; ok {
				break
			}
		}
		if !ok {
			return unknown()
		}
		out = append(out, id)
		pos, pieces = end, m.inside
	}
	return out
}

// bertWords cuts at white space, and before and behind each punctuation mark. Runs of white space are pieces too, which the machine drops.
type bertWords struct{}

func (bertWords) cut(dst []int, s string) ([]int, error) {
	const (
		none = iota
		white
		inner
	)
	before := none
	for i, r := range s {
		now := inner
		switch {
		case unicode.IsSpace(r):
			now = white
		case bertPunct(r):
			now = none // stands alone
		}
		if i > 0 && (now != before || now == none) {
			dst = append(dst, i)
		}
		before = now
	}
	return append(dst, len(s)), nil
}

// bertPunct is what BERT takes for punctuation: Unicode's, and all of ASCII that is neither letter, digit, space nor control.
func bertPunct(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7F && !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	return unicode.Is(unicode.P, r)
}

// ideograph is one of the blocks that BERT sets off by spaces; Japanese and Korean syllables are not among them.
func ideograph(r rune) bool {
	return r >= 0x3400 && (r >= 0x4E00 && r <= 0x9FFF || r <= 0x4DBF || r >= 0xF900 && r <= 0xFAFF || r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF ||
		r >= 0x2F800 && r <= 0x2FA1F)
}

// bertNormalizer is the cleaning before the cut.
type bertNormalizer struct{ clean, han, strip, lower bool }

func (n bertNormalizer) apply(t string) string {
	if n.clean || n.han {
		var b strings.Builder
		b.Grow(len(t))
		for _, r := range t {
			switch {
			case n.clean && (r == 0 || r == utf8.RuneError || !unicode.IsSpace(r) && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co)):
			case n.clean && unicode.IsSpace(r):
				b.WriteByte(' ')
			case n.han && ideograph(r):
				b.WriteByte(' ')
				b.WriteRune(r)
				b.WriteByte(' ')
			default:
				b.WriteRune(r)
			}
		}
		t = b.String()
	}
	if n.strip {
		t = strings.Map(func(r rune) rune {
			if r >= 0x300 && unicode.Is(unicode.Mn, r) {
				return -1
			}
			return r
		}, norm.NFD.String(t))
	}
	if n.lower {
		t = strings.ToLower(t)
	}
	return t
}

// pieces makes the machine of a WordPiece vocabulary. marked says that the first piece of a word carries U+2581 (GGUF), else pieces within a word carry prefix.
func (s *spec) pieces(t *Tokenizer) {
	m := &wordPieces{start: map[string]int32{}, inside: map[string]int32{}, maxRunes: s.maxRunes, unk: t.unk}
	for id := range t.tokens {
		e := &t.tokens[id]
		if e.kind != Normal && e.kind != UserDefined || e.text == "" {
			continue
		}
		text, within := strings.CutPrefix(e.text, s.pieceMark)
		if s.startMarked {
			text, within = strings.CutPrefix(e.text, spaceMark)
			within = !within
		}
		to := m.start
		e.bytes = " " + text
		if within {
			to, e.bytes = m.inside, text
		}
		if _, twice := to[text]; text != "" && !twice {
			to[text] = int32(id)
			m.longest = max(m.longest, len(text))
		}
	}
	t.machine = m
}

// bertSpec begins a specification with what all WordPiece tokenizers share.
func bertSpec() *spec {
	return &spec{bos: -1, eos: -1, unk: -1, wordPiece: true, pieceMark: "##", maxRunes: 100, cut: bertWords{}, add: Options{AddBOS: true, AddEOS: true}}
}

// fromVocabTxt reads vocab.txt, one piece a line, of folders that have no tokenizer.json.
func fromVocabTxt(raw []byte, cfg config) (*Tokenizer, error) {
	s := bertSpec()
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	if len(lines) > MaxVocab {
		return nil, ErrInvalid.With("vocab.txt has %d lines; the limit is %d", len(lines), MaxVocab)
	}
	for i, line := range lines {
		e := entry{text: strings.TrimRight(line, "\r"), kind: Normal}
		switch e.text {
		case "[CLS]":
			e.kind, s.bos = Control, int32(i)
		case "[SEP]":
			e.kind, s.eos = Control, int32(i)
		case "[UNK]":
			e.kind, s.unk = Control, int32(i)
		case "[PAD]", "[MASK]":
			e.kind = Control
		}
		s.tokens = append(s.tokens, e)
	}
	lower := cfg.lower == nil || *cfg.lower
	strip := lower
	if cfg.strip != nil {
		strip = *cfg.strip
	}
	s.normalize = bounded(bertNormalizer{clean: true, han: cfg.han == nil || *cfg.han, strip: strip, lower: lower}.apply)
	cfg.apply(s)
	return s.build()
}
