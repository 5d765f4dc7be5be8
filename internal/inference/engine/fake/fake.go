// Package fake is an engine whose behaviour is written down beforehand: how it loads, what it answers, how it fails. It proves every layer above the engines, and it plays other servers for the drivers that
// talk to them.
package fake

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"maas/internal/inference/engine"
)

// Script says how the next starts behave. The zero value loads at once and answers well.
type Script struct {
	FitErr     error         // what Fit says
	StartErr   error         // what Start says
	Need       int64         // bytes; 0 = 1 MiB
	PerToken   int64         // of these, bytes per token of context
	MaxContext int           // the model's limit; 0 = 4096
	Load       time.Duration // from start to ready, told in ten steps
	DieLoading bool          // ends half way through the loading
	Hang       bool          // begins to load and never moves again
	Wrong      bool          // fails the smoke request
	NoChat     bool
	TokenDelay time.Duration
	RSS        int64 // bytes measured; 0 = Need
}

// Driver is the scripted engine. Instances live in this process and listen on unix sockets in Dir.
type Driver struct {
	Dir  string
	name string

	mu     sync.Mutex // guards what follows
	script Script
	live   map[string]*Instance // by replica
	starts int
}

// New makes a driver that calls itself name.
func New(name, dir string, s Script) *Driver {
	return &Driver{Dir: dir, name: name, script: s, live: map[string]*Instance{}}
}

// Set changes the script for later calls.
func (d *Driver) Set(s Script) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script = s
}

// Starts is how often an instance was started.
func (d *Driver) Starts() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.starts
}

// Live returns the running instances.
func (d *Driver) Live() []*Instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*Instance
	for _, i := range d.live {
		out = append(out, i)
	}
	return out
}

// Name implements engine.Driver.
func (d *Driver) Name() string { return d.name }

// Probe implements engine.Driver.
func (d *Driver) Probe(context.Context) (engine.Capabilities, error) {
	return engine.Capabilities{Engine: d.name, Version: "scripted", Devices: []string{"cpu"}, Formats: []string{"gguf", "safetensors"}, Tasks: []string{"chat", "completion"}}, nil
}

// Fit implements engine.Driver.
func (d *Driver) Fit(_ context.Context, l engine.Launch) ([]engine.Need, error) {
	d.mu.Lock()
	s := d.script
	d.mu.Unlock()
	if s.FitErr != nil {
		return nil, s.FitErr
	}
	n := engine.Need{Label: "cpu", MaxContext: s.MaxContext, Context: l.Context, PerToken: s.PerToken, Concurrency: l.Concurrency}
	if n.MaxContext == 0 {
		n.MaxContext = 4096
	}
	if n.Context == 0 {
		n.Context = n.MaxContext
	}
	fixed := s.Need
	if fixed == 0 {
		fixed = 1 << 20
	}
	kv := s.PerToken * int64(n.Context)
	n.HostBytes = fixed + kv
	n.Parts = map[string]int64{"weights": fixed, "kv": kv, "scratch": 0, "fixed": 0}
	return []engine.Need{n}, nil
}

// Instance is one scripted engine.
type Instance struct {
	d       *Driver
	launch  engine.Launch
	script  Script
	ref     engine.Ref
	server  *Server
	http    *http.Server
	begun   time.Time
	done    chan struct{}
	once    sync.Once
	dead    atomic.Pointer[error]
	silent  atomic.Bool
	rss     atomic.Int64
	stopped atomic.Bool
}

// Start implements engine.Driver.
func (d *Driver) Start(ctx context.Context, l engine.Launch, p func(engine.Progress)) (engine.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.live[l.Replica]; i != nil && i.launch.Attempt == l.Attempt {
		return i, nil
	}
	d.starts++
	if d.script.StartErr != nil {
		return nil, d.script.StartErr
	}
	socket := filepath.Join(d.Dir, fmt.Sprintf("f%d.sock", d.starts))
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, engine.ErrUnavailable.Wrap(err)
	}
	limit := l.Context
	if limit == 0 {
		limit = 4096
	}
	i := &Instance{d: d, launch: l, script: d.script, begun: time.Now(), done: make(chan struct{}), server: NewServer(l.Nonce, max(l.Concurrency, 1), limit)}
	i.server.TokenDelay, i.server.Wrong, i.server.NoChat = i.script.TokenDelay, i.script.Wrong, i.script.NoChat
	i.ref = engine.Ref{Driver: d.name, Replica: l.Replica, Attempt: l.Attempt, Nonce: l.Nonce, PID: os.Getpid(), Socket: socket, At: i.begun.UTC()}
	i.rss.Store(i.script.RSS)
	if i.script.RSS == 0 {
		i.rss.Store(max(i.script.Need, 1<<20))
	}
	i.http = &http.Server{Handler: i.server, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = i.http.Serve(ln) }()
	if i.script.DieLoading {
		time.AfterFunc(i.script.Load/2, func() { i.Die(engine.ErrEngineDied.With("exit status 5: scripted end while loading")) })
	}
	d.live[l.Replica] = i
	if p != nil {
		p(engine.Progress{Stage: "starting"})
	}
	return i, nil
}

