// Package native drives the engine of this program itself: a child process `maas worker engine` per attempt, which loads one model and answers on a unix socket. The child's side is package worker.
//
// The child is in a process group of its own, gets an environment and a work folder of its own, and the configuration as one line on its standard input, which stays open: when this process ends without
// stopping it, the child waits half a minute for a successor and then leaves. A successor finds it by process id, start time and nonce. What the child writes goes to files in its folder, so that it survives
// us and its end can be explained afterwards.
package native

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/native/worker"
	"maas/internal/llm"
	"maas/internal/llm/arch"
	"maas/internal/platform/fault"
)

// Config is the engine's part of the configuration.
type Config struct {
	Threads int    `yaml:"threads" doc:"CPU threads of an engine where a deployment names none; 0 = all cores"`
	KVType  string `yaml:"kv_type" doc:"Numbers of the key/value cache: f16, or f32 for exact comparisons"`
	Kernel  string `yaml:"kernel" doc:"Instruction set of the kernels; empty = the best of this processor"`
}

// Defaults are the settings of a fresh installation.
func Defaults() Config { return Config{KVType: "f16"} }

// Options say how children are started.
type Options struct {
	Config
	Binary string   // this program; "" = the running one
	Args   []string // that make it a worker; nil = worker engine
	Run    string   // folder for sockets and logs of children, made with mode 0700
	Orphan time.Duration
}

// Driver is the engine `native`.
type Driver struct {
	o Options

	mu   sync.Mutex // guards live
	live map[string]*Instance
}

// maxSocket is the longest path of a unix socket that every system takes.
const maxSocket = 103

// New makes the driver and its run folder. Where the folder's path is too long for sockets, one with a short name in the system's temporary folder is used.
func New(o Options) (*Driver, error) {
	if o.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		o.Binary = self
	}
	if o.Args == nil {
		o.Args = []string{"worker", "engine"}
	}
	if o.Orphan == 0 {
		o.Orphan = 30 * time.Second
	}
	run, err := filepath.Abs(o.Run)
	if err != nil {
		return nil, err
	}
	if len(run)+len("/0123456789ab.9999/s") > maxSocket {
		sum := sha256.Sum256([]byte(run))
		run = filepath.Join(os.TempDir(), "maas-"+hex.EncodeToString(sum[:4]))
	}
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, err
	}
	if st, err := os.Lstat(run); err != nil || !st.IsDir() || st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(run, 0o700); err != nil { //nolint:gosec // a folder; fails for a folder that somebody else put there
			return nil, fmt.Errorf("the run folder must be ours alone: %w", err)
		}
	}
	o.Run = run
	return &Driver{o: o, live: map[string]*Instance{}}, nil
}

// Name implements engine.Driver.
func (*Driver) Name() string { return "native" }

// Probe implements engine.Driver.
func (d *Driver) Probe(context.Context) (engine.Capabilities, error) {
	if _, err := os.Stat(d.o.Binary); err != nil {
		return engine.Capabilities{Engine: "native"}, engine.ErrMissing.With("the program itself is gone: %s", filepath.Base(d.o.Binary))
	}
	return engine.Capabilities{
		Engine: "native", Devices: []string{"cpu"}, Formats: []string{"gguf", "safetensors"}, Tasks: []string{"chat", "completion", "embedding", "rerank"},
		Detail: "built in; families " + strings.Join([]string{arch.Llama, "mistral", arch.Qwen2, arch.Qwen3, arch.Bert, "roberta"}, ", "),
	}, nil
}

// modelPath is the first GGUF file, or the folder: what the child opens too.
func modelPath(l engine.Launch) string {
	for _, f := range l.Files {
		if filepath.Ext(f) == ".gguf" && filepath.IsLocal(f) {
			return filepath.Join(l.Dir, f)
		}
	}
	return l.Dir
}

// Fit implements engine.Driver.
func (d *Driver) Fit(_ context.Context, l engine.Launch) ([]engine.Need, error) {
	if l.Upstream != nil || l.Dir == "" {
		return nil, engine.ErrFormat.With("the engine native serves model files")
	}
	src, err := arch.Open(modelPath(l))
	if err != nil {
		return nil, translate(err)
	}
	defer func() { _ = src.Close() }()
	slots := max(l.Concurrency, 1)
	n := engine.Need{Label: "cpu", MaxContext: src.Config.Ctx, Context: l.Context, Concurrency: slots}
	if n.Context <= 0 {
		n.Context = src.Config.Ctx
	}
	m := src.Memory(n.Context, slots, d.kvType(l) == "f32")
	n.HostBytes, n.PerToken = m.Total(), m.PerToken
	n.Parts = map[string]int64{"weights": m.Weights, "kv": m.KV, "scratch": m.Scratch, "fixed": m.Fixed}
	return []engine.Need{n}, nil
}

func (d *Driver) kvType(l engine.Launch) string {
	if l.KVType != "" {
		return l.KVType
	}
	return d.o.KVType
}

