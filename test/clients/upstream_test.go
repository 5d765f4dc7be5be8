package clients

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// upstream plays two providers on the wire: one of OpenAI's dialect below /oai/v1, one of Anthropic's below /ant/v1. Its model is an agent that fixes a bug: where tools are offered it lists files, reads one,
// writes it, one call a turn (the first turn makes two at once), and then says what it did; without tools it says hello.
type upstream struct{}

func newUpstream(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(upstream{})
	t.Cleanup(s.Close)
	return s.URL
}

// step is what the model says in one turn.
type step struct {
	thought, text string
	calls         []call
}

type call struct{ id, name, args string }

var steps = []step{
	{thought: "First I look.", text: "Let me look.", calls: []call{{"call_1", "list_files", `{"path": "."}`}, {"call_2", "read_file", `{"path": "main.py"}`}}},
	{calls: []call{{"call_3", "write_file", `{"path": "main.py", "content": "print(\"fixed <b> & ü\")\n"}`}}},
	{text: "I fixed main.py."},
}

// next chooses the step by how many turns with tool results there are.
func next(tools bool, results int) step {
	if !tools {
		return step{text: "Hello from upstream."}
	}
	return steps[min(results, len(steps)-1)]
}

const (
	promptTokens = 40
	cachedTokens = 30
)

func (s step) tokens() int {
	return len(strings.Fields(s.thought)) + len(strings.Fields(s.text)) + 10*len(s.calls)
}

func (s step) thoughts() int { return len(strings.Fields(s.thought)) }

