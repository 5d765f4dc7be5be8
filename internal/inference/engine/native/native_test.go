package native_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/enginetest"
	"maas/internal/inference/engine/native"
	"maas/internal/inference/engine/native/worker"
	"maas/internal/llm/modelgen"
)

// TestMain makes the test binary its own engine process: the driver starts it with the argument "worker".
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := worker.Main(ctx, os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func driver(t *testing.T, orphan time.Duration) (*native.Driver, string) {
	t.Helper()
	run, err := os.MkdirTemp("", "n") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	return open(t, run, orphan), run
}

func open(t *testing.T, run string, orphan time.Duration) *native.Driver {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	d, err := native.New(native.Options{Config: native.Config{Threads: 1, KVType: "f16"}, Binary: self, Args: []string{"worker"}, Run: run, Orphan: orphan})
	require.NoError(t, err)
	return d
}

// model writes a generated model into a folder of its own.
func model(t *testing.T, s modelgen.Spec) engine.Launch {
	t.Helper()
	dir := t.TempDir()
	b, err := modelgen.GGUF(s)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "model.gguf"), b, 0o600))
	return engine.Launch{Dir: dir, Files: []string{"model.gguf"}, Format: "gguf", Concurrency: 8}
}

func left(run string) []string {
	var names []string
	list, _ := os.ReadDir(run)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		d, run := driver(t, 0)
		good := model(t, modelgen.Spec{Ctx: 2048})
		bad := model(t, modelgen.Spec{})
		b, err := os.ReadFile(filepath.Join(bad.Dir, "model.gguf"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(bad.Dir, "model.gguf"), b[:len(b)/2], 0o600))
		return enginetest.Subject{
			Driver: d, Launch: good, Corrupt: &bad, Within: time.Minute,
			Kill: func(t *testing.T, i engine.Instance) { require.NoError(t, syscall.Kill(i.Ref().PID, syscall.SIGKILL)) },
			Left: func() []string { return left(run) },
		}
	})
}
