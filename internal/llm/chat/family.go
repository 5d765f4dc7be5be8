package chat

import (
	"encoding/json"
	"strings"
)

// Format names the way in which a family of models writes tool calls and reasoning.
type Format struct {
	Tools     string // a key of the table of families; "" = plain text
	Reasoning bool   // <think>…</think> or [THINK]…[/THINK]
}

// family is how one kind of models writes calls.
type family struct {
	open    []string // what begins a call
	bare    bool     // a call may also be bare JSON at the start of the answer
	shortID bool     // ids of calls are nine letters and digits
	marks   []string // all of them in a template mean this family
	// read looks at text that begins with one of open (or, bare, with a brace).
	read func(p *Parser, text string, end bool) (n int, calls []callText, state readState)
}

var families = map[string]*family{
	"hermes":     {open: []string{"<tool_call>"}, marks: []string{"<tool_call>"}, read: readHermes},
	"qwen-coder": {open: []string{"<tool_call>", "<function="}, marks: []string{"<function=", "<parameter="}, read: readQwenCoder},
	"glm":        {open: []string{"<tool_call>"}, marks: []string{"<tool_call>", "<arg_key>"}, read: readGLM},
	"granite":    {open: []string{"<|tool_call|>"}, marks: []string{"<|tool_call|>"}, read: marked("<|tool_call|>", "<|end_of_text|>")},
	"nemotron":   {open: []string{"<TOOLCALL>"}, marks: []string{"<TOOLCALL>"}, read: marked("<TOOLCALL>", "</TOOLCALL>")},
	"llama3":     {open: []string{"<|python_tag|>"}, bare: true, marks: []string{"<|start_header_id|>", "tools"}, read: readLlama3},
	"mistral":    {open: []string{"[TOOL_CALLS]"}, shortID: true, marks: []string{"[TOOL_CALLS]"}, read: readMistral},
	"deepseek":   {open: []string{dsCalls, dsCall}, marks: []string{dsCall}, read: readDeepSeek},
}

// order is that in which marks are looked for: the special ones first.
var order = []string{"qwen-coder", "glm", "deepseek", "mistral", "granite", "nemotron", "hermes", "llama3"}

// readHermes reads the form that most families have taken over.
var readHermes = marked("<tool_call>", "</tool_call>")

// FormatOf finds the format by the markers in the text of a chat template.
func FormatOf(template string) Format {
	f := Format{}
	for _, m := range thinkMarks {
		f.Reasoning = f.Reasoning || strings.Contains(template, m.open) || strings.Contains(template, m.stop)
	}
	for _, name := range order {
		all := true
		for _, m := range families[name].marks {
			all = all && strings.Contains(template, m)
		}
		if all {
			f.Tools = name
			break
		}
	}
	return f
}

// skip returns the offset of the first byte of text from i that is no white space.
func skip(text string, i int) int {
	return len(text) - len(strings.TrimLeft(text[i:], " \t\r\n"))
}

// expect looks for mark at i behind white space: its end, or whether more text could still bring it.
func expect(text string, i int, mark string) (end int, found, possible bool) {
	i = skip(text, i)
	rest := text[i:]
	if strings.HasPrefix(rest, mark) {
		return i + len(mark), true, true
	}
	return i, false, strings.HasPrefix(mark, rest)
}

// marked returns the reader of {"name":…,"arguments":…}, or a list of such objects, behind a mark. The end mark may lack.
func marked(open, stop string) func(p *Parser, text string, end bool) (int, []callText, readState) {
	return func(p *Parser, text string, end bool) (int, []callText, readState) {
		at := skip(text, len(open))
		if at == len(text) && !end {
			return 0, nil, needMore
		}
		if at == len(text) || text[at] != '{' && text[at] != '[' {
			return len(open), nil, notCall
		}
		p.scan.pos = max(p.scan.pos, at)
		to := p.scan.end(text)
		if text[at] == '{' {
			p.show(text, at, to)
		}
		if to < 0 {
			return 0, nil, needMore
		}
		calls, ok := jsonCalls(text[at:to])
		if !ok {
			return to, nil, notCall
		}
		n, found, possible := expect(text, to, stop)
		switch {
		case !found && possible && !end:
			p.scan.pos, p.scan.depth = to-1, 1 // look at the last bracket again
			return 0, nil, needMore
		case !found:
			n = to
		}
		return n, calls, isCall
	}
}

