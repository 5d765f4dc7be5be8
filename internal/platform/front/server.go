package front

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Server.
type Options struct {
	Handler http.Handler
	Hot     func(path string) bool // which paths are served by the loop
	Log     *slog.Logger
	Base    context.Context //nolint:containedctx // base of the requests' contexts: for its values
	Head    time.Duration   // limit of reading a head; 0 = 10 s
	Idle    time.Duration   // limit between two requests of a connection; 0 = 2 min
	Stall   time.Duration   // limit of a write that the handler sets no deadline for; 0 = 1 min
}

// Server accepts connections, serves hot requests itself and gives all others away through Rest.
type Server struct {
	opt  Options
	rest *rest

	mu       sync.Mutex // guards conns and listener
	conns    map[*conn]struct{}
	listener net.Listener
	stopping atomic.Bool
	wg       sync.WaitGroup // connections of the loop

	watch *watch // nil where the system has none
}

// New makes a Server.
func New(o Options) *Server {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Head, 10*time.Second)
	set(&o.Idle, 2*time.Minute)
	set(&o.Stall, time.Minute)
	if o.Base == nil {
		o.Base = context.Background()
	}
	return &Server{opt: o, conns: map[*conn]struct{}{}}
}

// Listen begins to accept on l and returns the listener of the connections that are not for the loop: net/http serves it. Where the loop cannot run - on other systems, and on listeners that are not plain TCP -
// it returns l itself. Closing what it returns closes l.
func (s *Server) Listen(l net.Listener) net.Listener {
	if _, ok := l.(*net.TCPListener); !ok {
		return l
	}
	w, err := newWatch(s)
	if err != nil || w == nil {
		return l
	}
	s.watch = w
	s.listener = l
	s.rest = &rest{l: l, conns: make(chan net.Conn), closed: make(chan struct{}), failed: make(chan error, 1)}
	go w.run()
	go s.accept(l)
	return s.rest
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener) {
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() || isTemporary(err) {
				wait = min(max(2*wait, 5*time.Millisecond), time.Second)
				select {
				case <-time.After(wait):
					continue
				case <-s.rest.closed:
				}
			}
			s.rest.failed <- err
			return
		}
		wait = 0
		tc, ok := nc.(*net.TCPConn)
		if !ok {
			s.rest.give(nc)
			continue
		}
		c, err := newConn(s, tc)
		if err != nil {
			_ = nc.Close()
			continue
		}
		s.mu.Lock()
		stopping := s.stopping.Load()
		if !stopping {
			s.conns[c] = struct{}{}
			s.wg.Add(1)
		}
		s.mu.Unlock()
		if stopping {
			_ = nc.Close()
			continue
		}
		go c.serve()
	}
}

// Shutdown closes idle connections, lets running requests finish until ctx ends, then closes all. The listener must be closed already, or be closed by net/http's own shutdown.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.watch == nil {
		return nil
	}
	s.stopping.Store(true)
	_ = s.rest.Close() // net/http may have done it
	s.mu.Lock()
	for c := range s.conns {
		c.leaveIfIdle()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.nc.Close()
			c.leave()
		}
		s.mu.Unlock()
		<-done
	}
	s.watch.close()
	return err
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.wg.Done()
}

// rest is the listener of what the loop does not serve.
type rest struct {
	l      net.Listener
	conns  chan net.Conn
	failed chan error
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (r *rest) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case err := <-r.failed:
		r.failed <- err // for the next call
		return nil, err
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (r *rest) Close() error {
	err := error(nil)
	r.once.Do(func() {
		close(r.closed)
		err = r.l.Close()
	})
	return err
}

// Addr implements net.Listener.
func (r *rest) Addr() net.Addr { return r.l.Addr() }

// give hands a connection to whoever accepts; it is closed when nobody will.
func (r *rest) give(c net.Conn) {
	select {
	case r.conns <- c:
	case <-r.closed:
		_ = c.Close()
	}
}
