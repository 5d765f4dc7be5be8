package worker

import (
	"net/http"
	"time"

	"maas/internal/inference/dialect"
	"maas/internal/llm/run"
	"maas/internal/llm/token"
	"maas/internal/platform/fault"
)

const maxPrompts = 256

// completionCall is one completion request being answered: prompts x n choices.
type completionCall struct {
	m        *model
	req      dialect.CompletionRequest
	requests []run.Request
	echo     []string // text of each prompt
	logprobs bool
	head     dialect.CompletionAnswer
	offsets  []int // by choice: bytes of text so far
	echoed   []bool
}

// completion is POST /v1/completions.
func (s *server) completion(w http.ResponseWriter, r *http.Request, m *model, body []byte) error {
	c := &completionCall{m: m}
	if err := decode(body, &c.req); err != nil {
		return err
	}
	if err := c.prepare(r.Header); err != nil {
		return err
	}
	n := len(c.requests) * c.requests[0].N
	c.offsets, c.echoed = make([]int, n), make([]bool, n)
	c.head = dialect.CompletionAnswer{ID: newID("cmpl-"), Object: "text_completion", Created: time.Now().Unix(), Model: c.req.Model, SystemFingerprint: fingerprint}
	watch := s.metrics.begin()
	if c.req.Stream {
		return c.stream(w, r, watch)
	}
	return c.whole(w, r, watch)
}

// prepare checks the request and makes one engine request per prompt.
func (c *completionCall) prepare(h http.Header) error {
	if c.req.Suffix != nil && *c.req.Suffix != "" {
		return missing("suffix", "this engine does not fill in the middle")
	}
	if c.req.BestOf != nil && (c.req.N == nil && *c.req.BestOf != 1 || c.req.N != nil && *c.req.BestOf != *c.req.N) {
		return missing("best_of", "this engine returns every choice it makes; leave best_of out")
	}
	if len(c.req.Prompt) == 0 {
		return errRequest.With("prompt is required").WithFields(fault.Field{Name: "prompt", Code: "required", Message: "is required"})
	}
	if len(c.req.Prompt) > maxPrompts {
		return errRequest.With("prompt: %d are over the limit of %d", len(c.req.Prompt), maxPrompts).WithFields(fault.Field{Name: "prompt", Code: "too_long", Message: "too many", Limit: maxPrompts})
	}
	for _, p := range c.req.Prompt {
		ids, err := c.ids(p)
		if err != nil {
			return err
		}
		r, err := c.m.request(h, &c.req.Sampling, ids)
		if err != nil {
			return err
		}
		if c.req.MaxTokens == nil {
			r.MaxTokens = 16 // the default of this endpoint
		}
		if c.req.Logprobs != nil {
			if *c.req.Logprobs < 0 || *c.req.Logprobs > 20 {
				return errRequest.With("logprobs must be 0 to 20").WithFields(fault.Field{Name: "logprobs", Code: "out_of_range", Message: "must be 0 to 20", Limit: 20})
			}
			c.logprobs, r.Logprobs, r.TopLogprobs, r.PromptLogprobs = true, true, *c.req.Logprobs, c.req.Echo
		}
		c.requests = append(c.requests, r)
		if c.req.Echo {
			text := p.Text
			if p.IDs != nil {
				text = string(c.m.tok.Decode(p.IDs, true))
			}
			c.echo = append(c.echo, text)
		}
	}
	return nil
}

// ids turns a prompt into tokens. The caller writes the whole prompt of its model, so control tokens in the text are taken as such.
func (c *completionCall) ids(p dialect.Prompt) ([]int32, error) {
	if p.IDs != nil {
		if limit := c.m.engine.MaxContext(); len(p.IDs) >= limit {
			return nil, tooLong(len(p.IDs), limit, "prompt")
		}
		return p.IDs, nil
	}
	o := c.m.tok.Defaults()
	o.AddEOS = false
	ids, err := c.m.encode([]token.Part{{Text: p.Text, Trusted: true}}, o, "prompt")
	if err == nil && len(ids) == 0 {
		return nil, errRequest.With("prompt is empty, and this model has no begin token to start from").WithFields(fault.Field{Name: "prompt", Code: "required", Message: "is empty"})
	}
	return ids, err
}

func (c *completionCall) index(p piece) int { return p.prompt*c.requests[0].N + p.chunk.Index }

