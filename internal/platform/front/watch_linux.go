package front

import (
	"os"
	"sync"
	"syscall"
)

// watch learns of clients that close their half of a connection, without a goroutine for each: one epoll set, edge-triggered, that the runtime's own poller waits for. A connection costs one system call when its
// first request comes; requests cost none.
type watch struct {
	s    *Server
	file *os.File // the epoll set
	done chan struct{}

	mu    sync.Mutex // guards the rest
	conns map[uint64]*conn
	last  uint64
}

const (
	epollRDHUP = 0x2000
	epollET    = 1 << 31
)

func newWatch(s *Server) (*watch, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that os.NewFile gives it to the poller
		_ = syscall.Close(fd)
		return nil, err
	}
	return &watch{s: s, file: os.NewFile(uintptr(fd), "front-watch"), done: make(chan struct{}), conns: map[uint64]*conn{}}, nil
}

// run tells connections until close.
func (w *watch) run() {
	defer close(w.done)
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	events := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		if err := raw.Read(func(fd uintptr) bool {
			var err error
			if n, err = syscall.EpollWait(int(fd), events, 0); err != nil {
				n = 0
			}
			return n > 0
		}); err != nil {
			return
		}
		for i := range n {
			id := uint64(uint32(events[i].Fd)) | uint64(uint32(events[i].Pad))<<32 //nolint:gosec // the halves of our number
			w.mu.Lock()
			c := w.conns[id]
			w.mu.Unlock()
			if c != nil {
				c.leave()
			}
		}
	}
}

// add begins to watch a connection; false if the system does not let us.
func (w *watch) add(c *conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	set, err := w.file.SyscallConn()
	if err != nil {
		return false
	}
	w.last++
	id := w.last
	event := syscall.EpollEvent{Events: epollRDHUP | epollET, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))} //nolint:gosec // the halves of our number
	ok := false
	if err := set.Control(func(ep uintptr) {
		_ = c.rc.Control(func(fd uintptr) { ok = syscall.EpollCtl(int(ep), syscall.EPOLL_CTL_ADD, int(fd), &event) == nil })
	}); err != nil || !ok {
		return false
	}
	c.id = id
	w.conns[id] = c
	return true
}

// remove forgets a connection that is still open.
func (w *watch) remove(c *conn) {
	if c.id == 0 {
		return
	}
	w.mu.Lock()
	delete(w.conns, c.id)
	w.mu.Unlock()
	c.id = 0
	set, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	_ = set.Control(func(ep uintptr) {
		_ = c.rc.Control(func(fd uintptr) { _ = syscall.EpollCtl(int(ep), syscall.EPOLL_CTL_DEL, int(fd), nil) })
	}) // a closed connection left the set by itself
}

func (w *watch) close() {
	_ = w.file.Close() // wakes run
	<-w.done
}

func isTemporary(err error) bool {
	for {
		switch e := err.(type) { //nolint:errorlint // walks the chain itself
		case syscall.Errno:
			return e == syscall.EMFILE || e == syscall.ENFILE || e == syscall.ENOBUFS || e == syscall.ENOMEM || e == syscall.ECONNABORTED
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		default:
			return false
		}
	}
}
