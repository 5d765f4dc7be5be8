package dialect

import (
	"encoding/json"
	"fmt"
	"strings"
)

// chatToGenerate serves a chat client by a Gemini upstream.
type chatToGenerate struct {
	o     Options
	seen  Seen
	out   chatWriter
	calls int
}

// Seen implements Translator.
func (t *chatToGenerate) Seen() *Seen { return &t.seen }

// Request implements Translator.
func (t *chatToGenerate) Request(dst, body []byte) ([]byte, error) {
	c, err := readChat(body, &t.seen)
	if err != nil {
		return dst, err
	}
	switch {
	case c.N != nil && *c.N > 1:
		return dst, unsupported("n", "one answer a request is made with this model's provider")
	case c.Logprobs || c.TopLogprobs != nil && *c.TopLogprobs > 0:
		return dst, unsupported("logprobs", "log probabilities are not passed on from this model's provider")
	case len(c.LogitBias) > 0:
		return dst, unsupported("logit_bias", "this model's provider takes none")
	}
	if c.User != "" {
		t.seen.drop("user")
	}
	if c.ParallelToolCalls != nil && !*c.ParallelToolCalls {
		t.seen.drop("parallel_tool_calls")
	}
	var g generateBody
	f := &g.GenerationConfig
	f.Temperature, f.TopP, f.TopK, f.StopSequences, f.Seed = or(c.Temperature, t.o.Temperature), or(c.TopP, t.o.TopP), c.TopK, c.Stop, c.Seed
	if nonZero(c.PresencePenalty) {
		f.PresencePenalty = c.PresencePenalty
	}
	if nonZero(c.FrequencyPenalty) {
		f.FrequencyPenalty = c.FrequencyPenalty
	}
	if n := c.max(); n >= 0 {
		f.MaxOutputTokens = &n
	} else if t.o.MaxTokens > 0 {
		f.MaxOutputTokens = &t.o.MaxTokens
	}
	if err := geminiEffort(c.ReasoningEffort, f); err != nil {
		return dst, err
	}
	if err := geminiTooling(c, &g); err != nil {
		return dst, err
	}
	if err := t.contents(c.Messages, &g); err != nil {
		return dst, err
	}
	return appendJSON(dst, g)
}

func geminiEffort(word string, f *generationConfig) error {
	budget, ok := thoughtBudgets[word]
	switch {
	case word == "":
		return nil
	case word == "none":
		budget = 0
	case !ok:
		return wrong("reasoning_effort", "must be none, minimal, low, medium, high, xhigh or max")
	}
	f.ThinkingConfig = &geminiThinking{IncludeThoughts: budget > 0, ThinkingBudget: &budget}
	return nil
}

func geminiTooling(c *chatBody, g *generateBody) error {
	var list []geminiFunction
	for i, tool := range c.Tools {
		if tool.Type != "function" || tool.Function == nil {
			return unsupported(fmt.Sprintf("tools[%d]", i), "a tool of type %.40q is not offered by this model's provider", tool.Type)
		}
		f := geminiFunction{Name: tool.Function.Name, Description: tool.Function.Description}
		if !isNull(tool.Function.Parameters) {
			f.Parameters = tool.Function.Parameters
		}
		list = append(list, f)
	}
	if len(list) > 0 {
		g.Tools = []geminiTool{{list}}
	}
	h, err := readChoice(c.ToolChoice)
	if err != nil {
		return err
	}
	if h.mode != "" {
		g.ToolConfig = &geminiToolConf{}
		to := &g.ToolConfig.Calling
		switch h.mode {
		case "auto":
			to.Mode = "AUTO"
		case "none":
			to.Mode = "NONE"
		case "named":
			to.Mode, to.Allowed = "ANY", []string{h.name}
		default:
			to.Mode = "ANY"
		}
	}
	switch f := c.ResponseFormat; {
	case f == nil || f.Type == "text":
	case f.Type == "json_object":
		g.GenerationConfig.ResponseMimeType = "application/json"
	case f.Type == "json_schema" && f.JSONSchema != nil:
		g.GenerationConfig.ResponseMimeType, g.GenerationConfig.ResponseJSONSchema = "application/json", f.JSONSchema.Schema
	default:
		return unsupported("response_format", "this model's provider takes text, json_object and json_schema")
	}
	return nil
}

// skipSignature stands where the signature of a call is not known: newer models refuse calls without one (https://ai.google.dev/gemini-api/docs/thought-signatures).
const skipSignature = "skip_thought_signature_validator"

