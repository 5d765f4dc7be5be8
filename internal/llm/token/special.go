package token

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// special is a token that is matched as a whole before anything else.
type special struct {
	text        string
	id          int32
	control     bool // only in trusted text
	left, right bool // takes the white space on that side along
	alone       bool // only where no letter or digit touches it
}

// specials finds special tokens, the leftmost and there the longest. They are sorted, so a match narrows a range of the list byte by byte: no further structure, and time bounded by their length.
type specials struct {
	list  []special
	first [256][2]int32 // range of list by first byte
}

func newSpecials(list []special) specials {
	slices.SortStableFunc(list, func(a, b special) int { return cmp.Compare(a.text, b.text) })
	list = slices.CompactFunc(list, func(a, b special) bool { return a.text == b.text })
	s := specials{list: list}
	for i, sp := range list {
		b := sp.text[0]
		if s.first[b][1] == 0 {
			s.first[b][0] = int32(i)
		}
		s.first[b][1] = int32(i + 1)
	}
	return s
}

// find returns the first special at or after i with its place; nil if there is none. trusted gives the end of the trusted stretch that holds a byte, 0 outside one.
func (s *specials) find(text string, i int, trusted func(int) int) (sp *special, at int) {
	for ; i < len(text); i++ {
		if s.first[text[i]][1] == 0 {
			continue
		}
		if sp := s.at(text, i, trusted(i)); sp != nil {
			return sp, i
		}
	}
	return nil, len(text)
}

// at returns the longest special that starts at i.
func (s *specials) at(text string, i, trusted int) *special {
	lo, hi := int(s.first[text[i]][0]), int(s.first[text[i]][1])
	var best *special
	for d := 1; ; d++ {
		if len(s.list[lo].text) == d { // the shortest of the range comes first
			if c := &s.list[lo]; (!c.control || i+d <= trusted) && (!c.alone || alone(text, i, i+d)) {
				best = c
			}
			lo++
		}
		if i+d >= len(text) || lo >= hi {
			return best
		}
		b := text[i+d]
		list := s.list[lo:hi]
		from, _ := slices.BinarySearchFunc(list, b, func(sp special, b byte) int { return cmp.Compare(sp.text[d], b) })
		n, _ := slices.BinarySearchFunc(list[from:], b, func(sp special, b byte) int {
			if sp.text[d] > b {
				return 1
			}
			return -1
		})
		lo, hi = lo+from, lo+from+n
		if lo == hi {
			return best
		}
	}
}

// alone reports whether text[i:j] is not touched by a letter, digit or underscore.
func alone(text string, i, j int) bool {
	word := func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }
	l, n := utf8.DecodeLastRuneInString(text[:i])
	r, m := utf8.DecodeRuneInString(text[j:])
	return (n == 0 || !word(l)) && (m == 0 || !word(r))
}

// trimLeft returns the start of the white space that ends at i, not before from.
func trimLeft(text string, from, i int) int {
	return from + len(strings.TrimRightFunc(text[from:i], unicode.IsSpace))
}

// trimRight returns the end of the white space that starts at i.
func trimRight(text string, i int) int {
	return len(text) - len(strings.TrimLeftFunc(text[i:], unicode.IsSpace))
}
