package native

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/native/worker"
	"maas/internal/llm/arch"
)

// Instance is one child.
type Instance struct {
	d      *Driver
	ref    engine.Ref
	launch engine.RefSpec
	dir    string
	client *engine.Client
	done   chan struct{}
	tell   func(engine.Progress)

	stdin   io.Closer          // our own child: open as long as we want it to live
	release context.CancelFunc // taken over: ends the request that keeps it alive

	mu       sync.Mutex // guards what follows
	offset   int64      // of the notes read so far
	partial  []byte     // of the last line
	notes    int
	progress engine.Progress
	ready    worker.Note // T = ready once it came
	fatal    worker.Note
	proved   bool // /v1/models showed our nonce
	stopping bool
	death    error
}

// Names of files in an instance's folder.
const (
	socketName = "s"
	notesName  = "out"
	logName    = "log"
)

// spawn starts a child.
func (d *Driver) spawn(l engine.Launch, p func(engine.Progress)) (*Instance, error) {
	dir := d.folder(l.Replica, l.Attempt)
	if err := os.RemoveAll(dir); err != nil {
		return nil, engine.ErrUnavailable.With("the work folder cannot be cleared").Wrap(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, engine.ErrUnavailable.With("the work folder cannot be made").Wrap(err)
	}
	line, err := json.Marshal(d.config(l, filepath.Join(dir, socketName)))
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(filepath.Join(dir, notesName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, engine.ErrUnavailable.Wrap(err)
	}
	defer func() { _ = out.Close() }()
	log, err := os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, engine.ErrUnavailable.Wrap(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(d.o.Binary, d.o.Args...) //nolint:gosec,noctx // our own program; it outlives the call that starts it
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, log
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + dir, "TMPDIR=" + dir, "HF_HUB_OFFLINE=1"} // nothing of ours: it may hold secrets
	cmd.SysProcAttr = childAttributes()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, engine.ErrUnavailable.Wrap(err)
	}
	if err := cmd.Start(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, engine.ErrMissing.With("the engine process cannot be started").Wrap(err)
	}
	i := &Instance{d: d, dir: dir, done: make(chan struct{}), tell: p, stdin: stdin, launch: engine.RefSpec{Model: l.Model, Context: l.Context, Concurrency: max(l.Concurrency, 1), Defaults: l.Defaults}}
	i.ref = engine.Ref{
		Driver: "native", Replica: l.Replica, Attempt: l.Attempt, Nonce: l.Nonce, PID: cmd.Process.Pid, Started: startTime(cmd.Process.Pid), Socket: filepath.Join(dir, socketName), Launch: &i.launch,
		At: time.Now().UTC().Truncate(time.Microsecond),
	}
	i.client = engine.NewClient(i.endpoint(), nil)
	go i.reap(cmd)
	if _, err := stdin.Write(append(line, '\n')); err != nil { // it ended already: Health tells why
		return i, nil
	}
	return i, nil
}

// reap waits for the end of our own child and explains it.
func (i *Instance) reap(cmd *exec.Cmd) {
	err := cmd.Wait()
	killGroup(i.ref.PID) // whatever it started goes with it
	i.readNotes()
	i.mu.Lock()
	i.death = i.explain(cmd.ProcessState, err)
	i.mu.Unlock()
	i.client.Close()
	_ = os.Remove(i.ref.Socket)
	close(i.done)
}

// explain turns an exit into the error of a dead instance; the caller holds mu.
func (i *Instance) explain(st *os.ProcessState, err error) error {
	words := i.fatal.Message
	if words == "" {
		words = lastLine(i.tail(4 << 10))
	}
	if i.stopping {
		return engine.ErrGone.With("stopped")
	}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		if ws.Signal() == syscall.SIGKILL {
			return engine.ErrKilled.With("signal %s", ws.Signal()).Wrap(err)
		}
		return engine.ErrEngineDied.With("signal %s%s", ws.Signal(), after(words)).Wrap(err)
	}
	switch code := st.ExitCode(); code {
	case worker.ExitCorrupt:
		if i.fatal.Code == arch.ErrUnsupported.Code {
			return engine.ErrArch.With("%s", words)
		}
		return engine.ErrModelCorrupt.With("%s", words)
	case worker.ExitMemory:
		return engine.ErrNoFit.With("%s", words)
	case worker.ExitAsked:
		return engine.ErrEngineDied.With("it left by itself%s", after(words))
	default:
		return engine.ErrEngineDied.With("exit status %d%s", code, after(words))
	}
}

func after(words string) string {
	if words == "" {
		return ""
	}
	return ": " + words
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := lines[len(lines)-1]
	var entry struct {
		Msg   string `json:"msg"`
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(last), &entry) == nil && entry.Msg != "" {
		last = entry.Msg + after(entry.Error)
	}
	return strings.ToValidUTF8(last[:min(len(last), 300)], "")
}

