package h1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"maas/internal/platform/front"
)

const (
	readBuffer = 4 << 10
	oneWrite   = 16 << 10 // head and body up to this size go in one write
	lingering  = time.Second
)

// conn is a connection with its read buffer: bytes [r, w) are read and not used.
type conn struct {
	nc    net.Conn
	addr  Address
	since time.Time // idle from
	buf   []byte
	r, w  int
	used  bool // carried an answer before

	raw   syscall.RawConn    // of the socket; nil = none
	look  func(uintptr) bool // peek, made once
	one   [1]byte
	alive bool // what peek found

	readBy, writeBy time.Time // deadlines as set: moved only when they are off by enough to matter

	text   []byte  // bytes of the last head; reused
	fields []field // its fields; reused
}

// Response is an answer being read. It belongs to one goroutine, but for Cancel.
type Response struct {
	Status int

	pool *Pool
	c    *conn
	h    head
	done bool // Close was called

	left  int64 // bytes left of the body, or of the present chunk
	state bodyState

	ctx  context.Context //nolint:containedctx // its end is watched until Close
	told int             // number at a teller
	stop func() bool     // of context.AfterFunc, for contexts that are none

	mu        sync.Mutex // guards the rest and the read deadline against Cancel
	headed    bool       // the head was read
	cancelled bool
}

// teller is a context that tells of its end without a goroutine or an allocation.
type teller interface {
	Tell(e front.Ender) int
	Untell(id int) bool
}

type bodyState uint8

const (
	bodyPlain bodyState = iota // left bytes follow
	bodyUntil                  // all bytes to the end of the connection
	chunkHead                  // a chunk's size line follows
	chunkData                  // left bytes of a chunk follow
	chunkEnd                   // the CRLF behind a chunk follows
	bodyDone
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, oneWrite+4<<10); return &b }}

// Do writes the request and reads the answer's head. A connection that was idle and turns out to be dead before the first byte is replaced once, unseen. The caller must call Close on a Response. When ctx ends
// later, before Close, the answer is cancelled as by Cancel.
// Errors: ErrConnect, ErrProtocol, ErrBroken, ErrTimeout, or ctx's.
func (p *Pool) Do(ctx context.Context, q *Request) (*Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c := p.take(q.Address); c != nil {
		a, err := p.try(ctx, c, q)
		if err == nil || !errors.Is(err, errStale) {
			return a, err
		}
	}
	c, err := p.dial(ctx, q.Address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return p.try(ctx, c, q)
}

// errStale marks a reused connection that died before the first byte of the answer.
var errStale = errors.New("stale connection")

func (p *Pool) try(ctx context.Context, c *conn, q *Request) (*Response, error) {
	a := &Response{pool: p, c: c, ctx: ctx}
	a.watch()
	reused := c.used
	fail := func(err error) (*Response, error) {
		a.unwatch()
		_ = c.nc.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case reused && errors.Is(err, ErrBroken) && c.w == 0:
			return nil, errStale
		}
		return nil, err
	}
	c.r, c.w = 0, 0
	if by := time.Now().Add(p.opt.Write); by.Sub(c.writeBy) > min(time.Second, p.opt.Write/4) {
		c.writeBy = by
		_ = c.nc.SetWriteDeadline(by)
	}
	if err := c.write(q); err != nil {
		return fail(err)
	}
	first := q.First
	if first == 0 {
		first = 2 * time.Minute
	}
	a.deadline(time.Now().Add(first), first)
	for interim := 0; ; interim++ {
		if err := a.readHead(); err != nil {
			return fail(err)
		}
		if a.h.status >= 200 {
			break
		}
		if a.h.status == 101 || interim >= maxInterim {
			return fail(ErrProtocol.With("the server sent too many interim answers"))
		}
	}
	a.mu.Lock()
	a.headed = true
	gone := a.cancelled
	a.mu.Unlock()
	if gone {
		return fail(ctx.Err())
	}
	c.used = true
	a.begin(q.Method)
	return a, nil
}

// watch has Ended called when the context ends.
func (a *Response) watch() {
	if t, ok := a.ctx.(teller); ok {
		a.told = t.Tell(a)
		return
	}
	a.stop = context.AfterFunc(a.ctx, a.Ended)
}

