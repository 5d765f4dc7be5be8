package inference

import (
	"context"
	"errors"
	"slices"
	"strings"

	"maas/internal/inference/engine"
	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
)

var _ API = (*Service)(nil)

// planned is a spec with what was learned while it was made.
type planned struct {
	spec   Spec
	reason string // for the choice of the engine
	need   engine.Need
	have   int64 // free memory; 0 for upstreams, which need none
	total  int64
}

// fits reports that the memory is there now.
func (p planned) fits() bool { return p.need.HostBytes <= p.have || p.spec.ProviderID != "" }

// never reports that this machine is too small, whatever else is stopped.
func (p planned) never() bool { return p.spec.ProviderID == "" && p.need.HostBytes > p.total }

// resolve turns what was asked for into a spec: the version or provider it names, the engine, the need. except names a replica whose own memory counts as free.
func (s *Service) resolve(ctx context.Context, n NewDeployment, except string) (planned, error) {
	if n.Provider != "" {
		return s.resolveUpstream(ctx, n)
	}
	v, err := s.usable(ctx, n.Model)
	if err != nil {
		return planned{}, asRefusal(err)
	}
	contextLen, concurrency := s.config.fillDefaults(n.Context, n.Concurrency, v.ContextLength)
	l, err := s.files(ctx, engine.Launch{Context: contextLen, Concurrency: concurrency, Threads: n.Threads}, v)
	if err != nil {
		return planned{}, err
	}
	name, reason, need, err := s.choose(ctx, n.Engine, l, v)
	if err != nil {
		return planned{}, asRefusal(err)
	}
	if need.MaxContext > 0 && contextLen > need.MaxContext {
		if n.Context > 0 {
			return planned{}, ErrSpec.With("the model holds at most %d tokens", need.MaxContext).WithFields(fault.Field{Name: "body.context", Code: "out_of_range", Message: "is above the model's own limit", Limit: need.MaxContext})
		}
		l.Context = need.MaxContext // the default is larger than the model: its own limit is meant
		if name, reason, need, err = s.choose(ctx, name, l, v); err != nil {
			return planned{}, asRefusal(err)
		}
		contextLen = l.Context
	}
	spec := Spec{Engine: name, ModelID: v.ModelID, ModelName: v.Name, ModelVersion: v.Number, VersionID: v.ID, Context: contextLen, Concurrency: concurrency, Threads: n.Threads, Config: n.Config}
	return planned{spec: spec, reason: reason, need: need, have: s.host.free(except), total: s.host.total()}, nil
}

func (s *Service) resolveUpstream(ctx context.Context, n NewDeployment) (planned, error) {
	if n.Engine != "" && n.Engine != "auto" && n.Engine != "openai" {
		return planned{}, ErrSpec.WithFields(fault.Field{Name: "body.engine", Code: "not_in_list", Message: "a provider is served by the engine openai"})
	}
	if _, err := s.engine("openai"); err != nil {
		return planned{}, err
	}
	p, err := s.Provider(ctx, n.Provider)
	if errors.Is(err, ErrProviderNotFound) {
		return planned{}, ErrSpec.With("there is no provider %q", n.Provider).WithFields(fault.Field{Name: "body.provider", Code: "not_found", Message: "there is no such provider"})
	}
	if err != nil {
		return planned{}, err
	}
	concurrency := n.Concurrency
	if concurrency == 0 {
		concurrency = 64 // the upstream has its own limits; this only weighs load
	}
	spec := Spec{Engine: "openai", ProviderID: p.ID, ProviderName: p.Name, UpstreamModel: n.UpstreamModel, Context: n.Context, Concurrency: concurrency, Config: n.Config}
	return planned{spec: spec, reason: "the provider " + p.Name + " serves it"}, nil
}

// Deploy implements API.
func (s *Service) Deploy(ctx context.Context, n NewDeployment) (DeploymentView, error) {
	if err := n.validate(); err != nil {
		return DeploymentView{}, err
	}
	p, err := s.resolve(ctx, n, "")
	if err != nil {
		return DeploymentView{}, err
	}
	if p.never() {
		return DeploymentView{}, refuse(p)
	}
	d := newDeployment(id.New("dep"), auth.Tenant(ctx), n.Name, p.spec, p.reason, s.now())
	if p.spec.ProviderID == "" {
		d.Need = &p.need
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		d := d
		d.Seq = 1
		if err := s.store.insertDeployment(ctx, tx, d); err != nil {
			return err
		}
		t := Transition{ID: id.New("evt"), Seq: 1, Deployment: d.ID, To: string(d.Status), At: d.CreatedAt, tenant: d.Tenant}
		if err := s.store.insertTransition(ctx, tx, t, d.Cause); err != nil {
			return err
		}
		tx.After(func() { s.changed(d.ID) })
		return event.Publish(ctx, tx, DeploymentCreated{d.ID, d.Name})
	})
	if db.Duplicate(err, "name") {
		return DeploymentView{}, ErrNameTaken.With("a deployment named %s exists", n.Name).WithFields(fault.Field{Name: "body.name", Code: "duplicate", Message: "is taken"})
	}
	if err != nil {
		return DeploymentView{}, err
	}
	return s.view(d, nil), nil
}

