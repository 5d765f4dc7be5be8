// Package cache holds what processes share for a while and may lose: counters of limits, slots, small values. Drivers register themselves under their URL scheme: `memory:` for one process, `redis://` for
// several. Nothing that must not be lost is only here.
package cache

import (
	"context"
	"strings"
	"sync"
	"time"

	"maas/internal/platform/fault"
)

// The errors of this package.
var (
	ErrAway   = fault.New(fault.Unavailable, "cache.away", "the shared cache does not answer")
	ErrBadURL = fault.New(fault.Invalid, "cache.bad_url", "this place of the shared cache cannot be used").WithHint("memory: or redis://[:password@]host:port[/database]")
	ErrAsk    = fault.New(fault.Invalid, "cache.ask", "this question to the shared counters is none")
)

// Cache is shared by all processes that open the same URL. Safe for concurrent use. A call ends within a quarter of a second: ErrAway.
type Cache interface {
	// Take charges counters, in one round trip, and answers in the order of the asks. Each ask is atomic, all of them together are not.
	Take(ctx context.Context, asks []Take) ([]Grant, error)
	// Get returns a value and whether there is one.
	Get(ctx context.Context, key string) ([]byte, bool, error)
	// Set keeps a value for a time.
	Set(ctx context.Context, key string, v []byte, ttl time.Duration) error
	// Delete forgets values; missing ones are fine.
	Delete(ctx context.Context, keys ...string) error
	// Shared reports whether other processes see the same counters.
	Shared() bool
	Close() error
}

// Take asks for units of a limit per minute, or, with a Holder, for slots.
//
// Units: a bucket that holds Burst units fills by Limit a minute. Between Need and Want units are given, as many as it holds; one that needs more than Burst passes a full bucket and pays it off.
//
// Slots: at most Limit of all holders together. The holder asks to hold between Need and Want from now on, for TTL, instead of what it held; if Need is not there it keeps what it has. Want 0 lets go.
type Take struct {
	Key        string
	Limit      int64
	Burst      int64
	Need, Want int64
	Holder     string
	TTL        time.Duration
}

// Grant answers a Take.
type Grant struct {
	Amount int64         // units given: 0 or Need to Want. Slots held from now on
	Wait   time.Duration // of a refusal: after this long Need would be there, if nobody else comes
	Left   int64         // units that others could still take now
}

const (
	// MicrosPerMinute is the period of limits.
	MicrosPerMinute = 60_000_000
	limitMost       = 100_000_000 // above, words of counters would not fit the numbers of Lua; the meter takes such limits for none
)

// Check refuses what no driver could answer.
func (t *Take) Check() error {
	switch {
	case t.Key == "", t.Need < 0, t.Want < t.Need, t.Limit < 0:
	case t.Holder != "" && t.TTL <= 0:
	case t.Holder == "" && (t.Need == 0 || t.Limit == 0 || t.Burst < 1 || t.Limit > limitMost || t.Burst > limitMost || t.Want > limitMost):
	default:
		return nil
	}
	return ErrAsk.With("%+v", *t)
}

var (
	mu      sync.Mutex
	drivers = map[string]func(ctx context.Context, url string) (Cache, error){}
)

// Register adds a driver under a URL scheme. Called by init functions of drivers.
func Register(scheme string, open func(ctx context.Context, url string) (Cache, error)) {
	mu.Lock()
	defer mu.Unlock()
	drivers[scheme] = open
}

// Open opens the cache at a URL. A server that is away is no error here: calls say so.
func Open(ctx context.Context, url string) (Cache, error) {
	scheme, _, _ := strings.Cut(url, ":")
	mu.Lock()
	open := drivers[scheme]
	mu.Unlock()
	if open == nil {
		return nil, ErrBadURL.With("there is no driver for %q", scheme)
	}
	return open(ctx, url)
}
