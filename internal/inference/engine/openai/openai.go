// Package openai drives upstreams: any server that speaks the OpenAI dialect under a base URL, with a bearer key or without one, and those that speak Anthropic's, Gemini's or Azure's. It starts nothing; an
// instance is the proof that account and model work.
package openai

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/netguard"
)

// Driver is the engine `openai`.
type Driver struct {
	policy netguard.Policy
}

// New makes the driver. policy says which addresses upstreams may have.
func New(policy netguard.Policy) *Driver { return &Driver{policy: policy} }

// Name implements engine.Driver.
func (*Driver) Name() string { return "openai" }

// Probe implements engine.Driver.
func (*Driver) Probe(context.Context) (engine.Capabilities, error) {
	return engine.Capabilities{Engine: "openai", Devices: []string{"upstream"}, Formats: []string{}, Tasks: []string{"chat", "completion"}, Detail: "any server that speaks the OpenAI dialect"}, nil
}

// Fit implements engine.Driver: an upstream needs none of our memory.
func (d *Driver) Fit(_ context.Context, l engine.Launch) ([]engine.Need, error) {
	if l.Upstream == nil {
		return nil, engine.ErrFormat.With("the engine openai serves models of a provider, not files")
	}
	if _, err := d.policy.ParseURL(l.Upstream.BaseURL); err != nil {
		return nil, err
	}
	return []engine.Need{{Label: "upstream", Parts: map[string]int64{}, Context: l.Context, Concurrency: l.Concurrency}}, nil
}

// endpoint turns an account into an endpoint for a model; model "" = for the list of models only.
func (d *Driver) endpoint(up engine.Upstream, model string) (engine.Endpoint, error) {
	u, err := d.policy.ParseURL(up.BaseURL)
	if err != nil {
		return engine.Endpoint{}, err
	}
	ep := engine.Endpoint{Network: "tcp", Addr: address(u), Host: u.Host, BasePath: strings.TrimSuffix(u.Path, "/"), TLS: u.Scheme == "https", Dialect: up.Dialect, Model: model, Caps: up.Caps}
	key := up.Key.Reveal()
	switch up.Dialect {
	case engine.Anthropic:
		ep.AuthName, ep.Auth, ep.Headers = "X-Api-Key", up.Key, []string{"Anthropic-Version", anthropicVersion}
		ep.Caps = engine.Caps{StreamUsage: true, Ops: engine.OpChat | engine.OpCount}
	case engine.Gemini:
		ep.AuthName, ep.Auth = "X-Goog-Api-Key", up.Key
		ep.Caps = engine.Caps{StreamUsage: true, Ops: engine.OpChat | engine.OpEmbedding | engine.OpCount}
	case engine.Azure:
		ep.AuthName, ep.Auth = "Api-Key", up.Key
		ep.Caps = engine.Caps{StreamUsage: true, MaxCompletion: true, Ops: engine.OpChat | engine.OpCompletion | engine.OpEmbedding}
		azure(&ep, up.Version)
	default:
		ep.Dialect = engine.OpenAI
		if key != "" {
			ep.Auth = engine.Secret("Bearer " + key)
		}
	}
	return ep, nil
}

// anthropicVersion is the one version of Anthropic's API that there is.
const anthropicVersion = "2023-06-01"

// azure sets the paths below a resource: with an api-version in the address each deployment has its own, else there is one for all.
func azure(ep *engine.Endpoint, version string) {
	root, _, _ := strings.Cut(ep.BasePath, "/openai")
	switch {
	case version == "":
		ep.BasePath = root + "/openai/v1"
	case ep.Model == "":
		ep.BasePath, ep.Query = root+"/openai", "api-version="+url.QueryEscape(version)
	default:
		ep.BasePath, ep.Query = root+"/openai/deployments/"+url.PathEscape(ep.Model), "api-version="+url.QueryEscape(version)
	}
}

func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// Models lists what the account offers. ErrUpstreamAuth, ErrUpstream.
func (d *Driver) Models(ctx context.Context, up engine.Upstream) ([]string, error) {
	ep, err := d.endpoint(up, "")
	if err != nil {
		return nil, err
	}
	c := engine.NewClient(ep, d.policy.Client())
	defer c.Close()
	list, err := c.Models(ctx)
	return list, asUpstream(err)
}

// asUpstream says upstream where the client speaks of an engine.
func asUpstream(err error) error {
	var e interface{ Text() string }
	if errors.Is(err, engine.ErrUnavailable) && errors.As(err, &e) {
		return engine.ErrUpstream.With("%s", e.Text()).Wrap(err)
	}
	return err
}

