package chat

import (
	"bytes"
	"encoding/json"
)

// shape says how a conversation is put to the template.
type shape struct {
	flat bool // content is a text: parts are joined by line ends
	full bool // no none: content is a text, tools and documents are left out when there are none
	text bool // the arguments of calls are the text of a JSON object, not the object
}

// vars gives the conversation to the template, in the shape that published templates expect. Only the texts of the begin and end tokens and the roles are trusted.
func (in Input) vars(sh shape) (map[string]value, error) {
	vars := map[string]value{}
	for k, raw := range in.Kwargs {
		v, err := fromJSON(raw)
		if err != nil {
			return nil, ErrMessage.With("chat_template_kwargs.%.40s is not JSON", k)
		}
		vars[k] = v
	}
	messages := &list{}
	for i, m := range in.Messages {
		d, err := m.value(sh)
		if err != nil {
			return nil, ErrMessage.With("message %d: %s", i, err)
		}
		messages.items = append(messages.items, d)
	}
	vars["messages"] = messages
	vars["add_generation_prompt"] = in.AddGenerationPrompt
	vars["bos_token"] = lit(in.BOS)
	vars["eos_token"] = lit(in.EOS)
	for name, list := range map[string][]json.RawMessage{"tools": in.Tools, "documents": in.Documents} {
		v, err := rawList(list)
		if err != nil {
			return nil, ErrMessage.With("%s: %s", name, err)
		}
		if v != nil || !sh.full {
			vars[name] = v
		}
	}
	return vars, nil
}

// rawList reads JSON values; none gives the template's none, as templates test for it.
func rawList(raws []json.RawMessage) (value, error) {
	if len(raws) == 0 {
		return nil, nil //nolint:nilnil // none is nil
	}
	l := &list{}
	for _, raw := range raws {
		v, err := fromJSON(raw)
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, v)
	}
	return l, nil
}

func (m Message) value(sh shape) (*dict, error) {
	d := newDict()
	d.put("role", foreign(m.Role))
	switch raw := bytes.TrimSpace(m.Content); {
	case len(raw) > 0:
		v, err := fromJSON(raw)
		if err != nil {
			return nil, err
		}
		if l, ok := v.(*list); ok && sh.flat {
			v = flatten(l)
		}
		if v == nil && sh.full {
			v = foreign("")
		}
		d.put("content", v)
	case len(m.ToolCalls) > 0 && !sh.full:
		d.put("content", nil)
	default:
		d.put("content", foreign(""))
	}
	for _, f := range []struct{ name, text string }{{"reasoning_content", m.ReasoningContent}, {"name", m.Name}, {"tool_call_id", m.ToolCallID}} {
		if f.text != "" {
			d.put(f.name, foreign(f.text))
		}
	}
	if len(m.ToolCalls) > 0 {
		calls := &list{}
		for _, c := range m.ToolCalls {
			calls.items = append(calls.items, c.value(sh))
		}
		d.put("tool_calls", calls)
	}
	return d, nil
}

// flatten joins parts that are text; a list with other parts stays.
func flatten(l *list) value {
	var texts []str
	for _, p := range l.items {
		d, ok := p.(*dict)
		if !ok {
			return l
		}
		v, _ := d.get(lit("text"))
		s, ok := v.(str)
		if !ok {
			return l
		}
		texts = append(texts, s)
	}
	return join(texts, foreign("\n"))
}

func (c ToolCall) value(sh shape) *dict {
	f := newDict()
	f.put("name", foreign(c.Function.Name))
	f.put("arguments", foreign(c.Function.Arguments))
	if v, err := fromJSON([]byte(c.Function.Arguments)); err == nil && !sh.text {
		if _, ok := v.(*dict); ok { // templates print the arguments as JSON: an object, not the text of one
			f.put("arguments", v)
		}
	}
	d := newDict()
	if c.ID != "" {
		d.put("id", foreign(c.ID))
	}
	kind := c.Type
	if kind == "" {
		kind = "function"
	}
	d.put("type", foreign(kind))
	d.put("function", f)
	return d
}
