package chat

import (
	"math"
	"strconv"
	"strings"
)

// parser reads lexemes into nodes by recursive descent, with the precedence of Jinja.
type parser struct {
	src   string
	list  []lexeme
	i     int
	depth int
	limit int // nesting
	loops int // loops round the statement: break and continue need one
}

func (p *parser) peek() lexeme { return p.list[p.i] }

func (p *parser) next() lexeme {
	t := p.list[p.i]
	if p.i < len(p.list)-1 {
		p.i++
	}
	return t
}

func (p *parser) isOp(op string) bool { t := p.peek(); return t.kind == tkOp && t.text == op }

func (p *parser) isName(name string) bool { t := p.peek(); return t.kind == tkName && t.text == name }

func (p *parser) skipOp(op string) bool {
	if p.isOp(op) {
		p.i++
		return true
	}
	return false
}

func (p *parser) skipName(name string) bool {
	if p.isName(name) {
		p.i++
		return true
	}
	return false
}

func (p *parser) fail(words string) error { return syntaxError(p.src, p.peek().at, words) }

func (p *parser) expectOp(op string) error {
	if !p.skipOp(op) {
		return p.fail("expected " + op)
	}
	return nil
}

func (p *parser) name() (string, error) {
	if p.peek().kind != tkName {
		return "", p.fail("expected a name")
	}
	return p.next().text, nil
}

