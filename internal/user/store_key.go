package user

import (
	"context"
	"encoding/json"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
)

func insertKey(ctx context.Context, tx *db.Tx, k Key, version int64) error {
	l, err := keyLists(k)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_key (id, tenant_id, user_id, name, hash, prefix, last4, models, scopes, expires_at, last_used_at, revoked_at, deleted_at, version, created_at, updated_at, rev, project_id, ip_allow, limits, strict)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, 0, $11, $12, $12, 1, $13, $14, $15, $16)`,
		k.ID, k.tenantID, k.Owner.ID, k.Name, k.hash, k.Prefix, k.Last4, l[0], l[1], db.Micro(k.ExpiresAt), version, db.Micro(k.CreatedAt), k.ProjectID, l[2], l[3], k.Strict)
	return err
}

// keyLists are models, scopes, addresses and limits as JSON.
func keyLists(k Key) (l [4]string, err error) {
	for i, v := range []any{k.Models, k.Scopes, k.IPAllow, k.Limits} {
		b, err := json.Marshal(v)
		if err != nil {
			return l, err
		}
		l[i] = string(b)
	}
	return l, nil
}

const keyCols = `k.id, k.tenant_id, k.user_id, COALESCE(s.name, u.email), u.kind, u.status, COALESCE(m.status, ''), COALESCE(m.role, ''), COALESCE(r.permissions, '[]'), t.status, k.name, k.hash, k.prefix, k.last4, k.models, k.scopes,
	k.ip_allow, k.limits, k.strict, COALESCE((SELECT MAX(o.until) FROM user_key_secret o WHERE o.key_id = k.id), 0), k.project_id, COALESCE(p.slug, ''), COALESCE(p.status, ''), k.expires_at, k.last_used_at, k.revoked_at, k.deleted_at, k.created_at, k.updated_at, k.rev, k.version`

const keyFrom = ` FROM user_key k JOIN user_user u ON u.id = k.user_id JOIN user_tenant t ON t.id = k.tenant_id LEFT JOIN user_member m ON m.tenant_id = k.tenant_id AND m.user_id = k.user_id
	LEFT JOIN user_role r ON r.tenant_id = m.tenant_id AND r.id = m.role LEFT JOIN user_service s ON s.id = k.user_id LEFT JOIN user_project p ON p.id = k.project_id `

// keyRow is a key with the version of its last change.
type keyRow struct {
	Key
	version int64
}

func scanKey(r db.Row) (keyRow, error) {
	var k keyRow
	var userStatus, memberStatus, tenantStatus, rolePerms, models, scopes, ips, limits, projectStatus string
	var rotates, expires, used, revoked, deleted, created, updated int64
	if err := r.Scan(&k.ID, &k.tenantID, &k.Owner.ID, &k.Owner.Email, &k.Owner.Kind, &userStatus, &memberStatus, &k.ownerRole, &rolePerms, &tenantStatus, &k.Name, &k.hash, &k.Prefix, &k.Last4, &models, &scopes,
		&ips, &limits, &k.Strict, &rotates, &k.ProjectID, &k.Project, &projectStatus, &expires, &used, &revoked, &deleted, &created, &updated, &k.Rev, &k.version); err != nil {
		return k, err
	}
	k.ExpiresAt, k.LastUsedAt, k.revokedAt, k.CreatedAt, k.UpdatedAt = db.FromMicro(expires), db.FromMicro(used), db.FromMicro(revoked), db.FromMicro(created), db.FromMicro(updated)
	k.deleted = deleted != 0
	k.ownerActive = userStatus == string(Active) && memberStatus == string(Active) && tenantStatus == string(Active) && k.ownerRole != ""
	k.RotatesAt = db.FromMicro(rotates)
	if k.ProjectID != "" {
		k.ownerActive = k.ownerActive && projectStatus == "active"
	}
	for _, part := range []struct {
		text string
		to   any
	}{{models, &k.Models}, {scopes, &k.Scopes}, {ips, &k.IPAllow}, {limits, &k.Limits}, {rolePerms, &k.ownerPerms}} {
		if err := json.Unmarshal([]byte(part.text), part.to); err != nil {
			return k, err
		}
	}
	return k, nil
}

// ownerRights are the permissions of the owner's role.
func (k *Key) ownerRights() []string {
	if k.ownerRole.Custom() {
		return k.ownerPerms
	}
	return k.ownerRole.Permissions()
}

// grant resolves a key to what it may do. Expiry is left to the reader's clock.
func (k keyRow) grant(b rights) KeyGrant {
	g := KeyGrant{Hash: k.hash, ExpiresAt: k.ExpiresAt, Status: KeyActive, Project: k.ProjectID, Strict: k.Strict, Limits: k.Limits, Principal: auth.Principal{
		Kind: auth.Key, TenantID: k.tenantID, UserID: k.Owner.ID, KeyID: k.ID, Name: k.Name, Role: string(k.ownerRole), Permissions: k.ownerRights(), Models: k.Models,
	}}
	b.fill(&g.Principal, k.Scopes)
	if len(k.IPAllow) > 0 {
		g.IPAllow = k.IPAllow
	}
	if k.ProjectID != "" {
		g.Principal.Project = k.ProjectID
		g.Principal.Projects = []auth.Project{{ID: k.ProjectID, Slug: k.Project}}
	}
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
	k, err := db.One(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.tenant_id = $1 AND k.id = $2 AND k.deleted_at = 0 AND ($3 = '' OR k.user_id = $3 OR s.created_by = $3)`, tenant, id, owner)
	if isNoRow(err) {
		return Key{}, ErrKeyNotFound.With("there is no key %q", id)
	}
	return k.Key, err
}

