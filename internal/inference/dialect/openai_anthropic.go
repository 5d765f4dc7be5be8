package dialect

import (
	"encoding/json"
	"fmt"
	"strings"
)

// chatToMessages serves a chat client by an Anthropic upstream.
type chatToMessages struct {
	o    Options
	seen Seen
	out  chatWriter
	// of the stream
	kind  map[int]string // type of each block by its index
	tools int            // tool calls begun so far
	sig   []block        // thinking blocks with their signatures, for the way back
	think string
}

// Seen implements Translator.
func (t *chatToMessages) Seen() *Seen { return &t.seen }

const (
	answerTokens = 8192 // Anthropic wants a limit in each request: what its present models all may write
	schemaEmpty  = `{"type":"object","properties":{}}`
)

// chatKnown are the fields of a chat request that translations read themselves.
var chatKnown = []string{
	"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "n", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "stream",
	"stream_options", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "user", "seed", "modalities",
}

// readChat decodes a chat request for an upstream of another dialect and refuses what no other dialect can express.
func readChat(body []byte, seen *Seen) (*chatBody, error) {
	var c chatBody
	if err := Decode(body, &c); err != nil {
		return nil, err
	}
	if len(c.Messages) == 0 {
		return nil, wrong("messages", "must hold at least one message")
	}
	var more struct {
		Modalities []string `json:"modalities"`
	}
	if err := Decode(body, &more); err != nil {
		return nil, err
	}
	for _, m := range more.Modalities {
		if m != "text" {
			return nil, unsupported("modalities", "answers as %q are not offered by this model's provider", m)
		}
	}
	return &c, seen.leftOut(body, chatKnown)
}

// Request implements Translator.
func (t *chatToMessages) Request(dst, body []byte) ([]byte, error) {
	c, err := readChat(body, &t.seen)
	if err != nil {
		return dst, err
	}
	m := messagesBody{Model: t.o.Model, StopSequences: c.Stop, Temperature: or(c.Temperature, t.o.Temperature), TopP: or(c.TopP, t.o.TopP), TopK: c.TopK, Stream: c.Stream}
	switch {
	case c.N != nil && *c.N > 1:
		return dst, unsupported("n", "this model's provider gives one answer a request")
	case c.Logprobs || c.TopLogprobs != nil && *c.TopLogprobs > 0:
		return dst, unsupported("logprobs", "this model's provider tells no log probabilities")
	case len(c.LogitBias) > 0:
		return dst, unsupported("logit_bias", "this model's provider takes none")
	}
	if nonZero(c.PresencePenalty) {
		t.seen.drop("presence_penalty")
	}
	if nonZero(c.FrequencyPenalty) {
		t.seen.drop("frequency_penalty")
	}
	if c.Seed != nil {
		t.seen.drop("seed")
	}
	if m.Temperature != nil && *m.Temperature > 1 { // its range ends there
		one := 1.0
		m.Temperature = &one
		t.seen.drop("temperature")
	}
	if c.User != "" {
		m.Metadata = &anthropicMetadata{c.User}
	}
	limit := c.max()
	if limit < 0 {
		if limit = t.o.MaxTokens; limit == 0 {
			limit = answerTokens
		}
	}
	m.MaxTokens = &limit
	if err := t.tooling(c, &m); err != nil {
		return dst, err
	}
	if err := t.effort(c.ReasoningEffort, &m, c.max() >= 0); err != nil {
		return dst, err
	}
	if m.System, m.Messages, err = anthropicTurns(c.Messages); err != nil {
		return dst, err
	}
	return appendJSON(dst, m)
}

func or(v, other *float64) *float64 {
	if v != nil {
		return v
	}
	return other
}

func nonZero(v *float64) bool { return v != nil && *v != 0 }