// enter counts nesting; every call is paired with leave.
func (p *parser) enter() error {
	if p.depth++; p.depth > p.limit {
		return ErrLimit.With("the chat template nests deeper than %d", p.limit)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// expression reads a full expression: `a if b else c`.
func (p *parser) expression() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.or()
	for err == nil && p.skipName("if") {
		c := condExpr{yes: x}
		if c.test, err = p.or(); err != nil {
			return nil, err
		}
		if p.skipName("else") {
			if c.no, err = p.expression(); err != nil {
				return nil, err
			}
		}
		x = c
	}
	return x, err
}

func (p *parser) or() (expr, error) {
	x, err := p.and()
	for err == nil && p.skipName("or") {
		var y expr
		if y, err = p.and(); err == nil {
			x = orExpr{x, y}
		}
	}
	return x, err
}

func (p *parser) and() (expr, error) {
	x, err := p.not()
	for err == nil && p.skipName("and") {
		var y expr
		if y, err = p.not(); err == nil {
			x = andExpr{x, y}
		}
	}
	return x, err
}

func (p *parser) not() (expr, error) {
	if !p.isName("not") {
		return p.compare()
	}
	p.i++
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.not()
	return notExpr{x}, err
}

func (p *parser) compare() (expr, error) {
	x, err := p.sum()
	if err != nil {
		return nil, err
	}
	c := compareExpr{x: x}
	for {
		op := ""
		switch t := p.peek(); {
		case t.kind == tkOp && strings.Contains(" == != < <= > >= ", " "+t.text+" "):
			op = t.text
			p.i++
		case p.skipName("in"):
			op = "in"
		case p.isName("not") && p.list[p.i+1].kind == tkName && p.list[p.i+1].text == "in":
			op = "not in"
			p.i += 2
		}
		if op == "" {
			break
		}
		y, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.ops = append(c.ops, op)
		c.ys = append(c.ys, y)
	}
	if c.ops == nil {
		return x, nil
	}
	return c, nil
}

// binary reads operands of next joined by one of ops, from the left.
func (p *parser) binary(next func() (expr, error), ops string) (expr, error) {
	x, err := next()
	for err == nil {
		t := p.peek()
		if t.kind != tkOp || !strings.Contains(ops, " "+t.text+" ") {
			break
		}
		p.i++
		var y expr
		if y, err = next(); err == nil {
			x = binaryExpr{t.text, x, y}
		}
	}
	return x, err
}

func (p *parser) sum() (expr, error) { return p.binary(p.concat, " + - ") }

func (p *parser) concat() (expr, error) {
	x, err := p.product()
	if err != nil || !p.isOp("~") {
		return x, err
	}
	items := []expr{x}
	for p.skipOp("~") {
		y, err := p.product()
		if err != nil {
			return nil, err
		}
		items = append(items, y)
	}
	return concatExpr{items}, nil
}

func (p *parser) product() (expr, error) { return p.binary(p.power, " * / // % ") }

func (p *parser) power() (expr, error) {
	return p.binary(func() (expr, error) { return p.unary(true) }, " ** ")
}

func (p *parser) unary(filters bool) (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var x expr
	var err error
	switch {
	case p.skipOp("-"):
		x, err = p.unary(false)
		x = signExpr{x}
	case p.skipOp("+"):
		x, err = p.unary(false)
	default:
		x, err = p.primary()
	}
	if err == nil {
		x, err = p.postfix(x)
	}
	if err == nil && filters {
		x, err = p.filters(x)
	}
	return x, err
}

func (p *parser) primary() (expr, error) {
	switch t := p.peek(); t.kind {
	case tkName:
		p.i++
		switch t.text {
		case "true", "True":
			return constExpr{true}, nil
		case "false", "False":
			return constExpr{false}, nil
		case "none", "None":
			return constExpr{nil}, nil
		}
		return nameExpr{t.text}, nil
	case tkString:
		var text strings.Builder
		for p.peek().kind == tkString {
			text.WriteString(p.next().text)
		}
		return constExpr{lit(text.String())}, nil
	case tkInt:
		p.i++
		v, err := strconv.ParseInt(t.text, 0, 64)
		if err != nil {
			if v, err = strconv.ParseInt(t.text, 10, 64); err != nil {
				return nil, p.fail("the number " + t.text + " is too large")
			}
		}
		return constExpr{v}, nil
	case tkFloat:
		p.i++
		v, err := strconv.ParseFloat(t.text, 64)
		if err != nil || math.IsInf(v, 0) {
			return nil, p.fail("the number " + t.text + " is too large")
		}
		return constExpr{v}, nil
	case tkOp:
		switch t.text {
		case "(":
			p.i++
			x, err := p.tuple(true, func() bool { return p.isOp(")") })
			if err == nil {
				err = p.expectOp(")")
			}
			return x, err
		case "[":
			return p.list1()
		case "{":
			return p.dict()
		}
	default: // tags and the end of the source
	}
	return nil, p.fail("expected a value")
}

// tuple reads expressions separated by commas: one alone is itself unless a comma follows. Empty only within parentheses.
func (p *parser) tuple(parens bool, end func() bool) (expr, error) {
	var items []expr
	comma := false
	for !end() {
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
		if !p.skipOp(",") {
			break
		}
		comma = true
	}
	switch {
	case len(items) == 1 && !comma:
		return items[0], nil
	case len(items) == 0 && !parens:
		return nil, p.fail("expected a value")
	}
	return listExpr{items, true}, nil
}

func (p *parser) list1() (expr, error) {
	p.i++
	l := listExpr{}
	for !p.isOp("]") {
		if len(l.items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.isOp("]") {
				break
			}
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, x)
	}
	return l, p.expectOp("]")
}

func (p *parser) dict() (expr, error) {
	p.i++
	d := dictExpr{}
	for !p.isOp("}") {
		if len(d.keys) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.isOp("}") {
				break
			}
		}
		k, err := p.expression()
		if err == nil {
			err = p.expectOp(":")
		}
		if err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys = append(d.keys, k)
		d.vals = append(d.vals, v)
	}
	return d, p.expectOp("}")
}

// postfix reads .name, [..] and (..) behind a value.
func (p *parser) postfix(x expr) (expr, error) {
	for n := 0; ; n++ {
		if n > p.limit*4 {
			return nil, ErrLimit.With("the chat template chains more than %d accesses", p.limit*4)
		}
		switch {
		case p.skipOp("."):
			t := p.next()
			switch t.kind {
			case tkName:
				x = attrExpr{x, t.text}
			case tkInt:
				v, err := strconv.ParseInt(t.text, 10, 64)
				if err != nil {
					return nil, p.fail("expected a name")
				}
				x = itemExpr{x, constExpr{v}}
			default:
				p.i--
				return nil, p.fail("expected a name")
			}
		case p.isOp("["):
			var err error
			if x, err = p.subscript(x); err != nil {
				return nil, err
			}
		case p.isOp("("):
			a, err := p.args()
			if err != nil {
				return nil, err
			}
			x = callExpr{x, a}
		default:
			return x, nil
		}
	}
}

