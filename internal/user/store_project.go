package user

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"maas/internal/platform/db"
)

const projectCols = `p.id, p.slug, p.name, p.description, p.status, (SELECT COUNT(*) FROM user_project_member n WHERE n.tenant_id = p.tenant_id AND n.project_id = p.id), COALESCE(m.role, ''), p.created_at, p.updated_at, p.rev
	FROM user_project p LEFT JOIN user_project_member m ON m.tenant_id = p.tenant_id AND m.project_id = p.id AND m.user_id = $2 `

func scanProject(r db.Row) (Project, error) {
	var p Project
	var created, updated int64
	err := r.Scan(&p.ID, &p.Slug, &p.Name, &p.Description, &p.Status, &p.Members, &p.Role, &created, &updated, &p.Rev)
	p.CreatedAt, p.UpdatedAt = db.FromMicro(created), db.FromMicro(updated)
	return p, err
}

func projectByID(ctx context.Context, q db.Querier, tenant, userID, id string) (Project, error) {
	p, err := db.One(ctx, q, scanProject, `SELECT `+projectCols+`WHERE p.tenant_id = $1 AND p.id = $3`, tenant, userID, id)
	if isNoRow(err) {
		return p, ErrProjectNotFound.With("there is no project %q", id)
	}
	return p, err
}

func projectsOf(ctx context.Context, q db.Querier, tenant, userID string, at int64, after string, limit int) ([]Project, error) {
	return db.List(ctx, q, scanProject, `SELECT `+projectCols+`WHERE p.tenant_id = $1 AND (p.created_at, p.id) > ($3, $4) ORDER BY p.created_at, p.id LIMIT $5`, tenant, userID, at, after, limit)
}

func projectTaken(err error) error {
	if errors.Is(err, db.ErrDuplicate) {
		return ErrProjectTaken.Wrap(err)
	}
	return err
}

func insertProject(ctx context.Context, tx *db.Tx, tenant string, p Project) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_project (id, tenant_id, slug, name, description, status, created_at, updated_at, rev) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 1)`,
		p.ID, tenant, p.Slug, p.Name, p.Description, p.Status, db.Micro(p.CreatedAt))
	return projectTaken(err)
}

func updateProject(ctx context.Context, tx *db.Tx, tenant string, p Project) error {
	n, err := tx.Exec(ctx, `UPDATE user_project SET slug = $4, name = $5, description = $6, status = $7, updated_at = $8, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`,
		tenant, p.ID, p.Rev, p.Slug, p.Name, p.Description, p.Status, db.Micro(p.UpdatedAt))
	return db.Guard(n, projectTaken(err), ErrStaleUser)
}

// projectKeys counts the keys of a project that still work.
func projectKeys(ctx context.Context, q db.Querier, tenant, id string) (int64, error) {
	return db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_key k WHERE k.tenant_id = $1 AND k.project_id = $2 AND k.revoked_at = 0 AND k.deleted_at = 0`, tenant, id)
}

func deleteProject(ctx context.Context, tx *db.Tx, tenant, id string) error {
	_, err := tx.Exec(ctx, `DELETE FROM user_project WHERE tenant_id = $1 AND id = $2`, tenant, id)
	return err
}

func projectMembers(ctx context.Context, q db.Querier, tenant, id string) ([]ProjectMember, error) {
	return db.List(ctx, q, func(r db.Row) (m ProjectMember, err error) {
		var at int64
		err = r.Scan(&m.UserID, &m.Email, &m.Role, &at)
		m.JoinedAt = db.FromMicro(at)
		return m, err
	}, `SELECT m.user_id, COALESCE(s.name, u.email), m.role, m.created_at FROM user_project_member m JOIN user_user u ON u.id = m.user_id LEFT JOIN user_service s ON s.id = u.id
		WHERE m.tenant_id = $1 AND m.project_id = $2 ORDER BY m.created_at, m.user_id LIMIT 1000`, tenant, id)
}

