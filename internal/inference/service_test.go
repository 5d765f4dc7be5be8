package inference

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/fake"
	"maas/internal/inference/engine/openai"
	"maas/internal/model"
	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event"
	"maas/internal/platform/fault"
	"maas/internal/platform/job"
	"maas/internal/platform/object"
	_ "maas/internal/platform/object/file" // the scheme file:
	"maas/internal/platform/seal"
)

var tables = []dbtest.Source{{Service: "job", FS: job.Migrations}, {Service: "event", FS: event.Migrations}, {Service: "seal", FS: seal.Migrations}, {Service: "inference", FS: Migrations}}

// shelf is a registry of a few versions on disk.
type shelf struct {
	mu       sync.Mutex // guards versions
	versions map[string]model.Version
	dir      string
}

func (s *shelf) Resolve(_ context.Context, ref string) (model.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.versions {
		if v.ID == ref || v.Name == ref {
			return v, nil
		}
	}
	return model.Version{}, model.ErrNotFound.With("there is no model %q", ref)
}

func (s *shelf) Materialize(context.Context, string) (model.Dir, error) {
	return model.Dir{Path: s.dir, Files: []model.File{{Path: "model.gguf"}}}, nil
}

func (s *shelf) Open(context.Context, string, string) (model.Reader, error) {
	return nil, model.ErrFileNotFound
}

func (s *shelf) set(v model.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[v.ID] = v
}

// rig is a service with a scripted engine.
type rig struct {
	*Service
	engine *fake.Driver
	models *shelf
	dir    string
	db     *db.DB
	stop   func()
}

var quick = pace{place: 20 * time.Millisecond, start: 5 * time.Millisecond, load: 20 * time.Millisecond, health: 20 * time.Millisecond, silent: 200 * time.Millisecond, stop: time.Second}

// newRig makes a service that does not run yet.
func newRig(t *testing.T, d *db.DB, dir string, script fake.Script) *rig {
	t.Helper()
	objects, err := object.Open(t.Context(), object.Config{URL: "file:" + filepath.Join(dir, "objects")})
	require.NoError(t, err)
	ring, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + filepath.Join(dir, "keys")}, d)
	require.NoError(t, err)
	r := &rig{engine: fake.New("fake", dir, script), dir: dir, db: d, models: &shelf{versions: map[string]model.Version{}, dir: dir}}
	r.models.set(model.Version{ID: "ver_1", ModelID: "mod_1", Name: "toy", Number: 3, Status: model.Ready, Format: "gguf", Architecture: "llama", ContextLength: 4096})
	c := Defaults()
	c.Drain, c.Stall = 2*time.Second, time.Second
	r.Service, err = New(Deps{
		DB: d, Log: slog.New(slog.DiscardHandler), Now: clock.Now, Metrics: prometheus.NewRegistry(), Objects: objects, Seal: ring, Models: r.models,
		Engines: []engine.Driver{r.engine, openai.New(c.Upstream.Policy())}, Config: c,
	})
	require.NoError(t, err)
	r.pace = quick
	r.host.measure = func() (int64, int64) { return 1 << 34, 1 << 33 }
	return r
}

// run starts the loop; stop ends it and waits.
func (r *rig) run(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(r.stop)
	return r
}

func start(t *testing.T, d *db.DB, script fake.Script) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "i") //nolint:usetesting // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return newRig(t, d, dir, script).run(t)
}

func as(t *testing.T, tenant string) context.Context {
	t.Helper()
	return auth.With(t.Context(), auth.Principal{Kind: auth.User, TenantID: tenant, UserID: "usr_1"})
}

// until waits until a deployment looks as wanted.
func (r *rig) until(t *testing.T, name string, what string, f func(v DeploymentView) bool) DeploymentView {
	t.Helper()
	ctx := as(t, "ten_a")
	wake := make(<-chan struct{})
	if v, err := r.Deployment(ctx, name); err == nil {
		w, stop := r.watch.add(v.ID)
		defer stop()
		wake = w
	}
	deadline := time.After(time.Minute)
	for {
		v, err := r.Deployment(ctx, name)
		if err == nil && f(v) {
			return v
		}
		select {
		case <-wake:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%s: not %s within a minute: %v %+v %+v", name, what, err, v, v.Reason)
		}
	}
}

