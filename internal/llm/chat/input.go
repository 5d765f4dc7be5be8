package chat

import (
	"bytes"
	"encoding/json"
)

// vars gives the conversation to the template, in the shape that published templates expect. Only the texts of the begin and end tokens and the roles are trusted.
func (in Input) vars() (map[string]value, error) {
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
		d, err := m.value()
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
		vars[name] = v
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

func (m Message) value() (*dict, error) {
	d := newDict()
	d.put("role", foreign(m.Role))
	switch raw := bytes.TrimSpace(m.Content); {
	case len(raw) > 0:
		v, err := fromJSON(raw)
		if err != nil {
			return nil, err
		}
		d.put("content", v)
	case len(m.ToolCalls) > 0:
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
			calls.items = append(calls.items, c.value())
		}
		d.put("tool_calls", calls)
	}
	return d, nil
}

func (c ToolCall) value() *dict {
	f := newDict()
	f.put("name", foreign(c.Function.Name))
	f.put("arguments", foreign(c.Function.Arguments))
	if v, err := fromJSON([]byte(c.Function.Arguments)); err == nil {
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