func putProjectMember(ctx context.Context, tx *db.Tx, tenant, project, userID, role string, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_project_member (tenant_id, project_id, user_id, role, created_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (tenant_id, project_id, user_id) DO UPDATE SET role = excluded.role`, tenant, project, userID, role, db.Micro(now))
	return err
}

func dropProjectMember(ctx context.Context, tx *db.Tx, tenant, project, userID string) (int64, error) {
	return tx.Exec(ctx, `DELETE FROM user_project_member WHERE tenant_id = $1 AND project_id = $2 AND user_id = $3`, tenant, project, userID)
}

const grantCols = `g.id, g.user_id, u.kind, COALESCE(s.name, u.email), g.role, g.permission, g.object_kind, g.object_id, g.expires_at, g.created_by, g.created_at
	FROM user_grant g JOIN user_user u ON u.id = g.user_id LEFT JOIN user_service s ON s.id = u.id `

func scanGrant(r db.Row) (GrantDetail, error) {
	var g GrantDetail
	var o GrantObject
	var kind string
	var expires, created int64
	err := r.Scan(&g.ID, &g.Subject.ID, &kind, &g.Subject.Name, &g.Role, &g.Permission, &o.Kind, &o.ID, &expires, &g.CreatedBy, &created)
	if o.Kind != "" {
		g.Object = &o
	}
	g.Subject.Kind = "user"
	if kind == "service" {
		g.Subject.Kind = "service_account"
	}
	g.ExpiresAt, g.CreatedAt = db.FromMicro(expires), db.FromMicro(created)
	return g, err
}

func grantByID(ctx context.Context, q db.Querier, tenant, id string) (GrantDetail, error) {
	g, err := db.One(ctx, q, scanGrant, `SELECT `+grantCols+`WHERE g.tenant_id = $1 AND g.id = $2`, tenant, id)
	if isNoRow(err) {
		return g, ErrGrantNotFound.With("there is no grant %q", id)
	}
	return g, err
}

// grantsOf lists grants, oldest first; of one account or on one object unless "".
func grantsOf(ctx context.Context, q db.Querier, tenant string, f GrantFilter, at int64, after string, limit int) ([]GrantDetail, error) {
	return db.List(ctx, q, scanGrant, `SELECT `+grantCols+`WHERE g.tenant_id = $1 AND ($2 = '' OR g.user_id = $2) AND ($3 = '' OR g.object_kind = $3) AND ($4 = '' OR g.object_id = $4) AND (g.created_at, g.id) > ($5, $6)
		ORDER BY g.created_at, g.id LIMIT $7`, tenant, f.Subject, f.Kind, f.Object, at, after, limit)
}

func insertGrant(ctx context.Context, tx *db.Tx, tenant string, g GrantDetail) error {
	var o GrantObject
	if g.Object != nil {
		o = *g.Object
	}
	_, err := tx.Exec(ctx, `INSERT INTO user_grant (id, tenant_id, user_id, role, permission, object_kind, object_id, expires_at, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		g.ID, tenant, g.Subject.ID, g.Role, g.Permission, o.Kind, o.ID, db.Micro(g.ExpiresAt), g.CreatedBy, db.Micro(g.CreatedAt))
	if errors.Is(err, db.ErrDuplicate) {
		return ErrGrantTaken.Wrap(err)
	}
	return err
}

func deleteGrant(ctx context.Context, tx *db.Tx, tenant, id string) error {
	_, err := tx.Exec(ctx, `DELETE FROM user_grant WHERE tenant_id = $1 AND id = $2`, tenant, id)
	return err
}

// endedGrant is a grant whose time is over.
type endedGrant struct {
	id  string
	who account
}

// endGrants deletes grants whose time is over and returns them.
func endGrants(ctx context.Context, tx *db.Tx, now time.Time) ([]endedGrant, error) {
	return db.List(ctx, tx, func(r db.Row) (g endedGrant, err error) { return g, r.Scan(&g.id, &g.who.tenant, &g.who.user) },
		`DELETE FROM user_grant WHERE expires_at > 0 AND expires_at <= $1 RETURNING id, tenant_id, user_id`, db.Micro(now))
}

const invitationCols = `i.id, i.tenant_id, i.email, i.role, COALESCE(r.name, ''), i.projects, i.state, i.mailed, i.invited_by, i.accepted_by, i.expires_at, i.accepted_at, i.created_at, i.rev
	FROM user_invitation i LEFT JOIN user_role r ON r.tenant_id = i.tenant_id AND r.id = i.role `

func scanInvitation(r db.Row) (Invitation, error) {
	var i Invitation
	var projects string
	var expires, accepted, created int64
	if err := r.Scan(&i.ID, &i.tenantID, &i.Email, &i.Role, &i.RoleName, &projects, &i.State, &i.Mailed, &i.InvitedBy, &i.acceptedBy, &expires, &accepted, &created, &i.Rev); err != nil {
		return i, err
	}
	if i.RoleName == "" {
		i.RoleName = string(i.Role)
	}
	i.Roles = []Role{i.Role}
	i.ExpiresAt, i.AcceptedAt, i.CreatedAt = db.FromMicro(expires), db.FromMicro(accepted), db.FromMicro(created)
	return i, json.Unmarshal([]byte(projects), &i.Projects)
}

func invitationByID(ctx context.Context, q db.Querier, tenant, id string) (Invitation, error) {
	i, err := db.One(ctx, q, scanInvitation, `SELECT `+invitationCols+`WHERE i.tenant_id = $1 AND i.id = $2`, tenant, id)
	if isNoRow(err) {
		return i, ErrInvitationNotFound.With("there is no invitation %q", id)
	}
	return i, err
}

func invitationByHash(ctx context.Context, q db.Querier, hash string) (Invitation, error) {
	i, err := db.One(ctx, q, scanInvitation, `SELECT `+invitationCols+`WHERE i.hash = $1`, hash)
	if isNoRow(err) {
		return i, ErrInvitationNotFound
	}
	return i, err
}

func invitationsOf(ctx context.Context, q db.Querier, tenant string, at int64, before string, limit int) ([]Invitation, error) {
	return db.List(ctx, q, scanInvitation, `SELECT `+invitationCols+`WHERE i.tenant_id = $1 AND (i.created_at, i.id) < ($2, $3) ORDER BY i.created_at DESC, i.id DESC LIMIT $4`, tenant, at, before, limit)
}

func insertInvitation(ctx context.Context, tx *db.Tx, i Invitation) error {
	projects, err := json.Marshal(i.Projects)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_invitation (id, tenant_id, email, email_key, role, projects, hash, state, invited_by, accepted_by, mailed, expires_at, accepted_at, created_at, updated_at, rev)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, '', $9, $10, 0, $11, $11, 1)`,
		i.ID, i.tenantID, i.Email, emailKey(i.Email), i.Role, string(projects), i.hash, i.InvitedBy, i.Mailed, db.Micro(i.ExpiresAt), db.Micro(i.CreatedAt))
	return err
}

// updateInvitation writes state and, where hash is set, a new token, if the invitation is still open.
func updateInvitation(ctx context.Context, tx *db.Tx, i Invitation, now time.Time) error {
	n, err := tx.Exec(ctx, `UPDATE user_invitation SET state = $3, hash = CASE WHEN $4 = '' THEN hash ELSE $4 END, accepted_by = $5, accepted_at = $6, expires_at = $7, mailed = $8, updated_at = $9, rev = rev + 1
		WHERE tenant_id = $1 AND id = $2 AND state = 'pending'`, i.tenantID, i.ID, i.State, i.hash, i.acceptedBy, db.Micro(i.AcceptedAt), db.Micro(i.ExpiresAt), i.Mailed, db.Micro(now))
	return db.Guard(n, err, ErrInvitationClosed)
}

// closeInvitations withdraws the open invitations of an address, so that one link is good at a time.
func closeInvitations(ctx context.Context, tx *db.Tx, tenant, email string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_invitation SET state = 'revoked', updated_at = $3, rev = rev + 1 WHERE tenant_id = $1 AND email_key = $2 AND state = 'pending'`, tenant, emailKey(email), db.Micro(now))
	return err
}

