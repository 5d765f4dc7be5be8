package token

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// class is a set of the Unicode categories that splitting patterns ask for.
type class uint8

const (
	letter class = 1 << iota // \p{L}
	number                   // \p{N}
	space                    // \s: White_Space
	mark                     // \p{M}
	upper                    // \p{Lu}, \p{Lt}
	lower                    // \p{Ll}
	punct                    // \p{P}
	symbol                   // \p{S}
)

// classes holds the category sets of the basic plane: one load instead of eight range searches for each rune.
var classes = sync.OnceValue(func() *[1 << 16]class {
	t := new([1 << 16]class)
	for r := range rune(len(t)) {
		t[r] = classOf(r)
	}
	return t
})

func classOf(r rune) class {
	var c class
	if unicode.Is(unicode.L, r) {
		c |= letter
		if unicode.Is(unicode.Lu, r) || unicode.Is(unicode.Lt, r) {
			c |= upper
		}
		if unicode.Is(unicode.Ll, r) {
			c |= lower
		}
		return c
	}
	switch {
	case unicode.Is(unicode.N, r):
		return number
	case unicode.Is(unicode.White_Space, r):
		return space
	case unicode.Is(unicode.M, r):
		return mark
	case unicode.Is(unicode.P, r):
		return punct
	case unicode.Is(unicode.S, r):
		return symbol
	}
	return 0
}

// scanner reads classes of runes from a string. A byte that is no UTF-8 is a rune of no class and length 1.
type scanner struct {
	table *[1 << 16]class
	s     string
}

// at returns the rune at byte i with its class and length; length 0 at the end.
func (c *scanner) at(i int) (rune, class, int) {
	if i >= len(c.s) {
		return -1, 0, 0
	}
	if b := c.s[i]; b < utf8.RuneSelf {
		return rune(b), c.table[b], 1
	}
	r, n := utf8.DecodeRuneInString(c.s[i:])
	if r == utf8.RuneError && n == 1 {
		return r, 0, 1
	}
	if int(r) < len(c.table) {
		return r, c.table[r], n
	}
	return r, classOf(r), n
}

// run returns the end of the longest stretch from i of runes in one of the classes of want.
func (c *scanner) run(i int, want class) int {
	for {
		_, k, n := c.at(i)
		if k&want == 0 {
			return i
		}
		i += n
	}
}

// other returns the end of the longest stretch from i of runes in none of the classes of not.
func (c *scanner) other(i int, not class) int {
	for {
		_, k, n := c.at(i)
		if n == 0 || k&not != 0 {
			return i
		}
		i += n
	}
}
