package engine

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// probe is a smallest request of one operation, and what its answer must hold.
type probe struct {
	op   Ops
	path string
	body map[string]any
	good func(a *probeAnswer) bool
}

// probeAnswer is the part of all answer forms that the smoke request looks at.
type probeAnswer struct {
	Choices []struct {
		Text    *string `json:"text"`
		Message *struct {
			Role string `json:"role"`
		} `json:"message"`
	} `json:"choices"`
	Data       []json.RawMessage `json:"data"`
	Results    []json.RawMessage `json:"results"`
	Content    []json.RawMessage `json:"content"`    // Anthropic
	Candidates []json.RawMessage `json:"candidates"` // Gemini
	Embeddings []json.RawMessage `json:"embeddings"` // Gemini
}

func choices(a *probeAnswer) bool {
	return len(a.Choices) > 0 && (a.Choices[0].Text != nil || a.Choices[0].Message != nil)
}

func data(a *probeAnswer) bool { return len(a.Data) > 0 }

func results(a *probeAnswer) bool { return len(a.Results) > 0 }

// Smoke has the engine generate one token (how many it counts is its own business: reasoning models count their thoughts): by chat, or by completion where the model has no chat form, or by whatever else the
// endpoint says it does. ErrSmoke with the engine's words when none gives a right answer; ErrUpstreamAuth, ErrUpstreamModel and ErrBusy pass.
func (c *Client) Smoke(ctx context.Context) error {
	var first error
	for _, p := range c.probes() {
		err := c.smoke(ctx, &p)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err // of what nearly every caller does
		}
		if errors.Is(err, ErrUpstreamAuth) && p.op == OpChat && c.ep.Caps.Ops.Has(OpEmbedding) {
			continue // some say forbidden where they mean that this model does not chat
		}
		if errors.Is(err, ErrUpstreamAuth) || errors.Is(err, ErrBusy) || ctx.Err() != nil {
			return err
		}
	}
	return first
}

// probes are the requests to try, the likeliest first.
func (c *Client) probes() []probe {
	name := c.ep.Model
	if name == "" {
		name = "model" // any will do
	}
	hi := []map[string]string{{"role": "user", "content": "Hi"}}
	switch c.ep.Dialect {
	case Anthropic:
		return []probe{{OpChat, "/messages", map[string]any{"model": name, "max_tokens": 1, "messages": hi}, func(a *probeAnswer) bool { return a.Content != nil }}}
	case Gemini:
		said := map[string]any{"parts": []map[string]string{{"text": "Hi"}}}
		model := "/models/" + url.PathEscape(name)
		chat := probe{OpChat, model + ":generateContent", map[string]any{"contents": []any{said}, "generationConfig": map[string]any{"maxOutputTokens": 1}}, func(a *probeAnswer) bool { return len(a.Candidates) > 0 }}
		embed := probe{OpEmbedding, model + ":batchEmbedContents", map[string]any{"requests": []any{map[string]any{"model": "models/" + name, "content": said}}}, func(a *probeAnswer) bool { return len(a.Embeddings) > 0 }}
		return byName(name, []probe{chat, embed})
	}
	chat := map[string]any{"model": name, "max_tokens": 1, "temperature": 0, "messages": hi}
	if c.ep.Caps.MaxCompletion { // reasoning models there take neither of the old fields
		chat = map[string]any{"model": name, "max_completion_tokens": 16, "messages": hi}
	}
	all := []probe{
		{OpChat, "/chat/completions", chat, choices},
		{OpCompletion, "/completions", map[string]any{"model": name, "max_tokens": 1, "temperature": 0, "prompt": "Hi"}, choices},
		{OpEmbedding, "/embeddings", map[string]any{"model": name, "input": "Hi"}, data},
		{OpRerank, "/rerank", map[string]any{"model": name, "query": "Hi", "documents": []string{"Hi"}}, results},
		{OpModeration, "/moderations", map[string]any{"model": name, "input": "Hi"}, results},
	}
	offered := all[:0]
	for _, p := range all {
		if c.ep.Caps.Ops.Has(p.op) {
			offered = append(offered, p)
		}
	}
	return byName(name, offered)
}

// byName puts first what the name of a model speaks of.
func byName(name string, list []probe) []probe {
	name = strings.ToLower(name)
	first := Ops(0)
	switch {
	case strings.Contains(name, "rerank"):
		first = OpRerank
	case strings.Contains(name, "embed"):
		first = OpEmbedding
	case strings.Contains(name, "moderation"):
		first = OpModeration
	}
	for i, p := range list {
		if p.op == first && i > 0 {
			copy(list[1:i+1], list[:i])
			list[0] = p
		}
	}
	return list
}

func (c *Client) smoke(ctx context.Context, p *probe) error {
	var a probeAnswer
	switch err := c.JSON(ctx, http.MethodPost, p.path, p.body, &a); {
	case errors.Is(err, ErrUpstreamAuth), errors.Is(err, ErrUpstreamModel), errors.Is(err, ErrBusy):
		return err
	case err != nil:
		return ErrSmoke.With("%s", text(err)).Wrap(err)
	case !p.good(&a):
		return ErrSmoke.With("the answer holds no choice")
	}
	return nil
}
