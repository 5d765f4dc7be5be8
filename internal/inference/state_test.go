package inference

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func replicaIn(rev int, s ReplicaState, code string) Replica {
	return Replica{ID: fmt.Sprintf("r%d", rev), Revision: rev, State: s, Cause: because(code)}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		d        Deployment
		replicas []Replica
		status   Status
		code     string
	}{
		{"wanted, nothing yet", Deployment{Desired: DesiredRunning, Revision: 1}, nil, Pending, "operator_start"},
		{"no room", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RPending, "host_memory")}, Pending, "host_memory"},
		{"files", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RFitting, "placing")}, Starting, "placing"},
		{"process", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RStarting, "launching")}, Starting, "launching"},
		{"weights", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RLoading, "loading")}, Starting, "loading"},
		{"serves", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RReady, "ready")}, Ready, "ready"},
		{"failed", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RFailed, "crash_loop")}, Failed, "crash_loop"},
		{"restarts", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RStopped, "server_restart")}, Pending, "server_restart"},
		{"new revision not begun", Deployment{Desired: DesiredRunning, Revision: 2}, []Replica{replicaIn(1, RReady, "ready")}, Updating, "spec_changed"},
		{"new revision loads", Deployment{Desired: DesiredRunning, Revision: 2}, []Replica{replicaIn(2, RLoading, "loading"), replicaIn(1, RReady, "ready")}, Updating, "loading"},
		{"new revision fails", Deployment{Desired: DesiredRunning, Revision: 2}, []Replica{replicaIn(2, RFailed, "start_exit"), replicaIn(1, RReady, "ready")}, Degraded, "start_exit"},
		{"new revision serves", Deployment{Desired: DesiredRunning, Revision: 2}, []Replica{replicaIn(2, RReady, "ready"), replicaIn(1, RDraining, "replaced")}, Ready, "ready"},
		{"old one drains, new one waits", Deployment{Desired: DesiredRunning, Revision: 2}, []Replica{replicaIn(1, RDraining, "operator_restart")}, Pending, "operator_start"},
		{"stopping", Deployment{Desired: DesiredStopped, Revision: 1}, []Replica{replicaIn(1, RDraining, "operator_stop")}, Stopped, "draining"},
		{"stopped", Deployment{Desired: DesiredStopped, Revision: 1}, []Replica{replicaIn(1, RStopped, "operator_stop")}, Stopped, "operator_stop"},
		{"stopped after a failure", Deployment{Desired: DesiredStopped, Revision: 1}, []Replica{replicaIn(1, RFailed, "start_exit")}, Stopped, "operator_stop"},
		{"deleting", Deployment{Desired: DesiredStopped, Deleting: true, Revision: 1}, []Replica{replicaIn(1, RDraining, "operator_delete")}, Deleting, "operator_delete"},
	} {
		status, why := statusOf(c.d, c.replicas)
		require.Equal(t, c.status, status, c.name)
		require.Equal(t, c.code, why.Code, c.name)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	again := replicaIn(1, RFailed, "start_exit")
	again.RetryAt = t0
	for _, c := range []struct {
		name     string
		d        Deployment
		replicas []Replica
		want     string
	}{
		{"first replica", Deployment{Desired: DesiredRunning, Revision: 1}, nil, "create"},
		{"keep going", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RReady, "ready")}, "run r1"},
		{"waits for memory", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RPending, "host_memory")}, "run r1"},
		{"tries again", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{again}, "run r1"},
		{"failed for good", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RFailed, "crash_loop")}, ""},
		{"starts after the server's restart", Deployment{Desired: DesiredRunning, Revision: 1}, []Replica{replicaIn(1, RStopped, "server_stop")}, "run r1"},
		{"surge: the old one serves", Deployment{Desired: DesiredRunning, Revision: 2, Surge: true}, []Replica{replicaIn(1, RReady, "ready")}, "run r1, create"},
		{"surge: the new one loads", Deployment{Desired: DesiredRunning, Revision: 2, Surge: true}, []Replica{replicaIn(2, RLoading, "loading"), replicaIn(1, RReady, "ready")}, "run r1, run r2"},
		{"surge: the new one is there", Deployment{Desired: DesiredRunning, Revision: 2, Surge: true}, []Replica{replicaIn(2, RReady, "ready"), replicaIn(1, RReady, "ready")}, "end r1 replaced, run r2"},
		{"surge: no room for two", Deployment{Desired: DesiredRunning, Revision: 2, Surge: true}, []Replica{replicaIn(2, RPending, "host_memory"), replicaIn(1, RReady, "ready")}, "no_surge, run r2"},
		{"surge: the old one never got ready", Deployment{Desired: DesiredRunning, Revision: 2, Surge: true}, []Replica{replicaIn(1, RLoading, "loading")}, "end r1 replaced, create"},
		{"recreate: first the old one ends", Deployment{Desired: DesiredRunning, Revision: 2}, []Replica{replicaIn(1, RReady, "ready")}, "end r1 operator_restart"},
		{"recreate: then the new one comes", Deployment{Desired: DesiredRunning, Revision: 2}, []Replica{replicaIn(1, RStopped, "operator_restart")}, "create"},
		{"stop", Deployment{Desired: DesiredStopped, Revision: 1}, []Replica{replicaIn(1, RReady, "ready")}, "end r1 operator_stop"},
		{"stopped", Deployment{Desired: DesiredStopped, Revision: 1}, []Replica{replicaIn(1, RStopped, "operator_stop")}, ""},
		{"delete: both end", Deployment{Desired: DesiredStopped, Deleting: true, Revision: 2}, []Replica{replicaIn(2, RLoading, "loading"), replicaIn(1, RReady, "ready")}, "end r1 operator_delete, end r2 operator_delete"},
		{"delete: all ended", Deployment{Desired: DesiredStopped, Deleting: true, Revision: 1}, []Replica{replicaIn(1, RStopped, "operator_delete")}, "forget"},
		{"delete: never began", Deployment{Desired: DesiredStopped, Deleting: true, Revision: 1}, nil, "forget"},
	} {
		var got []string
		for _, s := range plan(c.d, c.replicas) {
			got = append(got, strings.TrimSpace(strings.Join([]string{string(s.do), s.replica, map[bool]string{true: s.why.Code}[s.do == doEnd]}, " ")))
		}
		require.Equal(t, c.want, strings.Join(got, ", "), c.name)
	}
}

