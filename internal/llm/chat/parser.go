package chat

// Delta is a piece of an answer as it becomes known. Exactly one of its parts is set.
type Delta struct {
	Content   string
	Reasoning string
	ToolCall  *ToolCallDelta
}

// ToolCallDelta is a piece of a tool call. The first delta of a call carries ID and Name with empty Arguments; the arguments of all its deltas concatenate to the JSON text.
type ToolCallDelta struct {
	Index     int // from 0 in the order of the calls
	ID, Name  string
	Arguments string
}

// Format names the way in which a family of models writes tool calls and reasoning.
type Format struct {
	Tools     string // "" = plain text; else hermes, llama3, ...
	Reasoning bool   // <think> ... </think>
}

// FormatOf finds the format by the markers in the text of a chat template.
func FormatOf(template string) Format { return Format{} }

// Parser splits the text of one answer into deltas. Not for use by two goroutines.
type Parser struct {
	format Format
}

// NewParser returns a Parser for one answer. tools says whether the request offered any: without, call markers are plain text. prompt is the end of the rendered prompt: a template that opened
// the reasoning itself makes the answer start inside it.
func NewParser(f Format, tools bool, prompt string) *Parser { return &Parser{format: f} }

// Push adds generated text and returns what became known by it.
func (p *Parser) Push(text string) []Delta {
	if text == "" {
		return nil
	}
	return []Delta{{Content: text}}
}

// Close ends the answer and returns what was held back. A call that was cut off or is not valid JSON becomes content.
func (p *Parser) Close() []Delta { return nil }

// ToolCalls returns how many tool calls have been reported, for the finish reason.
func (p *Parser) ToolCalls() int { return 0 }
