package token

import (
	"strings"
	"unicode/utf8"
)

// Stream turns the ids of one generation into text, whole runes only. The zero value is not usable: see Tokenizer.Stream. Not for use by two goroutines.
type Stream struct {
	// KeepSpecial shows control tokens as text: parsers of tool calls need to see some of them. End-of-generation tokens are never shown.
	KeepSpecial bool

	t     *Tokenizer
	tail  [utf8.UTFMax]byte // a rune not yet complete
	n     int               // bytes in tail
	arena strings.Builder   // strings that no token holds as they are; filled once, never rewritten
}

// arenaSize is how much text a Stream allocates at once for joined runes, so that a token costs no allocation of its own.
const arenaSize = 4 << 10

// Stream returns a Stream at the start of a text.
func (t *Tokenizer) Stream() *Stream { return &Stream{t: t} }

// Push adds a token and returns the text that became complete: possibly none. Bytes that can never form a rune come out as U+FFFD, one for each maximal part of a rune.
// It does not allocate, but for 4 KiB at a time while runes come in pieces.
func (s *Stream) Push(id int32) string {
	if !s.t.shown(id, s.KeepSpecial) || s.t.tokens[id].eog {
		return ""
	}
	b := s.t.tokens[id].bytes
	if s.n == 0 {
		whole := wholeRunes(b)
		if whole == len(b) {
			return b
		}
		if whole >= 0 {
			s.n = copy(s.tail[:], b[whole:])
			return b[:whole]
		}
	}
	return s.join(b)
}

// Flush ends the text: what is left of a rune comes out as U+FFFD. The Stream can be used again.
func (s *Stream) Flush() string {
	if s.n == 0 {
		return ""
	}
	s.n = 0
	return "\uFFFD"
}

// wholeRunes returns how many leading bytes of b are whole valid runes if the rest can still become one, else -1.
func wholeRunes(b string) int {
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(b[i:])
		if r == utf8.RuneError && n == 1 {
			if len(b)-i < utf8.UTFMax && !utf8.FullRuneInString(b[i:]) {
				return i
			}
			return -1
		}
		i += n
	}
	return len(b)
}

// join is the slow way of Push: the pending bytes and b go through one buffer.
func (s *Stream) join(b string) string {
	need := 3 * (len(b) + s.n) // a wrong byte becomes three
	if s.arena.Cap()-s.arena.Len() < need {
		s.arena = strings.Builder{}
		s.arena.Grow(max(arenaSize, need))
	}
	start := s.arena.Len()
	for i := 0; i < len(b); {
		if s.n == 0 && b[i] < utf8.RuneSelf {
			s.arena.WriteByte(b[i])
			i++
			continue
		}
		s.tail[s.n] = b[i]
		s.n++
		i++
		switch p := s.tail[:s.n]; {
		case !utf8.FullRune(p):
		case utf8.Valid(p):
			s.arena.Write(p)
			s.n = 0
		case s.n == 1:
			s.arena.WriteString("\uFFFD")
			s.n = 0
		default: // the last byte does not continue what came before: that part is lost, the byte starts anew
			s.arena.WriteString("\uFFFD")
			s.n = 0
			i--
		}
	}
	return s.arena.String()[start:]
}
