package user

import (
	"slices"
	"strings"

	"maas/internal/platform/fault"
)

// ErrBadRole is answered to a role name that does not exist.
var ErrBadRole = fault.New(fault.Invalid, "user.bad_role", "there is no such role").WithHint("Roles are owner, admin, developer, viewer, billing, and those of your organisation: GET /roles")

// Role is a named set of permissions inside a tenant.
type Role string

// The roles, strongest first.
const (
	Owner     Role = "owner"
	Admin     Role = "admin"
	Developer Role = "developer"
	Viewer    Role = "viewer"
	Billing   Role = "billing" // money and usage, nothing else
)

// Roles lists the built-in roles, strongest first. A tenant's own roles are rows of user_role, named by their id.
var Roles = []Role{Owner, Admin, Developer, Viewer, Billing}

// grants is the one table of who may do what: permission -> the roles that hold it.
var grants = map[string][]Role{
	"user:read":         {Owner, Admin, Developer, Viewer, Billing},
	"tenant:read":       {Owner, Admin, Developer, Viewer, Billing},
	"project:read":      {Owner, Admin, Developer, Viewer, Billing},
	"model:read":        {Owner, Admin, Developer, Viewer},
	"inference:read":    {Owner, Admin, Developer, Viewer},
	"job:read":          {Owner, Admin, Developer, Viewer},
	"ops:read":          {Owner, Admin, Developer, Viewer},
	"inference:invoke":  {Owner, Admin, Developer, Viewer},
	"billing:read":      {Owner, Admin, Developer, Viewer, Billing}, // own usage
	"billing:read_all":  {Owner, Admin, Billing},                    // everybody's usage
	"billing:write":     {Owner, Admin, Billing},                    // budgets
	"key:read":          {Owner, Admin, Developer, Viewer},          // own keys
	"key:write":         {Owner, Admin, Developer},                  // own keys
	"key:admin":         {Owner, Admin},                             // all keys of the tenant
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
	"project:write":     {Owner, Admin}, // all projects; a project's leads manage their own
	"tenant:delete":     {Owner},
	"user:grant_owner":  {Owner},
	"platform:read":     {}, // the operator's: every tenant of the installation, not what is in it
	"platform:write":    {},
	"billing:operate":   {}, // the operator's: prices, wallets, invoices of every tenant
}

// operatorRights are what an operator holds beside their role, with a session.
var operatorRights = []string{"billing:operate", "platform:read", "platform:write"}

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

// Custom reports whether the role is one of a tenant's own.
func (r Role) Custom() bool { return strings.HasPrefix(string(r), customRole) }

// ParseRole checks a role name. Whether a custom role exists is asked of its tenant.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles, r) || r.Custom() {
		return r, nil
	}
	return "", badRole()
}

func badRole() error {
	return ErrBadRole.WithFields(fault.Field{Name: "body.role", Code: "not_in_list", Message: "must be owner, admin, developer, viewer, billing or a role of the organisation"})
}

// meet returns the scopes that are among the permissions, sorted. The scope "all" stands for all of them.
func meet(permissions, scopes []string) []string {
	if slices.Contains(scopes, "all") {
		return permissions
	}
	var out []string
	for _, p := range permissions {
		if slices.Contains(scopes, p) {
			out = append(out, p)
		}
	}
	return out
}