// TestReplicaWalk takes random steps, right and wrong ones, and checks after each what must always hold.
func TestReplicaWalk(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	now := t0
	r := newReplica("rep_walk", Deployment{ID: "dep", Revision: 1, Spec: Spec{Engine: "fake"}}, now)
	failures := []cause{because("start_exit"), because("oom_killed"), because("load_stalled"), because("smoke_failed"), because("model_corrupt"), because("internal")}
	seen := map[ReplicaState]bool{}
	for step := range 20_000 {
		was := r
		now = now.Add(time.Duration(rnd.IntN(120)) * time.Second)
		var err error
		switch rnd.IntN(8) {
		case 0:
			if r.State != RFailed || !r.RetryAt.IsZero() { // what the loop does
				err = r.fit(now)
			}
		case 1:
			err = r.wait(because("host_memory"), now)
		case 2:
			err = r.begin(&engine.Need{HostBytes: 1}, "nonce", now)
		case 3:
			err = r.load(now)
		case 4:
			err = r.serve(because("ready"), 7, now)
		case 5:
			err = r.drain(because("operator_stop"), now)
		case 6:
			err = r.stop(because("operator_stop"), now)
		case 7:
			err = r.fail(failures[rnd.IntN(len(failures))], now)
		}
		if r.State == RFailed && r.RetryAt.IsZero() && rnd.IntN(3) == 0 { // a person changes something: a new replica
			r = newReplica("rep_walk", Deployment{ID: "dep", Revision: r.Revision + 1, Spec: r.Spec}, now)
			continue
		}
		seen[r.State] = true
		where := fmt.Sprintf("step %d: %s -> %s", step, was.State, r.State)
		if err != nil {
			require.ErrorIs(t, err, errEdge, where)
			require.Equal(t, was.State, r.State, where)
			continue
		}
		if r.State != was.State {
			require.NotEmpty(t, r.Cause.Code, where)
			require.Equal(t, now, r.Cause.At, where)
			require.Contains(t, edges[was.State], r.State, where)
		}
		require.Contains(t, []int{was.Attempt, was.Attempt + 1}, r.Attempt, where)
		require.Equal(t, r.State == RStarting && was.State != RStarting, r.Attempt == was.Attempt+1, where+": a start is a new attempt, and nothing else is")
		require.Equal(t, r.State.running(), r.Ref.Nonce != "", where+": a reference exists while a process may")
		if r.State.running() {
			require.Equal(t, r.Attempt, r.Ref.Attempt, where)
		}
		if !r.RetryAt.IsZero() {
			require.Equal(t, RFailed, r.State, where)
			require.False(t, r.Cause.lasting(), where)
			require.LessOrEqual(t, r.RetryAt.Sub(r.UpdatedAt), backoffLast, where)
			require.GreaterOrEqual(t, r.RetryAt.Sub(r.UpdatedAt), backoffFirst, where)
			require.Less(t, len(r.Crashes), crashBudget, where)
		}
	}
	require.Len(t, seen, len(edges), "the walk comes everywhere")
}

