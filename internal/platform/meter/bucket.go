package meter

import (
	"context"
	"math/bits"
	"sync/atomic"
	"time"
)

// Unit of a limit or a budget.
type Unit string

// The units. Limits of requests and tokens hold per minute, concurrent at every moment; budgets count money, tokens or requests over a calendar window.
const (
	Requests   Unit = "requests"
	Tokens     Unit = "tokens" // input and output
	Concurrent Unit = "concurrent"
	Money      Unit = "money"
)

// noLimit: a limit per minute from here on is none.
const noLimit = 10_000_000_000

const (
	minute   = int64(time.Minute)
	costMost = 1 << 55 // a year: sums of a few do not overflow
)

// Limit says what a subject may do.
type Limit struct {
	Kind  string `json:"kind"` // key, user, project, tenant, model: for the words of a refusal
	ID    string `json:"id"`
	Unit  Unit   `json:"unit"`
	Limit int64  `json:"limit"`           // per minute; for concurrent: at a time. 0 = nothing passes
	Burst int64  `json:"burst,omitempty"` // units that may come at once; 0 = 10 seconds' worth of requests, 60 of tokens, at least one

	Counter string `json:"counter,omitempty"` // limits of one counter count together; "" = one for the subject and unit
}

// Bucket is a limit with its counter. The limit never changes; a changed one is a new Bucket over the same counter (Meter.Bucket).
type Bucket struct {
	Limit
	burst int64 // ns
	word  *counter
}

// counter is what a limit has seen. It survives changes of the limit. All fields are atomic: no lock, no timer, no reset.
type counter struct {
	tat  atomic.Int64 // theoretical arrival time, ns
	used atomic.Int64 // slots taken

	remote *remote // nil: the limit holds in this process alone
}

func newBucket(l Limit, w *counter) *Bucket {
	b := &Bucket{Limit: l, word: w}
	if l.Unit == Concurrent || l.Limit <= 0 {
		return b
	}
	switch {
	case l.Burst > 0:
		b.burst = max(b.cost(l.Burst), min(l.Burst, l.Limit)*b.cost(1)) // one by one they must fit too, rounded up each
	case l.Unit == Tokens:
		b.burst = minute
	default:
		b.burst = max(minute/6, b.cost(1))
	}
	return b
}

// cost is the time that n units take up, rounded up: n * period / limit.
func (b *Bucket) cost(n int64) int64 {
	hi, lo := bits.Mul64(uint64(max(n, 0)), uint64(minute))
	limit := uint64(b.Limit.Limit)
	if hi >= limit {
		return costMost
	}
	q, r := bits.Div64(hi, lo, limit)
	if r > 0 {
		q++
	}
	return min(int64(min(q, 1<<62)), costMost)
}

// take charges n units at the time now (ns of a clock that never goes back). 0 = taken, else the wait after which it would pass; nothing is charged then. What is larger than the burst passes a full bucket
// and pays it off.
func (b *Bucket) take(now, n int64) (wait int64) {
	c := b.cost(n)
	for {
		old := b.word.tat.Load()
		t := max(old, now) + c
		if over := t - now - b.burst; over > 0 && (c <= b.burst || old > now) {
			if c > b.burst {
				return old - now // until the bucket is full
			}
			return over
		}
		if b.word.tat.CompareAndSwap(old, t) {
			return 0
		}
	}
}

// force charges n units whatever the bucket holds: they were consumed already.
func (b *Bucket) force(now, n int64) {
	if r := b.word.remote; r != nil {
		r.taken.Add(n)
		r.left.Add(-n) // paid off by the next question
		return
	}
	c := b.cost(n)
	for {
		old := b.word.tat.Load()
		if b.word.tat.CompareAndSwap(old, max(old, now)+c) {
			return
		}
	}
}

// give takes n units back that were charged and not used.
func (b *Bucket) give(n int64) {
	if r := b.word.remote; r != nil {
		r.left.Add(n)
		return
	}
	b.word.tat.Add(-b.cost(n))
}

// enter takes a slot of a limit of concurrent calls; leave frees it.
func (b *Bucket) enter() bool {
	if b.word.used.Add(1) > b.Limit.Limit {
		b.word.used.Add(-1)
		return false
	}
	return true
}

func (b *Bucket) leave() { b.word.used.Add(-1) }

// take charges one limit with its part of an ask; nil = it passes.
func (m *Meter) take(ctx context.Context, b *Bucket, now int64, a *Ask) *Refusal {
	r := b.word.remote
	if b.Unit == Concurrent {
		if r == nil && b.enter() || r != nil && m.enterShared(ctx, b, r, now) {
			return nil
		}
		return &Refusal{Reason: TooMany, Kind: b.Kind, ID: b.ID, Unit: b.Unit, Limit: b.Limit.Limit, Wait: time.Second}
	}
	n := a.of(b.Unit)
	if n > b.Limit.Limit {
		return &Refusal{Reason: OverLimit, Kind: b.Kind, ID: b.ID, Unit: b.Unit, Limit: b.Limit.Limit}
	}
	if r != nil {
		return m.takeShared(ctx, b, r, now, n)
	}
	if wait := b.take(now, n); wait > 0 {
		return limited(b, wait)
	}
	return nil
}

// Alone makes a bucket with a counter of its own that no Meter knows.
func Alone(l Limit) *Bucket { return newBucket(l, &counter{}) }

// Take charges a bucket of Alone: 0 = taken, else the wait.
func (b *Bucket) Take(now, n int64) time.Duration { return time.Duration(b.take(now, n)) }

// Standing is how a limit stands.
type Standing struct {
	Limit, Left int64
	Reset       time.Duration // until it is full again
}

// Tightest returns the limit of a unit that has the least left; false if there is none.
func Tightest(now int64, unit Unit, lists ...[]*Bucket) (s Standing, ok bool) {
	for _, list := range lists {
		for _, b := range list {
			if b.Unit != unit || b.Limit.Limit <= 0 {
				continue
			}
			x := b.standing(now)
			if !ok || x.Left < s.Left {
				s, ok = x, true
			}
		}
	}
	return s, ok
}

func (b *Bucket) standing(now int64) Standing {
	if r := b.word.remote; r != nil {
		left := min(max(r.left.Load(), 0)+r.global.Load(), b.units())
		return Standing{b.Limit.Limit, left, time.Duration(b.cost(b.units() - left))}
	}
	behind := max(b.word.tat.Load()-now, 0)
	hi, lo := bits.Mul64(uint64(max(b.burst-behind, 0)), uint64(b.Limit.Limit))
	left := int64(0)
	if hi < uint64(minute) {
		q, _ := bits.Div64(hi, lo, uint64(minute))
		left = int64(min(q, uint64(b.Limit.Limit)))
	}
	return Standing{b.Limit.Limit, left, time.Duration(behind)}
}