func (r *rig) status(t *testing.T, name string, s Status) DeploymentView {
	t.Helper()
	return r.until(t, name, string(s), func(v DeploymentView) bool { return v.Status == s })
}

// pick waits for a route and takes an endpoint.
func (r *rig) pick(t *testing.T, name string) Attempt {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		target, err := r.router.Resolve("ten_a", name)
		if err == nil {
			if a, ok := target.Pick(&Tried{}); ok {
				return a
			}
		}
		require.True(t, time.Now().Before(deadline), "no route to %s: %v", name, err)
		wait(t.Context(), 5*time.Millisecond)
	}
}

func (r *rig) codes(t *testing.T, name string) string {
	t.Helper()
	l, err := r.Transitions(as(t, "ten_a"), name, "", 200)
	require.NoError(t, err)
	var codes []string
	for _, x := range slices.Backward(l.Items) {

		require.NotNil(t, x.Reason)
		require.NotEmpty(t, x.Reason.Message)
		if x.Replica != "" {
			codes = append(codes, x.To+":"+x.Reason.Code)
		}
	}
	return strings.Join(codes, " ")
}

func TestLifeOfADeployment(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Helper()
		r := start(t, d, fake.Script{Load: 200 * time.Millisecond, Need: 64 << 20, PerToken: 1 << 10})
		ctx := as(t, "ten_a")
		v, err := r.Deploy(ctx, NewDeployment{Name: "toy", Model: "toy", Config: engine.Defaults{MaxTokens: 7}})
		require.NoError(t, err)
		require.Equal(t, Pending, v.Status)
		require.Equal(t, "fake", v.Engine)
		require.Contains(t, v.EngineReason, "llama")
		require.Equal(t, &ModelRef{ID: "mod_1", Name: "toy", Version: 3, VersionID: "ver_1"}, v.Model)
		require.Equal(t, 4096, v.Context, "the model's own limit is below the default")
		require.Equal(t, int64(64<<20+4096<<10), v.Need.HostBytes)

		v = r.status(t, "toy", Ready)
		require.Len(t, v.Replicas, 1)
		require.Equal(t, RReady, v.Replicas[0].State)
		require.Equal(t, int64(64<<20), v.MeasuredBytes)
		a := r.pick(t, "toy")
		require.Equal(t, v.Replicas[0].ID, a.Replica)
		a.Done(Outcome{Class: OK, Stream: true, TTFT: 20 * time.Millisecond, Duration: time.Second, PromptTokens: 5, CompletionTokens: 9})
		require.Equal(t, "fitting:placing starting:launching loading:loading ready:ready", strings.Join(strings.Fields(r.codes(t, "toy"))[1:], " "))

		_, err = r.Deployment(as(t, "ten_b"), v.ID)
		require.ErrorIs(t, err, ErrDeploymentNotFound, "another tenant's")
		_, err = r.router.Resolve("ten_b", "toy")
		require.ErrorIs(t, err, ErrModelNotFound)
		_, err = r.Deploy(ctx, NewDeployment{Name: "toy", Model: "toy"})
		require.ErrorIs(t, err, ErrNameTaken)

		o, err := r.Overview(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(1), o.Requests)
		require.Equal(t, int64(14), o.Tokens)
		require.Equal(t, DeploymentCounts{Ready: 1, Total: 1}, o.Deployments)
		require.Len(t, o.Series, 24)
		require.Equal(t, int64(9), o.Series[23].Completion)

		_, err = r.Stop(ctx, "toy")
		require.NoError(t, err)
		r.until(t, "toy", "stopped", func(v DeploymentView) bool { return v.Status == Stopped && v.Reason.Code == "operator_stop" })
		require.Empty(t, r.engine.Live(), "nothing of it runs")
		target, err := r.router.Resolve("ten_a", "toy")
		require.NoError(t, err)
		_, ok := target.Pick(&Tried{})
		require.False(t, ok)
		require.ErrorIs(t, target.Unready(), ErrNotReady)
		require.Contains(t, fault.From(target.Unready()).Text(), "stopped")

		_, err = r.Start(ctx, "toy")
		require.NoError(t, err)
		r.status(t, "toy", Ready)
		before := r.pick(t, "toy")
		before.Done(Outcome{Class: Aborted})
		_, err = r.Restart(ctx, "toy")
		require.NoError(t, err)
		r.until(t, "toy", "a new replica ready", func(v DeploymentView) bool {
			return v.Status == Ready && len(v.Replicas) == 1 && v.Replicas[0].ID != before.Replica
		})
		require.NoError(t, r.Delete(ctx, "toy"))
		r.gone(t, "toy")
		require.Empty(t, r.engine.Live())
	}, tables...)
}

