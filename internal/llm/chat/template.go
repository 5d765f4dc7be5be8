package chat

import (
	"errors"
	"regexp"
	"time"

	"maas/internal/llm/token"
)

// Template is a compiled chat template. It never changes and may be rendered by any number of goroutines.
type Template struct {
	source string
	body   []stmt
	limits Limits
	parts  bool // reads content that is a list of parts
}

// loopsOverContent is how templates that read parts do it. Others print a list as it is, or fail.
var loopsOverContent = regexp.MustCompile(`for\s+\w+\s+in\s+[\w.\[\]'"]*content`)

// Compile parses a chat template. Errors: ErrSyntax with line and column, ErrLimit.
func Compile(source string, l Limits) (*Template, error) {
	l = l.withDefaults()
	if len(source) > l.Source {
		return nil, ErrLimit.With("the chat template has %d bytes; the limit is %d", len(source), l.Source)
	}
	body, err := parse(source, l.Nesting)
	if err != nil {
		return nil, err
	}
	return &Template{source: source, body: body, limits: l, parts: loopsOverContent.MatchString(source)}, nil
}

// Source returns the text of the template.
func (t *Template) Source() string { return t.source }

// Render makes the prompt of a conversation: parts for token.Encode, the template's own text trusted, all else untrusted. Errors: ErrRaised with the template's words, ErrFailed, ErrMessage, ErrLimit.
//
// Templates differ in what they accept. One that does not loop over content gets text parts joined by line ends; one that fails is tried again with empty text for the content of a message that only
// calls tools and with tools and documents undefined rather than none, then also with the arguments of calls as text.
func (t *Template) Render(in Input) ([]token.Part, error) {
	vars, err := in.vars(shape{flat: !t.parts})
	if err != nil {
		return nil, err
	}
	parts, err := t.render(vars, in.Now)
	if !errors.Is(err, ErrFailed) {
		return parts, err
	}
	for _, sh := range []shape{{flat: true, full: true}, {flat: true, full: true, text: true}} {
		if vars, err := in.vars(sh); err == nil {
			if parts, err = t.render(vars, in.Now); err == nil {
				return parts, nil
			}
		}
	}
	return nil, err
}

// render runs the template with these variables.
func (t *Template) render(vars map[string]value, now time.Time) ([]token.Part, error) {
	r := &renderer{limits: t.limits, end: time.Now().Add(t.limits.Time), now: now, out: &rope{}}
	g := globals()
	for k, v := range vars {
		g.set(k, v)
	}
	r.scope = &scope{up: g}
	if err := r.run(t.body); err != nil {
		return nil, err
	}
	return r.out.str().parts(), nil
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	for _, f := range []struct{ have, def *int }{{&l.Source, &d.Source}, {&l.Steps, &d.Steps}, {&l.Nesting, &d.Nesting}, {&l.Output, &d.Output}, {&l.Range, &d.Range}} {
		if *f.have == 0 {
			*f.have = *f.def
		}
	}
	if l.Time == 0 {
		l.Time = d.Time
	}
	return l
}