// signs reports whether a model wants its signatures back: all from the third generation on.
func signs(model string) bool {
	rest, ok := strings.CutPrefix(model, "gemini-")
	return ok && rest != "" && rest[0] >= '3' && rest[0] <= '9'
}

// contents parts the system prompt from the turns. What tools answer and what the user says next are one turn.
func (t *chatToGenerate) contents(list []chatMsg, g *generateBody) error {
	var rules []geminiPart
	called := map[string]string{} // name of each call by its id
	add := func(role string, p ...geminiPart) {
		if len(p) == 0 {
			return
		}
		if n := len(g.Contents); n > 0 && g.Contents[n-1].Role == role {
			g.Contents[n-1].Parts = append(g.Contents[n-1].Parts, p...)
			return
		}
		g.Contents = append(g.Contents, geminiContent{role, p})
	}
	for i, m := range list {
		path := fmt.Sprintf("messages[%d]", i)
		switch m.Role {
		case "system", "developer":
			text, err := plainText(m.Content, path+".content")
			if err != nil {
				return err
			}
			rules = append(rules, geminiPart{Text: &text})
		case "user":
			p, err := geminiParts(m.Content, path+".content")
			if err != nil {
				return err
			}
			add("user", p...)
		case "assistant":
			p, err := t.modelParts(&m, called, path)
			if err != nil {
				return err
			}
			add("model", p...)
		case "tool", "function":
			text, err := plainText(m.Content, path+".content")
			if err != nil {
				return err
			}
			name := called[m.ToolCallID]
			if name == "" {
				name = m.Name
			}
			if name == "" {
				return wrong(path+".tool_call_id", "names no call of an earlier message")
			}
			answer := json.RawMessage(text)
			if t := strings.TrimSpace(text); t == "" || t[0] != '{' || !json.Valid(answer) {
				answer = raw(map[string]string{"result": text})
			}
			add("user", geminiPart{FunctionResponse: &geminiResponse{Name: name, Response: answer}})
		default:
			return wrong(path+".role", "must be system, developer, user, assistant or tool")
		}
	}
	if len(rules) > 0 {
		g.SystemInstruction = &geminiContent{Parts: rules}
	}
	if len(g.Contents) == 0 {
		return wrong("messages", "must hold a message of the user")
	}
	return nil
}

func (t *chatToGenerate) modelParts(m *chatMsg, called map[string]string, path string) ([]geminiPart, error) {
	text, err := plainText(m.Content, path+".content")
	if err != nil {
		return nil, err
	}
	var out []geminiPart
	if text += m.Refusal; text != "" {
		out = append(out, geminiPart{Text: &text})
	}
	for i, call := range m.ToolCalls {
		called[call.ID] = call.Function.Name
		p := geminiPart{FunctionCall: &geminiCall{Name: call.Function.Name, Args: arguments(call.Function.Arguments)}}
		switch {
		case call.Extra != nil && call.Extra.Google.ThoughtSignature != "":
			p.ThoughtSignature = call.Extra.Google.ThoughtSignature
		case i == 0 && signs(t.o.Model): // of calls made together the first one carries it
			p.ThoughtSignature = skipSignature
		}
		out = append(out, p)
	}
	return out, nil
}

func geminiParts(content json.RawMessage, path string) ([]geminiPart, error) {
	list, err := parts(content, path)
	if err != nil {
		return nil, err
	}
	var out []geminiPart
	for i, p := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch p.Type {
		case "text":
			out = append(out, geminiPart{Text: &p.Text})
		case "image_url":
			if p.ImageURL == nil {
				return nil, wrong(at+".image_url", "is missing")
			}
			if media, data, ok := dataURL(p.ImageURL.URL); ok {
				out = append(out, geminiPart{InlineData: &geminiBlob{media, data}})
			} else {
				out = append(out, geminiPart{FileData: &geminiFile{FileURI: p.ImageURL.URL}})
			}
		case "file":
			if p.File == nil || p.File.FileData == "" {
				return nil, unsupported(at+".file", "only files sent along as file_data can be passed to this model's provider")
			}
			media, data, ok := dataURL(p.File.FileData)
			if !ok {
				media, data = "application/pdf", p.File.FileData
			}
			out = append(out, geminiPart{InlineData: &geminiBlob{media, data}})
		case "input_audio":
			var a struct{ Data, Format string }
			if json.Unmarshal(p.InputAudio, &a) != nil || a.Data == "" {
				return nil, wrong(at+".input_audio", "must hold data and format")
			}
			out = append(out, geminiPart{InlineData: &geminiBlob{"audio/" + a.Format, a.Data}})
		default:
			return nil, unsupported(at, "a part of type %.40q is not taken by this model's provider", p.Type)
		}
	}
	return out, nil
}

