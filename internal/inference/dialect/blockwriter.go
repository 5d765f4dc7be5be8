package dialect

import (
	"errors"
)

var errCallOrder = errors.New("a tool call goes on after the next one began")

// blockWriter gives a stream Anthropic's form: blocks one after the other, each begun and ended.
type blockWriter struct {
	begun    bool
	closed   bool
	index    int    // of the open block, or of the next one
	open     string // type of the open block, "" = none
	calls    int    // tool calls begun
	current  int    // index of the open call as the upstream counts
	ended    map[int]bool
	reason   string
	sequence *string
}

func (w *blockWriter) begin(dst []byte, o *Options, u *Tokens) ([]byte, error) {
	if w.begun {
		return dst, nil
	}
	w.begun = true
	m := messageAnswer{ID: "msg_" + o.ID, Type: "message", Role: "assistant", Model: o.Public, Content: []block{}, Usage: anthropicUsageOf(u)}
	return appendNamed(dst, "message_start", struct {
		Type    string        `json:"type"`
		Message messageAnswer `json:"message"`
	}{"message_start", m})
}

type blockStart struct {
	Type  string `json:"type"`
	Index int    `json:"index"`
	Block block  `json:"content_block"`
}

type blockDelta struct {
	Type  string            `json:"type"`
	Index int               `json:"index"`
	Delta map[string]string `json:"delta"`
}

// start opens a block of a type, closing what is open.
func (w *blockWriter) start(dst []byte, b block) ([]byte, error) {
	dst, err := w.end(dst)
	if err != nil {
		return dst, err
	}
	w.open = b.Type
	return appendNamed(dst, "content_block_start", blockStart{"content_block_start", w.index, b})
}

func (w *blockWriter) delta(dst []byte, kind, field, text string) ([]byte, error) {
	return appendNamed(dst, "content_block_delta", blockDelta{"content_block_delta", w.index, map[string]string{"type": kind, field: text}})
}

// end closes the open block.
func (w *blockWriter) end(dst []byte) ([]byte, error) {
	if w.open == "" {
		return dst, nil
	}
	if w.open == "tool_use" {
		if w.ended == nil {
			w.ended = map[int]bool{}
		}
		w.ended[w.current] = true
	}
	w.open = ""
	n := w.index
	w.index++
	return appendNamed(dst, "content_block_stop", struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
	}{"content_block_stop", n})
}

func (w *blockWriter) text(dst []byte, s string) (_ []byte, err error) {
	if w.open != "text" {
		if dst, err = w.start(dst, textBlock("")); err != nil {
			return dst, err
		}
	}
	return w.delta(dst, "text_delta", "text", s)
}

func (w *blockWriter) thinking(dst []byte, s string) (_ []byte, err error) {
	if w.open != "thinking" {
		none := ""
		if dst, err = w.start(dst, block{Type: "thinking", Thinking: &none, Signature: &none}); err != nil {
			return dst, err
		}
	}
	return w.delta(dst, "thinking_delta", "thinking", s)
}

// signature passes on what proves thoughts that were shown already, and thoughts that are not shown.
func (w *blockWriter) signature(dst []byte, list []block) (_ []byte, err error) {
	for _, b := range list {
		switch {
		case b.Type == "thinking" && w.open == "thinking" && value(b.Signature) != "":
			if dst, err = w.delta(dst, "signature_delta", "signature", value(b.Signature)); err == nil {
				dst, err = w.end(dst)
			}
		case b.Type == "redacted_thinking":
			if dst, err = w.start(dst, b); err == nil {
				dst, err = w.end(dst)
			}
		}
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// call passes on a piece of a tool call. Anthropic's blocks come one after the other, so a call that goes on after the next began has no place.
func (w *blockWriter) call(dst []byte, o *Options, c *chatCall) (_ []byte, err error) {
	n := w.current
	switch {
	case c.Index != nil:
		n = *c.Index
	case c.ID != "" && w.calls > 0: // a server that counts none: an id begins a call
		n = w.calls
	}
	if w.open != "tool_use" || n != w.current {
		if w.ended[n] {
			return dst, errCallOrder
		}
		b := block{Type: "tool_use", ID: callID(c.ID, o.ID, w.calls), Name: c.Function.Name, Input: []byte("{}")}
		if dst, err = w.start(dst, b); err != nil {
			return dst, err
		}
		w.current = n
		w.calls++
	}
	if c.Function.Arguments == "" {
		return dst, nil
	}
	return w.delta(dst, "input_json_delta", "partial_json", c.Function.Arguments)
}

// close ends the block and the message, once.
func (w *blockWriter) close(dst []byte, u *Tokens) ([]byte, error) {
	if w.closed {
		return dst, nil
	}
	w.closed = true
	dst, err := w.end(dst)
	if err != nil {
		return dst, err
	}
	if w.reason == "" || w.reason == "end_turn" && w.calls > 0 {
		w.reason = "end_turn"
		if w.calls > 0 {
			w.reason = "tool_use"
		}
	}
	type stop struct {
		StopReason   string  `json:"stop_reason"`
		StopSequence *string `json:"stop_sequence"`
	}
	dst, err = appendNamed(dst, "message_delta", struct {
		Type  string            `json:"type"`
		Delta stop              `json:"delta"`
		Usage anthropicUsageOut `json:"usage"`
	}{"message_delta", stop{w.reason, w.sequence}, anthropicUsageOf(u)})
	if err != nil {
		return dst, err
	}
	return appendNamed(dst, "message_stop", struct {
		Type string `json:"type"`
	}{"message_stop"})
}
