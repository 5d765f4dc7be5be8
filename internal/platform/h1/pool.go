package h1

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"maas/internal/platform/fault"
)

// The errors of this package. Kind Upstream: somebody else's server.
var (
	ErrConnect  = fault.New(fault.Upstream, "h1.connect", "the server cannot be reached")
	ErrProtocol = fault.New(fault.Upstream, "h1.protocol", "the server broke the protocol")
	ErrBroken   = fault.New(fault.Upstream, "h1.broken", "the connection ended in the middle")
	ErrTimeout  = fault.New(fault.Upstream, "h1.timeout", "the server did not answer in time")
)

// Options of a Pool.
type Options struct {
	Dial  time.Duration // limit of a connect; 0 = 2 s, 200 ms on unix sockets
	Write time.Duration // limit of writing a request; 0 = 10 s
	Idle  time.Duration // how long an idle connection is kept; 0 = 4 s on TCP (common servers close at 5 s), 60 s on unix sockets
	Most  int           // idle connections kept per address; 0 = 256
	TLS   *tls.Config   // base for TLS addresses; nil = the system's roots
	TCP   *net.Dialer   // dials TCP addresses; nil = a plain one. Its Control may refuse an address
}

// Address is where a server listens.
type Address struct {
	Network string // "tcp" or "unix"
	Addr    string // host:port or path
	TLS     bool
	Name    string // name in the certificate, for TLS
}

// Pool keeps idle connections by address, newest first. The zero value is not ready: use NewPool.
type Pool struct {
	opt Options

	mu   sync.Mutex // guards idle
	idle map[Address][]*conn
}

// NewPool makes a Pool.
func NewPool(o Options) *Pool {
	if o.Write == 0 {
		o.Write = 10 * time.Second
	}
	if o.Most == 0 {
		o.Most = 256
	}
	return &Pool{opt: o, idle: map[Address][]*conn{}}
}

// Close drops all idle connections.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a, list := range p.idle {
		for _, c := range list {
			_ = c.nc.Close()
		}
		delete(p.idle, a)
	}
}

// Sweep closes connections that were idle too long. Call it now and then; Do skips them in any case.
func (p *Pool) Sweep() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for a, list := range p.idle {
		keep := list[:0]
		for _, c := range list {
			if now.Sub(c.since) > p.life(a) {
				_ = c.nc.Close()
				continue
			}
			keep = append(keep, c)
		}
		clear(list[len(keep):])
		if p.idle[a] = keep; len(keep) == 0 {
			delete(p.idle, a)
		}
	}
}

func (p *Pool) life(a Address) time.Duration {
	switch {
	case p.opt.Idle != 0:
		return p.opt.Idle
	case a.Network == "unix":
		return time.Minute
	}
	return 4 * time.Second
}

// take returns an idle connection that still seems alive, nil if there is none.
func (p *Pool) take(a Address) *conn {
	for {
		p.mu.Lock()
		list := p.idle[a]
		if len(list) == 0 {
			p.mu.Unlock()
			return nil
		}
		c := list[len(list)-1]
		list[len(list)-1] = nil
		p.idle[a] = list[:len(list)-1]
		p.mu.Unlock()
		age := time.Since(c.since)
		if age < p.life(a) && c.quiet() {
			return c
		}
		_ = c.nc.Close()
	}
}

func (p *Pool) put(c *conn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle[c.addr]) >= p.opt.Most {
		_ = c.nc.Close()
		return
	}
	p.idle[c.addr] = append(p.idle[c.addr], c)
}

// quiet peeks at an idle connection without waiting, however short it was idle: bytes that nobody asked for would be taken for the next caller's answer, and an end means that it is of no use. Of TLS it is the
// connection below that is looked at; a session ticket that came late costs a connection.
func (c *conn) quiet() bool {
	if c.raw == nil {
		return true // not a socket: a test's pipe
	}
	c.alive = false
	err := c.raw.Read(c.look)
	return err == nil && c.alive
}

