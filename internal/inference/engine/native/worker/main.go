package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"maas/internal/llm/arch"
	"maas/internal/llm/kernel"
	"maas/internal/llm/quant"
	"maas/internal/llm/run"
	"maas/internal/platform/fault"
)

// ErrConfig says that the configuration line cannot be used.
var ErrConfig = fault.New(fault.Invalid, "inference.worker_config", "the worker's configuration cannot be used")

const (
	maxConfigLine = 1 << 20
	maxSocketPath = 103 // bytes that every system takes in a unix address
)

// Main runs the worker until it is drained, ctx ends, or its parent has been gone for the orphan time. It returns an exit code.
func Main(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) int {
	signal.Ignore(syscall.SIGPIPE) // a parent that is gone breaks our output; the model stays loaded for the next one
	p := &process{out: json.NewEncoder(stdout), log: slog.New(slog.NewJSONHandler(stderr, nil)).With("component", "engine")}
	in := bufio.NewReaderSize(stdin, 64<<10)
	cfg, err := readConfig(in)
	if err != nil {
		return p.fatal(err)
	}
	p.log = p.log.With("replica", cfg.Replica, "attempt", cfg.Attempt)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.orphan = newOrphan(time.Duration(cfg.OrphanSeconds)*time.Second, func() {
		p.log.Warn("no server owns this engine any more")
		stop(errOrphan)
	})
	go func() { // ends with the process: a read of standard input cannot be interrupted
		_, _ = io.Copy(io.Discard, in)
		p.orphan.release()
	}()
	if err := p.serve(ctx, cfg); err != nil {
		return p.fatal(err)
	}
	return ExitAsked
}

var errOrphan = errors.New("no server owns this engine")

// process is the worker's life: what it tells its parent.
type process struct {
	mu     sync.Mutex // guards out
	out    *json.Encoder
	log    *slog.Logger
	orphan *orphan
}

func (p *process) tell(n Note) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.out.Encode(n) // a parent that is gone is the orphan timer's affair
}

// fatal tells the parent and chooses the exit code.
func (p *process) fatal(err error) int {
	e := fault.From(err)
	p.log.Error("the engine ends", "code", e.Code, "error", err)
	p.tell(Note{T: "fatal", Code: e.Code, Message: e.Text()})
	switch {
	case errors.Is(err, ErrConfig), errors.Is(err, kernel.ErrLevel):
		return ExitConfig
	case errors.Is(err, arch.ErrMemory):
		return ExitMemory
	case e.Kind == fault.Invalid, e.Kind == fault.TooLarge, errors.Is(err, os.ErrNotExist):
		return ExitCorrupt
	default:
		return ExitInternal
	}
}

// readConfig reads and checks the first line.
func readConfig(in *bufio.Reader) (Config, error) {
	var c Config
	line := make([]byte, 0, 4096)
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > maxConfigLine {
			return c, ErrConfig.With("standard input holds no configuration line")
		}
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return c, ErrConfig.With("the first line is not JSON").Wrap(err)
	}
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.OrphanSeconds, 30)
	def(&c.DrainSeconds, 60)
	def(&c.MaxSeqs, 16)
	if c.Threads <= 0 {
		c.Threads = runtime.GOMAXPROCS(0)
		if c.Threads >= 4 {
			c.Threads-- // one for the server
		}
	}
	if c.KVType != "" && c.KVType != "f16" && c.KVType != "f32" {
		return c, ErrConfig.With("kv_type %q is not known; f16 and f32 are", c.KVType)
	}
	if c.Dir == "" || c.Socket == "" || c.Nonce == "" {
		return c, ErrConfig.With("dir, socket and nonce are required")
	}
	if len(c.Socket) > maxSocketPath {
		return c, ErrConfig.With("the socket's path has %d bytes; the limit is %d", len(c.Socket), maxSocketPath)
	}
	return c, nil
}

// serve listens, loads, answers, drains.
func (p *process) serve(ctx context.Context, cfg Config) error {
	if cfg.MemoryLimit > 0 {
		debug.SetMemoryLimit(cfg.MemoryLimit)
	}
	if cfg.Kernel != "" {
		level, err := kernel.ParseLevel(cfg.Kernel)
		if err != nil {
			return err
		}
		if err := kernel.Use(level); err != nil {
			return err
		}
	}
	l, err := listen(ctx, cfg.Socket)
	if err != nil {
		return err
	}
	s := newServer(cfg, p)
	h := &http.Server{Handler: s, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn)}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	defer func() {
		_ = h.Close()
		<-served //nolint:errcheck // closed above, on purpose
		_ = os.Remove(cfg.Socket)
	}()
	pool := kernel.NewPool(cfg.Threads)
	defer pool.Close()
	m, err := p.load(ctx, cfg, s, pool)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to leave while loading
		}
		return err
	}
	defer m.close()
	s.start(m)
	st := m.computer().Stats()
	p.log.Info("ready", "context", st.MaxCtx, "slots", st.MaxSeqs, "kernel", kernel.Current().String(), "threads", cfg.Threads)
	p.tell(Note{T: "ready", Context: st.MaxCtx, Slots: st.MaxSeqs, KVBytes: st.KVBytes, Pages: st.Pages, Tasks: m.tasks(), Model: m.source.Config})
	select {
	case <-ctx.Done():
	case <-s.drained:
	}
	s.drain()
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(cfg.DrainSeconds)*time.Second)
	defer cancel()
	if err := m.computer().Close(left); err != nil {
		p.log.Warn("requests were cut off", "error", err)
	}
	_ = h.Shutdown(left) // answers that are still being written
	return nil
}