// translate turns errors about files into those of package engine, keeping their words.
func translate(err error) error {
	e := fault.From(err)
	switch {
	case errors.Is(err, arch.ErrUnsupported):
		return engine.ErrArch.With("%s", e.Text()).Wrap(err)
	case errors.Is(err, llm.ErrFormatUnknown):
		return engine.ErrFormat.With("%s", e.Text()).Wrap(err)
	case errors.Is(err, arch.ErrMemory):
		return engine.ErrNoFit.With("%s", e.Text()).Wrap(err)
	case errors.Is(err, os.ErrNotExist):
		return engine.ErrModelCorrupt.With("a file of the model is missing").Wrap(err)
	case e.Kind == fault.Invalid || e.Kind == fault.TooLarge:
		return engine.ErrModelCorrupt.With("%s%s", e.Text(), fields(e)).WithFields(e.Fields...).Wrap(err)
	}
	return err
}

// fields names the first wrong tensors or keys.
func fields(e *fault.Error) string {
	var names []string
	for _, f := range e.Fields {
		if len(names) == 3 {
			names = append(names, "...")
			break
		}
		names = append(names, f.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// config is the child's first line.
func (d *Driver) config(l engine.Launch, socket string) worker.Config {
	threads := l.Threads
	if threads == 0 {
		threads = d.o.Threads
	}
	return worker.Config{
		Replica: l.Replica, Attempt: l.Attempt, Fence: int64(l.Attempt), Nonce: l.Nonce, Model: l.Model, Dir: l.Dir, Files: l.Files, Socket: socket, Threads: threads, KVType: d.kvType(l), Context: l.Context,
		MaxSeqs: max(l.Concurrency, 1), Kernel: d.o.Kernel, MemoryLimit: l.HostBytes + l.HostBytes/8, OrphanSeconds: max(int(d.o.Orphan.Seconds()), 1), DrainSeconds: 60,
	}
}

// Start implements engine.Driver.
func (d *Driver) Start(_ context.Context, l engine.Launch, p func(engine.Progress)) (engine.Instance, error) {
	if l.Upstream != nil || l.Dir == "" {
		return nil, engine.ErrFormat.With("the engine native serves model files")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.live[l.Replica]; i != nil {
		if i.ref.Attempt == l.Attempt {
			return i, nil
		}
		if !i.ended() {
			return nil, engine.ErrUnavailable.With("attempt %d of this replica still runs", i.ref.Attempt)
		}
	}
	i, err := d.spawn(l, p)
	if err != nil {
		return nil, err
	}
	d.live[l.Replica] = i
	return i, nil
}

// folder is the work folder of an attempt: short, so that the socket's path is.
func (d *Driver) folder(replica string, attempt int) string {
	return filepath.Join(d.o.Run, fmt.Sprintf("%s.%d", replica[max(0, len(replica)-12):], attempt))
}

// Attach implements engine.Driver. A child that cannot be taken over is killed before ErrGone is returned.
func (d *Driver) Attach(ctx context.Context, ref engine.Ref) (engine.Instance, error) {
	d.mu.Lock()
	i := d.live[ref.Replica]
	d.mu.Unlock()
	if i != nil && !i.ended() {
		if i.ref.Nonce == ref.Nonce && i.ref.Attempt == ref.Attempt {
			return i, nil
		}
		return nil, engine.ErrGone.With("another attempt of this replica runs")
	}
	if ref.PID <= 1 || ref.Nonce == "" || ref.Started == 0 || startTime(ref.PID) != ref.Started {
		return nil, engine.ErrGone
	}
	i, err := d.takeOver(ctx, ref)
	if err != nil {
		killGroup(ref.PID)
		if !gone(ctx, ref.PID, ref.Started) {
			return nil, engine.ErrUnavailable.With("process %d does not end", ref.PID)
		}
		_ = os.RemoveAll(d.folder(ref.Replica, ref.Attempt))
		return nil, engine.ErrGone.Wrap(err)
	}
	d.mu.Lock()
	d.live[ref.Replica] = i
	d.mu.Unlock()
	return i, nil
}

// Sweep implements engine.Sweeper: folders of attempts that nobody refers to any more are removed.
func (d *Driver) Sweep(keep []engine.Ref) {
	kept := map[string]bool{}
	for _, r := range keep {
		kept[filepath.Base(d.folder(r.Replica, r.Attempt))] = true
	}
	list, err := os.ReadDir(d.o.Run)
	if err != nil {
		return
	}
	for _, e := range list {
		if e.IsDir() && !kept[e.Name()] {
			_ = os.RemoveAll(filepath.Join(d.o.Run, e.Name()))
		}
	}
}

func (d *Driver) forget(i *Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live[i.ref.Replica] == i {
		delete(d.live, i.ref.Replica)
	}
}

var (
	_ engine.Driver  = (*Driver)(nil)
	_ engine.Sweeper = (*Driver)(nil)
)
