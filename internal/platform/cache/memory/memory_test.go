package memory

import (
	"testing"

	"maas/internal/platform/cache"
	"maas/internal/platform/cache/cachetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	c := New(nil)
	cachetest.Run(t, func(*testing.T) cache.Cache { return c })
}