// thoughtBudgets are tokens of thinking by effort. Taste: a quarter, once and four times what a long answer has.
var thoughtBudgets = map[string]int{"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}

// thoughtLeast is the smallest budget that Anthropic takes.
const thoughtLeast = 1024

// effort turns a wish for reasoning into a budget. A limit that the client named holds for both, as with OpenAI, so at most three quarters of it are thoughts; else the budget comes on top of what the answer may
// have. A thinking model takes no temperature.
func (t *chatToMessages) effort(word string, m *messagesBody, limited bool) error {
	switch word {
	case "":
		return nil
	case "none":
		m.Thinking = &anthropicThinking{Type: "disabled"}
		return nil
	}
	budget, ok := thoughtBudgets[word]
	if !ok {
		return wrong("reasoning_effort", "must be none, minimal, low, medium, high, xhigh or max")
	}
	if limited {
		if budget = min(budget, *m.MaxTokens/4*3); budget < thoughtLeast {
			t.seen.drop("reasoning_effort")
			return nil
		}
	} else {
		limit := *m.MaxTokens + budget
		m.MaxTokens = &limit
	}
	m.Thinking = &anthropicThinking{Type: "enabled", BudgetTokens: budget}
	m.Temperature, m.TopP, m.TopK = nil, nil, nil
	return nil
}

// tooling translates tools, the choice among them and the format of the answer.
func (t *chatToMessages) tooling(c *chatBody, m *messagesBody) error {
	for i, tool := range c.Tools {
		if tool.Type != "function" || tool.Function == nil {
			return unsupported(fmt.Sprintf("tools[%d]", i), "a tool of type %.40q is not offered by this model's provider", tool.Type)
		}
		f := tool.Function
		schema := f.Parameters
		if isNull(schema) {
			schema = json.RawMessage(schemaEmpty)
		}
		m.Tools = append(m.Tools, anthropicTool{Name: f.Name, Description: f.Description, InputSchema: schema})
	}
	choice, err := readChoice(c.ToolChoice)
	if err != nil {
		return err
	}
	switch choice.mode {
	case "":
	case "required":
		m.ToolChoice = &anthropicChoice{Type: "any"}
	case "named":
		m.ToolChoice = &anthropicChoice{Type: "tool", Name: choice.name}
	default:
		m.ToolChoice = &anthropicChoice{Type: choice.mode}
	}
	if c.ParallelToolCalls != nil && !*c.ParallelToolCalls && len(m.Tools) > 0 {
		if m.ToolChoice == nil {
			m.ToolChoice = &anthropicChoice{Type: "auto"}
		}
		m.ToolChoice.DisableParallel = m.ToolChoice.Type != "none"
	}
	switch f := c.ResponseFormat; {
	case f == nil || f.Type == "text":
	case f.Type == "json_schema" && f.JSONSchema != nil:
		m.OutputConfig = &outputConfig{Format: &anthropicFormat{Type: "json_schema", Schema: f.JSONSchema.Schema}}
	default:
		return unsupported("response_format", "this model's provider takes text and json_schema")
	}
	return nil
}

// choice is a tool_choice: mode "", auto, none, required or named.
type choice struct{ mode, name string }

func readChoice(b json.RawMessage) (choice, error) {
	if isNull(b) {
		return choice{}, nil
	}
	var word string
	if json.Unmarshal(b, &word) == nil {
		switch word {
		case "auto", "none", "required":
			return choice{mode: word}, nil
		}
		return choice{}, wrong("tool_choice", "must be auto, none, required or a function")
	}
	var named struct {
		Type     string `json:"type"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
		Name string `json:"name"`
	}
	if json.Unmarshal(b, &named) != nil || named.Type == "" {
		return choice{}, wrong("tool_choice", "must be auto, none, required or a function")
	}
	if named.Function.Name == "" {
		named.Function.Name = named.Name
	}
	if named.Type != "function" || named.Function.Name == "" {
		return choice{}, unsupported("tool_choice", "a choice of type %.40q is not offered by this model's provider", named.Type)
	}
	return choice{"named", named.Function.Name}, nil
}

// anthropicTurns parts the system prompt from the turns. Results of tools and what the user says next are one turn there.
func anthropicTurns(list []chatMsg) (system json.RawMessage, turns []turn, err error) {
	var rules []block
	var user []block
	flush := func() {
		if len(user) > 0 {
			turns = append(turns, turn{"user", raw(user)})
			user = nil
		}
	}
	for i, m := range list {
		path := fmt.Sprintf("messages[%d]", i)
		switch m.Role {
		case "system", "developer":
			text, err := plainText(m.Content, path+".content")
			if err != nil {
				return nil, nil, err
			}
			if text != "" {
				rules = append(rules, textBlock(text))
			}
		case "user":
			b, err := userBlocks(m.Content, path+".content")
			if err != nil {
				return nil, nil, err
			}
			user = append(user, b...)
		case "tool", "function":
			b, err := userBlocks(m.Content, path+".content")
			if err != nil {
				return nil, nil, err
			}
			result := block{Type: "tool_result", ToolUseID: m.ToolCallID, Content: raw(b)}
			if len(b) == 1 && b[0].Type == "text" {
				result.Content = raw(value(b[0].Text))
			}
			user = append(user, result)
		case "assistant":
			flush()
			b, err := assistantBlocks(&m, path)
			if err != nil {
				return nil, nil, err
			}
			if len(b) > 0 {
				turns = append(turns, turn{"assistant", raw(b)})
			}
		default:
			return nil, nil, wrong(path+".role", "must be system, developer, user, assistant or tool")
		}
	}
	flush()
	if len(rules) > 0 {
		system = raw(rules)
	}
	if len(turns) == 0 {
		return nil, nil, wrong("messages", "must hold a message of the user")
	}
	return system, turns, nil
}

// userBlocks translates what a user or a tool says. Empty texts are left out: Anthropic refuses them.
func userBlocks(content json.RawMessage, path string) ([]block, error) {
	list, err := parts(content, path)
	if err != nil {
		return nil, err
	}
	out := []block{}
	for i, p := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch p.Type {
		case "text":
			if p.Text != "" {
				out = append(out, textBlock(p.Text))
			}
		case "image_url":
			if p.ImageURL == nil {
				return nil, wrong(at+".image_url", "is missing")
			}
			s := source{Type: "url", URL: p.ImageURL.URL}
			if media, data, ok := dataURL(p.ImageURL.URL); ok {
				s = source{Type: "base64", MediaType: media, Data: data}
			}
			out = append(out, block{Type: "image", Source: raw(s)})
		case "file":
			if p.File == nil || p.File.FileData == "" {
				return nil, unsupported(at+".file", "only files sent along as file_data can be passed to this model's provider")
			}
			media, data, ok := dataURL(p.File.FileData)
			if !ok {
				media, data = "application/pdf", p.File.FileData
			}
			out = append(out, block{Type: "document", Title: p.File.Filename, Source: raw(source{Type: "base64", MediaType: media, Data: data})})
		default:
			return nil, unsupported(at, "a part of type %.40q is not taken by this model's provider", p.Type)
		}
	}
	return out, nil
}

// assistantBlocks translates an earlier answer. Thoughts without a signature are left out: Anthropic takes only its own back.
func assistantBlocks(m *chatMsg, path string) ([]block, error) {
	var out []block
	for _, b := range m.ThinkingBlocks {
		if b.Type == "thinking" && value(b.Signature) != "" || b.Type == "redacted_thinking" {
			out = append(out, b)
		}
	}
	text, err := plainText(m.Content, path+".content")
	if err != nil {
		return nil, err
	}
	if text += m.Refusal; strings.TrimSpace(text) != "" {
		out = append(out, textBlock(text))
	}
	for _, call := range m.ToolCalls {
		out = append(out, block{Type: "tool_use", ID: call.ID, Name: call.Function.Name, Input: arguments(call.Function.Arguments)})
	}
	return out, nil
}

// chatFinish is the reason of the end in OpenAI's words.
func chatFinish(stop string) string {
	switch stop {
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	case "refusal":
		return "content_filter"
	}
	return "stop"
}

// Response implements Translator.
func (t *chatToMessages) Response(dst, body []byte) ([]byte, error) {
	var a struct {
		Type       string          `json:"type"`
		Content    []block         `json:"content"`
		StopReason string          `json:"stop_reason"`
		Usage      *anthropicUsage `json:"usage"`
		Error      json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return dst, err
	}
	if a.Type == "error" || a.Content == nil {
		t.seen.Failed = body
		return dst, errNoAnswer
	}
	a.Usage.into(&t.seen.Usage)
	t.seen.Final, t.seen.Finished = t.seen.Usage.Told, true
	m := chatMsgOut{Role: "assistant"}
	var text, thought strings.Builder
	for _, b := range a.Content {
		switch b.Type {
		case "text":
			text.WriteString(value(b.Text))
		case "thinking":
			thought.WriteString(value(b.Thinking))
			m.ThinkingBlocks = append(m.ThinkingBlocks, b)
		case "redacted_thinking":
			m.ThinkingBlocks = append(m.ThinkingBlocks, b)
		case "tool_use":
			m.ToolCalls = append(m.ToolCalls, chatCall{ID: b.ID, Type: "function", Function: FunctionCall{Name: b.Name, Arguments: string(object(b.Input))}})
		}
	}
	t.seen.Bytes = int64(text.Len() + thought.Len())
	m.say(text.String(), thought.String())
	return t.out.whole(dst, &t.o, m, chatFinish(a.StopReason), &t.seen.Usage)
}

// Event implements Translator.
func (t *chatToMessages) Event(dst, data []byte) ([]byte, error) {
	var e messageEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return dst, err
	}
	switch e.Type {
	case "message_start":
		if e.Message != nil {
			e.Message.Usage.into(&t.seen.Usage)
		}
		return t.out.begin(dst, &t.o)
	case "content_block_start":
		return t.blockStart(dst, &e)
	case "content_block_delta":
		return t.blockDelta(dst, &e)
	case "content_block_stop":
		if t.kind[e.Index] == "thinking" && len(t.sig) > 0 {
			b := t.sig
			t.sig, t.think = nil, ""
			return t.out.delta(dst, &t.o, chatDelta{ThinkingBlocks: b})
		}
	case "message_delta":
		e.Usage.into(&t.seen.Usage)
		t.seen.Final = t.seen.Usage.Told
		if e.Delta != nil && e.Delta.StopReason != nil {
			t.seen.Finished = true
			return t.out.finish(dst, &t.o, chatFinish(*e.Delta.StopReason))
		}
	case "message_stop":
		t.seen.Done = true
		return t.Close(dst)
	case "error":
		t.seen.Failed = append([]byte(nil), data...)
	}
	return dst, nil
}

func (t *chatToMessages) blockStart(dst []byte, e *messageEvent) ([]byte, error) {
	if e.Block == nil {
		return dst, nil
	}
	if t.kind == nil {
		t.kind = map[int]string{}
	}
	t.kind[e.Index] = e.Block.Type
	switch e.Block.Type {
	case "tool_use":
		n := t.tools
		t.tools++
		t.seen.Events++
		return t.out.delta(dst, &t.o, chatDelta{ToolCalls: []chatCall{{Index: &n, ID: e.Block.ID, Type: "function", Function: FunctionCall{Name: e.Block.Name}}}})
	case "redacted_thinking":
		return t.out.delta(dst, &t.o, chatDelta{ThinkingBlocks: []block{*e.Block}})
	case "text":
		if s := value(e.Block.Text); s != "" {
			t.seen.count(s)
			return t.out.delta(dst, &t.o, chatDelta{Content: &s})
		}
	}
	return dst, nil
}

func (t *chatToMessages) blockDelta(dst []byte, e *messageEvent) ([]byte, error) {
	if e.Delta == nil {
		return dst, nil
	}
	switch d := e.Delta; d.Type {
	case "text_delta":
		t.seen.count(d.Text)
		return t.out.delta(dst, &t.o, chatDelta{Content: &d.Text})
	case "thinking_delta":
		t.seen.count(d.Thinking)
		t.think += d.Thinking
		return t.out.delta(dst, &t.o, chatDelta{ReasoningContent: d.Thinking})
	case "signature_delta":
		think := t.think
		t.sig = []block{{Type: "thinking", Thinking: &think, Signature: &d.Signature}}
	case "input_json_delta":
		t.seen.count(d.PartialJSON)
		n := max(t.tools-1, 0)
		return t.out.delta(dst, &t.o, chatDelta{ToolCalls: []chatCall{{Index: &n, Function: FunctionCall{Arguments: d.PartialJSON}}}})
	}
	return dst, nil
}

// count notes an event with content.
func (s *Seen) count(text string) {
	if text != "" {
		s.Events++
		s.Bytes += int64(len(text))
	}
}

// Close implements Translator.
func (t *chatToMessages) Close(dst []byte) ([]byte, error) {
	return t.out.close(dst, &t.o, &t.seen.Usage)
}
