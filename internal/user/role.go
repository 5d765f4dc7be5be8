package user

import (
	"context"
	"errors"
	"slices"
	"strings"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
)

// titles say what a permission lets one do.
var titles = map[string]string{
	"user:read": "See members, roles and grants", "user:write": "Change members, invitations, roles and grants", "user:read_pii": "Read addresses of other members", "user:grant_owner": "Make and unmake owners",
	"tenant:read": "See the organisation", "tenant:write": "Change the organisation", "tenant:delete": "Export and close the organisation",
	"project:read": "See projects", "project:write": "Make and change all projects",
	"key:read": "See own keys", "key:write": "Make and change own keys and service accounts", "key:admin": "Handle all keys and service accounts",
	"billing:read": "See own usage and cost", "billing:read_all": "See everybody's usage and cost", "billing:write": "Change budgets", "billing:operate": "Set prices, run wallets, invoices and the ledger of all organisations",
	"model:read": "See models", "model:write": "Upload and change models", "model:admin": "Handle all models", "model:operate": "Run the model store",
	"inference:read": "See deployments, providers and routes", "inference:invoke": "Call models", "inference:write": "Change deployments, providers and routes", "inference:operate": "Run engines and machines",
	"job:read": "See background jobs", "job:write": "Cancel and repeat background jobs", "ops:read": "See the state of the platform", "ops:write": "Change how the platform is run",
	"platform:read": "See all organisations of the installation", "platform:write": "Make, suspend and purge organisations",
}

// Permissions lists all permissions with who holds them. Those of operators are shown to operators only.
func (s *Service) Permissions(ctx context.Context) []PermissionDetail {
	p, _ := auth.From(ctx)
	list := make([]PermissionDetail, 0, len(grants))
	for name, roles := range grants {
		if len(roles) == 0 && !p.May(name) {
			continue
		}
		group, verb, _ := strings.Cut(name, ":")
		d := PermissionDetail{Name: name, Title: titles[name], Group: group, Roles: []string{}, Own: p.May(name)}
		if d.Title == "" {
			d.Title = group + ": " + strings.ReplaceAll(verb, "_", " ")
		}
		for _, r := range roles {
			d.Roles = append(d.Roles, string(r))
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b PermissionDetail) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// RoleList lists the built-in roles, strongest first, then those of the caller's organisation by name.
func (s *Service) RoleList(ctx context.Context) ([]RoleDetail, error) {
	p, _ := auth.From(ctx)
	var list []RoleDetail
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		members, err := builtInMembers(ctx, q, p.TenantID)
		if err != nil {
			return err
		}
		list = list[:0]
		for _, r := range Roles {
			list = append(list, RoleDetail{ID: string(r), Name: string(r), Permissions: r.Permissions(), BuiltIn: true, Members: members[string(r)], Rev: 1})
		}
		own, err := rolesOf(ctx, q, p.TenantID)
		list = append(list, own...)
		return err
	})
	return list, err
}

// MakeRole makes a custom role of permissions that the caller holds: ErrRoleFields, ErrRoleTaken, ErrMoreThanOwn.
func (s *Service) MakeRole(ctx context.Context, n NewRole) (RoleDetail, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	d := RoleDetail{ID: id.New(strings.TrimSuffix(customRole, "_")), Name: n.Name, Description: n.Description, Permissions: n.Permissions, CreatedAt: now, UpdatedAt: now, Rev: 1}
	if err := errors.Join(d.validate(), covers(p, d.Permissions)); err != nil {
		return d, err
	}
	return d, s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insertRole(ctx, tx, p.TenantID, d); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, RoleChanged{RoleID: d.ID, Name: d.Name, Permissions: d.Permissions, By: p.UserID})
	})
}

// validate brings the role into form and returns all that is wrong.
func (d *RoleDetail) validate() error {
	f := oneLine(&d.Name, "name", false, 64)
	f = append(f, oneLine(&d.Description, "description", true, 500)...)
	if slices.Contains(Roles, Role(strings.ToLower(d.Name))) {
		f = append(f, fault.Field{Name: "body.name", Code: "duplicate", Message: "is the name of a built-in role"})
	}
	d.Permissions = slices.Compact(slices.Sorted(slices.Values(d.Permissions)))
	for _, one := range d.Permissions {
		if !Known(one) {
			f = append(f, fault.Field{Name: "body.permissions", Code: "not_in_list", Message: "there is no permission of one of these names; GET /permissions lists them"})
			break
		}
	}
	if len(d.Permissions) == 0 {
		f = append(f, fault.Field{Name: "body.permissions", Code: "required", Message: "must name at least one permission"})
	}
	return fields(ErrRoleFields, f)
}

// UpdateRole changes a custom role. It acts at once for all who have it. Nobody changes a role that may more than they do.
func (s *Service) UpdateRole(ctx context.Context, rid string, patch RolePatch, check func(RoleDetail) error) (RoleDetail, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	var d RoleDetail
	if slices.Contains(Roles, Role(rid)) {
		return d, ErrRoleBuiltIn
	}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if d, err = roleByID(ctx, tx, p.TenantID, rid); err != nil {
			return err
		}
		was := d.Permissions
		if patch.Name != nil {
			d.Name = *patch.Name
		}
		if patch.Description != nil {
			d.Description = *patch.Description
		}
		if patch.Permissions != nil {
			d.Permissions = *patch.Permissions
		}
		d.UpdatedAt = now
		if err := errors.Join(check(d), d.validate(), covers(p, union(was, d.Permissions))); err != nil {
			return err
		}
		if err := updateRole(ctx, tx, p.TenantID, d); err != nil {
			return err
		}
		d.Rev++
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		if err := touchTenant(ctx, tx, p.TenantID, v); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, RoleChanged{RoleID: d.ID, Name: d.Name, Permissions: d.Permissions, By: p.UserID})
	})
	return d, err
}

// DeleteRole removes a custom role that nobody has: ErrRoleInUse, ErrRoleBuiltIn.
func (s *Service) DeleteRole(ctx context.Context, rid string) error {
	p, _ := auth.From(ctx)
	if slices.Contains(Roles, Role(rid)) {
		return ErrRoleBuiltIn
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		d, err := roleByID(ctx, tx, p.TenantID, rid)
		if err != nil {
			return err
		}
		if err := lockTenant(ctx, tx, p.TenantID, s.Now()); err != nil { // nobody gives it meanwhile
			return err
		}
		if n, err := roleUses(ctx, tx, p.TenantID, rid); err != nil || n > 0 {
			return errors.Join(err, ErrRoleInUse)
		}
		if err := deleteRole(ctx, tx, p.TenantID, rid); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, RoleChanged{RoleID: d.ID, Name: d.Name, Deleted: true, By: p.UserID})
	})
}
