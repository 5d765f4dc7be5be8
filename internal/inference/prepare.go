package inference

import (
	"context"
	"errors"

	"maas/internal/inference/engine"
	"maas/internal/model"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
)

// prepare makes a launch from the replica's spec: the files on this machine, or the upstream's account, and what it needs.
func (p *supervisor) prepare(ctx context.Context) (engine.Driver, engine.Launch, engine.Need, error) {
	driver, err := p.s.engine(p.r.Spec.Engine)
	if err != nil {
		return nil, engine.Launch{}, engine.Need{}, err
	}
	launch, err := p.s.launch(ctx, p.r.Tenant, p.r.Spec)
	if err != nil {
		return nil, launch, engine.Need{}, err
	}
	launch.Replica = p.id
	if launch.Upstream == nil { // the engine knows the model by its public name, so that nobody has to rename anything
		err := p.s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
			d, err := p.s.store.deploymentByID(ctx, q, p.r.Deployment)
			launch.Model = d.Name
			return err
		})
		if err != nil {
			return nil, launch, engine.Need{}, err
		}
	}
	needs, err := driver.Fit(ctx, launch)
	if err != nil {
		return nil, launch, engine.Need{}, err
	}
	if len(needs) == 0 {
		return nil, launch, engine.Need{}, engine.ErrNoFit
	}
	return driver, launch, needs[0], nil
}

// launch fills the parts of a launch that the spec decides. ctx carries the tenant.
func (s *Service) launch(ctx context.Context, tenant string, spec Spec) (engine.Launch, error) {
	l := engine.Launch{Context: spec.Context, Concurrency: spec.Concurrency, Threads: spec.Threads, Defaults: spec.Config}
	if spec.ProviderID != "" {
		up, err := s.upstream(ctx, tenant, spec.ProviderID)
		if err != nil {
			return l, err
		}
		l.Upstream, l.Model = &up, spec.UpstreamModel
		return l, nil
	}
	v, err := s.usable(ctx, spec.VersionID)
	if err != nil {
		return l, err
	}
	return s.files(ctx, l, v)
}

// usable finds a model version that may be served. ErrModelBlocked says why one may not.
func (s *Service) usable(ctx context.Context, ref string) (model.Version, error) {
	if s.models == nil {
		return model.Version{}, ErrModelBlocked.With("this process has no model registry")
	}
	v, err := s.models.Resolve(ctx, ref)
	if err != nil {
		return v, err
	}
	switch v.Status {
	case "ready", "warned":
		return v, nil
	case "rejected", "failed":
		why := ""
		if v.Reason != nil {
			why = ": " + v.Reason.Message
		}
		return v, ErrModelBlocked.With("version %d of %s is %s%s", v.Number, v.Name, v.Status, why).WithHint("Open the version's report; it names what to fix")
	default:
		return v, ErrModelBlocked.With("version %d of %s is %s", v.Number, v.Name, v.Status).WithHint("Wait until its validation has ended, or deploy another version")
	}
}

// files has the registry put the version's files onto this machine.
func (s *Service) files(ctx context.Context, l engine.Launch, v model.Version) (engine.Launch, error) {
	dir, err := s.models.Materialize(ctx, v.ID)
	if err != nil {
		return l, err
	}
	l.Dir, l.Format = dir.Path, v.Format
	for _, f := range dir.Files {
		l.Files = append(l.Files, f.Path)
	}
	return l, nil
}

// choose picks the engine for a version: the one that was asked for, or with "auto" the first that knows files and architecture. It returns the launch, its need and the reason for the choice.
func (s *Service) choose(ctx context.Context, want string, l engine.Launch, v model.Version) (string, string, engine.Need, error) {
	candidates := []string{want}
	if want == "" || want == "auto" {
		candidates = nil
		for _, name := range s.order {
			if name != "openai" { // an upstream needs an account: never chosen by itself
				candidates = append(candidates, name)
			}
		}
	}
	var first error
	for _, name := range candidates {
		driver, err := s.engine(name)
		var needs []engine.Need
		if err == nil {
			needs, err = driver.Fit(ctx, l)
		}
		if err == nil && len(needs) > 0 {
			return name, chosenBecause(want, name, v), needs[0], nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			return "", "", engine.Need{}, ctx.Err()
		}
	}
	if first == nil {
		first = engine.ErrMissing.With("no engine of this installation serves model files")
	}
	return "", "", engine.Need{}, first
}

func chosenBecause(want, name string, v model.Version) string {
	if want != "" && want != "auto" {
		return name + " was asked for"
	}
	arch := v.Architecture
	if arch == "" {
		arch = "this"
	}
	return name + " runs " + arch + " models in " + v.Format + " files on this machine's CPU"
}

// fillDefaults sets what a new deployment leaves open. limit is the model's own context, 0 = unknown.
func (c Config) fillDefaults(contextLen, concurrency, limit int) (int, int) {
	if concurrency == 0 {
		concurrency = c.Concurrency
	}
	if contextLen == 0 {
		contextLen = c.Context
		if limit > 0 {
			contextLen = min(contextLen, limit)
		}
	}
	return contextLen, concurrency
}

// asRefusal turns a driver's error about files into the refusal of a request, with the hint of its reason.
func asRefusal(err error) error {
	e := fault.From(err)
	if e.Kind == fault.Internal || e.Kind == fault.NotFound || errors.Is(err, context.Canceled) {
		return err
	}
	if e.Hint == "" {
		if v := causeOf(err).view(); v != nil && v.Hint != "" {
			return e.WithHint("%s", v.Hint)
		}
	}
	return e
}
