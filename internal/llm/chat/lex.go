package chat

import (
	"strings"
	"unicode/utf8"
)

// tokenKind names what the lexer found.
type tokenKind uint8

const (
	tkData     tokenKind = iota // text outside of tags
	tkBlock                     // {%
	tkBlockEnd                  // %}
	tkVar                       // {{
	tkVarEnd                    // }}
	tkName
	tkString
	tkInt
	tkFloat
	tkOp
	tkEOF
)

type lexeme struct {
	kind tokenKind
	text string // decoded for strings
	at   int    // byte offset in the source
}

// lexer cuts a template into lexemes, with trim_blocks and lstrip_blocks on, as chat templates expect.
type lexer struct {
	src       string
	pos       int
	lineStart bool // the text before pos ended a line
	out       []lexeme
}

// lex cuts the whole source. Line ends become \n and one at the very end is dropped, as Jinja does.
func lex(src string) (string, []lexeme, error) {
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	src = strings.TrimSuffix(src, "\n")
	l := &lexer{src: src, lineStart: true}
	for l.pos < len(src) {
		if err := l.root(); err != nil {
			return src, nil, err
		}
	}
	l.out = append(l.out, lexeme{kind: tkEOF, at: len(src)})
	return src, l.out, nil
}

func (l *lexer) add(k tokenKind, text string, at int) {
	l.out = append(l.out, lexeme{k, text, at})
}

// opening finds the next {{ {% {#.
func (l *lexer) opening() int {
	for i := l.pos; ; {
		j := strings.IndexByte(l.src[i:], '{')
		if j < 0 || i+j+1 >= len(l.src) {
			return -1
		}
		if i += j; strings.IndexByte("{%#", l.src[i+1]) >= 0 {
			return i
		}
		i++
	}
}

// root reads text up to a tag and the tag.
func (l *lexer) root() error {
	at := l.opening()
	if at < 0 {
		l.add(tkData, l.src[l.pos:], l.pos)
		l.pos = len(l.src)
		return nil
	}
	kind := l.src[at+1]
	body := at + 2
	sign := byte(0)
	if body < len(l.src) && (l.src[body] == '-' || l.src[body] == '+') {
		sign = l.src[body]
		body++
	}
	text := l.src[l.pos:at]
	switch {
	case sign == '-':
		text = strings.TrimRightFunc(text, isSpace)
	case sign != '+' && kind != '{':
		if from := strings.LastIndexByte(text, '\n') + 1; (from > 0 || l.lineStart) && strings.TrimLeftFunc(text[from:], isSpace) == "" {
			text = text[:from]
		}
	}
	if text != "" {
		l.add(tkData, text, l.pos)
	}
	l.pos, l.lineStart = body, false
	switch kind {
	case '#':
		return l.comment(at)
	case '{':
		l.add(tkVar, "", at)
		return l.tag(at, tkVarEnd)
	}
	if end, ok := l.rawTag(body, "raw"); ok {
		return l.raw(at, end)
	}
	l.add(tkBlock, "", at)
	return l.tag(at, tkBlockEnd)
}

// comment skips to #}.
func (l *lexer) comment(at int) error {
	i := strings.Index(l.src[l.pos:], "#}")
	if i < 0 {
		return l.fail(at, "a comment is not closed")
	}
	sign := byte(0)
	if end := l.pos + i; end > l.pos {
		sign = l.src[end-1]
	}
	l.pos += i + 2
	l.after(sign, true)
	return nil
}

// after applies the white-space rule of the end of a tag.
func (l *lexer) after(sign byte, block bool) {
	rest := l.src[l.pos:]
	switch {
	case sign == '-':
		l.pos = len(l.src) - len(strings.TrimLeftFunc(rest, isSpace))
	case sign != '+' && block && strings.HasPrefix(rest, "\n"):
		l.pos++
	}
	l.lineStart = l.pos > 0 && l.src[l.pos-1] == '\n'
}

// rawTag reports whether the tag whose inside starts at body is `name`, and where it ends.
func (l *lexer) rawTag(body int, name string) (end int, ok bool) {
	i := body + len(l.src[body:]) - len(strings.TrimLeftFunc(l.src[body:], isSpace))
	if !strings.HasPrefix(l.src[i:], name) {
		return 0, false
	}
	i += len(name)
	i += len(l.src[i:]) - len(strings.TrimLeftFunc(l.src[i:], isSpace))
	if i < len(l.src) && (l.src[i] == '-' || l.src[i] == '+') {
		i++
	}
	return i + 2, strings.HasPrefix(l.src[i:], "%}")
}

// raw reads text up to endraw.
func (l *lexer) raw(at, from int) error {
	l.pos = from
	l.after(l.src[from-3], true)
	start := l.pos
	for i := start; ; {
		j := strings.Index(l.src[i:], "{%")
		if j < 0 {
			return l.fail(at, "a raw block is not closed")
		}
		i += j
		body := i + 2
		sign := byte(0)
		if body < len(l.src) && (l.src[body] == '-' || l.src[body] == '+') {
			sign = l.src[body]
			body++
		}
		end, ok := l.rawTag(body, "endraw")
		if !ok {
			i += 2
			continue
		}
		text := l.src[start:i]
		if sign == '-' {
			text = strings.TrimRightFunc(text, isSpace)
		} else if k := strings.LastIndexByte(text, '\n') + 1; sign != '+' && k > 0 && strings.TrimLeftFunc(text[k:], isSpace) == "" {
			text = text[:k]
		}
		if text != "" {
			l.add(tkData, text, start)
		}
		l.pos = end
		l.after(l.src[end-3], true)
		return nil
	}
}

