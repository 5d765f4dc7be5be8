package worker

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"maas/internal/inference/dialect"
	"maas/internal/llm/arch"
	"maas/internal/llm/chat"
	"maas/internal/llm/run"
	"maas/internal/llm/token"
	"maas/internal/platform/fault"
)

// template is the chat form of the model: one for plain conversations and, where the model has its own, one for those with tools.
type template struct {
	plain, tools *chat.Template
	format       chat.Format
	toolFormat   chat.Format
}

const maxTemplateFile = 1 << 20

// chatML is for models without a template of their own.
const chatML = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// templateOf finds the template: the deployment's, the model's own, else ChatML.
func templateOf(cfg Config, src *arch.Source) (*template, error) {
	plain, tools := cfg.Template, ""
	if plain == "" {
		plain, tools = ownTemplate(src)
	}
	if plain == "" {
		plain = chatML
	}
	if tools == "" {
		tools = plain
	}
	t := &template{format: chat.FormatOf(plain), toolFormat: chat.FormatOf(tools)}
	var err error
	if t.plain, err = chat.Compile(plain, chat.Limits{}); err != nil {
		return nil, err
	}
	if t.tools, err = chat.Compile(tools, chat.Limits{}); err != nil {
		return nil, err
	}
	return t, nil
}

// ownTemplate reads the model's templates: default and tool_use.
func ownTemplate(src *arch.Source) (plain, tools string) {
	if f := src.GGUF(); f != nil {
		plain, _ = f.Str("tokenizer.chat_template")
		tools, _ = f.Str("tokenizer.chat_template.tool_use")
		return plain, tools
	}
	if b, err := readFile(filepath.Join(src.Dir(), "chat_template.jinja")); err == nil {
		return string(b), ""
	}
	b, err := readFile(filepath.Join(src.Dir(), "tokenizer_config.json"))
	if err != nil {
		return "", ""
	}
	var c struct {
		Template json.RawMessage `json:"chat_template"`
	}
	if json.Unmarshal(b, &c) != nil {
		return "", ""
	}
	if json.Unmarshal(c.Template, &plain) == nil {
		return plain, ""
	}
	var named []struct{ Name, Template string }
	_ = json.Unmarshal(c.Template, &named) // another form is no template
	for _, n := range named {
		switch n.Name {
		case "default":
			plain = n.Template
		case "tool_use":
			tools = n.Template
		}
	}
	return plain, tools
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil || st.Size() > maxTemplateFile {
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	return os.ReadFile(path)
}

// rendered is a conversation as the model sees it.
type rendered struct {
	ids   []int32
	tail  string // the end of the prompt's text: shows whether the template opened the reasoning
	form  chat.Format
	tools bool
}

// render makes the prompt of a chat request.
func (m *model) render(r *dialect.ChatRequest) (rendered, error) {
	if m.template == nil {
		return rendered{}, m.templateErr
	}
	if len(r.Messages) == 0 {
		return rendered{}, errRequest.With("messages must not be empty").WithFields(fault.Field{Name: "messages", Code: "required", Message: "must not be empty"})
	}
	in := chat.Input{AddGenerationPrompt: true, Kwargs: r.ChatTemplateKwargs, Documents: r.Documents, Now: time.Now(), BOS: m.tok.Text(m.tok.BOS()), EOS: m.tok.Text(m.tok.EOS())}
	if r.AddGenerationPrompt != nil {
		in.AddGenerationPrompt = *r.AddGenerationPrompt
	}
	for i, msg := range r.Messages {
		c, err := message(msg, i)
		if err != nil {
			return rendered{}, err
		}
		in.Messages = append(in.Messages, c)
	}
	offered, err := toolsOffered(r)
	if err != nil {
		return rendered{}, err
	}
	t, out := m.template.plain, rendered{form: m.template.format}
	if offered {
		in.Tools, t, out.form, out.tools = r.Tools, m.template.tools, m.template.toolFormat, true
	}
	parts, err := t.Render(in)
	if err != nil {
		return rendered{}, err
	}
	o := m.tok.Defaults()
	o.AddEOS = false
	out.ids, err = m.encode(parts, o, "messages")
	out.tail = tailOf(parts)
	return out, err
}

// tailOf returns the last bytes of the rendered text.
func tailOf(parts []token.Part) string {
	const enough = 256
	var b []byte
	for _, p := range slices.Backward(parts) {
		b = append([]byte(p.Text), b...)
		if len(b) >= enough {
			break
		}
	}
	return string(b)
}

// message turns one turn of the wire into the template's form.
func message(m dialect.Message, i int) (chat.Message, error) {
	field := "messages[" + strconv.Itoa(i) + "]"
	role := m.Role
	switch role {
	case "developer":
		role = "system"
	case "system", "user", "assistant", "tool":
	default:
		return chat.Message{}, errRequest.With("%s.role: %.50q is not system, developer, user, assistant or tool", field, m.Role).
			WithFields(fault.Field{Name: field + ".role", Code: "not_in_list", Message: "is not a role"})
	}
	out := chat.Message{Role: role, Content: m.Content, Name: m.Name, ReasoningContent: m.ReasoningContent, ToolCallID: m.ToolCallID}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if len(m.Content) > 0 && m.Content[0] == '[' && json.Unmarshal(m.Content, &parts) == nil {
		texts := make([]string, 0, len(parts))
		for j, p := range parts {
			if p.Type != "text" {
				return out, errMissing.With("%s.content[%d]: this model reads text only, not %.50q", field, j, p.Type).
					WithFields(fault.Field{Name: field + ".content", Code: "not_in_list", Message: "is not text"})
			}
			texts = append(texts, p.Text)
		}
		out.Content = chat.Text(strings.Join(texts, "\n")) // few templates take a list, all take a string
	}
	for _, c := range m.ToolCalls {
		out.ToolCalls = append(out.ToolCalls, chat.ToolCall{ID: c.ID, Type: c.Type, Function: chat.FunctionCall{Name: c.Function.Name, Arguments: c.Function.Arguments}})
	}
	return out, nil
}

// toolsOffered says whether the model shall see the tools. A forced call needs a grammar, which this engine does not have.
func toolsOffered(r *dialect.ChatRequest) (bool, error) {
	var choice string
	if len(r.ToolChoice) > 0 && json.Unmarshal(r.ToolChoice, &choice) != nil {
		return false, missing("tool_choice", "a call of a named tool cannot be forced by this engine; use auto")
	}
	switch choice {
	case "", "auto":
		return len(r.Tools) > 0, nil
	case "none":
		return false, nil
	case "required":
		return false, missing("tool_choice", "a tool call cannot be forced by this engine; use auto")
	}
	return false, errRequest.With("tool_choice: %.50q is not none, auto or required", choice).WithFields(fault.Field{Name: "tool_choice", Code: "not_in_list", Message: "is not known"})
}

func missing(field, words string) error {
	return errMissing.With("%s: %s", field, words).WithFields(fault.Field{Name: field, Code: "not_in_list", Message: words})
}

// encode turns parts into ids, stopping early on texts that are far too long.
func (m *model) encode(parts []token.Part, o token.Options, field string) ([]int32, error) {
	ids, err := m.tok.Encode(nil, parts, o)
	if err != nil {
		return nil, err
	}
	if limit := m.computer().MaxContext(); len(ids) >= limit {
		return nil, tooLong(len(ids), limit, field)
	}
	return ids, nil
}

func tooLong(have, limit int, field string) error {
	return run.ErrContextLength.With("This model's maximum context length is %d tokens. However, your %s resulted in %d tokens. Please reduce the length of the %s.", limit, field, have, field).
		WithFields(fault.Field{Name: field, Code: "too_long", Message: "too many tokens", Limit: limit})
}

// request fills in the engine's request: the caller's values over the model file's defaults.
func (m *model) request(h http.Header, s *dialect.Sampling, ids []int32) (run.Request, error) {
	if err := unsupported(s); err != nil {
		return run.Request{}, err
	}
	own := m.source.Config.Sampling
	r := run.Request{Prompt: ids, N: 1, Stop: s.Stop, IgnoreEOS: s.IgnoreEOS, StopTokens: s.StopTokenIDs, Temperature: 1, Tenant: h.Get("X-Maas-Tenant")}
	r.Salt = r.Tenant + "\x00" + s.CacheSalt
	if h.Get("X-Maas-Class") == "batch" {
		r.Class = run.Batch
	}
	pick(&r.Temperature, own.Temperature, s.Temperature)
	pick(&r.TopP, own.TopP, s.TopP)
	pick(&r.MinP, own.MinP, s.MinP)
	pick(&r.RepetitionPenalty, own.RepetitionPenalty, s.RepetitionPenalty)
	pick(&r.FrequencyPenalty, nil, s.FrequencyPenalty)
	pick(&r.PresencePenalty, nil, s.PresencePenalty)
	pick(&r.TopK, own.TopK, s.TopK)
	r.TopK = max(r.TopK, 0) // some callers say -1 for off
	pick(&r.MaxTokens, nil, s.MaxTokens)
	pick(&r.MinTokens, nil, s.MinTokens)
	pick(&r.N, nil, s.N)
	var bad []fault.Field
	check := func(ok bool, name, words string) {
		if !ok {
			bad = append(bad, fault.Field{Name: name, Code: "out_of_range", Message: words})
		}
	}
	check(s.MaxTokens == nil || *s.MaxTokens > 0, "max_tokens", "must be at least 1")
	check(r.N >= 1 && r.N <= 16, "n", "must be 1 to 16")
	check(r.Temperature >= 0 && r.Temperature <= 2, "temperature", "must be 0 to 2")
	check(s.TopP == nil || *s.TopP > 0 && *s.TopP <= 1, "top_p", "must be above 0 and at most 1")
	check(s.RepetitionPenalty == nil || *s.RepetitionPenalty > 0, "repetition_penalty", "must be above 0")
	for key, v := range s.LogitBias {
		id, err := strconv.ParseInt(key, 10, 32)
		ok := err == nil && id >= 0 && v >= -100 && v <= 100
		check(ok, "logit_bias", "must map token ids to -100..100")
		if ok {
			if r.LogitBias == nil {
				r.LogitBias = map[int32]float32{}
			}
			r.LogitBias[int32(id)] = float32(v)
		}
	}
	if s.Seed != nil {
		seed := uint64(*s.Seed)
		r.Seed = &seed
	}
	if len(bad) > 0 {
		return r, errRequest.With("%s %s", bad[0].Name, bad[0].Message).WithFields(bad...)
	}
	return r, nil
}

// pick sets to the caller's value, else the model's, else leaves it.
func pick[T any](to *T, own, asked *T) {
	if own != nil {
		*to = *own
	}
	if asked != nil {
		*to = *asked
	}
}

// unsupported refuses what would silently give another answer than asked for.
func unsupported(s *dialect.Sampling) error {
	for name, raw := range map[string]json.RawMessage{"guided_json": s.GuidedJSON, "guided_regex": s.GuidedRegex, "guided_choice": s.GuidedChoice, "guided_grammar": s.GuidedGrammar, "structured_outputs": s.StructuredOutputs} {
		if text := strings.TrimSpace(string(raw)); text != "" && text != "null" {
			return missing(name, "this engine does not constrain its output")
		}
	}
	var f struct {
		Type string `json:"type"`
	}
	if len(s.ResponseFormat) > 0 && json.Unmarshal(s.ResponseFormat, &f) == nil && f.Type != "" && f.Type != "text" {
		return missing("response_format", "this engine does not constrain its output; only type text is offered")
	}
	return nil
}
