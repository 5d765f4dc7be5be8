// Package faulty is an OpenAI-compatible upstream that breaks in every way that networks and engines break: for tests of the gateway and for its soak.
//
// It speaks raw bytes, because what it must do no HTTP server allows. What happens to a request is said in the text of its last message - "fault=half-event on=a tokens=5" - or, where that names no fault, by
// the function given to Mode. It counts the pieces of text that it wrote, by request id, so that bills can be compared with what was really produced.
package faulty

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Prompt is the number of prompt tokens that every answer tells.
const Prompt = 11

// Upstream is one listener.
type Upstream struct {
	Name string
	l    net.Listener
	all  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	mode    func() string
	conns   map[net.Conn]struct{}
	emitted map[string]int
	calls   map[string]int
	closed  bool
}

// New listens on a free port of this machine.
func New(name string) (*Upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &Upstream{Name: name, l: l, conns: map[net.Conn]struct{}{}, emitted: map[string]int{}, calls: map[string]int{}}
	u.all.Go(u.accept)
	return u, nil
}

// Addr is host:port.
func (u *Upstream) Addr() string { return u.l.Addr().String() }

// Mode says what happens to requests that name no fault. It is called once a request; nil = all is well.
func (u *Upstream) Mode(f func() string) { u.mu.Lock(); u.mode = f; u.mu.Unlock() }

// Emitted is how many pieces of text were written for a request, whoever got them.
func (u *Upstream) Emitted(request string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.emitted[request]
}

// Forget drops the count of a request: a soak would keep them for ever.
func (u *Upstream) Forget(request string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.emitted, request)
}

// Calls is how many requests met a fault; "" counts all of them.
func (u *Upstream) Calls(fault string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[fault]
}

// Open is the number of connections that are open.
func (u *Upstream) Open() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.conns)
}

// Close ends all connections and waits.
func (u *Upstream) Close() {
	u.mu.Lock()
	u.closed = true
	_ = u.l.Close()
	for c := range u.conns {
		_ = c.Close()
	}
	u.mu.Unlock()
	u.all.Wait()
}

func (u *Upstream) accept() {
	for {
		c, err := u.l.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		if u.closed {
			u.mu.Unlock()
			_ = c.Close()
			return
		}
		u.conns[c] = struct{}{}
		u.mu.Unlock()
		u.all.Go(func() {
			u.serve(c)
			_ = c.Close()
			u.mu.Lock()
			delete(u.conns, c)
			u.mu.Unlock()
		})
	}
}

// exchange is one request and what is written for it.
type exchange struct {
	u       *Upstream
	c       net.Conn
	request string
	model   string
	stream  bool
	usage   bool // the client asked for it
	tokens  int
	after   string // Retry-After
	chunked bool   // the head said so
}

func (u *Upstream) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		x := &exchange{u: u, c: c, request: q.Header.Get("X-Request-Id"), tokens: 3}
		if q.Method == http.MethodGet {
			if !u.list(x) {
				return
			}
			continue
		}
		if !x.answer(body) {
			return
		}
	}
}

// list answers GET /models. An upstream whose mode says "down" does not.
func (u *Upstream) list(x *exchange) bool {
	u.mu.Lock()
	mode := u.mode
	u.mu.Unlock()
	if mode != nil && mode() == "down" {
		return reset(x)
	}
	return x.whole(200, "", `{"object":"list","data":[{"id":"m","object":"model"}]}`)
}

func (x *exchange) answer(body []byte) bool {
	var q struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct{ Content string }
		Options  struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if json.Unmarshal(body, &q) != nil {
		return x.whole(400, "", `{"error":{"message":"not JSON"}}`)
	}
	x.model, x.stream, x.usage = q.Model, q.Stream, q.Options.IncludeUsage
	fault := ""
	if len(q.Messages) > 0 {
		fault = x.read(q.Messages[len(q.Messages)-1].Content)
	}
	u := x.u
	u.mu.Lock()
	mode := u.mode
	u.mu.Unlock()
	if fault == "" && mode != nil {
		fault = mode()
	}
	u.mu.Lock()
	u.calls[""]++
	u.calls[fault]++
	u.mu.Unlock()
	f, known := faults[fault]
	if !known {
		return x.whole(400, "", `{"error":{"message":"there is no such fault"}}`)
	}
	return f(x)
}

// read takes the words of a prompt.
func (x *exchange) read(text string) (fault string) {
	on := ""
	for word := range strings.FieldsSeq(text) {
		k, v, _ := strings.Cut(word, "=")
		switch k {
		case "fault":
			fault = v
		case "on":
			on = v
		case "tokens":
			x.tokens, _ = strconv.Atoi(v)
		case "after":
			x.after = v
		}
	}
	if on != "" && on != x.u.Name {
		return "ok"
	}
	return fault
}

func (x *exchange) emit() {
	x.u.mu.Lock()
	defer x.u.mu.Unlock()
	if x.request != "" {
		x.u.emitted[x.request]++
	}
}

func (x *exchange) put(s string) bool {
	_ = x.c.SetWriteDeadline(time.Now().Add(30 * time.Second))
	_, err := io.WriteString(x.c, s)
	return err == nil
}

// whole writes an answer of known length.
func (x *exchange) whole(status int, fields, body string) bool {
	return x.put(fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), fields, len(body), body))
}

func (x *exchange) head() bool {
	x.chunked = true
	return x.put("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
}

// raw writes bytes of the body.
func (x *exchange) raw(s string) bool {
	if x.chunked {
		s = fmt.Sprintf("%x\r\n%s\r\n", len(s), s)
	}
	return x.put(s)
}

func (x *exchange) event(data string) bool { return x.raw("data: " + data + "\n\n") }

func (x *exchange) piece(delta, finish string) string {
	return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion.chunk","model":%q,"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`, x.model, delta, finish)
}

// text writes n pieces of text.
func (x *exchange) text(n int) bool {
	for i := range n {
		x.emit() // before it is written: the reader may have it at once
		if !x.event(x.piece(fmt.Sprintf(`{"content":"w%d "}`, i), "null")) {
			return false
		}
	}
	return true
}

func (x *exchange) told() string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, Prompt, x.tokens, Prompt+x.tokens)
}

// end finishes a stream as it should be.
func (x *exchange) end() bool {
	ok := x.event(x.piece(`{}`, `"stop"`))
	if x.usage {
		ok = ok && x.event(fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion.chunk","model":%q,"choices":[],"usage":%s}`, x.model, x.told()))
	}
	return ok && x.event("[DONE]") && x.put("0\r\n\r\n")
}

func (x *exchange) body() string {
	for range x.tokens {
		x.emit()
	}
	return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":%s}`, x.model, strings.Repeat("word ", x.tokens), x.told())
}

// good answers as it should be.
func good(x *exchange) bool {
	if !x.stream {
		return x.whole(200, "", x.body())
	}
	return x.head() && x.event(x.piece(`{"role":"assistant","content":""}`, "null")) && x.text(x.tokens) && x.end()
}
