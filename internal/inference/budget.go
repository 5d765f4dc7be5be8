package inference

import (
	"sync/atomic"
	"time"
)

// A retry budget counts over ten seconds in steps of one. Up to budgetFloor attempts beyond the first are always allowed, or a quiet route could never fall back.
const (
	budgetSlots = 10
	budgetFloor = 10
)

// budget keeps retries from melting upstreams that fail under load: attempts beyond the first are at most a share of the requests of the last ten seconds. It takes no lock; two requests at one instant may
// both take the last permit.
type budget struct {
	slots [budgetSlots]budgetSlot
}

type budgetSlot struct {
	at       atomic.Int64 // second
	requests atomic.Int64
	retries  atomic.Int64
}

func (b *budget) slot(now int64) *budgetSlot {
	sec := now / int64(time.Second)
	s := &b.slots[sec%budgetSlots]
	if old := s.at.Load(); old != sec && s.at.CompareAndSwap(old, sec) {
		s.requests.Store(0)
		s.retries.Store(0)
	}
	return s
}

// request counts a request, by its first attempt.
func (b *budget) request(now int64) { b.slot(now).requests.Add(1) }

// retry takes a permit for another attempt; false when the budget is used up.
func (b *budget) retry(now int64, percent int) bool {
	sec := now / int64(time.Second)
	var requests, retries int64
	for i := range b.slots {
		if s := &b.slots[i]; sec-s.at.Load() < budgetSlots {
			requests += s.requests.Load()
			retries += s.retries.Load()
		}
	}
	if percent == 0 || retries >= max(budgetFloor, requests*int64(percent)/100) {
		return false
	}
	b.slot(now).retries.Add(1)
	return true
}
