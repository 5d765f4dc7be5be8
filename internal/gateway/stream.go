package gateway

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"maas/internal/inference/dialect"
	"maas/internal/platform/fault"
)

// The errors of answers.
var (
	ErrUpstream         = fault.New(fault.Upstream, "gateway.upstream_error", "the engine failed to answer")
	ErrUpstreamProtocol = fault.New(fault.Upstream, "gateway.upstream_protocol", "the engine answered in a form that is none")
	ErrUpstreamTimeout  = fault.New(fault.Upstream, "gateway.upstream_timeout", "the engine did not answer in time")
	ErrUpstreamBroken   = fault.New(fault.Upstream, "gateway.upstream_broken", "the engine broke off in the middle of its answer")
)

const (
	cutterStart = 4 << 10
	maxEvent    = 1 << 20 // bytes of one event
)

// tokens is what an engine told or what was counted. Counts are disjoint.
type tokens struct {
	told                                           bool
	inFresh, inCache, inWrite, outText, outThought int64
}

func (t *tokens) prompt() int64 { return t.inFresh + t.inCache + t.inWrite }

// cutter turns the pieces of an engine's event stream into whole events, reads usage out of them and hands on what the client shall see. It knows nothing of sockets: bytes in, bytes out.
type cutter struct {
	keepUsage bool   // the client asked for the usage event
	keepEach  bool   // the client asked for usage in each event
	rename    string // JSON string to put in place of the engine's name of the model; "" = leave it

	buf      []byte // bytes of an event that is not whole yet
	out      []byte // events to be written
	usage    tokens
	final    bool   // usage came in an event of its own, at the end
	events   int64  // events with content seen: at least one token each
	bytes    int64  // content bytes seen, roughly: the size of the events less their frame
	done     bool   // [DONE] was seen
	finished bool   // a finish reason was seen
	failed   []byte // data of an error event
	broken   error  // the events cannot be understood

	tr       dialect.Translator // nil = the bytes pass
	messages bool               // they have Anthropic's form
	counted  bool               // usage holds an output that was counted here
}

func (c *cutter) reset(keepUsage, keepEach bool, rename string) {
	*c = cutter{keepUsage: keepUsage, keepEach: keepEach, rename: rename, buf: c.buf[:0], out: c.out[:0]}
}

// feed takes a piece in. What it completes stands in c.out, which the caller writes and then empties.
func (c *cutter) feed(piece []byte) error {
	if len(c.buf) > 0 { // the piece goes on where the last one was cut
		n := eventEnd(c.buf, piece)
		if n < 0 {
			if len(c.buf)+len(piece) > maxEvent {
				return ErrUpstreamProtocol.With("an event of the stream is over %d bytes", maxEvent)
			}
			c.buf = append(c.buf, piece...)
			return c.broken
		}
		c.buf = append(c.buf, piece[:n]...)
		piece = piece[n:]
		c.event(c.buf)
		c.buf = c.buf[:0]
	}
	for len(piece) > 0 {
		n := eventEnd(nil, piece)
		if n < 0 {
			if len(piece) > maxEvent {
				return ErrUpstreamProtocol.With("an event of the stream is over %d bytes", maxEvent)
			}
			c.buf = append(c.buf, piece...)
			return c.broken
		}
		c.event(piece[:n])
		piece = piece[n:]
	}
	return c.broken
}

// eventEnd returns how many bytes of b belong to the event that head began, with the empty line that ends it; -1 if it does not end in b. Lines end with LF or CRLF; a lone CR, which no engine sends, is not
// taken for one.
func eventEnd(head, b []byte) int {
	// the end may straddle: a line feed at the end of head, then LF or CRLF at the front of b
	if n := len(head); n > 0 {
		if head[n-1] == '\n' && len(b) > 0 && b[0] == '\n' {
			return 1
		}
		if head[n-1] == '\n' && len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
			return 2
		}
		if n > 1 && head[n-2] == '\n' && head[n-1] == '\r' && len(b) > 0 && b[0] == '\n' {
			return 1
		}
	}
	for i := 0; ; {
		k := bytes.IndexByte(b[i:], '\n')
		if k < 0 {
			return -1
		}
		i += k + 1
		if i < len(b) && b[i] == '\n' {
			return i + 1
		}
		if i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n' {
			return i + 2
		}
	}
}

var (
	dataField = []byte("data:")
	doneMark  = []byte("[DONE]")
	usageKey  = []byte(`"usage"`)
)

