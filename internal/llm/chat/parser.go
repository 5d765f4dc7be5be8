package chat

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"strings"
)

// Delta is a piece of an answer as it becomes known. Exactly one of its parts is set.
type Delta struct {
	Content   string
	Reasoning string
	ToolCall  *ToolCallDelta
}

// ToolCallDelta is a piece of a tool call. The first delta of a call carries ID and Name with empty Arguments; the arguments of all its deltas concatenate to the JSON text.
type ToolCallDelta struct {
	Index     int // from 0 in the order of the calls
	ID, Name  string
	Arguments string
}

// Parser splits the text of one answer into deltas. Content and reasoning come as they are generated, but for bytes that may turn out to begin a marker, and white space before a call. A call comes
// when it is complete; one in JSON of more than 512 bytes comes as it is generated. Not for use by two goroutines.
type Parser struct {
	family  *family // nil = no tool calls
	reasons bool
	types   map[string]map[string]string // of parameters by tool, for families that write arguments as text

	mode      mode
	thinkStop string
	begun     bool   // something was reported since the last marker
	held      string // white space before a call that is being read: dropped with it, shown if it is none
	trim      string // bytes to drop before the next content
	buf       string // text not yet understood
	scan      jsonScan
	early     earlyCall
	calls     int
	broken    bool
	out       []Delta
}

type mode uint8

const (
	atStart   mode = iota // nothing but white space so far: reasoning or bare JSON may begin
	inThought             // within the marks of reasoning
	inContent
	inCall // behind a marker of the family
)

// thinkMarks are the ways to mark reasoning.
var thinkMarks = []struct{ open, stop string }{{"<think>", "</think>"}, {"[THINK]", "[/THINK]"}}

// NewParser returns a Parser for one answer. tools says whether the request offered any: without, call markers are plain text. prompt is the end of the rendered prompt: a template that opened
// the reasoning itself makes the answer start inside it.
func NewParser(f Format, tools bool, prompt string) *Parser {
	p := &Parser{reasons: f.Reasoning}
	if tools {
		p.family = families[f.Tools]
	}
	for _, m := range thinkMarks {
		if f.Reasoning && strings.HasSuffix(strings.TrimRight(prompt, " \n"), m.open) {
			p.mode, p.thinkStop = inThought, m.stop
		}
	}
	return p
}

// Tools tells the parser the tools of the request (OpenAI tool objects), so that arguments which a model writes as text get the types of their schema. Call it before the first Push.
func (p *Parser) Tools(tools []json.RawMessage) {
	p.types = map[string]map[string]string{}
	for _, raw := range tools {
		var t struct {
			Function struct {
				Name       string `json:"name"`
				Parameters struct {
					Properties map[string]struct {
						Type json.RawMessage `json:"type"`
					} `json:"properties"`
				} `json:"parameters"`
			} `json:"function"`
		}
		if json.Unmarshal(raw, &t) != nil {
			continue
		}
		types := map[string]string{}
		for name, p := range t.Function.Parameters.Properties {
			var kind string
			if json.Unmarshal(p.Type, &kind) == nil {
				types[name] = kind
			}
		}
		p.types[t.Function.Name] = types
	}
}

// ToolCalls returns how many tool calls have been reported, for the finish reason.
func (p *Parser) ToolCalls() int { return p.calls }

// Broken reports whether a call was cut off or could not be read and became content.
func (p *Parser) Broken() bool { return p.broken }

// Push adds generated text and returns what became known by it.
func (p *Parser) Push(text string) []Delta {
	p.buf += text
	p.out = nil
	for p.step(false) {
	}
	return p.out
}

