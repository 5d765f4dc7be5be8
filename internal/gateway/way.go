package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"maas/internal/inference"
	"maas/internal/inference/dialect"
	"maas/internal/inference/engine"
	"maas/internal/platform/fault"
	"maas/internal/platform/h1"
	"maas/internal/user"
)

// ErrOperation is answered when a model is asked for what it does not do.
var ErrOperation = fault.New(fault.Invalid, "gateway.operation_not_supported", "this model does not do that").WithHint("GET /v1/models lists the models you can call")

const translatedMost = 32 << 20 // bytes of a whole answer that is translated

// way is how a call travels to one endpoint. tr is nil where endpoint and client speak one form: then the bytes pass.
type way struct {
	path string
	tr   dialect.Translator
	body []byte // the translated request
}

// chart finds the way of the call to an endpoint. again: another endpoint may take the call although this one cannot.
func (c *call) chart(ep *engine.Endpoint) (e *fault.Error, again bool) {
	c.way = way{path: c.op.path}
	if !ep.Caps.Ops.Has(c.op.needs) {
		return ErrOperation.With("the model %s does not do %s", c.row.Model, c.op.name), true
	}
	form, path := upstreamForm(ep, c.op, c.f.stream)
	if form == c.op.form {
		return nil, false
	}
	d := c.defaults
	o := dialect.Options{
		Model: ep.Model, Public: c.row.Model, ID: strings.TrimPrefix(c.row.RequestID, "req_"), Created: c.row.At.Unix(), Stream: c.f.stream, StreamUsage: ep.Caps.StreamUsage, Running: runs(ep),
		AskedUsage: c.f.includeUsage, MaxCompletion: ep.Caps.MaxCompletion, Extras: ep.Caps.Extras || runs(ep), Thoughts: ep.Caps.Thoughts || runs(ep),
	}
	if !ep.Caps.OwnDefaults {
		o.MaxTokens, o.Temperature, o.TopP = d.MaxTokens, d.Temperature, d.TopP
	}
	tr, err := dialect.New(c.op.form, form, o)
	if err != nil {
		return ErrOperation.With("the model %s does not do %s", c.row.Model, c.op.name), true
	}
	body, err := tr.Request(nil, c.body)
	if err != nil {
		return badRequest(err)
	}
	c.way = way{path, tr, body}
	return nil, false
}

// badRequest tells the client what its request has that cannot be translated.
func badRequest(err error) (e *fault.Error, again bool) {
	if u, ok := errors.AsType[*dialect.Unsupported](err); ok {
		return ErrUnsupported.With("%s", u.Error()).WithFields(fault.Field{Name: u.Param, Code: "not_in_list", Message: u.Message}), true
	}
	if f, ok := errors.AsType[*dialect.FieldError](err); ok {
		e := ErrInvalidParameter.With("%s", f.Error())
		if f.Param != "" {
			e = e.WithFields(fault.Field{Name: f.Param, Code: "format", Message: f.Message})
		}
		return e, false
	}
	return fault.From(err), false
}

// upstreamForm is the form in which an endpoint does an operation, and the path below its base.
func upstreamForm(ep *engine.Endpoint, op *operation, stream bool) (dialect.Form, string) {
	switch ep.Dialect {
	case engine.Anthropic:
		if op.form == dialect.Chat || op.form == dialect.Responses {
			return dialect.Messages, opMessages.path
		}
		return op.form, op.path
	case engine.Gemini:
		model := "/models/" + url.PathEscape(ep.Model)
		switch {
		case op.form == dialect.Embeddings:
			return dialect.EmbedContents, model + ":batchEmbedContents"
		case op.form == dialect.Count:
			return dialect.GeminiCount, model + ":countTokens"
		case stream:
			return dialect.Generate, model + ":streamGenerateContent?alt=sse"
		}
		return dialect.Generate, model + ":generateContent"
	default: // OpenAI's, in Azure's paths too
	}
	switch op.form {
	case dialect.Messages, dialect.Responses:
		return dialect.Chat, opChat.path
	case dialect.Count:
		return dialect.Tokenize, "/tokenize"
	case dialect.Rerank, dialect.RerankCohere:
		return dialect.RerankUpstream, op.path
	default:
		return op.form, op.path
	}
}

