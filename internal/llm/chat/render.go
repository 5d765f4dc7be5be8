package chat

import (
	"errors"
	"maps"
	"time"
)

// renderer is one run of a template.
type renderer struct {
	limits Limits
	steps  int
	bytes  int // of strings made on the way
	depth  int // macro calls
	end    time.Time
	now    time.Time
	out    *rope
	scope  *scope
}

// scope holds the variables of a block; what it lacks is looked up in the one round it.
type scope struct {
	vars map[string]value
	up   *scope
}

func (s *scope) get(name string) (value, bool) {
	for ; s != nil; s = s.up {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

func (s *scope) set(name string, v value) {
	if s.vars == nil {
		s.vars = map[string]value{}
	}
	s.vars[name] = v
}

// macro is a block of a template that can be called.
type macro struct {
	stmt  *macroStmt
	scope *scope // where it was defined
}

// break and continue leave the statements of a loop as errors.
var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

// failed is an error of the template on this conversation.
func failed(words string, a ...any) error { return ErrFailed.With(words, a...) }

// memory is how many times the limit of the output all strings on the way may take together.
const memory = 16

// step counts work: an expression, a statement, a round of a loop.
func (r *renderer) step() error {
	if r.steps++; r.steps > r.limits.Steps {
		return ErrLimit.With("the chat template takes more than %d steps", r.limits.Steps)
	}
	if r.steps%256 == 0 {
		return r.late()
	}
	return nil
}

func (r *renderer) late() error {
	if time.Now().After(r.end) {
		return ErrLimit.With("the chat template takes longer than %s", r.limits.Time)
	}
	return nil
}

// charge counts the bytes of a string that was made.
func (r *renderer) charge(n int) error {
	if n > r.limits.Output {
		return r.tooLong()
	}
	if r.bytes += n; r.bytes > memory*r.limits.Output {
		return ErrLimit.With("the chat template makes more than %d bytes of text", memory*r.limits.Output)
	}
	if n > 4096 {
		return r.late()
	}
	return nil
}

func (r *renderer) tooLong() error {
	return ErrLimit.With("the chat template makes a text of more than %d bytes", r.limits.Output)
}

// made returns a string that was made, after counting it.
func (r *renderer) made(s str) (value, error) { return s, r.charge(len(s.s)) }

// many refuses lists beyond the number of steps.
func (r *renderer) many(n int) error {
	if n > r.limits.Steps {
		return ErrLimit.With("the chat template makes a list of more than %d values", r.limits.Steps)
	}
	return nil
}

func (r *renderer) run(body []stmt) error {
	for _, s := range body {
		if err := r.step(); err != nil {
			return err
		}
		if err := s.exec(r); err != nil {
			return err
		}
	}
	return nil
}

// inScope runs body with variables of its own.
func (r *renderer) inScope(s *scope, body []stmt) error {
	old := r.scope
	r.scope = s
	defer func() { r.scope = old }()
	return r.run(body)
}

// capture runs body in s and returns what it prints.
func (r *renderer) capture(s *scope, body []stmt) (str, error) {
	old := r.out
	r.out = &rope{}
	defer func() { r.out = old }()
	if err := r.inScope(s, body); err != nil {
		return str{}, err
	}
	text := r.out.str()
	return text, r.charge(len(text.s))
}

func (r *renderer) print(s str) error {
	if r.out.len()+len(s.s) > r.limits.Output {
		return r.tooLong()
	}
	r.out.add(s)
	return nil
}

func (s textStmt) exec(r *renderer) error { return r.print(s.text) }

func (s printStmt) exec(r *renderer) error {
	v, err := s.x.eval(r)
	if err != nil {
		return err
	}
	t, err := r.text(v)
	if err != nil {
		return err
	}
	return r.print(t)
}

func (s ifStmt) exec(r *renderer) error {
	for i, test := range s.tests {
		v, err := test.eval(r)
		if err != nil {
			return err
		}
		if truth(v) {
			return r.run(s.bodies[i])
		}
	}
	return r.run(s.other)
}

func (s forStmt) exec(r *renderer) error {
	v, err := s.in.eval(r)
	if err != nil {
		return err
	}
	items, err := r.iterate(v)
	if err != nil {
		return err
	}
	if s.filter != nil {
		if items, err = s.keep(r, items); err != nil {
			return err
		}
	}
	if len(items) == 0 {
		return r.inScope(&scope{up: r.scope}, s.empty)
	}
	loop := &loopVars{items: items}
	for i := range items {
		if err := r.step(); err != nil {
			return err
		}
		loop.i = i
		inner := &scope{up: r.scope}
		inner.set("loop", loop)
		if err := unpack(inner, s.target, items[i]); err != nil {
			return err
		}
		err := r.inScope(inner, s.body)
		if errors.Is(err, errBreak) {
			break
		}
		if err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
	return nil
}

// keep returns the items for which the condition of the loop holds.
func (s forStmt) keep(r *renderer, items []value) ([]value, error) {
	var out []value
	old := r.scope
	defer func() { r.scope = old }()
	for _, x := range items {
		r.scope = &scope{up: old}
		if err := unpack(r.scope, s.target, x); err != nil {
			return nil, err
		}
		v, err := s.filter.eval(r)
		if err != nil {
			return nil, err
		}
		if truth(v) {
			out = append(out, x)
		}
	}
	return out, nil
}

// unpack gives x to one name, or its items to several.
func unpack(s *scope, names []string, x value) error {
	if len(names) == 1 {
		s.set(names[0], x)
		return nil
	}
	l, ok := x.(*list)
	if !ok || len(l.items) != len(names) {
		return failed("%s cannot be unpacked to %d names", typeName(x), len(names))
	}
	for i, n := range names {
		s.set(n, l.items[i])
	}
	return nil
}

func (s setStmt) exec(r *renderer) error {
	v, err := s.x.eval(r)
	if err != nil {
		return err
	}
	if s.attr == "" {
		return unpack(r.scope, s.names, v)
	}
	x, _ := r.scope.get(s.names[0])
	ns, ok := x.(*namespace)
	if !ok {
		return failed("%s is not a namespace", s.names[0])
	}
	ns.fields.put(s.attr, v)
	return nil
}

func (s setBlockStmt) exec(r *renderer) error {
	text, err := r.capture(&scope{up: r.scope}, s.body)
	if err != nil {
		return err
	}
	var v value = text
	if s.filter != nil {
		if v, err = s.filter.apply(r, text); err != nil {
			return err
		}
	}
	r.scope.set(s.name, v)
	return nil
}

func (s filterStmt) exec(r *renderer) error {
	text, err := r.capture(&scope{up: r.scope}, s.body)
	if err != nil {
		return err
	}
	v, err := s.filter.apply(r, text)
	if err != nil {
		return err
	}
	t, err := r.text(v)
	if err != nil {
		return err
	}
	return r.print(t)
}

func (s *macroStmt) exec(r *renderer) error {
	r.scope.set(s.name, &macro{s, r.scope})
	return nil
}

func (s scopeStmt) exec(r *renderer) error {
	inner := &scope{up: r.scope}
	for i, n := range s.names {
		v, err := s.values[i].eval(r)
		if err != nil {
			return err
		}
		inner.set(n, v)
	}
	return r.inScope(inner, s.body)
}

func (s jumpStmt) exec(*renderer) error { return s.err }

// call runs a macro and returns its text.
func (m *macro) call(r *renderer, pos []value, named []namedValue) (value, error) {
	if r.depth++; r.depth > r.limits.Nesting {
		return nil, ErrLimit.With("the chat template calls macros deeper than %d", r.limits.Nesting)
	}
	defer func() { r.depth-- }()
	s := m.stmt
	if len(pos) > len(s.params) {
		return nil, failed("macro %s takes at most %d arguments", s.name, len(s.params))
	}
	inner := &scope{up: m.scope}
	given := map[string]value{}
	for i, v := range pos {
		given[s.params[i]] = v
	}
	for _, n := range named {
		known := false
		for i, p := range s.params {
			known = known || p == n.name && i >= len(pos)
		}
		if !known {
			return nil, failed("macro %s takes no argument %s here", s.name, n.name)
		}
		given[n.name] = n.v
	}
	old := r.scope
	r.scope = inner
	defer func() { r.scope = old }()
	for i, p := range s.params {
		v, ok := given[p]
		if !ok {
			v = undefined{p}
			if d := i - (len(s.params) - len(s.defaults)); d >= 0 {
				var err error
				if v, err = s.defaults[d].eval(r); err != nil {
					return nil, err
				}
			}
		}
		inner.set(p, v)
	}
	text, err := r.capture(inner, s.body)
	return text, err
}

// loopVars is the variable `loop`.
type loopVars struct {
	items []value
	i     int
	last  []value // of changed()
}

func (l *loopVars) attr(name string) value {
	n := int64(len(l.items))
	i := int64(l.i)
	switch name {
	case "index":
		return i + 1
	case "index0":
		return i
	case "revindex":
		return n - i
	case "revindex0":
		return n - i - 1
	case "first":
		return i == 0
	case "last":
		return i == n-1
	case "length":
		return n
	case "depth":
		return int64(1)
	case "depth0":
		return int64(0)
	case "previtem":
		if i > 0 {
			return l.items[i-1]
		}
	case "nextitem":
		if i < n-1 {
			return l.items[i+1]
		}
	case "cycle":
		return builtin{"cycle", func(_ *renderer, pos []value, _ []namedValue) (value, error) {
			if len(pos) == 0 {
				return nil, failed("cycle needs values")
			}
			return pos[l.i%len(pos)], nil
		}}
	case "changed":
		return builtin{"changed", func(r *renderer, pos []value, _ []namedValue) (value, error) {
			same, err := r.equal(&list{items: pos}, &list{items: l.last})
			if l.last == nil {
				same = false
			}
			l.last = pos
			return !same, err
		}}
	}
	return undefined{name}
}

// globals are the functions that every template sees.
func globals() *scope {
	s := &scope{}
	maps.Copy(mapOf(s), map[string]value{
		"range":           builtin{"range", callRange},
		"namespace":       builtin{"namespace", callNamespace},
		"dict":            builtin{"dict", callDict},
		"raise_exception": builtin{"raise_exception", callRaise},
		"strftime_now":    builtin{"strftime_now", callNow},
	})
	return s
}

func mapOf(s *scope) map[string]value {
	s.vars = map[string]value{}
	return s.vars
}

func callRange(r *renderer, pos []value, _ []namedValue) (value, error) {
	n := [3]int64{0, 0, 1}
	for i, v := range pos {
		x, ok := asInt(v)
		if !ok || i > 2 {
			return nil, failed("range takes one to three whole numbers")
		}
		n[i] = x
	}
	switch {
	case len(pos) == 0 || n[2] == 0:
		return nil, failed("range takes one to three whole numbers, the step not 0")
	case len(pos) == 1:
		n[0], n[1] = 0, n[0]
	}
	l := &list{}
	for i := n[0]; n[2] > 0 && i < n[1] || n[2] < 0 && i > n[1]; i += n[2] {
		if len(l.items) >= r.limits.Range {
			return nil, ErrLimit.With("the chat template makes a range of more than %d numbers", r.limits.Range)
		}
		l.items = append(l.items, i)
		if i > 1<<62 || i < -1<<62 {
			break
		}
	}
	return l, nil
}

func callNamespace(r *renderer, pos []value, named []namedValue) (value, error) {
	d, err := callDict(r, pos, named)
	if err != nil {
		return nil, err
	}
	return &namespace{d.(*dict)}, nil //nolint:forcetypeassert // callDict returns nothing else
}

func callDict(_ *renderer, pos []value, named []namedValue) (value, error) {
	d := newDict()
	for _, p := range pos {
		m, ok := p.(*dict)
		if !ok {
			return nil, failed("a mapping is needed, not %s", typeName(p))
		}
		for i, k := range m.keys {
			d.set(k, m.vals[i])
		}
	}
	for _, n := range named {
		d.put(n.name, n.v)
	}
	return d, nil
}

func callRaise(r *renderer, pos []value, _ []namedValue) (value, error) {
	if len(pos) != 1 {
		return nil, failed("raise_exception takes one text")
	}
	t, err := r.text(pos[0])
	if err != nil {
		return nil, err
	}
	s := t.s
	if len(s) > 1000 {
		s = s[:1000]
	}
	return nil, ErrRaised.With("%s", s)
}

func callNow(r *renderer, pos []value, _ []namedValue) (value, error) {
	if len(pos) != 1 || r.now.IsZero() {
		return nil, failed("strftime_now needs a format, and a caller that gives the time")
	}
	f, ok := pos[0].(str)
	if !ok {
		return nil, failed("strftime_now needs a text")
	}
	if len(f.s) > 1000 {
		return nil, failed("the format of strftime_now is longer than 1000 bytes")
	}
	return r.made(f.like(strftime(f.s, r.now)))
}
