package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// words is the vocabulary of the scripted answers: pieces as a tokenizer would give them, some of several bytes.
var words = []string{"The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".", " 你好", "，世界", " naïve", " café", " 🙂", "\n", " one", " two", " three", " four"}

// Server is an http.Handler that plays an OpenAI-compatible server: chat and completions, streamed and whole, models, health, metrics with vLLM's names. Its answers depend on nothing but the request.
type Server struct {
	Model      string        // id on /v1/models
	Slots      int           // requests worked on at a time; others wait
	Context    int           // tokens; a token of a prompt is a word
	TokenDelay time.Duration // between tokens
	Key        string        // bearer token that is asked for, "" = none
	Wrong      bool          // answers chat and completions with something that is no answer
	NoChat     bool          // a model without a chat form

	slots                     chan struct{}
	running, waiting          atomic.Int64
	prompt, generated, served atomic.Int64
}

// NewServer makes a server with its slots.
func NewServer(model string, slots, contextLen int) *Server {
	return &Server{Model: model, Slots: slots, Context: contextLen, slots: make(chan struct{}, slots)}
}

type request struct {
	Model         string          `json:"model"`
	Messages      []message       `json:"messages"`
	Prompt        json.RawMessage `json:"prompt"`
	MaxTokens     *int            `json:"max_tokens"`
	MaxCompletion *int            `json:"max_completion_tokens"`
	Temperature   *float64        `json:"temperature"`
	Seed          *int64          `json:"seed"`
	Stop          json.RawMessage `json:"stop"`
	Stream        bool            `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Key != "" && r.Header.Get("Authorization") != "Bearer "+s.Key {
		problem(w, http.StatusUnauthorized, "invalid_api_key", "Incorrect API key provided")
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/models":
		reply(w, map[string]any{"object": "list", "data": []any{map[string]any{"id": s.Model, "object": "model", "created": 1700000000, "owned_by": "fake"}}})
	case "GET /health":
		w.WriteHeader(http.StatusOK)
	case "GET /metrics":
		_, _ = fmt.Fprintf(w, "vllm:num_requests_running{model_name=%q} %d\nvllm:num_requests_waiting{model_name=%q} %d\nvllm:kv_cache_usage_perc{model_name=%q} 0.25\nvllm:prompt_tokens_total{} %d\n"+
			"vllm:generation_tokens_total{} %d\nvllm:request_success_total{finished_reason=\"stop\"} %d\n", s.Model, s.running.Load(), s.Model, s.waiting.Load(), s.Model, s.prompt.Load(), s.generated.Load(), s.served.Load())
	case "POST /v1/chat/completions":
		s.generate(w, r, true)
	case "POST /v1/completions":
		s.generate(w, r, false)
	default:
		problem(w, http.StatusNotFound, "not_found", "there is no "+r.URL.Path)
	}
}

func (s *Server) generate(w http.ResponseWriter, r *http.Request, chat bool) {
	var q request
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<20))
	if err := d.Decode(&q); err != nil {
		problem(w, http.StatusBadRequest, "invalid_json", "the body is not JSON")
		return
	}
	text, ok := q.text(chat)
	switch {
	case !ok:
		problem(w, http.StatusBadRequest, "invalid_request", "messages or prompt is missing")
		return
	case q.Model != s.Model:
		problem(w, http.StatusNotFound, "model_not_found", "the model "+strconv.Quote(q.Model)+" does not exist")
		return
	case chat && s.NoChat:
		problem(w, http.StatusBadRequest, "no_chat_template", "the model has no chat template")
		return
	case s.Wrong:
		reply(w, map[string]any{"object": "nothing"})
		return
	}
	prompt := len(strings.Fields(text)) + 1
	if prompt >= s.Context {
		problem(w, http.StatusBadRequest, "context_length_exceeded", fmt.Sprintf("This model's maximum context length is %d tokens. However, your prompt has %d tokens.", s.Context, prompt))
		return
	}
	s.waiting.Add(1)
	select {
	case s.slots <- struct{}{}:
		s.waiting.Add(-1)
	case <-r.Context().Done():
		s.waiting.Add(-1)
		return
	}
	s.running.Add(1)
	defer func() { s.running.Add(-1); <-s.slots }()
	s.prompt.Add(int64(prompt))
	a := q.answer(text, s.Context-prompt)
	out := writer{w: w, chat: chat, model: s.Model, id: "fake-" + strconv.FormatInt(s.served.Add(1), 10), usage: map[string]int{"prompt_tokens": prompt}}
	if q.Stream {
		s.stream(r.Context(), out, a, q.StreamOptions.IncludeUsage)
		return
	}
	for range a.pieces {
		if !s.pause(r.Context()) {
			return
		}
	}
	out.whole(a)
}

// pause is the time of one token. False when the client left.
func (s *Server) pause(ctx context.Context) bool {
	s.generated.Add(1)
	if s.TokenDelay == 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(s.TokenDelay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) stream(ctx context.Context, out writer, a answer, usage bool) {
	out.w.Header().Set("Content-Type", "text/event-stream")
	out.first()
	for _, piece := range a.pieces {
		if !s.pause(ctx) {
			return
		}
		out.piece(piece, "")
	}
	out.piece("", a.finish)
	if usage {
		out.last(a)
	}
	_, _ = fmt.Fprint(out.w, "data: [DONE]\n\n")
}

// text joins what the request says.
func (q request) text(chat bool) (string, bool) {
	if !chat {
		var one string
		if json.Unmarshal(q.Prompt, &one) != nil {
			return "", false
		}
		return one, true
	}
	var b strings.Builder
	for _, m := range q.Messages {
		b.WriteString(m.Role + " " + string(m.Content) + " ")
	}
	return b.String(), len(q.Messages) > 0
}

// answer is what is going to be said.
type answer struct {
	pieces []string
	finish string
	tokens int
}

// answer makes the tokens: a sequence that depends on the prompt, and on the seed where the temperature is not 0; 60 tokens, or max_tokens, or up to a stop string.
func (q request) answer(prompt string, room int) answer {
	h := fnv.New64a()
	_, _ = h.Write([]byte(prompt))
	if q.Temperature == nil || *q.Temperature > 0 {
		if q.Seed != nil {
			_, _ = h.Write([]byte(strconv.FormatInt(*q.Seed, 10)))
		} else {
			_, _ = h.Write([]byte(time.Now().String()))
		}
	}
	state := h.Sum64()
	n, a := 60, answer{finish: "stop"}
	for _, limit := range []*int{q.MaxTokens, q.MaxCompletion, &room} {
		if limit != nil && *limit < n {
			n, a.finish = *limit, "length"
		}
	}
	for range n {
		state = state*6364136223846793005 + 1442695040888963407
		a.pieces = append(a.pieces, words[(state>>33)%uint64(len(words))])
	}
	a.tokens = n
	a.cut(q.stops())
	return a
}

func (q request) stops() []string {
	var one string
	var many []string
	if json.Unmarshal(q.Stop, &one) == nil && one != "" {
		return []string{one}
	}
	_ = json.Unmarshal(q.Stop, &many)
	return many
}

// cut ends the answer before the first stop string, whatever token borders lie inside it.
func (a *answer) cut(stops []string) {
	whole := strings.Join(a.pieces, "")
	at := -1
	for _, s := range stops {
		if i := strings.Index(whole, s); s != "" && i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at < 0 {
		return
	}
	a.finish = "stop"
	for i, p := range a.pieces {
		if at < len(p) {
			a.pieces = append(a.pieces[:i:i], p[:at])
			a.tokens = i + 1
			return
		}
		at -= len(p)
	}
}

// writer gives an answer the two shapes of the dialect.
type writer struct {
	w         http.ResponseWriter
	chat      bool
	id, model string
	usage     map[string]int
}

func (o writer) use(a answer) map[string]int {
	o.usage["completion_tokens"] = a.tokens
	o.usage["total_tokens"] = o.usage["prompt_tokens"] + a.tokens
	return o.usage
}

func (o writer) whole(a answer) {
	text := strings.Join(a.pieces, "")
	choice := map[string]any{"index": 0, "text": text, "finish_reason": a.finish, "logprobs": nil}
	object := "text_completion"
	if o.chat {
		choice = map[string]any{"index": 0, "message": map[string]any{"role": "assistant", "content": text}, "finish_reason": a.finish, "logprobs": nil}
		object = "chat.completion"
	}
	reply(o.w, map[string]any{"id": o.id, "object": object, "created": 1700000000, "model": o.model, "choices": []any{choice}, "usage": o.use(a)})
}

func (o writer) event(choices []any, usage map[string]int) {
	object := "text_completion"
	if o.chat {
		object = "chat.completion.chunk"
	}
	e := map[string]any{"id": o.id, "object": object, "created": 1700000000, "model": o.model, "choices": choices}
	if usage != nil {
		e["usage"] = usage
	}
	b, _ := json.Marshal(e)
	_, _ = o.w.Write([]byte("data: " + string(b) + "\n\n"))
	if f, ok := o.w.(http.Flusher); ok {
		f.Flush()
	}
}

func (o writer) first() {
	if o.chat {
		o.event([]any{map[string]any{"index": 0, "delta": map[string]any{"role": "assistant", "content": ""}, "finish_reason": nil}}, nil)
	}
}

func (o writer) piece(text, finish string) {
	var reason any
	if finish != "" {
		reason = finish
	}
	c := map[string]any{"index": 0, "finish_reason": reason}
	switch {
	case !o.chat:
		c["text"] = text
	case finish != "":
		c["delta"] = map[string]any{}
	default:
		c["delta"] = map[string]any{"content": text}
	}
	o.event([]any{c}, nil)
}

func (o writer) last(a answer) { o.event([]any{}, o.use(a)) }

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func problem(w http.ResponseWriter, status int, code, words string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": words, "type": "invalid_request_error", "param": nil, "code": code}})
}
