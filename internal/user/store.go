package user

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"maas/internal/platform/db"
)

// bump moves the change counter and returns the new version. Its row is locked until the commit, so versions are visible in their order.
func bump(ctx context.Context, tx *db.Tx) (int64, error) {
	return db.One(ctx, tx, db.Scalar[int64], `UPDATE user_change SET n = n + 1 WHERE name = 'rights' RETURNING n`)
}

func counter(ctx context.Context, q db.Querier, name string) (int64, error) {
	n, err := db.One(ctx, q, db.Scalar[int64], `SELECT n FROM user_change WHERE name = $1`, name)
	if isNoRow(err) {
		return 0, nil
	}
	return n, err
}

// claimSetup marks the installation as set up; db.ErrDuplicate if it is.
func claimSetup(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_change (name, n) VALUES ('setup', 1)`)
	return err
}

// lockTenant orders the changes of one tenant's members: the last owner is counted under it.
func lockTenant(ctx context.Context, tx *db.Tx, tenant string, now time.Time) error {
	n, err := tx.Exec(ctx, `UPDATE user_tenant SET rev = rev + 1, updated_at = $2 WHERE id = $1`, tenant, db.Micro(now))
	return db.Guard(n, err, ErrNotFound)
}

func insertTenant(ctx context.Context, tx *db.Tx, t Tenant, slug string, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_tenant (id, slug, name, status, created_at, updated_at, rev) VALUES ($1, $2, $3, 'active', $4, $4, 1)`, t.ID, slug, t.Name, db.Micro(now))
	return err
}

func insertUser(ctx context.Context, tx *db.Tx, u User) error {
	profile, err := json.Marshal(u.Profile)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_user (id, username, username_key, email, email_key, status, password, password_at, profile, locale, last_login_at, created_at, updated_at, rev, kind, operator, pending, verified_at)
		VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8, $9, 0, $7, $7, 1, $10, $11, $12, $13)`, u.ID, u.Username, u.Email, emailKey(u.Email), u.storedStatus(), u.password, db.Micro(u.CreatedAt), string(profile), u.Locale, u.kind(), u.operator, u.pending, u.verifiedAt())
	if err != nil {
		return taken(err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_member (tenant_id, user_id, role, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)`, u.Tenant.ID, u.ID, u.Role, db.Micro(u.CreatedAt))
	return err
}

// A member that is suspended in the tenant shows as suspended, whatever the account is elsewhere.
const userCols = `u.id, u.username, u.email, CASE WHEN u.status = 'active' AND m.status = 'suspended' THEN 'suspended' ELSE u.status END, u.password, u.profile, u.locale, u.last_login_at, u.created_at, u.updated_at, u.rev,
	u.kind = 'service', u.operator, u.pending, u.verified_at > 0, m.role, COALESCE(r.name, ''), COALESCE(r.permissions, '[]'), t.id, t.name, t.status`

const userFrom = ` FROM user_user u JOIN user_member m ON m.user_id = u.id JOIN user_tenant t ON t.id = m.tenant_id LEFT JOIN user_role r ON r.tenant_id = m.tenant_id AND r.id = m.role `

func scanUser(r db.Row) (User, error) {
	var u User
	var profile, permissions string
	var last, created, updated int64
	err := r.Scan(&u.ID, &u.Username, &u.Email, &u.Status, &u.password, &profile, &u.Locale, &last, &created, &updated, &u.Rev, &u.service, &u.operator, &u.pending, &u.Verified, &u.Role, &u.RoleName, &permissions,
		&u.Tenant.ID, &u.Tenant.Name, &u.tenantStatus)
	if err != nil {
		return u, err
	}
	if u.pending != "" && u.Status == Suspended {
		u.Status = Pending
	}
	if u.RoleName == "" {
		u.RoleName = string(u.Role)
	}
	if err := json.Unmarshal([]byte(permissions), &u.rolePerms); err != nil {
		return u, err
	}
	u.LastLoginAt, u.CreatedAt, u.UpdatedAt = db.FromMicro(last), db.FromMicro(created), db.FromMicro(updated)
	return u, json.Unmarshal([]byte(profile), &u.Profile)
}

// userByID finds a member of the tenant: ErrNotFound.
func userByID(ctx context.Context, q db.Querier, tenant, id string) (User, error) {
	u, err := db.One(ctx, q, scanUser, `SELECT `+userCols+userFrom+`WHERE m.tenant_id = $1 AND u.id = $2 AND u.status <> 'erased'`, tenant, id)
	if isNoRow(err) {
		return u, ErrNotFound.With("there is no user %q", id)
	}
	return u, err
}

// userByLogin finds an account by address or user name in the tenant it acted in last, else its first; db.ErrNoRow.
func userByLogin(ctx context.Context, q db.Querier, key string) (User, error) {
	return db.One(ctx, q, scanUser, `SELECT `+userCols+userFrom+`WHERE (u.email_key = $1 OR u.username_key = $1) AND u.status <> 'erased' AND u.kind = 'person'
		ORDER BY CASE WHEN m.status = 'active' AND t.status = 'active' THEN 0 ELSE 1 END, m.chosen_at DESC, m.created_at, m.tenant_id LIMIT 1`, key)
}

