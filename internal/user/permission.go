package user

import (
	"slices"

	"maas/internal/platform/fault"
)

// ErrBadRole is answered to a role name that does not exist.
var ErrBadRole = fault.New(fault.Invalid, "user.bad_role", "roles are owner, admin, developer and viewer")

// Role is a named set of permissions inside a tenant.
type Role string

// The roles, strongest first.
const (
	Owner     Role = "owner"
	Admin     Role = "admin"
	Developer Role = "developer"
	Viewer    Role = "viewer"
)

// Roles lists all roles, strongest first.
var Roles = []Role{Owner, Admin, Developer, Viewer}

// grants is the one table of who may do what: permission -> the roles that hold it.
var grants = map[string][]Role{
	"user:read":         {Owner, Admin, Developer, Viewer},
	"tenant:read":       {Owner, Admin, Developer, Viewer},
	"model:read":        {Owner, Admin, Developer, Viewer},
	"inference:read":    {Owner, Admin, Developer, Viewer},
	"job:read":          {Owner, Admin, Developer, Viewer},
	"ops:read":          {Owner, Admin, Developer, Viewer},
	"inference:invoke":  {Owner, Admin, Developer, Viewer},
	"billing:read":      {Owner, Admin, Developer, Viewer}, // own usage
	"billing:read_all":  {Owner, Admin},                    // everybody's usage
	"key:read":          {Owner, Admin, Developer, Viewer}, // own keys
	"key:write":         {Owner, Admin, Developer},         // own keys
	"key:admin":         {Owner, Admin},                    // all keys of the tenant
	"model:write":       {Owner, Admin, Developer},
	"inference:write":   {Owner, Admin, Developer},
	"job:write":         {Owner, Admin, Developer},
	"model:admin":       {Owner, Admin},
	"model:operate":     {Owner, Admin},
	"inference:operate": {Owner, Admin},
	"ops:write":         {Owner, Admin},
	"user:write":        {Owner, Admin},
	"user:read_pii":     {Owner, Admin},
	"tenant:write":      {Owner, Admin},
	"tenant:delete":     {Owner},
	"user:grant_owner":  {Owner},
}

// keyDefault is what a key may do that was made without scopes: call models and see what there is to call.
var keyDefault = []string{"inference:invoke", "inference:read", "model:read"}

// permissions is the inverse of grants, sorted per role.
var permissions = func() map[Role][]string {
	m := map[Role][]string{}
	for p, roles := range grants {
		for _, r := range roles {
			m[r] = append(m[r], p)
		}
	}
	for _, p := range m {
		slices.Sort(p)
	}
	return m
}()

// Permissions returns the sorted permissions of a role; nil for an unknown one. The slice is shared: do not change it.
func (r Role) Permissions() []string { return permissions[r] }

// Known reports whether a permission exists. Routes that name another one are a programming error.
func Known(permission string) bool { _, ok := grants[permission]; return ok }

// May reports whether the role holds the permission.
func (r Role) May(permission string) bool { return slices.Contains(grants[permission], r) }

// ParseRole checks a role name.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles, r) {
		return r, nil
	}
	return "", ErrBadRole.WithFields(fault.Field{Name: "body.role", Code: "not_in_list", Message: "must be owner, admin, developer or viewer"})
}

// meet returns the scopes that the role holds, sorted. The scope "all" stands for everything the role may do.
func meet(r Role, scopes []string) []string {
	if slices.Contains(scopes, "all") {
		return r.Permissions()
	}
	var out []string
	for _, p := range r.Permissions() {
		if slices.Contains(scopes, p) {
			out = append(out, p)
		}
	}
	return out
}
