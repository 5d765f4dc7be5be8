package front

import (
	"io"
	"net/http"
	"time"
)

// body is the request's body: its bytes are those that were read with the head, then those of the socket, read straight into the handler's memory.
type body struct {
	c      *conn
	left   int64
	failed error
}

func (b *body) begin(n int64) { b.left, b.failed = n, nil }

// Read implements io.Reader. The end comes with the last bytes, so that a reader who knows the length needs no second call.
func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.failed != nil:
		return 0, b.failed
	case b.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	c := b.c
	p = p[:min(int64(len(p)), b.left)]
	n := 0
	if c.w > c.r {
		n = copy(p, (*c.buf)[c.r:c.w])
		c.r += n
	} else {
		c.release()
		if err := c.read(p); err != nil {
			if err == io.EOF { //nolint:errorlint // as read gives it
				err = io.ErrUnexpectedEOF
			}
			b.failed = err
			return 0, err
		}
		n = c.n
	}
	b.left -= int64(n)
	if b.left == 0 {
		c.release()
		return n, io.EOF
	}
	return n, nil
}

// Close implements io.Closer. What was not read is skipped behind the answer.
func (b *body) Close() error { return nil }

// Ready reports whether the rest of the body has been read from the network: then reading it does not wait.
func (b *body) Ready() bool { return int64(b.c.w-b.c.r) >= b.left }

// skip reads what the handler left, if it is little; false ends the connection.
func (b *body) skip() bool {
	if b.left == 0 {
		return b.failed == nil
	}
	if b.left > drainMost || b.failed != nil || b.c.reply.closing {
		return false
	}
	var waste [4 << 10]byte
	b.c.readBy = time.Now().Add(5 * time.Second)
	for b.left > 0 {
		if _, err := b.Read(waste[:]); err != nil && err != io.EOF { //nolint:errorlint // as Read gives it
			return false
		}
	}
	return true
}

var _ io.ReadCloser = (*body)(nil)
var _ http.ResponseWriter = (*reply)(nil)
