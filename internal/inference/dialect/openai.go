package dialect

import (
	"encoding/json"
)

// Sampling are the parameters that chat and completion requests share: OpenAI's, then the engine extras that vLLM made common. Nil means not given.
type Sampling struct {
	Model            string             `json:"model"`
	Stream           bool               `json:"stream"`
	StreamOptions    *StreamOptions     `json:"stream_options"`
	MaxTokens        *int               `json:"max_tokens"`
	Temperature      *float64           `json:"temperature"`
	TopP             *float64           `json:"top_p"`
	N                *int               `json:"n"`
	Stop             Strings            `json:"stop"`
	Seed             *int64             `json:"seed"`
	PresencePenalty  *float64           `json:"presence_penalty"`
	FrequencyPenalty *float64           `json:"frequency_penalty"`
	LogitBias        map[string]float64 `json:"logit_bias"`
	User             string             `json:"user"`
	CacheSalt        string             `json:"cache_salt"` // cached prefixes are shared between requests of equal salt only

	TopK              *int            `json:"top_k"`
	MinP              *float64        `json:"min_p"`
	RepetitionPenalty *float64        `json:"repetition_penalty"`
	MinTokens         *int            `json:"min_tokens"`
	IgnoreEOS         bool            `json:"ignore_eos"`
	StopTokenIDs      []int32         `json:"stop_token_ids"`
	ResponseFormat    json.RawMessage `json:"response_format"`
	GuidedJSON        json.RawMessage `json:"guided_json"`
	GuidedRegex       json.RawMessage `json:"guided_regex"`
	GuidedChoice      json.RawMessage `json:"guided_choice"`
	GuidedGrammar     json.RawMessage `json:"guided_grammar"`
	StructuredOutputs json.RawMessage `json:"structured_outputs"`
}

// StreamOptions of a request with stream:true.
type StreamOptions struct {
	IncludeUsage         bool `json:"include_usage"`
	ContinuousUsageStats bool `json:"continuous_usage_stats"`
}

// ChatRequest is the body of POST /v1/chat/completions.
type ChatRequest struct {
	Sampling
	Messages            []Message                  `json:"messages"`
	MaxCompletionTokens *int                       `json:"max_completion_tokens"` // wins over max_tokens
	Logprobs            bool                       `json:"logprobs"`
	TopLogprobs         *int                       `json:"top_logprobs"`
	Tools               []json.RawMessage          `json:"tools"`
	ToolChoice          json.RawMessage            `json:"tool_choice"`
	Documents           []json.RawMessage          `json:"documents"`
	ChatTemplateKwargs  map[string]json.RawMessage `json:"chat_template_kwargs"`
	AddGenerationPrompt *bool                      `json:"add_generation_prompt"`
}

// Message is one turn of a conversation, in requests and answers.
type Message struct {
	Role             string          `json:"role"`
	Content          json.RawMessage `json:"content,omitempty"` // string, null or list of parts
	Name             string          `json:"name,omitempty"`
	ReasoningContent string          `json:"reasoning_content,omitempty"`
	ToolCalls        []ToolCall      `json:"tool_calls,omitempty"`
	ToolCallID       string          `json:"tool_call_id,omitempty"`
}

// ToolCall is a call of a function that the model asks for. In a stream, ID, Type and Name come with the first piece of an Index only.
type ToolCall struct {
	Index    *int         `json:"index,omitempty"` // streams only
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function FunctionCall `json:"function"`
}

// FunctionCall is a name and JSON text.
type FunctionCall struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// CompletionRequest is the body of POST /v1/completions.
type CompletionRequest struct {
	Sampling
	Prompt   Prompts `json:"prompt"`
	Echo     bool    `json:"echo"`
	Suffix   *string `json:"suffix"`
	BestOf   *int    `json:"best_of"`
	Logprobs *int    `json:"logprobs"`
}

// Strings is one string or a list of them.
type Strings []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *Strings) UnmarshalJSON(b []byte) error {
	var one *string
	if json.Unmarshal(b, &one) == nil {
		*s = nil
		if one != nil {
			*s = Strings{*one}
		}
		return nil
	}
	var many []string
	if json.Unmarshal(b, &many) != nil {
		return &FieldError{Message: "must be a string or a list of strings"}
	}
	*s = many
	return nil
}

// Prompt is one prompt of a completion: text, or ids of tokens.
type Prompt struct {
	Text string
	IDs  []int32 // not nil = this and not Text
}

// Prompts is a string, a list of strings, a list of ids, or a list of lists of ids.
type Prompts []Prompt

// UnmarshalJSON implements json.Unmarshaler.
func (p *Prompts) UnmarshalJSON(b []byte) error {
	var text string
	var texts []string
	var ids []int32
	var lists [][]int32
	*p = nil
	switch {
	case string(b) == "null":
	case json.Unmarshal(b, &text) == nil:
		*p = Prompts{{Text: text}}
	case json.Unmarshal(b, &texts) == nil:
		for _, t := range texts {
			*p = append(*p, Prompt{Text: t})
		}
	case json.Unmarshal(b, &ids) == nil:
		*p = Prompts{{IDs: ids}}
	case json.Unmarshal(b, &lists) == nil:
		for _, l := range lists {
			*p = append(*p, Prompt{IDs: append([]int32{}, l...)})
		}
	default:
		return &FieldError{Message: "must be a string, a list of strings, a list of token ids or a list of such lists"}
	}
	return nil
}

