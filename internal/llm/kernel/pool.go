package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Pool runs ranges on a fixed number of workers, the caller being one of them. A nil pool, or one of size 1, runs everything on the caller. One range runs at a time, others wait: the engine has one loop.
type Pool struct {
	workers int
	wake    []chan struct{}
	done    sync.WaitGroup
	closed  atomic.Bool

	mu     sync.Mutex   // guards the range below while it is open; the workers only read it
	t      task         // what runs
	n      int          // over 0..n
	grain  int          // in pieces of this length
	next   atomic.Int64 // first value not yet claimed
	seq    atomic.Uint64
	open   atomic.Bool  // workers may join
	joined atomic.Int64 // workers inside
	caught atomic.Pointer[any]

	product product // the task of MatMul, kept here so that a call allocates nothing
	attend  attend  // the same for KV.Attend
}

// task is a range that can run in pieces.
type task interface{ run(lo, hi int) }

type taskFunc func(lo, hi int)

func (f taskFunc) run(lo, hi int) { f(lo, hi) }

// spinFor is how long an idle worker looks for work before it parks. Longer spinning collapses on a machine that others use as well.
const spinFor = 20 * time.Microsecond

// NewPool starts n-1 goroutines; n < 1 counts as 1. Close ends them.
func NewPool(n int) *Pool {
	p := &Pool{workers: max(n, 1)}
	for range p.workers - 1 {
		c := make(chan struct{}, 1)
		p.wake = append(p.wake, c)
		p.done.Add(1)
		go p.worker(c)
	}
	return p
}

// Size returns the number of workers, the caller included.
func (p *Pool) Size() int {
	if p == nil {
		return 1
	}
	return p.workers
}

// For calls f for ranges that cover 0..n once, each grain long but the last, and returns when all are done. Ranges of one call run at the same time. A panic in f comes out of For.
// f must not call For on the same pool.
func (p *Pool) For(n, grain int, f func(lo, hi int)) {
	grain = max(grain, 1)
	if p.Size() == 1 || n <= grain {
		if n > 0 {
			f(0, n)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.share(taskFunc(f), n, grain)
}

// share runs t over 0..n with the workers. The caller holds p.mu.
func (p *Pool) share(t task, n, grain int) {
	p.t, p.n, p.grain = t, n, grain
	p.next.Store(0)
	p.caught.Store(nil)
	p.open.Store(true)
	p.seq.Add(1)
	for i, c := range p.wake {
		if (i+1)*grain >= n {
			break // fewer pieces than workers
		}
		select {
		case c <- struct{}{}:
		default: // a wake-up is already waiting there
		}
	}
	p.claim()
	// Every piece is claimed. A worker that comes now finds the range closed, so only those inside are waited for: one that sleeps costs nothing.
	p.open.Store(false)
	for i := 0; p.joined.Load() > 0; i++ {
		if i > 200 {
			runtime.Gosched()
		}
	}
	p.t = nil
	if c := p.caught.Load(); c != nil {
		panic(*c)
	}
}

// claim runs pieces until none is left. A panic is kept for the caller, and the pieces not yet claimed are dropped.
func (p *Pool) claim() {
	defer func() {
		if c := recover(); c != nil {
			kept := c // c itself must not escape: it would be allocated on every call
			p.caught.CompareAndSwap(nil, &kept)
			p.next.Store(int64(p.n))
		}
	}()
	for {
		lo := int(p.next.Add(int64(p.grain))) - p.grain
		if lo >= p.n {
			return
		}
		p.t.run(lo, min(lo+p.grain, p.n))
	}
}

// worker waits for a range: spinning for a moment, then parked on its channel.
func (p *Pool) worker(wake chan struct{}) {
	defer p.done.Done()
	var seen uint64
	for {
		for start := time.Now(); p.seq.Load() == seen; {
			if time.Since(start) < spinFor {
				runtime.Gosched()
			} else {
				<-wake
			}
			if p.closed.Load() {
				return
			}
		}
		seen = p.seq.Load()
		p.joined.Add(1)
		if p.open.Load() {
			p.claim()
		}
		p.joined.Add(-1)
	}
}

// Close ends the workers and waits for them. Nothing may be running.
func (p *Pool) Close() {
	if p == nil || p.closed.Swap(true) {
		return
	}
	for _, c := range p.wake {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	p.done.Wait()
}
