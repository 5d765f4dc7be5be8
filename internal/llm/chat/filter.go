package chat

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// filter is x|name(args).
type filter func(r *renderer, x value, a callArgs) (value, error)

var filters map[string]filter

func init() { //nolint:gochecknoinits // the table and the functions in it name one another
	filters = map[string]filter{
		"tojson": tojson, "from_json": filterFromJSON, "fromjson": filterFromJSON,
		"string": filterString, "safe": filterString, "trim": filterTrim, "replace": replace, "format": filterFormat,
		"upper":      func(r *renderer, x value, _ callArgs) (value, error) { return mapped(r, x, strings.ToUpper) },
		"lower":      func(r *renderer, x value, _ callArgs) (value, error) { return mapped(r, x, strings.ToLower) },
		"title":      func(r *renderer, x value, _ callArgs) (value, error) { return mapped(r, x, title) },
		"capitalize": func(r *renderer, x value, _ callArgs) (value, error) { return capitalize(r, x) },
		"escape":     filterEscape, "e": filterEscape, "indent": filterIndent,
		"length": filterLength, "count": filterLength, "first": filterFirst, "last": filterLast,
		"default": filterDefault, "d": filterDefault,
		"int": filterInt, "float": filterFloat, "abs": filterAbs, "round": filterRound,
		"list": filterList, "items": filterItems, "dictsort": filterDictsort, "join": filterJoin,
		"reverse": filterReverse, "sort": filterSort, "unique": filterUnique, "sum": filterSum,
		"min":    func(r *renderer, x value, a callArgs) (value, error) { return extreme(r, x, a, -1) },
		"max":    func(r *renderer, x value, a callArgs) (value, error) { return extreme(r, x, a, 1) },
		"map":    filterMap,
		"attr":   filterAttr,
		"select": func(r *renderer, x value, a callArgs) (value, error) { return selected(r, x, a, false, true) },
		"reject": func(r *renderer, x value, a callArgs) (value, error) { return selected(r, x, a, false, false) },
		"selectattr": func(r *renderer, x value, a callArgs) (value, error) {
			return selected(r, x, a, true, true)
		},
		"rejectattr": func(r *renderer, x value, a callArgs) (value, error) {
			return selected(r, x, a, true, false)
		},
	}
}

// tojson is the form that chat templates know: json.dumps, without the escaping of HTML that Jinja's own adds.
func tojson(r *renderer, x value, a callArgs) (value, error) {
	o := jsonStyle{indent: -1, item: ", ", pair: ": ", limit: r.limits.Output}
	if v, ok := a.get(0, "ensure_ascii"); ok {
		o.ascii = truth(v)
	}
	if v, ok := a.get(1, "indent"); ok && v != nil {
		n, ok := asInt(v)
		if !ok || n > 16 {
			return nil, failed("the indent of tojson is a whole number up to 16")
		}
		o.indent, o.item = int(max(n, 0)), ","
	}
	if v, ok := a.get(2, "separators"); ok && v != nil {
		l, ok := v.(*list)
		if !ok || len(l.items) != 2 {
			return nil, failed("the separators of tojson are two strings")
		}
		item, ok1 := l.items[0].(str)
		pair, ok2 := l.items[1].(str)
		if !ok1 || !ok2 {
			return nil, failed("the separators of tojson are two strings")
		}
		o.item, o.pair = item.s, pair.s
	}
	if v, ok := a.get(3, "sort_keys"); ok {
		o.sorted = truth(v)
	}
	var b strings.Builder
	if err := writeJSON(&b, x, o, 0); err != nil {
		if errors.Is(err, errTooLong) {
			return nil, r.tooLong()
		}
		return nil, err
	}
	return r.made(str{s: b.String(), t: !holdsForeign(x, 0)})
}

func filterFromJSON(r *renderer, x value, _ callArgs) (value, error) {
	s, ok := x.(str)
	if !ok {
		return nil, failed("from_json takes a string, not %s", typeName(x))
	}
	if err := r.charge(len(s.s)); err != nil {
		return nil, err
	}
	v, err := fromJSON([]byte(s.s))
	if err != nil {
		return nil, failed("the text is not JSON")
	}
	return v, nil
}

func filterString(r *renderer, x value, _ callArgs) (value, error) { return r.text(x) }

func filterTrim(r *renderer, x value, a callArgs) (value, error) {
	s, err := r.text(x)
	if err != nil {
		return nil, err
	}
	return strip(s, a, true, true)
}

