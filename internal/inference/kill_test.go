package inference

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/native"
	"maas/internal/inference/engine/native/worker"
	"maas/internal/llm/modelgen"
	"maas/internal/model"
	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
)

// TestMain makes the test binary an engine process when started with "worker", and with "server DATA" a server that deploys one model, says so and waits to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := worker.Main(ctx, os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	if len(os.Args) > 2 && os.Args[1] == "server" {
		fmt.Fprintln(os.Stderr, server(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// realService is a service with the native engine over a folder: database, model, run folder.
func realService(ctx context.Context, data string, d *db.DB) (*Service, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	own, err := native.New(native.Options{Config: native.Config{Threads: 1, KVType: "f16"}, Binary: self, Args: []string{"worker"}, Run: filepath.Join(data, "run"), Orphan: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	models := &shelf{dir: filepath.Join(data, "model"), versions: map[string]model.Version{"ver_1": {ID: "ver_1", ModelID: "mod_1", Name: "toy", Number: 1, Status: model.Ready, Format: "gguf", Architecture: "llama"}}}
	s, err := New(Deps{DB: d, Log: slog.New(slog.DiscardHandler), Now: clock.Now, Metrics: prometheus.NewRegistry(), Models: models, Engines: []engine.Driver{own}, Config: Defaults()})
	if err == nil {
		s.pace.start, s.pace.load = 10*time.Millisecond, 100*time.Millisecond
	}
	_ = ctx
	return s, err
}

func server(data string) error {
	ctx := context.Background()
	d, err := db.Open(ctx, db.Config{URL: "sqlite:" + filepath.Join(data, "maas.db"), Sync: "normal"})
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := d.Migrate(ctx, t.Service, t.FS); err != nil {
			return err
		}
	}
	s, err := realService(ctx, data, d)
	if err != nil {
		return err
	}
	go func() { _ = s.Run(ctx) }()
	mine := auth.AsSystem(ctx, "ten_a")
	if _, err := s.Deploy(mine, NewDeployment{Name: "toy", Model: "toy", Context: 8192}); err != nil {
		return err
	}
	for {
		v, err := s.Deployment(mine, "toy")
		if err != nil {
			return err
		}
		if v.Status == Ready {
			fmt.Println(v.Replicas[0].PID)
			select {}
		}
		wait(ctx, 10*time.Millisecond)
	}
}

func dataFolder(t *testing.T) string {
	t.Helper()
	data, err := os.MkdirTemp("", "k") //nolint:usetesting // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	b, err := modelgen.GGUF(modelgen.Spec{Ctx: 16384, Dim: 128, Layers: 3})
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(data, "model"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(data, "model", "model.gguf"), b, 0o600))
	return data
}

func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ") && !strings.Contains(string(b), ") X ")
}

// runReal runs a service over a data folder until the test ends.
func runReal(t *testing.T, data string, d *db.DB) *rig {
	t.Helper()
	s, err := realService(t.Context(), data, d)
	require.NoError(t, err)
	r := &rig{Service: s, dir: data, db: d}
	return r.run(t)
}

// ask sends a completion to an attempt's endpoint and returns the body.
func ask(ctx context.Context, ep engine.Endpoint, body map[string]any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, ep.Network, ep.Addr)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ep.Host+ep.BasePath+"/completions", bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return c.Do(req)
}

func answers(t *testing.T, ep engine.Endpoint) {
	t.Helper()
	resp, err := ask(t.Context(), ep, map[string]any{"model": "toy", "prompt": "Hi", "max_tokens": 3})
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode, string(b))
}

// TestKillTheEngine kills the child while it answers: the request ends with an error, the reason is told, the next request is answered by a new child.
func TestKillTheEngine(t *testing.T) {
	t.Parallel()
	r := runReal(t, dataFolder(t), dbtest.Open(t, tables...))
	_, err := r.Deploy(as(t, "ten_a"), NewDeployment{Name: "toy", Model: "toy", Context: 8192})
	require.NoError(t, err)
	v := r.status(t, "toy", Ready)
	require.Positive(t, v.MeasuredBytes)
	require.Positive(t, v.Replicas[0].PID)
	a := r.pick(t, "toy")
	answers(t, a.Endpoint)
	resp, err := ask(t.Context(), a.Endpoint, map[string]any{"model": "toy", "prompt": "Hi", "max_tokens": 8000, "stream": true, "ignore_eos": true})
	require.NoError(t, err)
	_, err = resp.Body.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(v.Replicas[0].PID, syscall.SIGKILL))
	rest, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	require.True(t, err != nil || !strings.Contains(string(rest), "[DONE]"), "a broken answer does not look whole")
	a.Done(Outcome{Class: Broken})
	v = r.until(t, "toy", "told why", func(v DeploymentView) bool { return v.Status == Failed })
	require.Equal(t, "oom_killed", v.Reason.Code)
	begin := time.Now()
	v = r.status(t, "toy", Ready)
	t.Logf("serving again %d ms after the failure was seen, of which 1,000 are the first back-off", time.Since(begin).Milliseconds())
	require.Equal(t, 2, v.Replicas[0].Attempt)
	again := r.pick(t, "toy")
	answers(t, again.Endpoint)
	again.Done(Outcome{Class: OK})
	pid := v.Replicas[0].PID
	r.stop()
	require.False(t, running(pid), "the server takes its engines along")
	left, err := os.ReadDir(filepath.Join(r.dir, "run"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestKillTheServer kills the server: its engine goes on, the next server takes it over and nothing is loaded again.
func TestKillTheServer(t *testing.T) {
	t.Parallel()
	data := dataFolder(t)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "server", data)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	var pid int
	_, err = fmt.Sscan(line, &pid)
	require.NoError(t, err)
	require.True(t, running(pid))

	d := dbtest.OpenURL(t, "sqlite:"+filepath.Join(data, "maas.db"))
	r := runReal(t, data, d)
	a := r.pick(t, "toy")
	answers(t, a.Endpoint)
	v, err := r.Deployment(as(t, "ten_a"), "toy")
	require.NoError(t, err)
	require.Equal(t, pid, v.Replicas[0].PID, "the same process")
	require.Equal(t, 1, v.Replicas[0].Attempt)
	a.Done(Outcome{Class: OK})
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	v = r.until(t, "toy", "a new process", func(v DeploymentView) bool { return v.Status == Ready && v.Replicas[0].Attempt == 2 })
	again := r.pick(t, "toy")
	answers(t, again.Endpoint)
	again.Done(Outcome{Class: OK})
	require.NotEqual(t, pid, v.Replicas[0].PID)
}
