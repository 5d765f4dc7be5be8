package user

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"maas/internal/platform/db"
)

// firstSlug is the short name of the first organisation.
func firstSlug(t Tenant) string {
	if s := slugFrom(t.Name); s != "" && !reserved[s] {
		return s
	}
	return strings.ReplaceAll(t.ID, "_", "-")
}

const tenantCols = `t.id, t.slug, t.name, t.status, t.timezone, t.purging_at, COALESCE(m.role, ''), (SELECT COUNT(*) FROM user_member n JOIN user_user u ON u.id = n.user_id WHERE n.tenant_id = t.id AND u.kind = 'person'), t.created_at, t.updated_at, t.rev
	FROM user_tenant t LEFT JOIN user_member m ON m.tenant_id = t.id AND m.user_id = $1 `

func scanTenant(r db.Row) (TenantDetail, error) {
	var t TenantDetail
	var purging, created, updated int64
	err := r.Scan(&t.ID, &t.Slug, &t.Name, &t.Status, &t.Timezone, &purging, &t.Role, &t.Members, &created, &updated, &t.Rev)
	if purging > 0 {
		t.Status = TenantPurging
	}
	t.CreatedAt, t.UpdatedAt = db.FromMicro(created), db.FromMicro(updated)
	return t, err
}

// tenantByID finds an organisation, with the role that a person has in it.
func tenantByID(ctx context.Context, q db.Querier, userID, id string) (TenantDetail, error) {
	t, err := db.One(ctx, q, scanTenant, `SELECT `+tenantCols+`WHERE t.id = $2`, userID, id)
	if isNoRow(err) {
		return t, ErrTenantNotFound.With("there is no organisation %q", id)
	}
	return t, err
}

func tenantsOf(ctx context.Context, q db.Querier, userID string, all bool, at int64, after string, limit int) ([]TenantDetail, error) {
	return db.List(ctx, q, scanTenant, `SELECT `+tenantCols+`WHERE ($2 OR m.status = 'active') AND (t.created_at, t.id) > ($3, $4) ORDER BY t.created_at, t.id LIMIT $5`, userID, all, at, after, limit)
}

func updateTenant(ctx context.Context, tx *db.Tx, t TenantDetail) error {
	status, purging := t.Status, int64(0)
	if t.Status == TenantPurging {
		status, purging = TenantSuspended, db.Micro(t.UpdatedAt)
	}
	n, err := tx.Exec(ctx, `UPDATE user_tenant SET slug = $3, name = $4, status = $5, purging_at = $6, updated_at = $7, timezone = $8, rev = rev + 1 WHERE id = $1 AND rev = $2`, t.ID, t.Rev, t.Slug, t.Name, status, purging, db.Micro(t.UpdatedAt), t.Timezone)
	if errors.Is(err, db.ErrDuplicate) {
		return ErrTenantTaken.Wrap(err)
	}
	return db.Guard(n, err, ErrStaleUser)
}

