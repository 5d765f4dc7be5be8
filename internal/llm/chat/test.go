package chat

import (
	"strings"
	"unicode"
)

// test is `x is name(args)`.
type test func(r *renderer, x value, a []value) (value, error)

// tests and boolTests are one table; the second form is what select and reject call.
var (
	boolTests map[string]func(r *renderer, x value, a []value) (bool, error)
	tests     = map[string]test{}
)

func init() { //nolint:gochecknoinits // the table and the functions in it name one another
	is := func(f func(value) bool) func(*renderer, value, []value) (bool, error) {
		return func(_ *renderer, x value, _ []value) (bool, error) { return f(x), nil }
	}
	op := func(op string) func(*renderer, value, []value) (bool, error) {
		return func(r *renderer, x value, a []value) (bool, error) {
			if len(a) != 1 {
				return false, failed("the test needs one value")
			}
			return r.holds(op, x, a[0])
		}
	}
	boolTests = map[string]func(r *renderer, x value, a []value) (bool, error){
		"defined":   is(func(x value) bool { _, no := x.(undefined); return !no }),
		"undefined": is(func(x value) bool { _, no := x.(undefined); return no }),
		"none":      is(func(x value) bool { return x == nil }),
		"string":    is(func(x value) bool { _, ok := x.(str); return ok }),
		"mapping":   is(func(x value) bool { _, ok := x.(*dict); return ok }),
		"iterable":  is(iterable),
		"sequence":  is(iterable),
		"number":    is(func(x value) bool { _, ok := asNumber(x); _, big := x.(bigInt); return ok || big }),
		"integer":   is(func(x value) bool { _, ok := x.(int64); _, big := x.(bigInt); return ok || big }),
		"float":     is(func(x value) bool { _, ok := x.(float64); return ok }),
		"boolean":   is(func(x value) bool { _, ok := x.(bool); return ok }),
		"true":      is(func(x value) bool { b, ok := x.(bool); return ok && b }),
		"false":     is(func(x value) bool { b, ok := x.(bool); return ok && !b }),
		"callable": is(func(x value) bool {
			switch x.(type) {
			case *macro, builtin:
				return true
			}
			return false
		}),
		"odd":   is(func(x value) bool { i, ok := asInt(x); return ok && i%2 != 0 }),
		"even":  is(func(x value) bool { i, ok := asInt(x); return ok && i%2 == 0 }),
		"lower": is(func(x value) bool { return cased(x, unicode.IsUpper) }),
		"upper": is(func(x value) bool { return cased(x, unicode.IsLower) }),
		"divisibleby": func(r *renderer, x value, a []value) (bool, error) {
			if len(a) != 1 {
				return false, failed("divisibleby needs one number")
			}
			m, err := r.binary("%", x, a[0])
			return !truth(m), err
		},
		"sameas": func(r *renderer, x value, a []value) (bool, error) {
			if len(a) != 1 {
				return false, failed("sameas needs one value")
			}
			same, err := r.equal(x, a[0])
			return same && typeName(x) == typeName(a[0]), err
		},
		"eq": op("=="), "equalto": op("=="), "==": op("=="), "ne": op("!="), "!=": op("!="), "in": op("in"),
		"lt": op("<"), "lessthan": op("<"), "<": op("<"), "le": op("<="), "<=": op("<="),
		"gt": op(">"), "greaterthan": op(">"), ">": op(">"), "ge": op(">="), ">=": op(">="),
	}
	for name, f := range boolTests {
		tests[name] = func(r *renderer, x value, a []value) (value, error) { return f(r, x, a) }
	}
}

func iterable(x value) bool {
	switch x.(type) {
	case str, *list, *dict, undefined:
		return true
	}
	return false
}

// cased reports whether x is a string with letters, none of which is wrong.
func cased(x value, wrong func(rune) bool) bool {
	s, ok := x.(str)
	return ok && strings.IndexFunc(s.s, wrong) < 0 && strings.IndexFunc(s.s, unicode.IsLetter) >= 0
}