// jsonCalls reads one call or a list of calls.
func jsonCalls(text string) ([]callText, bool) {
	if text[0] == '{' {
		c, ok := jsonCall(text)
		return []callText{c}, ok
	}
	var raws []json.RawMessage
	if json.Unmarshal([]byte(text), &raws) != nil || len(raws) == 0 {
		return nil, false
	}
	var calls []callText
	for _, raw := range raws {
		c, ok := jsonCall(string(raw))
		if !ok {
			return nil, false
		}
		calls = append(calls, c)
	}
	return calls, true
}

// readLlama3 reads {"name":…,"parameters":…}, bare or behind <|python_tag|>; several are parted by semicolons.
func readLlama3(p *Parser, text string, end bool) (int, []callText, readState) {
	const tag = "<|python_tag|>"
	at := 0
	if strings.HasPrefix(text, tag) {
		if at = skip(text, len(tag)); at == len(text) && !end {
			return 0, nil, needMore
		}
		if at == len(text) || text[at] != '{' {
			return at, nil, notCall
		}
	}
	p.scan.pos = max(p.scan.pos, at)
	stop := p.scan.end(text)
	p.show(text, at, stop)
	if stop < 0 {
		return 0, nil, needMore
	}
	c, ok := jsonCall(text[at:stop])
	if !ok || c.args == "" { // an answer in JSON can have a name too
		return stop, nil, notCall
	}
	return stop, []callText{c}, isCall
}

// readMistral reads [TOOL_CALLS] with a JSON list of calls, or with name[ARGS]{…}, an id between them too.
func readMistral(p *Parser, text string, end bool) (int, []callText, readState) {
	at := skip(text, len("[TOOL_CALLS]"))
	if at == len(text) {
		if end {
			return at, nil, notCall
		}
		return 0, nil, needMore
	}
	if text[at] != '[' {
		return readMistralArgs(p, text, at, end)
	}
	p.scan.pos = max(p.scan.pos, at)
	stop := p.scan.end(text)
	if stop < 0 {
		return 0, nil, needMore
	}
	calls, ok := jsonCalls(text[at:stop])
	if !ok {
		return stop, nil, notCall
	}
	return stop, calls, isCall
}

func readMistralArgs(p *Parser, text string, at int, end bool) (int, []callText, readState) {
	brace := strings.IndexByte(text[at:], '{')
	if brace < 0 {
		if end || len(text)-at > 512 {
			return len(text), nil, notCall
		}
		return 0, nil, needMore
	}
	head := text[at : at+brace]
	p.scan.pos = max(p.scan.pos, at+brace)
	stop := p.scan.end(text)
	if stop < 0 {
		return 0, nil, needMore
	}
	var c callText
	head, _, _ = strings.Cut(head, "[ARGS]")
	c.name, c.id, _ = strings.Cut(head, "[CALL_ID]")
	c.name, c.id = strings.TrimSpace(c.name), strings.TrimSpace(c.id)
	c.args = text[at+brace : stop]
	if c.name == "" || !json.Valid([]byte(c.args)) {
		return stop, nil, notCall
	}
	return stop, []callText{c}, isCall
}

const (
	dsCalls    = "<｜tool▁calls▁begin｜>"
	dsCallsEnd = "<｜tool▁calls▁end｜>"
	dsCall     = "<｜tool▁call▁begin｜>"
	dsCallEnd  = "<｜tool▁call▁end｜>"
	dsSep      = "<｜tool▁sep｜>"
)

// readDeepSeek reads one call: begin, type, separator, name and a fenced block of JSON (R1, V3), or begin, name, separator and JSON (V3.1).
func readDeepSeek(_ *Parser, text string, end bool) (int, []callText, readState) {
	at := len(dsCall)
	if strings.HasPrefix(text, dsCalls) {
		n, found, possible := expect(text, len(dsCalls), dsCall)
		if !found {
			if possible && !end {
				return 0, nil, needMore
			}
			return len(dsCalls), nil, notCall
		}
		at = n
	}
	i := strings.Index(text[at:], dsCallEnd)
	if i < 0 {
		return 0, nil, needMore
	}
	n := at + i + len(dsCallEnd)
	head, body, ok := strings.Cut(text[at:at+i], dsSep)
	c := callText{name: strings.TrimSpace(head), args: strings.TrimSpace(body)}
	if name, fenced, isFenced := strings.Cut(body, "```json"); isFenced {
		c.name = strings.TrimSpace(name)
		c.args = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(fenced), "```"))
	}
	if !ok || c.name == "" || !strings.HasPrefix(c.args, "{") || !json.Valid([]byte(c.args)) {
		return n, nil, notCall
	}
	if m, found, possible := expect(text, n, dsCallsEnd); found {
		n = m
	} else if possible && !end {
		return 0, nil, needMore
	}
	return n, []callText{c}, isCall
}

