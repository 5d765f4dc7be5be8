package user

import (
	"math"
	"sync"
	"time"
)

// Limits of what anybody may ask for without a credential.
const (
	rateWindow   = time.Hour
	registerMost = 30 // registrations of one address of the network an hour
	mailMost     = 5  // letters of one kind to one mail address an hour
	mailMostIP   = 60 // letters of one kind that one address of the network asks for an hour
	rateHeld     = 100_000
)

// rates counts, in memory, what was asked for within the last hour. Like the damper it is forgotten at a restart, which an outsider cannot cause.
type rates struct {
	mu sync.Mutex // guards m
	m  map[string][]time.Time
}

func newRates() *rates { return &rates{m: map[string][]time.Time{}} }

// take counts one use of a name by somebody: ErrTooManyAttempts with the wait if most are used up.
func (r *rates) take(name, who string, most int, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := name + "\x00" + who
	list := fresh(r.m[key], now)
	if len(list) >= most {
		r.m[key] = list
		wait := time.Duration(math.Ceil(list[0].Add(rateWindow).Sub(now).Seconds())) * time.Second
		return ErrTooManyAttempts.With("too many requests; try again in %s", wait).After(wait)
	}
	if len(r.m) >= rateHeld && r.m[key] == nil {
		r.sweepLocked(now)
		if len(r.m) >= rateHeld {
			return ErrTooManyAttempts.With("too many requests").After(time.Minute)
		}
	}
	r.m[key] = append(list, now)
	return nil
}

func fresh(list []time.Time, now time.Time) []time.Time {
	for len(list) > 0 && now.Sub(list[0]) >= rateWindow {
		list = list[1:]
	}
	return list
}

// sweep drops what is older than the window.
func (r *rates) sweep(now time.Time) { r.mu.Lock(); r.sweepLocked(now); r.mu.Unlock() }

func (r *rates) sweepLocked(now time.Time) {
	for k, list := range r.m {
		if len(fresh(list, now)) == 0 {
			delete(r.m, k)
		}
	}
}