// request makes the request for an endpoint after chart.
func (c *call) request(ep *engine.Endpoint) h1.Request {
	if c.way.tr == nil {
		d := c.defaults
		if c.op.plain {
			d = &engine.Defaults{}
		}
		s := plan(&c.f, c.body, ep, d)
		c.pieces = s.pieces(c.pieces[:0], c.body)
	} else {
		c.pieces = append(c.pieces[:0], c.way.body)
	}
	path := ep.Path(c.way.path)
	if c.way.path == "/tokenize" { // stands beside the version, not below it
		path = strings.TrimSuffix(ep.BasePath, "/v1") + c.way.path
	}
	headers := ep.Headers
	if beta := c.beta(ep); beta != "" {
		headers = append(slices.Clone(headers), "Anthropic-Beta", beta)
	}
	return h1.Request{
		Address: h1.Address{Network: ep.Network, Addr: ep.Addr, TLS: ep.TLS, Name: ep.Host}, Method: "POST", Path: path, Host: ep.Host, Auth: ep.Auth.Reveal(), AuthName: ep.AuthName, Headers: headers,
		Type: "application/json", RequestID: c.row.RequestID, Body: c.pieces, First: c.patienceFirst(firstWhole),
	}
}

// beta is what a client of Anthropic's dialect asks an upstream of the same dialect for beyond the standard; "" = nothing, or something that is no list of plain names.
func (c *call) beta(ep *engine.Endpoint) string {
	h, ok := c.out.(*httpClient)
	if !ok || ep.Dialect != engine.Anthropic || c.way.tr != nil {
		return ""
	}
	list := strings.Join(h.r.Header.Values("Anthropic-Beta"), ",")
	if len(list) > 1000 || strings.Trim(list, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_., ") != "" {
		return ""
	}
	return list
}

// speak tells the cutter which form the events of the answer have.
func (c *call) speak() {
	c.cut.tr = c.way.tr
	c.cut.messages = c.way.tr == nil && c.op.form == dialect.Messages
}

// translated handles the data of one event of an upstream that speaks another form.
func (c *cutter) translated(data []byte) {
	out, err := c.tr.Event(c.out, bytes.TrimSpace(data))
	c.out = out
	if err != nil && c.broken == nil {
		c.broken = ErrUpstreamProtocol.Wrap(err)
	}
	c.note(c.tr.Seen())
}

func (c *cutter) note(s *dialect.Seen) {
	c.usage, c.final, c.events, c.bytes = tokensOf(&s.Usage), s.Final, s.Events, s.Bytes
	c.finished, c.done, c.failed = s.Finished, s.Done, s.Failed
	c.atLeast()
}

// atLeast corrects what is told on the way: some tell the output at the end only, and each event with content is a token at least.
func (c *cutter) atLeast() {
	c.counted = false
	if u := &c.usage; !c.final && u.told && c.events > u.outText+u.outThought {
		u.outText, c.counted = c.events-u.outThought, true
	}
}

func tokensOf(t *dialect.Tokens) tokens {
	return tokens{told: t.Told, inFresh: t.Fresh, inCache: t.CacheRead, inWrite: t.CacheWrite, outText: t.Text, outThought: t.Reasoning}
}

// message handles an event of Anthropic's form that passes as it is.
func (c *cutter) message(e, data []byte) {
	switch kind := eventType(e, data); kind {
	case "error":
		c.failed = append([]byte(nil), bytes.TrimSpace(data)...)
		return
	case "message_stop":
		c.done = true
	case "message_start", "message_delta":
		l := look(data)
		if l.usage.ok() {
			s := scanner{b: data, i: l.value}
			if s.value(1) == nil {
				c.usage.anthropic(data[l.value:s.i])
				c.final = kind == "message_delta"
				c.atLeast()
			}
		}
		c.finished = c.finished || kind == "message_delta"
		c.emit(e, len(e)-len(data), span{}, l.model)
		return
	case "content_block_delta", "content_block_start":
		l := look(data)
		if l.content > 0 {
			c.events++
			c.bytes += int64(l.content)
			c.atLeast()
		}
	}
	c.out = append(c.out, e...)
}

var (
	typeKey    = []byte(`"type"`)
	eventField = []byte("event:")
)

// eventType is the name of an event, or where it has none the first "type" in its data: that of the event itself, which stands in front as a rule.
func eventType(e, data []byte) string {
	if name, ok := bytes.CutPrefix(e, eventField); ok {
		name, _, _ = bytes.Cut(name, []byte{'\n'})
		return string(bytes.TrimSpace(name))
	}
	i := bytes.Index(data, typeKey)
	if i < 0 {
		return ""
	}
	v := colon(data, i+len(typeKey))
	if v < 0 || v >= len(data) || data[v] != '"' {
		return ""
	}
	return string(data[v+1 : v+1+stringLen(data[v+1:])])
}

