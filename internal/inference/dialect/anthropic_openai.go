package dialect

import (
	"encoding/json"
	"fmt"
	"strings"
)

// messagesToChat serves an Anthropic client by a chat upstream.
type messagesToChat struct {
	o    Options
	seen Seen
	out  blockWriter
}

// Seen implements Translator.
func (t *messagesToChat) Seen() *Seen { return &t.seen }

// Request implements Translator.
func (t *messagesToChat) Request(dst, body []byte) ([]byte, error) {
	var m messagesBody
	if err := Decode(body, &m); err != nil {
		return dst, err
	}
	switch {
	case m.MaxTokens == nil:
		return dst, wrong("max_tokens", "is required")
	case *m.MaxTokens < 1:
		return dst, wrong("max_tokens", "must be at least 1")
	case len(m.Messages) == 0:
		return dst, wrong("messages", "must hold at least one message")
	}
	if err := t.seen.leftOut(body, messagesFields); err != nil {
		return dst, err
	}
	c := chatBody{Model: t.o.Model, Temperature: or(m.Temperature, t.o.Temperature), TopP: or(m.TopP, t.o.TopP), Stop: m.StopSequences, Stream: m.Stream}
	if t.o.MaxCompletion {
		c.MaxCompletionTokens = m.MaxTokens
	} else {
		c.MaxTokens = m.MaxTokens
	}
	if m.TopK != nil {
		if t.o.Extras {
			c.TopK = m.TopK
		} else {
			t.seen.drop("top_k")
		}
	}
	if m.Metadata != nil {
		if c.User = m.Metadata.UserID; len(c.User) > userMost {
			c.User = ""
			t.seen.drop("metadata.user_id")
		}
	}
	t.o.streaming(&c)
	if err := t.tooling(&m, &c); err != nil {
		return dst, err
	}
	system, err := blocks(m.System, "system")
	if err != nil {
		return dst, err
	}
	var rules []string
	for i, b := range system {
		if b.Type != "text" {
			return dst, wrong(fmt.Sprintf("system[%d].type", i), "must be text")
		}
		rules = append(rules, value(b.Text))
	}
	if len(rules) > 0 {
		c.Messages = append(c.Messages, chatMsg{Role: "system", Content: raw(strings.Join(rules, "\n\n"))})
	}
	for i, turn := range m.Messages {
		if err := t.turn(&c, turn, fmt.Sprintf("messages[%d]", i)); err != nil {
			return dst, err
		}
	}
	return appendJSON(dst, c)
}

// userMost is what OpenAI takes for a user. Coding agents send longer ones, which say more than who asks.
const userMost = 64

// streaming asks for usage at the end of a stream, and on the way where the upstream tells it.
func (o *Options) streaming(c *chatBody) {
	if c.Stream && o.StreamUsage {
		c.StreamOptions = &chatStreamOptions{IncludeUsage: true, ContinuousUsage: o.Running}
	}
}

func (t *messagesToChat) tooling(m *messagesBody, c *chatBody) error {
	for i, tool := range m.Tools {
		if tool.Type != "" && tool.Type != "custom" {
			return unsupported(fmt.Sprintf("tools[%d]", i), "the tool %.40q runs at Anthropic only", tool.Type)
		}
		c.Tools = append(c.Tools, chatTool{Type: "function", Function: &chatFunction{Name: tool.Name, Description: tool.Description, Parameters: object(tool.InputSchema), Strict: tool.Strict}})
	}
	if h := m.ToolChoice; h != nil && len(c.Tools) > 0 {
		switch h.Type {
		case "auto", "none":
			c.ToolChoice = raw(h.Type)
		case "any":
			c.ToolChoice = raw("required")
		case "tool":
			c.ToolChoice = raw(map[string]any{"type": "function", "function": map[string]string{"name": h.Name}})
		default:
			return wrong("tool_choice.type", "must be auto, any, tool or none")
		}
		if h.DisableParallel {
			off := false
			c.ParallelToolCalls = &off
		}
	}
	if th := m.Thinking; th != nil && th.Type == "enabled" {
		switch {
		case th.BudgetTokens <= 4096:
			c.ReasoningEffort = "low"
		case th.BudgetTokens <= 12_288:
			c.ReasoningEffort = "medium"
		default:
			c.ReasoningEffort = "high"
		}
	}
	o := m.OutputConfig
	if o == nil {
		return nil
	}
	if o.Effort != "" {
		c.ReasoningEffort = o.Effort
	}
	if f := o.Format; f != nil {
		if f.Type != "json_schema" {
			return unsupported("output_config.format", "a format of type %.40q is not offered by this model's provider", f.Type)
		}
		strict := true
		c.ResponseFormat = &chatFormat{Type: "json_schema", JSONSchema: &jsonSchema{Name: "output", Schema: f.Schema, Strict: &strict}}
	}
	return nil
}

