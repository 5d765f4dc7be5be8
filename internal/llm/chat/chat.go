// Package chat turns a conversation into the prompt of a model and the text of a model back into messages.
//
// Templates are written in a subset of Jinja and come inside uploaded model files, so they run in a sandbox: bounded steps, output, nesting and time, no reach beyond the values handed in.
// Every string in a template carries which of its bytes were written by the template and which came from the conversation; the result of Render keeps that, and only the template's bytes may
// become control tokens. A Parser reads generated text and splits it into content, reasoning and tool calls as it arrives.
package chat

import (
	"encoding/json"
	"time"

	"maas/internal/platform/fault"
)

// Errors of this package.
var (
	ErrSyntax  = fault.New(fault.Invalid, "llm.template_syntax", "the chat template cannot be read")
	ErrLimit   = fault.New(fault.Invalid, "llm.template_limit", "the chat template goes over a limit")
	ErrRaised  = fault.New(fault.Invalid, "llm.template_raised", "the chat template refuses this conversation")
	ErrFailed  = fault.New(fault.Invalid, "llm.template_failed", "the chat template failed on this conversation")
	ErrMessage = fault.New(fault.Invalid, "llm.message_invalid", "the conversation cannot be given to the chat template")
)

// Limits bound what one template may do. Zero fields take the value of DefaultLimits.
type Limits struct {
	Source  int           // bytes of template text
	Steps   int           // evaluated nodes and loop rounds in one Render
	Nesting int           // depth of blocks, expressions and macro calls
	Output  int           // bytes of rendered text, and of any string on the way
	Range   int           // length of a range()
	Time    time.Duration // wall time of one Render
}

// DefaultLimits hold for every template unless the caller says otherwise.
//
// Steps bound the work to some 50 ms of a core; Time is a backstop far above that, because wall time passes on a busy machine without any work of the template.
var DefaultLimits = Limits{Source: 256 << 10, Steps: 200_000, Nesting: 64, Output: 4 << 20, Range: 10_000, Time: 2 * time.Second}

// Message is one turn, with the field names of the OpenAI chat form.
type Message struct {
	Role             string          `json:"role"`
	Content          json.RawMessage `json:"content,omitempty"` // a JSON string, null, or a list of parts {"type":"text","text":...}
	ReasoningContent string          `json:"reasoning_content,omitempty"`
	Name             string          `json:"name,omitempty"`
	ToolCalls        []ToolCall      `json:"tool_calls,omitempty"`
	ToolCallID       string          `json:"tool_call_id,omitempty"`
}

// ToolCall is a finished call of a function.
type ToolCall struct {
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"` // "function"
	Function FunctionCall `json:"function"`
}

// FunctionCall names a function and its arguments: JSON text, an object unless the model erred.
type FunctionCall struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// Input is what a template is rendered with.
type Input struct {
	Messages            []Message
	Tools               []json.RawMessage // OpenAI tool objects {"type":"function","function":{...}}; the order of keys is kept
	Documents           []json.RawMessage
	AddGenerationPrompt bool
	Kwargs              map[string]json.RawMessage // chat_template_kwargs: further variables, e.g. enable_thinking
	BOS, EOS            string                     // texts of the begin and end tokens; trusted
	Now                 time.Time                  // for strftime_now; the zero time means the template may not ask
}

// Text returns content that is a plain string.
func Text(s string) json.RawMessage {
	b, _ := json.Marshal(s) // a string cannot fail
	return b
}
