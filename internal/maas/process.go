package maas

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/platform/cache"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
	"maas/internal/platform/fault"
	"maas/internal/platform/job"
	"maas/internal/platform/object"
	"maas/internal/platform/rpc"
	"maas/internal/platform/seal"
	"maas/internal/platform/telemetry"
	"maas/internal/platform/web"
	"maas/internal/user"

	_ "maas/internal/platform/backends" // the drivers
)

// Errors of starting.
var (
	ErrListen  = fault.New(fault.Unavailable, "maas.listen_failed", "the address cannot be listened on").WithHint("Another program may use it; choose one with --listen")
	ErrNoPeer  = fault.New(fault.Invalid, "maas.peer_missing", "a service that this process needs is neither run here nor named as a peer").WithHint("Add it to `services`, or name it in rpc.peers")
	ErrDataDir = fault.New(fault.Unavailable, "maas.data_unusable", "the data folder cannot be used")
)

// Options are what configuration does not hold.
type Options struct {
	Version string
	Console io.Writer // warnings and errors for the person at the terminal
	Now     clock.Clock
}

// Process is a running set of services.
type Process struct {
	config   Config
	opt      Options
	tel      *telemetry.Telemetry
	db       *db.DB
	objects  object.Bucket
	seal     *seal.Ring
	jobs     *job.Registry
	events   *event.Registry
	calls    *rpc.Mux
	server   *web.Server
	verifier *user.Verifier
	services services
	cache    cache.Cache
	loops    []loop
	listener net.Listener
	stop     context.CancelFunc
	done     chan struct{}
	err      error
}

// loop is something that runs as long as the process.
type loop struct {
	name string
	run  func(context.Context) error
}

// Start opens the parts, brings the schema up to date, builds the services and begins to answer. It returns when the listener answers; Wait blocks until ctx ends and everything has stopped.
func Start(ctx context.Context, c Config, o Options) (*Process, error) {
	if o.Now == nil {
		o.Now = clock.Now
	}
	p := &Process{config: c, opt: o, jobs: job.NewRegistry(), events: event.NewRegistry(), done: make(chan struct{})}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := p.build(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := p.listen(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	run, stop := context.WithCancel(ctx)
	p.stop = stop
	go p.run(run)
	return p, nil
}

// open makes the data folder and opens telemetry, database, objects and keys.
func (p *Process) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(p.config.Data, 0o750); err != nil {
		return ErrDataDir.With("%v", err)
	}
	if p.tel, err = telemetry.New(p.config.Telemetry, p.config.Data, p.opt.Console); err != nil {
		return err
	}
	if p.db, err = db.Open(ctx, db.Config(p.config.Database)); err != nil {
		return err
	}
	for _, m := range migrations() {
		if err := p.db.Migrate(ctx, m.service, m.files); err != nil {
			return fmt.Errorf("schema of %s: %w", m.service, err)
		}
	}
	if p.objects, err = object.Open(ctx, object.Config{URL: p.config.Objects.URL, MinFree: p.config.Objects.MinFree}); err != nil {
		return err
	}
	if p.cache, err = cache.Open(ctx, p.config.Cache); err != nil {
		return err
	}
	if p.seal, err = seal.Open(ctx, seal.Config{Keys: p.config.Seal.Keys}, p.db); err != nil {
		return err
	}
	p.server = web.New(web.Options{Version: p.opt.Version, Log: p.tel.Log.With("component", "web"), Drain: p.config.Drain, RatePerMinute: p.config.Rate, TrustedProxies: p.config.Proxies})
	p.server.Ready("database", p.db.Ping)
	return nil
}

// listen opens the listeners, so that a taken address is an error of Start.
func (p *Process) listen(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", p.config.Listen)
	if err != nil {
		return ErrListen.With("%s: %v", p.config.Listen, errors.Unwrap(err))
	}
	p.listener = l
	if p.config.TLS.Cert != "" {
		cert, err := tls.LoadX509KeyPair(p.config.TLS.Cert, p.config.TLS.Key)
		if err != nil {
			return ErrListen.With("TLS: %v", err)
		}
		p.listener = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}})
	}
	server := p.server
	p.loops = append(p.loops, loop{"listener", func(ctx context.Context) error { return server.Serve(ctx, p.listener) }})
	if p.config.RPC.Listen == "" {
		return nil
	}
	return p.listenRPC(ctx)
}