// accountByEmail returns the id of the person with an address; "" without one.
func accountByEmail(ctx context.Context, q db.Querier, email string) (string, error) {
	id, err := db.One(ctx, q, db.Scalar[string], `SELECT id FROM user_user WHERE email_key = $1 AND kind = 'person' AND status <> 'erased'`, emailKey(email))
	if isNoRow(err) {
		return "", nil
	}
	return id, err
}

const serviceCols = `s.id, s.name, s.description, s.project_id, m.role, COALESCE(r.name, ''), m.status, (SELECT COUNT(*) FROM user_key k WHERE k.user_id = s.id AND k.revoked_at = 0 AND k.deleted_at = 0), s.created_by, s.created_at, s.updated_at, s.rev
	FROM user_service s JOIN user_member m ON m.tenant_id = s.tenant_id AND m.user_id = s.id JOIN user_user u ON u.id = s.id LEFT JOIN user_role r ON r.tenant_id = m.tenant_id AND r.id = m.role `

func scanService(r db.Row) (ServiceAccount, error) {
	var a ServiceAccount
	var created, updated int64
	err := r.Scan(&a.ID, &a.Name, &a.Description, &a.ProjectID, &a.Role, &a.RoleName, &a.Status, &a.Keys, &a.CreatedBy, &created, &updated, &a.Rev)
	if a.RoleName == "" {
		a.RoleName = string(a.Role)
	}
	a.Roles = []Role{a.Role}
	a.CreatedAt, a.UpdatedAt = db.FromMicro(created), db.FromMicro(updated)
	return a, err
}

