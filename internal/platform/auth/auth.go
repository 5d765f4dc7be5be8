// Package auth carries who is asking through a context and answers whether they may. It knows no service: permissions are strings `<service>:<verb>`, resolved by the user service when the credential is read.
package auth

import (
	"context"
	"slices"

	"maas/internal/platform/fault"
)

// The refusals every service shares.
var (
	ErrUnauthenticated = fault.New(fault.Unauthenticated, "auth.unauthenticated", "sign in first, or send a valid credential")
	ErrForbidden       = fault.New(fault.Forbidden, "auth.forbidden", "you do not have the permission for this")
	ErrProject         = fault.New(fault.Forbidden, "auth.no_project", "you cannot act for this project").WithHint("X-Maas-Project takes the id or slug of a project that you are a member of")
)

// Kind of a principal.
type Kind string

// The kinds.
const (
	User   Kind = "user"   // a person with a session
	Key    Kind = "key"    // an API key, acting for its owner
	System Kind = "system" // the program itself: jobs, reconcilers, migrations
)

// Principal is a verified caller. It is immutable once in a context.
type Principal struct {
	Kind        Kind     `json:"kind"`
	TenantID    string   `json:"tenant_id"`
	UserID      string   `json:"user_id"`               // the person; owner of the key for Kind Key
	KeyID       string   `json:"key_id,omitempty"`      // set for Kind Key
	SessionID   string   `json:"session_id,omitempty"`  // set for Kind User
	Name        string   `json:"name,omitempty"`        // for logs and audit: e-mail or key name
	Role        string   `json:"role,omitempty"`        // owner, admin, developer, viewer
	Permissions []string `json:"permissions,omitempty"` // sorted
	Models      []string `json:"models,omitempty"`      // allowed public model names; empty = all

	Grants   []Grant   `json:"grants,omitempty"`   // rights on single objects, beside Permissions
	Project  string    `json:"project,omitempty"`  // id of the project it acts for; "" = none
	Projects []Project `json:"projects,omitempty"` // those it may choose with a header; for a key of a project: that one
}

// Object is one thing that a right may be limited to.
type Object struct{ Kind, ID string }

// Grant is a set of permissions on one object.
type Grant struct {
	Kind        string   `json:"kind"` // model, deployment, provider, ...
	ID          string   `json:"id"`
	Permissions []string `json:"permissions"` // sorted
}

// Project is one that a principal may act for.
type Project struct {
	ID   string `json:"id"`
	Slug string `json:"slug"`
}

// May reports whether the principal holds the permission. System may everything.
func (p Principal) May(permission string) bool {
	if p.Kind == System {
		return true
	}
	_, found := slices.BinarySearch(p.Permissions, permission)
	return found
}

// MayOn reports whether the principal holds the permission everywhere, or by a grant on one of these objects.
func (p Principal) MayOn(permission string, on ...Object) bool {
	if p.May(permission) {
		return true
	}
	for _, g := range p.Grants {
		if slices.Contains(on, Object{g.Kind, g.ID}) {
			if _, found := slices.BinarySearch(g.Permissions, permission); found {
				return true
			}
		}
	}
	return false
}

// In returns the principal acting for the project with this id or slug: ErrProject if it may not choose it. "" leaves it as it is.
func (p Principal) In(project string) (Principal, error) {
	if project == "" || project == p.Project {
		return p, nil
	}
	for _, q := range p.Projects {
		if q.ID == project || q.Slug == project {
			p.Project = q.ID
			return p, nil
		}
	}
	return p, ErrProject.With("there is no project %.60q for you", project)
}

type ctxKey struct{}

// With returns a context that carries p.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, ctxKey{}, p)
}

// AsSystem returns a context in which the program itself acts inside a tenant.
func AsSystem(ctx context.Context, tenant string) context.Context {
	return With(ctx, Principal{Kind: System, TenantID: tenant, Name: "system"})
}

// From returns the principal of ctx.
func From(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(ctxKey{}).(Principal)
	return p, ok
}

// Tenant returns the tenant of ctx, "" without a principal.
func Tenant(ctx context.Context) string {
	p, _ := From(ctx)
	return p.TenantID
}

// Need returns nil if the caller holds the permission, by role or by a grant on one of the objects; ErrUnauthenticated without a caller, ErrForbidden (naming the permission) else.
func Need(ctx context.Context, permission string, on ...Object) error {
	p, ok := From(ctx)
	if !ok {
		return ErrUnauthenticated
	}
	if !p.MayOn(permission, on...) {
		return ErrForbidden.With("this needs the permission %s", permission).WithHint("Ask an owner or admin of your team for a role that has %s", permission)
	}
	return nil
}