// operators, longest first.
var operators = []string{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

// tag reads the lexemes of one tag up to its end.
func (l *lexer) tag(at int, end tokenKind) error {
	closing := "%}"
	if end == tkVarEnd {
		closing = "}}"
	}
	depth := 0 // a }} inside of braces closes a dictionary
	for {
		l.pos = len(l.src) - len(strings.TrimLeftFunc(l.src[l.pos:], isSpace))
		rest := l.src[l.pos:]
		if rest == "" {
			return l.fail(at, "a tag is not closed")
		}
		if depth == 0 {
			sign := byte(0)
			tail := rest
			if rest[0] == '-' || rest[0] == '+' && end == tkBlockEnd {
				sign, tail = rest[0], rest[1:]
			}
			if strings.HasPrefix(tail, closing) {
				l.add(end, "", l.pos)
				l.pos = len(l.src) - len(tail) + 2
				l.after(sign, end == tkBlockEnd)
				return nil
			}
		}
		if err := l.lexeme(rest, &depth); err != nil {
			return err
		}
	}
}

// lexeme reads one name, number, string or operator at the start of rest.
func (l *lexer) lexeme(rest string, depth *int) error {
	at := l.pos
	switch c := rest[0]; {
	case c == '"' || c == '\'':
		n := 1
		for n < len(rest) && rest[n] != c {
			if rest[n] == '\\' {
				n++
			}
			n++
		}
		if n >= len(rest) {
			return l.fail(at, "a string is not closed")
		}
		text, ok := unescape(rest[1:n])
		if !ok {
			return l.fail(at, "a string has a wrong escape")
		}
		l.add(tkString, text, at)
		l.pos += n + 1
		return nil
	case c >= '0' && c <= '9':
		kind, n := number(rest)
		l.add(kind, strings.ReplaceAll(rest[:n], "_", ""), at)
		l.pos += n
		return nil
	}
	if n := nameLen(rest); n > 0 {
		l.add(tkName, rest[:n], at)
		l.pos += n
		return nil
	}
	for _, op := range operators {
		if strings.HasPrefix(rest, op) {
			switch op {
			case "(", "[", "{":
				*depth++
			case ")", "]", "}":
				if *depth--; *depth < 0 {
					return l.fail(at, "unexpected "+op)
				}
			}
			l.add(tkOp, op, at)
			l.pos += len(op)
			return nil
		}
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return l.fail(at, "unexpected character "+string(r))
}

// nameLen returns the length of the identifier at the start of s.
func nameLen(s string) int {
	n := 0
	for n < len(s) && (s[n] == '_' || s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || n > 0 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return n
}

// number returns the kind and length of the number at the start of s.
func number(s string) (tokenKind, int) {
	digits := func(i int, set string) int {
		for i < len(s) && (strings.IndexByte(set, s[i]) >= 0 || s[i] == '_' && i+1 < len(s) && strings.IndexByte(set, s[i+1]) >= 0) {
			i++
		}
		return i
	}
	const dec = "0123456789"
	if len(s) > 2 && s[0] == '0' {
		for prefix, set := range map[byte]string{'x': "0123456789abcdefABCDEF", 'o': "01234567", 'b': "01"} {
			if s[1]|0x20 == prefix {
				if n := digits(2, set); n > 2 {
					return tkInt, n
				}
			}
		}
	}
	n := digits(0, dec)
	kind := tkInt
	if n+1 < len(s) && s[n] == '.' && strings.IndexByte(dec, s[n+1]) >= 0 {
		n, kind = digits(n+1, dec), tkFloat
	}
	if n < len(s) && s[n]|0x20 == 'e' {
		m := n + 1
		if m < len(s) && (s[m] == '+' || s[m] == '-') {
			m++
		}
		if e := digits(m, dec); e > m {
			n, kind = e, tkFloat
		}
	}
	return kind, n
}

// unescape decodes the escapes of a Python string; one it does not know stays as it is.
func unescape(s string) (string, bool) {
	if !strings.Contains(s, `\`) {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case '\n':
		case '\\', '\'', '"':
			b.WriteByte(c)
		case 'n', 't', 'r', 'a', 'b', 'f', 'v':
			b.WriteByte("\n\t\r\a\b\f\v"[strings.IndexByte("ntrabfv", c)])
		case 'x', 'u', 'U':
			n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			r, ok := digitsValue(s, i+1, n, 16)
			if !ok || r > utf8.MaxRune {
				return "", false
			}
			b.WriteRune(rune(r))
			i += n
		case '0', '1', '2', '3', '4', '5', '6', '7':
			n := 1
			for n < 3 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7' {
				n++
			}
			r, _ := digitsValue(s, i, n, 8)
			b.WriteRune(rune(r))
			i += n - 1
		case 'N':
			return "", false
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

func digitsValue(s string, i, n, base int) (int, bool) {
	if i+n > len(s) {
		return 0, false
	}
	v := 0
	for _, c := range []byte(s[i : i+n]) {
		d := strings.IndexByte("0123456789abcdef", c|0x20)
		if c >= '0' && c <= '9' {
			d = int(c - '0')
		}
		if d < 0 || d >= base {
			return 0, false
		}
		v = v*base + d
	}
	return v, true
}

func (l *lexer) fail(at int, words string) error { return syntaxError(l.src, at, words) }

// syntaxError names line and column, from 1.
func syntaxError(src string, at int, words string) error {
	at = min(at, len(src))
	line := strings.Count(src[:at], "\n") + 1
	column := utf8.RuneCountInString(src[strings.LastIndexByte(src[:at], '\n')+1:at]) + 1
	return ErrSyntax.With("line %d, column %d: %s", line, column, words)
}
