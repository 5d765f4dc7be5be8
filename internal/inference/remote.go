package inference

import (
	"context"
	"log/slog"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
	"maas/internal/platform/rpc"
)

// pollFor is how long a Routes call waits for news before it answers with what it has: below every time limit on the way.
const pollFor = 20 * time.Second

// wireTable is a Table on its way to a gateway in another process. It carries what engine.Secret hides: the call is signed, and goes to this machine or over TLS.
type wireTable struct {
	Table
	Auth map[string]string // Authorization of endpoints, by id
}

type refIn struct {
	Ref string `json:"ref"`
}

// Serve registers the calls that other processes may make.
func (s *Service) Serve(m *rpc.Mux) {
	rpc.Handle(m, "inference.Deployments", func(ctx context.Context, f DeploymentFilter) (page.List[DeploymentView], error) {
		return s.Deployments(ctx, f)
	})
	rpc.Handle(m, "inference.Deployment", func(ctx context.Context, in refIn) (DeploymentView, error) { return s.Deployment(ctx, in.Ref) })
	rpc.Handle(m, "inference.Deploy", s.Deploy)
	rpc.Handle(m, "inference.Start", func(ctx context.Context, in refIn) (DeploymentView, error) { return s.Start(ctx, in.Ref) })
	rpc.Handle(m, "inference.Stop", func(ctx context.Context, in refIn) (DeploymentView, error) { return s.Stop(ctx, in.Ref) })
	rpc.Handle(m, "inference.Restart", func(ctx context.Context, in refIn) (DeploymentView, error) { return s.Restart(ctx, in.Ref) })
	rpc.Handle(m, "inference.Delete", func(ctx context.Context, in refIn) (struct{}, error) { return struct{}{}, s.Delete(ctx, in.Ref) })
	rpc.Handle(m, "inference.Fit", s.Fit)
	rpc.Handle(m, "inference.ModelUses", func(ctx context.Context, in refIn) ([]string, error) { return s.ModelUses(ctx, in.Ref) })
	rpc.Handle(m, "inference.Routes", s.serveRoutes)
	rpc.Handle(m, "inference.Report", func(ctx context.Context, o []Outcome) (struct{}, error) {
		if p, _ := auth.From(ctx); p.Kind != auth.System {
			return struct{}{}, auth.ErrForbidden
		}
		return struct{}{}, s.Feed().Report(ctx, o)
	})
	rpc.Handle(m, "inference.Upstreams", func(ctx context.Context, r UpstreamReport) (struct{}, error) {
		if p, _ := auth.From(ctx); p.Kind != auth.System {
			return struct{}{}, auth.ErrForbidden
		}
		return struct{}{}, s.Feed().Upstreams(ctx, r)
	})
}

func (s *Service) serveRoutes(ctx context.Context, in struct{ Since uint64 }) (wireTable, error) {
	if p, _ := auth.From(ctx); p.Kind != auth.System { // the table spans tenants
		return wireTable{}, auth.ErrForbidden
	}
	wait, cancel := context.WithTimeout(ctx, pollFor)
	defer cancel()
	t, err := s.Feed().Routes(wait, in.Since)
	if err != nil {
		if ctx.Err() != nil {
			return wireTable{}, ctx.Err()
		}
		return wireTable{Table: Table{Version: in.Since}}, nil // no news
	}
	w := wireTable{Table: t, Auth: map[string]string{}}
	for _, r := range t.Routes {
		for _, e := range r.Endpoints {
			if e.Endpoint.Auth != "" {
				w.Auth[e.Endpoint.ID] = e.Endpoint.Auth.Reveal()
			}
		}
	}
	return w, nil
}

// Client asks the service in another process. It is an API and a Feed.
type Client struct{ c *rpc.Client }

// NewClient makes a Client.
func NewClient(c *rpc.Client) Client { return Client{c} }

var (
	_ API  = Client{}
	_ Feed = Client{}
)

// Deployments implements API.
func (c Client) Deployments(ctx context.Context, f DeploymentFilter) (page.List[DeploymentView], error) {
	return rpc.Call[page.List[DeploymentView]](ctx, c.c, "inference.Deployments", f)
}

// Deployment implements API.
func (c Client) Deployment(ctx context.Context, ref string) (DeploymentView, error) {
	return rpc.Call[DeploymentView](ctx, c.c, "inference.Deployment", refIn{ref})
}

// Deploy implements API.
func (c Client) Deploy(ctx context.Context, n NewDeployment) (DeploymentView, error) {
	return rpc.Call[DeploymentView](ctx, c.c, "inference.Deploy", n)
}

// Start implements API.
func (c Client) Start(ctx context.Context, ref string) (DeploymentView, error) {
	return rpc.Call[DeploymentView](ctx, c.c, "inference.Start", refIn{ref})
}

// Stop implements API.
func (c Client) Stop(ctx context.Context, ref string) (DeploymentView, error) {
	return rpc.Call[DeploymentView](ctx, c.c, "inference.Stop", refIn{ref})
}