// event handles one whole event with the empty line behind it.
func (c *cutter) event(e []byte) {
	data, ok := bytes.CutPrefix(e, dataField)
	if !ok {
		if !fieldLines(e) {
			c.astray()
			return
		}
		if i := bytes.Index(e, []byte("\ndata:")); i >= 0 {
			data, ok = e[i+6:], true
		}
	}
	switch {
	case c.tr != nil && ok:
		c.translated(data)
		return
	case c.messages && ok:
		c.message(e, data)
		return
	}
	if !ok { // a comment, or an event without data: passes
		c.out = append(c.out, e...)
		return
	}
	data = bytes.TrimLeft(data, " ")
	if bytes.HasPrefix(data, doneMark) {
		c.done = true
		c.out = append(c.out, e...)
		return
	}
	if data[0] != '{' && data[0] != '\n' && data[0] != '\r' { // the event ends with an empty line, so there is a byte
		c.astray()
		return
	}
	l := look(data)
	if l.fails() {
		c.failed = append([]byte(nil), bytes.TrimSpace(data)...)
		return
	}
	drop := span{}
	if l.usage.ok() {
		drop = c.readUsage(data, &l)
		if l.empty {
			c.final = c.final || drop.ok()
			if drop.ok() && !c.keepUsage {
				return
			}
			drop = span{}
		}
	}
	c.finished = c.finished || l.finish
	if l.content > 0 {
		c.events++
		c.bytes += int64(l.content)
	}
	if c.keepEach {
		drop = span{}
	}
	c.emit(e, len(e)-len(data), drop, l.model)
}

// emit appends the event without the span drop and with the client's name of the model; the spans count from the byte off of the event.
func (c *cutter) emit(e []byte, off int, drop, model span) {
	if c.rename == "" {
		model = span{}
	}
	at := 0
	put := func(s span, text string) {
		if s.ok() && s.from+off >= at { // a name within the usage that was dropped is gone with it
			c.out = append(append(c.out, e[at:s.from+off]...), text...)
			at = s.to + off
		}
	}
	if drop.ok() && drop.from < model.from {
		put(drop, "")
		drop = span{}
	}
	put(model, c.rename)
	put(drop, "")
	c.out = append(c.out, e[at:]...)
}

// sight is what one pass over the data of an event, or over a whole answer, finds. Spans count from its first byte.
type sight struct {
	model   span // the string after the first "model" key
	usage   span // from the first "usage" key with an object on
	value   int  // where that object begins
	content int  // bytes of text in it: 0 for role, finish and usage events
	choices bool // it has a "choices" key
	empty   bool // whose list is empty
	failure bool // it has an "error" key with words or an object
	finish  bool // it tells why the answer ends
}

// fails reports that the data is an error object instead of a piece of the answer.
func (l *sight) fails() bool { return l.failure && !l.choices }

// look walks from string to string: what a colon follows is a key. Keys inside strings are escaped there, so they are never taken for ones.
func look(b []byte) (l sight) {
	for i := 0; ; {
		q := bytes.IndexByte(b[i:], '"')
		if q < 0 {
			return l
		}
		from := i + q
		end := from + 1 + stringLen(b[from+1:])
		if end >= len(b) {
			return l
		}
		v := colon(b, end+1)
		if v < 0 || v >= len(b) {
			i = end + 1
			continue
		}
		i = v
		text := -1 // length of the value if it is a string
		if b[v] == '"' {
			text = stringLen(b[v+1:])
			i = min(v+text+2, len(b))
		}
		l.key(b, span{from, end + 1}, v, text)
	}
}

// key notes one key of interest; v is where its value begins, text the length of the value if it is a string, else -1.
func (l *sight) key(b []byte, key span, v, text int) {
	switch string(b[key.from+1 : key.to-1]) {
	case "content", "text", "reasoning_content", "reasoning", "arguments", "partial_json", "thinking":
		l.content += max(text, 0)
	case "finish_reason":
		l.finish = l.finish || text >= 0
	case "model":
		if text >= 0 && !l.model.ok() {
			l.model = span{v, min(v+text+2, len(b))}
		}
	case "usage":
		if b[v] == '{' && !l.usage.ok() {
			l.usage, l.value = span{key.from, len(b)}, v
		}
	case "choices":
		l.choices = true
		if b[v] == '[' {
			w := v + 1
			for w < len(b) && b[w] == ' ' {
				w++
			}
			l.empty = w < len(b) && b[w] == ']'
		}
	case "error":
		l.failure = l.failure || text >= 0 || b[v] == '{'
	}
}

