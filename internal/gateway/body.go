package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// A body has bodyGrace to begin with, then must keep bodyRate: who drips bytes is cut off.
const (
	bodyGrace = 10 * time.Second
	bodyRate  = 16 << 10 // bytes per second
	keptBody  = 1 << 20  // larger buffers are left to the garbage collector
)

var bodies = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// readBody reads the whole body into dst under the cap and the clock. Errors: ErrBodyTooLarge, ErrBodyTimeout, ErrMedia, or the client's leaving.
func readBody(w http.ResponseWriter, r *http.Request, dst []byte, limit int64) ([]byte, error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return dst, ErrMedia.With("the content encoding %.40q is not taken", enc)
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		return dst, ErrMedia
	}
	if r.ContentLength > limit {
		return dst, ErrBodyTooLarge.With("the body has %d bytes, over the limit of %d", r.ContentLength, limit)
	}
	if n := r.ContentLength; n >= 0 && int64(cap(dst)) <= n {
		dst = make([]byte, 0, min(n, 256<<10)+1) // beyond it grows with what really comes
	}
	start := time.Now()
	deadline := start.Add(bodyGrace)
	rc, timed := (*http.ResponseController)(nil), false
	if b, ok := r.Body.(interface{ Ready() bool }); !ok || !b.Ready() { // all of it is here already as a rule
		rc = http.NewResponseController(w)
		timed = rc.SetReadDeadline(deadline) == nil
	}
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Body.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if int64(len(dst)) > limit {
			return dst, ErrBodyTooLarge.With("the body is over the limit of %d bytes", limit)
		}
		switch {
		case errors.Is(err, io.EOF):
			if timed {
				_ = rc.SetReadDeadline(time.Time{})
			}
			return dst, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return dst, ErrBodyTimeout.With("%d bytes came in %s", len(dst), time.Since(start).Round(time.Second))
		case err != nil:
			return dst, err
		}
		if next := start.Add(bodyGrace + time.Duration(len(dst))*time.Second/bodyRate); timed && next.Sub(deadline) > time.Second {
			deadline = next
			_ = rc.SetReadDeadline(deadline)
		}
	}
}
