package chat

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"maas/internal/llm/token"
)

// str is a string of a template that knows which of its bytes the template itself wrote.
type str struct {
	s    string
	t    bool  // all trusted, or none; not used with runs
	runs []run // nil = of one kind; else they cover s, neighbours differ
}

// run is a stretch of equal trust; it ends before byte end.
type run struct {
	end int
	t   bool
}

func lit(s string) str { return str{s: s, t: true} }

func foreign(s string) str { return str{s: s} }

// trusted reports whether every byte is the template's own.
func (a str) trusted() bool { return a.runs == nil && (a.t || a.s == "") }

// like returns a string whose trust is that of a as a whole: used where bytes cannot be followed one by one.
func (a str) like(s string) str { return str{s: s, t: a.trusted()} }

// each calls f for the stretches of a.
func (a str) each(f func(s string, t bool)) {
	if a.runs == nil {
		if a.s != "" {
			f(a.s, a.t)
		}
		return
	}
	from := 0
	for _, r := range a.runs {
		f(a.s[from:r.end], r.t)
		from = r.end
	}
}

// slice returns bytes i to j.
func (a str) slice(i, j int) str {
	if a.runs == nil {
		return str{s: a.s[i:j], t: a.t}
	}
	b := str{s: a.s[i:j]}
	from := 0
	for _, r := range a.runs {
		lo, hi := max(from, i), min(r.end, j)
		if lo < hi {
			b.runs = append(b.runs, run{hi - i, r.t})
		}
		from = r.end
	}
	if len(b.runs) < 2 {
		b.t = len(b.runs) == 1 && b.runs[0].t
		b.runs = nil
	}
	return b
}

// rope collects strings.
type rope struct {
	b    strings.Builder
	runs []run
}

func (r *rope) put(s string, t bool) {
	if s == "" {
		return
	}
	r.b.WriteString(s)
	if n := len(r.runs); n > 0 && r.runs[n-1].t == t {
		r.runs[n-1].end = r.b.Len()
		return
	}
	r.runs = append(r.runs, run{r.b.Len(), t})
}

func (r *rope) add(a str) { a.each(r.put) }

func (r *rope) len() int { return r.b.Len() }

func (r *rope) str() str {
	a := str{s: r.b.String(), t: true}
	if len(r.runs) == 1 {
		a.t = r.runs[0].t
	} else if len(r.runs) > 1 {
		a.runs = r.runs
	}
	return a
}

// parts gives a string to the tokenizer.
func (a str) parts() []token.Part {
	var out []token.Part
	a.each(func(s string, t bool) { out = append(out, token.Part{Text: s, Trusted: t}) })
	return out
}

func concat(list ...str) str {
	var r rope
	for _, a := range list {
		r.add(a)
	}
	return r.str()
}

// mapRuns applies f to each stretch: for changes that treat every rune alone.
func (a str) mapRuns(f func(string) string) str {
	if a.runs == nil {
		return str{s: f(a.s), t: a.t}
	}
	var r rope
	a.each(func(s string, t bool) { r.put(f(s), t) })
	return r.str()
}

// isSpace is Python's notion of white space.
func isSpace(r rune) bool { return r >= 0x1C && r <= 0x1F || unicode.IsSpace(r) }

// strip removes runes of set (white space if it is nil) at the left and right end.
func (a str) strip(set *str, left, right bool) str {
	in := isSpace
	if set != nil {
		in = func(r rune) bool { return strings.ContainsRune(set.s, r) }
	}
	i, j := 0, len(a.s)
	if left {
		i = j - len(strings.TrimLeftFunc(a.s, in))
	}
	if right {
		j = i + len(strings.TrimRightFunc(a.s[i:], in))
	}
	return a.slice(i, j)
}

// split cuts at sep at most n times (n < 0: everywhere); an empty sep cuts at runs of white space.
func (a str) split(sep string, n int) []str {
	var out []str
	pos := 0
	if sep != "" {
		for n != 0 {
			i := strings.Index(a.s[pos:], sep)
			if i < 0 {
				break
			}
			out = append(out, a.slice(pos, pos+i))
			pos += i + len(sep)
			n--
		}
		return append(out, a.slice(pos, len(a.s)))
	}
	for {
		pos = len(a.s) - len(strings.TrimLeftFunc(a.s[pos:], isSpace))
		if pos == len(a.s) {
			return out
		}
		if n == 0 {
			return append(out, a.slice(pos, len(a.s)).strip(nil, false, true))
		}
		i := strings.IndexFunc(a.s[pos:], isSpace)
		if i < 0 {
			return append(out, a.slice(pos, len(a.s)))
		}
		out = append(out, a.slice(pos, pos+i))
		pos += i
		n--
	}
}

// rsplit cuts at sep at most n times from the right.
func (a str) rsplit(sep string, n int) []str {
	var out []str
	end := len(a.s)
	for n != 0 {
		i := strings.LastIndex(a.s[:end], sep)
		if i < 0 {
			break
		}
		out = append(out, a.slice(i+len(sep), end))
		end = i
		n--
	}
	out = append(out, a.slice(0, end))
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// replace puts by in the place of old at most n times (n < 0: everywhere).
func (a str) replace(old string, by str, n int) str {
	var r rope
	pos := 0
	if old == "" { // as Python: between all runes
		for n != 0 && pos <= len(a.s) {
			r.add(by)
			_, size := utf8.DecodeRuneInString(a.s[pos:])
			if size == 0 {
				return r.str()
			}
			r.add(a.slice(pos, pos+size))
			pos += size
			n--
		}
		r.add(a.slice(pos, len(a.s)))
		return r.str()
	}
	for n != 0 {
		i := strings.Index(a.s[pos:], old)
		if i < 0 {
			break
		}
		r.add(a.slice(pos, pos+i))
		r.add(by)
		pos += i + len(old)
		n--
	}
	r.add(a.slice(pos, len(a.s)))
	return r.str()
}

// runeOffsets returns the byte offset of every rune and the length at the end.
func (a str) runeOffsets() []int {
	out := make([]int, 0, len(a.s)+1)
	for i := range a.s {
		out = append(out, i)
	}
	return append(out, len(a.s))
}

func join(list []str, sep str) str {
	var r rope
	for i, a := range list {
		if i > 0 {
			r.add(sep)
		}
		r.add(a)
	}
	return r.str()
}