// replace puts s in place of b[from:to].
func replace(b []byte, from, to int, s string) []byte {
	if d := len(s) - (to - from); d > 0 {
		b = append(b, s[:d]...) // grows; the bytes are overwritten below
		copy(b[to+d:], b[to:len(b)-d])
	} else if d < 0 {
		copy(b[to+d:], b[to:])
		b = b[:len(b)+d]
	}
	copy(b[from:], s)
	return b
}

// colon skips spaces, a colon and spaces; -1 if there is none.
func colon(b []byte, i int) int {
	for i < len(b) && b[i] == ' ' {
		i++
	}
	if i >= len(b) || b[i] != ':' {
		return -1
	}
	i++
	for i < len(b) && b[i] == ' ' {
		i++
	}
	return i
}

// readUsage reads the usage object and returns the span to cut where the client did not ask for it, with the comma before or behind it. Told several times, the last one counts: they are cumulative.
func (c *cutter) readUsage(data []byte, l *sight) span {
	s := scanner{b: data, i: l.value}
	if s.value(1) != nil {
		return span{}
	}
	if u, ok := parseUsage(data[l.value:s.i]); ok {
		c.usage = u
	}
	at := l.usage.from
	cut := span{at, s.i}
	switch {
	case at > 0 && data[at-1] == ',':
		cut.from--
	case at > 1 && data[at-1] == ' ' && data[at-2] == ',':
		cut.from -= 2
	case s.i < len(data) && data[s.i] == ',':
		cut.to++
	}
	return cut
}

// parseUsage reads OpenAI's usage object. Cached tokens are inside prompt_tokens, reasoning tokens inside completion_tokens, unless the sum says that they are not.
func parseUsage(b []byte) (tokens, bool) {
	prompt, ok1 := number(b, `"prompt_tokens"`)
	out, ok2 := number(b, `"completion_tokens"`)
	if !ok1 && !ok2 {
		return parseOther(b)
	}
	cached, ok := number(b, `"cached_tokens"`)
	if !ok {
		cached, _ = number(b, `"prompt_cache_hit_tokens"`)
	}
	thought, _ := number(b, `"reasoning_tokens"`)
	total, _ := number(b, `"total_tokens"`)
	if thought > 0 && total == prompt+out+thought {
		out += thought
	}
	cached, thought = min(max(cached, 0), prompt), min(max(thought, 0), out)
	return tokens{told: true, inFresh: prompt - cached, inCache: cached, outText: out - thought, outThought: thought}, true
}

// parseOther reads the usage objects of other forms: Anthropic's, whose cached tokens lie outside the input, that of responses, where they lie inside, and a bare total.
func parseOther(b []byte) (t tokens, ok bool) {
	if t.anthropic(b); t.told {
		if cached, ok := number(b, `"cached_tokens"`); ok {
			t.inCache = min(cached, t.inFresh)
			t.inFresh -= t.inCache
		}
		if thought, ok := number(b, `"reasoning_tokens"`); ok {
			t.outThought = min(thought, t.outText)
			t.outText -= t.outThought
		}
		return t, true
	}
	t.inFresh, t.told = number(b, `"total_tokens"`)
	return t, t.told
}

// number finds a key and reads the whole number behind it. Negative and absurd numbers read as 0.
func number(b []byte, key string) (int64, bool) {
	i := bytes.Index(b, []byte(key))
	if i < 0 {
		return 0, false
	}
	i = colon(b, i+len(key))
	if i < 0 {
		return 0, false
	}
	end := i
	for end < len(b) && (b[end] >= '0' && b[end] <= '9' || b[end] == '-' || b[end] == '.' || b[end] == 'e' || b[end] == 'E' || b[end] == '+') {
		end++
	}
	n, ok := integer(b[i:end])
	if !ok || n < 0 || n > 1<<40 {
		return 0, ok
	}
	return n, true
}

// stringLen is the number of bytes to the closing quote.
func stringLen(b []byte) int {
	for i := 0; i < len(b); {
		if i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			q, e := w^(ones*'"'), w^(ones*'\\')
			hit := ((q-ones)&^q | (e-ones)&^e) & high
			if hit == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(hit) / 8
		}
		switch b[i] {
		case '"':
			return i
		case '\\':
			i += 2
		default:
			i++
		}
	}
	return len(b)
}