func (r *rig) gone(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; wait(t.Context(), 10*time.Millisecond) {
		if _, err := r.Deployment(as(t, "ten_a"), name); errors.Is(err, ErrDeploymentNotFound) {
			return
		}
		require.True(t, time.Now().Before(deadline), "%s is still there", name)
	}
}

func TestCrashIsRepaired(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Helper()
		r := start(t, d, fake.Script{})
		_, err := r.Deploy(as(t, "ten_a"), NewDeployment{Name: "toy", Model: "toy"})
		require.NoError(t, err)
		r.status(t, "toy", Ready)
		first := r.pick(t, "toy")
		r.engine.Live()[0].Die(engine.ErrKilled.With("signal killed"))
		first.Done(Outcome{Class: Broken})
		v := r.until(t, "toy", "told why", func(v DeploymentView) bool { return v.Status == Failed })
		require.Equal(t, "oom_killed", v.Reason.Code)
		require.NotEmpty(t, v.Reason.Hint)
		require.False(t, v.Replicas[0].RetryAt.IsZero())
		v = r.status(t, "toy", Ready)
		require.Equal(t, 2, v.Replicas[0].Attempt)
		second := r.pick(t, "toy")
		second.Done(Outcome{Class: OK})
		require.NotEqual(t, first.Endpoint.ID, second.Endpoint.ID)
		l, err := r.Logs(as(t, "ten_a"), "toy", "", 1, 10)
		require.NoError(t, err)
		require.Contains(t, l.Lines, "scripted engine begins", "the log of the attempt that died is kept")
	}, tables...)
}

func TestCrashLoopStopsTrying(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{Load: 40 * time.Millisecond, DieLoading: true})
	_, err := r.Deploy(as(t, "ten_a"), NewDeployment{Name: "toy", Model: "toy"})
	require.NoError(t, err)
	v := r.until(t, "toy", "in a crash loop", func(v DeploymentView) bool { return v.Reason.Code == "crash_loop" })
	require.Equal(t, Failed, v.Status)
	require.Equal(t, crashBudget, v.Replicas[0].Attempt)
	require.Equal(t, crashBudget, r.engine.Starts())
	require.Contains(t, v.Reason.Message, "exit status 5")
	r.engine.Set(fake.Script{})
	_, err = r.Restart(as(t, "ten_a"), "toy")
	require.NoError(t, err)
	r.status(t, "toy", Ready)
}

func TestFailuresHaveReasons(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script fake.Script
		code   string
	}{
		"wrong answer": {fake.Script{Wrong: true}, "smoke_failed"},
		"hangs":        {fake.Script{Hang: true}, "load_stalled"},
		"no start":     {fake.Script{StartErr: engine.ErrMissing.With("no such program")}, "engine_missing"},
		"unknown":      {fake.Script{StartErr: os.ErrPermission}, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, dbtest.Open(t, tables...), c.script)
			_, err := r.Deploy(as(t, "ten_a"), NewDeployment{Name: "toy", Model: "toy"})
			require.NoError(t, err)
			v := r.status(t, "toy", Failed)
			require.Equal(t, c.code, v.Reason.Code)
			require.NotContains(t, v.Reason.Message, "permission denied", "words of internal errors stay inside")
		})
	}
}

