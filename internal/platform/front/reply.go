package front

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// reply is the ResponseWriter of a request. Small answers without a length get one; what is flushed before its end is known goes out in chunks.
type reply struct {
	c      *conn
	header http.Header
	head   head

	status   int
	buf      *[]byte // pooled: head and framed body bytes on their way; nil when empty
	held     []byte  // body bytes written before the framing is decided
	room     [512]byte
	framing  framing
	open     bool  // the head still lacks its end
	typed    bool  // it has a content type
	declared bool  // it has a length
	left     int64 // bytes that the declared length still wants
	closing  bool  // the connection ends with this answer
	lingers  bool  // with bytes of the client still on their way
	failed   error
	bodyless bool // HEAD, 204, 304
}

type framing uint8

const (
	undecided framing = iota
	byLength
	chunked
)

const heldMost = 4 << 10

func (w *reply) begin(h *head) {
	clear(w.header)
	w.head, w.status, w.framing, w.open, w.typed, w.declared, w.left, w.failed, w.lingers = *h, 0, undecided, false, false, false, 0, nil, false
	w.held = w.room[:0]
	w.closing = h.close
	w.bodyless = h.method == http.MethodHead
}

// Header implements http.ResponseWriter.
func (w *reply) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. Interim answers are left out: nobody here sends any.
func (w *reply) WriteHeader(status int) {
	if w.status != 0 || status < 200 {
		return
	}
	w.status = status
	if status == http.StatusNoContent || status == http.StatusNotModified {
		w.bodyless = true
	}
	if w.c.body.left > drainMost || w.c.s.stopping.Load() || w.header.Get("Connection") != "" {
		w.closing = true
	}
	w.lingers = w.closing && w.c.body.left > 0
	b := w.buffer()
	b = append(b, statusLine(status)...)
	b = append(append(append(b, "Date: "...), date()...), "\r\n"...)
	for name, list := range w.header {
		switch name {
		case "Connection", "Transfer-Encoding", "Date", "Trailer":
			continue
		case "Content-Length":
			n, err := strconv.ParseInt(list[0], 10, 64)
			if err != nil || n < 0 || status == http.StatusNoContent {
				continue
			}
			w.framing, w.left, w.declared = byLength, n, true
		case "Content-Type":
			w.typed = true
		}
		for _, v := range list {
			b = append(append(append(b, name...), ": "...), clean(v)...)
			b = append(b, "\r\n"...)
		}
	}
	if w.closing {
		b = append(b, "Connection: close\r\n"...)
	}
	w.open = true
	if status == http.StatusNoContent || status == http.StatusNotModified {
		b = append(b, "\r\n"...)
		w.framing, w.open = byLength, false
	}
	*w.buf = b
}

// clean keeps a value from ending its line.
func clean(v string) string {
	if strings.IndexByte(v, '\r') < 0 && strings.IndexByte(v, '\n') < 0 {
		return v
	}
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
}

// Write implements http.ResponseWriter.
func (w *reply) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.failed != nil:
		return 0, w.failed
	case w.status == http.StatusNoContent || w.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case len(p) == 0:
		return 0, nil
	}
	switch w.framing {
	case undecided:
		if len(w.held)+len(p) <= heldMost {
			w.held = append(w.held, p...)
			return len(p), nil
		}
		w.decide(chunked)
	case byLength:
		if int64(len(p)) > w.left && !w.bodyless {
			return 0, http.ErrContentLength
		}
		w.left -= int64(len(p))
	case chunked:
	}
	w.frame(p)
	return len(p), w.failed
}

// decide sets the framing and sends what was held.
func (w *reply) decide(f framing) {
	held := w.held
	w.framing, w.held = f, w.room[:0]
	if len(held) > 0 || f == byLength {
		w.frame(held)
	}
}

// endHead writes what the head still lacks; body is what is known of the body.
func (w *reply) endHead(body []byte) {
	if !w.open {
		return
	}
	w.open = false
	b := w.buffer()
	if !w.typed && len(body) > 0 {
		b = append(append(append(b, "Content-Type: "...), http.DetectContentType(body)...), "\r\n"...)
	}
	switch {
	case w.framing == chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case w.declared:
	case !w.bodyless || len(body) > 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	*w.buf = append(b, "\r\n"...)
}

// frame puts body bytes into the buffer, and out when there are many.
func (w *reply) frame(p []byte) {
	w.endHead(p)
	if w.bodyless || w.failed != nil || len(p) == 0 {
		return
	}
	b := w.buffer()
	if w.framing == chunked {
		b = strconv.AppendInt(b, int64(len(p)), 16)
		b = append(b, "\r\n"...)
	}
	if len(b)+len(p) > flushSize {
		*w.buf = b
		if w.send(); w.failed == nil {
			w.failed = w.c.write(p)
		}
		b = w.buffer()
	} else {
		b = append(b, p...)
	}
	if w.framing == chunked {
		b = append(b, "\r\n"...)
	}
	*w.buf = b
}

// FlushError sends what is written; [http.ResponseController] calls it.
func (w *reply) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.framing == undecided {
		w.decide(chunked)
	}
	w.endHead(nil)
	w.send()
	return w.failed
}

// Flush implements http.Flusher.
func (w *reply) Flush() { _ = w.FlushError() }

// SetReadDeadline limits reads of the body; [http.ResponseController] calls it.
func (w *reply) SetReadDeadline(t time.Time) error {
	w.c.readBy = t
	return nil
}

// SetWriteDeadline limits writes of the answer; [http.ResponseController] calls it.
func (w *reply) SetWriteDeadline(t time.Time) error {
	w.c.writeBy = t
	return nil
}

// finish ends the answer. It reports whether another may follow on the connection.
func (w *reply) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch w.framing {
	case undecided:
		w.decide(byLength)
	case chunked:
		if !w.bodyless && w.failed == nil {
			*w.buf = append(w.buffer(), "0\r\n\r\n"...)
		}
	case byLength:
		w.endHead(nil)
		if w.left > 0 && !w.bodyless { // a handler that promised more
			w.closing = true
		}
	}
	w.send()
	return w.failed == nil && !w.closing
}

func (w *reply) buffer() []byte {
	if w.buf == nil {
		w.buf = writeBuffers.Get().(*[]byte) //nolint:errcheck // the pool holds nothing else
		*w.buf = (*w.buf)[:0]
	}
	return *w.buf
}

// send writes the buffer out and gives it back: a quiet stream holds none.
func (w *reply) send() {
	if w.buf == nil {
		return
	}
	if len(*w.buf) > 0 && w.failed == nil {
		w.failed = w.c.write(*w.buf)
	}
	w.release()
}

func (w *reply) release() {
	if w.buf != nil {
		if cap(*w.buf) <= 2*flushSize {
			writeBuffers.Put(w.buf)
		}
		w.buf = nil
	}
}

// lines are status lines made so far.
var lines [600]atomic.Pointer[string]

func statusLine(status int) string {
	if status > 599 {
		return "HTTP/1.1 " + strconv.Itoa(status) + " Unknown\r\n"
	}
	if p := lines[status].Load(); p != nil {
		return *p
	}
	s := "HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n"
	lines[status].Store(&s)
	return s
}

type stamp struct {
	second int64
	text   string
}

var today atomic.Pointer[stamp]

// date is the value of the Date field, made once a second.
func date() string {
	now := time.Now()
	if s := today.Load(); s != nil && s.second == now.Unix() {
		return s.text
	}
	s := &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
	today.Store(s)
	return s.text
}