func filterEscape(r *renderer, x value, _ callArgs) (value, error) {
	s, err := r.text(x)
	if err != nil {
		return nil, err
	}
	return r.made(s.mapRuns(strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;").Replace))
}

func filterIndent(r *renderer, x value, a callArgs) (value, error) {
	s, err := r.text(x)
	if err != nil {
		return nil, err
	}
	pad := lit("    ")
	if v, ok := a.get(0, "width"); ok {
		if t, ok := v.(str); ok {
			pad = t
		} else if n, ok := asInt(v); ok && n <= 1000 {
			pad = lit(strings.Repeat(" ", int(max(n, 0))))
		} else {
			return nil, failed("the width of indent is a string or a number up to 1000")
		}
	}
	first, _ := a.get(1, "first")
	blank, _ := a.get(2, "blank")
	if len(s.s)+len(pad.s)*(strings.Count(s.s, "\n")+1) > r.limits.Output {
		return nil, r.tooLong()
	}
	lines := s.split("\n", -1)
	var b rope
	for i, line := range lines {
		if i > 0 {
			b.put("\n", true)
		}
		if i == 0 && truth(first) || i > 0 && (line.s != "" || truth(blank)) {
			b.add(pad)
		}
		b.add(line)
	}
	return r.made(b.str())
}

func filterLength(r *renderer, x value, _ callArgs) (value, error) {
	switch x := x.(type) {
	case str:
		return int64(utf8.RuneCountInString(x.s)), r.charge(len(x.s))
	case *list:
		return int64(len(x.items)), nil
	case *dict:
		return int64(len(x.keys)), nil
	case undefined:
		return int64(0), nil
	}
	return nil, failed("%s has no length", typeName(x))
}

func filterFirst(r *renderer, x value, _ callArgs) (value, error) { return endOf(r, x, 0) }

func filterLast(r *renderer, x value, _ callArgs) (value, error) { return endOf(r, x, -1) }

func endOf(r *renderer, x value, at int) (value, error) {
	items, err := r.iterate(x)
	if err != nil || len(items) == 0 {
		return undefined{}, err
	}
	if at < 0 {
		at = len(items) - 1
	}
	return items[at], nil
}

func filterDefault(_ *renderer, x value, a callArgs) (value, error) {
	d, ok := a.get(0, "default_value")
	if !ok {
		d = lit("")
	}
	falsy, _ := a.get(1, "boolean")
	if _, no := x.(undefined); no || truth(falsy) && !truth(x) {
		return d, nil
	}
	return x, nil
}

func filterInt(_ *renderer, x value, a callArgs) (value, error) {
	d, ok := a.get(0, "default")
	if !ok {
		d = int64(0)
	}
	switch x := x.(type) {
	case str:
		t := strings.ReplaceAll(strings.TrimFunc(x.s, isSpace), "_", "")
		if i, err := strconv.ParseInt(t, 10, 64); err == nil {
			return i, nil
		}
		if f, err := strconv.ParseFloat(t, 64); err == nil && math.Abs(f) < 1<<63 {
			return int64(f), nil
		}
	case float64:
		if math.Abs(x) < 1<<63 {
			return int64(x), nil
		}
	case undefined:
		return nil, failed("%s is undefined and is no number", nameOf(x))
	}
	if i, ok := asInt(x); ok {
		return i, nil
	}
	return d, nil
}

func filterFloat(_ *renderer, x value, a callArgs) (value, error) {
	d, ok := a.get(0, "default")
	if !ok {
		d = 0.0
	}
	if f, ok := asNumber(x); ok {
		return f, nil
	}
	if s, ok := x.(str); ok {
		if f, err := strconv.ParseFloat(strings.TrimFunc(s.s, isSpace), 64); err == nil {
			return f, nil
		}
	}
	return d, nil
}

func filterAbs(_ *renderer, x value, _ callArgs) (value, error) {
	if i, ok := asInt(x); ok && i != math.MinInt64 {
		return max(i, -i), nil
	}
	if f, ok := x.(float64); ok {
		return math.Abs(f), nil
	}
	return nil, failed("%s has no absolute value", typeName(x))
}

func filterRound(_ *renderer, x value, a callArgs) (value, error) {
	f, ok := asNumber(x)
	if !ok {
		return nil, failed("%s cannot be rounded", typeName(x))
	}
	digits, method := int64(0), "common"
	if v, ok := a.get(0, "precision"); ok {
		digits, _ = asInt(v)
	}
	if v, ok := a.get(1, "method"); ok {
		if s, ok := v.(str); ok {
			method = s.s
		}
	}
	scale := math.Pow(10, float64(min(max(digits, -300), 300)))
	switch method {
	case "ceil":
		return math.Ceil(f*scale) / scale, nil
	case "floor":
		return math.Floor(f*scale) / scale, nil
	}
	if digits >= 0 {
		g, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(min(digits, 300)), 64), 64) // its own output
		return g, nil
	}
	return math.RoundToEven(f*scale) / scale, nil
}