// anthropic reads Anthropic's usage object over what earlier events told: what one leaves out stays.
func (t *tokens) anthropic(b []byte) {
	set := func(to *int64, key string) {
		if n, ok := number(b, key); ok {
			*to, t.told = n, true
		}
	}
	set(&t.inFresh, `"input_tokens"`)
	set(&t.inWrite, `"cache_creation_input_tokens"`)
	set(&t.inCache, `"cache_read_input_tokens"`)
	if n, ok := number(b, `"output_tokens"`); ok {
		thought, _ := number(b, `"thinking_tokens"`)
		thought = min(thought, n)
		t.outText, t.outThought, t.told = n-thought, thought, true
	}
}

// closeOut writes what a translated stream lacks at its end.
func (c *call) closeOut(answer *h1.Response, now time.Time) {
	whole := c.cut.done || c.cut.finished && len(c.cut.buf) == 0
	if c.cut.tr == nil || !whole || c.cut.failed != nil {
		return
	}
	out, err := c.cut.tr.Close(c.cut.out)
	c.cut.out = out
	if err == nil && len(out) > 0 {
		c.deliver(answer, false, now)
	}
}

// wholeTranslated ends a whole answer of another form.
func (c *call) wholeTranslated() (*fault.Error, bool) {
	tr := c.way.tr
	out, err := tr.Response(c.cut.out[:0], c.cut.buf)
	c.cut.out = out
	s := tr.Seen()
	c.told, c.cut.bytes = tokensOf(&s.Usage), s.Bytes
	if err != nil {
		c.row.End = user.EndUpstreamError
		if s.Failed != nil {
			return readRefusal(500, "", s.Failed).fault(), true
		}
		return ErrUpstreamProtocol.Wrap(err), true
	}
	c.row.End = user.EndDone
	c.begun = true
	c.out.head(c, false, int64(len(out)))
	if c.out.write(out) != nil || c.out.flush() != nil {
		c.left = true // the answer was made, and is billed
	}
	return nil, false
}

// failsWhole reports that a whole answer of status 200 is an error object. Chat answers are judged by their keys; in others, documents and inputs of tools may hold such a key inside.
func (c *call) failsWhole(body []byte, l *sight) bool {
	if c.op.form == dialect.Chat || c.op.form == dialect.Completion {
		return l.fails()
	}
	if len(body) > errorBodyMost {
		return false
	}
	var top struct {
		Type  string          `json:"type"`
		Error json.RawMessage `json:"error"`
	}
	return json.Unmarshal(body, &top) == nil && (top.Type == "error" || len(top.Error) > 0 && string(top.Error) != "null")
}

// countTokens answers how long a prompt is for an endpoint that cannot tell: by what its texts have weighed so far.
func (c *call) countTokens(a *inference.Attempt) {
	n := c.g.ratios.estimate(c.row.Model, int64(c.f.textBytes))
	b, _ := json.Marshal(map[string]int64{"input_tokens": n}) // a number: cannot fail
	c.row.End, c.estimated, c.begun = user.EndDone, true, true
	a.Done(inference.Outcome{Class: inference.Aborted}) // it was not asked
	c.out.head(c, false, int64(len(b)))
	if c.out.write(b) != nil || c.out.flush() != nil {
		c.left = true
	}
}

// dialectHeaders are those that only some dialects or ways have.
func (c *call) dialectHeaders(h http.Header) {
	if c.op.form == dialect.Messages || c.op.form == dialect.Count {
		h.Set("Request-Id", c.row.RequestID)
	}
	if c.estimated {
		h.Set("X-Maas-Source", "estimate")
	}
	if c.way.tr != nil {
		if d := c.way.tr.Seen().Dropped; len(d) > 0 {
			h.Set("X-Maas-Dropped", strings.Join(d, ", "))
		}
	}
}

// tooLong recognises how upstreams say that a prompt is longer than the model's context where they give no code for it.
func tooLong(words string) bool {
	return strings.Contains(words, "maximum context length") || strings.HasPrefix(words, "prompt is too long") || strings.HasPrefix(words, "The input token count")
}
