package dialect

import (
	"encoding/json"
	"fmt"
	"strings"
)

// responsesToChat serves a client of the responses form by a chat upstream. It keeps nothing: what a conversation holds comes with each request.
type responsesToChat struct {
	o    Options
	seen Seen
	body responsesBody
	out  itemWriter
}

// Seen implements Translator.
func (t *responsesToChat) Seen() *Seen { return &t.seen }

// Request implements Translator.
func (t *responsesToChat) Request(dst, body []byte) ([]byte, error) {
	r := &t.body
	if err := Decode(body, r); err != nil {
		return dst, err
	}
	if err := r.stateless(); err != nil {
		return dst, err
	}
	if err := t.seen.leftOut(body, responsesFields); err != nil {
		return dst, err
	}
	c := chatBody{Model: t.o.Model, Temperature: or(r.Temperature, t.o.Temperature), TopP: or(r.TopP, t.o.TopP), Stream: r.Stream, User: r.User}
	limit := r.MaxOutputTokens
	if limit == nil && t.o.MaxTokens > 0 {
		limit = &t.o.MaxTokens
	}
	if t.o.MaxCompletion {
		c.MaxCompletionTokens = limit
	} else {
		c.MaxTokens = limit
	}
	if r.TopLogprobs != nil && *r.TopLogprobs > 0 {
		return dst, unsupported("top_logprobs", "log probabilities are told by chat completions only")
	}
	t.o.streaming(&c)
	if r.Reasoning != nil && r.Reasoning.Effort != nil {
		c.ReasoningEffort = *r.Reasoning.Effort
	}
	if err := r.tooling(&c); err != nil {
		return dst, err
	}
	if err := r.format(&c, &t.seen); err != nil {
		return dst, err
	}
	rules, err := plainText(r.Instructions, "instructions")
	if err != nil {
		return dst, err
	}
	if rules != "" {
		c.Messages = append(c.Messages, chatMsg{Role: "system", Content: raw(rules)})
	}
	list, err := r.items()
	if err != nil {
		return dst, err
	}
	for i := range list {
		if err := t.item(&c, &list[i], fmt.Sprintf("input[%d]", i)); err != nil {
			return dst, err
		}
	}
	if len(c.Messages) == 0 {
		return dst, wrong("input", "must hold at least one message")
	}
	return appendJSON(dst, c)
}

// stateless refuses what needs answers that were kept.
func (r *responsesBody) stateless() error {
	const hint = "answers are not kept here: send the whole conversation as input"
	switch {
	case r.PreviousResponseID != "":
		return unsupported("previous_response_id", hint)
	case !isNull(r.Conversation):
		return unsupported("conversation", hint)
	case r.Store != nil && *r.Store:
		return unsupported("store", "answers are not kept here: leave it out or set it to false")
	case r.Background != nil && *r.Background:
		return unsupported("background", "answers are made while the client waits")
	case !isNull(r.Prompt):
		return unsupported("prompt", "there are no prompt templates here: send instructions and input")
	case isNull(r.Input):
		return wrong("input", "is required")
	}
	return nil
}

func (r *responsesBody) tooling(c *chatBody) error {
	for i, tool := range r.Tools {
		if tool.Type != "function" {
			return unsupported(fmt.Sprintf("tools[%d]", i), "a tool of type %.40q is not offered here: only functions of the client are", tool.Type)
		}
		c.Tools = append(c.Tools, chatTool{Type: "function", Function: &chatFunction{Name: tool.Name, Description: tool.Description, Parameters: object(tool.Parameters), Strict: tool.Strict}})
	}
	if len(c.Tools) == 0 {
		return nil
	}
	c.ParallelToolCalls = r.ParallelToolCalls
	h, err := readChoice(r.ToolChoice)
	switch {
	case err != nil:
		return err
	case h.mode == "named":
		c.ToolChoice = raw(map[string]any{"type": "function", "function": map[string]string{"name": h.name}})
	case h.mode != "":
		c.ToolChoice = raw(h.mode)
	}
	return nil
}

