package dialect

import (
	"encoding/json"
	"fmt"
)

// messagesBody is the body of POST /v1/messages.
type messagesBody struct {
	Model         string             `json:"model"`
	MaxTokens     *int               `json:"max_tokens,omitempty"`
	Messages      []turn             `json:"messages"`
	System        json.RawMessage    `json:"system,omitempty"` // string or blocks
	Tools         []anthropicTool    `json:"tools,omitempty"`
	ToolChoice    *anthropicChoice   `json:"tool_choice,omitempty"`
	Thinking      *anthropicThinking `json:"thinking,omitempty"`
	OutputConfig  *outputConfig      `json:"output_config,omitempty"`
	StopSequences []string           `json:"stop_sequences,omitempty"`
	Temperature   *float64           `json:"temperature,omitempty"`
	TopP          *float64           `json:"top_p,omitempty"`
	TopK          *int               `json:"top_k,omitempty"`
	Stream        bool               `json:"stream,omitempty"`
	Metadata      *anthropicMetadata `json:"metadata,omitempty"`
}

// messagesFields are the names that a translation of messagesBody reads, or may pass over without a change of meaning.
var messagesFields = []string{"model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "temperature", "top_p", "top_k", "stream", "metadata", "cache_control"}

type anthropicMetadata struct {
	UserID string `json:"user_id,omitempty"`
}

type anthropicThinking struct {
	Type         string `json:"type"` // enabled, adaptive, disabled
	BudgetTokens int    `json:"budget_tokens,omitempty"`
}

type outputConfig struct {
	Effort string           `json:"effort,omitempty"`
	Format *anthropicFormat `json:"format,omitempty"`
}

type anthropicFormat struct {
	Type   string          `json:"type"` // json_schema
	Schema json.RawMessage `json:"schema,omitempty"`
}

type anthropicTool struct {
	Type        string          `json:"type,omitempty"` // "" and custom are tools of the client; the rest runs at Anthropic
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"input_schema,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

type anthropicChoice struct {
	Type            string `json:"type"` // auto, any, tool, none
	Name            string `json:"name,omitempty"`
	DisableParallel bool   `json:"disable_parallel_tool_use,omitempty"`
}

type turn struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"` // string or blocks
}

// block is a piece of content, of any type.
type block struct {
	Type      string          `json:"type"`
	Text      *string         `json:"text,omitempty"`
	Thinking  *string         `json:"thinking,omitempty"`
	Signature *string         `json:"signature,omitempty"`
	Data      string          `json:"data,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
	ToolUseID string          `json:"tool_use_id,omitempty"`
	Content   json.RawMessage `json:"content,omitempty"`
	IsError   bool            `json:"is_error,omitempty"`
	Source    json.RawMessage `json:"source,omitempty"`
	Title     string          `json:"title,omitempty"`
}

type source struct {
	Type      string          `json:"type"` // base64, url, text, content, file
	MediaType string          `json:"media_type,omitempty"`
	Data      string          `json:"data,omitempty"`
	URL       string          `json:"url,omitempty"`
	Content   json.RawMessage `json:"content,omitempty"`
}

func textBlock(s string) block { return block{Type: "text", Text: &s} }

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// blocks reads a content: a string or a list of blocks.
func blocks(content json.RawMessage, path string) ([]block, error) {
	if isNull(content) {
		return nil, nil
	}
	var text string
	if json.Unmarshal(content, &text) == nil {
		return []block{textBlock(text)}, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(content, &list) != nil {
		return nil, wrong(path, "must be a string or a list of blocks")
	}
	out := make([]block, len(list))
	for i, b := range list {
		if err := Decode(b, &out[i]); err != nil {
			return nil, wrong(fmt.Sprintf("%s[%d]", path, i), "%s", err.Error())
		}
	}
	return out, nil
}

// anthropicUsage has disjoint inputs; thinking is inside the output. Fields that an event leaves out keep what an earlier one said.
type anthropicUsage struct {
	InputTokens   *int64 `json:"input_tokens,omitempty"`
	CacheCreation *int64 `json:"cache_creation_input_tokens,omitempty"`
	CacheRead     *int64 `json:"cache_read_input_tokens,omitempty"`
	OutputTokens  *int64 `json:"output_tokens,omitempty"`
	Details       *struct {
		ThinkingTokens int64 `json:"thinking_tokens"`
	} `json:"output_tokens_details,omitempty"`
}

// into updates the counts. Each is cumulative: the last one told holds.
func (u *anthropicUsage) into(t *Tokens) {
	if u == nil {
		return
	}
	set := func(to *int64, from *int64) {
		if from != nil {
			*to, t.Told = bound(*from), true
		}
	}
	set(&t.Fresh, u.InputTokens)
	set(&t.CacheWrite, u.CacheCreation)
	set(&t.CacheRead, u.CacheRead)
	if u.OutputTokens != nil {
		out, thought := bound(*u.OutputTokens), t.Reasoning
		if u.Details != nil {
			thought = bound(u.Details.ThinkingTokens)
		}
		t.Reasoning = min(thought, out)
		t.Text, t.Told = out-t.Reasoning, true
	}
}

// anthropicUsageOut is the same as clients get it: all of it each time.
type anthropicUsageOut struct {
	InputTokens   int64 `json:"input_tokens"`
	CacheCreation int64 `json:"cache_creation_input_tokens"`
	CacheRead     int64 `json:"cache_read_input_tokens"`
	OutputTokens  int64 `json:"output_tokens"`
	Details       *struct {
		ThinkingTokens int64 `json:"thinking_tokens"`
	} `json:"output_tokens_details,omitempty"`
}

func anthropicUsageOf(t *Tokens) anthropicUsageOut {
	u := anthropicUsageOut{InputTokens: t.Fresh, CacheCreation: t.CacheWrite, CacheRead: t.CacheRead, OutputTokens: t.Completion()}
	if t.Reasoning > 0 {
		u.Details = &struct {
			ThinkingTokens int64 `json:"thinking_tokens"`
		}{t.Reasoning}
	}
	return u
}

// messageAnswer is a whole answer.
type messageAnswer struct {
	ID           string            `json:"id"`
	Type         string            `json:"type"` // message
	Role         string            `json:"role"`
	Model        string            `json:"model"`
	Content      []block           `json:"content"`
	StopReason   *string           `json:"stop_reason"`
	StopSequence *string           `json:"stop_sequence"`
	Usage        anthropicUsageOut `json:"usage"`
}

// messageEvent is an event of a stream as an upstream sends it, of any type.
type messageEvent struct {
	Type    string `json:"type"`
	Index   int    `json:"index"`
	Message *struct {
		ID    string          `json:"id"`
		Model string          `json:"model"`
		Usage *anthropicUsage `json:"usage"`
	} `json:"message"`
	Block *block `json:"content_block"`
	Delta *struct {
		Type         string  `json:"type"`
		Text         string  `json:"text"`
		PartialJSON  string  `json:"partial_json"`
		Thinking     string  `json:"thinking"`
		Signature    string  `json:"signature"`
		StopReason   *string `json:"stop_reason"`
		StopSequence *string `json:"stop_sequence"`
	} `json:"delta"`
	Usage *anthropicUsage `json:"usage"`
	Error json.RawMessage `json:"error"`
}
