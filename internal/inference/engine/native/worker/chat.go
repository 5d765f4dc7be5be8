package worker

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"maas/internal/inference/dialect"
	"maas/internal/llm/chat"
	"maas/internal/llm/run"
	"maas/internal/platform/fault"
)

const maxTools = 128

// chatCall is one chat request being answered.
type chatCall struct {
	m       *model
	req     dialect.ChatRequest
	head    dialect.ChatAnswer // id, created, model
	parsers []*chat.Parser     // by choice
	thought int                // tokens of chunks that held reasoning only; a chunk is one token unless the client reads slowly
}

// chat is POST /v1/chat/completions.
func (s *server) chat(w http.ResponseWriter, r *http.Request, m *model, body []byte) error {
	c := &chatCall{m: m}
	if err := decode(body, &c.req); err != nil {
		return err
	}
	if c.req.MaxCompletionTokens != nil {
		c.req.MaxTokens = c.req.MaxCompletionTokens
	}
	if len(c.req.Tools) > maxTools {
		return errRequest.With("tools: %d are over the limit of %d", len(c.req.Tools), maxTools).WithFields(fault.Field{Name: "tools", Code: "too_long", Message: "too many", Limit: maxTools})
	}
	p, err := m.render(&c.req)
	if err != nil {
		return err
	}
	rr, err := m.request(r.Header, &c.req.Sampling, p.ids)
	if err != nil {
		return err
	}
	rr.Logprobs, rr.KeepSpecial = c.req.Logprobs, p.tools
	if c.req.TopLogprobs != nil {
		if rr.TopLogprobs = *c.req.TopLogprobs; rr.TopLogprobs > 0 && !c.req.Logprobs {
			return errRequest.With("top_logprobs: needs logprobs to be true").WithFields(fault.Field{Name: "top_logprobs", Code: "conflict", Message: "needs logprobs to be true"})
		}
	}
	for range rr.N {
		parser := chat.NewParser(p.form, p.tools, p.tail)
		parser.Tools(c.req.Tools)
		c.parsers = append(c.parsers, parser)
	}
	c.head = dialect.ChatAnswer{ID: newID("chatcmpl-"), Object: "chat.completion", Created: time.Now().Unix(), Model: c.req.Model, SystemFingerprint: fingerprint}
	watch := s.metrics.begin()
	if c.req.Stream {
		return c.stream(w, r, rr, watch)
	}
	return c.whole(w, r, rr, watch)
}

// whole collects the answer.
func (c *chatCall) whole(w http.ResponseWriter, r *http.Request, rr run.Request, watch *watch) error {
	choices := make([]dialect.ChatChoice, rr.N)
	texts := make([]string, rr.N)
	for i := range choices {
		choices[i] = dialect.ChatChoice{Index: i, Message: &dialect.ChatMessage{Role: "assistant"}}
		if rr.Logprobs {
			choices[i].Logprobs = &dialect.ChatLogprobs{Content: []dialect.TokenLogprob{}}
		}
	}
	u, err := merged(r.Context(), c.m.engine, []run.Request{rr}, func(p piece) error {
		watch.chunk(p.chunk)
		if err := aborted(p.chunk); err != nil {
			return err
		}
		i := p.chunk.Index
		ch := &choices[i]
		for _, d := range c.deltas(p.chunk) {
			addDelta(ch.Message, &texts[i], d)
		}
		c.addLogprobs(ch.Logprobs, p.chunk)
		if p.chunk.Finish != "" {
			ch.FinishReason, ch.StopReason = finishReason(p.chunk.Finish, c.parsers[i].ToolCalls() > 0), stopReason(p.chunk)
		}
		return nil
	})
	watch.end(u, err)
	if err != nil {
		return err
	}
	for i := range choices {
		m := choices[i].Message
		if texts[i] != "" || len(m.ToolCalls) == 0 {
			m.Content = &texts[i]
		}
	}
	c.head.Choices, c.head.Usage = choices, rawUsage(c.usage(u))
	writeJSON(w, http.StatusOK, c.head)
	return nil
}

// deltas runs the new text through the choice's parser, and ends it with the choice.
func (c *chatCall) deltas(ch run.Chunk) []chat.Delta {
	p := c.parsers[ch.Index]
	d := p.Push(ch.Text)
	if ch.Finish != "" {
		d = append(d, p.Close()...)
	}
	if len(d) > 0 && !slices.ContainsFunc(d, func(d chat.Delta) bool { return d.Reasoning == "" }) {
		c.thought += len(ch.Tokens)
	}
	return d
}