// touchTenant makes every verifier ask again for all keys and sessions of a tenant.
func touchTenant(ctx context.Context, tx *db.Tx, tenant string, version int64) error {
	if _, err := tx.Exec(ctx, `UPDATE user_key SET version = $2 WHERE tenant_id = $1`, tenant, version); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE user_session SET version = $2 WHERE tenant_id = $1 AND revoked_at = 0`, tenant, version)
	return err
}

// moveSession makes a session act in another tenant.
func moveSession(ctx context.Context, tx *db.Tx, s Session, version int64, now time.Time) error {
	n, err := tx.Exec(ctx, `UPDATE user_session SET tenant_id = $3, version = $4 WHERE id = $1 AND user_id = $2 AND revoked_at = 0`, s.ID, s.userID, s.tenantID, version)
	if err = db.Guard(n, err, ErrSessionRevoked); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE user_refresh SET tenant_id = $2 WHERE session_id = $1`, s.ID, s.tenantID); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE user_member SET chosen_at = $3 WHERE tenant_id = $1 AND user_id = $2`, s.tenantID, s.userID, db.Micro(now))
	return err
}

const memberCols = `u.id, u.email, u.username, u.profile, m.role, COALESCE(r.name, ''), CASE WHEN u.status = 'active' THEN m.status ELSE u.status END,
	(SELECT COUNT(*) FROM user_member o WHERE o.user_id = u.id), u.last_login_at, m.created_at ` + userFrom

func scanMember(r db.Row) (Member, error) {
	var m Member
	var profile string
	var tenants, last, joined int64
	if err := r.Scan(&m.ID, &m.Email, &m.Username, &profile, &m.Role, &m.RoleName, &m.Status, &tenants, &last, &joined); err != nil {
		return m, err
	}
	m.Shared, m.LastLoginAt, m.JoinedAt = tenants > 1, db.FromMicro(last), db.FromMicro(joined)
	if m.RoleName == "" {
		m.RoleName = string(m.Role)
	}
	m.Roles = []Role{m.Role}
	var p Profile
	err := json.Unmarshal([]byte(profile), &p)
	m.Name = strings.TrimSpace(p.FirstName + " " + p.LastName)
	return m, err
}

func memberByID(ctx context.Context, q db.Querier, tenant, id string) (Member, error) {
	m, err := db.One(ctx, q, scanMember, `SELECT `+memberCols+`WHERE m.tenant_id = $1 AND u.id = $2 AND u.status <> 'erased' AND u.kind = 'person'`, tenant, id)
	if isNoRow(err) {
		return m, ErrMemberNotFound.With("there is no member %q", id)
	}
	return m, err
}

func membersOf(ctx context.Context, q db.Querier, tenant string, at int64, after string, limit int) ([]Member, error) {
	return db.List(ctx, q, scanMember, `SELECT `+memberCols+`WHERE m.tenant_id = $1 AND u.status <> 'erased' AND u.kind = 'person' AND (m.created_at, u.id) > ($2, $3) ORDER BY m.created_at, u.id LIMIT $4`, tenant, at, after, limit)
}

// tenantsCount is in how many tenants an account is a member.
func tenantsCount(ctx context.Context, q db.Querier, userID string) (int64, error) {
	return db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_member WHERE user_id = $1`, userID)
}

func insertMember(ctx context.Context, tx *db.Tx, tenant, userID string, role Role, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_member (tenant_id, user_id, role, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)`, tenant, userID, role, db.Micro(now))
	if errors.Is(err, db.ErrDuplicate) {
		return ErrAlreadyMember.Wrap(err)
	}
	return err
}

// dropMember takes an account out of a tenant, with its projects and grants there.
func dropMember(ctx context.Context, tx *db.Tx, tenant, userID string) error {
	for _, text := range []string{
		`DELETE FROM user_project_member WHERE tenant_id = $1 AND user_id = $2`, `DELETE FROM user_grant WHERE tenant_id = $1 AND user_id = $2`, `DELETE FROM user_member WHERE tenant_id = $1 AND user_id = $2`,
	} {
		if _, err := tx.Exec(ctx, text, tenant, userID); err != nil {
			return err
		}
	}
	return nil
}

// endTenantSessions ends an account's sessions that act in one tenant; userID "" = everybody's.
func endTenantSessions(ctx context.Context, tx *db.Tx, tenant, userID, reason string, version int64, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_session SET revoked_at = $5, reason = $4, version = $3 WHERE tenant_id = $1 AND ($2 = '' OR user_id = $2) AND revoked_at = 0`, tenant, userID, version, reason, db.Micro(now))
	return err
}

const roleCols = `r.id, r.name, r.description, r.permissions, (SELECT COUNT(*) FROM user_member m WHERE m.tenant_id = r.tenant_id AND m.role = r.id), r.created_at, r.updated_at, r.rev FROM user_role r `

