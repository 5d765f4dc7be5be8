package native_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
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

// TestMain makes the test binary its own engine process: the driver starts it with the argument "worker". With "server RUN DIR" it is a server that starts one engine, tells where it is and waits to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "server" {
		os.Exit(serve(os.Args[2], os.Args[3]))
	}
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
	run, err := os.MkdirTemp("", "n") //nolint:usetesting // t.TempDir is too long for a socket
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
		t.Helper()
		d, run := driver(t, 0)
		good := model(t, modelgen.Spec{Ctx: 16384, Dim: 128, Layers: 3}) // an endless answer lasts long enough to be interrupted
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

// serve is the life of a server that gets killed.
func serve(run, dir string) int {
	d, err := native.New(native.Options{Config: native.Config{Threads: 1, KVType: "f16"}, Args: []string{"worker"}, Run: run, Orphan: time.Second})
	if err != nil {
		return 1
	}
	inst, err := d.Start(context.Background(), engine.Launch{Replica: "rep_killed", Attempt: 3, Nonce: "the-nonce", Dir: dir, Files: []string{"model.gguf"}, Format: "gguf", Concurrency: 2}, nil)
	if err != nil {
		return 2
	}
	for inst.Health(context.Background()).State != engine.Ready {
		<-time.After(10 * time.Millisecond)
	}
	if json.NewEncoder(os.Stdout).Encode(inst.Ref()) != nil {
		return 3
	}
	select {}
}

// killedServer starts a server with one engine, kills it with SIGKILL and returns where the engine is.
func killedServer(t *testing.T, run string) engine.Ref {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "server", run, model(t, modelgen.Spec{}).Dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var ref engine.Ref
	require.NoError(t, json.NewDecoder(out).Decode(&ref))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	return ref
}

// alive tells whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ") && !strings.Contains(string(b), ") X ")
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); <-time.After(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), what)
	}
}

func TestEngineOutlivesAKilledServer(t *testing.T) {
	t.Parallel()
	d, run := driver(t, time.Second)
	ref := killedServer(t, run)
	inst, err := d.Attach(t.Context(), ref)
	require.NoError(t, err)
	require.NoError(t, inst.Smoke(t.Context()))
	require.Equal(t, engine.Ready, inst.Health(t.Context()).State)
	<-time.After(1500 * time.Millisecond) // longer than the orphan time: our request keeps it
	require.NoError(t, inst.Smoke(t.Context()))
	require.Equal(t, 2, inst.Endpoint().Slots)
	require.NoError(t, inst.Stop(t.Context(), 5*time.Second))
	require.False(t, alive(ref.PID))
	require.Empty(t, left(run))
}

func TestOrphanLeaves(t *testing.T) {
	t.Parallel()
	_, run := driver(t, time.Second)
	ref := killedServer(t, run)
	eventually(t, "nobody came: the engine leaves after its orphan time", func() bool { return !alive(ref.PID) })
}

func TestForeignProcessIsLeftAlone(t *testing.T) {
	t.Parallel()
	d, run := driver(t, 30*time.Second)
	ref := killedServer(t, run)
	other := ref
	other.Started++ // the same process id, another process
	_, err := d.Attach(t.Context(), other)
	require.ErrorIs(t, err, engine.ErrGone)
	require.True(t, alive(ref.PID), "not ours by its start time: not killed")
	stolen := ref
	stolen.Nonce = "another" // ours by id and start time, and yet it does not take us
	_, err = d.Attach(t.Context(), stolen)
	require.ErrorIs(t, err, engine.ErrGone)
	require.False(t, alive(ref.PID), "killed before anything else may start")
}

func TestDeathOfATakenOverEngine(t *testing.T) {
	t.Parallel()
	d, run := driver(t, time.Second)
	inst, err := d.Attach(t.Context(), killedServer(t, run))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(inst.Ref().PID, syscall.SIGKILL))
	select {
	case <-inst.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the end was not noticed")
	}
	require.ErrorIs(t, inst.Health(t.Context()).Err, engine.ErrEngineDied)
	require.NoError(t, inst.Stop(t.Context(), time.Second))
}

func TestNeedIsNearWhatIsUsed(t *testing.T) {
	t.Parallel()
	d, _ := driver(t, 0)
	l := model(t, modelgen.Spec{Layers: 4, Dim: 512, Heads: 8, FF: 2048, Ctx: 1024})
	l.Replica, l.Attempt, l.Nonce, l.Concurrency = "rep_need", 1, "n", 2
	needs, err := d.Fit(t.Context(), l)
	require.NoError(t, err)
	l.HostBytes = needs[0].HostBytes
	inst, err := d.Start(t.Context(), l, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = inst.Stop(context.Background(), time.Second) })
	eventually(t, "ready", func() bool { return inst.Health(t.Context()).State == engine.Ready })
	require.NoError(t, inst.Smoke(t.Context()))
	use, err := inst.Measure(t.Context())
	require.NoError(t, err)
	t.Logf("need %d MiB %v, used %d MiB", needs[0].HostBytes>>20, needs[0].Parts, use.HostBytes>>20)
	require.Less(t, use.HostBytes, needs[0].HostBytes*12/10, "what is promised holds")
}
