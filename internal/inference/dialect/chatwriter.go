package dialect

import "errors"

// errNoAnswer is an upstream's answer that is none.
var errNoAnswer = errors.New("the answer has no content")

// chatWriter gives an answer the form of chat completions.
type chatWriter struct {
	begun    bool
	finished bool
	closed   bool
}

type chatMsgOut struct {
	Role             string     `json:"role"`
	Content          *string    `json:"content"`
	Refusal          *string    `json:"refusal"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	ThinkingBlocks   []block    `json:"thinking_blocks,omitempty"`
	ToolCalls        []chatCall `json:"tool_calls,omitempty"`
}

// say sets the texts. Content is null where a message consists of calls alone.
func (m *chatMsgOut) say(text, thought string) {
	if text != "" || len(m.ToolCalls) == 0 {
		m.Content = &text
	}
	m.ReasoningContent = thought
}

type chatDelta struct {
	Role             string     `json:"role,omitempty"`
	Content          *string    `json:"content,omitempty"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	ThinkingBlocks   []block    `json:"thinking_blocks,omitempty"`
	ToolCalls        []chatCall `json:"tool_calls,omitempty"`
}

type chatChoiceOut struct {
	Index        int         `json:"index"`
	Message      *chatMsgOut `json:"message,omitempty"`
	Delta        *chatDelta  `json:"delta,omitempty"`
	Logprobs     *struct{}   `json:"logprobs"`
	FinishReason *string     `json:"finish_reason"`
}

type chatOut struct {
	ID      string          `json:"id"`
	Object  string          `json:"object"`
	Created int64           `json:"created"`
	Model   string          `json:"model"`
	Choices []chatChoiceOut `json:"choices"`
	Usage   *chatUsage      `json:"usage,omitempty"`
}

func (*chatWriter) object(o *Options, object string) chatOut {
	return chatOut{ID: "chatcmpl-" + o.ID, Object: object, Created: o.Created, Model: o.Public, Choices: []chatChoiceOut{}}
}

func (w *chatWriter) whole(dst []byte, o *Options, m chatMsgOut, finish string, u *Tokens) ([]byte, error) {
	a := w.object(o, "chat.completion")
	a.Choices = append(a.Choices, chatChoiceOut{Message: &m, FinishReason: &finish})
	if u.Told {
		a.Usage = chatUsageOf(u)
	}
	return appendJSON(dst, a)
}

func (w *chatWriter) chunk(dst []byte, o *Options, d chatDelta, finish *string) ([]byte, error) {
	a := w.object(o, "chat.completion.chunk")
	a.Choices = append(a.Choices, chatChoiceOut{Delta: &d, FinishReason: finish})
	return appendEvent(dst, a)
}

// begin writes the first chunk, once.
func (w *chatWriter) begin(dst []byte, o *Options) ([]byte, error) {
	if w.begun {
		return dst, nil
	}
	w.begun = true
	empty := ""
	return w.chunk(dst, o, chatDelta{Role: "assistant", Content: &empty}, nil)
}

func (w *chatWriter) delta(dst []byte, o *Options, d chatDelta) ([]byte, error) {
	dst, err := w.begin(dst, o)
	if err != nil || w.finished {
		return dst, err
	}
	return w.chunk(dst, o, d, nil)
}

func (w *chatWriter) finish(dst []byte, o *Options, reason string) ([]byte, error) {
	dst, err := w.begin(dst, o)
	if err != nil || w.finished {
		return dst, err
	}
	w.finished = true
	return w.chunk(dst, o, chatDelta{}, &reason)
}

// close writes what stands behind the last chunk: the usage where it was asked for, and the mark.
func (w *chatWriter) close(dst []byte, o *Options, u *Tokens) ([]byte, error) {
	if w.closed {
		return dst, nil
	}
	w.closed = true
	dst, err := w.finish(dst, o, "stop")
	if err != nil {
		return dst, err
	}
	if o.AskedUsage && u.Told {
		a := w.object(o, "chat.completion.chunk")
		a.Usage = chatUsageOf(u)
		if dst, err = appendEvent(dst, a); err != nil {
			return dst, err
		}
	}
	return appendDone(dst), nil
}
