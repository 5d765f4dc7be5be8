package front

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Life is the context of one request. It ends when the client leaves or the handler has returned. Values that the edge knows early are kept in it without a chain of contexts.
type Life struct {
	base context.Context //nolint:containedctx // it is a context itself

	mu    sync.Mutex // guards the rest, values before the handler runs excepted
	done  chan struct{}
	err   error
	hooks []hook
	next  int
	few   [2]hook

	values []pair
	room   [3]pair
}

type hook struct {
	id int
	f  func()
	e  Ender
}

// Ender is told of the end of a Life.
type Ender interface{ Ended() }

type pair struct{ key, value any }

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// newLife makes the context of a request; base gives values only.
func newLife(base context.Context) *Life { return &Life{base: base} }

// Set keeps a value under a key. Only the edge calls it, before anybody else has the context.
func (l *Life) Set(key, value any) {
	if l.values == nil {
		l.values = l.room[:0]
	}
	l.values = append(l.values, pair{key, value})
}

// Deadline implements context.Context: there is none.
func (l *Life) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (l *Life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.done != nil:
	case l.err != nil:
		l.done = closed
	default:
		l.done = make(chan struct{})
	}
	return l.done
}

// Err implements context.Context.
func (l *Life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Value implements context.Context.
func (l *Life) Value(key any) any {
	for i := range l.values {
		if l.values[i].key == key {
			return l.values[i].value
		}
	}
	return l.base.Value(key)
}

// AfterFunc runs f in its own goroutine once the life has ended; stop keeps it from being run and reports whether it did. Package context uses it for what it derives from a Life.
func (l *Life) AfterFunc(f func()) (stop func() bool) {
	id := l.add(hook{f: f})
	return func() bool { return l.Untell(id) }
}

// Tell is AfterFunc without an allocation: e.Ended is called in a goroutine of its own. The number is for Untell.
func (l *Life) Tell(e Ender) int { return l.add(hook{e: e}) }

// Untell keeps what Tell or AfterFunc named from being called and reports whether it did.
func (l *Life) Untell(id int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.hooks, func(h hook) bool { return h.id == id })
	if i < 0 {
		return false
	}
	l.hooks = slices.Delete(l.hooks, i, i+1)
	return true
}

func (l *Life) add(h hook) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		go h.run()
		return 0
	}
	if l.hooks == nil {
		l.hooks = l.few[:0]
	}
	l.next++
	h.id = l.next
	l.hooks = append(l.hooks, h)
	return h.id
}

func (h hook) run() {
	if h.e != nil {
		h.e.Ended()
		return
	}
	h.f()
}

// end cancels the life. Later calls do nothing.
func (l *Life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = context.Canceled
	if l.done != nil {
		close(l.done)
	}
	for _, h := range l.hooks {
		go h.run()
	}
	l.hooks = nil
}