// readQwenCoder reads <tool_call><function=name><parameter=key>value</parameter>…</function></tool_call>; the outer marks may lack.
func readQwenCoder(p *Parser, text string, end bool) (int, []callText, readState) {
	at := len("<function=")
	if !strings.HasPrefix(text, "<function=") {
		var found, possible bool
		at, found, possible = expect(text, len("<tool_call>"), "<function=")
		switch {
		case found:
		case possible && !end:
			return 0, nil, needMore
		case at < len(text) && text[at] == '{': // models of this family fall back to the JSON form
			return readHermes(p, text, end)
		default:
			return at, nil, notCall
		}
	}
	i := strings.Index(text[at:], "</function>")
	if i < 0 {
		return 0, nil, needMore
	}
	body := text[at : at+i]
	n := at + i + len("</function>")
	if m, found, possible := expect(text, n, "</tool_call>"); found {
		n = m
	} else if possible && !end {
		return 0, nil, needMore
	}
	name, rest, ok := strings.Cut(body, ">")
	if name = strings.TrimSpace(name); !ok || name == "" {
		return n, nil, notCall
	}
	var a argList
	for {
		_, after, ok := strings.Cut(rest, "<parameter=")
		if !ok {
			break
		}
		key, after, ok := strings.Cut(after, ">")
		if !ok {
			return n, nil, notCall
		}
		val, next, ok := strings.Cut(after, "</parameter>")
		if !ok {
			val, next, _ = strings.Cut(after, "<parameter=")
			if next != "" {
				next = "<parameter=" + next
			}
		}
		val = strings.TrimSuffix(strings.TrimPrefix(val, "\n"), "\n")
		a.add(strings.TrimSpace(key), val, p.types[name])
		rest = next
	}
	return n, []callText{{name: name, args: a.json()}}, isCall
}

// readGLM reads <tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value>…</tool_call>.
func readGLM(p *Parser, text string, end bool) (int, []callText, readState) {
	const open, stop = "<tool_call>", "</tool_call>"
	i := strings.Index(text, stop)
	if i < 0 {
		return 0, nil, needMore
	}
	n := i + len(stop)
	name, rest, has := strings.Cut(text[len(open):i], "<arg_key>")
	if name = strings.TrimSpace(name); name == "" || strings.ContainsAny(name, "{}\n") {
		return n, nil, notCall
	}
	var a argList
	for has {
		var key, val string
		var ok bool
		if key, rest, ok = strings.Cut(rest, "</arg_key>"); !ok {
			return n, nil, notCall
		}
		if _, rest, ok = strings.Cut(rest, "<arg_value>"); !ok {
			return n, nil, notCall
		}
		if val, rest, ok = strings.Cut(rest, "</arg_value>"); !ok {
			return n, nil, notCall
		}
		a.add(strings.TrimSpace(key), strings.Trim(val, "\n"), p.types[name])
		_, rest, has = strings.Cut(rest, "<arg_key>")
	}
	return n, []callText{{name: name, args: a.json()}}, isCall
}

// argList builds the JSON of arguments that a model wrote as text.
type argList struct{ b strings.Builder }

// add takes the type from the tool's schema; without one, what is a JSON value other than a string is that value.
func (a *argList) add(key, val string, types map[string]string) {
	if a.b.Len() > 0 {
		a.b.WriteByte(',')
	}
	jsonString(&a.b, key, false)
	a.b.WriteByte(':')
	kind, known := types[key]
	t := strings.TrimSpace(val)
	if kind != "string" && json.Valid([]byte(t)) && (known || !strings.HasPrefix(t, `"`)) {
		a.b.WriteString(t)
		return
	}
	jsonString(&a.b, val, false)
}

func (a *argList) json() string { return "{" + a.b.String() + "}" }