// unwatch ends that and reports whether the answer had been cancelled.
func (a *Response) unwatch() bool {
	if a.stop != nil {
		a.stop()
	} else if t, ok := a.ctx.(teller); ok {
		t.Untell(a.told)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.cancelled
	a.cancelled = true // a late call must not touch a connection that others use
	return was
}

// Ended implements [front.Ender]: the context has ended. While the head is waited for nothing of this connection is of use; later what the server still says is read as after Cancel.
func (a *Response) Ended() {
	a.mu.Lock()
	headed := a.headed
	if !headed && !a.cancelled {
		a.cancelled = true
		_ = a.c.nc.SetDeadline(past)
	}
	a.mu.Unlock()
	if headed {
		a.Cancel()
	}
}

var past = time.Unix(1, 0)

func (c *conn) write(q *Request) error {
	buf := buffers.Get().(*[]byte) //nolint:errcheck // the pool holds nothing else
	defer func() {
		if cap(*buf) <= oneWrite+8<<10 {
			buffers.Put(buf)
		}
	}()
	b, err := q.appendHead((*buf)[:0])
	if err != nil {
		return err
	}
	*buf = b
	if len(b)+q.length() <= oneWrite {
		for _, piece := range q.Body {
			b = append(b, piece...)
		}
		*buf = b
		_, err = c.nc.Write(b)
	} else {
		list := append(net.Buffers{b}, q.Body...)
		_, err = list.WriteTo(c.nc)
	}
	if err != nil {
		return readError(err)
	}
	return nil
}

// readHead reads until the empty line and parses.
func (a *Response) readHead() error {
	c := a.c
	from := 0 // searched up to here
	for {
		if i := bytes.Index(c.buf[c.r+from:c.w], []byte("\r\n\r\n")); i >= 0 {
			n := from + i + 4
			c.text = append(c.text[:0], c.buf[c.r:c.r+n]...)
			c.r += n
			a.h.fields = c.fields
			err := parseHead(c.text, &a.h)
			c.fields = a.h.fields
			return err
		}
		from = max(0, c.w-c.r-3)
		if bytes.Contains(c.buf[c.r:c.w], []byte("\n\n")) {
			return ErrProtocol.With("a line of the answer's head does not end with CRLF")
		}
		if c.w-c.r >= maxHead {
			return ErrProtocol.With("the answer's head is over %d bytes", maxHead)
		}
		if err := a.fill(maxHead); err != nil {
			return err
		}
	}
}

// fill reads once into the buffer, growing it up to most bytes.
func (a *Response) fill(most int) error {
	c := a.c
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.w == len(c.buf) {
		switch {
		case c.r > 0:
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		case len(c.buf) < most:
			bigger := make([]byte, min(2*len(c.buf), most))
			copy(bigger, c.buf[:c.w])
			c.buf = bigger
		default:
			return ErrProtocol.With("a line of the answer is too long")
		}
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return readError(err)
}

func readError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout.Wrap(err)
	case err == nil, errors.Is(err, io.EOF):
		return ErrBroken.Wrap(io.ErrUnexpectedEOF)
	}
	return ErrBroken.Wrap(err)
}

// begin sets the body up from the head (RFC 9112, section 6.3).
func (a *Response) begin(method string) {
	a.Status = a.h.status
	switch {
	case method == "HEAD" || a.Status == 204 || a.Status == 304:
		a.state = bodyDone
	case a.h.chunked:
		a.state = chunkHead
	case a.h.length == 0:
		a.state = bodyDone
	case a.h.length > 0:
		a.state, a.left = bodyPlain, a.h.length
	default:
		a.state, a.h.close = bodyUntil, true
	}
}

// Header returns the first value of a field, "" without one. The name must be lower-case.
func (a *Response) Header(name string) string {
	for _, f := range a.h.fields {
		if is(f.name, name) {
			return string(f.value)
		}
	}
	return ""
}

// Length is the body's length if the head told it, else -1.
func (a *Response) Length() int64 {
	if a.h.chunked {
		return -1
	}
	return a.h.length
}

// deadline sets the read deadline to t, which is wait from now, unless the one that is set lies so near before that it makes no difference. A cancelled answer keeps its own.
func (a *Response) deadline(t time.Time, wait time.Duration) {
	c := a.c
	if early := t.Sub(c.readBy); early >= 0 && early < min(time.Second, wait/8) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancelled {
		return
	}
	c.readBy = t
	_ = c.nc.SetReadDeadline(t)
}

