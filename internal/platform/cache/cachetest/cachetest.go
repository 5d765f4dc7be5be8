// Package cachetest is the conformance suite of cache drivers.
package cachetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/cache"
)

// Run holds a driver to its contract. open returns one more client of the same server.
func Run(t *testing.T, open func(t *testing.T) cache.Cache) {
	t.Helper()
	s := &suite{open(t), open}
	t.Run("values", s.values)
	t.Run("units", s.units)
	t.Run("refill", s.refill)
	t.Run("never above the limit", s.never)
	t.Run("slots", s.slots)
	t.Run("slots of the dead", s.dead)
	t.Run("many at once", s.many)
	t.Run("no questions", s.questions)
}

type suite struct {
	c    cache.Cache
	open func(t *testing.T) cache.Cache
}

func key(name string) string { return name + ":" + rand.Text() }

func (s *suite) one(t *testing.T, k cache.Take) cache.Grant {
	t.Helper()
	g, err := s.c.Take(t.Context(), []cache.Take{k})
	require.NoError(t, err)
	require.Len(t, g, 1)
	return g[0]
}

func (s *suite) values(t *testing.T) {
	ctx := t.Context()
	k := key("v")
	_, ok, err := s.c.Get(ctx, k)
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, s.c.Set(ctx, k, []byte("a\x00b"), time.Minute))
	v, ok, err := s.c.Get(ctx, k)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []byte("a\x00b"), v)
	require.NoError(t, s.c.Delete(ctx, k, key("none")))
	require.NoError(t, s.c.Delete(ctx))
	_, ok, err = s.c.Get(ctx, k)
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, s.c.Set(ctx, k, []byte("x"), 30*time.Millisecond))
	require.Eventually(t, func() bool { _, ok, err := s.c.Get(ctx, k); return err == nil && !ok }, 30*time.Second, 5*time.Millisecond, "values end")
}

func (s *suite) units(t *testing.T) {
	k := cache.Take{Key: key("u"), Limit: 60, Burst: 10, Need: 1, Want: 4}
	g := s.one(t, k)
	require.Equal(t, int64(4), g.Amount)
	require.Equal(t, int64(6), g.Left)
	k.Need, k.Want = 3, 100
	require.Equal(t, int64(6), s.one(t, k).Amount, "as many as there are")
	k.Need, k.Want = 2, 2
	g = s.one(t, k)
	require.Zero(t, g.Amount)
	require.InDelta(t, 2, g.Wait.Seconds(), 0.9)
	k.Key, k.Need, k.Want = key("big"), 25, 30
	require.Equal(t, int64(25), s.one(t, k).Amount, "more than the burst passes a full bucket")
	g = s.one(t, k)
	require.Zero(t, g.Amount)
	require.InDelta(t, 25, g.Wait.Seconds(), 1, "and is paid off")
}

func (s *suite) refill(t *testing.T) {
	k := cache.Take{Key: key("r"), Limit: 6000, Burst: 5, Need: 5, Want: 5} // one each 10 ms
	require.Equal(t, int64(5), s.one(t, k).Amount)
	start := time.Now()
	require.Eventually(t, func() bool { return s.one(t, k).Amount == 5 }, 30*time.Second, time.Millisecond)
	require.GreaterOrEqual(t, time.Since(start), 45*time.Millisecond)
}

func (s *suite) never(t *testing.T) {
	const limit, burst = 600, 100 // ten a second
	name := key("n")
	var got atomic.Int64
	start := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		other := s.open(t)
		for w := range 3 {
			wg.Go(func() {
				for range 60 {
					g, err := other.Take(context.Background(), []cache.Take{{Key: name, Limit: limit, Burst: burst, Need: 1, Want: int64(1 + w*3)}})
					if err != nil {
						t.Error(err)
						return
					}
					got.Add(g[0].Amount)
				}
			})
		}
	}
	wg.Wait()
	most := burst + int64(time.Since(start).Seconds()*limit/60) + 1
	require.GreaterOrEqual(t, got.Load(), int64(burst))
	require.LessOrEqual(t, got.Load(), most)
}

func (s *suite) slots(t *testing.T) {
	k := cache.Take{Key: key("s"), Limit: 10, Need: 3, Want: 6, Holder: "a", TTL: time.Minute}
	require.Equal(t, int64(6), s.one(t, k).Amount)
	b := k
	b.Holder, b.Need, b.Want = "b", 1, 8
	g := s.one(t, b)
	require.Equal(t, int64(4), g.Amount)
	require.Zero(t, g.Left)
	b.Need, b.Want = 5, 5
	g = s.one(t, b)
	require.Equal(t, int64(4), g.Amount, "what it has it keeps")
	require.Positive(t, g.Wait)
	k.Need, k.Want = 1, 2
	require.Equal(t, int64(2), s.one(t, k).Amount)
	require.Equal(t, int64(5), s.one(t, b).Amount)
	k.Need, k.Want = 0, 0
	require.Zero(t, s.one(t, k).Amount)
	b.Need, b.Want = 10, 10
	require.Equal(t, int64(10), s.one(t, b).Amount)
}

func (s *suite) dead(t *testing.T) {
	k := cache.Take{Key: key("d"), Limit: 4, Need: 4, Want: 4, Holder: "a", TTL: 100 * time.Millisecond}
	require.Equal(t, int64(4), s.one(t, k).Amount)
	b := k
	b.Holder, b.TTL = "b", time.Minute
	require.Zero(t, s.one(t, b).Amount)
	require.Eventually(t, func() bool { return s.one(t, b).Amount == 4 }, 30*time.Second, 5*time.Millisecond)
}

func (s *suite) many(t *testing.T) {
	ctx := t.Context()
	var asks []cache.Take
	for i := range 200 {
		asks = append(asks, cache.Take{Key: key(fmt.Sprint("m", i)), Limit: 600, Burst: 10, Need: 1, Want: int64(1 + i%10)})
	}
	g, err := s.c.Take(ctx, asks)
	require.NoError(t, err)
	for i := range g {
		require.Equal(t, int64(1+i%10), g[i].Amount)
	}
}

func (s *suite) questions(t *testing.T) {
	ctx := t.Context()
	for _, k := range []cache.Take{
		{},
		{Key: "k", Limit: 1, Burst: 1, Need: 2, Want: 1},
		{Key: "k", Limit: 0, Burst: 1, Need: 1, Want: 1},
		{Key: "k", Limit: 1, Burst: 0, Need: 1, Want: 1},
		{Key: "k", Limit: 1, Burst: 1},
		{Key: "k", Limit: 1 << 50, Burst: 1, Need: 1, Want: 1},
		{Key: "k", Limit: 1, Need: 1, Want: 1, Holder: "h"},
	} {
		_, err := s.c.Take(ctx, []cache.Take{k})
		require.ErrorIs(t, err, cache.ErrAsk, "%+v", k)
	}
}
