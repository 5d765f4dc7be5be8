package redis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest/part"
	"maas/internal/platform/cache"
	"maas/internal/platform/cache/cachetest"
)

func open(t *testing.T, url string) cache.Cache {
	t.Helper()
	c, err := cache.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConformance(t *testing.T) {
	t.Parallel()
	s := part.Redis(t)
	cachetest.Run(t, func(t *testing.T) cache.Cache { t.Helper(); return open(t, s.URL()) })
}

// A server that dies and comes back empty is away meanwhile, at once after a few failures, and answers again by itself, scripts included.
func TestServerDiesAndReturns(t *testing.T) {
	t.Parallel()
	s := part.Redis(t)
	c := open(t, s.URL())
	k := []cache.Take{{Key: "k", Limit: 60, Burst: 5, Need: 5, Want: 5}}
	g, err := c.Take(t.Context(), k)
	require.NoError(t, err)
	require.Equal(t, int64(5), g[0].Amount)
	s.Stop()
	for range failMost {
		_, err = c.Take(t.Context(), k)
		require.ErrorIs(t, err, cache.ErrAway)
	}
	start := time.Now()
	for range 1000 {
		_, err = c.Take(t.Context(), k)
		require.ErrorIs(t, err, cache.ErrAway)
		_, _, err = c.Get(t.Context(), "v")
		require.ErrorIs(t, err, cache.ErrAway)
	}
	require.Less(t, time.Since(start), 900*time.Millisecond, "not asked each time")
	s.Start()
	require.Eventually(t, func() bool {
		g, err := c.Take(t.Context(), k)
		return err == nil && g[0].Amount == 5
	}, 30*time.Second, 20*time.Millisecond)
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"nothing:", "redis://:secret@%zz", "redis://h:1/notanumber"} {
		_, err := cache.Open(t.Context(), url)
		require.ErrorIs(t, err, cache.ErrBadURL, url)
		require.NotContains(t, err.Error(), "secret")
	}
}