func TestBackoffAndCrashLoop(t *testing.T) {
	t.Parallel()
	now := t0
	r := newReplica("rep", Deployment{Revision: 1}, now)
	var waits []time.Duration
	for range crashBudget {
		require.NoError(t, r.fit(now))
		require.NoError(t, r.begin(&engine.Need{}, "n", now))
		require.NoError(t, r.fail(because("start_exit", "detail", "exit status 5"), now))
		if !r.RetryAt.IsZero() {
			waits = append(waits, r.RetryAt.Sub(now))
			now = r.RetryAt
		}
	}
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}, waits)
	require.Equal(t, "crash_loop", r.Cause.Code)
	require.Contains(t, r.Cause.view().Message, "exit status 5", "the last failure is told")

	up := newReplica("rep", Deployment{Revision: 1, Spec: Spec{ProviderID: "prv"}}, now)
	for range 20 { // an upstream is tried for ever, at last every five minutes
		require.NoError(t, up.fit(now))
		require.NoError(t, up.fail(because("upstream_unreachable"), now))
		require.False(t, up.RetryAt.IsZero())
	}
	require.Equal(t, backoffLast, up.RetryAt.Sub(now))

	calm := newReplica("rep", Deployment{Revision: 1}, now)
	for range 30 { // one crash in ten minutes is no loop, and the wait begins anew each time
		require.NoError(t, calm.fit(now))
		require.NoError(t, calm.begin(&engine.Need{}, "n", now))
		require.NoError(t, calm.serve(because("ready"), 1, now))
		now = now.Add(10 * time.Minute)
		require.NoError(t, calm.fail(because("oom_killed"), now))
		require.Equal(t, backoffFirst, calm.RetryAt.Sub(now))
	}
}

func TestReasonsHaveWords(t *testing.T) {
	t.Parallel()
	for code, text := range reasonTexts {
		require.NotEmpty(t, text.en.message, code)
		require.NotEmpty(t, text.zh.message, code)
		require.Equal(t, text.en.hint == "", text.zh.hint == "", code)
		bare := because(code).view()
		for _, lang := range []string{"en", "zh"} {
			r := bare.In(lang)
			require.NotContains(t, r.Message+r.Hint, "{", code)
		}
		for _, name := range placeholders(text.en.message + text.en.hint) {
			require.Contains(t, placeholders(text.zh.message+text.zh.hint), name, code)
		}
	}
	r := because("host_memory", "need", "3.00 GiB", "have", "1.00 GiB", "max_context", "1024").view()
	require.Equal(t, "It needs 3.00 GiB of memory, 1.00 GiB are free", r.Message)
	require.Equal(t, "需要 3.00 GiB 内存，可用 1.00 GiB", r.In("zh").Message)
	require.Contains(t, r.Hint, "1024")
	require.Equal(t, "The engine process ended", because("start_exit").view().Message, "an absent argument leaves no trace")
	require.NotContains(t, because("host_memory", "max_context", "0").view().Hint, "at most 0")
}