// Restart implements API.
func (c Client) Restart(ctx context.Context, ref string) (DeploymentView, error) {
	return rpc.Call[DeploymentView](ctx, c.c, "inference.Restart", refIn{ref})
}

// Delete implements API.
func (c Client) Delete(ctx context.Context, ref string) error {
	_, err := rpc.Call[struct{}](ctx, c.c, "inference.Delete", refIn{ref})
	return err
}

// Fit implements API.
func (c Client) Fit(ctx context.Context, q FitQuery) (FitAnswer, error) {
	return rpc.Call[FitAnswer](ctx, c.c, "inference.Fit", q)
}

// ModelUses implements model.Dependents.
func (c Client) ModelUses(ctx context.Context, modelID string) ([]string, error) {
	return rpc.Call[[]string](ctx, c.c, "inference.ModelUses", refIn{modelID})
}

// Routes implements Feed. Without news it answers an equal version after a while.
func (c Client) Routes(ctx context.Context, since uint64) (Table, error) {
	w, err := rpc.Call[wireTable](auth.AsSystem(ctx, ""), c.c, "inference.Routes", struct{ Since uint64 }{since})
	if err != nil {
		return Table{}, err
	}
	for i := range w.Routes {
		for j := range w.Routes[i].Endpoints {
			e := &w.Routes[i].Endpoints[j].Endpoint
			e.Auth = engine.Secret(w.Auth[e.ID])
		}
	}
	return w.Table, nil
}

// Report implements Feed.
func (c Client) Report(ctx context.Context, o []Outcome) error {
	_, err := rpc.Call[struct{}](auth.AsSystem(ctx, ""), c.c, "inference.Report", o)
	return err
}

// Upstreams implements Feed.
func (c Client) Upstreams(ctx context.Context, r UpstreamReport) error {
	_, err := rpc.Call[struct{}](auth.AsSystem(ctx, ""), c.c, "inference.Upstreams", r)
	return err
}

// Follower keeps a Router of this process fresh from a service in another one.
type Follower struct {
	feed     Feed
	router   *Router
	outcomes chan Outcome
	moves    chan Move
	node     string
	log      *slog.Logger
}

// NewFollower makes a Follower. Until Run has its first table every model is unknown.
func NewFollower(f Feed, now clock.Clock, log *slog.Logger) *Follower {
	o := &Follower{feed: f, outcomes: make(chan Outcome, 4096), moves: make(chan Move, 256), node: id.New("nod"), log: log.With("component", "router")}
	o.router = NewRouter(now, func(out Outcome) {
		select {
		case o.outcomes <- out:
		default: // charts may lose; requests may not wait
		}
	})
	o.router.OnMove(func(m Move) {
		select {
		case o.moves <- m:
		default:
		}
	})
	return o
}

// Router is the router that is kept fresh.
func (f *Follower) Router() *Router { return f.router }

// Run follows until ctx ends. While the other side is away the last table holds.
func (f *Follower) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() { defer close(done); f.report(ctx) }()
	defer func() { <-done }()
	var since, epoch uint64
	away := false
	for ctx.Err() == nil {
		t, err := f.feed.Routes(ctx, since)
		if err != nil {
			if !away && ctx.Err() == nil {
				f.log.WarnContext(ctx, "the routes cannot be read; the last ones hold", "error", err)
			}
			away, since = true, 0 // it may have been restarted and count anew
			wait(ctx, time.Second)
			continue
		}
		away = false
		if t.Version != since {
			since = t.Version
			epoch++
			t.Version = epoch // ours, so that a service that counts anew is not taken for old
			f.router.Set(t)
		}
	}
	return nil
}

// upstreams sends what is known of the endpoints, with the breakers that moved.
func (f *Follower) upstreams(ctx context.Context) {
	r := UpstreamReport{Node: f.node, States: f.router.Upstreams("")}
	for len(f.moves) > 0 {
		r.Moves = append(r.Moves, <-f.moves)
	}
	if len(r.States) == 0 && len(r.Moves) == 0 {
		return
	}
	send, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := f.feed.Upstreams(send, r); err != nil && ctx.Err() == nil {
		f.log.WarnContext(ctx, "the state of upstreams was not told", "error", err)
	}
}

// report sends outcomes once a second, and every other time what is known of the endpoints.
func (f *Follower) report(ctx context.Context) {
	for turn := 0; ; turn++ {
		wait(ctx, time.Second)
		if turn%int(reportEvery/time.Second) == 0 {
			f.router.Tend()
			f.upstreams(ctx)
		}
		var batch []Outcome
		for len(batch) < cap(f.outcomes) && len(f.outcomes) > 0 {
			batch = append(batch, <-f.outcomes)
		}
		if len(batch) > 0 {
			send, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			if err := f.feed.Report(send, batch); err != nil && ctx.Err() == nil {
				f.log.WarnContext(ctx, "outcomes were lost", "count", len(batch), "error", err)
			}
			cancel()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// wait sleeps, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
