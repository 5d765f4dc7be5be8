// Package memory is the cache of one process.
package memory

import (
	"context"
	"sync"
	"time"

	"maas/internal/platform/cache"
)

func init() {
	cache.Register("memory", func(context.Context, string) (cache.Cache, error) { return New(nil), nil })
}

const valuesMost = 100_000

// Cache is a cache in memory.
type Cache struct {
	now    func() time.Time
	mu     sync.Mutex
	rates  map[string]*rate
	slots  map[string]map[string]held
	values map[string]value
	calls  int
}

// rate is a leaky bucket: debt runs off by limit a microsecond; a unit is MicrosPerMinute of it.
type rate struct{ at, debt int64 }

type held struct {
	n     int64
	until time.Time
}

type value struct {
	b     []byte
	until time.Time
}

// New makes an empty cache; now nil = the clock of the process.
func New(now func() time.Time) *Cache {
	if now == nil {
		now = time.Now
	}
	return &Cache{now: now, rates: map[string]*rate{}, slots: map[string]map[string]held{}, values: map[string]value{}}
}

// Shared implements cache.Cache.
func (c *Cache) Shared() bool { return false }

// Close implements cache.Cache.
func (c *Cache) Close() error { return nil }

// Take implements cache.Cache.
func (c *Cache) Take(_ context.Context, asks []cache.Take) ([]cache.Grant, error) {
	for i := range asks {
		if err := asks[i].Check(); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	c.sweep(now)
	out := make([]cache.Grant, len(asks))
	for i := range asks {
		if asks[i].Holder != "" {
			out[i] = c.hold(&asks[i], now)
		} else {
			out[i] = c.take(&asks[i], now.UnixMicro())
		}
	}
	return out, nil
}

func (c *Cache) take(t *cache.Take, now int64) cache.Grant {
	r := c.rates[t.Key]
	if r == nil {
		r = &rate{at: now}
		c.rates[t.Key] = r
	}
	if now > r.at {
		if gone := now - r.at; gone > r.debt/t.Limit {
			r.debt = 0
		} else {
			r.debt -= gone * t.Limit
		}
		r.at = now
	}
	const unit = cache.MicrosPerMinute
	room := t.Burst*unit - r.debt
	switch {
	case room >= t.Need*unit:
		n := min(t.Want, room/unit)
		r.debt += n * unit
		return cache.Grant{Amount: n, Left: room/unit - n}
	case t.Need > t.Burst && r.debt == 0:
		r.debt = t.Need * unit
		return cache.Grant{Amount: t.Need}
	}
	over := t.Need*unit - room
	if t.Need > t.Burst {
		over = r.debt
	}
	return cache.Grant{Wait: time.Duration((over+t.Limit-1)/t.Limit) * time.Microsecond, Left: max(room/unit, 0)}
}

func (c *Cache) hold(t *cache.Take, now time.Time) cache.Grant {
	all := c.slots[t.Key]
	if all == nil {
		all = map[string]held{}
		c.slots[t.Key] = all
	}
	var others, mine int64
	for who, h := range all {
		switch {
		case !now.Before(h.until):
			delete(all, who)
		case who == t.Holder:
			mine = h.n
		default:
			others += h.n
		}
	}
	free := t.Limit - others
	n := mine
	if free >= t.Need {
		n = min(t.Want, free)
	}
	if n <= 0 {
		delete(all, t.Holder)
		n = 0
	} else {
		all[t.Holder] = held{n, now.Add(t.TTL)}
	}
	if len(all) == 0 {
		delete(c.slots, t.Key)
	}
	g := cache.Grant{Amount: n, Left: max(free-n, 0)}
	if n < t.Need {
		g.Wait = time.Second
	}
	return g
}

// sweep forgets now and then what has run off.
func (c *Cache) sweep(now time.Time) {
	if c.calls++; c.calls%10_000 != 0 {
		return
	}
	for k, r := range c.rates {
		if now.UnixMicro()-r.at > 10*cache.MicrosPerMinute {
			delete(c.rates, k)
		}
	}
	for k, v := range c.values {
		if !now.Before(v.until) {
			delete(c.values, k)
		}
	}
}

// Get implements cache.Cache.
func (c *Cache) Get(_ context.Context, key string) ([]byte, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[key]
	if !ok || !c.now().Before(v.until) {
		return nil, false, nil
	}
	return append([]byte(nil), v.b...), true, nil
}

// Set implements cache.Cache.
func (c *Cache) Set(_ context.Context, key string, v []byte, ttl time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.values) >= valuesMost {
		clear(c.values)
	}
	c.values[key] = value{append([]byte(nil), v...), c.now().Add(ttl)}
	return nil
}

// Delete implements cache.Cache.
func (c *Cache) Delete(_ context.Context, keys ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		delete(c.values, k)
	}
	return nil
}