// serviceByID finds a service account; one made by maker only unless maker is "".
func serviceByID(ctx context.Context, q db.Querier, tenant, maker, id string) (ServiceAccount, error) {
	a, err := db.One(ctx, q, scanService, `SELECT `+serviceCols+`WHERE s.tenant_id = $1 AND s.id = $2 AND u.status <> 'erased' AND ($3 = '' OR s.created_by = $3)`, tenant, id, maker)
	if isNoRow(err) {
		return a, ErrServiceNotFound.With("there is no service account %q", id)
	}
	return a, err
}

func servicesOf(ctx context.Context, q db.Querier, tenant, maker string, at int64, after string, limit int) ([]ServiceAccount, error) {
	return db.List(ctx, q, scanService, `SELECT `+serviceCols+`WHERE s.tenant_id = $1 AND u.status <> 'erased' AND ($2 = '' OR s.created_by = $2) AND (s.created_at, s.id) > ($3, $4) ORDER BY s.created_at, s.id LIMIT $5`, tenant, maker, at, after, limit)
}

func insertService(ctx context.Context, tx *db.Tx, tenant string, a ServiceAccount) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_user (id, username, username_key, email, email_key, status, password, password_at, profile, locale, last_login_at, created_at, updated_at, rev, kind)
		VALUES ($1, $1, $1, $1, $1, 'active', '', 0, '{}', 'en', 0, $2, $2, 1, 'service')`, a.ID, db.Micro(a.CreatedAt))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_service (id, tenant_id, name, description, project_id, created_by, created_at, updated_at, rev) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 1)`,
		a.ID, tenant, a.Name, a.Description, a.ProjectID, a.CreatedBy, db.Micro(a.CreatedAt))
	if err != nil {
		return err
	}
	return insertMember(ctx, tx, tenant, a.ID, a.Role, a.CreatedAt)
}

func updateService(ctx context.Context, tx *db.Tx, tenant string, a ServiceAccount) error {
	n, err := tx.Exec(ctx, `UPDATE user_service SET name = $4, description = $5, project_id = $6, updated_at = $7, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`, tenant, a.ID, a.Rev, a.Name, a.Description, a.ProjectID, db.Micro(a.UpdatedAt))
	if err = db.Guard(n, err, ErrStaleUser); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE user_member SET role = $3, status = $4, updated_at = $5 WHERE tenant_id = $1 AND user_id = $2`, tenant, a.ID, a.Role, a.Status, db.Micro(a.UpdatedAt))
	return err
}

// userName is an address or the name of a service account; "" for an unknown id.
func userName(ctx context.Context, q db.Querier, tenant, id string) (string, error) {
	n, err := db.One(ctx, q, db.Scalar[string], `SELECT COALESCE(s.name, u.email) FROM user_user u JOIN user_member m ON m.user_id = u.id LEFT JOIN user_service s ON s.id = u.id WHERE m.tenant_id = $1 AND u.id = $2 AND u.status <> 'erased'`, tenant, id)
	if isNoRow(err) {
		return "", nil
	}
	return strings.TrimSpace(n), err
}
