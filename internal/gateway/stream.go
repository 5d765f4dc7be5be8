package gateway

import (
	"bytes"
	"encoding/binary"
	"math/bits"

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
	told                                  bool
	inFresh, inCache, outText, outThought int64
}

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
			return nil
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
			return nil
		}
		c.event(piece[:n])
		piece = piece[n:]
	}
	return nil
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
	dataField    = []byte("data:")
	doneMark     = []byte("[DONE]")
	usageKey     = []byte(`"usage"`)
	noChoices    = []byte(`"choices":[]`)
	noChoicesGap = []byte(`"choices": []`)
	errorKey     = []byte(`"error"`)
	modelKey     = []byte(`"model"`)
	choicesKey   = []byte(`"choices"`)
	finishKey    = []byte(`"finish_reason"`)
)

// event handles one whole event with the empty line behind it.
func (c *cutter) event(e []byte) {
	data, ok := bytes.CutPrefix(e, dataField)
	if !ok {
		if i := bytes.Index(e, []byte("\ndata:")); i >= 0 {
			data, ok = e[i+6:], true
		}
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
	if isError(data) {
		c.failed = append([]byte(nil), bytes.TrimSpace(data)...)
		return
	}
	drop := span{}
	if at := bytes.Index(data, usageKey); at >= 0 {
		drop = c.readUsage(data, at)
		if bytes.Contains(data, noChoices) || bytes.Contains(data, noChoicesGap) {
			c.final = c.final || drop.ok()
			if !drop.ok() || c.keepUsage {
				c.emit(e, span{})
			}
			return
		}
	}
	if !c.finished {
		c.finished = hasFinish(data)
	}
	if n := contentBytes(data); n > 0 {
		c.events++
		c.bytes += int64(n)
	}
	if c.keepEach || !drop.ok() {
		c.emit(e, span{})
		return
	}
	off := len(e) - len(data)
	c.emit(e, span{drop.from + off, drop.to + off})
}

// emit appends the event without the span and with the client's name of the model.
func (c *cutter) emit(e []byte, drop span) {
	from := len(c.out)
	if drop.ok() {
		c.out = append(append(c.out, e[:drop.from]...), e[drop.to:]...)
	} else {
		c.out = append(c.out, e...)
	}
	if c.rename == "" {
		return
	}
	if m := modelValue(c.out[from:]); m.ok() {
		c.out = replace(c.out, from+m.from, from+m.to, c.rename)
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

// modelValue finds the string after the first "model" key. The key cannot stand unescaped inside another string.
func modelValue(b []byte) span {
	i := bytes.Index(b, modelKey)
	if i < 0 {
		return span{}
	}
	i = colon(b, i+len(modelKey))
	if i < 0 || i >= len(b) || b[i] != '"' {
		return span{}
	}
	s := scanner{b: b, i: i}
	if s.str() != nil {
		return span{}
	}
	return span{i, s.i}
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

// isError reports whether an event's data is an error object instead of a piece of the answer.
func isError(data []byte) bool {
	i := bytes.Index(data, errorKey)
	if i < 0 || bytes.Contains(data[:i], choicesKey) {
		return false
	}
	i = colon(data, i+len(errorKey))
	return i >= 0 && i < len(data) && (data[i] == '{' || data[i] == '"') && !bytes.Contains(data, choicesKey)
}

// readUsage reads the object after the "usage" key at `at` and returns the span to cut where the client did not ask for it, with the comma before or behind it. Null is no usage. Told several times, the last
// one counts: they are cumulative.
func (c *cutter) readUsage(data []byte, at int) span {
	i := colon(data, at+len(usageKey))
	if i < 0 || i >= len(data) || data[i] != '{' {
		return span{}
	}
	s := scanner{b: data, i: i}
	if s.value(1) != nil {
		return span{}
	}
	if u, ok := parseUsage(data[i:s.i]); ok {
		c.usage = u
	}
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
		return tokens{}, false
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

// hasFinish reports whether an event tells why the answer ends.
func hasFinish(data []byte) bool {
	i := bytes.Index(data, finishKey)
	if i < 0 {
		return false
	}
	i = colon(data, i+len(finishKey))
	return i >= 0 && i < len(data) && data[i] == '"'
}

// contentFields are the keys that carry what a model said.
var contentFields = [...][]byte{[]byte(`"content"`), []byte(`"text"`), []byte(`"reasoning_content"`), []byte(`"reasoning"`), []byte(`"arguments"`)}

// contentBytes returns the bytes of text in an event: 0 for role, finish and usage events.
func contentBytes(data []byte) int {
	n := 0
	for _, key := range contentFields {
		for rest := data; ; {
			i := bytes.Index(rest, key)
			if i < 0 {
				break
			}
			i = colon(rest, i+len(key))
			if i < 0 {
				break
			}
			if i < len(rest) && rest[i] == '"' {
				n += stringLen(rest[i+1:])
			}
			rest = rest[i:]
		}
	}
	return n
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