// takeOver keeps a child of an earlier run of this program alive by holding its attach request open.
func (d *Driver) takeOver(ctx context.Context, ref engine.Ref) (*Instance, error) {
	i := &Instance{d: d, ref: ref, dir: d.folder(ref.Replica, ref.Attempt), done: make(chan struct{}), tell: nil}
	if ref.Launch != nil {
		i.launch = *ref.Launch
	}
	i.client = engine.NewClient(i.endpoint(), nil)
	hold, release := context.WithCancel(context.WithoutCancel(ctx))
	body, err := i.client.Open(hold, http.MethodPost, "/attach", map[string]any{"nonce": ref.Nonce, "fence": ref.Attempt})
	if err != nil {
		release()
		return nil, err
	}
	i.release = release
	go i.watch(context.WithoutCancel(ctx), body)
	return i, nil
}

// watch notices the end of a child that is not ours by birth: its connection breaks, then its process is gone.
func (i *Instance) watch(ctx context.Context, body io.ReadCloser) {
	_, _ = io.Copy(io.Discard, body)
	_ = body.Close()
	for !gone(ctx, i.ref.PID, i.ref.Started) { // each look lasts up to five seconds
		i.mu.Lock()
		stopping := i.stopping
		i.mu.Unlock()
		if !stopping { // it lives but let go of us: take nothing for granted
			killGroup(i.ref.PID)
		}
	}
	i.readNotes()
	i.mu.Lock()
	i.death = engine.ErrEngineDied.With("it ended; its status is not known, as the server was restarted meanwhile%s", after(i.fatal.Message))
	if i.stopping {
		i.death = engine.ErrGone.With("stopped")
	}
	i.mu.Unlock()
	i.client.Close()
	_ = os.Remove(i.ref.Socket)
	close(i.done)
}

func (i *Instance) ended() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// readNotes takes in what the child wrote since the last look.
func (i *Instance) readNotes() {
	f, err := os.Open(filepath.Join(i.dir, notesName))
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	i.mu.Lock()
	defer i.mu.Unlock()
	b, err := io.ReadAll(io.NewSectionReader(f, i.offset, 1<<20))
	if err != nil {
		return
	}
	i.offset += int64(len(b))
	i.partial = append(i.partial, b...)
	for {
		line, rest, found := bytes.Cut(i.partial, []byte("\n"))
		if !found {
			return
		}
		i.partial = rest
		var n worker.Note
		if json.Unmarshal(line, &n) != nil {
			continue
		}
		i.notes++
		switch n.T {
		case "load":
			i.progress = engine.Progress{Stage: "load", Done: n.Done, Total: n.Total, Unit: "bytes"}
		case "ready":
			i.ready = n
		case "fatal":
			i.fatal = n
		case "note":
			i.progress.Note = n.Message
		}
	}
}

// Ref implements engine.Instance.
func (i *Instance) Ref() engine.Ref { return i.ref }

func (i *Instance) endpoint() engine.Endpoint {
	return engine.Endpoint{
		ID: fmt.Sprintf("%s.%d", i.ref.Replica, i.ref.Attempt), Network: "unix", Addr: i.ref.Socket, Host: "engine", BasePath: "/v1", Dialect: engine.OpenAI, Model: i.launch.Model, Slots: max(i.launch.Concurrency, 1), Context: i.launch.Context,
		Caps: engine.Caps{AbortNonStream: true, StreamUsage: true, Ops: engine.OpChat | engine.OpCompletion | engine.OpCount},
	}
}

// Endpoint implements engine.Instance.
func (i *Instance) Endpoint() engine.Endpoint {
	ep := i.endpoint()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ready.Context > 0 {
		ep.Context = i.ready.Context
	}
	if i.ready.Slots > 0 {
		ep.Slots = i.ready.Slots
	}
	for _, t := range i.ready.Tasks {
		switch t {
		case worker.TaskEmbedding:
			ep.Caps.Ops = engine.OpEmbedding | engine.OpCount
		case worker.TaskRerank:
			ep.Caps.Ops = engine.OpRerank | engine.OpCount
		}
	}
	return ep
}

// Smoke implements engine.Instance. What the model does is known only now that it is loaded.
func (i *Instance) Smoke(ctx context.Context) error {
	c := engine.NewClient(i.Endpoint(), nil)
	defer c.Close()
	return c.Smoke(ctx)
}

