package dialect

import "encoding/json"

// responsesBody is the body of POST /v1/responses.
type responsesBody struct {
	Model              string          `json:"model"`
	Input              json.RawMessage `json:"input"` // string or items
	Instructions       json.RawMessage `json:"instructions"`
	PreviousResponseID string          `json:"previous_response_id"`
	Conversation       json.RawMessage `json:"conversation"`
	Prompt             json.RawMessage `json:"prompt"`
	Store              *bool           `json:"store"`
	Background         *bool           `json:"background"`
	Stream             bool            `json:"stream"`
	MaxOutputTokens    *int            `json:"max_output_tokens"`
	Temperature        *float64        `json:"temperature"`
	TopP               *float64        `json:"top_p"`
	TopLogprobs        *int            `json:"top_logprobs"`
	Tools              []responsesTool `json:"tools"`
	ToolChoice         json.RawMessage `json:"tool_choice"`
	ParallelToolCalls  *bool           `json:"parallel_tool_calls"`
	Text               *responsesText  `json:"text"`
	Reasoning          *reasoning      `json:"reasoning"`
	Truncation         string          `json:"truncation"`
	User               string          `json:"user"`
	Metadata           json.RawMessage `json:"metadata"`
	SafetyIdentifier   string          `json:"safety_identifier"`
	PromptCacheKey     string          `json:"prompt_cache_key"`
	ServiceTier        string          `json:"service_tier"`
}

var responsesFields = []string{
	"model", "input", "instructions", "previous_response_id", "conversation", "prompt", "store", "background", "stream", "stream_options", "max_output_tokens", "temperature", "top_p", "top_logprobs", "tools",
	"tool_choice", "parallel_tool_calls", "text", "reasoning", "user",
}

type responsesTool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name,omitempty"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

type responsesText struct {
	Format    *responsesFormat `json:"format,omitempty"`
	Verbosity string           `json:"verbosity,omitempty"`
}

type responsesFormat struct {
	Type        string          `json:"type"`
	Name        string          `json:"name,omitempty"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"schema,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

type reasoning struct {
	Effort  *string `json:"effort"`
	Summary *string `json:"summary"`
}

// item is one element of input or output, of any type.
type item struct {
	Type      string          `json:"type"`
	ID        string          `json:"id"`
	Role      string          `json:"role"`
	Status    string          `json:"status"`
	Content   json.RawMessage `json:"content"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments string          `json:"arguments"`
	Output    json.RawMessage `json:"output"`
	Summary   []itemText      `json:"summary"`
}

type itemText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// itemPart is a part of a message's content.
type itemPart struct {
	Type     string     `json:"type"`
	Text     string     `json:"text"`
	Refusal  string     `json:"refusal"`
	ImageURL *chatImage `json:"image_url"`
	Detail   string     `json:"detail"`
	FileData string     `json:"file_data"`
	FileURL  string     `json:"file_url"`
	FileID   string     `json:"file_id"`
	Filename string     `json:"filename"`
}

// The items of answers.
type (
	outputText struct {
		Type        string   `json:"type"`
		Text        string   `json:"text"`
		Annotations []string `json:"annotations"` // none: an empty list
		Logprobs    []string `json:"logprobs"`    // the same
	}
	messageItem struct {
		Type    string       `json:"type"`
		ID      string       `json:"id"`
		Status  string       `json:"status"`
		Role    string       `json:"role"`
		Content []outputText `json:"content"`
	}
	callItem struct {
		Type      string `json:"type"`
		ID        string `json:"id"`
		Status    string `json:"status"`
		CallID    string `json:"call_id"`
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	}
	reasoningItem struct {
		Type    string     `json:"type"`
		ID      string     `json:"id"`
		Status  string     `json:"status"`
		Summary []itemText `json:"summary"`
		Content []itemText `json:"content"`
	}
)

func newOutputText(text string) outputText {
	return outputText{Type: "output_text", Text: text, Annotations: []string{}, Logprobs: []string{}}
}

// responsesUsage counts as OpenAI does: cached tokens inside the input, reasoning inside the output.
type responsesUsage struct {
	InputTokens  int64 `json:"input_tokens"`
	InputDetails struct {
		CachedTokens     int64 `json:"cached_tokens"`
		CacheWriteTokens int64 `json:"cache_write_tokens"`
	} `json:"input_tokens_details"`
	OutputTokens  int64 `json:"output_tokens"`
	OutputDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	TotalTokens int64 `json:"total_tokens"`
}

func responsesUsageOf(t *Tokens) *responsesUsage {
	u := &responsesUsage{InputTokens: t.Prompt(), OutputTokens: t.Completion(), TotalTokens: t.Prompt() + t.Completion()}
	u.InputDetails.CachedTokens, u.InputDetails.CacheWriteTokens, u.OutputDetails.ReasoningTokens = t.CacheRead, t.CacheWrite, t.Reasoning
	return u
}

// response is the answer with what is echoed of the request.
type response struct {
	ID                 string            `json:"id"`
	Object             string            `json:"object"` // response
	CreatedAt          int64             `json:"created_at"`
	Status             string            `json:"status"`
	Background         bool              `json:"background"`
	Error              json.RawMessage   `json:"error"`
	IncompleteDetails  *incomplete       `json:"incomplete_details"`
	Instructions       json.RawMessage   `json:"instructions"`
	MaxOutputTokens    *int              `json:"max_output_tokens"`
	Model              string            `json:"model"`
	Output             []json.RawMessage `json:"output"`
	ParallelToolCalls  bool              `json:"parallel_tool_calls"`
	PreviousResponseID *string           `json:"previous_response_id"`
	Reasoning          reasoning         `json:"reasoning"`
	Store              bool              `json:"store"`
	Temperature        *float64          `json:"temperature"`
	Text               responsesText     `json:"text"`
	ToolChoice         json.RawMessage   `json:"tool_choice"`
	Tools              []responsesTool   `json:"tools"`
	TopP               *float64          `json:"top_p"`
	Truncation         string            `json:"truncation"`
	Usage              *responsesUsage   `json:"usage"`
	User               *string           `json:"user"`
	Metadata           json.RawMessage   `json:"metadata"`
}

type incomplete struct {
	Reason string `json:"reason"`
}

// echo fills what an answer repeats of its request.
func (r *response) echo(b *responsesBody) {
	r.Instructions, r.MaxOutputTokens, r.Temperature, r.TopP, r.Tools = b.Instructions, b.MaxOutputTokens, b.Temperature, b.TopP, b.Tools
	r.ParallelToolCalls = b.ParallelToolCalls == nil || *b.ParallelToolCalls
	if r.Tools == nil {
		r.Tools = []responsesTool{}
	}
	if b.Reasoning != nil {
		r.Reasoning = *b.Reasoning
	}
	r.Text = responsesText{Format: &responsesFormat{Type: "text"}}
	if b.Text != nil && b.Text.Format != nil {
		r.Text.Format = b.Text.Format
	}
	r.ToolChoice = json.RawMessage(`"auto"`)
	if !isNull(b.ToolChoice) {
		r.ToolChoice = b.ToolChoice
	}
	r.Truncation = "disabled"
	if b.User != "" {
		r.User = &b.User
	}
	r.Metadata = object(b.Metadata)
	r.Error = json.RawMessage("null")
	if isNull(r.Instructions) {
		r.Instructions = json.RawMessage("null")
	}
}