// Close ends the answer and returns what was held back. A call that was cut off or is not valid JSON becomes content.
func (p *Parser) Close() []Delta {
	p.out = nil
	for p.step(true) {
	}
	if p.mode == inCall && !p.cutEarly() {
		p.broken = true
		p.buf = p.held + p.buf
	} else if p.mode == inCall {
		p.buf = ""
	}
	if p.mode == inThought {
		p.reasoning(strings.TrimRight(p.buf, " \n"))
	} else if p.buf = strings.TrimLeft(p.buf, p.trim); p.begun || strings.TrimSpace(p.buf) != "" || p.calls == 0 {
		p.content(p.buf)
	}
	p.buf = ""
	return p.out
}

func (p *Parser) content(s string) {
	if s != "" {
		p.begun = true
		p.out = append(p.out, Delta{Content: s})
	}
}

func (p *Parser) reasoning(s string) {
	if s != "" {
		p.out = append(p.out, Delta{Reasoning: s})
	}
}

// call reports a finished call, unless all of it was reported early.
func (p *Parser) call(c callText) {
	if p.early.told {
		p.early.told = false
		p.calls++
		return
	}
	args := c.args
	if args == "" {
		args = "{}"
	}
	p.head(c)
	p.arguments(args)
	p.calls++
}

func (p *Parser) arguments(s string) {
	if s != "" {
		p.out = append(p.out, Delta{ToolCall: &ToolCallDelta{Index: p.calls, Arguments: s}})
	}
}

// head reports the name of a call.
func (p *Parser) head(c callText) {
	id := c.id
	if id == "" {
		id = "call_" + rand.Text()[:24]
		if p.family.shortID {
			id = rand.Text()[:9]
		}
	}
	p.out = append(p.out, Delta{ToolCall: &ToolCallDelta{Index: p.calls, ID: id, Name: c.name}})
}

// step does what the buffer allows and reports whether it did anything.
func (p *Parser) step(end bool) bool {
	switch p.mode {
	case atStart:
		return p.start(end)
	case inThought:
		return p.thought()
	case inCall:
		return p.inCall(end)
	default:
		return p.plain(end)
	}
}

// start waits for the first byte that is no white space and looks what it begins.
func (p *Parser) start(end bool) bool {
	p.buf = strings.TrimLeft(p.buf, p.trim)
	rest := strings.TrimLeft(p.buf, " \t\r\n")
	if rest == "" {
		return false
	}
	if p.reasons {
		for _, m := range thinkMarks {
			if strings.HasPrefix(rest, m.open) {
				p.buf = rest[len(m.open):]
				p.mode, p.thinkStop = inThought, m.stop
				return true
			}
			if !end && strings.HasPrefix(m.open, rest) {
				return false
			}
		}
	}
	p.mode = inContent
	if p.family != nil && p.family.bare && rest[0] == '{' {
		p.held = p.buf[:len(p.buf)-len(rest)]
		p.buf = rest
		p.enterCall()
	}
	return true
}

// thought reports reasoning up to its end. White space round it is dropped.
func (p *Parser) thought() bool {
	if !p.begun {
		p.buf = strings.TrimLeft(p.buf, "\n")
	}
	if i := strings.Index(p.buf, p.thinkStop); i >= 0 {
		p.reasoning(strings.TrimRight(p.buf[:i], " \n"))
		p.buf = p.buf[i+len(p.thinkStop):]
		p.mode, p.begun, p.reasons, p.trim = atStart, false, false, "\n"
		return true
	}
	keep := len(p.buf) - partial(p.buf, p.thinkStop)
	keep = len(strings.TrimRight(p.buf[:keep], " \n"))
	if keep == 0 {
		return false
	}
	p.reasoning(p.buf[:keep])
	p.buf, p.begun = p.buf[keep:], true
	return false
}