func filterList(r *renderer, x value, _ callArgs) (value, error) {
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	return &list{items: slices.Clone(items)}, r.charge(16 * len(items))
}

func filterItems(_ *renderer, x value, _ callArgs) (value, error) {
	switch x := x.(type) {
	case *dict:
		return x.items(), nil
	case undefined:
		return &list{}, nil
	}
	return nil, failed("only a mapping has items, not %s", typeName(x))
}

// fold returns the form of a value that comparisons without regard to case use.
func fold(v value) value {
	if s, ok := v.(str); ok {
		return lit(strings.ToLower(s.s))
	}
	return v
}

// sorted sorts items by key, stable; the first error of a comparison ends it.
func (r *renderer) sorted(items []value, key func(value) (value, error), reverse bool) error {
	type pair struct{ k, v value }
	pairs := make([]pair, len(items))
	for i, x := range items {
		k, err := key(x)
		if err != nil {
			return err
		}
		pairs[i] = pair{k, x}
	}
	var failure error
	slices.SortStableFunc(pairs, func(a, b pair) int {
		if failure != nil {
			return 0
		}
		c, err := r.compare(a.k, b.k)
		if err != nil {
			failure = err
		}
		if reverse {
			return -c
		}
		return c
	})
	for i, p := range pairs {
		items[i] = p.v
	}
	return failure
}

func filterDictsort(r *renderer, x value, a callArgs) (value, error) {
	d, ok := x.(*dict)
	if !ok {
		return nil, failed("dictsort sorts a mapping, not %s", typeName(x))
	}
	exact, _ := a.get(0, "case_sensitive")
	by, _ := a.get(1, "by")
	reverse, _ := a.get(2, "reverse")
	at := 0
	if s, ok := by.(str); ok && s.s == "value" {
		at = 1
	}
	l := d.items()
	return l, r.sorted(l.items, func(p value) (value, error) {
		k := p.(*list).items[at] //nolint:forcetypeassert // items are pairs
		if !truth(exact) {
			k = fold(k)
		}
		return k, nil
	}, truth(reverse))
}

// path returns what an attribute argument means: a name, dotted names, or an index.
func (r *renderer) path(x, attr value) (value, error) {
	s, ok := attr.(str)
	if !ok {
		return r.item(x, attr)
	}
	for name := range strings.SplitSeq(s.s, ".") {
		var k value = s.like(name)
		if i, err := strconv.ParseInt(name, 10, 64); err == nil {
			k = i
		}
		if _, no := x.(undefined); no {
			return undefined{name}, nil
		}
		var err error
		if x, err = r.item(x, k); err != nil {
			return nil, err
		}
	}
	return x, r.step()
}

// keyOf makes the function that the arguments attribute and case_sensitive of sort, unique, min and max stand for.
func (r *renderer) keyOf(attr, exact value) func(value) (value, error) {
	return func(x value) (value, error) {
		if attr != nil {
			var err error
			if x, err = r.path(x, attr); err != nil {
				return nil, err
			}
		}
		if !truth(exact) {
			x = fold(x)
		}
		return x, nil
	}
}

func filterSort(r *renderer, x value, a callArgs) (value, error) {
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	reverse, _ := a.get(0, "reverse")
	exact, _ := a.get(1, "case_sensitive")
	attr, _ := a.get(2, "attribute")
	items = slices.Clone(items)
	return &list{items: items}, r.sorted(items, r.keyOf(attr, exact), truth(reverse))
}

func filterUnique(r *renderer, x value, a callArgs) (value, error) {
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	exact, _ := a.get(0, "case_sensitive")
	attr, _ := a.get(1, "attribute")
	key := r.keyOf(attr, exact)
	seen := newDict()
	out := &list{}
	for _, v := range items {
		k, err := key(v)
		if err != nil {
			return nil, err
		}
		if _, twice := seen.get(k); twice {
			continue
		}
		if !seen.set(k, nil) {
			return nil, failed("%s cannot be compared", typeName(k))
		}
		out.items = append(out.items, v)
	}
	return out, nil
}

