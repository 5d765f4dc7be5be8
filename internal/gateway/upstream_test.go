package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// script says how the fault upstream answers a request. The model's part of the prompt text chooses it: the last message's content is a JSON script.
type script struct {
	Tokens     int    `json:"tokens"`      // content events, or words of a whole answer
	Gap        int    `json:"gap"`         // milliseconds between events
	Die        int    `json:"die"`         // cut the connection after this many events; -1: before the head, -2: after the head
	Half       bool   `json:"half"`        // die in the middle of an event
	NoUsage    bool   `json:"no_usage"`    // tell none
	Running    bool   `json:"running"`     // usage in each event
	NoDone     bool   `json:"no_done"`     // no end mark and no finish reason
	Status     int    `json:"status"`      // refuse
	After      string `json:"after"`       // Retry-After of a refusal
	Words      string `json:"words"`       // of a refusal
	Code       string `json:"code"`        // of a refusal
	ErrorAt    int    `json:"error_at"`    // an error event instead of this event (from 1)
	Error200   bool   `json:"error_200"`   // an error object under status 200
	OnAbort    bool   `json:"on_abort"`    // tell usage also after the client left
	Cached     int    `json:"cached"`      // cached tokens
	CRLF       bool   `json:"crlf"`        // lines end with CRLF
	Drip       int    `json:"drip"`        // bytes a write
	Comments   bool   `json:"comments"`    // a comment before each event
	Only       string `json:"only"`        // this script holds for the replica of this name; others answer 3 tokens
	BeforeHead int    `json:"before_head"` // milliseconds before the head
}

// upstream plays an OpenAI-compatible engine and counts what it emitted, by request id.
type upstream struct {
	name string
	addr string

	mu      sync.Mutex
	emitted map[string]int
	bodies  map[string]string
	calls   int
	done    map[string]chan struct{}
}

func newUpstream(t testing.TB, name string) *upstream {
	t.Helper()
	u := &upstream{name: name, emitted: map[string]int{}, bodies: map[string]string{}, done: map[string]chan struct{}{}}
	s := httptest.NewServer(u)
	t.Cleanup(s.Close)
	u.addr = strings.TrimPrefix(s.URL, "http://")
	return u
}

const promptTokens = 11

func (u *upstream) emit(rid string, n int) { u.mu.Lock(); u.emitted[rid] += n; u.mu.Unlock() }

func (u *upstream) count(rid string) int { u.mu.Lock(); defer u.mu.Unlock(); return u.emitted[rid] }

func (u *upstream) body(rid string) string { u.mu.Lock(); defer u.mu.Unlock(); return u.bodies[rid] }

func (u *upstream) total() int { u.mu.Lock(); defer u.mu.Unlock(); return u.calls }

// finished waits until the handler of a request has returned.
func (u *upstream) finished(rid string) {
	u.mu.Lock()
	c := u.done[rid]
	u.mu.Unlock()
	if c != nil {
		<-c
	}
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	rid := r.Header.Get("X-Request-Id")
	done := make(chan struct{})
	u.mu.Lock()
	u.calls++
	u.bodies[rid], u.done[rid] = string(raw), done
	u.mu.Unlock()
	defer close(done)
	var q struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct{ Content string }
		Prompt   string
		Options  struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	text := q.Prompt
	if len(q.Messages) > 0 {
		text = q.Messages[len(q.Messages)-1].Content
	}
	s := script{Tokens: 3}
	if strings.HasPrefix(text, "{") {
		var given script
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		if given.Only == "" || given.Only == u.name {
			s = given
		}
	}
	time.Sleep(time.Duration(s.BeforeHead) * time.Millisecond)
	switch {
	case s.Status != 0:
		if s.After != "" {
			w.Header().Set("Retry-After", s.After)
		}
		w.WriteHeader(s.Status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": s.Words, "type": "x", "code": s.Code}})
	case s.Die == -1:
		kill(w)
	case q.Stream:
		u.stream(w, r, rid, q.Model, &s, q.Options.IncludeUsage)
	default:
		u.whole(w, rid, q.Model, &s)
	}
}

func kill(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

func usageText(s *script, n int) string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}`, promptTokens, n, promptTokens+n, s.Cached)
}

func (u *upstream) whole(w http.ResponseWriter, rid, model string, s *script) {
	w.Header().Set("Content-Type", "application/json")
	if s.Error200 {
		_, _ = io.WriteString(w, `{"error":{"message":"out of memory at http://10.0.0.7:9/x","code":"oom"}}`)
		return
	}
	usage := `,"usage":` + usageText(s, s.Tokens)
	if s.NoUsage {
		usage = ""
	}
	u.emit(rid, s.Tokens)
	text := fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}]%s}`, model, strings.Repeat("word ", s.Tokens), usage)
	if s.Die == -2 {
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = io.WriteString(w, text[:len(text)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, text)
}

func (u *upstream) stream(w http.ResponseWriter, r *http.Request, rid, model string, s *script, includeUsage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	f := w.(http.Flusher)
	put := func(data string) {
		e := "data: " + data + "\n\n"
		if s.Comments {
			e = ": hello\n\n" + e
		}
		if s.CRLF {
			e = strings.ReplaceAll(e, "\n", "\r\n")
		}
		if s.Drip == 0 {
			s.Drip = len(e)
		}
		for len(e) > 0 {
			n := min(s.Drip, len(e))
			_, _ = io.WriteString(w, e[:n])
			f.Flush()
			e = e[n:]
		}
	}
	running := func(n int) string {
		switch {
		case s.Running:
			return `,"usage":` + usageText(s, n)
		case includeUsage:
			return `,"usage":null`
		}
		return ""
	}
	piece := func(delta, finish string, n int) string {
		return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion.chunk","model":%q,"choices":[{"index":0,"delta":%s,"finish_reason":%s}]%s}`, model, delta, finish, running(n))
	}
	if s.Die == -2 {
		w.WriteHeader(200)
		f.Flush()
		panic(http.ErrAbortHandler)
	}
	put(piece(`{"role":"assistant","content":""}`, "null", 0))
	n := 0
	for i := 1; i <= s.Tokens; i++ {
		if s.Gap > 0 {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Duration(s.Gap) * time.Millisecond):
			}
		}
		if r.Context().Err() != nil {
			if s.OnAbort {
				put(fmt.Sprintf(`{"id":"chatcmpl-1","model":%q,"choices":[],"usage":%s}`, model, usageText(s, n)))
			}
			return
		}
		if s.ErrorAt == i {
			put(`{"error":{"message":"the GPU at 10.1.2.3:8000 fell over, key sk-abcdefgh12345678","type":"server_error","code":"boom"}}`)
			return
		}
		if s.Die == i {
			if s.Half {
				_, _ = io.WriteString(w, `data: {"id":"chatcmpl-1","choices":[{"del`)
				f.Flush()
			}
			panic(http.ErrAbortHandler)
		}
		n++
		u.emit(rid, 1) // emitted before it is written: the gateway may read it at once
		put(piece(fmt.Sprintf(`{"content":"w%d "}`, i), "null", n))
	}
	if s.NoDone {
		return
	}
	put(piece(`{}`, `"stop"`, n))
	if includeUsage && !s.NoUsage {
		put(fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion.chunk","model":%q,"choices":[],"usage":%s}`, model, usageText(s, n)))
	}
	put("[DONE]")
}
