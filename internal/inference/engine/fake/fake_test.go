package fake_test

import (
	"os"
	"testing"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/enginetest"
	"maas/internal/inference/engine/fake"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		t.Helper()
		dir, err := os.MkdirTemp("", "f") //nolint:usetesting // t.TempDir is too long for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return enginetest.Subject{
			Driver: fake.New("fake", dir, fake.Script{Load: 50 * time.Millisecond, TokenDelay: time.Millisecond}),
			Launch: engine.Launch{Context: 512, Concurrency: 8},
			Kill:   func(_ *testing.T, i engine.Instance) { i.(*fake.Instance).Die(engine.ErrEngineDied.With("killed")) },
			Left: func() []string {
				var left []string
				list, _ := os.ReadDir(dir)
				for _, e := range list {
					left = append(left, e.Name())
				}
				return left
			},
		}
	})
}
