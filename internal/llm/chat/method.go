package chat

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// methodFunc is a method with its object as x.
type methodFunc func(r *renderer, x value, a callArgs) (value, error)

// method returns x.name bound to x if the type has it.
func method(x value, name string) (value, bool) {
	var f methodFunc
	switch x.(type) {
	case str:
		f = strMethods[name]
	case *dict:
		f = dictMethods[name]
	case *list:
		f = listMethods[name]
	}
	if f == nil {
		return nil, false
	}
	return builtin{name, func(r *renderer, pos []value, named []namedValue) (value, error) {
		return f(r, x, callArgs{pos, named})
	}}, true
}

var strMethods map[string]methodFunc

func init() { //nolint:gochecknoinits // the table and the functions in it name one another
	strMethods = map[string]methodFunc{
		"strip":      func(r *renderer, x value, a callArgs) (value, error) { return strip(x, a, true, true) },
		"lstrip":     func(r *renderer, x value, a callArgs) (value, error) { return strip(x, a, true, false) },
		"rstrip":     func(r *renderer, x value, a callArgs) (value, error) { return strip(x, a, false, true) },
		"split":      func(r *renderer, x value, a callArgs) (value, error) { return split(r, x, a, str.split) },
		"rsplit":     func(r *renderer, x value, a callArgs) (value, error) { return split(r, x, a, str.rsplit) },
		"splitlines": splitLines,
		"startswith": func(r *renderer, x value, a callArgs) (value, error) { return affix(x, a, strings.HasPrefix) },
		"endswith":   func(r *renderer, x value, a callArgs) (value, error) { return affix(x, a, strings.HasSuffix) },
		"replace":    replace,
		"upper":      func(r *renderer, x value, _ callArgs) (value, error) { return mapped(r, x, strings.ToUpper) },
		"lower":      func(r *renderer, x value, _ callArgs) (value, error) { return mapped(r, x, strings.ToLower) },
		"title":      func(r *renderer, x value, _ callArgs) (value, error) { return mapped(r, x, title) },
		"capitalize": func(r *renderer, x value, _ callArgs) (value, error) { return capitalize(r, x) },
		"format":     func(r *renderer, x value, a callArgs) (value, error) { return r.format(x.(str), a) },
		"join": func(r *renderer, x value, a callArgs) (value, error) {
			if len(a.pos) != 1 {
				return nil, failed("join takes one list")
			}
			return joined(r, a.pos[0], x.(str))
		},
		"find": func(r *renderer, x value, a callArgs) (value, error) {
			s, err := oneStr("find", a)
			if err != nil {
				return nil, err
			}
			i := strings.Index(x.(str).s, s.s)
			if i >= 0 {
				i = utf8.RuneCountInString(x.(str).s[:i])
			}
			return int64(i), r.charge(len(x.(str).s))
		},
		"count": func(r *renderer, x value, a callArgs) (value, error) {
			s, err := oneStr("count", a)
			if err != nil {
				return nil, err
			}
			return int64(strings.Count(x.(str).s, s.s)), r.charge(len(x.(str).s))
		},
		"removeprefix": func(r *renderer, x value, a callArgs) (value, error) {
			s, err := oneStr("removeprefix", a)
			if err != nil || !strings.HasPrefix(x.(str).s, s.s) {
				return x, err
			}
			return x.(str).slice(len(s.s), len(x.(str).s)), nil
		},
		"removesuffix": func(r *renderer, x value, a callArgs) (value, error) {
			s, err := oneStr("removesuffix", a)
			if err != nil || !strings.HasSuffix(x.(str).s, s.s) {
				return x, err
			}
			return x.(str).slice(0, len(x.(str).s)-len(s.s)), nil
		},
		"isdigit": allRunes(unicode.IsDigit), "isalpha": allRunes(unicode.IsLetter), "isspace": allRunes(isSpace),
		"isalnum": allRunes(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }),
	}
}

func allRunes(f func(rune) bool) methodFunc {
	return func(r *renderer, x value, _ callArgs) (value, error) {
		s := x.(str).s //nolint:forcetypeassert // a method of strings
		return s != "" && strings.IndexFunc(s, func(c rune) bool { return !f(c) }) < 0, r.charge(len(s))
	}
}

