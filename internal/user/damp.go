package user

import (
	"math"
	"sync"
	"time"

	"maas/internal/platform/fault"
)

// ErrTooManyAttempts is answered to sign-ins that come too fast after failures; the words do not tell whether the account exists.
var ErrTooManyAttempts = fault.New(fault.Limited, "user.too_many_attempts", "too many failed attempts")

// Damping of guessing. It goes by (account, address) first: a stranger can slow down himself, not the owner of the account. The wider counters bound what many addresses, or one address with many
// accounts, can try.
var dampRules = rules{
	{5, time.Second, 15 * time.Minute},         // account at one address
	{20, time.Second, 15 * time.Minute},        // address, any account
	{100, 500 * time.Millisecond, time.Minute}, // account, any address
}

// codeRules are stricter: a code has six digits, and whoever tries them knows the password already. An account takes about a hundred tries a day, wherever they come from.
var codeRules = rules{
	{5, time.Second, 15 * time.Minute},
	{20, time.Second, 15 * time.Minute},
	{10, 2 * time.Second, 15 * time.Minute},
}

type rules [3]struct {
	free  int           // failures without any wait
	first time.Duration // wait after the next one; doubles with each
	most  time.Duration
}

const (
	dampForget = time.Hour // a counter is dropped this long after its last failure
	dampMost   = 100_000   // counters held; beyond it the idle ones go first, then none are added
)

type strikes struct {
	n     int
	until time.Time
	last  time.Time
}

// damper counts failed attempts in memory. A restart forgets them, which an outsider cannot cause.
type damper struct {
	rules rules
	mu    sync.Mutex // guards m
	m     map[string]*strikes
}

func newDamper(r rules) *damper { return &damper{rules: r, m: map[string]*strikes{}} }

func dampKeys(account, ip string) [3]string {
	return [3]string{"p\x00" + account + "\x00" + ip, "i\x00" + ip, "a\x00" + account}
}

// check returns ErrTooManyAttempts with the wait if the next attempt comes too early.
func (d *damper) check(now time.Time, account, ip string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var wait time.Duration
	for _, k := range dampKeys(account, ip) {
		if s := d.m[k]; s != nil {
			wait = max(wait, s.until.Sub(now))
		}
	}
	if wait <= 0 {
		return nil
	}
	wait = time.Duration(math.Ceil(wait.Seconds())) * time.Second
	return ErrTooManyAttempts.With("try again in %s", wait).After(wait)
}

// fail counts a failed attempt.
func (d *damper) fail(now time.Time, account, ip string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.m) >= dampMost {
		for k, s := range d.m {
			if now.Sub(s.last) > time.Minute && now.After(s.until) {
				delete(d.m, k)
			}
		}
	}
	for i, k := range dampKeys(account, ip) {
		s := d.m[k]
		switch {
		case s == nil && len(d.m) >= dampMost:
			continue
		case s == nil || now.Sub(s.last) > dampForget:
			s = &strikes{}
			d.m[k] = s
		}
		s.n, s.last = s.n+1, now
		if over := s.n - d.rules[i].free; over > 0 {
			s.until = now.Add(min(d.rules[i].first<<min(over-1, 20), d.rules[i].most))
		}
	}
}

// ok forgets the failures of the account at this address after a right password.
func (d *damper) ok(account, ip string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.m, dampKeys(account, ip)[0])
}

// sweep drops counters that no longer matter. Called from Run.
func (d *damper) sweep(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, s := range d.m {
		if now.Sub(s.last) > dampForget {
			delete(d.m, k)
		}
	}
}