// listen makes the socket, for this user alone. A socket that nobody answers on any more is replaced.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		_ = c.Close()
		return nil, ErrConfig.With("another process answers on the socket")
	}
	_ = os.Remove(path)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, ErrConfig.With("the socket cannot be made").Wrap(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, ErrConfig.With("the socket cannot be protected").Wrap(err)
	}
	return l, nil
}

// modelPath returns what arch.Open takes: the GGUF file that is named or found, else the folder.
func modelPath(cfg Config) string {
	for _, f := range cfg.Files {
		if filepath.Ext(f) == ".gguf" && filepath.IsLocal(f) {
			return filepath.Join(cfg.Dir, f)
		}
	}
	return cfg.Dir
}

// load opens, checks the memory, packs and starts the engine, telling the parent how far it is.
func (p *process) load(ctx context.Context, cfg Config, s *server, pool *kernel.Pool) (*model, error) {
	src, err := arch.Open(modelPath(cfg))
	if err != nil {
		return nil, err
	}
	ok := false
	defer func() {
		if !ok {
			_ = src.Close()
		}
	}()
	if cfg.Context <= 0 || cfg.Context > src.Config.Ctx {
		cfg.Context = src.Config.Ctx
	}
	kv, err := kvBytes(cfg, src) // an encoder has none
	if err != nil {
		return nil, err
	}
	tok, err := src.Tokenizer()
	if err != nil {
		return nil, err
	}
	last := time.Time{}
	m, err := src.Load(ctx, arch.LoadOptions{Pool: pool, Progress: func(done, total int64) {
		s.progress(done, total)
		if now := time.Now(); now.Sub(last) > 100*time.Millisecond || done == total {
			last = now
			p.tell(Note{T: "load", Done: done, Total: total})
		}
	}})
	if err != nil {
		return nil, err
	}
	failed := func(failure any, stack []byte) {
		p.log.Error("a step of the engine failed", "failure", failure, "stack", string(stack))
	}
	if src.Config.Arch == arch.Bert {
		e, err := run.OpenEncoder(m, tok, run.EncoderOptions{MaxCtx: cfg.Context, Pool: pool, Report: failed})
		if err != nil {
			return nil, err
		}
		boundGarbage()
		ok = true
		return &model{source: src, tok: tok, encoder: e}, nil
	}
	e, err := run.Open(m, tok, run.Options{KVBytes: kv, FullKV: cfg.KVType == "f32", MaxSeqs: cfg.MaxSeqs, MaxCtx: cfg.Context, Pool: pool, EndTokens: src.EndTokens(), Report: failed})
	if err != nil {
		return nil, err
	}
	t, err := templateOf(cfg, src)
	if err != nil {
		p.log.Warn("the chat template cannot be used", "error", err)
		p.tell(Note{T: "note", Message: "the chat template cannot be used: " + fault.From(err).Text()})
	}
	boundGarbage()
	ok = true
	return &model{source: src, tok: tok, engine: e, template: t, templateErr: err}, nil
}

// garbage is how much dead memory may pile up before it is collected. Go's default, as much as is alive, would double the memory of a large model; a collection is cheap here, for weights hold no pointers.
const garbage = 64 << 20

func boundGarbage() {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	debug.SetGCPercent(min(100, max(2, int(garbage*100/max(s.HeapAlloc, 1)))))
}

// kvBytes decides the size of the cache: what is asked for, else room for every slot at full context, within the memory limit. arch.ErrMemory with both numbers if one sequence of the context does not fit.
func kvBytes(cfg Config, src *arch.Source) (int64, error) {
	need := src.Memory(cfg.Context, cfg.MaxSeqs, cfg.KVType == "f32")
	if src.Config.Arch == arch.Bert {
		return 0, nil
	}
	kv := need.KV
	if cfg.KVBytes > 0 {
		kv = min(kv, cfg.KVBytes)
	}
	if cfg.MemoryLimit > 0 {
		kv = min(kv, cfg.MemoryLimit-need.Weights-need.Scratch-need.Fixed)
	}
	t := quant.F16
	if cfg.KVType == "f32" {
		t = quant.F32
	}
	one := src.Config.PageBytes(t) * int64((cfg.Context+arch.PageTokens-1)/arch.PageTokens)
	if kv < one {
		return 0, arch.ErrMemory.With("one sequence of %d tokens takes %s of cache; %s are left beside %s of weights", cfg.Context, mib(one), mib(max(kv, 0)), mib(need.Weights)).
			WithHint("choose a smaller context, a smaller model or a machine with more memory")
	}
	return kv, nil
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// orphan ends the process when nobody has owned it for a while. It starts owned, by standard input.
type orphan struct {
	mu     sync.Mutex // guards what follows
	owners int
	after  time.Duration
	timer  *time.Timer
	expire func()
}

func newOrphan(after time.Duration, expire func()) *orphan {
	return &orphan{owners: 1, after: after, expire: expire}
}

func (o *orphan) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.owners++
	if o.timer != nil {
		o.timer.Stop()
	}
}

func (o *orphan) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.owners--; o.owners == 0 {
		o.timer = time.AfterFunc(o.after, func() {
			o.mu.Lock()
			alone := o.owners == 0
			o.mu.Unlock()
			if alone {
				o.expire()
			}
		})
	}
}
