package gateway

import (
	"bytes"
	"errors"
	"io"
	"time"

	"maas/internal/inference"
	"maas/internal/platform/fault"
	"maas/internal/platform/h1"
	"maas/internal/user"
)

const (
	wholeKept = 1 << 20  // a whole answer up to this size is held, so that its length and usage are known before it goes out
	tailKept  = 32 << 10 // of a larger one the end is kept, where usage stands as a rule
)

// whole passes an answer on that comes in one piece.
func (c *call) whole(answer *h1.Response, a *inference.Attempt) (*fault.Error, bool) {
	c.cut.reset(true, true, "")
	rename := ""
	if a.Endpoint.Model != c.row.Model {
		rename = quoted(c.row.Model)
	}
	for {
		piece, _, err := answer.Next(c.bodyWait())
		if len(piece) > 0 {
			if c.ttft == 0 {
				c.ttft = time.Since(c.start)
			}
			c.cut.buf = append(c.cut.buf, piece...)
			switch n := len(c.cut.buf); {
			case c.way.tr != nil && n > translatedMost:
				return ErrUpstreamProtocol.With("the answer is over %d bytes", translatedMost), false
			case c.way.tr == nil && n > wholeKept:
				return c.large(answer, rename)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return c.wholeEnd(rename)
		case c.gone.Err() != nil:
			c.row.End = user.EndClientAbort
			c.told, _ = usageIn(c.cut.buf)
			return ErrUpstreamBroken, false
		default:
			c.row.End = user.EndUpstreamError
			return asFault(err), !errors.Is(err, h1.ErrTimeout)
		}
	}
}

func (c *call) wholeEnd(rename string) (*fault.Error, bool) {
	if c.way.tr != nil {
		return c.wholeTranslated()
	}
	body := c.cut.buf
	l := look(body)
	if c.failsWhole(body, &l) { // an error under status 200
		c.row.End = user.EndUpstreamError
		return readRefusal(500, "", body).fault(), true
	}
	if !oneObject(body) {
		c.row.End = user.EndUpstreamError
		return ErrUpstreamProtocol, true
	}
	c.told, _ = usageIn(body)
	c.cut.bytes = int64(l.content)
	c.row.End = user.EndDone
	if m := l.model; rename != "" && m.ok() {
		c.cut.buf = replace(c.cut.buf, m.from, m.to, rename)
		body = c.cut.buf
	}
	c.begun = true
	c.out.head(c, false, int64(len(body)))
	if c.out.write(body) != nil || c.out.flush() != nil {
		c.left = true // the answer was made, and is billed
	}
	return nil, false
}

// large passes a very large answer on as it comes and keeps its end.
func (c *call) large(answer *h1.Response, rename string) (*fault.Error, bool) {
	if rename != "" {
		if m := look(c.cut.buf).model; m.ok() {
			c.cut.buf = replace(c.cut.buf, m.from, m.to, rename)
		}
	}
	c.begun = true
	c.out.head(c, false, -1)
	tail := append([]byte(nil), c.cut.buf[len(c.cut.buf)-tailKept:]...)
	early, ok := usageIn(c.cut.buf)
	c.cut.bytes = int64(len(c.cut.buf))
	err := c.out.write(c.cut.buf)
	c.cut.buf = nil
	for {
		if err != nil && !c.left {
			c.leave(answer, time.Now())
		}
		piece, more, rerr := answer.Next(betweenEvents)
		if len(piece) > 0 {
			c.cut.bytes += int64(len(piece))
			if tail = append(tail, piece...); len(tail) > 4*tailKept {
				tail = append(tail[:0], tail[len(tail)-tailKept:]...)
			}
			if !c.left {
				if err = c.out.write(piece); err == nil && !more {
					err = c.out.flush()
				}
			}
		}
		if rerr == nil {
			continue
		}
		if c.told, _ = usageIn(tail); !c.told.told && ok {
			c.told = early
		}
		switch {
		case errors.Is(rerr, io.EOF) && !c.left:
			c.row.End = user.EndDone
			return nil, false
		case c.left || c.gone.Err() != nil:
			c.row.End = user.EndClientAbort
			return ErrUpstreamBroken, false
		}
		c.row.End = user.EndUpstreamError
		return asFault(rerr), false
	}
}

// usageIn finds the usage object of a whole answer. The key cannot stand unescaped inside a string; of several objects under that name the first that reads as usage counts.
func usageIn(b []byte) (tokens, bool) {
	for at := 0; ; {
		i := bytes.Index(b[at:], usageKey)
		if i < 0 {
			return tokens{}, false
		}
		at += i + len(usageKey)
		v := colon(b, at)
		if v < 0 || v >= len(b) || b[v] != '{' {
			continue
		}
		s := scanner{b: b, i: v}
		if s.value(1) != nil {
			continue
		}
		if u, ok := parseUsage(b[v:s.i]); ok {
			return u, true
		}
	}
}
