package user

import (
	"maps"
	"slices"
	"sync/atomic"

	"maas/internal/platform/auth"
	"maas/internal/platform/meter"
)

// LimitGrant is a limit in the change feed.
type LimitGrant struct {
	ID       string     `json:"id"`
	TenantID string     `json:"tenant_id"`
	Kind     string     `json:"kind"`
	Subject  string     `json:"subject"`
	Unit     meter.Unit `json:"unit"`
	Limit    int64      `json:"limit"`
	Burst    int64      `json:"burst,omitempty"`
	Deleted  bool       `json:"deleted,omitempty"`
}

func (l *Limit) grant() LimitGrant {
	return LimitGrant{l.ID, l.tenantID, l.Subject.Kind, l.Subject.ID, l.Unit, l.Limit, l.Burst, l.deleted}
}

// limit is the form that the meter takes. Its counter bears the limit's id: it survives changes, and two limits of one subject count apart.
func (l *LimitGrant) limit() meter.Limit {
	return meter.Limit{Kind: l.Kind, ID: l.Subject, Unit: l.Unit, Limit: l.Limit, Burst: l.Burst, Counter: l.ID}
}

type limitSubject struct{ tenant, kind, id string }

// limitFeed is this process's view of limits. Read without a lock; written by the reader of the change feed alone.
type limitFeed struct {
	view       atomic.Pointer[map[limitSubject][]LimitGrant]
	generation atomic.Uint64
}

func (f *limitFeed) apply(list []LimitGrant) {
	if len(list) == 0 {
		return
	}
	var old map[limitSubject][]LimitGrant
	if v := f.view.Load(); v != nil {
		old = *v
	}
	next := maps.Clone(old)
	if next == nil {
		next = map[limitSubject][]LimitGrant{}
	}
	for _, l := range list {
		k := limitSubject{l.TenantID, l.Kind, l.Subject}
		have := slices.DeleteFunc(slices.Clone(next[k]), func(o LimitGrant) bool { return o.ID == l.ID })
		if !l.Deleted {
			have = append(have, l)
		}
		next[k] = have
		if len(have) == 0 {
			delete(next, k)
		}
	}
	f.view.Store(&next)
	f.generation.Add(1)
}

func (f *limitFeed) of(to []meter.Limit, tenant, kind, id string) []meter.Limit {
	v := f.view.Load()
	if v == nil || id == "" {
		return to
	}
	for _, l := range (*v)[limitSubject{tenant, kind, id}] {
		to = append(to, l.limit())
	}
	return to
}

// LimitsOf lists the limits that calls of this caller pass: those of the key (also its own fields), of the person, the project and the tenant.
func (v *Verifier) LimitsOf(p *auth.Principal, own KeyLimits) []meter.Limit {
	var list []meter.Limit
	if p.KeyID != "" {
		for _, l := range [...]meter.Limit{{Unit: meter.Requests, Limit: own.RequestsPerMinute}, {Unit: meter.Tokens, Limit: own.TokensPerMinute}, {Unit: meter.Concurrent, Limit: own.Concurrent}} {
			if l.Limit > 0 {
				l.Kind, l.ID = "key", p.KeyID
				list = append(list, l)
			}
		}
	}
	for _, s := range [...][2]string{{"key", p.KeyID}, {"user", p.UserID}, {"project", p.Project}, {"tenant", p.TenantID}} {
		list = v.limits.of(list, p.TenantID, s[0], s[1])
	}
	return list
}

// LimitsOfModel lists the limits that all calls of a model by a tenant pass together.
func (v *Verifier) LimitsOfModel(tenant, model string) []meter.Limit {
	return v.limits.of(nil, tenant, "model", model)
}

// LimitGeneration grows with each change of limits other than those in keys: what was derived from LimitsOf holds until then.
func (v *Verifier) LimitGeneration() uint64 { return v.limits.generation.Load() }

// Rights is the state of a credential as one object: the pointer changes whenever its rights, its limits or its validity do. The principal is shared: do not change it.
func (c *Credential) Rights() *auth.Principal { return &c.root().state.Load().principal }

// KeyTerms are the limits in the key itself, and whether its calls reserve the most that they can cost.
func (c *Credential) KeyTerms() (KeyLimits, bool) {
	s := c.root().state.Load()
	return s.limits, s.strict
}

// Memo is room for what the gateway derives from the credential.
func (c *Credential) Memo() *atomic.Value { return &c.root().memo }

func (c *Credential) root() *Credential {
	if c.of != nil {
		return c.of
	}
	return c
}
