package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Stream is one server-sent event stream (WHATWG HTML, section 9.2).
type Stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// SSE begins an event stream. The write deadline of the server is lifted for it; each write has 30 s.
func SSE(w http.ResponseWriter) *Stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s := &Stream{w, http.NewResponseController(w)}
	_ = s.rc.Flush() // a client that is gone shows at the next Send
	return s
}

// Send writes one event. id and event may be empty; data is marshalled to JSON. An error means the client is gone.
func (s *Stream) Send(id, event string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var t strings.Builder
	if id != "" {
		t.WriteString("id: " + id + "\n")
	}
	if event != "" {
		t.WriteString("event: " + event + "\n")
	}
	t.WriteString("data: ")
	t.Write(b)
	t.WriteString("\n\n")
	return s.write(t.String())
}

// Comment writes a comment line, which keeps proxies from closing an idle stream.
func (s *Stream) Comment(text string) error { return s.write(": " + text + "\n\n") }

func (s *Stream) write(text string) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(30 * time.Second)) // not supported by test recorders: then there is none
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.rc.Flush()
}
