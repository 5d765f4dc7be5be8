package inference

import (
	"context"
	"errors"
	"strings"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
	"maas/internal/platform/seal"
)

// Provider is an account at an upstream.
type Provider struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Kind      string    `json:"kind"`             // openai, anthropic, gemini, azure
	Preset    string    `json:"preset,omitempty"` // the known upstream it is, "" = none
	BaseURL   string    `json:"base_url"`
	Version   string    `json:"api_version,omitempty"` // of Azure's API; "" = its newest form, which has none in the address
	KeySet    bool      `json:"api_key_set"`
	Status    string    `json:"status"` // unknown, ok, failed: of the last test
	Reason    *Reason   `json:"reason"`
	CheckedAt time.Time `json:"checked_at,omitzero"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Rev       int64     `json:"rev"`

	tenant string
	sealed string // of the key, "" = none
	cause  cause
}

// NewProvider is what a provider is made from.
type NewProvider struct {
	Name    string `json:"name" minLength:"1" maxLength:"96"`
	Kind    string `json:"kind,omitempty" enum:"openai,anthropic,gemini,azure" doc:"The dialect of the upstream; that of the preset, else openai"`
	Preset  string `json:"preset,omitempty" maxLength:"40" doc:"A known upstream (GET /inference/provider-presets); found by the address where it is left out"`
	BaseURL string `json:"base_url,omitempty" maxLength:"500" doc:"https://host/v1; the paths of the dialect are appended. That of the preset where it is left out"`
	Version string `json:"api_version,omitempty" maxLength:"40" doc:"Azure: the api-version of addresses with deployments; left out for its v1 form"`
	APIKey  string `json:"api_key,omitempty" maxLength:"4096" doc:"Kept sealed, never shown"`
}

// ProviderPatch changes a provider; nil fields stay. An empty key removes the key.
type ProviderPatch struct {
	Name    *string `json:"name,omitempty" minLength:"1" maxLength:"96"`
	BaseURL *string `json:"base_url,omitempty" minLength:"8" maxLength:"500"`
	Version *string `json:"api_version,omitempty" maxLength:"40"`
	APIKey  *string `json:"api_key,omitempty" maxLength:"4096"`
}

// ProviderTest is the result of asking a provider for its models.
type ProviderTest struct {
	OK        bool    `json:"ok"`
	LatencyMS int64   `json:"latency_ms"`
	Models    int     `json:"models"`
	Error     *Reason `json:"error"`
}

// UpstreamModel is one model that a provider offers.
type UpstreamModel struct {
	ID string `json:"id"`
}

// choose sets kind, preset and address of a new account: what is named, else what the preset says.
func (p *Provider) choose(n *NewProvider) error {
	p.Kind, p.Preset = n.Kind, n.Preset
	if n.Preset != "" {
		known, ok := presetByID(n.Preset)
		switch {
		case !ok:
			return ErrProviderInvalid.WithFields(fault.Field{Name: "body.preset", Code: "not_in_list", Message: "is not the id of a known upstream"})
		case n.Kind != "" && n.Kind != known.Kind:
			return ErrProviderInvalid.WithFields(fault.Field{Name: "body.kind", Code: "conflict", Message: "must be " + known.Kind + " with this preset"})
		}
		p.Kind = known.Kind
		if n.BaseURL == "" && !strings.ContainsAny(known.BaseURL, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			n.BaseURL = known.BaseURL
		}
	}
	if p.Kind == "" {
		p.Kind = KindOpenAI
	}
	if n.BaseURL == "" {
		return ErrProviderInvalid.WithFields(fault.Field{Name: "body.base_url", Code: "required", Message: "is required"})
	}
	if p.Preset == "" {
		p.Preset = guessPreset(p.Kind, n.BaseURL)
	}
	return nil
}

func (p *Provider) set(name, base, version string, s *Service) error {
	name = strings.TrimSpace(name)
	var bad []fault.Field
	if name == "" || len(name) > 96 || strings.ContainsAny(name, "\x00\n\r") {
		bad = append(bad, fault.Field{Name: "body.name", Code: "format", Message: "must be 1 to 96 characters on one line"})
	}
	if version != "" && (p.Kind != KindAzure || strings.Trim(version, "0123456789abcdefghijklmnopqrstuvwxyz-") != "") {
		bad = append(bad, fault.Field{Name: "body.api_version", Code: "format", Message: "is for Azure, of the form 2024-10-21 or 2025-01-01-preview"})
	}
	u, err := s.config.Upstream.Policy().ParseURL(base)
	if err != nil {
		e := fault.From(err)
		bad = append(bad, fault.Field{Name: "body.base_url", Code: "format", Message: e.Text()})
		if len(bad) > 0 {
			return ErrProviderInvalid.With("%s", e.Text()).WithHint("%s", e.Hint).WithFields(bad...)
		}
	}
	if len(bad) > 0 {
		return ErrProviderInvalid.WithFields(bad...)
	}
	p.Name, p.BaseURL, p.Version = name, u.String(), version
	return nil
}

func checkKey(key string) error {
	for _, c := range []byte(key) {
		if c <= ' ' || c >= 0x7f {
			return ErrProviderInvalid.WithFields(fault.Field{Name: "body.api_key", Code: "format", Message: "must be visible ASCII without blanks"})
		}
	}
	return nil
}

func keyPlace(p Provider) seal.Place {
	return seal.Place{Table: "inference_provider", Column: "api_key", Row: p.ID, Tenant: p.tenant}
}

func (s *Service) sealKey(ctx context.Context, p *Provider, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	p.sealed, p.KeySet = "", key != ""
	if key == "" {
		return nil
	}
	var err error
	p.sealed, err = s.seal.Seal(ctx, keyPlace(*p), []byte(key))
	return err
}

// CreateProvider stores an account. It is not asked yet: see TestProvider.
func (s *Service) CreateProvider(ctx context.Context, n NewProvider) (Provider, error) {
	now := s.now()
	p := Provider{ID: id.New("prv"), Status: "unknown", CreatedAt: now, UpdatedAt: now, Rev: 1, tenant: auth.Tenant(ctx)}
	if err := p.choose(&n); err != nil {
		return Provider{}, err
	}
	if err := p.set(n.Name, n.BaseURL, n.Version, s); err != nil {
		return Provider{}, err
	}
	if err := s.sealKey(ctx, &p, n.APIKey); err != nil {
		return Provider{}, err
	}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return s.store.insertProvider(ctx, tx, p) })
	return p, providerError(err)
}

func providerError(err error) error {
	switch {
	case errors.Is(err, db.ErrNoRow):
		return ErrProviderNotFound
	case db.Duplicate(err, "name"):
		return ErrNameTaken.With("a provider of this name exists").WithHint("Choose another name").WithFields(fault.Field{Name: "body.name", Code: "duplicate", Message: "is taken"})
	}
	return err
}

// Providers lists the tenant's accounts by name.
func (s *Service) Providers(ctx context.Context, after string, limit int) (page.List[Provider], error) {
	keys, err := page.Decode("providers", after, 1)
	if err != nil {
		return page.List[Provider]{}, err
	}
	from := ""
	if keys != nil {
		from = keys[0]
	}
	limit = page.Limit(limit)
	var list []Provider
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		list, err = s.store.providers(ctx, q, auth.Tenant(ctx), from, limit+1)
		return err
	})
	return page.Of(list, limit, "providers", func(p Provider) []string { return []string{p.Name} }), err
}

// Provider finds one of the tenant's accounts.
func (s *Service) Provider(ctx context.Context, ref string) (p Provider, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		p, err = s.store.provider(ctx, q, auth.Tenant(ctx), ref)
		return err
	})
	return p, providerError(err)
}

// UpdateProvider changes an account. check, if not nil, sees the present revision first. Deployments that use it are restarted when address or key change.
func (s *Service) UpdateProvider(ctx context.Context, ref string, patch ProviderPatch, check func(rev int64) error) (Provider, error) {
	var p Provider
	var using []Deployment
	tenant := auth.Tenant(ctx)
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if p, err = s.store.provider(ctx, tx, tenant, ref); err != nil {
			return err
		}
		if check != nil {
			if err := check(p.Rev); err != nil {
				return err
			}
		}
		name, base, version := p.Name, p.BaseURL, p.Version
		if patch.Name != nil {
			name = *patch.Name
		}
		if patch.BaseURL != nil {
			base = *patch.BaseURL
		}
		if patch.Version != nil {
			version = *patch.Version
		}
		moved := base != p.BaseURL || version != p.Version || patch.APIKey != nil
		if guessPreset(p.Kind, p.BaseURL) == p.Preset { // it was found by the address, so it moves with it
			p.Preset = guessPreset(p.Kind, base)
		}
		if err := p.set(name, base, version, s); err != nil {
			return err
		}
		if patch.APIKey != nil {
			if err := s.sealKey(ctx, &p, *patch.APIKey); err != nil {
				return err
			}
		}
		p.UpdatedAt = s.now()
		if moved {
			p.Status, p.cause, p.Reason, p.CheckedAt = "unknown", cause{}, nil, time.Time{}
			if using, err = s.store.ofProvider(ctx, tx, tenant, p.ID); err != nil {
				return err
			}
		}
		if err := s.store.updateProvider(ctx, tx, p); err != nil {
			return err
		}
		p.Rev++
		return nil
	})
	if err != nil {
		return Provider{}, providerError(err)
	}
	for _, d := range using {
		if d.Desired == DesiredRunning && !d.Deleting {
			if _, err := s.Restart(ctx, d.ID); err != nil {
				s.logError(ctx, "a deployment was not restarted after its provider changed", err, "deployment", d.ID)
			}
		}
	}
	return p, nil
}

// DeleteProvider removes an account that no deployment uses; ErrProviderInUse names those that do.
func (s *Service) DeleteProvider(ctx context.Context, ref string) error {
	tenant := auth.Tenant(ctx)
	return providerError(s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		using, err := s.store.ofProvider(ctx, tx, tenant, ref)
		if err != nil {
			return err
		}
		if len(using) > 0 {
			names := make([]string, 0, 3)
			for _, d := range using[:min(3, len(using))] {
				names = append(names, d.Name)
			}
			return ErrProviderInUse.With("%d deployments use it: %s", len(using), strings.Join(names, ", "))
		}
		return s.store.deleteProvider(ctx, tx, tenant, ref)
	}))
}

// upstream opens an account for a driver.
func (s *Service) upstream(ctx context.Context, tenant, ref string) (engine.Upstream, error) {
	var p Provider
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		p, err = s.store.provider(ctx, q, tenant, ref)
		return err
	})
	if err != nil {
		return engine.Upstream{}, providerError(err)
	}
	up := engine.Upstream{BaseURL: p.BaseURL, Dialect: engine.Dialect(p.Kind), Version: p.Version, Caps: capsOf(&p)}
	if p.sealed == "" {
		return up, nil
	}
	key, err := s.seal.Open(ctx, keyPlace(p), p.sealed)
	up.Key = engine.Secret(key)
	return up, err
}

// lister is a driver that can list what an upstream offers.
type lister interface {
	Models(ctx context.Context, up engine.Upstream) ([]string, error)
}

// ProviderModels asks the upstream what it offers.
func (s *Service) ProviderModels(ctx context.Context, ref string) ([]UpstreamModel, error) {
	if _, err := s.Provider(ctx, ref); err != nil {
		return nil, err
	}
	up, err := s.upstream(ctx, auth.Tenant(ctx), ref)
	if err != nil {
		return nil, err
	}
	driver, err := s.engine("openai")
	if err != nil {
		return nil, err
	}
	l, ok := driver.(lister)
	if !ok {
		return nil, engine.ErrMissing.With("this engine lists no models")
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ids, err := l.Models(ctx, up)
	if err != nil {
		return nil, asRefusal(err)
	}
	out := make([]UpstreamModel, 0, len(ids))
	for _, m := range ids {
		out = append(out, UpstreamModel{ID: m})
	}
	return out, nil
}

// TestProvider asks the upstream for its models and stores how that went.
func (s *Service) TestProvider(ctx context.Context, ref string) (ProviderTest, error) {
	if _, err := s.Provider(ctx, ref); err != nil {
		return ProviderTest{}, err
	}
	begin := time.Now()
	models, err := s.ProviderModels(ctx, ref)
	t := ProviderTest{OK: err == nil, LatencyMS: time.Since(begin).Milliseconds(), Models: len(models)}
	var c cause
	status := "ok"
	if err != nil {
		c, status = causeOf(err), "failed"
		c.At = s.now()
		t.Error = c.view()
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return s.store.checkedProvider(ctx, tx, auth.Tenant(ctx), ref, status, c, s.now())
	})
	return t, providerError(err)
}