// subscript reads [key] or [from:to:step].
func (p *parser) subscript(x expr) (expr, error) {
	p.i++
	var parts [3]expr
	n := 0
	for ; n < 3; n++ {
		if !p.isOp(":") && !p.isOp("]") {
			e, err := p.expression()
			if err != nil {
				return nil, err
			}
			parts[n] = e
		}
		if !p.skipOp(":") {
			break
		}
	}
	if err := p.expectOp("]"); err != nil {
		return nil, err
	}
	if n == 0 {
		if parts[0] == nil {
			return nil, p.fail("expected a value")
		}
		return itemExpr{x, parts[0]}, nil
	}
	return sliceExpr{x, parts[0], parts[1], parts[2]}, nil
}

func (p *parser) args() (args, error) {
	p.i++
	var a args
	for n := 0; !p.isOp(")"); n++ {
		if n > 0 {
			if err := p.expectOp(","); err != nil {
				return a, err
			}
			if p.isOp(")") {
				break
			}
		}
		if t := p.peek(); t.kind == tkName && p.list[p.i+1].kind == tkOp && p.list[p.i+1].text == "=" {
			p.i += 2
			x, err := p.expression()
			if err != nil {
				return a, err
			}
			a.names = append(a.names, t.text)
			a.named = append(a.named, x)
			continue
		}
		if len(a.named) > 0 {
			return a, p.fail("an argument without a name follows one with a name")
		}
		x, err := p.expression()
		if err != nil {
			return a, err
		}
		a.pos = append(a.pos, x)
	}
	return a, p.expectOp(")")
}

// filters reads |name, `is name` and calls behind a value.
func (p *parser) filters(x expr) (expr, error) {
	for n := 0; ; n++ {
		if n > p.limit*4 {
			return nil, ErrLimit.With("the chat template chains more than %d filters", p.limit*4)
		}
		switch {
		case p.skipOp("|"):
			f, err := p.filter(x)
			if err != nil {
				return nil, err
			}
			x = f
		case p.skipName("is"):
			t, err := p.test(x)
			if err != nil {
				return nil, err
			}
			x = t
		case p.isOp("("):
			a, err := p.args()
			if err != nil {
				return nil, err
			}
			x = callExpr{x, a}
		default:
			return x, nil
		}
	}
}

func (p *parser) filter(x expr) (*filterExpr, error) {
	at := p.peek().at
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	f := &filterExpr{x: x, name: name, fn: filters[name]}
	if f.fn == nil {
		return nil, syntaxError(p.src, at, "there is no filter "+name)
	}
	if p.isOp("(") {
		f.args, err = p.args()
	}
	return f, err
}

func (p *parser) test(x expr) (expr, error) {
	negate := p.skipName("not")
	at := p.peek().at
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	t := testExpr{x: x, name: name, fn: tests[name]}
	if t.fn == nil {
		return nil, syntaxError(p.src, at, "there is no test "+name)
	}
	switch k := p.peek(); {
	case p.isOp("("):
		a, err := p.args()
		if err != nil {
			return nil, err
		}
		t.args = a.pos
	case k.kind == tkString, k.kind == tkInt, k.kind == tkFloat, p.isOp("["), p.isOp("{"),
		k.kind == tkName && !strings.Contains(" else or and if in not is ", " "+k.text+" "):
		arg, err := p.primary()
		if err == nil {
			arg, err = p.postfix(arg)
		}
		if err != nil {
			return nil, err
		}
		t.args = []expr{arg}
	}
	if negate {
		return notExpr{t}, nil
	}
	return t, nil
}
