package front

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strings"
)

const (
	maxHead   = 8 << 10 // larger heads are net/http's
	maxFields = 64
)

// head is what the loop needs of a request's head beside its fields.
type head struct {
	method, path, query, target string
	host                        string
	length                      int64 // of the body; 0 without one
	close                       bool  // the client wants the connection closed behind the answer
	fields                      int
}

var canonical = func() map[string]string {
	m := map[string]string{}
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection", "Content-Length", "Content-Type", "Cookie", "Host", "Origin", "Referer", "Traceparent", "Tracestate", "User-Agent",
		"X-Api-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "X-Request-Id", "X-Session-Id", "Anthropic-Version", "Anthropic-Beta", "OpenAI-Organization", "OpenAI-Project",
		"X-Stainless-Arch", "X-Stainless-Async", "X-Stainless-Lang", "X-Stainless-Os", "X-Stainless-Package-Version", "X-Stainless-Read-Timeout", "X-Stainless-Retry-Count", "X-Stainless-Runtime",
		"X-Stainless-Runtime-Version", "X-Stainless-Timeout", "Sec-Fetch-Mode",
	} {
		c := textproto.CanonicalMIMEHeaderKey(name)
		m[name], m[c], m[strings.ToLower(name)] = c, c, c
	}
	return m
}()

// chars says what a byte may stand in.
var chars [256]struct{ token, target, host, value bool }

func init() {
	for c := range 256 {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		chars[c].token = alnum || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0 //nolint:gosec // below 0x80
		chars[c].target = alnum || c < 0x80 && strings.IndexByte("-._~:@!$&'()*+,;=/", byte(c)) >= 0
		chars[c].host = alnum || c < 0x80 && strings.IndexByte("-._:[]", byte(c)) >= 0
		chars[c].value = c >= ' ' && c != 0x7f || c == '\t'
	}
}

// parseHead reads a whole head, ended by an empty line, into h and the fields into in, whose values lie in list. ok is false for everything that is not plain: then in may hold anything. What it accepts means
// the same to net/http (fuzzed).
func parseHead(text string, h *head, in http.Header, list []string) (_ []string, ok bool) {
	line, rest, ok := cutLine(text)
	if !ok || !h.start(line) {
		return list, false
	}
	hosts, lengths := 0, 0
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return list, false
		}
		if line == "" {
			break
		}
		name, value, ok := field(line)
		if !ok || h.fields >= maxFields {
			return list, false
		}
		h.fields++
		switch name {
		case "Host":
			hosts++
			h.host = value
			if hosts > 1 || !all(value, func(c byte) bool { return chars[c].host }) {
				return list, false
			}
			continue
		case "Content-Length":
			lengths++
			if lengths > 1 || !h.setLength(value) {
				return list, false
			}
		case "Connection":
			switch {
			case strings.EqualFold(value, "close"):
				h.close = true
			case !strings.EqualFold(value, "keep-alive"):
				return list, false
			}
		case "Transfer-Encoding", "Upgrade", "Expect", "Trailer", "Pragma", "Http2-Settings", "Proxy-Connection", "Keep-Alive", "Te":
			return list, false
		}
		if old, twice := in[name]; twice {
			in[name] = append(old[:len(old):len(old)], value)
			continue
		}
		list = append(list, value)
		n := len(list)
		in[name] = list[n-1 : n : n]
	}
	body := h.method == http.MethodPost
	return list, rest == "" && hosts == 1 && h.host != "" && body == (lengths == 1)
}

// start reads the request line.
func (h *head) start(line string) bool {
	method, line, ok := strings.Cut(line, " ")
	if !ok {
		return false
	}
	switch method {
	case http.MethodPost, http.MethodGet, http.MethodHead:
		h.method = method
	default:
		return false
	}
	target, version, ok := strings.Cut(line, " ")
	if !ok || version != "HTTP/1.1" || len(target) == 0 || target[0] != '/' || len(target) > 1 && target[1] == '/' {
		return false
	}
	h.target = target
	h.path, h.query, _ = strings.Cut(target, "?")
	if strings.HasSuffix(target, "?") {
		return false
	}
	return all(h.path, func(c byte) bool { return chars[c].target }) && all(h.query, func(c byte) bool { return chars[c].target || c == '%' || c == '?' })
}

func (h *head) setLength(v string) bool {
	if len(v) == 0 || len(v) > 15 {
		return false
	}
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
		h.length = h.length*10 + int64(v[i]-'0')
	}
	return true
}

// field reads one line and gives its name the canonical spelling.
func field(line string) (name, value string, ok bool) {
	i := strings.IndexByte(line, ':')
	if i <= 0 {
		return "", "", false
	}
	name, value = line[:i], line[i+1:]
	if c, known := canonical[name]; known {
		name = c
	} else {
		if !all(name, func(c byte) bool { return chars[c].token }) {
			return "", "", false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
	}
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if !chars[value[i]].value {
			return "", "", false
		}
	}
	return name, value, true
}

// cutLine splits off one line that ends with CRLF.
func cutLine(s string) (line, rest string, ok bool) {
	i := strings.IndexByte(s, '\n')
	if i < 1 || s[i-1] != '\r' {
		return "", "", false
	}
	return s[:i-1], s[i+1:], true
}

func all(s string, f func(byte) bool) bool {
	for i := range len(s) {
		if !f(s[i]) {
			return false
		}
	}
	return true
}

var headEnd = []byte("\r\n\r\n")

// mayServe reports whether bytes can be the beginning of a plain request: a quick look before the head is whole.
func mayServe(b []byte) bool {
	for _, m := range [...]string{"POST /", "GET /", "HEAD /"} {
		if n := min(len(b), len(m)); string(b[:n]) == m[:n] {
			return true
		}
	}
	return false
}

// wholeHead returns the length of the head at the front of b, 0 if it is not whole yet.
func wholeHead(b []byte) int {
	i := bytes.Index(b, headEnd)
	if i < 0 {
		return 0
	}
	return i + len(headEnd)
}