// Attach implements engine.Driver: instances of this process can be found again.
func (d *Driver) Attach(_ context.Context, ref engine.Ref) (engine.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.live[ref.Replica]; i != nil && i.ref.Nonce == ref.Nonce && i.ref.Attempt == ref.Attempt {
		return i, nil
	}
	return nil, engine.ErrGone
}

// Die ends the engine as if its process had crashed: connections break, sockets vanish.
func (i *Instance) Die(why error) {
	i.once.Do(func() {
		i.dead.Store(&why)
		_ = i.http.Close()
		_ = os.Remove(i.ref.Socket)
		i.d.mu.Lock()
		if i.d.live[i.launch.Replica] == i {
			delete(i.d.live, i.launch.Replica)
		}
		i.d.mu.Unlock()
		close(i.done)
	})
}

// Silence makes the engine answer no health question any more, or again.
func (i *Instance) Silence(on bool) { i.silent.Store(on) }

// Grow sets the measured memory.
func (i *Instance) Grow(bytes int64) { i.rss.Store(bytes) }

// Ref implements engine.Instance.
func (i *Instance) Ref() engine.Ref { return i.ref }

// Endpoint implements engine.Instance.
func (i *Instance) Endpoint() engine.Endpoint {
	return engine.Endpoint{
		ID: fmt.Sprintf("%s.%d", i.launch.Replica, i.launch.Attempt), Network: "unix", Addr: i.ref.Socket, Host: "engine", BasePath: "/v1", Dialect: engine.OpenAI, Model: i.launch.Nonce,
		Slots: max(i.launch.Concurrency, 1), Context: i.server.Context, Caps: engine.Caps{AbortNonStream: true, StreamUsage: true},
	}
}

// Smoke implements engine.Instance.
func (i *Instance) Smoke(ctx context.Context) error {
	c := engine.NewClient(i.Endpoint(), nil)
	defer c.Close()
	return c.Smoke(ctx)
}

// Health implements engine.Instance.
func (i *Instance) Health(context.Context) engine.Health {
	if why := i.dead.Load(); why != nil {
		return engine.Health{State: engine.Dead, Err: *why}
	}
	if i.silent.Load() {
		return engine.Health{State: engine.Starting}
	}
	if i.script.Hang {
		return engine.Health{State: engine.Loading, Progress: engine.Progress{Stage: "load", Done: 1, Total: 10, Unit: "bytes"}}
	}
	if past := time.Since(i.begun); past < i.script.Load {
		return engine.Health{State: engine.Loading, Progress: engine.Progress{Stage: "load", Done: int64(10 * past / i.script.Load), Total: 10, Unit: "bytes"}}
	}
	return engine.Health{State: engine.Ready}
}

// Load implements engine.Instance.
func (i *Instance) Load(context.Context) (engine.Load, error) {
	if i.dead.Load() != nil {
		return engine.Load{}, engine.ErrGone
	}
	return engine.Load{
		Running: int(i.server.running.Load()), Waiting: int(i.server.waiting.Load()), KVUsage: 0.25, PromptTokens: i.server.prompt.Load(), GenerationTokens: i.server.generated.Load(),
		Requests: i.server.served.Load(),
	}, nil
}

// Measure implements engine.Instance.
func (i *Instance) Measure(context.Context) (engine.Usage, error) {
	if i.dead.Load() != nil {
		return engine.Usage{}, engine.ErrGone
	}
	return engine.Usage{HostBytes: i.rss.Load(), Context: i.server.Context}, nil
}

// Stop implements engine.Instance.
func (i *Instance) Stop(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if !i.stopped.Swap(true) {
		_ = i.http.Shutdown(ctx) // what still runs after grace is cut by Die
	}
	i.Die(engine.ErrGone.With("stopped"))
	return nil
}

// Done implements engine.Instance.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Tail implements engine.Tailer.
func (i *Instance) Tail(int) []byte {
	return fmt.Appendf(nil, "attempt %d of %s\nscripted engine begins\n", i.launch.Attempt, i.launch.Replica)
}

var (
	_ engine.Driver   = (*Driver)(nil)
	_ engine.Instance = (*Instance)(nil)
	_ engine.Tailer   = (*Instance)(nil)
)
