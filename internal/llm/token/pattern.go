package token

import (
	"strings"
	"time"

	"github.com/dlclark/regexp2/v2"
)

// patternTime bounds the search by a pattern that backtracks, over one stretch of text. Published patterns need microseconds; the bound is for those that came with a file.
const patternTime = 2 * time.Second

// behavior says what becomes of the matches of a pattern, with the names of tokenizer.json.
type behavior uint8

const (
	isolated       behavior = iota // a piece of their own
	mergedPrevious                 // joined to what is before
	mergedNext                     // joined to what is behind
	contiguous                     // neighbouring matches are one piece
)

// pattern makes pieces of the matches of a regular expression and of what lies between them.
type pattern struct {
	re       *regexp2.Regexp
	behavior behavior
}

// newPattern compiles a pattern in the syntax of Oniguruma as far as .NET's agrees with it.
func newPattern(expr string, b behavior) (*pattern, error) {
	// Possessive repeats only save time where what follows cannot begin with what is repeated, which holds for the published patterns; .NET lacks them.
	plain := strings.NewReplacer("?+", "?", "++", "+", "*+", "*").Replace(expr)
	re, err := regexp2.Compile(plain)
	if err != nil {
		return nil, ErrInvalid.With("the splitting pattern %.80q cannot be read", expr).Wrap(err)
	}
	re.MatchTimeout = patternTime
	return &pattern{re: re, behavior: b}, nil
}

// mustPattern is newPattern for the patterns of this package.
func mustPattern(expr string) *pattern {
	p, err := newPattern(expr, isolated)
	if err != nil {
		panic(err)
	}
	return p
}

func (p *pattern) cut(dst []int, s string) ([]int, error) {
	runes := make([]rune, 0, len(s))
	at := make([]int, 0, len(s)+1)
	for i, r := range s {
		runes = append(runes, r)
		at = append(at, i)
	}
	at = append(at, len(s))
	pos, last, rounds := 0, -1, 0
	push := func(end int) {
		if end > pos {
			dst = append(dst, end)
			pos = end
		}
	}
	end := time.Now().Add(patternTime)
	late := false
	err := p.re.FindRunesMatches(runes, 0, func(m regexp2.MatchView) bool {
		index, length, _ := m.GroupRange(0)
		if rounds++; rounds%1024 == 0 && time.Now().After(end) {
			late = true
			return false
		}
		start, end := at[index], at[index+length]
		switch {
		case start == end:
		case p.behavior == mergedPrevious:
			push(end)
		case p.behavior == mergedNext:
			push(start)
		case p.behavior == contiguous:
			if start != last {
				push(start)
			}
			last = end
		default:
			push(start)
			push(end)
		}
		return true
	})
	if err != nil || late { // the words of err hold the text: they stay here
		return dst, ErrTimeout.With("the splitting pattern of this tokenizer did not finish within %s", patternTime)
	}
	push(len(s))
	return dst, nil
}