// Health implements engine.Instance.
func (i *Instance) Health(ctx context.Context) engine.Health {
	i.readNotes()
	if i.ended() {
		i.mu.Lock()
		defer i.mu.Unlock()
		return engine.Health{State: engine.Dead, Err: i.death, Progress: i.progress}
	}
	i.mu.Lock()
	h := engine.Health{State: engine.Starting, Progress: i.progress}
	up, proved := i.ready.T != "", i.proved
	if i.progress.Stage != "" {
		h.State = engine.Loading
	}
	i.mu.Unlock()
	if i.tell != nil && h.Progress.Total > 0 && !up {
		i.tell(h.Progress)
	}
	if !up {
		return h
	}
	status, _, err := i.client.Get(ctx, "/health")
	switch {
	case err != nil:
		h.State, h.Err = engine.Starting, err // the caller decides how long it may be silent
		return h
	case status != http.StatusOK:
		h.State = engine.Draining
		return h
	case !proved:
		if err := i.prove(ctx); err != nil {
			h.Err = err
			return h
		}
	}
	h.State = engine.Ready
	return h
}

// prove checks that the engine on the socket is our child: its first model is the nonce.
func (i *Instance) prove(ctx context.Context) error {
	list, err := i.client.Models(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 || list[0] != i.ref.Nonce {
		return engine.ErrGone.With("a foreign engine answers on the socket")
	}
	i.mu.Lock()
	i.proved = true
	i.mu.Unlock()
	return nil
}

// Load implements engine.Instance.
func (i *Instance) Load(ctx context.Context) (engine.Load, error) {
	status, page, err := i.client.Get(ctx, "/metrics")
	if err != nil {
		return engine.Load{}, err
	}
	l, ok := engine.ParseMetrics(page)
	if !ok || status != http.StatusOK {
		return l, engine.ErrUnavailable.With("the metrics page cannot be read")
	}
	return l, nil
}

// Measure implements engine.Instance. It counts memory that cannot be dropped (anonymous and shared pages); pages of the model file that the kernel keeps for the child are the machine's to take back.
func (i *Instance) Measure(context.Context) (engine.Usage, error) {
	if i.ended() {
		return engine.Usage{}, engine.ErrGone
	}
	i.trim()
	i.mu.Lock()
	defer i.mu.Unlock()
	return engine.Usage{HostBytes: resident(i.ref.PID), Context: i.ready.Context}, nil
}

// Pulse implements engine.Pulse.
func (i *Instance) Pulse() uint64 {
	i.mu.Lock()
	n := uint64(i.notes) + uint64(i.progress.Done)
	i.mu.Unlock()
	if st, err := os.Stat(filepath.Join(i.dir, logName)); err == nil {
		n += uint64(st.Size())
	}
	return n + cpuTicks(i.ref.PID) + uint64(resident(i.ref.PID))
}

// Tail implements engine.Tailer.
func (i *Instance) Tail(n int) []byte { return i.tail(n) }

// logLimit is how large a child's log may grow before its beginning is dropped.
const logLimit = 4 << 20

func (i *Instance) tail(n int) []byte {
	name := filepath.Join(i.dir, logName)
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	from := max(st.Size()-int64(n), 0)
	b, err := io.ReadAll(io.NewSectionReader(f, from, int64(n)))
	if err != nil {
		return nil
	}
	if from > 0 {
		if _, rest, found := bytes.Cut(b, []byte("\n")); found {
			b = rest
		}
	}
	return b
}

// trim keeps the log below its limit. The child appends, so it goes on at the new end.
func (i *Instance) trim() {
	name := filepath.Join(i.dir, logName)
	if st, err := os.Stat(name); err == nil && st.Size() > logLimit {
		_ = os.Truncate(name, 0)
	}
}

// Stop implements engine.Instance.
func (i *Instance) Stop(ctx context.Context, grace time.Duration) error {
	i.mu.Lock()
	i.stopping = true
	i.mu.Unlock()
	if i.release != nil { // else the child would wait for this request to end
		i.release()
	}
	if !i.ended() {
		i.terminate(grace)
	}
	if i.stdin != nil {
		_ = i.stdin.Close()
	}
	select {
	case <-i.done:
	case <-ctx.Done():
		return engine.ErrUnavailable.With("process %d does not end", i.ref.PID).Wrap(ctx.Err())
	case <-time.After(10 * time.Second): // killed, and yet there: the kernel holds it
		return engine.ErrUnavailable.With("process %d does not end", i.ref.PID)
	}
	i.d.forget(i)
	return os.RemoveAll(i.dir)
}

// terminate asks, waits up to grace, kills.
func (i *Instance) terminate(grace time.Duration) {
	if startTime(i.ref.PID) == i.ref.Started {
		_ = syscall.Kill(i.ref.PID, syscall.SIGTERM)
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-i.done:
	case <-t.C:
		if startTime(i.ref.PID) == i.ref.Started {
			killGroup(i.ref.PID)
		}
	}
}

// Done implements engine.Instance.
func (i *Instance) Done() <-chan struct{} { return i.done }

var (
	_ engine.Instance = (*Instance)(nil)
	_ engine.Tailer   = (*Instance)(nil)
	_ engine.Pulse    = (*Instance)(nil)
)