func (r *responsesBody) format(c *chatBody, seen *Seen) error {
	if r.Text == nil {
		return nil
	}
	if r.Text.Verbosity != "" {
		seen.drop("text.verbosity")
	}
	f := r.Text.Format
	if f == nil || f.Type == "text" {
		return nil
	}
	switch f.Type {
	case "json_object":
		c.ResponseFormat = &chatFormat{Type: f.Type}
	case "json_schema":
		c.ResponseFormat = &chatFormat{Type: f.Type, JSONSchema: &jsonSchema{Name: f.Name, Description: f.Description, Schema: f.Schema, Strict: f.Strict}}
	default:
		return unsupported("text.format", "a format of type %.40q is not offered", f.Type)
	}
	return nil
}

// items reads the input: a text is a message of the user.
func (r *responsesBody) items() ([]item, error) {
	var text string
	if json.Unmarshal(r.Input, &text) == nil {
		return []item{{Type: "message", Role: "user", Content: r.Input}}, nil
	}
	var holder struct {
		Input []item `json:"input"`
	}
	err := Decode(append(append([]byte(`{"input":`), r.Input...), '}'), &holder)
	return holder.Input, err
}

// item appends what an item becomes. Calls that follow each other are one message there, and thoughts belong to what follows them.
func (t *responsesToChat) item(c *chatBody, in *item, path string) error {
	last := func() *chatMsg { // the assistant's message that goes on
		if n := len(c.Messages); n > 0 && c.Messages[n-1].Role == "assistant" {
			return &c.Messages[n-1]
		}
		c.Messages = append(c.Messages, chatMsg{Role: "assistant"})
		return &c.Messages[len(c.Messages)-1]
	}
	switch in.Type {
	case "", "message":
		content, err := itemContent(in, path+".content")
		if err != nil {
			return err
		}
		switch in.Role {
		case "assistant":
			if m := last(); isNull(m.Content) && len(m.ToolCalls) == 0 {
				m.Content = content
				return nil
			}
			c.Messages = append(c.Messages, chatMsg{Role: "assistant", Content: content})
		case "developer":
			c.Messages = append(c.Messages, chatMsg{Role: "system", Content: content})
		case "user", "system":
			c.Messages = append(c.Messages, chatMsg{Role: in.Role, Content: content})
		default:
			return wrong(path+".role", "must be user, assistant, system or developer")
		}
	case "function_call":
		m := last()
		m.ToolCalls = append(m.ToolCalls, chatCall{ID: in.CallID, Type: "function", Function: FunctionCall{Name: in.Name, Arguments: in.Arguments}})
	case "function_call_output":
		text, err := plainText(in.Output, path+".output")
		if err != nil {
			return err
		}
		c.Messages = append(c.Messages, chatMsg{Role: "tool", ToolCallID: in.CallID, Content: raw(text)})
	case "reasoning":
		if !t.o.Thoughts {
			return nil
		}
		thought, err := in.thought(path)
		if err != nil || thought == "" {
			return err
		}
		c.Messages = append(c.Messages, chatMsg{Role: "assistant", ReasoningContent: thought})
	case "item_reference":
		return unsupported(path, "answers are not kept here: send the item itself")
	default:
		return unsupported(path, "an item of type %.40q is not taken here", in.Type)
	}
	return nil
}

func (in *item) thought(path string) (string, error) {
	var list []itemText
	if !isNull(in.Content) && json.Unmarshal(in.Content, &list) != nil {
		return "", wrong(path+".content", "must be a list of texts")
	}
	if len(list) == 0 {
		list = in.Summary
	}
	var s strings.Builder
	for _, p := range list {
		s.WriteString(p.Text)
	}
	return s.String(), nil
}

// itemContent translates the content of a message.
func itemContent(in *item, path string) (json.RawMessage, error) {
	var text string
	if isNull(in.Content) {
		return raw(""), nil
	}
	if json.Unmarshal(in.Content, &text) == nil {
		return in.Content, nil
	}
	var holder struct {
		Parts []itemPart `json:"content"`
	}
	if err := Decode(append(append([]byte(`{"content":`), in.Content...), '}'), &holder); err != nil {
		return nil, wrong(path, "%s", err.Error())
	}
	var out []chatPart
	var all strings.Builder
	for i, p := range holder.Parts {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch p.Type {
		case "input_text", "output_text", "text", "summary_text", "reasoning_text":
			out = append(out, chatPart{Type: "text", Text: p.Text})
			all.WriteString(p.Text)
		case "refusal":
			out = append(out, chatPart{Type: "text", Text: p.Refusal})
			all.WriteString(p.Refusal)
		case "input_image":
			if p.ImageURL == nil {
				return nil, unsupported(at, "only pictures with an image_url can be passed on")
			}
			detail := p.Detail
			if detail == "" {
				detail = p.ImageURL.Detail
			}
			out = append(out, chatPart{Type: "image_url", ImageURL: &chatImage{URL: p.ImageURL.URL, Detail: detail}})
		case "input_file":
			if p.FileData == "" {
				return nil, unsupported(at, "only files with file_data can be passed on")
			}
			out = append(out, chatPart{Type: "file", File: &chatFile{FileData: p.FileData, Filename: p.Filename}})
		default:
			return nil, unsupported(at, "a part of type %.40q is not taken here", p.Type)
		}
	}
	if onlyTexts(out) {
		return raw(all.String()), nil
	}
	return raw(out), nil
}