// plain reports content up to the next marker.
func (p *Parser) plain(end bool) bool {
	if p.buf = strings.TrimLeft(p.buf, p.trim); p.buf == "" {
		return false
	}
	p.trim = ""
	if p.family == nil {
		p.content(p.buf)
		p.buf = ""
		return false
	}
	at, marker := -1, ""
	for _, m := range p.family.open {
		if i := strings.Index(p.buf, m); i >= 0 && (at < 0 || i < at) {
			at, marker = i, m
		}
	}
	if at >= 0 {
		before := strings.TrimRight(p.buf[:at], " \r\n")
		p.content(before)
		p.held = p.buf[len(before):at]
		p.buf = p.buf[at:]
		p.enterCall()
		p.scan.pos = len(marker)
		return true
	}
	if end {
		return false
	}
	hold := 0
	for _, m := range p.family.open {
		hold = max(hold, partial(p.buf, m))
	}
	keep := len(strings.TrimRight(p.buf[:len(p.buf)-hold], " \r\n"))
	if keep > 0 {
		p.content(p.buf[:keep])
		p.buf = p.buf[keep:]
	}
	return false
}

func (p *Parser) enterCall() {
	p.mode = inCall
	p.scan, p.early = jsonScan{}, earlyCall{}
}

// inCall tries to read one call at the start of the buffer, its marker included.
func (p *Parser) inCall(end bool) bool {
	n, calls, state := p.family.read(p, p.buf, end)
	switch state {
	case needMore:
		return false
	case notCall: // the text stays as it is, and is not looked at again
		if !p.cutEarly() {
			p.broken = true
			p.content(p.held + p.buf[:n])
		}
	default:
		for _, c := range calls {
			p.call(c)
		}
	}
	p.buf = p.buf[n:]
	p.mode = inContent
	if state == isCall {
		p.begun, p.trim = false, " \r\n"
		if p.family.bare {
			p.mode, p.trim = atStart, " ;\r\n"
		}
	}
	return true
}

// partial returns the length of the longest end of s that begins marker.
func partial(s, marker string) int {
	for n := min(len(s), len(marker)-1); n > 0; n-- {
		if strings.HasSuffix(s, marker[:n]) {
			return n
		}
	}
	return 0
}

// callText is a call as the model wrote it.
type callText struct{ id, name, args string }

// readState is what a family's reader found.
type readState uint8

const (
	needMore readState = iota // the call is not complete
	isCall                    // n bytes were one or more calls
	notCall                   // n bytes are plain text after all
)

// jsonScan finds the end of a JSON object or array as bytes come, each looked at once.
type jsonScan struct {
	pos      int // next byte to look at
	depth    int
	str, esc bool
}

// end returns the offset behind the value that begins at or behind pos, or -1 while it is open.
func (j *jsonScan) end(s string) int {
	for ; j.pos < len(s); j.pos++ {
		switch c := s[j.pos]; {
		case j.esc:
			j.esc = false
		case j.str:
			j.esc = c == '\\'
			j.str = c != '"'
		case c == '"':
			j.str = true
		case c == '{' || c == '[':
			j.depth++
		case c == '}' || c == ']':
			if j.depth--; j.depth <= 0 {
				j.pos++
				return j.pos
			}
		}
	}
	return -1
}

// jsonCall reads {"name": …, "arguments" or "parameters": …}.
func jsonCall(raw string) (callText, bool) {
	var c struct {
		ID         string          `json:"id"`
		Name       string          `json:"name"`
		Arguments  json.RawMessage `json:"arguments"`
		Parameters json.RawMessage `json:"parameters"`
	}
	if json.Unmarshal([]byte(raw), &c) != nil || c.Name == "" {
		return callText{}, false
	}
	args := c.Arguments
	if args == nil {
		args = c.Parameters
	}
	var text string
	if json.Unmarshal(args, &text) == nil && json.Valid([]byte(text)) { // JSON within a string
		args = []byte(text)
	}
	if len(args) > 0 && bytes.TrimSpace(args)[0] != '{' {
		if string(bytes.TrimSpace(args)) != "null" {
			return callText{}, false
		}
		args = nil
	}
	return callText{id: c.ID, name: c.Name, args: string(args)}, true
}