// choice turns a piece into the wire form; the echo of the prompt goes before the first.
func (c *completionCall) choice(p piece) dialect.CompletionChoice {
	i := c.index(p)
	out := dialect.CompletionChoice{Index: i, Text: p.chunk.Text, FinishReason: finishReason(p.chunk.Finish, false), StopReason: stopReason(p.chunk)}
	var lps []run.TokenLogprob
	first := false
	if c.req.Echo && !c.echoed[i] {
		c.echoed[i] = true
		out.Text = c.echo[p.prompt] + out.Text
		lps, first = p.chunk.Prompt, len(p.chunk.Prompt) > 0
	}
	if c.logprobs {
		out.Logprobs = c.lists(i, append(lps, p.chunk.Logprobs...), first)
	}
	return out
}

// lists makes the parallel lists. noFirst: the first entry is the first token of a prompt, which nothing precedes.
func (c *completionCall) lists(i int, lps []run.TokenLogprob, noFirst bool) *dialect.CompletionLogprobs {
	out := &dialect.CompletionLogprobs{Tokens: []string{}, TokenLogprobs: []*float64{}, TopLogprobs: []map[string]float64{}, TextOffset: []int{}}
	for k, lp := range lps {
		text := c.m.tok.Bytes(lp.ID)
		out.Tokens, out.TextOffset = append(out.Tokens, text), append(out.TextOffset, c.offsets[i])
		c.offsets[i] += len(text)
		if k == 0 && noFirst {
			out.TokenLogprobs, out.TopLogprobs = append(out.TokenLogprobs, nil), append(out.TopLogprobs, nil)
			continue
		}
		v := finite(lp.Logprob)
		top := make(map[string]float64, len(lp.Top)+1)
		for _, a := range lp.Top {
			top[c.m.tok.Bytes(a.ID)] = finite(a.Logprob)
		}
		top[text] = v
		out.TokenLogprobs, out.TopLogprobs = append(out.TokenLogprobs, &v), append(out.TopLogprobs, top)
	}
	return out
}

func (c *completionCall) whole(w http.ResponseWriter, r *http.Request, watch *watch) error {
	choices := make([]dialect.CompletionChoice, len(c.offsets))
	u, err := merged(r.Context(), c.m.engine, c.requests, func(p piece) error {
		watch.chunk(p.chunk)
		if err := aborted(p.chunk); err != nil {
			return err
		}
		got := c.choice(p)
		to := &choices[got.Index]
		text, lp := to.Text+got.Text, joinLists(to.Logprobs, got.Logprobs)
		*to = got
		to.Text, to.Logprobs = text, lp
		return nil
	})
	watch.end(u, err)
	if err != nil {
		return err
	}
	c.head.Choices, c.head.Usage = choices, rawUsage(usage(u))
	writeJSON(w, http.StatusOK, c.head)
	return nil
}

func joinLists(a, b *dialect.CompletionLogprobs) *dialect.CompletionLogprobs {
	if a == nil || b == nil {
		return b
	}
	a.Tokens, a.TokenLogprobs = append(a.Tokens, b.Tokens...), append(a.TokenLogprobs, b.TokenLogprobs...)
	a.TopLogprobs, a.TextOffset = append(a.TopLogprobs, b.TopLogprobs...), append(a.TextOffset, b.TextOffset...)
	return a
}

func (c *completionCall) stream(w http.ResponseWriter, r *http.Request, watch *watch) error {
	out := newSSE(w)
	report := reportingOf(c.req.StreamOptions)
	sofar := make([]run.Usage, len(c.requests))
	u, err := merged(r.Context(), c.m.engine, c.requests, func(p piece) error {
		watch.chunk(p.chunk)
		if err := aborted(p.chunk); err != nil {
			return err
		}
		sofar[p.prompt] = p.chunk.Usage
		choice := c.choice(p)
		if choice.Text == "" && choice.FinishReason == nil && !c.logprobs {
			return nil
		}
		a := c.head
		a.Choices, a.Usage = []dialect.CompletionChoice{choice}, report.chunk(usage(sum(sofar)))
		out.send(a)
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
		c.head.Choices, c.head.Usage = []dialect.CompletionChoice{}, rawUsage(usage(u))
		out.send(c.head)
	}
	out.raw([]byte("[DONE]"))
	return nil
}

func sum(all []run.Usage) run.Usage {
	var u run.Usage
	for _, a := range all {
		u.Prompt, u.Cached, u.Completion = u.Prompt+a.Prompt, u.Cached+a.Cached, u.Completion+a.Completion
	}
	return u
}