// geminiFinish is the reason of the end in OpenAI's words.
func geminiFinish(reason string, called bool) string {
	switch reason {
	case "MAX_TOKENS":
		return "length"
	case "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "LANGUAGE":
		return "content_filter"
	}
	if called {
		return "tool_calls"
	}
	return "stop"
}

// read reads an answer or an event and notes what it tells.
func (t *chatToGenerate) read(body []byte) (*generateAnswer, error) {
	var a generateAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	if !isNull(a.Error) {
		t.seen.Failed = append([]byte(nil), body...)
		return nil, errNoAnswer
	}
	a.Usage.into(&t.seen.Usage)
	return &a, nil
}

// call gives a function call OpenAI's form. Gemini names none by itself as a rule.
func (t *chatToGenerate) call(p *geminiPart) chatCall {
	c := chatCall{ID: callID(p.FunctionCall.ID, t.o.ID, t.calls), Type: "function", Function: FunctionCall{Name: p.FunctionCall.Name, Arguments: string(object(p.FunctionCall.Args))}}
	if p.ThoughtSignature != "" {
		c.Extra = &extra{}
		c.Extra.Google.ThoughtSignature = p.ThoughtSignature
	}
	t.calls++
	return c
}

// Response implements Translator.
func (t *chatToGenerate) Response(dst, body []byte) ([]byte, error) {
	a, err := t.read(body)
	if err != nil {
		return dst, err
	}
	m := chatMsgOut{Role: "assistant"}
	finish := "content_filter"
	var text, thought strings.Builder
	switch {
	case len(a.Candidates) > 0:
		for i := range a.Candidates[0].Content.Parts {
			p := &a.Candidates[0].Content.Parts[i]
			switch {
			case p.FunctionCall != nil:
				m.ToolCalls = append(m.ToolCalls, t.call(p))
			case p.Thought:
				thought.WriteString(value(p.Text))
			default:
				text.WriteString(value(p.Text))
			}
		}
		finish = geminiFinish(a.Candidates[0].FinishReason, len(m.ToolCalls) > 0)
	case a.PromptFeedback == nil || a.PromptFeedback.BlockReason == "":
		return dst, errNoAnswer
	}
	t.seen.Final, t.seen.Finished, t.seen.Bytes = t.seen.Usage.Told, true, int64(text.Len()+thought.Len())
	m.say(text.String(), thought.String())
	return t.out.whole(dst, &t.o, m, finish, &t.seen.Usage)
}

// Event implements Translator.
func (t *chatToGenerate) Event(dst, data []byte) ([]byte, error) {
	a, err := t.read(data)
	if err != nil {
		if t.seen.Failed != nil {
			return dst, nil
		}
		return dst, err
	}
	if dst, err = t.out.begin(dst, &t.o); err != nil {
		return dst, err
	}
	if a.PromptFeedback != nil && a.PromptFeedback.BlockReason != "" {
		t.seen.Finished, t.seen.Final = true, t.seen.Usage.Told
		return t.out.finish(dst, &t.o, "content_filter")
	}
	if len(a.Candidates) == 0 {
		return dst, nil
	}
	c := &a.Candidates[0]
	for i := range c.Content.Parts {
		if dst, err = t.part(dst, &c.Content.Parts[i]); err != nil {
			return dst, err
		}
	}
	if c.FinishReason != "" {
		t.seen.Finished, t.seen.Final = true, t.seen.Usage.Told
		return t.out.finish(dst, &t.o, geminiFinish(c.FinishReason, t.calls > 0))
	}
	return dst, nil
}

func (t *chatToGenerate) part(dst []byte, p *geminiPart) ([]byte, error) {
	switch {
	case p.FunctionCall != nil:
		n := t.calls
		c := t.call(p)
		c.Index = &n
		t.seen.count(c.Function.Name + c.Function.Arguments)
		return t.out.delta(dst, &t.o, chatDelta{ToolCalls: []chatCall{c}})
	case value(p.Text) == "":
		return dst, nil
	case p.Thought:
		t.seen.count(*p.Text)
		return t.out.delta(dst, &t.o, chatDelta{ReasoningContent: *p.Text})
	}
	t.seen.count(*p.Text)
	return t.out.delta(dst, &t.o, chatDelta{Content: p.Text})
}

// Close implements Translator.
func (t *chatToGenerate) Close(dst []byte) ([]byte, error) {
	return t.out.close(dst, &t.o, &t.seen.Usage)
}