// refuse says that a spec does not fit, what is missing and what would.
func refuse(p planned) error {
	have, code := p.have, "host_memory"
	if p.never() {
		have, code = p.total, "fit_never"
	}
	v := noFit(code, p.need, have).view()
	return ErrFitRefused.With("%s", v.Message).WithHint("%s", v.Hint)
}

// Fit implements API.
func (s *Service) Fit(ctx context.Context, q FitQuery) (FitAnswer, error) {
	return s.Plan(ctx, NewDeployment{Name: "fit", Model: q.Model, Engine: q.Engine, Context: q.Context, Concurrency: q.Concurrency})
}

// Plan says what Deploy would do with the same input; it changes nothing. Errors are those of Deploy, but that a lack of memory is an answer.
func (s *Service) Plan(ctx context.Context, n NewDeployment) (FitAnswer, error) {
	if err := n.validate(); err != nil {
		return FitAnswer{}, err
	}
	p, err := s.resolve(ctx, n, "")
	if err != nil {
		return FitAnswer{}, err
	}
	a := FitAnswer{Fits: p.fits(), Engine: p.spec.Engine, EngineReason: p.reason, HaveBytes: p.have, Context: p.spec.Context, Concurrency: p.spec.Concurrency}
	if p.spec.ProviderID != "" {
		return a, nil
	}
	a.Need = needView(&p.need)
	a.MaxContext = maxContext(p.need, p.have)
	if !a.Fits {
		have, code := p.have, "host_memory"
		if p.never() {
			have, code = p.total, "fit_never"
		}
		a.Reason = noFit(code, p.need, have).view()
	}
	return a, nil
}

// Deployments implements API.
func (s *Service) Deployments(ctx context.Context, f DeploymentFilter) (page.List[DeploymentView], error) {
	filter := "deployments:" + f.Status
	keys, err := page.Decode(filter, f.After, 1)
	if err != nil {
		return page.List[DeploymentView]{}, err
	}
	after := ""
	if keys != nil {
		after = keys[0]
	}
	limit := page.Limit(f.Limit)
	var statuses []string
	for st := range strings.SplitSeq(f.Status, ",") {
		if st != "" && len(statuses) < 8 {
			statuses = append(statuses, st)
		}
	}
	var list []Deployment
	var views []DeploymentView
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		views = nil
		if list, err = s.store.deployments(ctx, q, auth.Tenant(ctx), after, statuses, limit+1); err != nil {
			return err
		}
		replicas, err := s.store.replicasOf(ctx, q, list)
		if err != nil {
			return err
		}
		for _, d := range list {
			views = append(views, s.view(d, replicas[d.ID]))
		}
		return nil
	})
	return page.Of(views, limit, filter, func(d DeploymentView) []string { return []string{d.Name} }), err
}

// Deployment implements API.
func (s *Service) Deployment(ctx context.Context, ref string) (DeploymentView, error) {
	d, replicas, err := s.find(ctx, ref)
	if err != nil {
		return DeploymentView{}, err
	}
	return s.view(d, replicas), nil
}

func (s *Service) find(ctx context.Context, ref string) (d Deployment, replicas []Replica, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		if d, err = s.load(ctx, q, auth.Tenant(ctx), ref); err != nil {
			return err
		}
		replicas, err = s.store.replicas(ctx, q, d.ID, keptReplicas)
		return err
	})
	return d, replicas, err
}

// edit is change for something a person wants: f returns the reason to note, or false when there was nothing to do.
func (s *Service) edit(ctx context.Context, ref string, f func(d *Deployment) (cause, bool, error)) (DeploymentView, error) {
	d, replicas, err := s.change(ctx, auth.Tenant(ctx), ref, func(_ context.Context, c *draft) error {
		why, changed, err := f(&c.d)
		if err != nil || !changed {
			return err
		}
		c.byPerson = true
		c.note(why)
		return nil
	})
	if err != nil {
		return DeploymentView{}, err
	}
	return s.view(d, replicas), nil
}

// Start implements API.
func (s *Service) Start(ctx context.Context, ref string) (DeploymentView, error) {
	return s.edit(ctx, ref, func(d *Deployment) (cause, bool, error) {
		changed, err := d.start()
		return because("operator_start"), changed, err
	})
}

