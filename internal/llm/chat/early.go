package chat

import "encoding/json"

// earlyFrom is how long a call in JSON must be to be reported before it is complete. Shorter ones are over soon, and one that turns out to be no call can still become content.
const earlyFrom = 512

// earlyCall finds name and arguments in a call that is still being written. It looks at each byte once and does not judge whether the JSON is valid.
type earlyCall struct {
	pos      int // next byte, from the start of the object
	depth    int
	str, esc bool
	from     int    // start of the string or container that is being read at depth 1
	key      string // whose value comes next; "" = a key comes next
	name     string
	args     int // start of the arguments' object, 0 = not seen
	end      int // its end, 0 = not seen
	told     bool
	sent     int // bytes of the arguments that were reported
}

// scan looks at s, the object so far.
func (e *earlyCall) scan(s string) {
	for ; e.pos < len(s); e.pos++ {
		switch c := s[e.pos]; {
		case e.esc:
			e.esc = false
		case e.str:
			e.esc = c == '\\'
			if c == '"' {
				e.str = false
				e.text(s[e.from : e.pos+1])
			}
		case c == '"':
			e.str = true
			if e.depth == 1 {
				e.from = e.pos
			}
		case c == '{' || c == '[':
			if e.depth == 1 && c == '{' && e.args == 0 && (e.key == "arguments" || e.key == "parameters") {
				e.args = e.pos
			}
			e.depth++
		case c == '}' || c == ']':
			if e.depth--; e.depth == 1 && e.args > 0 && e.end == 0 {
				e.end = e.pos + 1
			}
		case c == ',' && e.depth == 1:
			e.key = ""
		}
	}
}

// text takes a string at depth 1: a key, or the value of one.
func (e *earlyCall) text(quoted string) {
	var s string
	if e.depth != 1 || json.Unmarshal([]byte(quoted), &s) != nil {
		return
	}
	switch {
	case e.key == "":
		e.key = s
	case e.key == "name" && e.name == "":
		e.name = s
	}
}

// show reports what is known of a long call: the object starts at byte at of text and ends at stop, or is still open when that is negative.
func (p *Parser) show(text string, at, stop int) {
	if stop < 0 {
		stop = len(text)
	}
	if stop-at <= earlyFrom {
		return
	}
	e := &p.early
	e.scan(text[at:stop])
	if e.name == "" || e.args == 0 {
		return
	}
	if !e.told {
		e.told = true
		p.head(callText{name: e.name})
	}
	end := e.end
	if end == 0 {
		end = stop - at
	}
	p.arguments(text[at+e.args+e.sent : at+end])
	e.sent = end - e.args
}

// cutEarly ends a call that was reported early and broke off; false if there is none.
func (p *Parser) cutEarly() bool {
	if !p.early.told {
		return false
	}
	p.early.told = false
	p.broken = true
	p.calls++
	return true
}