// Usage counts tokens as OpenAI does.
type Usage struct {
	PromptTokens            int                `json:"prompt_tokens"`
	CompletionTokens        int                `json:"completion_tokens"`
	TotalTokens             int                `json:"total_tokens"`
	PromptTokensDetails     *PromptDetails     `json:"prompt_tokens_details,omitempty"`
	CompletionTokensDetails *CompletionDetails `json:"completion_tokens_details,omitempty"`
}

// PromptDetails of a Usage.
type PromptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// CompletionDetails of a Usage.
type CompletionDetails struct {
	ReasoningTokens int `json:"reasoning_tokens"`
}

// ChatAnswer is a chat completion, or one chunk of its stream: Choices then hold Delta.
type ChatAnswer struct {
	ID                string           `json:"id"`
	Object            string           `json:"object"` // chat.completion, chat.completion.chunk
	Created           int64            `json:"created"`
	Model             string           `json:"model"`
	SystemFingerprint string           `json:"system_fingerprint,omitempty"`
	Choices           []ChatChoice     `json:"choices"`
	Usage             *json.RawMessage `json:"usage,omitempty"` // null in the chunks of a stream that asked for usage, but the last
}

// ChatChoice has Message in an answer, Delta in a chunk.
type ChatChoice struct {
	Index        int           `json:"index"`
	Message      *ChatMessage  `json:"message,omitempty"`
	Delta        *ChatDelta    `json:"delta,omitempty"`
	Logprobs     *ChatLogprobs `json:"logprobs"`
	FinishReason *string       `json:"finish_reason"`
	StopReason   any           `json:"stop_reason,omitempty"` // the stop string that matched
}

// ChatMessage is what the model said. Content is null when it only called tools.
type ChatMessage struct {
	Role             string     `json:"role"`
	Content          *string    `json:"content"`
	Refusal          *string    `json:"refusal"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	ToolCalls        []ToolCall `json:"tool_calls,omitempty"`
}

// ChatDelta is a piece of a message.
type ChatDelta struct {
	Role             string     `json:"role,omitempty"`
	Content          *string    `json:"content,omitempty"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	ToolCalls        []ToolCall `json:"tool_calls,omitempty"`
}

// ChatLogprobs holds one entry per generated token.
type ChatLogprobs struct {
	Content []TokenLogprob  `json:"content"`
	Refusal json.RawMessage `json:"refusal"` // null
}

// TokenLogprob is a token with its log probability. Bytes tells what Token cannot: a part of a rune.
type TokenLogprob struct {
	Token       string         `json:"token"`
	Logprob     float64        `json:"logprob"`
	Bytes       []int          `json:"bytes"`
	TopLogprobs []TokenLogprob `json:"top_logprobs,omitempty"`
}

// CompletionAnswer is a completion, or one chunk of its stream.
type CompletionAnswer struct {
	ID                string             `json:"id"`
	Object            string             `json:"object"` // text_completion
	Created           int64              `json:"created"`
	Model             string             `json:"model"`
	SystemFingerprint string             `json:"system_fingerprint,omitempty"`
	Choices           []CompletionChoice `json:"choices"`
	Usage             *json.RawMessage   `json:"usage,omitempty"`
}

// CompletionChoice is the text of one choice or a piece of it.
type CompletionChoice struct {
	Index        int                 `json:"index"`
	Text         string              `json:"text"`
	Logprobs     *CompletionLogprobs `json:"logprobs"`
	FinishReason *string             `json:"finish_reason"`
	StopReason   any                 `json:"stop_reason,omitempty"`
}

// CompletionLogprobs is the old form: parallel lists. The first prompt token of an echo has no probability.
type CompletionLogprobs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogprobs []*float64           `json:"token_logprobs"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
}

// ErrorBody is the form of every error: all four keys, null where empty.
type ErrorBody struct {
	Error ErrorObject `json:"error"`
}

// ErrorObject is the inside of ErrorBody.
type ErrorObject struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// NewError makes an error body; empty param and code become null.
func NewError(message, typ, param, code string) ErrorBody {
	opt := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return ErrorBody{ErrorObject{Message: message, Type: typ, Param: opt(param), Code: opt(code)}}
}

// ModelList is the answer of GET /v1/models.
type ModelList struct {
	Object string      `json:"object"` // list
	Data   []ModelInfo `json:"data"`
}

// ModelInfo is one entry of a ModelList.
type ModelInfo struct {
	ID          string `json:"id"`
	Object      string `json:"object"` // model
	Created     int64  `json:"created"`
	OwnedBy     string `json:"owned_by"`
	Root        string `json:"root,omitempty"`
	MaxModelLen int    `json:"max_model_len,omitempty"`
}