// turn appends the messages that one turn becomes: each result of a tool is a message of its own there, before what the user says.
func (t *messagesToChat) turn(c *chatBody, m turn, path string) error {
	list, err := blocks(m.Content, path+".content")
	if err != nil {
		return err
	}
	switch m.Role {
	case "assistant":
		a := chatMsg{Role: "assistant"}
		var text, thought strings.Builder
		for i, b := range list {
			switch b.Type {
			case "text":
				text.WriteString(value(b.Text))
			case "thinking":
				thought.WriteString(value(b.Thinking))
			case "redacted_thinking":
			case "tool_use":
				a.ToolCalls = append(a.ToolCalls, chatCall{ID: b.ID, Type: "function", Function: FunctionCall{Name: b.Name, Arguments: string(object(b.Input))}})
			default:
				return unsupported(fmt.Sprintf("%s.content[%d]", path, i), "a block of type %.40q is not taken by this model's provider", b.Type)
			}
		}
		if t.o.Thoughts {
			a.ReasoningContent = thought.String()
		}
		if text.Len() > 0 || len(a.ToolCalls) == 0 {
			a.Content = raw(text.String())
		}
		c.Messages = append(c.Messages, a)
		return nil
	case "user":
		return t.userTurn(c, list, path)
	case "system": // inside the conversation: newer clients of Anthropic send it
		var text strings.Builder
		for _, b := range list {
			text.WriteString(value(b.Text))
		}
		c.Messages = append(c.Messages, chatMsg{Role: "system", Content: raw(text.String())})
		return nil
	}
	return wrong(path+".role", "must be user or assistant")
}

func (t *messagesToChat) userTurn(c *chatBody, list []block, path string) error {
	var said []chatPart
	for i, b := range list {
		at := fmt.Sprintf("%s.content[%d]", path, i)
		if b.Type != "tool_result" {
			p, err := chatPartOf(b, at)
			if err != nil {
				return err
			}
			said = append(said, p)
			continue
		}
		inner, err := blocks(b.Content, at+".content")
		if err != nil {
			return err
		}
		var text strings.Builder
		if b.IsError {
			text.WriteString("Error: ") // the form has no other place to say so
		}
		for j, in := range inner {
			if in.Type == "text" {
				text.WriteString(value(in.Text))
				continue
			}
			p, err := chatPartOf(in, fmt.Sprintf("%s.content[%d]", at, j))
			if err != nil {
				return err
			}
			said = append(said, p) // a tool's answer holds texts only there: its pictures follow as the user's
		}
		c.Messages = append(c.Messages, chatMsg{Role: "tool", ToolCallID: b.ToolUseID, Content: raw(text.String())})
	}
	switch {
	case len(said) == 1 && said[0].Type == "text":
		c.Messages = append(c.Messages, chatMsg{Role: "user", Content: raw(said[0].Text)})
	case onlyTexts(said):
		var text []string
		for _, p := range said {
			text = append(text, p.Text)
		}
		if len(text) > 0 {
			c.Messages = append(c.Messages, chatMsg{Role: "user", Content: raw(strings.Join(text, "\n\n"))}) // many servers take lists of parts for pictures only
		}
	default:
		c.Messages = append(c.Messages, chatMsg{Role: "user", Content: raw(said)})
	}
	return nil
}