func oneStr(name string, a callArgs) (str, error) {
	if len(a.pos) == 1 {
		if s, ok := a.pos[0].(str); ok {
			return s, nil
		}
	}
	return str{}, failed("%s takes one string", name)
}

func strip(x value, a callArgs, left, right bool) (value, error) {
	s := x.(str) //nolint:forcetypeassert // a method of strings
	v, ok := a.get(0, "chars")
	if !ok || v == nil {
		return s.strip(nil, left, right), nil
	}
	set, ok := v.(str)
	if !ok {
		return nil, failed("strip takes a string, not %s", typeName(v))
	}
	if len(set.s) > 256 {
		return nil, failed("strip takes at most 256 bytes")
	}
	return s.strip(&set, left, right), nil
}

func split(r *renderer, x value, a callArgs, f func(str, string, int) []str) (value, error) {
	s := x.(str) //nolint:forcetypeassert // a method of strings
	sep, n := "", int64(-1)
	if v, ok := a.get(0, "sep"); ok && v != nil {
		t, ok := v.(str)
		if !ok || t.s == "" {
			return nil, failed("split takes a string that is not empty")
		}
		sep = t.s
	}
	if v, ok := a.get(1, "maxsplit"); ok {
		if n, ok = asInt(v); !ok {
			return nil, failed("the number of splits is a whole number")
		}
	}
	if sep == "" && n >= 0 {
		f = str.split
	}
	if sep != "" {
		if err := r.many(strings.Count(s.s, sep)); err != nil {
			return nil, err
		}
	} else if err := r.many(len(s.s) / 2); err != nil {
		return nil, err
	}
	return strList(f(s, sep, int(max(n, -1)))), r.charge(len(s.s))
}

func strList(l []str) *list {
	out := &list{items: make([]value, len(l))}
	for i, s := range l {
		out.items[i] = s
	}
	return out
}

func splitLines(r *renderer, x value, _ callArgs) (value, error) {
	s := x.(str) //nolint:forcetypeassert // a method of strings
	l := s.split("\n", -1)
	if n := len(l); l[n-1].s == "" {
		l = l[:n-1]
	}
	for i := range l {
		if t := l[i]; strings.HasSuffix(t.s, "\r") {
			l[i] = t.slice(0, len(t.s)-1)
		}
	}
	return strList(l), r.many(len(l))
}

func affix(x value, a callArgs, f func(string, string) bool) (value, error) {
	s := x.(str) //nolint:forcetypeassert // a method of strings
	if len(a.pos) != 1 {
		return nil, failed("startswith and endswith take one string")
	}
	options := []value{a.pos[0]}
	if l, ok := a.pos[0].(*list); ok && l.tuple {
		options = l.items
	}
	for _, o := range options {
		t, ok := o.(str)
		if !ok {
			return nil, failed("startswith and endswith take a string, not %s", typeName(o))
		}
		if f(s.s, t.s) {
			return true, nil
		}
	}
	return false, nil
}

// replace is the method and the filter.
func replace(r *renderer, x value, a callArgs) (value, error) {
	s, err := r.text(x)
	if err != nil {
		return nil, err
	}
	n := int64(-1)
	if v, ok := a.get(2, "count"); ok && v != nil {
		if n, ok = asInt(v); !ok {
			return nil, failed("the number of replacements is a whole number")
		}
	}
	if len(a.pos) < 2 {
		return nil, failed("replace takes two strings")
	}
	old, err := r.text(a.pos[0])
	if err != nil {
		return nil, err
	}
	by, err := r.text(a.pos[1])
	if err != nil {
		return nil, err
	}
	if size := len(s.s) + (strings.Count(s.s, old.s)+1)*len(by.s); size > r.limits.Output {
		return nil, r.tooLong()
	}
	return r.made(s.replace(old.s, by, int(max(n, -1))))
}

func mapped(r *renderer, x value, f func(string) string) (value, error) {
	s, err := r.text(x)
	if err != nil {
		return nil, err
	}
	return r.made(s.mapRuns(f))
}