// usersOf lists members after (created_at, id), newest last.
func usersOf(ctx context.Context, q db.Querier, tenant string, at int64, after string, limit int) ([]User, error) {
	return db.List(ctx, q, scanUser, `SELECT `+userCols+userFrom+`WHERE m.tenant_id = $1 AND u.status <> 'erased' AND u.kind = 'person' AND (u.created_at, u.id) > ($2, $3) ORDER BY u.created_at, u.id LIMIT $4`, tenant, at, after, limit)
}

func countOwners(ctx context.Context, q db.Querier, tenant, except string) (int64, error) {
	return db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_member m JOIN user_user u ON u.id = m.user_id WHERE m.tenant_id = $1 AND m.role = 'owner' AND m.status = 'active' AND u.status = 'active' AND u.kind = 'person' AND u.id <> $2`, tenant, except)
}

// updateUser writes what may change, if nobody changed it since it was read.
func updateUser(ctx context.Context, tx *db.Tx, u User) error {
	profile, err := json.Marshal(u.Profile)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `UPDATE user_user SET username = $3, username_key = $3, email = $4, email_key = $5, verified_at = CASE WHEN email_key = $5 THEN verified_at ELSE 0 END, profile = $6, locale = $7, updated_at = $8, rev = rev + 1 WHERE id = $1 AND rev = $2`,
		u.ID, u.Rev, u.Username, u.Email, emailKey(u.Email), string(profile), u.Locale, db.Micro(u.UpdatedAt))
	if err != nil {
		return taken(err)
	}
	if n == 0 {
		return ErrStaleUser
	}
	_, err = tx.Exec(ctx, `UPDATE user_member SET role = $3, status = $4, updated_at = $5 WHERE tenant_id = $1 AND user_id = $2`, u.Tenant.ID, u.ID, u.Role, u.Status, db.Micro(u.UpdatedAt))
	return err
}

func setPassword(ctx context.Context, tx *db.Tx, id, phc string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_user SET password = $2, password_at = $3, updated_at = $3, rev = rev + 1 WHERE id = $1`, id, phc, db.Micro(now))
	return err
}

func setLogin(ctx context.Context, tx *db.Tx, id string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_user SET last_login_at = $2 WHERE id = $1`, id, db.Micro(now))
	return err
}

// eraseUser takes the person out of the row and the membership away; the id stays for usage.
func eraseUser(ctx context.Context, tx *db.Tx, u User, now time.Time) error {
	if _, err := tx.Exec(ctx, `UPDATE user_user SET username = $1, username_key = $1, email = $1, email_key = $1, status = 'erased', password = '', profile = '{}', updated_at = $2, rev = rev + 1 WHERE id = $1`, u.ID, db.Micro(now)); err != nil {
		return err
	}
	if err := dropProofs(ctx, tx, u.ID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM user_member WHERE tenant_id = $1 AND user_id = $2`, u.Tenant.ID, u.ID)
	return err
}

// touchRights makes every verifier ask again for the keys and sessions of a user.
func touchRights(ctx context.Context, tx *db.Tx, tenant, userID string, version int64) error {
	if _, err := tx.Exec(ctx, `UPDATE user_key SET version = $3 WHERE tenant_id = $1 AND user_id = $2`, tenant, userID, version); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE user_session SET version = $3 WHERE tenant_id = $1 AND user_id = $2 AND revoked_at = 0`, tenant, userID, version)
	return err
}

func scanSigning(r db.Row) (signingKey, error) {
	var k signingKey
	var public string
	var from, retire int64
	if err := r.Scan(&k.kid, &public, &k.privateSealed, &k.state, &from, &retire); err != nil {
		return k, err
	}
	k.notBefore, k.retireAt = db.FromMicro(from), db.FromMicro(retire)
	var err error
	k.public, err = base64.RawURLEncoding.DecodeString(public)
	return k, err
}

func signingKeys(ctx context.Context, q db.Querier) ([]signingKey, error) {
	return db.List(ctx, q, scanSigning, `SELECT kid, public, private_sealed, state, not_before, retire_at FROM user_signing_key ORDER BY not_before, kid LIMIT 100`)
}

func insertSigning(ctx context.Context, tx *db.Tx, k signingKey) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_signing_key (kid, public, private_sealed, state, not_before, retire_at) VALUES ($1, $2, $3, $4, $5, 0)`,
		k.kid, base64.RawURLEncoding.EncodeToString(k.public), k.privateSealed, k.state, db.Micro(k.notBefore))
	return err
}

// bumpSigning notes the version at which the set of signing keys changed.
func bumpSigning(ctx context.Context, tx *db.Tx) error {
	v, err := bump(ctx, tx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE user_change SET n = $1 WHERE name = 'signing'`, v)
	return err
}
