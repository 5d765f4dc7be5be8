package dialect

import (
	"fmt"
	"strings"
)

// itemWriter gives an answer the form of responses: items one after the other, each with its events.
type itemWriter struct {
	r       response
	unique  string
	begun   bool
	closed  bool
	seq     int
	open    string // type of the open item, "" = none
	itemID  string
	buf     strings.Builder // its text or arguments
	name    string
	callID  string
	current int // index of the open call as the upstream counts
	calls   int
	past    map[int]bool
	reason  string
}

// event appends one event with its number. rest is the inside of the object behind type and number, as JSON members.
func (w *itemWriter) event(dst []byte, kind string, fields map[string]any) ([]byte, error) {
	fields["type"] = kind
	fields["sequence_number"] = w.seq
	w.seq++
	return appendNamed(dst, kind, fields)
}

func (w *itemWriter) add(v any) { w.r.Output = append(w.r.Output, raw(v)) }

// id makes the id of the next item.
func (w *itemWriter) id(prefix string) string {
	return fmt.Sprintf("%s_%s_%d", prefix, w.unique, len(w.r.Output))
}

// ended is the answer at its end.
func (w *itemWriter) ended(u *Tokens) *response {
	r := &w.r
	r.Status = "completed"
	switch w.reason {
	case "length":
		r.Status, r.IncompleteDetails = "incomplete", &incomplete{"max_output_tokens"}
	case "content_filter":
		r.Status, r.IncompleteDetails = "incomplete", &incomplete{"content_filter"}
	}
	if u.Told {
		r.Usage = responsesUsageOf(u)
	}
	return r
}

func (w *itemWriter) begin(dst []byte) ([]byte, error) {
	w.begun = true
	dst, err := w.event(dst, "response.created", map[string]any{"response": w.r})
	if err != nil {
		return dst, err
	}
	return w.event(dst, "response.in_progress", map[string]any{"response": w.r})
}

// start opens an item, closing what is open.
func (w *itemWriter) start(dst []byte, kind string) (_ []byte, err error) {
	if dst, err = w.end(dst); err != nil {
		return dst, err
	}
	w.open = kind
	w.buf.Reset()
	var v any
	switch kind {
	case "message":
		w.itemID = w.id("msg")
		v = messageItem{kind, w.itemID, "in_progress", "assistant", []outputText{}}
	case "reasoning":
		w.itemID = w.id("rs")
		v = reasoningItem{kind, w.itemID, "in_progress", []itemText{}, []itemText{}}
	default:
		w.itemID = w.id("fc")
		v = callItem{kind, w.itemID, "in_progress", w.callID, w.name, ""}
	}
	if dst, err = w.event(dst, "response.output_item.added", map[string]any{"output_index": len(w.r.Output), "item": v}); err != nil {
		return dst, err
	}
	switch kind {
	case "message":
		return w.event(dst, "response.content_part.added", w.at(map[string]any{"content_index": 0, "part": newOutputText("")}))
	case "reasoning":
		return w.event(dst, "response.content_part.added", w.at(map[string]any{"content_index": 0, "part": itemText{"reasoning_text", ""}}))
	}
	return dst, nil
}

// at adds which item an event is about.
func (w *itemWriter) at(fields map[string]any) map[string]any {
	fields["item_id"], fields["output_index"] = w.itemID, len(w.r.Output)
	return fields
}

// end closes the open item.
func (w *itemWriter) end(dst []byte) (_ []byte, err error) {
	text := w.buf.String()
	var v any
	switch w.open {
	case "":
		return dst, nil
	case "message":
		if dst, err = w.event(dst, "response.output_text.done", w.at(map[string]any{"content_index": 0, "text": text, "logprobs": []string{}})); err != nil {
			return dst, err
		}
		if dst, err = w.event(dst, "response.content_part.done", w.at(map[string]any{"content_index": 0, "part": newOutputText(text)})); err != nil {
			return dst, err
		}
		v = messageItem{"message", w.itemID, "completed", "assistant", []outputText{newOutputText(text)}}
	case "reasoning":
		if dst, err = w.event(dst, "response.reasoning_text.done", w.at(map[string]any{"content_index": 0, "text": text})); err != nil {
			return dst, err
		}
		if dst, err = w.event(dst, "response.content_part.done", w.at(map[string]any{"content_index": 0, "part": itemText{"reasoning_text", text}})); err != nil {
			return dst, err
		}
		v = reasoningItem{"reasoning", w.itemID, "completed", []itemText{}, []itemText{{"reasoning_text", text}}}
	default:
		if dst, err = w.event(dst, "response.function_call_arguments.done", w.at(map[string]any{"name": w.name, "arguments": text})); err != nil {
			return dst, err
		}
		v = callItem{"function_call", w.itemID, "completed", w.callID, w.name, text}
		if w.past == nil {
			w.past = map[int]bool{}
		}
		w.past[w.current] = true
	}
	dst, err = w.event(dst, "response.output_item.done", map[string]any{"output_index": len(w.r.Output), "item": v})
	w.add(v)
	w.open = ""
	return dst, err
}

func (w *itemWriter) piece(dst []byte, kind, event, s string) (_ []byte, err error) {
	if w.open != kind {
		if dst, err = w.start(dst, kind); err != nil {
			return dst, err
		}
	}
	w.buf.WriteString(s)
	fields := map[string]any{"content_index": 0, "delta": s}
	if kind == "message" {
		fields["logprobs"] = []string{}
	}
	return w.event(dst, event, w.at(fields))
}

func (w *itemWriter) text(dst []byte, s string) ([]byte, error) {
	return w.piece(dst, "message", "response.output_text.delta", s)
}

func (w *itemWriter) thought(dst []byte, s string) ([]byte, error) {
	return w.piece(dst, "reasoning", "response.reasoning_text.delta", s)
}

func (w *itemWriter) call(dst []byte, c *chatCall) (_ []byte, err error) {
	n := w.current
	switch {
	case c.Index != nil:
		n = *c.Index
	case c.ID != "" && w.calls > 0: // a server that counts none: an id begins a call
		n = w.calls
	}
	if w.open != "function_call" || n != w.current {
		if w.past[n] {
			return dst, errCallOrder
		}
		if dst, err = w.end(dst); err != nil {
			return dst, err
		}
		w.name, w.callID = c.Function.Name, callID(c.ID, w.unique, w.calls)
		if dst, err = w.start(dst, "function_call"); err != nil {
			return dst, err
		}
		w.current = n
		w.calls++
	}
	if c.Function.Arguments == "" {
		return dst, nil
	}
	w.buf.WriteString(c.Function.Arguments)
	return w.event(dst, "response.function_call_arguments.delta", w.at(map[string]any{"delta": c.Function.Arguments}))
}

// close ends the item and the answer, once.
func (w *itemWriter) close(dst []byte, u *Tokens) (_ []byte, err error) {
	if w.closed {
		return dst, nil
	}
	w.closed = true
	if w.open == "" && len(w.r.Output) == 0 { // an empty answer is a message without text
		if dst, err = w.start(dst, "message"); err != nil {
			return dst, err
		}
	}
	if dst, err = w.end(dst); err != nil {
		return dst, err
	}
	r := w.ended(u)
	return w.event(dst, "response."+r.Status, map[string]any{"response": r})
}