type asked struct {
	Model    string            `json:"model"`
	Stream   bool              `json:"stream"`
	Tools    []json.RawMessage `json:"tools"`
	Messages []struct {
		Role      string          `json:"role"`
		Content   json.RawMessage `json:"content"`
		ToolCalls []struct {
			Function struct{ Arguments string }
		} `json:"tool_calls"`
	} `json:"messages"`
	Input   json.RawMessage `json:"input"`
	Options struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

func (upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	var q asked
	_ = json.Unmarshal(raw, &q) // a request without a body asks for the list of models
	reply := func(v any) { w.Header().Set("Content-Type", "application/json"); _ = json.NewEncoder(w).Encode(v) }
	openai := r.Header.Get("Authorization") == "Bearer sk-oai"
	anthropic := r.Header.Get("X-Api-Key") == "sk-ant" && r.Header.Get("Anthropic-Version") != ""
	switch p := r.Method + " " + r.URL.Path; {
	case strings.HasPrefix(r.URL.Path, "/oai") && !openai, strings.HasPrefix(r.URL.Path, "/ant") && !anthropic:
		w.WriteHeader(http.StatusUnauthorized)
		reply(map[string]any{"error": map[string]string{"message": "bad key"}})
	case p == "GET /oai/v1/models", p == "GET /ant/v1/models":
		reply(map[string]any{"data": []any{map[string]string{"id": "agent"}, map[string]string{"id": "embed"}, map[string]string{"id": "moderation"}, map[string]string{"id": "rerank"}}})
	case p == "POST /oai/v1/chat/completions":
		openAIChat(w, &q, reply)
	case p == "POST /oai/v1/embeddings":
		var many []string
		if json.Unmarshal(q.Input, &many) != nil {
			many = []string{""}
		}
		data := []any{}
		for i, s := range many {
			data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": []float64{float64(len(s)), 0.5}})
		}
		reply(map[string]any{"object": "list", "model": q.Model, "data": data, "usage": map[string]int{"prompt_tokens": 8, "total_tokens": 8}})
	case p == "POST /oai/v1/moderations":
		reply(map[string]any{"id": "modr-1", "model": q.Model, "results": []any{map[string]any{"flagged": true, "categories": map[string]bool{"violence": true}, "category_scores": map[string]float64{"violence": 0.9}, "category_applied_input_types": map[string][]string{"violence": {"text"}}}}})
	case p == "POST /oai/v1/rerank":
		reply(map[string]any{"model": q.Model, "results": []any{map[string]any{"index": 1, "relevance_score": 0.9}, map[string]any{"index": 0, "relevance_score": 0.1}}, "usage": map[string]int{"total_tokens": 12}})
	case p == "POST /ant/v1/messages":
		anthropicMessages(w, &q, reply)
	case p == "POST /ant/v1/messages/count_tokens":
		reply(map[string]int{"input_tokens": promptTokens})
	default:
		w.WriteHeader(http.StatusNotFound)
		reply(map[string]any{"error": map[string]string{"message": "nothing at " + p}})
	}
}

// events writes a stream, each event flushed.
type events struct{ w http.ResponseWriter }

func (e events) put(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if name != "" {
		_, _ = fmt.Fprintf(e.w, "event: %s\n", name)
	}
	_, _ = fmt.Fprintf(e.w, "data: %s\n\n", b)
	_ = http.NewResponseController(e.w).Flush()
	time.Sleep(time.Millisecond)
}

// halves cuts a text in two, at a character.
func halves(s string) []string {
	r := []rune(s)
	return []string{string(r[:len(r)/2]), string(r[len(r)/2:])}
}

type m = map[string]any

func openAIChat(w http.ResponseWriter, q *asked, reply func(any)) {
	results, last := 0, ""
	for _, t := range q.Messages {
		if t.Role == "tool" && last != "tool" {
			results++
		}
		last = t.Role
		for _, c := range t.ToolCalls {
			if !json.Valid([]byte(c.Function.Arguments)) {
				w.WriteHeader(http.StatusBadRequest)
				reply(m{"error": m{"message": "arguments are no JSON"}})
				return
			}
		}
	}
	s := next(len(q.Tools) > 0, results)
	usage := m{"prompt_tokens": promptTokens, "completion_tokens": s.tokens(), "total_tokens": promptTokens + s.tokens(), "prompt_tokens_details": m{"cached_tokens": cachedTokens}, "completion_tokens_details": m{"reasoning_tokens": s.thoughts()}}
	finish := "stop"
	if len(s.calls) > 0 {
		finish = "tool_calls"
	}
	if !q.Stream {
		message := m{"role": "assistant", "content": s.text}
		if s.thought != "" {
			message["reasoning_content"] = s.thought
		}
		var calls []any
		for _, c := range s.calls {
			calls = append(calls, m{"id": c.id, "type": "function", "function": m{"name": c.name, "arguments": c.args}})
		}
		if calls != nil {
			message["tool_calls"] = calls
		}
		reply(m{"id": "chatcmpl-up", "object": "chat.completion", "created": 1, "model": q.Model, "choices": []any{m{"index": 0, "message": message, "finish_reason": finish}}, "usage": usage})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	e := events{w}
	piece := func(delta m, finish any) {
		e.put("", m{"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": q.Model, "choices": []any{m{"index": 0, "delta": delta, "finish_reason": finish}}})
	}
	piece(m{"role": "assistant", "content": ""}, nil)
	if s.thought != "" {
		piece(m{"reasoning_content": s.thought}, nil)
	}
	for _, h := range halves(s.text) {
		piece(m{"content": h}, nil)
	}
	for i, c := range s.calls {
		piece(m{"tool_calls": []any{m{"index": i, "id": c.id, "type": "function", "function": m{"name": c.name, "arguments": ""}}}}, nil)
		for _, h := range halves(c.args) {
			piece(m{"tool_calls": []any{m{"index": i, "function": m{"arguments": h}}}}, nil)
		}
	}
	piece(m{}, finish)
	if q.Options.IncludeUsage {
		e.put("", m{"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": q.Model, "choices": []any{}, "usage": usage})
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

func anthropicMessages(w http.ResponseWriter, q *asked, reply func(any)) {
	results := 0
	for _, t := range q.Messages {
		if t.Role == "user" && strings.Contains(string(t.Content), `"tool_result"`) {
			results++
		}
	}
	s := next(len(q.Tools) > 0, results)
	stop := "end_turn"
	var blocks []m
	if s.thought != "" {
		blocks = append(blocks, m{"type": "thinking", "thinking": s.thought, "signature": "c2ln"})
	}
	if s.text != "" {
		blocks = append(blocks, m{"type": "text", "text": s.text})
	}
	for _, c := range s.calls {
		stop = "tool_use"
		blocks = append(blocks, m{"type": "tool_use", "id": c.id, "name": c.name, "input": json.RawMessage(c.args)})
	}
	input := m{"input_tokens": promptTokens - cachedTokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cachedTokens, "output_tokens": 1}
	if !q.Stream {
		input["output_tokens"] = s.tokens()
		reply(m{"id": "msg_up", "type": "message", "role": "assistant", "model": q.Model, "content": blocks, "stop_reason": stop, "stop_sequence": nil, "usage": input})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	e := events{w}
	e.put("message_start", m{"type": "message_start", "message": m{"id": "msg_up", "type": "message", "role": "assistant", "model": q.Model, "content": []any{}, "stop_reason": nil, "stop_sequence": nil, "usage": input}})
	e.put("ping", m{"type": "ping"})
	for i, b := range blocks {
		start, kind, field := m{"type": b["type"]}, "text_delta", "text"
		var text string
		switch b["type"] {
		case "text":
			start["text"], text = "", s.text
		case "thinking":
			start["thinking"], start["signature"], kind, field, text = "", "", "thinking_delta", "thinking", s.thought
		default:
			start["id"], start["name"], start["input"], kind, field, text = b["id"], b["name"], m{}, "input_json_delta", "partial_json", string(b["input"].(json.RawMessage))
		}
		e.put("content_block_start", m{"type": "content_block_start", "index": i, "content_block": start})
		for _, h := range halves(text) {
			e.put("content_block_delta", m{"type": "content_block_delta", "index": i, "delta": m{"type": kind, field: h}})
		}
		if kind == "thinking_delta" {
			e.put("content_block_delta", m{"type": "content_block_delta", "index": i, "delta": m{"type": "signature_delta", "signature": "c2ln"}})
		}
		e.put("content_block_stop", m{"type": "content_block_stop", "index": i})
	}
	e.put("message_delta", m{"type": "message_delta", "delta": m{"stop_reason": stop, "stop_sequence": nil}, "usage": m{"output_tokens": s.tokens()}})
	e.put("message_stop", m{"type": "message_stop"})
}
