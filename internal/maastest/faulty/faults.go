package faulty

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"
)

// faults are what can be asked for. A fault returns whether the connection goes on.
var faults = map[string]func(x *exchange) bool{
	"":   good,
	"ok": good,

	// before the head
	"reset":         reset,
	"close":         func(*exchange) bool { return false },
	"hang":          hang,
	"down":          reset, // and the list of models does not answer either
	"garbage":       func(x *exchange) bool { x.put("\x00\x17\x03\x03 not HTTP at all\r\n\r\n" + noise(500)); return false },
	"endless-head":  endlessHead,
	"slow-head":     slowHead,
	"trickle-head":  trickleHead,
	"interim-flood": func(x *exchange) bool { x.put(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50)); return false },
	"half-head":     func(x *exchange) bool { x.put("HTTP/1.1 200 OK\r\nContent-Ty"); return false },
	"two-lengths": func(x *exchange) bool {
		x.put("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
		return false
	},
	"close-after": func(x *exchange) bool { good(x); return false }, // and says nothing of it

	// refusals
	"429": func(x *exchange) bool { return x.refuse(429) },
	"500": func(x *exchange) bool { return x.refuse(500) },
	"502": func(x *exchange) bool { return x.refuse(502) },
	"503": func(x *exchange) bool { return x.refuse(503) },
	"529": func(x *exchange) bool { return x.refuse(529) },
	"401": func(x *exchange) bool { return x.refuse(401) },
	"404": func(x *exchange) bool { return x.refuse(404) },
	"400": func(x *exchange) bool { return x.refuse(400) },
	"long": func(x *exchange) bool {
		return x.whole(400, "", `{"error":{"message":"this model's maximum context length is 8 tokens","type":"invalid_request_error","code":"context_length_exceeded"}}`)
	},

	// after the head, before the first event
	"die-after-head":  func(x *exchange) bool { return x.head() && reset(x) },
	"end-after-head":  func(x *exchange) bool { x.head(); x.put("0\r\n\r\n"); return true },
	"hang-after-head": func(x *exchange) bool { return x.head() && hang(x) },
	"half-first":      func(x *exchange) bool { x.head(); x.raw(`data: {"id":"chatcmpl-1","choices":[{"del`); return false },
	"error-first":     func(x *exchange) bool { return x.head() && x.event(fault) && x.put("0\r\n\r\n") },
	"error-told":      errorTold,
	"garbage-events":  func(x *exchange) bool { x.head(); x.raw(noise(200)); return false },
	"garbage-event": func(x *exchange) bool {
		return x.head() && x.raw("x"+noise(100)+"\n\n") && x.event("<html>") && x.end()
	},
	"text-event": func(x *exchange) bool { return x.head() && x.event("Internal Server Error") && x.end() },
	"bad-chunk":  func(x *exchange) bool { x.head(); x.put("zz\r\nok\r\n"); return false },
	"error-200":  func(x *exchange) bool { return x.whole(200, "", fault) },
	"html":       func(x *exchange) bool { return x.whole(200, "", "<html><body>Bad gateway</body></html>") },
	"empty":      func(x *exchange) bool { return x.whole(200, "", "") },

	// in the middle
	"die-mid":       func(x *exchange) bool { return x.begin() && reset(x) },
	"close-mid":     func(x *exchange) bool { x.begin(); return false },
	"half-event":    func(x *exchange) bool { x.begin(); x.raw(`data: {"id":"chatcmpl-1","choices":[{"del`); return false },
	"hang-mid":      func(x *exchange) bool { return x.begin() && hang(x) },
	"error-mid":     func(x *exchange) bool { return x.begin() && x.event(fault) && x.put("0\r\n\r\n") },
	"garbage-mid":   func(x *exchange) bool { return x.begin() && x.raw("x"+noise(100)+"\n\n") && x.end() },
	"text-mid":      func(x *exchange) bool { return x.begin() && x.event("Internal Server Error") && x.end() },
	"no-end":        func(x *exchange) bool { return x.begin() && x.put("0\r\n\r\n") },
	"bad-chunk-mid": func(x *exchange) bool { x.begin(); x.put("-5\r\n"); return false },
	"long-length":   longLength,
	"short-length":  shortLength,
}