func placeholders(s string) []string {
	var names []string
	for part := range strings.SplitSeq(s, "{") {
		if name, _, ok := strings.Cut(part, "}"); ok {
			names = append(names, name)
		}
	}
	return names
}

func TestMaxContext(t *testing.T) {
	t.Parallel()
	need := engine.Need{HostBytes: 1000 + 10*4096, PerToken: 10, Context: 4096, MaxContext: 8192}
	require.Equal(t, 0, maxContext(need, 999))
	require.Equal(t, 0, maxContext(need, 1000+10*255))
	require.Equal(t, 256, maxContext(need, 1000+10*300))
	require.Equal(t, 4096, maxContext(need, need.HostBytes))
	require.Equal(t, 8192, maxContext(need, 1<<40))
}

func TestHostReservations(t *testing.T) {
	t.Parallel()
	total, free := int64(1000), int64(900)
	h := &host{keep: 100, measure: func() (int64, int64) { return total, free }, reserved: map[string]reservation{}}
	_, ok := h.reserve("a", 500)
	require.True(t, ok)
	have, ok := h.reserve("b", 400)
	require.False(t, ok, "what is promised is not free, touched or not")
	require.Equal(t, int64(300), have)
	h.note("a", 500)
	free = 400 // the engine holds its memory now
	require.Equal(t, int64(300), h.free(""))
	h.note("a", 100)
	free = 800
	require.Equal(t, int64(300), h.free(""))
	require.Equal(t, int64(700), h.free("a"), "its own promise is no obstacle")
	h.release("a")
	_, ok = h.reserve("b", 700)
	require.True(t, ok)

	limited := &host{limit: 600, measure: func() (int64, int64) { return total, 1000 }, reserved: map[string]reservation{}}
	_, ok = limited.reserve("a", 400)
	require.True(t, ok)
	_, ok = limited.reserve("b", 300)
	require.False(t, ok, "the set limit counts promises")
	require.Equal(t, int64(600), limited.total())
}

// TestHostNeverOversells takes random reservations against a machine whose free memory moves.
func TestHostNeverOversells(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 7))
	used := map[string]int64{}
	promised := map[string]int64{}
	const total = 10_000
	sum := func(m map[string]int64) (n int64) {
		for _, v := range m {
			n += v
		}
		return n
	}
	h := &host{keep: 500, measure: func() (int64, int64) { return total, total - sum(used) }, reserved: map[string]reservation{}}
	for range 5000 {
		name := string(rune('a' + rnd.IntN(20)))
		switch rnd.IntN(3) {
		case 0:
			if _, held := promised[name]; held {
				continue
			}
			n := rnd.Int64N(4000)
			if _, ok := h.reserve(name, n); ok {
				promised[name] = n
			}
		case 1:
			if n := promised[name]; n > 0 {
				used[name] = rnd.Int64N(n + 1)
				h.note(name, used[name])
			}
		case 2:
			h.release(name)
			delete(promised, name)
			delete(used, name)
		}
		require.LessOrEqual(t, sum(promised), int64(total-500))
	}
}

func TestMeasureMemoryOfThisMachine(t *testing.T) {
	t.Parallel()
	total, free := measureMemory()
	require.Positive(t, total)
	require.Positive(t, free)
	require.LessOrEqual(t, free, total)
	require.Equal(t, int64(2048), meminfo("MemTotal:  5 kB\nMemAvailable:   2 kB\n", "MemAvailable:"))
}