func TestBaseModelWithoutChatForm(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{NoChat: true})
	_, err := r.Deploy(as(t, "ten_a"), NewDeployment{Name: "base", Model: "toy"})
	require.NoError(t, err)
	r.status(t, "base", Ready)
}

func TestHangingEngineIsReplaced(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{})
	_, err := r.Deploy(as(t, "ten_a"), NewDeployment{Name: "toy", Model: "toy"})
	require.NoError(t, err)
	r.status(t, "toy", Ready)
	r.engine.Live()[0].Silence(true)
	v := r.status(t, "toy", Failed)
	require.Equal(t, "health_failed", v.Reason.Code)
	r.status(t, "toy", Ready)
	r.engine.Live()[0].Grow(1 << 40)
	v = r.status(t, "toy", Failed)
	require.Equal(t, "memory_over", v.Reason.Code)
}

func TestDrainLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{})
	_, err := r.Deploy(as(t, "ten_a"), NewDeployment{Name: "toy", Model: "toy"})
	require.NoError(t, err)
	r.status(t, "toy", Ready)
	a := r.pick(t, "toy")
	_, err = r.Stop(as(t, "ten_a"), "toy")
	require.NoError(t, err)
	v := r.until(t, "toy", "draining", func(v DeploymentView) bool { return len(v.Replicas) == 1 && v.Replicas[0].State == RDraining })
	require.Equal(t, "draining", v.Reason.Code)
	require.Len(t, r.engine.Live(), 1, "it waits for the request")
	a.Done(Outcome{Class: OK})
	r.until(t, "toy", "stopped", func(v DeploymentView) bool { return v.Replicas[0].State == RStopped })
	require.Empty(t, r.engine.Live())
}

func TestFit(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{Need: 100 << 20, PerToken: 1 << 20, MaxContext: 4096})
	ctx := as(t, "ten_a")
	r.host.mu.Lock()
	r.host.measure = func() (int64, int64) { return 8 << 30, 1<<30 + r.host.keep }
	r.host.mu.Unlock()
	a, err := r.Fit(ctx, FitQuery{Model: "toy", Context: 4096, Concurrency: 1})
	require.NoError(t, err)
	require.False(t, a.Fits)
	require.Equal(t, "host_memory", a.Reason.Code)
	require.Equal(t, 768, a.MaxContext, "924 tokens are left: three steps of 256")
	require.Equal(t, int64(1<<30), a.HaveBytes)
	a, err = r.Fit(ctx, FitQuery{Model: "toy", Context: a.MaxContext, Concurrency: 1})
	require.NoError(t, err)
	require.True(t, a.Fits)

	_, err = r.Deploy(ctx, NewDeployment{Name: "large", Model: "toy", Context: 4096})
	require.NoError(t, err, "it could fit this machine: it waits")
	v := r.until(t, "large", "waiting for memory", func(v DeploymentView) bool { return v.Reason.Code == "host_memory" })
	require.Equal(t, Pending, v.Status)
	require.Contains(t, v.Reason.Hint, "768")
	require.Empty(t, r.engine.Live())
	free := r.host.keep + 6<<30
	r.host.mu.Lock()
	r.host.measure = func() (int64, int64) { return 8 << 30, free }
	r.host.mu.Unlock()
	r.status(t, "large", Ready)

	r.host.mu.Lock()
	r.host.measure = func() (int64, int64) { return 2 << 30, 1 << 30 }
	r.host.mu.Unlock()
	_, err = r.Deploy(ctx, NewDeployment{Name: "never", Model: "toy", Context: 4096})
	require.ErrorIs(t, err, ErrFitRefused)
	require.Contains(t, fault.From(err).Text(), "in all")
	_, err = r.Deploy(ctx, NewDeployment{Name: "long", Model: "toy", Context: 5000})
	require.ErrorIs(t, err, ErrSpec, "above the model's own limit")
	_, err = r.Deploy(ctx, NewDeployment{Name: "app/x", Model: "toy"})
	require.ErrorIs(t, err, ErrSpec)
	_, err = r.Deploy(ctx, NewDeployment{Name: "X y", Provider: "p", Model: "m"})
	require.Len(t, fault.From(err).Fields, 2, "all that is wrong is told at once")
	_, err = r.Fit(ctx, FitQuery{Model: "missing"})
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