func (p *Process) listenRPC(ctx context.Context) error {
	network, address := "tcp", p.config.RPC.Listen
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return ErrListen.With("%v", err)
		}
		_ = os.Remove(path) // left by a killed process; a live one holds the database lock or its own path
	} else if host, _, err := net.SplitHostPort(address); err != nil || !isLoopback(host) {
		return ErrListen.With("rpc.listen must be unix:PATH or an address of this machine: calls between processes are not encrypted")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return ErrListen.With("rpc.listen %s: %v", p.config.RPC.Listen, err)
	}
	hs := &http.Server{Handler: p.calls, ReadHeaderTimeout: 10 * time.Second}
	p.loops = append(p.loops, loop{"rpc", func(ctx context.Context) error {
		go func() {
			<-ctx.Done()
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.config.Drain)
			defer cancel()
			_ = hs.Shutdown(end) // Serve returns the error that matters
		}()
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}})
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// run starts the loops and waits for all of them. The first that fails stops the others. The listener stops last of all in effect: it drains while the loops still serve it.
func (p *Process) run(ctx context.Context) {
	defer close(p.done)
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	var edge, rest sync.WaitGroup
	var once sync.Once
	fail := func(name string, err error) {
		if err == nil || errors.Is(err, context.Canceled) {
			return
		}
		p.tel.Log.ErrorContext(ctx, "part stopped", "part", name, "error", err)
		once.Do(func() { p.err = fmt.Errorf("%s: %w", name, err) })
		p.stop()
	}
	for _, l := range p.loops {
		group, c := &rest, background
		if l.name == "listener" {
			group, c = &edge, ctx
		}
		group.Go(func() { fail(l.name, l.run(c)) })
	}
	<-ctx.Done()
	edge.Wait() // requests have drained: now what they used may stop
	stopBackground()
	rest.Wait()
	p.err = errors.Join(p.err, p.close())
}

// close gives back what open took, in the other order.
func (p *Process) close() error {
	var errs []error
	if p.listener != nil {
		_ = p.listener.Close() // closed by the server already in the normal case
	}
	if p.cache != nil {
		errs = append(errs, p.cache.Close())
	}
	if p.objects != nil {
		errs = append(errs, p.objects.Close())
	}
	if p.db != nil {
		errs = append(errs, p.db.Close())
	}
	if p.tel != nil {
		errs = append(errs, p.tel.Close())
	}
	return errors.Join(errs...)
}

// Wait blocks until the process has stopped and returns why, nil when it was asked to.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Stop asks the process to stop; Wait tells when it has.
func (p *Process) Stop() { p.stop() }

// URL is the address of the listener as a person on this machine would type it.
func (p *Process) URL() string {
	if p.config.URL != "" {
		return strings.TrimRight(p.config.URL, "/")
	}
	host, port, _ := net.SplitHostPort(p.listener.Addr().String()) // a TCP address has both
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if p.config.TLS.Cert != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// SetupCode is the one-time code that first set-up wants from other machines; "" when there is an owner or the user service runs elsewhere.
func (p *Process) SetupCode() string {
	if p.services.user == nil {
		return ""
	}
	return p.services.user.SetupCode()
}

// Server is the HTTP edge of the process: its routes and its API document.
func (p *Process) Server() *web.Server { return p.server }

// DB is the database of the process: tests look at events and rows.
func (p *Process) DB() *db.DB { return p.db }

// Metrics is the registry of the process's metrics.
func (p *Process) Metrics() *prometheus.Registry { return p.tel.Registry }
