package front

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

const (
	readSize  = 4 << 10  // of a read buffer to begin with
	flushSize = 16 << 10 // a write buffer goes out when it has this much
	drainMost = 256 << 10
	linger    = 500 * time.Millisecond
)

var (
	readBuffers  = sync.Pool{New: func() any { b := make([]byte, readSize); return &b }}
	writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, readSize); return &b }}
)

// conn is one connection of the loop. Its goroutine does everything but learn of the client's leaving, which the watch brings.
type conn struct {
	s      *Server
	nc     *net.TCPConn
	rc     syscall.RawConn
	remote string
	local  net.Addr
	id     uint64 // in the watch; 0 = not watched yet

	buf  *[]byte // pooled; nil while nothing is read and not used
	r, w int     // bytes [r, w) of buf are read and not used
	into []byte  // where the read under way puts its bytes; nil = buf
	n    int     // result of the call under way
	err  error
	out  []byte // what the write under way sends

	readBy, readSet   time.Time // deadline as wanted, and as set on the socket: set only when a call has to wait
	writeBy, writeSet time.Time
	onRead, onWrite   func(uintptr) bool

	in     http.Header
	values []string
	reply  reply
	body   body

	mu   sync.Mutex // guards the rest
	life *Life      // of the running request
	gone bool       // the client closed its half
	idle bool       // between requests
}

func newConn(s *Server, nc *net.TCPConn) (*conn, error) {
	rc, err := nc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{s: s, nc: nc, rc: rc, remote: nc.RemoteAddr().String(), in: http.Header{}, idle: true}
	c.onRead, c.onWrite = c.tryRead, c.tryWrite
	c.reply.c, c.reply.header = c, http.Header{}
	c.body.c = c
	return c, nil
}

// serve runs the connection until it ends or is handed over.
func (c *conn) serve() {
	defer c.s.forget(c)
	c.readBy = time.Now().Add(c.s.opt.Head)
	for {
		switch c.next() {
		case ours:
			if !c.request() {
				c.close()
				return
			}
			c.readBy = time.Now().Add(c.s.opt.Idle)
		case theirs:
			c.hand()
			return
		default:
			c.close()
			return
		}
	}
}

type verdict int

const (
	over   verdict = iota // the connection ends
	ours                  // a request of the loop was read: c.reply and c.body are set up
	theirs                // the bytes are for net/http
)

// next waits for a whole head and decides who serves it.
func (c *conn) next() verdict {
	first := true
	for {
		if c.w > c.r {
			b := (*c.buf)[c.r:c.w]
			n := wholeHead(b)
			switch {
			case n > 0 && c.begin(string(b[:n])):
				c.r += n
				return ours
			case n > 0, !mayServe(b), len(b) >= maxHead:
				return theirs
			}
			if first {
				first = false
				c.readBy = time.Now().Add(c.s.opt.Head)
			}
		}
		if c.s.stopping.Load() && c.w == c.r {
			return over
		}
		if err := c.fill(); err != nil {
			if c.w > c.r && !errors.Is(err, os.ErrDeadlineExceeded) {
				return theirs // an end in the middle of a head
			}
			return over
		}
	}
}

// fill reads once into the buffer, which grows up to maxHead.
func (c *conn) fill() error {
	if c.buf != nil {
		if c.r == c.w {
			c.r, c.w = 0, 0
		} else if c.w == len(*c.buf) {
			b := *c.buf
			if c.r == 0 {
				b = make([]byte, 2*len(b))
			}
			c.w = copy(b, (*c.buf)[c.r:c.w])
			c.r = 0
			*c.buf = b
		}
	}
	if err := c.read(nil); err != nil {
		return err
	}
	c.w += c.n
	return nil
}

// read reads once, into p or, if it is nil, behind what the buffer holds. io.EOF at the end.
func (c *conn) read(p []byte) error {
	c.into = p
	for {
		if now := time.Now(); !c.readSet.IsZero() && !now.Before(c.readSet) {
			c.setRead() // an old deadline has passed meanwhile; it must not end this call
		}
		err := c.rc.Read(c.onRead)
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && !c.waved() && (c.readBy.IsZero() || time.Now().Before(c.readBy)) {
			c.setRead()
			continue
		}
		if err == nil {
			err = c.err
		}
		return err
	}
}

// tryRead is what the poller calls when the socket may have bytes. A read without bytes in sight holds no buffer.
func (c *conn) tryRead(fd uintptr) bool {
	p := c.into
	if p == nil {
		if c.buf == nil {
			c.buf = readBuffers.Get().(*[]byte) //nolint:errcheck // the pool holds nothing else
			c.r, c.w = 0, 0
		}
		p = (*c.buf)[c.w:]
	}
	for {
		n, err := syscall.Read(int(fd), p) //nolint:gosec // a descriptor
		switch {
		case err == syscall.EINTR: //nolint:errorlint // an errno as the kernel gives it
			continue
		case err == syscall.EAGAIN: //nolint:errorlint // the same
			c.release()
			if d := c.readBy.Sub(c.readSet); d >= time.Second || d < 0 {
				c.setRead()
			}
			return false
		case err != nil:
			c.n, c.err = 0, err
		case n == 0:
			c.n, c.err = 0, io.EOF
		default:
			c.n, c.err = n, nil
		}
		return true
	}
}

// release gives an empty buffer back.
func (c *conn) release() {
	if c.buf != nil && c.r == c.w {
		if len(*c.buf) == readSize {
			readBuffers.Put(c.buf)
		}
		c.buf, c.r, c.w = nil, 0, 0
	}
}

func (c *conn) setRead() {
	c.readSet = c.readBy
	_ = c.nc.SetReadDeadline(c.readBy) // fails on a closed connection, as the read then does
	if c.waved() {
		_ = c.nc.SetReadDeadline(past) // leaveIfIdle may have set it a moment before us
	}
}