func onlyTexts(list []chatPart) bool {
	for _, p := range list {
		if p.Type != "text" {
			return false
		}
	}
	return true
}

// chatPartOf translates what a user may say: text, pictures, documents.
func chatPartOf(b block, path string) (chatPart, error) {
	var s source
	if !isNull(b.Source) {
		if err := Decode(b.Source, &s); err != nil {
			return chatPart{}, wrong(path+".source", "%s", err.Error())
		}
	}
	switch {
	case b.Type == "text":
		return chatPart{Type: "text", Text: value(b.Text)}, nil
	case b.Type == "image" && s.Type == "base64":
		return chatPart{Type: "image_url", ImageURL: &chatImage{URL: "data:" + s.MediaType + ";base64," + s.Data}}, nil
	case b.Type == "image" && s.Type == "url":
		return chatPart{Type: "image_url", ImageURL: &chatImage{URL: s.URL}}, nil
	case b.Type == "document" && s.Type == "text":
		return chatPart{Type: "text", Text: s.Data}, nil
	case b.Type == "document" && s.Type == "base64":
		name := b.Title
		if name == "" {
			name = "document.pdf"
		}
		return chatPart{Type: "file", File: &chatFile{Filename: name, FileData: "data:" + s.MediaType + ";base64," + s.Data}}, nil
	case b.Type == "search_result":
		inner, err := blocks(b.Content, path+".content")
		if err != nil {
			return chatPart{}, err
		}
		lines := []string{b.Title}
		for _, in := range inner {
			lines = append(lines, value(in.Text))
		}
		return chatPart{Type: "text", Text: strings.TrimSpace(strings.Join(lines, "\n"))}, nil
	}
	return chatPart{}, unsupported(path, "a block of type %.40q is not taken by this model's provider", b.Type)
}

// chatAnswerIn is an upstream's chat answer, or a chunk of its stream.
type chatAnswerIn struct {
	Choices []chatChoiceIn  `json:"choices"`
	Usage   *upstreamUsage  `json:"usage"`
	Error   json.RawMessage `json:"error"`
}

type chatChoiceIn struct {
	Index        int             `json:"index"`
	Message      *chatMsgIn      `json:"message"`
	Delta        *chatMsgIn      `json:"delta"`
	FinishReason *string         `json:"finish_reason"`
	StopReason   json.RawMessage `json:"stop_reason"` // the stop string that matched, where the upstream tells
}

type chatMsgIn struct {
	Content          json.RawMessage `json:"content"`
	ReasoningContent string          `json:"reasoning_content"`
	Reasoning        json.RawMessage `json:"reasoning"`
	Refusal          string          `json:"refusal"`
	ThinkingBlocks   []block         `json:"thinking_blocks"`
	ToolCalls        []chatCall      `json:"tool_calls"`
}

// text is what the message says; some servers answer with a list of parts.
func (m *chatMsgIn) text() string {
	var s string
	if json.Unmarshal(m.Content, &s) == nil {
		return s + m.Refusal
	}
	var list []struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(m.Content, &list) // of another form: it says nothing
	var all strings.Builder
	for _, p := range list {
		all.WriteString(p.Text)
	}
	return all.String() + m.Refusal
}

// thought is the reasoning, under whichever name.
func (m *chatMsgIn) thought() string {
	if m.ReasoningContent != "" {
		return m.ReasoningContent
	}
	var s string
	_ = json.Unmarshal(m.Reasoning, &s) // an object is no text
	return s
}

// readChatAnswer reads a whole answer or a chunk and notes what it tells. Failed answers are errors.
func (s *Seen) readChatAnswer(body []byte) (*chatAnswerIn, error) {
	var a chatAnswerIn
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	if a.Choices == nil && !isNull(a.Error) {
		s.Failed = append([]byte(nil), body...)
		return nil, errNoAnswer
	}
	if u := a.Usage.tokens(); u.Told {
		s.Usage, s.Final = u, len(a.Choices) == 0
	}
	return &a, nil
}