func title(s string) string {
	start := true
	return strings.Map(func(c rune) rune {
		was := start
		start = !unicode.IsLetter(c) && c != '\''
		if was {
			return unicode.ToTitle(c)
		}
		return unicode.ToLower(c)
	}, s)
}

func capitalize(r *renderer, x value) (value, error) {
	s, err := r.text(x)
	if err != nil {
		return nil, err
	}
	_, n := utf8.DecodeRuneInString(s.s)
	return r.made(concat(s.slice(0, n).mapRuns(strings.ToUpper), s.slice(n, len(s.s)).mapRuns(strings.ToLower)))
}

var dictMethods = map[string]methodFunc{
	"items": func(r *renderer, x value, _ callArgs) (value, error) { return x.(*dict).items(), nil },
	"keys": func(r *renderer, x value, _ callArgs) (value, error) {
		return &list{items: slices.Clone(x.(*dict).keys)}, nil
	},
	"values": func(r *renderer, x value, _ callArgs) (value, error) {
		return &list{items: slices.Clone(x.(*dict).vals)}, nil
	},
	"get": func(r *renderer, x value, a callArgs) (value, error) {
		if len(a.pos) == 0 {
			return nil, failed("get takes a key")
		}
		if v, ok := x.(*dict).get(a.pos[0]); ok {
			return v, nil
		}
		v, _ := a.get(1, "default")
		return v, nil
	},
	"pop": func(r *renderer, x value, a callArgs) (value, error) {
		d := x.(*dict) //nolint:forcetypeassert // a method of mappings
		if len(a.pos) == 0 {
			return nil, failed("pop takes a key")
		}
		v, ok := d.get(a.pos[0])
		if !ok {
			if v, ok = a.get(1, "default"); !ok {
				return nil, failed("there is no such key to pop")
			}
			return v, nil
		}
		d.delete(a.pos[0])
		return v, r.charge(16 * len(d.keys))
	},
	"update": func(r *renderer, x value, a callArgs) (value, error) {
		d, err := callDict(r, a.pos, a.named)
		if err != nil {
			return nil, err
		}
		for i, k := range d.(*dict).keys {
			x.(*dict).set(k, d.(*dict).vals[i])
		}
		return nil, nil //nolint:nilnil // none is nil
	},
	"copy": func(r *renderer, x value, _ callArgs) (value, error) {
		return callDict(r, []value{x}, nil)
	},
}

var listMethods = map[string]methodFunc{
	"append": func(r *renderer, x value, a callArgs) (value, error) {
		l := x.(*list) //nolint:forcetypeassert // a method of lists
		if len(a.pos) != 1 || l.tuple {
			return nil, failed("append takes one value, for a list")
		}
		l.items = append(l.items, a.pos[0])
		return nil, nil //nolint:nilnil // none is nil
	},
	"pop": func(r *renderer, x value, a callArgs) (value, error) {
		l := x.(*list) //nolint:forcetypeassert // a method of lists
		i := int64(len(l.items) - 1)
		if v, ok := a.get(0, "index"); ok {
			if i, ok = asInt(v); !ok {
				return nil, failed("pop takes a whole number")
			}
			if i < 0 {
				i += int64(len(l.items))
			}
		}
		if i < 0 || i >= int64(len(l.items)) || l.tuple {
			return nil, failed("there is no such item to pop")
		}
		v := l.items[i]
		l.items = slices.Delete(slices.Clone(l.items), int(i), int(i)+1)
		return v, r.charge(16 * len(l.items))
	},
	"index": func(r *renderer, x value, a callArgs) (value, error) {
		if len(a.pos) == 1 {
			for i, y := range x.(*list).items {
				if ok, err := r.equal(a.pos[0], y); ok || err != nil {
					return int64(i), err
				}
			}
		}
		return nil, failed("the value is not in the list")
	},
	"count": func(r *renderer, x value, a callArgs) (value, error) {
		n := int64(0)
		if len(a.pos) == 1 {
			for _, y := range x.(*list).items {
				ok, err := r.equal(a.pos[0], y)
				if err != nil {
					return nil, err
				}
				n += boolInt(ok)
			}
		}
		return n, nil
	},
}
