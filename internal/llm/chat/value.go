package chat

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// value is what a template computes with: nil (none), undefined, bool, int64, float64, bigInt, str, *list, *dict, *namespace, *macro, builtin.
type value any

// undefined is a name or key that does not exist.
type undefined struct{ name string }

// bigInt is a whole number of the input beyond 64 bits: it can only be printed.
type bigInt string

type list struct {
	items []value
	tuple bool
}

// namespace is the one kind of object whose fields a loop may set.
type namespace struct{ fields *dict }

// builtin is a function of the language or a method bound to its object.
type builtin struct {
	name string
	call func(r *renderer, pos []value, named []namedValue) (value, error)
}

type namedValue struct {
	name string
	v    value
}

// dict keeps its order, as Python's does.
type dict struct {
	keys []value
	vals []value
	at   map[any]int
}

func newDict() *dict { return &dict{at: map[any]int{}} }

// maxTupleKey bounds tuples as keys of a mapping, in bytes.
const maxTupleKey = 4096

// hash returns what two equal keys share; ok is false for values that cannot be keys.
func hash(k value) (h any, ok bool) {
	switch k := k.(type) {
	case str:
		return k.s, true
	case bool:
		return boolInt(k), true
	case float64:
		if i := int64(k); float64(i) == k {
			return i, true
		}
		return k, true
	case nil, int64:
		return k, true
	case *list:
		var b strings.Builder
		if k.tuple && writeRepr(&b, k, maxTupleKey, 0) {
			return "\x00" + b.String(), true
		}
	}
	return nil, false
}

func (d *dict) get(k value) (value, bool) {
	h, ok := hash(k)
	if !ok {
		return nil, false
	}
	i, ok := d.at[h]
	if !ok {
		return nil, false
	}
	return d.vals[i], true
}

func (d *dict) set(k, v value) bool {
	h, ok := hash(k)
	if !ok {
		return false
	}
	if i, ok := d.at[h]; ok {
		d.vals[i] = v
		return true
	}
	d.at[h] = len(d.keys)
	d.keys = append(d.keys, k)
	d.vals = append(d.vals, v)
	return true
}

func (d *dict) put(k string, v value) { d.set(lit(k), v) }

func (d *dict) delete(k value) {
	h, ok := hash(k)
	if !ok {
		return
	}
	i, ok := d.at[h]
	if !ok {
		return
	}
	d.keys = slices.Delete(slices.Clone(d.keys), i, i+1)
	d.vals = slices.Delete(slices.Clone(d.vals), i, i+1)
	delete(d.at, h)
	for k, j := range d.at {
		if j > i {
			d.at[k] = j - 1
		}
	}
}

// items returns the pairs as tuples.
func (d *dict) items() *list {
	l := &list{items: make([]value, len(d.keys))}
	for i := range d.keys {
		l.items[i] = &list{items: []value{d.keys[i], d.vals[i]}, tuple: true}
	}
	return l
}

// truth is Python's bool().
func truth(v value) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case str:
		return v.s != ""
	case *list:
		return len(v.items) > 0
	case *dict:
		return len(v.keys) > 0
	}
	return true
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// asInt and asNumber read numbers; booleans are 0 and 1, as in Python.
func asInt(v value) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case bool:
		return boolInt(v), true
	}
	return 0, false
}

func asNumber(v value) (float64, bool) {
	if f, ok := v.(float64); ok {
		return f, true
	}
	i, ok := asInt(v)
	return float64(i), ok
}