func (c *chatCall) usage(u run.Usage) dialect.Usage {
	out := usage(u)
	out.CompletionTokensDetails.ReasoningTokens = c.thought
	return out
}

// addDelta puts a piece into the message it belongs to.
func addDelta(m *dialect.ChatMessage, text *string, d chat.Delta) {
	*text += d.Content
	m.ReasoningContent += d.Reasoning
	t := d.ToolCall
	if t == nil {
		return
	}
	for len(m.ToolCalls) <= t.Index {
		m.ToolCalls = append(m.ToolCalls, dialect.ToolCall{Type: "function"})
	}
	call := &m.ToolCalls[t.Index]
	if t.ID != "" {
		call.ID, call.Function.Name = t.ID, t.Name
	}
	call.Function.Arguments += t.Arguments
}

func (c *chatCall) addLogprobs(to *dialect.ChatLogprobs, ch run.Chunk) {
	if to == nil {
		return
	}
	for _, lp := range ch.Logprobs {
		to.Content = append(to.Content, tokenLogprob(c.m.tok, lp))
	}
}

// stream sends the answer as it is made.
func (c *chatCall) stream(w http.ResponseWriter, r *http.Request, rr run.Request, watch *watch) error {
	out := newSSE(w)
	report := reportingOf(c.req.StreamOptions)
	c.head.Object = "chat.completion.chunk"
	begun := make([]bool, rr.N)
	empty := ""
	u, err := merged(r.Context(), c.m.engine, []run.Request{rr}, func(p piece) error {
		watch.chunk(p.chunk)
		if err := aborted(p.chunk); err != nil {
			return err
		}
		i := p.chunk.Index
		field := report.chunk(c.usage(p.chunk.Usage))
		if !begun[i] {
			begun[i] = true
			c.send(out, field, dialect.ChatChoice{Index: i, Delta: &dialect.ChatDelta{Role: "assistant", Content: &empty}})
		}
		var lp *dialect.ChatLogprobs
		if rr.Logprobs && len(p.chunk.Logprobs) > 0 {
			lp = &dialect.ChatLogprobs{}
			c.addLogprobs(lp, p.chunk)
		}
		ds := c.deltas(p.chunk)
		if len(ds) == 0 && lp != nil { // tokens whose text is held back
			c.send(out, field, dialect.ChatChoice{Index: i, Delta: &dialect.ChatDelta{Content: &empty}, Logprobs: lp})
		}
		for k, d := range ds {
			choice := dialect.ChatChoice{Index: i, Delta: wireDelta(d)}
			if k == 0 {
				choice.Logprobs = lp
			}
			c.send(out, field, choice)
		}
		if p.chunk.Finish != "" {
			c.send(out, field, dialect.ChatChoice{Index: i, Delta: &dialect.ChatDelta{}, FinishReason: finishReason(p.chunk.Finish, c.parsers[i].ToolCalls() > 0), StopReason: stopReason(p.chunk)})
		}
		if out.err != nil {
			return errGone
		}
		return nil
	})
	watch.end(u, err)
	if err != nil {
		if !isGone(r.Context(), err) && out.err == nil {
			out.fail(err)
		}
		return nil
	}
	if report.last {
		c.head.Choices, c.head.Usage = []dialect.ChatChoice{}, rawUsage(c.usage(u))
		out.send(c.head)
	}
	out.raw([]byte("[DONE]"))
	return nil
}

func wireDelta(d chat.Delta) *dialect.ChatDelta {
	out := &dialect.ChatDelta{ReasoningContent: d.Reasoning}
	if d.Content != "" {
		out.Content = &d.Content
	}
	if t := d.ToolCall; t != nil {
		call := dialect.ToolCall{Index: &t.Index, Function: dialect.FunctionCall{Name: t.Name, Arguments: t.Arguments}}
		if t.ID != "" {
			call.ID, call.Type = t.ID, "function"
		}
		out.ToolCalls = []dialect.ToolCall{call}
	}
	return out
}

func (c *chatCall) send(out *sse, u *json.RawMessage, choice dialect.ChatChoice) {
	a := c.head
	a.Choices, a.Usage = []dialect.ChatChoice{choice}, u
	out.send(a)
}
