package maas

import (
	"context"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"maas/internal/console"
	"maas/internal/gateway"
	"maas/internal/inference"
	"maas/internal/inference/engine"
	"maas/internal/inference/engine/native"
	"maas/internal/inference/engine/openai"
	"maas/internal/model"
	"maas/internal/platform/fault"
	"maas/internal/platform/mail"
	"maas/internal/platform/page"
	"maas/internal/platform/rpc"
	"maas/internal/platform/web"
	"maas/internal/user"
	consolefiles "maas/web"
)

// services of this process; nil = runs elsewhere.
type services struct {
	user      *user.Service
	model     *model.Service
	inference *inference.Service
	gateway   *gateway.Gateway
}

// module is one line of the table: services start in its order, so a need stands before who needs it.
type module struct {
	name  string
	paths []string // first segments below /api/v1 that it answers: how the front door finds it in a split set
	start func(*Process, context.Context) error
}

// modules is a function, not a variable: the start functions refer back to it.
func modules() []module {
	return []module{
		{"user", []string{"auth", "users", "keys", "limits", "usage", "prices", "wallet", "wallets", "ledger", "budgets", "quota", "statements", "invoices", "revenue", "tenants", "members", "invitations", "projects", "roles", "permissions", "grants", "service-accounts"}, (*Process).startUser},
		{"model", []string{"models", "uploads"}, (*Process).startModel},
		{"inference", []string{"inference", "overview"}, (*Process).startInference},
		{"gateway", nil, (*Process).startGateway},
		{"console", nil, (*Process).startConsole},
	}
}

func serviceNames() []string {
	var names []string
	for _, m := range modules() {
		names = append(names, m.name)
	}
	return names
}

// build makes every service of the set.
func (p *Process) build(ctx context.Context) error {
	var err error
	if p.calls, err = rpc.NewMux(rpc.Options{Secret: p.seal.Derive("rpc"), Audience: "maas"}); err != nil {
		return err
	}
	if err := p.authenticator(ctx); err != nil {
		return err
	}
	for _, m := range modules() {
		if !p.config.runs(m.name) {
			continue
		}
		if err := m.start(p, ctx); err != nil {
			return err
		}
	}
	if err := p.startFloor(ctx); err != nil {
		return err
	}
	return p.front()
}

// peer makes a client for a service that another process runs.
func (p *Process) peer(service string) (*rpc.Client, error) {
	a := address(p.config.RPC.Peers, service)
	if a == "" {
		return nil, ErrNoPeer.With("%s is needed by the services of this process (%s)", service, strings.Join(p.config.Services, ", "))
	}
	return rpc.NewClient(rpc.Options{Secret: p.seal.Derive("rpc"), Audience: "maas", URL: a})
}

// users is the user service, here or elsewhere.
func (p *Process) users() (user.API, error) {
	if p.services.user != nil {
		return p.services.user, nil
	}
	c, err := p.peer("user")
	if err != nil {
		return nil, err
	}
	return user.NewClient(c), nil
}

// models is the model service, here or elsewhere.
func (p *Process) models() (model.API, error) {
	if p.services.model != nil {
		return p.services.model, nil
	}
	c, err := p.peer("model")
	if err != nil {
		return nil, err
	}
	return model.NewClient(c, filepath.Join(p.config.Data, "cache", "models")), nil
}

// authenticator decides who reads the credentials of requests: the user service's verifier, fed by the service itself or by calls.
func (p *Process) authenticator(ctx context.Context) error {
	if p.config.runs("user") {
		return nil // startUser sets it
	}
	api, err := p.users()
	if err != nil {
		return err
	}
	p.verifier = user.NewVerifier(api, p.opt.Now, p.tel.Log)
	p.server.SetAuthenticator(p.verifier.Authenticate)
	p.loops = append(p.loops, loop{"verifier", p.verifier.Run})
	p.server.Ready("user", func(ctx context.Context) error { return p.verifier.NeedSetup(ctx) })
	return nil
}

func (p *Process) startUser(ctx context.Context) error {
	letters, err := mail.New(p.config.Mail)
	if err != nil {
		return err
	}
	s, err := user.New(ctx, user.Deps{
		DB: p.db, Log: p.tel.Log, Now: p.opt.Now, Metrics: p.tel.Registry, Seal: p.seal, Config: p.config.User, Admin: p.config.Admin, Version: p.opt.Version, Demo: true,
		Mail: letters, Objects: p.objects, PublicURL: p.URL,
	})
	if err != nil {
		return err
	}
	p.services.user, p.verifier = s, s.Verifier()
	p.server.SetAuthenticator(s.Authenticate)
	s.Routes(p.server.API(), p.server.Mux())
	s.Serve(p.calls)
	s.Jobs(p.jobs)
	p.server.Mount(".well-known", s.JWKS())
	p.loops = append(p.loops, loop{"user", s.Run})
	return nil
}

