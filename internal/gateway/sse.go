package gateway

import "bytes"

var sseFields = [][]byte{[]byte("data"), []byte("event"), []byte("id"), []byte("retry")}

// fieldLines reports that every line is a comment or a field of an event stream. A client would skip others, but an upstream that sends them has lost its way: a page of some proxy, another answer's bytes.
func fieldLines(e []byte) bool {
	for line := range bytes.Lines(e) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 || line[0] == ':' {
			continue
		}
		name, _, _ := bytes.Cut(line, []byte(":"))
		known := false
		for _, f := range sseFields {
			known = known || bytes.Equal(name, f)
		}
		if !known {
			return false
		}
	}
	return true
}

// astray notes that the stream holds what is no event of it.
func (c *cutter) astray() {
	if c.broken == nil {
		c.broken = ErrUpstreamProtocol.With("the engine's stream holds something that is no event")
	}
}
