package db

import "sync"

// hub wakes waiters inside this process. Lost wake-ups cost a poll interval, nothing else: it carries no data.
type hub struct {
	mu        sync.Mutex // guards listeners
	listeners map[string]map[chan struct{}]bool
}

func (h *hub) wake(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.listeners[name] {
		select {
		case c <- struct{}{}:
		default: // one wake-up is pending already
		}
	}
}

// Listen returns a channel that gets a value after commits that called Tx.Notify with this name, in this process. Several notifications may arrive as one. stop ends it.
func (d *DB) Listen(name string) (wake <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	h := &d.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = map[string]map[chan struct{}]bool{}
	}
	if h.listeners[name] == nil {
		h.listeners[name] = map[chan struct{}]bool{}
	}
	h.listeners[name][c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners[name], c)
	}
}

// Notify wakes the listeners of a name now.
func (d *DB) Notify(name string) { d.hub.wake(name) }
