package dialect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// appendJSON appends the JSON of v: strings as they are, without the escapes that only pages need.
func appendJSON(dst []byte, v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return dst, err
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...), nil
}

func raw(v any) json.RawMessage {
	b, err := appendJSON(nil, v)
	if err != nil { // strings, numbers and checked JSON only: cannot fail
		return json.RawMessage("null")
	}
	return b
}

// isNull reports that a field is absent or null.
func isNull(b json.RawMessage) bool {
	b = bytes.TrimSpace(b)
	return len(b) == 0 || string(b) == "null"
}

// object returns b if it is a JSON object, else an empty one.
func object(b []byte) json.RawMessage {
	b = bytes.TrimSpace(b)
	if len(b) > 1 && b[0] == '{' && json.Valid(b) {
		return b
	}
	return json.RawMessage("{}")
}

// arguments makes the input of a tool call from its text. Models now and then write broken JSON: the text is kept under a name of its own, so that nothing is lost.
func arguments(text string) json.RawMessage {
	switch t := strings.TrimSpace(text); {
	case t == "":
		return json.RawMessage("{}")
	case t[0] == '{' && json.Valid([]byte(t)):
		return json.RawMessage(t)
	default:
		return raw(map[string]string{"_raw": text})
	}
}

// names lists the fields of an object, sorted; nil if it is none.
func names(body []byte) []string {
	var m map[string]json.RawMessage
	if json.Unmarshal(body, &m) != nil {
		return nil
	}
	out := make([]string, 0, len(m))
	for k, v := range m {
		if !isNull(v) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// wishes are fields that change nothing in what an answer means: where an upstream has no place for them they are left out, and named.
var wishes = []string{
	"user", "seed", "metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "safety_identifier", "verbosity", "prediction", "cache_salt", "include",
	"truncation", "max_tool_calls", "context_management", "inference_geo", "speed", "priority", "chat_template_kwargs", "enable_thinking", "min_p", "repetition_penalty", "add_generation_prompt", "top_k",
	"provider", "transforms",
}

// leftOut goes over the fields of a request that the translation does not know. Wishes are noted; anything else is a demand that the upstream cannot meet.
func (s *Seen) leftOut(body []byte, known []string) error {
	for _, n := range names(body) {
		if slices.Contains(known, n) {
			continue
		}
		if !slices.Contains(wishes, n) {
			return unsupported(n, "cannot be expressed in the form of this model's provider")
		}
		s.drop(n)
	}
	return nil
}

func unsupported(param, format string, args ...any) error {
	return &Unsupported{FieldError{Param: param, Message: fmt.Sprintf(format, args...)}}
}

func wrong(param, format string, args ...any) error {
	return &FieldError{Param: param, Message: fmt.Sprintf(format, args...)}
}

// chatBody is a chat request as translations read and write it.
type chatBody struct {
	Model               string             `json:"model"`
	Messages            []chatMsg          `json:"messages"`
	MaxTokens           *int               `json:"max_tokens,omitempty"`
	MaxCompletionTokens *int               `json:"max_completion_tokens,omitempty"`
	Temperature         *float64           `json:"temperature,omitempty"`
	TopP                *float64           `json:"top_p,omitempty"`
	TopK                *int               `json:"top_k,omitempty"`
	N                   *int               `json:"n,omitempty"`
	Stop                Strings            `json:"stop,omitempty"`
	Seed                *int64             `json:"seed,omitempty"`
	PresencePenalty     *float64           `json:"presence_penalty,omitempty"`
	FrequencyPenalty    *float64           `json:"frequency_penalty,omitempty"`
	LogitBias           map[string]float64 `json:"logit_bias,omitempty"`
	Logprobs            bool               `json:"logprobs,omitempty"`
	TopLogprobs         *int               `json:"top_logprobs,omitempty"`
	Stream              bool               `json:"stream,omitempty"`
	StreamOptions       *chatStreamOptions `json:"stream_options,omitempty"`
	Tools               []chatTool         `json:"tools,omitempty"`
	ToolChoice          json.RawMessage    `json:"tool_choice,omitempty"`
	ParallelToolCalls   *bool              `json:"parallel_tool_calls,omitempty"`
	ResponseFormat      *chatFormat        `json:"response_format,omitempty"`
	ReasoningEffort     string             `json:"reasoning_effort,omitempty"`
	Verbosity           string             `json:"verbosity,omitempty"`
	User                string             `json:"user,omitempty"`
	ServiceTier         string             `json:"service_tier,omitempty"`
	PromptCacheKey      string             `json:"prompt_cache_key,omitempty"`
	SafetyIdentifier    string             `json:"safety_identifier,omitempty"`
	Metadata            json.RawMessage    `json:"metadata,omitempty"`
}

type chatStreamOptions struct {
	IncludeUsage    bool `json:"include_usage,omitempty"`
	ContinuousUsage bool `json:"continuous_usage_stats,omitempty"`
}

type chatMsg struct {
	Role             string          `json:"role"`
	Content          json.RawMessage `json:"content,omitempty"`
	Name             string          `json:"name,omitempty"`
	ReasoningContent string          `json:"reasoning_content,omitempty"`
	ThinkingBlocks   []block         `json:"thinking_blocks,omitempty"` // of an Anthropic upstream, with the signatures that it wants to see again
	ToolCalls        []chatCall      `json:"tool_calls,omitempty"`
	ToolCallID       string          `json:"tool_call_id,omitempty"`
	Refusal          string          `json:"refusal,omitempty"`
}

type chatCall struct {
	Index    *int         `json:"index,omitempty"`
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function FunctionCall `json:"function"`
	Extra    *extra       `json:"extra_content,omitempty"`
}

// extra carries what Google wants to see again with a call that its model made.
type extra struct {
	Google struct {
		ThoughtSignature string `json:"thought_signature,omitempty"`
	} `json:"google"`
}

type chatTool struct {
	Type     string        `json:"type"`
	Function *chatFunction `json:"function,omitempty"`
}

type chatFunction struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

type chatFormat struct {
	Type       string      `json:"type"`
	JSONSchema *jsonSchema `json:"json_schema,omitempty"`
}

type jsonSchema struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"schema,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

type chatPart struct {
	Type       string          `json:"type"`
	Text       string          `json:"text,omitempty"`
	Refusal    string          `json:"refusal,omitempty"`
	ImageURL   *chatImage      `json:"image_url,omitempty"`
	File       *chatFile       `json:"file,omitempty"`
	InputAudio json.RawMessage `json:"input_audio,omitempty"`
}

type chatFile struct {
	FileData string `json:"file_data,omitempty"`
	FileID   string `json:"file_id,omitempty"`
	Filename string `json:"filename,omitempty"`
}

type chatImage struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitempty"`
}

// UnmarshalJSON also takes a bare address, as some clients send it.
func (i *chatImage) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &i.URL) == nil {
		return nil
	}
	type plain chatImage
	if json.Unmarshal(b, (*plain)(i)) != nil {
		return &FieldError{Message: "must be an object with a url"}
	}
	return nil
}