const fault = `{"error":{"message":"the device at 10.1.2.3:8000 fell over, key sk-abcdefgh12345678","type":"server_error","code":"boom"}}`

// Faults lists the names of all faults, sorted.
func Faults() []string {
	names := make([]string, 0, len(faults))
	for n := range faults {
		if n != "" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.IntN(256))
	}
	return string(b)
}

func reset(x *exchange) bool {
	if t, ok := x.c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = x.c.Close()
	return false
}

// hang says nothing until the client gives up.
func hang(x *exchange) bool {
	_, _ = x.c.Read(make([]byte, 1))
	return false
}

func endlessHead(x *exchange) bool {
	x.put("HTTP/1.1 200 OK\r\n")
	for i := range 10_000 {
		if !x.put(fmt.Sprintf("X-Field-%d: %s\r\n", i, strings.Repeat("x", 100))) {
			break
		}
	}
	return false
}

// slowHead comes in pieces, and is fine in the end.
func slowHead(x *exchange) bool {
	kind := "json"
	if x.stream {
		kind = "octet-stream" // not what it should be, but no sign of trouble either
	}
	for _, piece := range []string{"HTTP/1.1 ", "200 OK\r\n", "Content-Type: application/", kind + "\r\nX-Slow: 1\r"} {
		if !x.put(piece) || !x.pause(30*time.Millisecond) {
			return false
		}
	}
	body := x.body()
	if !x.stream {
		return x.put(fmt.Sprintf("\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	if !x.put("\nTransfer-Encoding: chunked\r\n\r\n") {
		return false
	}
	x.chunked = true
	for i := range x.tokens { // counted by body
		if !x.event(x.piece(fmt.Sprintf(`{"content":"w%d "}`, i), "null")) {
			return false
		}
	}
	return x.end()
}

// trickleHead never ends: a byte now and then.
func trickleHead(x *exchange) bool {
	x.put("HTTP/1.1 200 OK\r\nX-Trickle: ")
	for x.put("x") && x.pause(20*time.Millisecond) {
	}
	return false
}

// pause waits, or until the client is gone.
func (x *exchange) pause(d time.Duration) bool {
	_ = x.c.SetReadDeadline(time.Now().Add(d))
	defer func() { _ = x.c.SetReadDeadline(time.Time{}) }()
	_, err := x.c.Read(make([]byte, 1))
	e, ok := err.(net.Error) //nolint:errorlint // of net itself
	return ok && e.Timeout()
}

func (x *exchange) refuse(status int) bool {
	fields := ""
	if x.after != "" {
		fields = "Retry-After: " + x.after + "\r\n"
	}
	return x.whole(status, fields, fmt.Sprintf(`{"error":{"message":"status %d at http://10.0.0.7:9/x","type":"x","code":null}}`, status))
}

// begin writes the head and the text, and no end. A whole answer breaks off in its middle.
func (x *exchange) begin() bool {
	if x.stream {
		return x.head() && x.event(x.piece(`{"role":"assistant","content":""}`, "null")) && x.text(x.tokens)
	}
	body := x.body()
	x.put(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:len(body)/2]))
	return true
}

// errorTold fails before any text, but tells what it used up.
func errorTold(x *exchange) bool {
	told := strings.TrimSuffix(fault, "}") + `,"usage":` + x.told() + `}`
	if !x.stream {
		return x.whole(200, "", told)
	}
	usage := fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion.chunk","model":%q,"choices":[],"usage":%s}`, x.model, x.told())
	return x.head() && x.event(usage) && x.event(fault) && x.put("0\r\n\r\n")
}

// longLength promises more than comes.
func longLength(x *exchange) bool {
	body := x.body()
	x.put(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body)+100, body))
	return false
}

// shortLength sends more than it promised: the rest would be taken for the next answer.
func shortLength(x *exchange) bool {
	body := x.body()
	return x.put(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s%s", len(body), body, strings.Repeat("HTTP/1.1 500 smuggled\r\n\r\n", 3)))
}
