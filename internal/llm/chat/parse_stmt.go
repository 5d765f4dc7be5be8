package chat

import (
	"slices"
	"strings"
)

// parse reads a whole template.
func parse(src string, limit int) ([]stmt, error) {
	src, list, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, list: list, limit: limit}
	body, err := p.body()
	if err != nil {
		return nil, err
	}
	if p.peek().kind != tkEOF {
		return nil, p.fail("unexpected end of a block")
	}
	return body, nil
}

// body reads statements up to a tag that is in ends (not consumed: p stands on its name), or to the end of the source when there are none.
func (p *parser) body(ends ...string) ([]stmt, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var out []stmt
	for {
		switch t := p.peek(); t.kind {
		case tkData:
			p.i++
			out = append(out, textStmt{lit(t.text)})
		case tkVar:
			p.i++
			x, err := p.tuple(false, func() bool { return p.peek().kind == tkVarEnd })
			if err != nil {
				return nil, err
			}
			if p.peek().kind != tkVarEnd {
				return nil, p.fail("expected }}")
			}
			p.i++
			out = append(out, printStmt{x})
		case tkBlock:
			p.i++
			if slices.ContainsFunc(ends, p.isName) {
				return out, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		default:
			if len(ends) > 0 {
				return nil, p.fail("the template ends before " + strings.Join(ends, " or "))
			}
			return out, nil
		}
	}
}

// blockEnd reads %}.
func (p *parser) blockEnd() error {
	if p.peek().kind != tkBlockEnd {
		return p.fail("expected %}")
	}
	p.i++
	return nil
}

// inner reads %}, a body up to {% end %} and that tag.
func (p *parser) inner(end string) ([]stmt, error) {
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	body, err := p.body(end)
	if err != nil {
		return nil, err
	}
	p.i++
	return body, p.blockEnd()
}

func (p *parser) statement() (stmt, error) {
	at := p.peek().at
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	switch name {
	case "if":
		return p.ifStatement()
	case "for":
		return p.forStatement()
	case "set":
		return p.setStatement()
	case "macro":
		return p.macroStatement()
	case "with":
		return p.withStatement()
	case "generation":
		body, err := p.inner("endgeneration")
		return scopeStmt{body: body}, err
	case "filter":
		f, err := p.filterChain()
		if err != nil {
			return nil, err
		}
		body, err := p.inner("endfilter")
		return filterStmt{f, body}, err
	case "break", "continue":
		if p.loops == 0 {
			return nil, syntaxError(p.src, at, name+" is outside of a loop")
		}
		jump := jumpStmt{errBreak}
		if name == "continue" {
			jump.err = errContinue
		}
		return jump, p.blockEnd()
	}
	return nil, syntaxError(p.src, at, "there is no statement "+name+" here")
}

func (p *parser) ifStatement() (stmt, error) {
	var s ifStmt
	for {
		test, err := p.tuple(false, func() bool { return p.peek().kind == tkBlockEnd })
		if err == nil {
			err = p.blockEnd()
		}
		if err != nil {
			return nil, err
		}
		body, err := p.body("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.tests = append(s.tests, test)
		s.bodies = append(s.bodies, body)
		switch p.next().text {
		case "elif":
			continue
		case "else":
			s.other, err = p.inner("endif")
			return s, err
		}
		return s, p.blockEnd()
	}
}

// targets reads `a` or `a, b` or `(a, b)`.
func (p *parser) targets() ([]string, error) {
	parens := p.skipOp("(")
	var names []string
	for {
		n, err := p.name()
		if err != nil {
			return nil, err
		}
		names = append(names, n)
		if !p.skipOp(",") {
			break
		}
	}
	if parens {
		return names, p.expectOp(")")
	}
	return names, nil
}

func (p *parser) forStatement() (stmt, error) {
	var s forStmt
	var err error
	if s.target, err = p.targets(); err != nil {
		return nil, err
	}
	if !p.skipName("in") {
		return nil, p.fail("expected in")
	}
	if s.in, err = p.or(); err != nil {
		return nil, err
	}
	if p.isOp(",") { // for x in a, b
		items := []expr{s.in}
		for p.skipOp(",") {
			x, err := p.or()
			if err != nil {
				return nil, err
			}
			items = append(items, x)
		}
		s.in = listExpr{items, true}
	}
	if p.skipName("if") {
		if s.filter, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if p.isName("recursive") {
		return nil, p.fail("recursive loops are not supported")
	}
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	p.loops++
	s.body, err = p.body("else", "endfor")
	p.loops--
	if err != nil {
		return nil, err
	}
	if p.next().text == "else" {
		s.empty, err = p.inner("endfor")
		return s, err
	}
	return s, p.blockEnd()
}

func (p *parser) setStatement() (stmt, error) {
	names, err := p.targets()
	if err != nil {
		return nil, err
	}
	s := setStmt{names: names}
	if len(names) == 1 && p.skipOp(".") {
		if s.attr, err = p.name(); err != nil {
			return nil, err
		}
	}
	if p.skipOp("=") {
		if s.x, err = p.tuple(false, func() bool { return p.peek().kind == tkBlockEnd }); err != nil {
			return nil, err
		}
		return s, p.blockEnd()
	}
	if len(names) > 1 || s.attr != "" {
		return nil, p.fail("expected =")
	}
	b := setBlockStmt{name: names[0]}
	if p.isOp("|") {
		p.i++
		if b.filter, err = p.filterChain(); err != nil {
			return nil, err
		}
	}
	b.body, err = p.inner("endset")
	return b, err
}

// filterChain reads `name(args)|name…` that starts with the text of a block.
func (p *parser) filterChain() (*filterExpr, error) {
	var f *filterExpr
	for n := 0; n == 0 || p.skipOp("|"); n++ {
		var x expr
		if f != nil {
			x = f
		}
		if n > p.limit {
			return nil, ErrLimit.With("the chat template chains more than %d filters", p.limit)
		}
		var err error
		if f, err = p.filter(x); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (p *parser) macroStatement() (stmt, error) {
	var m macroStmt
	var err error
	if m.name, err = p.name(); err != nil {
		return nil, err
	}
	if err := p.expectOp("("); err != nil {
		return nil, err
	}
	for !p.isOp(")") {
		if len(m.params) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		n, err := p.name()
		if err != nil {
			return nil, err
		}
		m.params = append(m.params, n)
		if p.skipOp("=") {
			x, err := p.expression()
			if err != nil {
				return nil, err
			}
			m.defaults = append(m.defaults, x)
		} else if len(m.defaults) > 0 {
			return nil, p.fail("a parameter without default follows one with a default")
		}
	}
	p.i++
	loops := p.loops
	p.loops = 0
	m.body, err = p.inner("endmacro")
	p.loops = loops
	return &m, err
}

func (p *parser) withStatement() (stmt, error) {
	var s scopeStmt
	for p.peek().kind != tkBlockEnd {
		if len(s.names) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		n, err := p.name()
		if err == nil {
			err = p.expectOp("=")
		}
		if err != nil {
			return nil, err
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		s.names = append(s.names, n)
		s.values = append(s.values, x)
	}
	var err error
	s.body, err = p.inner("endwith")
	return s, err
}
