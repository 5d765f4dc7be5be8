package token

import (
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// Encode appends the ids of the joined parts to dst. Errors: ErrTextLong over MaxText, ErrTimeout from a splitting pattern of the model's own; dst is then as it was.
func (t *Tokenizer) Encode(dst []int32, parts []Part, o Options) ([]int32, error) {
	text, trusted, err := join(parts)
	if err != nil {
		return dst, err
	}
	base, limit := len(dst), math.MaxInt
	if o.MaxTokens > 0 {
		limit = base + o.MaxTokens
	}
	out := dst
	if o.AddBOS && t.bos >= 0 {
		out = append(out, t.bos)
	}
	sc := scratches.Get().(*scratch) //nolint:forcetypeassert // only scratches are put there
	defer scratches.Put(sc)
	for pos := 0; pos < len(text) && len(out) <= limit; {
		sp, at := t.specials.find(text, pos, trusted)
		end := at
		if sp != nil && sp.left {
			end = trimLeft(text, pos, at)
		}
		if end > pos {
			if out, err = t.encodeText(out, text[pos:end], pos == 0, limit, sc); err != nil {
				return dst, err
			}
		}
		if sp == nil {
			break
		}
		out = append(out, sp.id)
		if pos = at + len(sp.text); sp.right {
			pos = trimRight(text, pos)
		}
	}
	if o.AddBOS && t.bos >= 0 && len(out) > base+1 && out[base+1] == t.bos {
		out = slices.Delete(out, base, base+1)
	}
	if o.AddEOS && t.eos >= 0 && (len(out) == base || out[len(out)-1] != t.eos) {
		out = append(out, t.eos)
	}
	return out[:min(len(out), limit)], nil
}

// join makes one text of the parts. The function returned gives the end of the trusted stretch that holds a byte, 0 outside one; it must be asked in rising order.
func join(parts []Part) (string, func(int) int, error) {
	type span struct {
		end     int
		trusted bool
	}
	total := 0
	var spans []span
	for _, p := range parts {
		total += len(p.Text)
		if n := len(spans); n > 0 && spans[n-1].trusted == p.Trusted {
			spans[n-1].end = total
		} else {
			spans = append(spans, span{total, p.Trusted})
		}
	}
	if total > MaxText {
		return "", nil, ErrTextLong.With("the text has %d bytes; the limit is %d", total, MaxText)
	}
	var b strings.Builder
	if len(parts) != 1 {
		b.Grow(total)
		for _, p := range parts {
			b.WriteString(p.Text)
		}
	}
	text := b.String()
	if len(parts) == 1 {
		text = parts[0].Text
	}
	return text, func(i int) int {
		for i >= spans[0].end {
			spans = spans[1:]
		}
		if spans[0].trusted {
			return spans[0].end
		}
		return 0
	}, nil
}

// encodeText encodes a stretch without special tokens. It stops soon after limit ids.
func (t *Tokenizer) encodeText(dst []int32, s string, first bool, limit int, sc *scratch) ([]int32, error) {
	if t.normalize != nil {
		var err error
		if s, err = t.normalize(s); err != nil {
			return dst, err
		}
	}
	if t.prefix == prefixAlways || t.prefix == prefixFirst && first {
		spaced := strings.HasPrefix(s, " ") || t.spaced && strings.HasPrefix(s, spaceMark)
		if s != "" && (!t.prefixOnce || !spaced) {
			s = " " + s
		}
	}
	if t.spaced {
		s = strings.ReplaceAll(s, " ", spaceMark)
	}
	if s == "" {
		return dst, nil
	}
	ends, err := t.cut.cut(sc.ends[:0], s)
	if err != nil {
		return dst, err
	}
	sc.ends = ends
	from := 0
	for _, end := range ends {
		if dst = t.word(dst, s[from:end], sc); len(dst) > limit {
			break
		}
		from = end
	}
	return dst, nil
}

// word encodes one word through the cache.
func (t *Tokenizer) word(dst []int32, w string, sc *scratch) []int32 {
	if len(w) > cacheWord {
		return t.machine.encode(dst, w, sc)
	}
	slot := &t.cache[maphash.String(cacheSeed, w)%cacheSlots]
	if c := slot.Load(); c != nil && c.word == w {
		return append(dst, c.ids...)
	}
	from := len(dst)
	dst = t.machine.encode(dst, w, sc)
	slot.Store(&cached{word: strings.Clone(w), ids: slices.Clone(dst[from:])})
	return dst
}

const (
	cacheSlots = 1 << 16
	cacheWord  = 48 // bytes: longer words are rare and seldom come again

	spaceMark = "\u2581"
)

var cacheSeed = maphash.MakeSeed()

type cached struct {
	word string
	ids  []int32
}

type wordCache [cacheSlots]atomic.Pointer[cached]

// machine is what turns a word into ids.
type machine interface {
	encode(dst []int32, w string, sc *scratch) []int32
}

// scratch is the memory of one Encode, reused by the next.
type scratch struct {
	ends   []int
	ids    []int32
	pairs  [32]pair
	links  []link
	queue  []candidate
	pieces []piece
	joints []joint
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// prefix says where a text gets a space in front.
type prefix uint8

const (
	prefixNone   prefix = iota
	prefixFirst         // at the start of the text
	prefixAlways        // and behind each special token
)

// marks cuts text before each space mark that no token joins to what is before it. It changes no id: it only makes short words out of a long text, so that the cache helps and time stays linear.
type marks map[rune]bool // the runes that stand before a mark somewhere in the vocabulary

func newMarks(tokens []entry) marks {
	m := marks{}
	for _, e := range tokens {
		for rest, pos := e.text, 0; ; {
			i := strings.Index(rest[pos:], spaceMark)
			if i < 0 {
				break
			}
			if i+pos > 0 {
				r, _ := utf8.DecodeLastRuneInString(rest[:pos+i])
				m[r] = true
			}
			pos += i + len(spaceMark)
		}
	}
	return m
}

func (m marks) cut(dst []int, s string) ([]int, error) {
	for pos := 0; ; {
		i := strings.Index(s[pos:], spaceMark)
		if i < 0 {
			return append(dst, len(s)), nil
		}
		if at := pos + i; at > 0 {
			if r, _ := utf8.DecodeLastRuneInString(s[:at]); !m[r] {
				dst = append(dst, at)
			}
		}
		pos += i + len(spaceMark)
	}
}