// peek is what quiet runs on the descriptor.
func (c *conn) peek(fd uintptr) bool {
	_, _, err := syscall.Recvfrom(int(fd), c.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) //nolint:gosec // a descriptor
	c.alive = err == syscall.EAGAIN                                                         //nolint:errorlint // an errno as the kernel gives it
	return true
}

// newConn wraps a connection; below is the socket that carries it.
func newConn(nc, below net.Conn, a Address) *conn {
	c := &conn{nc: nc, addr: a, buf: make([]byte, readBuffer)}
	if sc, ok := below.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.look = raw, c.peek
		}
	}
	return c
}

func (p *Pool) dial(ctx context.Context, a Address) (*conn, error) {
	limit := p.opt.Dial
	if limit == 0 {
		limit = 2 * time.Second
		if a.Network == "unix" {
			limit = 200 * time.Millisecond
		}
	}
	if a.TLS && p.opt.Dial == 0 {
		limit = 10 * time.Second // handshake included
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	d := p.opt.TCP
	if d == nil || a.Network != "tcp" {
		d = &net.Dialer{}
	}
	nc, err := d.DialContext(ctx, a.Network, a.Addr)
	if err != nil {
		return nil, ErrConnect.Wrap(err)
	}
	below := nc
	if a.TLS {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if p.opt.TLS != nil {
			cfg = p.opt.TLS.Clone()
		}
		cfg.ServerName, cfg.NextProtos = a.Name, []string{"http/1.1"}
		if host, _, err := net.SplitHostPort(a.Name); err == nil {
			cfg.ServerName = host
		}
		tc := tls.Client(nc, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, ErrConnect.With("the TLS handshake with the server failed").Wrap(err)
		}
		nc = tc
	}
	return newConn(nc, below, a), nil
}

// Request is one call. Body pieces are written one after the other; they must not change until Do returns.
type Request struct {
	Address   Address
	Method    string
	Path      string // with query
	Host      string
	Auth      string   // value of the credential's header, "" = none
	AuthName  string   // its name; "" = Authorization
	Headers   []string // further headers: name, value, name, value
	Type      string   // Content-Type, "" = none
	Accept    string
	RequestID string        // sent as X-Request-Id, "" = none
	Account   string        // sent as X-Maas-Tenant, "" = none: for engines of ours, which share caches and turns by it
	Trace     string        // sent as traceparent, "" = none
	Body      [][]byte      //
	First     time.Duration // limit to the first byte of the answer; 0 = 120 s
}

func (q *Request) length() int {
	n := 0
	for _, b := range q.Body {
		n += len(b)
	}
	return n
}

// appendHead writes the request head. Values come from configuration and our own code, but a line break in one would be a way to a second request: such a request is refused.
func (q *Request) appendHead(b []byte) ([]byte, error) {
	for _, v := range [...]string{q.Method, q.Path, q.Host, q.Auth, q.AuthName, q.Type, q.Accept, q.RequestID, q.Account, q.Trace} {
		for i := range len(v) {
			if v[i] < 0x20 || v[i] == 0x7f {
				return nil, ErrProtocol.With("the request holds a control character in its head")
			}
		}
	}
	for _, v := range q.Headers {
		for i := range len(v) {
			if v[i] < 0x20 || v[i] == 0x7f {
				return nil, ErrProtocol.With("the request holds a control character in its head")
			}
		}
	}
	b = append(b, q.Method...)
	b = append(b, ' ')
	b = append(b, q.Path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, q.Host...)
	b = append(b, "\r\nUser-Agent: maas\r\nAccept-Encoding: identity\r\n"...)
	line := func(name, value string) {
		if value != "" {
			b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
		}
	}
	if q.AuthName == "" {
		line("Authorization", q.Auth)
	} else {
		line(q.AuthName, q.Auth)
	}
	for i := 0; i+1 < len(q.Headers); i += 2 {
		line(q.Headers[i], q.Headers[i+1])
	}
	line("Accept", q.Accept)
	line("X-Request-Id", q.RequestID)
	line("X-Maas-Tenant", q.Account)
	line("Traceparent", q.Trace)
	line("Content-Type", q.Type)
	if n := q.length(); n > 0 || q.Method == "POST" || q.Method == "PUT" {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}
