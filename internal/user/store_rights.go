package user

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
)

// rights are what grants and projects add to the roles of some tenants' accounts. Read once for many keys.
type rights struct {
	grants   map[account][]grantRow
	projects map[account][]auth.Project
	all      map[string][]auth.Project // active projects by tenant
}

type account struct{ tenant, user string }

type grantRow struct {
	permissions []string
	object      auth.Object
}

// rightsOf reads grants that hold now, and active projects.
func rightsOf(ctx context.Context, q db.Querier, tenants []string, now time.Time) (rights, error) {
	b := rights{map[account][]grantRow{}, map[account][]auth.Project{}, map[string][]auth.Project{}}
	slices.Sort(tenants)
	for piece := range slices.Chunk(slices.Compact(tenants), 500) {
		if err := b.read(ctx, q, piece, now); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (b rights) read(ctx context.Context, q db.Querier, tenants []string, now time.Time) error {
	type row struct {
		who account
		grantRow
	}
	grants, err := db.List(ctx, q, func(r db.Row) (g row, err error) {
		var role, permission, custom string
		if err := r.Scan(&g.who.tenant, &g.who.user, &role, &permission, &g.object.Kind, &g.object.ID, &custom); err != nil {
			return g, err
		}
		switch {
		case permission != "":
			g.permissions = []string{permission}
		case Role(role).Custom():
			err = json.Unmarshal([]byte(custom), &g.permissions)
		default:
			g.permissions = Role(role).Permissions()
		}
		return g, err
	}, `SELECT g.tenant_id, g.user_id, g.role, g.permission, g.object_kind, g.object_id, COALESCE(r.permissions, '[]') FROM user_grant g LEFT JOIN user_role r ON r.tenant_id = g.tenant_id AND r.id = g.role
		WHERE (g.expires_at = 0 OR g.expires_at > $1) AND g.tenant_id IN (`+db.In(2, len(tenants))+`) ORDER BY g.tenant_id, g.user_id, g.id`, db.Args(tenants, db.Micro(now))...)
	if err != nil {
		return err
	}
	for _, g := range grants {
		b.grants[g.who] = append(b.grants[g.who], g.grantRow)
	}
	type projectRow struct {
		who account
		auth.Project
	}
	projects, err := db.List(ctx, q, func(r db.Row) (p projectRow, err error) {
		return p, r.Scan(&p.who.tenant, &p.who.user, &p.ID, &p.Slug)
	}, `SELECT p.tenant_id, COALESCE(m.user_id, ''), p.id, p.slug FROM user_project p LEFT JOIN user_project_member m ON m.tenant_id = p.tenant_id AND m.project_id = p.id
		WHERE p.status = 'active' AND p.tenant_id IN (`+db.In(1, len(tenants))+`) ORDER BY p.tenant_id, p.id`, db.Args(tenants)...)
	if err != nil {
		return err
	}
	for _, p := range projects {
		if p.who.user != "" {
			b.projects[p.who] = append(b.projects[p.who], p.Project)
		}
		if list := b.all[p.who.tenant]; len(list) == 0 || list[len(list)-1].ID != p.ID {
			b.all[p.who.tenant] = append(list, p.Project)
		}
	}
	return nil
}

// fill adds grants and projects to a principal whose Permissions are those of its role, and narrows all to the scopes; nil scopes do not narrow.
func (b rights) fill(p *auth.Principal, scopes []string) {
	who := account{p.TenantID, p.UserID}
	narrow := func(list []string) []string {
		if scopes == nil {
			return list
		}
		return meet(list, scopes)
	}
	objects := map[auth.Object][]string{}
	var order []auth.Object
	for _, g := range b.grants[who] {
		if g.object.Kind == "" {
			p.Permissions = union(p.Permissions, g.permissions)
			continue
		}
		if _, seen := objects[g.object]; !seen {
			order = append(order, g.object)
		}
		objects[g.object] = union(objects[g.object], g.permissions)
	}
	for _, o := range order {
		if list := narrow(objects[o]); len(list) > 0 {
			p.Grants = append(p.Grants, auth.Grant{Kind: o.Kind, ID: o.ID, Permissions: list})
		}
	}
	if _, all := slices.BinarySearch(p.Permissions, "project:write"); all {
		p.Projects = b.all[p.TenantID]
	} else {
		p.Projects = b.projects[who]
	}
	p.Permissions = narrow(p.Permissions)
}

// union merges two sorted lists of permissions into a new one.
func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// sessionRights are what a person may do with a session: their role, and the operator's rights.
func (u User) sessionRights() []string {
	if u.operator {
		return union(u.rights(), operatorRights)
	}
	return u.rights()
}