func extreme(r *renderer, x value, a callArgs, sign int) (value, error) {
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	exact, _ := a.get(0, "case_sensitive")
	attr, _ := a.get(1, "attribute")
	key := r.keyOf(attr, exact)
	var best value = undefined{}
	var bestKey value
	for i, v := range items {
		k, err := key(v)
		if err != nil {
			return nil, err
		}
		c := sign
		if i > 0 {
			if c, err = r.compare(k, bestKey); err != nil {
				return nil, err
			}
		}
		if cmp.Compare(c*sign, 0) > 0 {
			best, bestKey = v, k
		}
	}
	return best, nil
}

func filterSum(r *renderer, x value, a callArgs) (value, error) {
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	attr, _ := a.get(0, "attribute")
	total, ok := a.get(1, "start")
	if !ok {
		total = int64(0)
	}
	for _, v := range items {
		if attr != nil {
			if v, err = r.path(v, attr); err != nil {
				return nil, err
			}
		}
		if total, err = r.binary("+", total, v); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func filterJoin(r *renderer, x value, a callArgs) (value, error) {
	sep := lit("")
	if v, ok := a.get(0, "d"); ok {
		var err error
		if sep, err = r.text(v); err != nil {
			return nil, err
		}
	}
	attr, _ := a.get(1, "attribute")
	if attr != nil {
		items, err := r.iterate(x)
		if err != nil {
			return nil, err
		}
		l := &list{}
		for _, v := range items {
			if v, err = r.path(v, attr); err != nil {
				return nil, err
			}
			l.items = append(l.items, v)
		}
		x = l
	}
	return joined(r, x, sep)
}

func joined(r *renderer, x value, sep str) (value, error) {
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	var b rope
	for i, v := range items {
		t, err := r.text(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.add(sep)
		}
		if b.add(t); b.len() > r.limits.Output {
			return nil, r.tooLong()
		}
	}
	return r.made(b.str())
}

func filterReverse(r *renderer, x value, _ callArgs) (value, error) {
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	l := &list{items: items}
	if _, ok := x.(str); ok {
		return joined(r, l, lit(""))
	}
	return l, nil
}

func filterAttr(r *renderer, x value, a callArgs) (value, error) {
	if len(a.pos) != 1 {
		return nil, failed("attr takes one name")
	}
	return r.path(x, a.pos[0])
}

func filterMap(r *renderer, x value, a callArgs) (value, error) {
	if !truth(x) { // none, too
		return &list{}, nil
	}
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	out := &list{}
	attr, byAttr := callArgs{named: a.named}.get(0, "attribute")
	def, hasDef := callArgs{named: a.named}.get(0, "default")
	var f filter
	if !byAttr {
		name, _ := a.get(0, "")
		s, ok := name.(str)
		if f = filters[s.s]; !ok || f == nil {
			return nil, failed("map needs the name of a filter or attribute=")
		}
	}
	for _, v := range items {
		if err := r.step(); err != nil {
			return nil, err
		}
		if byAttr {
			v, err = r.path(v, attr)
			if _, no := v.(undefined); no && hasDef {
				v = def
			}
		} else {
			v, err = f(r, v, callArgs{a.pos[1:], a.named})
		}
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, v)
	}
	return out, nil
}

// selected keeps the items for which a test holds (or, with want false, does not): of the item, or of one of its attributes.
func selected(r *renderer, x value, a callArgs, byAttr, want bool) (value, error) {
	if !truth(x) { // none, too
		return &list{}, nil
	}
	items, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	pos := a.pos
	var attr value
	if byAttr {
		if len(pos) == 0 {
			return nil, failed("selectattr and rejectattr need the name of an attribute")
		}
		attr, pos = pos[0], pos[1:]
	}
	check := func(_ *renderer, v value, _ []value) (bool, error) { return truth(v), nil }
	if len(pos) > 0 {
		name, _ := pos[0].(str)
		t := boolTests[name.s]
		if t == nil {
			return nil, failed("there is no test %.40q", name.s)
		}
		check, pos = t, pos[1:]
	}
	out := &list{}
	for _, v := range items {
		if err := r.step(); err != nil {
			return nil, err
		}
		k := v
		if byAttr {
			if k, err = r.path(v, attr); err != nil {
				return nil, err
			}
		}
		ok, err := check(r, k, pos)
		if err != nil {
			return nil, err
		}
		if ok == want {
			out.items = append(out.items, v)
		}
	}
	return out, nil
}