func (p *Process) startModel(ctx context.Context) error {
	s, err := model.New(ctx, model.Deps{
		DB: p.db, Log: p.tel.Log, Now: p.opt.Now, Metrics: p.tel.Registry, Objects: p.objects, Dir: filepath.Join(p.config.Data, "cache", "models"), Config: p.config.Model,
	})
	if err != nil {
		return err
	}
	p.services.model = s
	if address(p.config.RPC.Peers, "inference") != "" && !p.config.runs("inference") {
		c, err := p.peer("inference")
		if err != nil {
			return err
		}
		s.SetDependents(inference.NewClient(c))
	}
	s.Routes(p.server.API(), p.server.Mux())
	s.Serve(p.calls)
	s.Jobs(p.jobs)
	s.Events(p.events)
	return nil
}

func (p *Process) startInference(context.Context) error {
	models, err := p.models()
	if err != nil {
		return err
	}
	own, err := native.New(native.Options{Config: p.config.Native, Run: filepath.Join(p.config.Data, "run")})
	if err != nil {
		return err
	}
	s, err := inference.New(inference.Deps{
		DB: p.db, Log: p.tel.Log, Now: p.opt.Now, Metrics: p.tel.Registry, Objects: p.objects, Seal: p.seal, Models: models, Config: p.config.Inference, Counts: p.counts,
		Engines: []engine.Driver{
			own,
			openai.New(p.config.Inference.Upstream.Policy()),
		},
	})
	if err != nil {
		return err
	}
	p.services.inference = s
	if p.services.model != nil {
		p.services.model.SetDependents(s)
	}
	s.Routes(p.server.API(), p.server.Mux())
	s.Serve(p.calls)
	s.Jobs(p.jobs)
	s.Events(p.events)
	p.loops = append(p.loops, loop{"inference", s.Run})
	return nil
}

func (p *Process) startGateway(context.Context) error {
	users, err := p.users()
	if err != nil {
		return err
	}
	router, err := p.router()
	if err != nil {
		return err
	}
	g, err := gateway.New(gateway.Deps{
		Log: p.tel.Log, Now: p.opt.Now, Metrics: p.tel.Registry, Verifier: p.verifier, Cache: p.cache, Users: users, Router: router, Dir: filepath.Join(p.config.Data, "gateway"), Config: p.config.Gateway, Upstream: p.config.Inference.Upstream.Policy(),
	})
	if err != nil {
		return err
	}
	p.services.gateway = g
	p.server.MountHot("v1", g.Handler())
	p.server.Mount("v2", g.Handler())
	g.Routes(p.server.Mux())
	p.loops = append(p.loops, loop{"gateway", g.Run})
	return nil
}

// router is the routing table of this process: the inference service's own, or one fed by calls.
func (p *Process) router() (*inference.Router, error) {
	if p.services.inference != nil {
		return p.services.inference.Router(), nil
	}
	c, err := p.peer("inference")
	if err != nil {
		return nil, err
	}
	f := inference.NewFollower(inference.NewClient(c), p.opt.Now, p.tel.Log)
	p.loops = append(p.loops, loop{"router", f.Run})
	return f.Router(), nil
}

func (p *Process) startConsole(context.Context) error {
	p.server.MountRest(console.Handler(consolefiles.Dist(), console.Options{Version: p.opt.Version}))
	return nil
}

// front passes requests for services of other processes to their listeners, by the first segment below /api/v1, and /v1 to the gateway.
func (p *Process) front() error {
	for _, m := range modules() {
		a := address(p.config.RPC.Front, m.name)
		if a == "" || p.config.runs(m.name) {
			continue
		}
		to, err := url.Parse(a)
		if err != nil || to.Host == "" {
			return ErrConfig.WithFields(fault.Field{Name: "rpc.front", Code: "format", Message: a + " is not an address"})
		}
		proxy := &httputil.ReverseProxy{
			FlushInterval: -1, // event streams and progress must not wait
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(to)
				r.SetXForwarded()
				r.Out.Host = r.In.Host
			},
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { web.WriteProblem(w, r, ErrPeerAway.Wrap(err)) },
		}
		for _, path := range m.paths {
			p.server.Forward(path, proxy)
		}
		switch m.name {
		case "gateway":
			p.server.Mount("v1", proxy)
			p.server.Mount("v2", proxy)
		case "user":
			p.server.Mount(".well-known", proxy)
		}
	}
	return nil
}

// ErrPeerAway is a service of another process that does not answer.
var ErrPeerAway = fault.New(fault.Unavailable, "maas.peer_away", "the process that answers this does not respond").WithHint("Look at its log; it may be starting")

// schema is one set of migrations.
type schema struct {
	service string
	files   fs.FS
}

// migrations lists every schema in the order in which they run: the floor first.
func migrations() []schema {
	return slices.Concat(floorMigrations(), []schema{{"user", user.Migrations}, {"model", model.Migrations}, {"inference", inference.Migrations}})
}

// counts are the numbers of the overview that other services own; what runs elsewhere counts as none.
func (p *Process) counts(ctx context.Context) (models, keys int64, err error) {
	if p.services.model != nil {
		l, err := p.services.model.Models(ctx, model.ModelFilter{Limit: page.MaxLimit})
		if err != nil {
			return 0, 0, err
		}
		models = int64(len(l.Items))
	}
	if p.services.user != nil {
		l, err := p.services.user.Keys(ctx, user.KeyFilter{Limit: page.MaxLimit})
		if err != nil {
			return 0, 0, err
		}
		keys = int64(len(l.Items))
	}
	return models, keys, nil
}
