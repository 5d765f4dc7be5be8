package dialect

import (
	"bytes"
)

// chain joins two translations: of the client's form into chat, and of chat into the upstream's.
type chain struct {
	near, far Translator
	buf       []byte
}

// newChain sets both up. The far one tells usage in the middle whatever the client asked for, and the near one leaves to it what only it knows.
func newChain(client, upstream Form, o Options) (Translator, error) {
	mid := o
	mid.AskedUsage = true
	far, err := New(Chat, upstream, mid)
	if err != nil {
		return nil, err
	}
	o.StreamUsage, o.Running, o.Extras, o.Thoughts, o.MaxCompletion = true, false, true, true, false
	o.MaxTokens, o.Temperature, o.TopP = 0, nil, nil // the far one puts them in, once
	near, err := New(client, Chat, o)
	if err != nil {
		return nil, err
	}
	return &chain{near: near, far: far}, nil
}

// Seen implements Translator: what the upstream told, and what both left out.
func (c *chain) Seen() *Seen {
	s := c.far.Seen()
	for _, d := range c.near.Seen().Dropped {
		s.drop(d)
	}
	return s
}

// Request implements Translator.
func (c *chain) Request(dst, body []byte) ([]byte, error) {
	mid, err := c.near.Request(nil, body)
	if err != nil {
		return dst, err
	}
	return c.far.Request(dst, mid)
}

// Response implements Translator.
func (c *chain) Response(dst, body []byte) ([]byte, error) {
	mid, err := c.far.Response(nil, body)
	if err != nil {
		return dst, err
	}
	return c.near.Response(dst, mid)
}

// Event implements Translator.
func (c *chain) Event(dst, data []byte) ([]byte, error) {
	var err error
	if c.buf, err = c.far.Event(c.buf[:0], data); err != nil {
		return dst, err
	}
	return c.pass(dst)
}

// Close implements Translator.
func (c *chain) Close(dst []byte) ([]byte, error) {
	var err error
	if c.buf, err = c.far.Close(c.buf[:0]); err != nil {
		return dst, err
	}
	if dst, err = c.pass(dst); err != nil {
		return dst, err
	}
	return c.near.Close(dst)
}

// pass hands the events in between, which we wrote ourselves, to the near side.
func (c *chain) pass(dst []byte) (_ []byte, err error) {
	for e := range bytes.SplitSeq(c.buf, []byte("\n\n")) {
		if data, ok := bytes.CutPrefix(e, []byte("data: ")); ok {
			if dst, err = c.near.Event(dst, data); err != nil {
				return dst, err
			}
		}
	}
	return dst, nil
}