// Stop implements API.
func (s *Service) Stop(ctx context.Context, ref string) (DeploymentView, error) {
	return s.edit(ctx, ref, func(d *Deployment) (cause, bool, error) {
		changed, err := d.stop()
		return because("operator_stop"), changed, err
	})
}

// Restart implements API.
func (s *Service) Restart(ctx context.Context, ref string) (DeploymentView, error) {
	return s.edit(ctx, ref, func(d *Deployment) (cause, bool, error) {
		return because("operator_restart"), true, d.restart()
	})
}

// Delete implements API.
func (s *Service) Delete(ctx context.Context, ref string) error { return s.DeleteIf(ctx, ref, nil) }

// DeleteIf is Delete after check, if not nil, has seen the present revision. ErrRouted while routes lead to it.
func (s *Service) DeleteIf(ctx context.Context, ref string, check func(rev int64) error) error {
	_, _, err := s.change(ctx, auth.Tenant(ctx), ref, func(ctx context.Context, c *draft) error {
		if check != nil {
			if err := check(c.d.Rev); err != nil {
				return err
			}
		}
		if c.d.Deleting {
			return nil
		}
		if err := s.routed(ctx, c.tx, c.d); err != nil {
			return err
		}
		c.d.remove()
		c.byPerson = true
		c.note(because("operator_delete"))
		return nil
	})
	return err
}

// Update changes a deployment. check, if not nil, sees the present revision first. ErrFitRefused when the new spec can never fit here.
func (s *Service) Update(ctx context.Context, ref string, patch Patch, check func(rev int64) error) (DeploymentView, error) {
	d, replicas, err := s.find(ctx, ref)
	if err != nil {
		return DeploymentView{}, err
	}
	n := patched(d, patch)
	if err := n.validate(); err != nil {
		return DeploymentView{}, err
	}
	p, err := s.resolvePatch(ctx, d, replicas, patch, n)
	if err != nil {
		return DeploymentView{}, err
	}
	return s.edit(ctx, ref, func(have *Deployment) (cause, bool, error) {
		if check != nil {
			if err := check(have.Rev); err != nil {
				return cause{}, false, err
			}
		}
		if have.Rev != d.Rev { // what we computed belongs to another spec
			return cause{}, false, ErrPatchRace
		}
		if have.Spec == p.spec {
			return cause{}, false, nil
		}
		if _, err := have.change(p.spec, p.reason); err != nil {
			return cause{}, false, err
		}
		if p.need.HostBytes > 0 {
			have.Need = &p.need
		}
		return because("spec_changed"), true, nil
	})
}

// ErrPatchRace is answered when two people change a deployment at the same moment.
var ErrPatchRace = fault.New(fault.Conflict, "inference.changed_meanwhile", "the deployment was changed while this change was computed").WithHint("Send the change again")

// resolvePatch computes the new spec; where only sampling defaults change, nothing but them.
func (s *Service) resolvePatch(ctx context.Context, d Deployment, replicas []Replica, patch Patch, n NewDeployment) (planned, error) {
	if patch.Model == nil && patch.UpstreamModel == nil && patch.Context == nil && patch.Concurrency == nil && patch.Threads == nil {
		spec := d.Spec
		spec.Config = n.Config
		return planned{spec: spec, reason: d.EngineReason}, nil
	}
	except := ""
	if i := slices.IndexFunc(replicas, func(r Replica) bool { return r.State == RReady }); i >= 0 {
		except = replicas[i].ID
	}
	p, err := s.resolve(ctx, n, except)
	if err == nil && p.never() {
		err = refuse(p)
	}
	return p, err
}

// patched is the deployment as if it were made anew with the patch.
func patched(d Deployment, patch Patch) NewDeployment {
	n := NewDeployment{
		Name: d.Name, Model: d.Spec.VersionID, Provider: d.Spec.ProviderID, UpstreamModel: d.Spec.UpstreamModel, Engine: d.Spec.Engine, Context: d.Spec.Context, Concurrency: d.Spec.Concurrency,
		Threads: d.Spec.Threads, Config: d.Spec.Config,
	}
	if patch.Model != nil {
		n.Model, n.Engine = *patch.Model, "auto"
	}
	if patch.UpstreamModel != nil {
		n.UpstreamModel = *patch.UpstreamModel
	}
	if patch.Context != nil {
		n.Context = *patch.Context
	}
	if patch.Concurrency != nil {
		n.Concurrency = *patch.Concurrency
	}
	if patch.Threads != nil {
		n.Threads = *patch.Threads
	}
	if patch.Config != nil {
		n.Config = *patch.Config
	}
	return n
}

// versionOf is the reference to the model version of a spec, nil for an upstream's.
func versionOf(s Spec) *ModelRef {
	if s.VersionID == "" {
		return nil
	}
	return &ModelRef{ID: s.ModelID, Name: s.ModelName, Version: s.ModelVersion, VersionID: s.VersionID}
}