// max returns the limit of the answer, -1 for none.
func (c *chatBody) max() int {
	switch {
	case c.MaxCompletionTokens != nil:
		return *c.MaxCompletionTokens
	case c.MaxTokens != nil:
		return *c.MaxTokens
	}
	return -1
}

// parts reads a message's content: a string, a list of parts, or nothing.
func parts(content json.RawMessage, path string) ([]chatPart, error) {
	if isNull(content) {
		return nil, nil
	}
	var text string
	if json.Unmarshal(content, &text) == nil {
		return []chatPart{{Type: "text", Text: text}}, nil
	}
	var holder struct {
		Parts []chatPart `json:"content"`
	}
	if err := Decode(append(append([]byte(`{"content":`), content...), '}'), &holder); err != nil {
		if fe, ok := err.(*FieldError); ok { //nolint:errorlint // Decode returns nothing else
			return nil, wrong(path+strings.TrimPrefix(fe.Param, "content"), "%s", fe.Message)
		}
		return nil, err
	}
	return holder.Parts, nil
}

// plainText joins the texts of a content; other parts are refused.
func plainText(content json.RawMessage, path string) (string, error) {
	list, err := parts(content, path)
	if err != nil {
		return "", err
	}
	var s strings.Builder
	for i, p := range list {
		switch p.Type {
		case "text", "input_text", "output_text":
			s.WriteString(p.Text)
		case "refusal":
			s.WriteString(p.Refusal)
		default:
			return "", unsupported(fmt.Sprintf("%s[%d]", path, i), "a part of type %q cannot stand here", p.Type)
		}
	}
	return s.String(), nil
}

