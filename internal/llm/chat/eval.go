package chat

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

func (e constExpr) eval(r *renderer) (value, error) { return e.v, r.step() }

func (e nameExpr) eval(r *renderer) (value, error) {
	if v, ok := r.scope.get(e.name); ok {
		return v, r.step()
	}
	return undefined(e), r.step()
}

func (r *renderer) evalAll(list []expr) ([]value, error) {
	out := make([]value, len(list))
	for i, x := range list {
		v, err := x.eval(r)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (e listExpr) eval(r *renderer) (value, error) {
	items, err := r.evalAll(e.items)
	if err != nil {
		return nil, err
	}
	return &list{items, e.tuple}, r.step()
}

func (e dictExpr) eval(r *renderer) (value, error) {
	d := newDict()
	for i := range e.keys {
		k, err := e.keys[i].eval(r)
		if err != nil {
			return nil, err
		}
		v, err := e.vals[i].eval(r)
		if err != nil {
			return nil, err
		}
		if !d.set(k, v) {
			return nil, failed("%s cannot be a key", typeName(k))
		}
	}
	return d, r.step()
}

func (e attrExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil {
		return nil, err
	}
	if u, ok := x.(undefined); ok {
		return nil, failed("%s is undefined and has no attribute %s", nameOf(u), e.name)
	}
	return r.attr(x, e.name), r.step()
}

func nameOf(u undefined) string {
	if u.name == "" {
		return "a value"
	}
	return u.name
}

// attr is x.name: a method first, then a key, as in Python.
func (r *renderer) attr(x value, name string) value {
	if m, ok := method(x, name); ok {
		return m
	}
	switch x := x.(type) {
	case *dict:
		if v, ok := x.get(lit(name)); ok {
			return v
		}
	case *namespace:
		if v, ok := x.fields.get(lit(name)); ok {
			return v
		}
	case *loopVars:
		return x.attr(name)
	case *macro:
		if name == "name" {
			return lit(x.stmt.name)
		}
	}
	return undefined{name}
}

func (e itemExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil {
		return nil, err
	}
	k, err := e.key.eval(r)
	if err != nil {
		return nil, err
	}
	if err := r.step(); err != nil {
		return nil, err
	}
	return r.item(x, k)
}

// item is x[k]: a key or index first, then an attribute.
func (r *renderer) item(x, k value) (value, error) {
	switch x := x.(type) {
	case undefined:
		return nil, failed("%s is undefined and has no items", nameOf(x))
	case *dict:
		if v, ok := x.get(k); ok {
			return v, nil
		}
	case *list:
		if i, ok := asInt(k); ok {
			if i < 0 {
				i += int64(len(x.items))
			}
			if i >= 0 && i < int64(len(x.items)) {
				return x.items[i], nil
			}
			return undefined{}, nil
		}
	case str:
		if i, ok := asInt(k); ok {
			at := x.runeOffsets()
			if i < 0 {
				i += int64(len(at) - 1)
			}
			if i >= 0 && i < int64(len(at)-1) {
				return x.slice(at[i], at[i+1]), r.charge(len(x.s))
			}
			return undefined{}, nil
		}
	}
	if s, ok := k.(str); ok {
		if _, isDict := x.(*dict); isDict {
			if m, ok := method(x, s.s); ok {
				return m, nil
			}
			return undefined{s.s}, nil
		}
		return r.attr(x, s.s), nil
	}
	return undefined{}, nil
}

func (e sliceExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil {
		return nil, err
	}
	var at [3]*int64
	for i, b := range []expr{e.from, e.to, e.step} {
		if b == nil {
			continue
		}
		v, err := b.eval(r)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		n, ok := asInt(v)
		if !ok {
			return nil, failed("the bounds of a slice are whole numbers, not %s", typeName(v))
		}
		at[i] = &n
	}
	if at[2] != nil && *at[2] == 0 {
		return nil, failed("the step of a slice cannot be 0")
	}
	switch x := x.(type) {
	case *list:
		out := &list{tuple: x.tuple}
		for i, step, n := bounds(at, len(x.items)); n > 0; n-- {
			out.items = append(out.items, x.items[i])
			i += step
		}
		return out, r.many(len(out.items))
	case str:
		offs := x.runeOffsets()
		i, step, n := bounds(at, len(offs)-1)
		if step == 1 {
			return x.slice(offs[i], offs[i+n]), r.charge(len(x.s))
		}
		var b rope
		for ; n > 0; n-- {
			b.add(x.slice(offs[i], offs[i+1]))
			i += step
		}
		return r.made(b.str())
	}
	return nil, failed("%s has no slices", typeName(x))
}

// bounds applies the rules of Python's slices: start, step and number of items.
func bounds(at [3]*int64, size int) (start, step, n int) {
	const far = 1 << 40
	step = 1
	if at[2] != nil {
		step = int(min(max(*at[2], -far), far))
	}
	lo, hi := 0, size
	if step < 0 {
		lo, hi = -1, size-1
	}
	fit := func(p *int64, none int) int {
		if p == nil {
			return none
		}
		i := int(min(max(*p, -far), far))
		if i < 0 {
			i += size
		}
		return min(max(i, lo), hi)
	}
	if step > 0 {
		start = fit(at[0], 0)
		n = (fit(at[1], size) - start + step - 1) / step
	} else {
		start = fit(at[0], size-1)
		n = (start - fit(at[1], -1) - step - 1) / -step
	}
	if n <= 0 {
		return 0, step, 0
	}
	return start, step, n
}

// callArgs are the values of a call.
type callArgs struct {
	pos   []value
	named []namedValue
}

// get returns the argument at place i or of that name.
func (a callArgs) get(i int, name string) (value, bool) {
	if i < len(a.pos) {
		return a.pos[i], true
	}
	for _, n := range a.named {
		if n.name == name {
			return n.v, true
		}
	}
	return nil, false
}

func (a args) eval(r *renderer) (callArgs, error) {
	pos, err := r.evalAll(a.pos)
	if err != nil {
		return callArgs{}, err
	}
	c := callArgs{pos: pos}
	for i, x := range a.named {
		v, err := x.eval(r)
		if err != nil {
			return c, err
		}
		c.named = append(c.named, namedValue{a.names[i], v})
	}
	return c, nil
}

func (e callExpr) eval(r *renderer) (value, error) {
	fn, err := e.fn.eval(r)
	if err != nil {
		return nil, err
	}
	a, err := e.args.eval(r)
	if err != nil {
		return nil, err
	}
	if err := r.step(); err != nil {
		return nil, err
	}
	switch fn := fn.(type) {
	case builtin:
		return fn.call(r, a.pos, a.named)
	case *macro:
		return fn.call(r, a.pos, a.named)
	case undefined:
		return nil, failed("%s is undefined and cannot be called", nameOf(fn))
	}
	return nil, failed("%s cannot be called", typeName(fn))
}

func (e *filterExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil {
		return nil, err
	}
	return e.filter(r, x)
}

func (e *filterExpr) filter(r *renderer, x value) (value, error) {
	a, err := e.args.eval(r)
	if err != nil {
		return nil, err
	}
	if err := r.step(); err != nil {
		return nil, err
	}
	return e.fn(r, x, a)
}

// apply filters the text of a block through the chain.
func (e *filterExpr) apply(r *renderer, text str) (value, error) {
	var x value = text
	if inner, ok := e.x.(*filterExpr); ok {
		var err error
		if x, err = inner.apply(r, text); err != nil {
			return nil, err
		}
	}
	return e.filter(r, x)
}

func (e testExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil {
		return nil, err
	}
	a, err := r.evalAll(e.args)
	if err != nil {
		return nil, err
	}
	if err := r.step(); err != nil {
		return nil, err
	}
	return e.fn(r, x, a)
}

func (e condExpr) eval(r *renderer) (value, error) {
	t, err := e.test.eval(r)
	switch {
	case err != nil:
		return nil, err
	case truth(t):
		return e.yes.eval(r)
	case e.no == nil:
		return undefined{}, nil
	}
	return e.no.eval(r)
}

func (e notExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	return !truth(x), err
}

func (e andExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil || !truth(x) {
		return x, err
	}
	return e.y.eval(r)
}

func (e orExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil || truth(x) {
		return x, err
	}
	return e.y.eval(r)
}

func (e signExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil {
		return nil, err
	}
	if i, ok := asInt(x); ok {
		return -i, r.step()
	}
	if f, ok := x.(float64); ok {
		return -f, r.step()
	}
	return nil, failed("%s has no sign", typeName(x))
}

func (e concatExpr) eval(r *renderer) (value, error) {
	var b rope
	for _, x := range e.items {
		v, err := x.eval(r)
		if err != nil {
			return nil, err
		}
		t, err := r.text(v)
		if err != nil {
			return nil, err
		}
		if b.add(t); b.len() > r.limits.Output {
			return nil, r.tooLong()
		}
	}
	return r.made(b.str())
}

func (e compareExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil {
		return nil, err
	}
	for i, op := range e.ops {
		y, err := e.ys[i].eval(r)
		if err != nil {
			return nil, err
		}
		ok, err := r.holds(op, x, y)
		if err != nil || !ok {
			return false, err
		}
		x = y
	}
	return true, nil
}

// holds reports whether x op y.
func (r *renderer) holds(op string, x, y value) (bool, error) {
	switch op {
	case "==":
		return r.equal(x, y)
	case "!=":
		same, err := r.equal(x, y)
		return !same, err
	case "in":
		return r.contains(y, x)
	case "not in":
		in, err := r.contains(y, x)
		return !in, err
	}
	c, err := r.compare(x, y)
	switch op {
	case "<":
		return c < 0, err
	case "<=":
		return c <= 0, err
	case ">":
		return c > 0, err
	}
	return c >= 0, err
}

func (r *renderer) contains(in, x value) (bool, error) {
	switch in := in.(type) {
	case str:
		s, ok := x.(str)
		if !ok {
			return false, failed("only a string can be in a string, not %s", typeName(x))
		}
		if len(in.s) > 4096 {
			if err := r.late(); err != nil {
				return false, err
			}
		}
		return strings.Contains(in.s, s.s), nil
	case *list:
		for _, y := range in.items {
			if ok, err := r.equal(x, y); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	case *dict:
		_, ok := in.get(x)
		return ok, nil
	case undefined:
		return false, nil
	}
	return false, failed("%s holds no values", typeName(in))
}

// iterate gives the values of a loop.
func (r *renderer) iterate(v value) ([]value, error) {
	switch v := v.(type) {
	case *list:
		return slices.Clip(v.items), nil
	case *dict:
		return slices.Clip(v.keys), nil
	case str:
		n := utf8.RuneCountInString(v.s)
		if err := r.many(n); err != nil {
			return nil, err
		}
		out := make([]value, 0, n)
		at := v.runeOffsets()
		for i := range n {
			out = append(out, v.slice(at[i], at[i+1]))
		}
		return out, r.charge(64 * n)
	case undefined:
		return nil, nil
	}
	return nil, failed("%s cannot be looped over", typeName(v))
}

func (e binaryExpr) eval(r *renderer) (value, error) {
	x, err := e.x.eval(r)
	if err != nil {
		return nil, err
	}
	y, err := e.y.eval(r)
	if err != nil {
		return nil, err
	}
	if err := r.step(); err != nil {
		return nil, err
	}
	return r.binary(e.op, x, y)
}

func (r *renderer) binary(op string, x, y value) (value, error) {
	switch a := x.(type) {
	case str:
		if b, ok := y.(str); ok && op == "+" {
			if err := r.charge(len(a.s) + len(b.s)); err != nil {
				return nil, err
			}
			return concat(a, b), nil
		}
		if op == "%" {
			return r.percent(a, y)
		}
		if n, ok := asInt(y); ok && op == "*" {
			return r.repeat(a, n)
		}
	case *list:
		if b, ok := y.(*list); ok && op == "+" && a.tuple == b.tuple {
			if err := r.many(len(a.items) + len(b.items)); err != nil {
				return nil, err
			}
			if err := r.charge(16 * (len(a.items) + len(b.items))); err != nil {
				return nil, err
			}
			return &list{append(append(make([]value, 0, len(a.items)+len(b.items)), a.items...), b.items...), a.tuple}, nil
		}
	}
	if b, ok := y.(str); ok && op == "*" {
		if n, ok := asInt(x); ok {
			return r.repeat(b, n)
		}
	}
	i, iok := asInt(x)
	j, jok := asInt(y)
	if iok && jok {
		return integers(op, i, j)
	}
	f, fok := asNumber(x)
	g, gok := asNumber(y)
	if fok && gok {
		return floats(op, f, g)
	}
	return nil, failed("%s %s %s is not possible", typeName(x), op, typeName(y))
}

func (r *renderer) repeat(s str, n int64) (value, error) {
	if n <= 0 {
		return lit(""), nil
	}
	if n > int64(r.limits.Output) || int64(len(s.s))*n > int64(r.limits.Output) {
		return nil, r.tooLong()
	}
	var b rope
	for range n {
		b.add(s)
	}
	return r.made(b.str())
}

var errDivision = ErrFailed.With("division by zero")

func integers(op string, a, b int64) (value, error) {
	switch op {
	case "+":
		if c := a + b; (c > a) == (b > 0) {
			return c, nil
		}
	case "-":
		if c := a - b; (c < a) == (b > 0) {
			return c, nil
		}
	case "*":
		if a == 0 || b == 0 {
			return int64(0), nil
		}
		if c := a * b; c/b == a && (a != -1 || b != math.MinInt64) && (b != -1 || a != math.MinInt64) {
			return c, nil
		}
	case "**":
		return power(a, b)
	case "/":
		if b == 0 {
			return nil, errDivision
		}
		return float64(a) / float64(b), nil
	case "//", "%":
		if b == 0 {
			return nil, errDivision
		}
		if a == math.MinInt64 && b == -1 {
			break
		}
		q, m := a/b, a%b
		if m != 0 && (m < 0) != (b < 0) { // Python rounds down
			q--
			m += b
		}
		if op == "%" {
			return m, nil
		}
		return q, nil
	}
	return nil, failed("a number is beyond 64 bits")
}

func power(a, b int64) (value, error) {
	if b < 0 {
		return floats("**", float64(a), float64(b))
	}
	c := int64(1)
	for range min(b, 64) {
		v, err := integers("*", c, a)
		if err != nil {
			return nil, err
		}
		c = v.(int64) //nolint:forcetypeassert // the product of two int64
	}
	if b > 64 && a != 0 && a != 1 && a != -1 {
		return nil, failed("a number is beyond 64 bits")
	}
	if a == -1 {
		c = 1 - 2*(b%2)
	}
	return c, nil
}

func floats(op string, a, b float64) (value, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "**":
		return math.Pow(a, b), nil
	}
	if b == 0 {
		return nil, errDivision
	}
	switch op {
	case "/":
		return a / b, nil
	case "//":
		return math.Floor(a / b), nil
	}
	m := math.Mod(a, b)
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return m, nil
}