// equal is Python's ==. Each pair visited costs a step: lists can hold one another many times.
func (r *renderer) equal(a, b value) (bool, error) {
	if err := r.step(); err != nil {
		return false, err
	}
	if x, ok := asInt(a); ok {
		if y, ok := asInt(b); ok {
			return x == y, nil
		}
	}
	if x, ok := asNumber(a); ok {
		y, ok := asNumber(b)
		return ok && x == y, nil
	}
	switch x := a.(type) {
	case undefined:
		_, ok := b.(undefined)
		return ok, nil
	case str:
		y, ok := b.(str)
		return ok && x.s == y.s, nil
	case *list:
		y, ok := b.(*list)
		if !ok || x.tuple != y.tuple || len(x.items) != len(y.items) {
			return false, nil
		}
		for i := range x.items {
			if ok, err := r.equal(x.items[i], y.items[i]); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case *dict:
		y, ok := b.(*dict)
		if !ok || len(x.keys) != len(y.keys) {
			return false, nil
		}
		for i, k := range x.keys {
			w, ok := y.get(k)
			if !ok {
				return false, nil
			}
			if ok, err := r.equal(x.vals[i], w); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case builtin:
		y, ok := b.(builtin)
		return ok && x.name == y.name, nil
	case *namespace, *macro, bigInt, nil:
		return a == b, nil
	}
	return false, nil
}

// compare orders numbers, strings and lists; other pairs have no order.
func (r *renderer) compare(a, b value) (int, error) {
	if err := r.step(); err != nil {
		return 0, err
	}
	if x, ok := asInt(a); ok {
		if y, ok := asInt(b); ok {
			return cmp.Compare(x, y), nil
		}
	}
	if x, ok := asNumber(a); ok {
		if y, ok := asNumber(b); ok {
			return cmp.Compare(x, y), nil
		}
	}
	switch x := a.(type) {
	case str:
		if y, ok := b.(str); ok {
			return strings.Compare(x.s, y.s), nil
		}
	case *list:
		if y, ok := b.(*list); ok && x.tuple == y.tuple {
			for i := range min(len(x.items), len(y.items)) {
				if same, err := r.equal(x.items[i], y.items[i]); !same || err != nil {
					if err != nil {
						return 0, err
					}
					return r.compare(x.items[i], y.items[i])
				}
			}
			return cmp.Compare(len(x.items), len(y.items)), nil
		}
	}
	return 0, failed("%s and %s have no order", typeName(a), typeName(b))
}

func typeName(v value) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case undefined:
		return "an undefined value"
	case bool:
		return "a boolean"
	case int64, float64, bigInt:
		return "a number"
	case str:
		return "a string"
	case *list:
		if v.tuple {
			return "a tuple"
		}
		return "a list"
	case *dict:
		return "a mapping"
	case *namespace:
		return "a namespace"
	}
	return "a function"
}

// text is Python's str(): what printing shows.
func (r *renderer) text(v value) (str, error) {
	switch v := v.(type) {
	case str:
		return v, nil
	case undefined:
		return lit(""), nil
	}
	s, err := r.repr(v)
	if err != nil {
		return str{}, err
	}
	return str{s: s, t: !holdsForeign(v, 0)}, nil
}

// holdsForeign reports whether a string within v came from the conversation.
func holdsForeign(v value, depth int) bool {
	if depth > maxDepth {
		return true
	}
	switch v := v.(type) {
	case str:
		return !v.trusted()
	case *list:
		return slices.ContainsFunc(v.items, func(x value) bool { return holdsForeign(x, depth+1) })
	case *dict:
		f := func(x value) bool { return holdsForeign(x, depth+1) }
		return slices.ContainsFunc(v.keys, f) || slices.ContainsFunc(v.vals, f)
	case *namespace:
		return true
	}
	return false
}

// maxDepth bounds recursion into values. A template can put a list into itself.
const maxDepth = 200

// repr is Python's repr().
func (r *renderer) repr(v value) (string, error) {
	b := strings.Builder{}
	if !writeRepr(&b, v, r.limits.Output, 0) {
		return "", r.tooLong()
	}
	return b.String(), r.charge(b.Len())
}

// writeRepr returns false when it went over the limit of bytes.
func writeRepr(b *strings.Builder, v value, limit, depth int) bool {
	if b.Len() > limit || depth > maxDepth {
		return false
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case bigInt:
		b.WriteString(string(v))
	case float64:
		b.WriteString(floatText(v))
	case str:
		quote(b, v.s)
	case *list:
		open, end := "[", "]"
		if v.tuple {
			open, end = "(", ")"
			if len(v.items) == 1 {
				end = ",)"
			}
		}
		b.WriteString(open)
		for i, x := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			if !writeRepr(b, x, limit, depth+1) {
				return false
			}
		}
		b.WriteString(end)
	case *dict:
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			if !writeRepr(b, k, limit, depth+1) {
				return false
			}
			b.WriteString(": ")
			if !writeRepr(b, v.vals[i], limit, depth+1) {
				return false
			}
		}
		b.WriteByte('}')
	case undefined:
		b.WriteString("Undefined")
	case *namespace:
		b.WriteString("<Namespace>") // its fields may hold itself
	case *macro:
		b.WriteString("<Macro '" + v.stmt.name + "'>")
	case builtin:
		b.WriteString("<function " + v.name + ">")
	}
	return true
}

