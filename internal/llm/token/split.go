package token

import "strings"

// A cutter divides a stretch of text into pieces, appending the end of each piece to dst (byte offsets, the last one is len(s)). Pieces are never empty and cover all of s.
type cutter interface {
	cut(dst []int, s string) ([]int, error)
}

// word returns the length of the first piece of a text that is not empty. All published patterns of this kind look ahead only, so a word does not depend on what was before it.
type word func(c *scanner, i int) int

func (w word) cut(dst []int, s string) ([]int, error) {
	c := scanner{table: classes(), s: s}
	for i := 0; i < len(s); {
		i = w(&c, i)
		dst = append(dst, i)
	}
	return dst, nil
}

// passes applies cutters one after another, each to the pieces of the one before.
type passes []cutter

func (p passes) cut(dst []int, s string) ([]int, error) {
	ends := []int{len(s)}
	for n, c := range p {
		var next []int
		if n == len(p)-1 {
			next = dst
		}
		start := 0
		for _, end := range ends {
			from := len(next)
			var err error
			if next, err = c.cut(next, s[start:end]); err != nil {
				return dst, err
			}
			for i := from; i < len(next); i++ {
				next[i] += start
			}
			start = end
		}
		ends = next
	}
	return ends, nil
}

// whole keeps a text in one piece.
type whole struct{}

func (whole) cut(dst []int, s string) ([]int, error) { return append(dst, len(s)), nil }

// contraction returns the end of 's 't 're 've 'm 'll 'd at i, or i. fold also takes upper case.
func contraction(c *scanner, i int, fold bool) int {
	if i+1 >= len(c.s) || c.s[i] != '\'' {
		return i
	}
	low := func(j int) byte {
		if j >= len(c.s) {
			return 0
		}
		b := c.s[j]
		if fold && b >= 'A' && b <= 'Z' {
			b |= 0x20
		}
		return b
	}
	if fold && strings.HasPrefix(c.s[i+1:], "\u017F") { // the long s is an s without regard to case
		return i + 1 + len("\u017F")
	}
	switch a, b := low(i+1), low(i+2); {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return i + 2
	case a == 'r' && b == 'e', a == 'v' && b == 'e', a == 'l' && b == 'l':
		return i + 3
	}
	return i
}

// spaces is the common end of the patterns: `\s*[\r\n]+|\s+(?!\S)|\s+` with lines, else `\s+(?!\S)|\s+`; then any one rune, which no pattern leaves but a byte that is no UTF-8.
func spaces(c *scanner, i int, lines bool) int {
	end, last, newline := i, i, -1
	for {
		r, k, n := c.at(end)
		if k&space == 0 {
			break
		}
		last = end
		end += n
		if r == '\r' || r == '\n' {
			newline = end
		}
	}
	switch {
	case end == i:
		_, _, n := c.at(i)
		return i + n
	case lines && newline >= 0:
		return newline
	case end == len(c.s) || last == i:
		return end
	}
	return last
}

// others is ` ?[^\s\p{L}\p{N}]+` followed by any of the bytes in tail; i where it does not match. not holds the classes that end it.
func others(c *scanner, i int, not class, tail string) int {
	from := i
	if c.s[i] == ' ' {
		from++
	}
	end := c.other(from, not)
	if end == from {
		return i
	}
	for end < len(c.s) && strings.IndexByte(tail, c.s[end]) >= 0 {
		end++
	}
	return end
}

// gpt2 is the first published pattern: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func gpt2(c *scanner, i int) int {
	if end := contraction(c, i, false); end > i {
		return end
	}
	from := i
	if c.s[i] == ' ' {
		from++
	}
	if end := c.run(from, letter); end > from {
		return end
	}
	if end := c.run(from, number); end > from {
		return end
	}
	if end := others(c, i, space|letter|number, ""); end > i {
		return end
	}
	return spaces(c, i, false)
}

// lettersDigits is the pattern of Llama 3 and Qwen: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// with at most digits numbers in a piece. in is what counts as a letter.
func lettersDigits(digits int, in class) word {
	return func(c *scanner, i int) int {
		if end := contraction(c, i, true); end > i {
			return end
		}
		r, k, n := c.at(i)
		from := i
		if k&(letter|number) == 0 && r != '\r' && r != '\n' {
			from += n
		}
		if end := c.run(from, in); end > from {
			return end
		}
		if k&in != 0 { // a mark that the optional first place would have taken
			return c.run(i, in)
		}
		if k == number {
			return numbers(c, i, digits)
		}
		if end := others(c, i, space|number|in, "\r\n"); end > i {
			return end
		}
		return spaces(c, i, true)
	}
}

// numbers returns the end of at most most runes of \p{N} from i.
func numbers(c *scanner, i, most int) int {
	for range most {
		_, k, n := c.at(i)
		if k != number {
			break
		}
		i += n
	}
	return i
}

// letterCase is the pattern of Tekken and of GPT-4o, which also cuts where the case of letters changes:
// [^\r\n\p{L}\p{N}]?U*W+|[^\r\n\p{L}\p{N}]?U+W*|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
// where U is [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and W is [\p{Ll}\p{Lm}\p{Lo}\p{M}]; suffix lets a contraction follow the first two.
func letterCase(digits int, suffix bool) word {
	return func(c *scanner, i int) int {
		r, k, n := c.at(i)
		from := i
		if k&(letter|number) == 0 && r != '\r' && r != '\n' {
			from += n
		}
		end := caseRun(c, from, true)
		if end == from && from > i {
			from, end = i, caseRun(c, i, true)
		}
		if end == from {
			from = i
			if k&(letter|number) == 0 && r != '\r' && r != '\n' {
				from += n
			}
			if end = caseRun(c, from, false); end == from {
				from, end = i, caseRun(c, i, false)
			}
		}
		if end > from {
			if suffix {
				end = contraction(c, end, true)
			}
			return end
		}
		if k == number {
			return numbers(c, i, digits)
		}
		if end := others(c, i, space|letter|number, "\r\n/"); end > i {
			return end
		}
		return spaces(c, i, true)
	}
}

// caseRun matches U*W+ (ending in a W) or U+W* at i, the way a backtracking matcher does; i where it does not match.
func caseRun(c *scanner, i int, needW bool) int {
	j, both := i, i // both: end of the last rune of the U run that is in W too
	for {
		_, k, n := c.at(j)
		if k&(letter|mark) == 0 || k&lower != 0 {
			break
		}
		j += n
		if k&upper == 0 {
			both = j
		}
	}
	end := j
	for {
		_, k, n := c.at(end)
		if k&(letter|mark) == 0 || k&upper != 0 {
			break
		}
		end += n
	}
	switch {
	case !needW && j > i, needW && end > j:
		return end
	case needW:
		return both
	}
	return i
}

// isolateNumbers makes pieces of its own out of the runs of numbers, at most most runes long; what lies between stays whole.
func isolateNumbers(most int) word {
	return func(c *scanner, i int) int {
		if _, k, _ := c.at(i); k != number {
			return c.other(i, number)
		}
		return numbers(c, i, most)
	}
}

// isolateBytes makes a piece of each of the ASCII bytes in set.
func isolateBytes(set string) word {
	return func(c *scanner, i int) int {
		switch j := strings.IndexAny(c.s[i:], set); j {
		case 0:
			return i + 1
		case -1:
			return len(c.s)
		default:
			return i + j
		}
	}
}

// newlines is [^\n]+|\n+
func newlines(c *scanner, i int) int {
	for j, first := i, c.s[i] == '\n'; ; j++ {
		if j == len(c.s) || (c.s[j] == '\n') != first {
			return j
		}
	}
}
