package user

import (
	"context"
	"encoding/json"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
)

func insertKey(ctx context.Context, tx *db.Tx, k Key, version int64) error {
	models, scopes, err := keyLists(k)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_key (id, tenant_id, user_id, name, hash, prefix, last4, models, scopes, expires_at, last_used_at, revoked_at, deleted_at, version, created_at, updated_at, rev)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, 0, $11, $12, $12, 1)`,
		k.ID, k.tenantID, k.Owner.ID, k.Name, k.hash, k.Prefix, k.Last4, models, scopes, db.Micro(k.ExpiresAt), version, db.Micro(k.CreatedAt))
	return err
}

func keyLists(k Key) (models, scopes string, err error) {
	m, err := json.Marshal(k.Models)
	if err != nil {
		return "", "", err
	}
	s, err := json.Marshal(k.Scopes)
	return string(m), string(s), err
}

const keyCols = `k.id, k.tenant_id, k.user_id, u.email, u.status, COALESCE(m.role, ''), t.status, k.name, k.hash, k.prefix, k.last4, k.models, k.scopes, k.expires_at, k.last_used_at, k.revoked_at, k.deleted_at,
	k.created_at, k.updated_at, k.rev, k.version`

const keyFrom = ` FROM user_key k JOIN user_user u ON u.id = k.user_id JOIN user_tenant t ON t.id = k.tenant_id LEFT JOIN user_member m ON m.tenant_id = k.tenant_id AND m.user_id = k.user_id `

// keyRow is a key with the version of its last change.
type keyRow struct {
	Key
	version int64
}

func scanKey(r db.Row) (keyRow, error) {
	var k keyRow
	var userStatus, tenantStatus, models, scopes string
	var expires, used, revoked, deleted, created, updated int64
	if err := r.Scan(&k.ID, &k.tenantID, &k.Owner.ID, &k.Owner.Email, &userStatus, &k.ownerRole, &tenantStatus, &k.Name, &k.hash, &k.Prefix, &k.Last4, &models, &scopes, &expires, &used, &revoked, &deleted,
		&created, &updated, &k.Rev, &k.version); err != nil {
		return k, err
	}
	k.ExpiresAt, k.LastUsedAt, k.revokedAt, k.CreatedAt, k.UpdatedAt = db.FromMicro(expires), db.FromMicro(used), db.FromMicro(revoked), db.FromMicro(created), db.FromMicro(updated)
	k.deleted = deleted != 0
	k.ownerActive = userStatus == string(Active) && tenantStatus == string(Active) && k.ownerRole != ""
	if err := json.Unmarshal([]byte(models), &k.Models); err != nil {
		return k, err
	}
	return k, json.Unmarshal([]byte(scopes), &k.Scopes)
}

// grant resolves a key to what it may do. Expiry is left to the reader's clock.
func (k keyRow) grant() KeyGrant {
	g := KeyGrant{Hash: k.hash, ExpiresAt: k.ExpiresAt, Status: KeyActive, Principal: auth.Principal{
		Kind: auth.Key, TenantID: k.tenantID, UserID: k.Owner.ID, KeyID: k.ID, Name: k.Name, Role: string(k.ownerRole), Permissions: meet(k.ownerRole, k.Scopes), Models: k.Models,
	}}
	switch {
	case k.deleted || !k.revokedAt.IsZero():
		g.Status = KeyRevoked
	case !k.ownerActive:
		g.Status = KeySuspended
	}
	return g
}

// keyByID finds a key of the tenant; of one owner only unless owner is "".
func keyByID(ctx context.Context, q db.Querier, tenant, owner, id string) (Key, error) {
	k, err := db.One(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.tenant_id = $1 AND k.id = $2 AND k.deleted_at = 0 AND ($3 = '' OR k.user_id = $3)`, tenant, id, owner)
	if isNoRow(err) {
		return Key{}, ErrKeyNotFound.With("there is no key %q", id)
	}
	return k.Key, err
}

func keyByHash(ctx context.Context, q db.Querier, hash string) (keyRow, error) {
	return db.One(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.hash = $1`, hash)
}

// keysOf lists keys newest first, before (created_at, id).
func keysOf(ctx context.Context, q db.Querier, tenant, owner string, at int64, before string, limit int) ([]keyRow, error) {
	return db.List(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.tenant_id = $1 AND k.deleted_at = 0 AND ($2 = '' OR k.user_id = $2) AND (k.created_at, k.id) < ($3, $4)
		ORDER BY k.created_at DESC, k.id DESC LIMIT $5`, tenant, owner, at, before, limit)
}

// keysSince lists keys changed after a version, oldest first, always with all keys of the last version.
func keysSince(ctx context.Context, q db.Querier, since int64, limit int) (keys []keyRow, more bool, err error) {
	keys, err = db.List(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.version > $1 ORDER BY k.version, k.id LIMIT $2`, since, limit)
	if err != nil || len(keys) < limit {
		return keys, false, err
	}
	last := keys[len(keys)-1]
	rest, err := db.List(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.version = $1 AND k.id > $2 ORDER BY k.id`, last.version, last.ID)
	return append(keys, rest...), true, err
}

// sessionsSince lists the ids of sessions whose rights changed after a version.
func sessionsSince(ctx context.Context, q db.Querier, since int64) ([]string, error) {
	return db.List(ctx, q, db.Scalar[string], `SELECT id FROM user_session WHERE version > $1 ORDER BY version, id LIMIT 100000`, since)
}

func updateKey(ctx context.Context, tx *db.Tx, k Key, version int64) error {
	models, scopes, err := keyLists(k)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `UPDATE user_key SET name = $4, models = $5, scopes = $6, expires_at = $7, revoked_at = $8, updated_at = $9, version = $10, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`,
		k.tenantID, k.ID, k.Rev, k.Name, models, scopes, db.Micro(k.ExpiresAt), db.Micro(k.revokedAt), db.Micro(k.UpdatedAt), version)
	return db.Guard(n, err, ErrStaleKey)
}

// deleteKey hides a key for good; the row stays because usage names it.
func deleteKey(ctx context.Context, tx *db.Tx, k Key, version int64, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_key SET deleted_at = $3, revoked_at = $4, updated_at = $3, version = $5, rev = rev + 1 WHERE tenant_id = $1 AND id = $2`, k.tenantID, k.ID, db.Micro(now), db.Micro(k.revokedAt), version)
	return err
}

// revokeKeysOf revokes all keys of a user who leaves.
func revokeKeysOf(ctx context.Context, tx *db.Tx, tenant, userID string, version int64, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_key SET revoked_at = $4, updated_at = $4, version = $3, rev = rev + 1 WHERE tenant_id = $1 AND user_id = $2 AND revoked_at = 0`, tenant, userID, version, db.Micro(now))
	return err
}
