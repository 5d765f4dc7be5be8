// Package redis is the cache that processes share: a Redis server. Counters are charged by scripts on the server, by its clock; a pipeline carries all asks of a call.
package redis

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"maas/internal/platform/cache"
)

func init() {
	redis.SetLogger(quiet{}) // what goes wrong is told by calls
	for _, scheme := range []string{"redis", "rediss"} {
		cache.Register(scheme, Open)
	}
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

const (
	dialMost = time.Second
	callMost = 250 * time.Millisecond
	failMost = 5 // failures within a second, and calls fail at once for a second
	pause    = time.Second
	prefix   = "m1:" // rises with the form of what is stored
)

//go:embed take.lua
var takeText string

//go:embed hold.lua
var holdText string

var (
	takeScript = redis.NewScript(takeText)
	holdScript = redis.NewScript(holdText)
)

// Cache is a Redis server.
type Cache struct {
	c      *redis.Client
	fails  atomic.Int64 // in a row
	closed atomic.Int64 // until, unix ns: the server is not asked
}

// Open makes a client of the server at url: redis://[user:password@]host:port[/database], rediss:// for TLS. It does not wait for the server.
func Open(_ context.Context, url string) (cache.Cache, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, cache.ErrBadURL.With("%s", strings.ReplaceAll(err.Error(), url, "the URL")) // it may hold a password
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = dialMost, callMost, callMost, callMost
	o.MaxRetries = -1
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	return &Cache{c: redis.NewClient(o)}, nil
}

// Shared implements cache.Cache.
func (c *Cache) Shared() bool { return true }

// Close implements cache.Cache.
func (c *Cache) Close() error { return c.c.Close() }

// call runs f within the time of a call, and not at all for a second after five failures in a row.
func (c *Cache) call(ctx context.Context, f func(ctx context.Context) error) error {
	if time.Now().UnixNano() < c.closed.Load() {
		return cache.ErrAway
	}
	ctx, cancel := context.WithTimeout(ctx, dialMost)
	defer cancel()
	err := f(ctx)
	if err == nil || errors.Is(err, redis.Nil) {
		c.fails.Store(0)
		return err
	}
	if c.fails.Add(1) >= failMost {
		c.fails.Store(0)
		c.closed.Store(time.Now().Add(pause).UnixNano())
	}
	return cache.ErrAway.Wrap(err)
}

// Take implements cache.Cache.
func (c *Cache) Take(ctx context.Context, asks []cache.Take) ([]cache.Grant, error) {
	for i := range asks {
		if err := asks[i].Check(); err != nil {
			return nil, err
		}
	}
	var out []cache.Grant
	err := c.call(ctx, func(ctx context.Context) error {
		var err error
		out, err = c.run(ctx, asks, false)
		if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") { // a server that was restarted, or a replica that took over
			out, err = c.run(ctx, asks, true)
		}
		return err
	})
	return out, err
}

// run sends one pipeline. load brings the scripts along. A script that ran before one that was unknown is not undone: its units are lost, which is on the safe side.
func (c *Cache) run(ctx context.Context, asks []cache.Take, load bool) ([]cache.Grant, error) {
	p := c.c.Pipeline()
	if load {
		p.ScriptLoad(ctx, takeText)
		p.ScriptLoad(ctx, holdText)
	}
	cmds := make([]*redis.Cmd, len(asks))
	for i := range asks {
		t := &asks[i]
		key := []string{prefix + t.Key}
		if t.Holder != "" {
			cmds[i] = holdScript.EvalSha(ctx, p, key, t.Limit, t.Need, t.Want, t.Holder, t.TTL.Milliseconds())
		} else {
			cmds[i] = takeScript.EvalSha(ctx, p, key, t.Limit, t.Burst, t.Need, t.Want)
		}
	}
	if _, err := p.Exec(ctx); err != nil {
		return nil, err
	}
	out := make([]cache.Grant, len(asks))
	for i, cmd := range cmds {
		n, err := cmd.Int64Slice()
		if err != nil {
			return nil, err
		}
		if len(n) != 3 {
			return nil, errors.New("a script answered in another form")
		}
		out[i] = cache.Grant{Amount: n[0], Wait: time.Duration(n[1]) * time.Microsecond, Left: n[2]}
	}
	return out, nil
}

// Get implements cache.Cache.
func (c *Cache) Get(ctx context.Context, key string) ([]byte, bool, error) {
	var b []byte
	err := c.call(ctx, func(ctx context.Context) (err error) {
		b, err = c.c.Get(ctx, prefix+key).Bytes()
		return err
	})
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	return b, err == nil, err
}

// Set implements cache.Cache.
func (c *Cache) Set(ctx context.Context, key string, v []byte, ttl time.Duration) error {
	return c.call(ctx, func(ctx context.Context) error { return c.c.Set(ctx, prefix+key, v, ttl).Err() })
}

// Delete implements cache.Cache.
func (c *Cache) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	full := make([]string, len(keys))
	for i, k := range keys {
		full[i] = prefix + k
	}
	return c.call(ctx, func(ctx context.Context) error { return c.c.Del(ctx, full...).Err() })
}