// Next returns the next piece of the body: it lies in the read buffer and holds until the next call. more says that further bytes are here already, so that a flush can wait. wait bounds how long it waits
// for bytes: ErrTimeout then, and Next may be called again. io.EOF at the end; ErrBroken if the connection ended before.
func (a *Response) Next(wait time.Duration) (piece []byte, more bool, err error) {
	c := a.c
	moved := false
	for {
		switch a.state {
		case bodyDone:
			return nil, false, io.EOF
		case bodyPlain, chunkData, bodyUntil:
			if c.w > c.r {
				n := c.w - c.r
				if a.state != bodyUntil {
					n = int(min(int64(n), a.left))
					a.left -= int64(n)
				}
				piece = c.buf[c.r : c.r+n]
				c.r += n
				if a.left == 0 && a.state != bodyUntil {
					a.ended()
				}
				return piece, c.w > c.r && a.state != bodyDone && a.moreThanEnd(), nil
			}
		case chunkHead, chunkEnd:
			ok, err := a.chunkLine()
			if err != nil {
				return nil, false, err
			}
			if ok {
				continue
			}
		}
		if !moved {
			a.deadline(time.Now().Add(wait), wait)
			moved = true
		}
		if err := a.fill(maxLine); err != nil {
			if a.state == bodyUntil && errors.Is(err, io.ErrUnexpectedEOF) {
				a.state = bodyDone
				return nil, false, io.EOF
			}
			return nil, false, err
		}
	}
}

// moreThanEnd reports whether the buffered bytes hold body bytes and not just chunk framing. A wrong yes costs one delayed flush until the next read, so it only says yes to data in sight.
func (a *Response) moreThanEnd() bool {
	if a.state == chunkData || a.state == bodyPlain || a.state == bodyUntil {
		return true
	}
	b := a.c.buf[a.c.r:a.c.w]
	if a.state == chunkEnd {
		if len(b) < 3 {
			return false
		}
		b = b[2:]
	}
	i := bytes.IndexByte(b, '\n')
	return i > 0 && i+1 < len(b) && b[0] != '0'
}

// ended moves on when left has come to nothing.
func (a *Response) ended() {
	if a.state == chunkData {
		a.state = chunkEnd
	} else {
		a.state = bodyDone
	}
}

// chunkLine reads what stands between chunks; ok is false if more bytes are needed.
func (a *Response) chunkLine() (ok bool, err error) {
	c := a.c
	b := c.buf[c.r:c.w]
	if a.state == chunkEnd {
		if len(b) < 2 {
			return false, nil
		}
		if b[0] != '\r' || b[1] != '\n' {
			return false, ErrProtocol.With("a chunk of the answer does not end where it should")
		}
		c.r += 2
		a.state = chunkHead
		return true, nil
	}
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		if len(b) > 1<<10 {
			return false, ErrProtocol.With("a chunk of the answer has a line that is too long")
		}
		return false, nil
	}
	if i == 0 || b[i-1] != '\r' {
		return false, ErrProtocol.With("a chunk line of the answer does not end with CRLF")
	}
	n, err := chunkSize(b[:i-1])
	if err != nil {
		return false, err
	}
	if n > 0 {
		c.r += i + 1
		a.left, a.state = n, chunkData
		return true, nil
	}
	return a.trailer(i + 1)
}

// trailer reads the lines behind the last chunk, which begins n bytes before them.
func (a *Response) trailer(n int) (ok bool, err error) {
	c := a.c
	b := c.buf[c.r+n : c.w]
	for used := 0; ; {
		i := bytes.IndexByte(b[used:], '\n')
		if i < 0 {
			if len(b) > maxTrailer {
				return false, ErrProtocol.With("the answer's trailer is over %d bytes", maxTrailer)
			}
			return false, nil
		}
		if i == 0 || b[used+i-1] != '\r' {
			return false, ErrProtocol.With("a line of the answer's trailer does not end with CRLF")
		}
		used += i + 1
		if i == 1 {
			c.r += n + used
			a.state = bodyDone
			return true, nil
		}
	}
}

// Cancel tells the server that nobody listens: our half of the connection is closed, and what the server still sends may be read for one second. It may be called from any goroutine, more than once.
func (a *Response) Cancel() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancelled {
		return
	}
	a.cancelled = true
	if h, ok := a.c.nc.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
	_ = a.c.nc.SetReadDeadline(time.Now().Add(lingering))
}

// Close gives the connection back if the answer was read to its end, else closes it.
func (a *Response) Close() {
	if a.done {
		return
	}
	a.done = true
	cancelled := a.unwatch()
	c := a.c
	if a.state == bodyDone && !a.h.close && !cancelled && c.r == c.w {
		if len(c.buf) > 64<<10 {
			c.buf = make([]byte, readBuffer)
		}
		a.pool.put(c)
		return
	}
	_ = c.nc.Close()
}