var past = time.Unix(1, 0)

// waved reports whether the server stops while this connection waits for a request.
func (c *conn) waved() bool { return c.s.stopping.Load() && c.into == nil }

// write sends all of p.
func (c *conn) write(p []byte) error {
	c.out, c.err = p, nil
	by := c.writeBy
	if by.IsZero() {
		by = time.Now().Add(c.s.opt.Stall)
	}
	for {
		if !c.writeSet.IsZero() && !time.Now().Before(c.writeSet) {
			c.setWrite(by)
		}
		err := c.rc.Write(c.onWrite)
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(by) {
			c.setWrite(by)
			continue
		}
		if err == nil {
			err = c.err
		}
		c.out = nil
		return err
	}
}

func (c *conn) tryWrite(fd uintptr) bool {
	for len(c.out) > 0 {
		n, err := syscall.Write(int(fd), c.out) //nolint:gosec // a descriptor
		switch {
		case err == syscall.EINTR: //nolint:errorlint // an errno as the kernel gives it
		case err == syscall.EAGAIN: //nolint:errorlint // the same
			by := c.writeBy
			if by.IsZero() {
				by = time.Now().Add(c.s.opt.Stall)
			}
			c.setWrite(by)
			return false
		case err != nil:
			c.err = err
			return true
		default:
			c.out = c.out[n:]
		}
	}
	return true
}

func (c *conn) setWrite(by time.Time) {
	c.writeSet = by
	_ = c.nc.SetWriteDeadline(by) // fails on a closed connection, as the write then does
}

// begin parses a head. If the loop serves it, the request is set up.
func (c *conn) begin(text string) bool {
	clear(c.in)
	clear(c.values)
	var h head
	var ok bool
	if c.values, ok = parseHead(text, &h, c.in, c.values[:0]); !ok || !c.s.opt.Hot(h.path) {
		return false
	}
	if c.id == 0 && !c.s.watch.add(c) {
		return false
	}
	c.body.begin(h.length)
	c.reply.begin(&h)
	return true
}

// request runs the handler and finishes the answer. It reports whether the connection goes on.
func (c *conn) request() (again bool) {
	l := newLife(c.s.opt.Base)
	h := &c.reply.head
	c.release()
	r := (&http.Request{
		Method: h.method, URL: &url.URL{Path: h.path, RawQuery: h.query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: c.in, Body: &c.body, ContentLength: h.length, Host: h.host, RemoteAddr: c.remote,
		RequestURI: h.target, Close: h.close,
	}).WithContext(l)
	if h.method != http.MethodPost {
		r.Body = http.NoBody
	}
	c.mu.Lock()
	c.life, c.idle = l, false
	gone := c.gone
	c.mu.Unlock()
	if gone {
		l.end()
	}
	ok := c.run(r)
	l.end()
	again = ok && c.reply.finish() && c.body.skip()
	c.reply.release()
	c.mu.Lock()
	c.life, c.idle = nil, true
	again = again && !c.gone && !c.s.stopping.Load()
	c.mu.Unlock()
	if !again {
		return false
	}
	if !c.writeSet.IsZero() {
		c.setWrite(time.Time{})
	}
	c.writeBy = time.Time{}
	return true
}

// run calls the handler. A panic ends the connection; those that are not [http.ErrAbortHandler] are logged.
func (c *conn) run(r *http.Request) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			if err, is := v.(error); !is || !errors.Is(err, http.ErrAbortHandler) {
				c.s.opt.Log.ErrorContext(context.WithoutCancel(r.Context()), "panic in a request", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			}
			ok = false
		}
	}()
	c.s.opt.Handler.ServeHTTP(&c.reply, r)
	return true
}

// hand gives the connection and what was read of it to net/http.
func (c *conn) hand() {
	c.s.watch.remove(c)
	h := &handed{TCPConn: c.nc}
	if c.w > c.r {
		h.rest = append([]byte(nil), (*c.buf)[c.r:c.w]...)
		c.r = c.w
	}
	c.release()
	if !c.readSet.IsZero() || !c.writeSet.IsZero() {
		_ = c.nc.SetDeadline(time.Time{}) // a closed connection shows at the next read
	}
	c.s.rest.give(h)
}

// close ends the connection. Bytes that the client still sends are read for a moment: a reset would take the answer from it that is on its way.
func (c *conn) close() {
	c.s.watch.remove(c)
	if c.reply.lingers {
		_ = c.nc.CloseWrite()
		c.readBy = time.Now().Add(linger)
		c.setRead()
		_, _ = io.Copy(io.Discard, c.nc) // until the client closes, or linger is over
	}
	_ = c.nc.Close()
	if c.buf != nil {
		c.r, c.w = 0, 0
		c.release()
	}
}

// leave tells the running request that its client is gone.
func (c *conn) leave() {
	c.mu.Lock()
	c.gone = true
	l := c.life
	c.mu.Unlock()
	if l != nil {
		l.end()
	}
}

// leaveIfIdle closes a connection between two requests.
func (c *conn) leaveIfIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle {
		_ = c.nc.SetReadDeadline(past) // wakes its goroutine, which sees that the server stops
	}
}

// handed is a connection on its way to net/http: what was read comes first.
type handed struct {
	*net.TCPConn
	rest []byte
}

// Read implements net.Conn.
func (h *handed) Read(p []byte) (int, error) {
	if len(h.rest) > 0 {
		n := copy(p, h.rest)
		if h.rest = h.rest[n:]; len(h.rest) == 0 {
			h.rest = nil
		}
		return n, nil
	}
	return h.TCPConn.Read(p)
}