func TestUpdateReplacesWhileServing(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{Load: 100 * time.Millisecond, Need: 1 << 30})
	ctx := as(t, "ten_a")
	_, err := r.Deploy(ctx, NewDeployment{Name: "toy", Model: "toy"})
	require.NoError(t, err)
	r.status(t, "toy", Ready)
	first := r.pick(t, "toy")
	first.Done(Outcome{Class: OK})

	heat := 0.5
	v, err := r.Update(ctx, "toy", Patch{Config: &engine.Defaults{Temperature: &heat}}, nil)
	require.NoError(t, err)
	require.Equal(t, Ready, v.Status, "sampling defaults need no new process")
	target, err := r.router.Resolve("ten_a", "toy")
	require.NoError(t, err)
	for target.Defaults.Temperature == nil {
		wait(ctx, 5*time.Millisecond)
		target, err = r.router.Resolve("ten_a", "toy")
		require.NoError(t, err)
	}

	size := 1024
	_, err = r.Update(ctx, "toy", Patch{Context: &size}, nil)
	require.NoError(t, err)
	r.status(t, "toy", Updating)
	during := r.pick(t, "toy")
	require.Equal(t, first.Endpoint.ID, during.Endpoint.ID, "the old one serves")
	during.Done(Outcome{Class: OK})
	v = r.until(t, "toy", "replaced", func(v DeploymentView) bool { return v.Status == Ready && len(v.Replicas) == 1 })
	require.Equal(t, 1024, v.Context)
	second := r.pick(t, "toy")
	second.Done(Outcome{Class: OK})
	require.NotEqual(t, first.Replica, second.Replica)

	r.host.mu.Lock()
	r.host.measure = func() (int64, int64) { return 8 << 30, r.host.keep } // room for no second one
	r.host.mu.Unlock()
	size = 512
	_, err = r.Update(ctx, "toy", Patch{Context: &size}, nil)
	require.NoError(t, err)
	r.until(t, "toy", "waiting for the old one's memory", func(v DeploymentView) bool { return v.Status == Pending && v.Reason.Code == "host_memory" })
	r.host.mu.Lock()
	r.host.measure = func() (int64, int64) { return 8 << 30, 4 << 30 }
	r.host.mu.Unlock()
	r.until(t, "toy", "recreated", func(v DeploymentView) bool { return v.Status == Ready && v.Context == 512 })
	l, err := r.Transitions(ctx, "toy", "", 200)
	require.NoError(t, err)
	var said bool
	for _, x := range l.Items {
		said = said || x.Reason.Code == "no_surge"
	}
	require.True(t, said, "that the old one had to stop first is told")

	_, err = r.Update(ctx, "toy", Patch{Context: &size}, func(rev int64) error { return ErrRevision })
	require.ErrorIs(t, err, ErrRevision)
}

func TestDesiredStateSurvivesARestart(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Helper()
		r := start(t, d, fake.Script{})
		ctx := as(t, "ten_a")
		for _, name := range []string{"on", "off"} {
			_, err := r.Deploy(ctx, NewDeployment{Name: name, Model: "toy"})
			require.NoError(t, err)
			r.status(t, name, Ready)
		}
		_, err := r.Stop(ctx, "off")
		require.NoError(t, err)
		r.until(t, "off", "stopped", func(v DeploymentView) bool { return v.Replicas[0].State == RStopped })
		r.stop()
		require.Empty(t, r.engine.Live(), "a server that is stopped takes its engines along")
		v, err := r.Deployment(ctx, "on")
		require.NoError(t, err)
		require.Equal(t, "server_stop", v.Replicas[0].Reason.Code)

		next := newRig(t, d, r.dir, fake.Script{})
		next.run(t)
		next.status(t, "on", Ready)
		require.Equal(t, Stopped, next.status(t, "off", Stopped).Status)
		require.Len(t, next.engine.Live(), 1)
	}, tables...)
}

func TestSchema(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, dbtest.Source{Service: "inference", FS: Migrations}, ".")
}