// dataURL splits data:TYPE;base64,DATA.
func dataURL(s string) (media, data string, ok bool) {
	rest, ok := strings.CutPrefix(s, "data:")
	if !ok {
		return "", "", false
	}
	head, data, ok := strings.Cut(rest, ",")
	media, base := strings.CutSuffix(head, ";base64")
	return media, data, ok && base
}

// chatUsage is OpenAI's count: cached tokens inside the prompt, reasoning inside the completion.
type chatUsage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	TotalTokens      int64 `json:"total_tokens"`
	PromptDetails    struct {
		CachedTokens     int64 `json:"cached_tokens"`
		CacheWriteTokens int64 `json:"cache_write_tokens,omitempty"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

func chatUsageOf(t *Tokens) *chatUsage {
	u := &chatUsage{PromptTokens: t.Prompt(), CompletionTokens: t.Completion(), TotalTokens: t.Prompt() + t.Completion()}
	u.PromptDetails.CachedTokens, u.PromptDetails.CacheWriteTokens, u.CompletionDetails.ReasoningTokens = t.CacheRead, t.CacheWrite, t.Reasoning
	return u
}

// upstreamUsage is what chat upstreams tell, in all its spellings.
type upstreamUsage struct {
	PromptTokens     *int64 `json:"prompt_tokens"`
	CompletionTokens *int64 `json:"completion_tokens"`
	TotalTokens      int64  `json:"total_tokens"`
	CacheHit         int64  `json:"prompt_cache_hit_tokens"`
	PromptDetails    *struct {
		CachedTokens     int64 `json:"cached_tokens"`
		CacheWriteTokens int64 `json:"cache_write_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails *struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

func (u *upstreamUsage) tokens() (t Tokens) {
	if u == nil || u.PromptTokens == nil && u.CompletionTokens == nil {
		return t
	}
	t.Told = true
	var prompt, out int64
	if u.PromptTokens != nil {
		prompt = bound(*u.PromptTokens)
	}
	if u.CompletionTokens != nil {
		out = bound(*u.CompletionTokens)
	}
	cached, write, thought := u.CacheHit, int64(0), int64(0)
	if d := u.PromptDetails; d != nil {
		cached, write = max(cached, d.CachedTokens), d.CacheWriteTokens
	}
	if d := u.CompletionDetails; d != nil {
		thought = bound(d.ReasoningTokens)
	}
	if thought > 0 && u.TotalTokens == prompt+out+thought { // some count thoughts beside the answer
		out += thought
	}
	cached = min(bound(cached), prompt)
	write = min(bound(write), prompt-cached)
	thought = min(thought, out)
	t.Fresh, t.CacheRead, t.CacheWrite, t.Text, t.Reasoning = prompt-cached-write, cached, write, out-thought, thought
	return t
}

// bound takes absurd numbers for none.
func bound(n int64) int64 {
	if n < 0 || n > 1<<40 {
		return 0
	}
	return n
}

// appendEvent appends an event of a stream that has no names.
func appendEvent(dst []byte, v any) ([]byte, error) {
	dst = append(dst, "data: "...)
	dst, err := appendJSON(dst, v)
	return append(dst, "\n\n"...), err
}

// appendNamed appends an event with its name.
func appendNamed(dst []byte, name string, v any) ([]byte, error) {
	dst = append(append(append(dst, "event: "...), name...), '\n')
	return appendEvent(dst, v)
}

const doneMark = "[DONE]"

func appendDone(dst []byte) []byte { return append(dst, "data: [DONE]\n\n"...) }