func scanRole(r db.Row) (RoleDetail, error) {
	var d RoleDetail
	var permissions string
	var created, updated int64
	if err := r.Scan(&d.ID, &d.Name, &d.Description, &permissions, &d.Members, &created, &updated, &d.Rev); err != nil {
		return d, err
	}
	d.CreatedAt, d.UpdatedAt = db.FromMicro(created), db.FromMicro(updated)
	return d, json.Unmarshal([]byte(permissions), &d.Permissions)
}

func roleByID(ctx context.Context, q db.Querier, tenant, id string) (RoleDetail, error) {
	d, err := db.One(ctx, q, scanRole, `SELECT `+roleCols+`WHERE r.tenant_id = $1 AND r.id = $2`, tenant, id)
	if isNoRow(err) {
		return d, ErrRoleNotFound.With("there is no role %q", id)
	}
	return d, err
}

// rolesOf lists a tenant's own roles: at most 500.
func rolesOf(ctx context.Context, q db.Querier, tenant string) ([]RoleDetail, error) {
	return db.List(ctx, q, scanRole, `SELECT `+roleCols+`WHERE r.tenant_id = $1 ORDER BY r.name_key LIMIT 500`, tenant)
}

func builtInMembers(ctx context.Context, q db.Querier, tenant string) (map[string]int64, error) {
	type row struct {
		role string
		n    int64
	}
	list, err := db.List(ctx, q, func(r db.Row) (v row, err error) { return v, r.Scan(&v.role, &v.n) }, `SELECT m.role, COUNT(*) FROM user_member m WHERE m.tenant_id = $1 GROUP BY m.role`, tenant)
	m := map[string]int64{}
	for _, v := range list {
		m[v.role] = v.n
	}
	return m, err
}

func roleTaken(err error) error {
	if errors.Is(err, db.ErrDuplicate) {
		return ErrRoleTaken.Wrap(err)
	}
	return err
}

func insertRole(ctx context.Context, tx *db.Tx, tenant string, d RoleDetail) error {
	list, err := json.Marshal(d.Permissions)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_role (id, tenant_id, name, name_key, description, permissions, created_at, updated_at, rev) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 1)`,
		d.ID, tenant, d.Name, strings.ToLower(d.Name), d.Description, string(list), db.Micro(d.CreatedAt))
	return roleTaken(err)
}

func updateRole(ctx context.Context, tx *db.Tx, tenant string, d RoleDetail) error {
	list, err := json.Marshal(d.Permissions)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `UPDATE user_role SET name = $4, name_key = $5, description = $6, permissions = $7, updated_at = $8, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`,
		tenant, d.ID, d.Rev, d.Name, strings.ToLower(d.Name), d.Description, string(list), db.Micro(d.UpdatedAt))
	return db.Guard(n, roleTaken(err), ErrStaleUser)
}

// roleUses counts memberships, open invitations and grants with a role.
func roleUses(ctx context.Context, q db.Querier, tenant, role string) (int64, error) {
	return db.One(ctx, q, db.Scalar[int64], `SELECT (SELECT COUNT(*) FROM user_member m WHERE m.tenant_id = $1 AND m.role = $2) + (SELECT COUNT(*) FROM user_invitation i WHERE i.tenant_id = $1 AND i.role = $2 AND i.state = 'pending')
		+ (SELECT COUNT(*) FROM user_grant g WHERE g.tenant_id = $1 AND g.role = $2)`, tenant, role)
}

func deleteRole(ctx context.Context, tx *db.Tx, tenant, id string) error {
	_, err := tx.Exec(ctx, `DELETE FROM user_role WHERE tenant_id = $1 AND id = $2`, tenant, id)
	return err
}

// rolePermissions are what a role of a tenant holds: ErrBadRole for one that it does not have.
func rolePermissions(ctx context.Context, q db.Querier, tenant string, r Role) ([]string, error) {
	if !r.Custom() {
		return r.Permissions(), nil
	}
	d, err := roleByID(ctx, q, tenant, string(r))
	if errors.Is(err, ErrRoleNotFound) {
		return nil, badRole()
	}
	return d.Permissions, err
}