// quote writes a string as Python spells it.
func quote(b *strings.Builder, s string) {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7F || r > 0x7F && r < 0x100 && !unicode.IsPrint(r):
			fmt.Fprintf(b, `\x%02x`, r)
		case r < 0x10000 && !unicode.IsPrint(r):
			fmt.Fprintf(b, `\u%04x`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte(q)
}

// floatText is Python's repr of a float.
func floatText(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	e := strconv.FormatFloat(f, 'e', -1, 64)
	exp, _ := strconv.Atoi(e[strings.IndexByte(e, 'e')+1:])
	if exp < -4 || exp >= 16 {
		return e
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// jsonStyle is how json.dumps was asked to write.
type jsonStyle struct {
	ascii      bool
	indent     int // -1 = one line
	item, pair string
	sorted     bool
	limit      int // bytes
}

var errTooLong = errors.New("too long")

// writeJSON is Python's json.dumps. It fails on what is not JSON.
func writeJSON(b *strings.Builder, v value, o jsonStyle, depth int) error {
	if depth > maxDepth || b.Len() > o.limit {
		return errTooLong
	}
	newline := func(n int) {
		if o.indent >= 0 {
			b.WriteByte('\n')
			b.WriteString(strings.Repeat(" ", o.indent*n))
		}
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64, bigInt:
		writeRepr(b, v, o.limit, depth)
	case float64:
		s := floatText(v)
		b.WriteString(strings.NewReplacer("inf", "Infinity", "nan", "NaN").Replace(s))
	case str:
		jsonString(b, v.s, o.ascii)
	case *list:
		if len(v.items) == 0 {
			b.WriteString("[]")
			return nil
		}
		b.WriteByte('[')
		for i, x := range v.items {
			if i > 0 {
				b.WriteString(o.item)
			}
			newline(depth + 1)
			if err := writeJSON(b, x, o, depth+1); err != nil {
				return err
			}
		}
		newline(depth)
		b.WriteByte(']')
	case *dict:
		return writeJSONDict(b, v, o, depth, newline)
	default:
		return failed("%s is not JSON", typeName(v))
	}
	return nil
}

func writeJSONDict(b *strings.Builder, d *dict, o jsonStyle, depth int, newline func(int)) error {
	if len(d.keys) == 0 {
		b.WriteString("{}")
		return nil
	}
	order := make([]int, len(d.keys))
	for i := range order {
		order[i] = i
	}
	if o.sorted {
		slices.SortStableFunc(order, func(i, j int) int { return strings.Compare(keyText(d.keys[i]), keyText(d.keys[j])) })
	}
	b.WriteByte('{')
	for n, i := range order {
		if n > 0 {
			b.WriteString(o.item)
		}
		newline(depth + 1)
		switch k := d.keys[i].(type) {
		case str:
			jsonString(b, k.s, o.ascii)
		case nil, bool, int64, float64, bigInt:
			b.WriteByte('"')
			if err := writeJSON(b, k, o, depth); err != nil {
				return err
			}
			b.WriteByte('"')
		default:
			return failed("%s cannot be a key in JSON", typeName(k))
		}
		b.WriteString(o.pair)
		if err := writeJSON(b, d.vals[i], o, depth+1); err != nil {
			return err
		}
	}
	newline(depth)
	b.WriteByte('}')
	return nil
}

func keyText(k value) string {
	if s, ok := k.(str); ok {
		return s.s
	}
	var b strings.Builder
	writeRepr(&b, k, maxTupleKey, 0)
	return b.String()
}

func jsonString(b *strings.Builder, s string, ascii bool) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r < ' ' || ascii && r > '~' && r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		case ascii && r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// fromJSON reads JSON text; the order of keys is kept and every string is foreign.
func fromJSON(raw []byte) (value, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := readJSON(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err == nil {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

func readJSON(d *json.Decoder, depth int) (value, error) {
	if depth > maxDepth {
		return nil, errors.New("JSON nests too deep")
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			l := &list{}
			for d.More() {
				v, err := readJSON(d, depth+1)
				if err != nil {
					return nil, err
				}
				l.items = append(l.items, v)
			}
			_, err = d.Token()
			return l, err
		}
		m := newDict()
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := readJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			m.set(foreign(fmt.Sprint(k)), v)
		}
		_, err = d.Token()
		return m, err
	case string:
		return foreign(t), nil
	case json.Number:
		return jsonNumber(string(t)), nil
	case bool:
		return t, nil
	}
	return nil, nil //nolint:nilnil // none is nil
}

func jsonNumber(s string) value {
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i
		}
		return bigInt(s)
	}
	f, _ := strconv.ParseFloat(s, 64) // out of range gives an infinity, as Python does
	return f
}