// stopReason is the reason of the end in Anthropic's words.
func stopReason(c *chatChoiceIn) (reason string, sequence *string) {
	switch *c.FinishReason {
	case "length":
		return "max_tokens", nil
	case "tool_calls", "function_call":
		return "tool_use", nil
	case "content_filter":
		return "refusal", nil
	}
	var s string
	if json.Unmarshal(c.StopReason, &s) == nil && s != "" {
		return "stop_sequence", &s
	}
	return "end_turn", nil
}

// Response implements Translator.
func (t *messagesToChat) Response(dst, body []byte) ([]byte, error) {
	in, err := t.seen.readChatAnswer(body)
	if err != nil {
		return dst, err
	}
	if len(in.Choices) == 0 || in.Choices[0].Message == nil {
		return dst, errNoAnswer
	}
	c := in.Choices[0]
	m := c.Message
	t.seen.Final, t.seen.Finished = t.seen.Usage.Told, true
	a := messageAnswer{ID: "msg_" + t.o.ID, Type: "message", Role: "assistant", Model: t.o.Public, Content: []block{}, Usage: anthropicUsageOf(&t.seen.Usage)}
	thought, text := m.thought(), m.text()
	switch {
	case len(m.ThinkingBlocks) > 0:
		a.Content = append(a.Content, m.ThinkingBlocks...)
	case thought != "":
		none := ""
		a.Content = append(a.Content, block{Type: "thinking", Thinking: &thought, Signature: &none})
	}
	if text != "" {
		a.Content = append(a.Content, textBlock(text))
	}
	for i, call := range m.ToolCalls {
		a.Content = append(a.Content, block{Type: "tool_use", ID: callID(call.ID, t.o.ID, i), Name: call.Function.Name, Input: arguments(call.Function.Arguments)})
	}
	t.seen.Bytes = int64(len(text) + len(thought))
	reason := "end_turn"
	if c.FinishReason != nil {
		reason, a.StopSequence = stopReason(&c)
	}
	if len(m.ToolCalls) > 0 && reason == "end_turn" { // some servers say stop
		reason = "tool_use"
	}
	a.StopReason = &reason
	return appendJSON(dst, a)
}

// callID gives a call without an id one: the client must name it in its answer.
func callID(id, unique string, n int) string {
	if id != "" {
		return id
	}
	return fmt.Sprintf("call_%s_%d", unique, n)
}

// Event implements Translator.
func (t *messagesToChat) Event(dst, data []byte) ([]byte, error) {
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
	if dst, err = t.out.begin(dst, &t.o, &t.seen.Usage); err != nil {
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
			t.seen.Finished = true
			t.out.reason, t.out.sequence = stopReason(c)
		}
	}
	return dst, nil
}

func (t *messagesToChat) delta(dst []byte, d *chatMsgIn) (_ []byte, err error) {
	if s := d.thought(); s != "" {
		t.seen.count(s)
		if dst, err = t.out.thinking(dst, s); err != nil {
			return dst, err
		}
	}
	if len(d.ThinkingBlocks) > 0 {
		if dst, err = t.out.signature(dst, d.ThinkingBlocks); err != nil {
			return dst, err
		}
	}
	if s := d.text(); s != "" {
		t.seen.count(s)
		if dst, err = t.out.text(dst, s); err != nil {
			return dst, err
		}
	}
	for _, call := range d.ToolCalls {
		t.seen.count(call.Function.Name + call.Function.Arguments)
		if dst, err = t.out.call(dst, &t.o, &call); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// Close implements Translator.
func (t *messagesToChat) Close(dst []byte) ([]byte, error) {
	dst, err := t.out.begin(dst, &t.o, &t.seen.Usage)
	if err != nil {
		return dst, err
	}
	return t.out.close(dst, &t.seen.Usage)
}