// keyByHash finds a key by its text of now or of before a rotation, which then ends with the overlap.
func keyByHash(ctx context.Context, q db.Querier, hash string) (keyRow, error) {
	k, err := db.One(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.hash = $1`, hash)
	if !isNoRow(err) {
		return k, err
	}
	old, err := db.One(ctx, q, scanKeySecret, `SELECT o.key_id, o.hash, o.until FROM user_key_secret o WHERE o.hash = $1`, hash)
	if err != nil {
		return k, err
	}
	k, err = db.One(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.id = $1`, old.key)
	k.hash = old.hash
	if k.ExpiresAt.IsZero() || k.ExpiresAt.After(old.until) {
		k.ExpiresAt = old.until
	}
	return k, err
}

// keySecret is a text of a key from before a rotation.
type keySecret struct {
	key, hash string
	until     time.Time
}

func scanKeySecret(r db.Row) (keySecret, error) {
	var o keySecret
	var until int64
	err := r.Scan(&o.key, &o.hash, &until)
	o.until = db.FromMicro(until)
	return o, err
}

// grant is that of the key, ending with the overlap.
func (o keySecret) grant(g KeyGrant) KeyGrant {
	g.Hash = o.hash
	if g.ExpiresAt.IsZero() || g.ExpiresAt.After(o.until) {
		g.ExpiresAt = o.until
	}
	return g
}

func insertKeySecret(ctx context.Context, tx *db.Tx, k Key, hash string, until time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_key_secret (hash, tenant_id, key_id, until) VALUES ($1, $2, $3, $4)`, hash, k.tenantID, k.ID, db.Micro(until))
	return err
}

// keySecretsSince lists the old texts of keys that changed after a version, up to another.
func keySecretsSince(ctx context.Context, q db.Querier, since, last int64) (map[string][]keySecret, error) {
	list, err := db.List(ctx, q, scanKeySecret, `SELECT o.key_id, o.hash, o.until FROM user_key_secret o JOIN user_key k ON k.id = o.key_id WHERE k.version > $1 AND k.version <= $2 ORDER BY o.key_id, o.until`, since, last)
	m := map[string][]keySecret{}
	for _, o := range list {
		m[o.key] = append(m[o.key], o)
	}
	return m, err
}

// keysOf lists keys newest first, before (created_at, id): of one owner and of the service accounts they made, unless may is ""; filtered by owner and project unless "".
func keysOf(ctx context.Context, q db.Querier, tenant, may string, f KeyFilter, at int64, before string, limit int) ([]keyRow, error) {
	return db.List(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.tenant_id = $1 AND k.deleted_at = 0 AND ($2 = '' OR k.user_id = $2 OR s.created_by = $2) AND ($3 = '' OR k.user_id = $3) AND ($4 = '' OR k.project_id = $4)
		AND (k.created_at, k.id) < ($5, $6) ORDER BY k.created_at DESC, k.id DESC LIMIT $7`, tenant, may, f.Owner, f.Project, at, before, limit)
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
	l, err := keyLists(k)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `UPDATE user_key SET name = $4, models = $5, scopes = $6, expires_at = $7, revoked_at = $8, updated_at = $9, version = $10, project_id = $11, ip_allow = $12, limits = $13, hash = $14, prefix = $15,
		last4 = $16, strict = $17, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`,
		k.tenantID, k.ID, k.Rev, k.Name, l[0], l[1], db.Micro(k.ExpiresAt), db.Micro(k.revokedAt), db.Micro(k.UpdatedAt), version, k.ProjectID, l[2], l[3], k.hash, k.Prefix, k.Last4, k.Strict)
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