// Start implements engine.Driver. It asks for the list of models, so that a wrong key or address shows at once; servers without that list pass, the smoke request decides.
func (d *Driver) Start(ctx context.Context, l engine.Launch, _ func(engine.Progress)) (engine.Instance, error) {
	if l.Upstream == nil {
		return nil, engine.ErrFormat.With("the engine openai serves models of a provider, not files")
	}
	ep, err := d.endpoint(*l.Upstream, l.Model)
	if err != nil {
		return nil, err
	}
	ep.ID = l.Replica + "." + l.Nonce
	ep.Slots, ep.Context = max(l.Concurrency, 1), l.Context
	i := &Instance{ep: ep, client: engine.NewClient(ep, d.policy.Client()), done: make(chan struct{}), ref: engine.Ref{Driver: "openai", Replica: l.Replica, Attempt: l.Attempt, Nonce: l.Nonce}}
	if ep.Query != "" { // a deployment at Azure: the list of models stands elsewhere, the smoke request decides
		return i, nil
	}
	list, err := i.client.Models(ctx)
	switch {
	case err == nil && len(list) > 0 && !slices.Contains(list, l.Model):
		i.unlisted = true // some servers list less than they serve: the smoke request decides
	case err != nil && !errors.Is(err, engine.ErrUpstreamModel): // 404: no list here
		i.client.Close()
		return nil, asUpstream(err)
	}
	return i, nil
}

// Attach implements engine.Driver. Nothing outlives us here: the caller starts again, which costs one request.
func (*Driver) Attach(context.Context, engine.Ref) (engine.Instance, error) {
	return nil, engine.ErrGone
}

// Instance is an account and a model that answered.
type Instance struct {
	ep       engine.Endpoint
	client   *engine.Client
	ref      engine.Ref
	unlisted bool
	done     chan struct{}
	stop     sync.Once

	mu      sync.Mutex // guards what follows
	checked time.Time
	health  engine.Health
	metrics int8 // 0 unknown, 1 has a metrics page, -1 has none
}

// Ref implements engine.Instance.
func (i *Instance) Ref() engine.Ref { return i.ref }

// Endpoint implements engine.Instance.
func (i *Instance) Endpoint() engine.Endpoint { return i.ep }

// Smoke implements engine.Instance.
func (i *Instance) Smoke(ctx context.Context) error {
	err := i.client.Smoke(ctx)
	if err != nil && i.unlisted && !errors.Is(err, engine.ErrUpstreamAuth) {
		return engine.ErrUpstreamModel.With("%s is not among the provider's models", i.ep.Model).Wrap(err)
	}
	return asUpstream(err)
}

// healthEvery is the longest an answer about an upstream's health is reused: asking costs a request there.
const healthEvery = 30 * time.Second

// Health implements engine.Instance: the upstream's list of models, at most every 30 seconds. An upstream that is away for a moment is not dead; one that refuses our key is.
func (i *Instance) Health(ctx context.Context) engine.Health {
	select {
	case <-i.done:
		return engine.Health{State: engine.Dead, Err: engine.ErrGone}
	default:
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.checked.IsZero() { // Start has just asked
		i.checked, i.health = time.Now(), engine.Health{State: engine.Ready}
		return i.health
	}
	if time.Since(i.checked) < healthEvery {
		return i.health
	}
	if i.ep.Query != "" { // it has no question that costs nothing: requests tell
		i.checked = time.Now()
		return i.health
	}
	_, err := i.client.Models(ctx)
	i.checked = time.Now()
	switch {
	case err == nil || errors.Is(err, engine.ErrUpstreamModel) || errors.Is(err, engine.ErrBusy):
		i.health = engine.Health{State: engine.Ready}
	case errors.Is(err, engine.ErrUpstreamAuth):
		i.health = engine.Health{State: engine.Dead, Err: err}
	default:
		i.checked = time.Now().Add(5*time.Second - healthEvery) // look again sooner
		i.health = engine.Health{State: engine.Starting, Err: asUpstream(err)}
	}
	return i.health
}

// Load implements engine.Instance for upstreams that publish metrics beside the base path, as self-hosted ones do. ErrUnavailable for others.
func (i *Instance) Load(ctx context.Context) (engine.Load, error) {
	i.mu.Lock()
	known := i.metrics
	i.mu.Unlock()
	if known < 0 {
		return engine.Load{}, engine.ErrUnavailable
	}
	status, page, err := i.client.Get(ctx, "/metrics")
	l, ok := engine.ParseMetrics(page)
	ok = ok && err == nil && status == http.StatusOK
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case ok:
		i.metrics = 1
		return l, nil
	case i.metrics == 0: // asked once: it has no such page
		i.metrics = -1
	}
	return engine.Load{}, engine.ErrUnavailable
}

// Measure implements engine.Instance: nothing of ours.
func (i *Instance) Measure(context.Context) (engine.Usage, error) {
	return engine.Usage{Context: i.ep.Context}, nil
}

// Stop implements engine.Instance.
func (i *Instance) Stop(context.Context, time.Duration) error {
	i.stop.Do(func() {
		i.client.Close()
		close(i.done)
	})
	return nil
}

// Done implements engine.Instance.
func (i *Instance) Done() <-chan struct{} { return i.done }

var (
	_ engine.Driver   = (*Driver)(nil)
	_ engine.Instance = (*Instance)(nil)
)