// Response implements Translator.
func (t *responsesToChat) Response(dst, body []byte) ([]byte, error) {
	in, err := t.seen.readChatAnswer(body)
	if err != nil {
		return dst, err
	}
	if len(in.Choices) == 0 || in.Choices[0].Message == nil {
		return dst, errNoAnswer
	}
	c := &in.Choices[0]
	t.seen.Final, t.seen.Finished = t.seen.Usage.Told, true
	t.begin()
	w := &t.out
	thought, text := c.Message.thought(), c.Message.text()
	t.seen.Bytes = int64(len(thought) + len(text))
	if thought != "" {
		w.add(reasoningItem{"reasoning", w.id("rs"), "completed", []itemText{}, []itemText{{"reasoning_text", thought}}})
	}
	if text != "" || len(c.Message.ToolCalls) == 0 {
		w.add(messageItem{"message", w.id("msg"), "completed", "assistant", []outputText{newOutputText(text)}})
	}
	for i, call := range c.Message.ToolCalls {
		w.add(callItem{"function_call", w.id("fc"), "completed", callID(call.ID, t.o.ID, i), call.Function.Name, call.Function.Arguments})
	}
	if c.FinishReason != nil {
		w.reason = *c.FinishReason
	}
	return appendJSON(dst, w.ended(&t.seen.Usage))
}

// begin sets what the answer repeats of the request.
func (t *responsesToChat) begin() {
	t.out.r = response{ID: "resp_" + t.o.ID, Object: "response", CreatedAt: t.o.Created, Status: "in_progress", Model: t.o.Public, Output: []json.RawMessage{}}
	t.out.r.echo(&t.body)
	t.out.unique = t.o.ID
}

// Event implements Translator.
func (t *responsesToChat) Event(dst, data []byte) ([]byte, error) {
	if string(data) == doneMark {
		t.seen.Done = true
		return t.Close(dst)
	}
	in, err := t.seen.readChatAnswer(data)
	if err != nil {
		if t.seen.Failed != nil {
			return dst, nil
		}
		return dst, err
	}
	if dst, err = t.start(dst); err != nil {
		return dst, err
	}
	for i := range in.Choices {
		c := &in.Choices[i]
		if c.Index != 0 {
			continue
		}
		if d := c.Delta; d != nil {
			if dst, err = t.delta(dst, d); err != nil {
				return dst, err
			}
		}
		if c.FinishReason != nil {
			t.seen.Finished, t.out.reason = true, *c.FinishReason
		}
	}
	return dst, nil
}

func (t *responsesToChat) start(dst []byte) ([]byte, error) {
	if t.out.begun {
		return dst, nil
	}
	t.begin()
	return t.out.begin(dst)
}

func (t *responsesToChat) delta(dst []byte, d *chatMsgIn) (_ []byte, err error) {
	if s := d.thought(); s != "" {
		t.seen.count(s)
		if dst, err = t.out.thought(dst, s); err != nil {
			return dst, err
		}
	}
	if s := d.text(); s != "" {
		t.seen.count(s)
		if dst, err = t.out.text(dst, s); err != nil {
			return dst, err
		}
	}
	for i := range d.ToolCalls {
		call := &d.ToolCalls[i]
		t.seen.count(call.Function.Name + call.Function.Arguments)
		if dst, err = t.out.call(dst, call); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// Close implements Translator.
func (t *responsesToChat) Close(dst []byte) ([]byte, error) {
	dst, err := t.start(dst)
	if err != nil {
		return dst, err
	}
	return t.out.close(dst, &t.seen.Usage)
}
