package model

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"maas/internal/platform/db"
	"maas/internal/platform/fault"
)

// store is the SQL of this service. Every statement names the tenant.
type store struct{}

const repoColumns = `id, tenant_id, name, description, visibility, versions, created_at, updated_at, rev`

func scanRepo(r db.Row) (m Model, err error) {
	var created, updated int64
	err = r.Scan(&m.ID, &m.tenant, &m.Name, &m.Description, &m.Visibility, &m.Versions, &created, &updated, &m.Rev)
	m.CreatedAt, m.UpdatedAt = db.FromMicro(created), db.FromMicro(updated)
	return m, err
}

// insert adds a repository. ErrNameTaken.
func (store) insert(ctx context.Context, tx *db.Tx, m Model, by string) error {
	_, err := tx.Exec(ctx, `INSERT INTO model_repo (id, tenant_id, name, name_lower, description, visibility, versions, created_by, created_at, updated_at, rev) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $8, 1)`,
		m.ID, m.tenant, m.Name, strings.ToLower(m.Name), m.Description, m.Visibility, by, db.Micro(m.CreatedAt))
	return taken(err, m.Name)
}

func taken(err error, name string) error {
	if db.Duplicate(err, "name_lower") {
		return ErrNameTaken.With("a model called %s exists already", name).WithFields(fault.Field{Name: "body.name", Code: "duplicate", Message: "is taken"})
	}
	return err
}

// repo finds a repository by id or name. ErrNotFound.
func (store) repo(ctx context.Context, q db.Querier, tenant, ref string) (Model, error) {
	m, err := db.One(ctx, q, scanRepo, `SELECT `+repoColumns+` FROM model_repo WHERE tenant_id = $1 AND (id = $2 OR name_lower = $3)`, tenant, ref, strings.ToLower(ref))
	return m, missing(err, ErrNotFound.With("there is no model %.100q", ref))
}

func missing(err, as error) error {
	if errors.Is(err, db.ErrNoRow) {
		return as
	}
	return err
}

// repos lists up to n repositories by name, after the one of that lower-case name. like filters by a part of the name.
func (store) repos(ctx context.Context, q db.Querier, tenant, like, after string, n int) ([]Model, error) {
	return db.List(ctx, q, scanRepo, `SELECT `+repoColumns+` FROM model_repo WHERE tenant_id = $1 AND name_lower > $2 AND name_lower LIKE $3 ESCAPE '!' ORDER BY name_lower LIMIT $4`, tenant, after, contains(like), n)
}

// contains makes the pattern of "holds this text".
func contains(text string) string {
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(text)) + "%"
}

// change writes name and description if the repository is still at rev. ErrNameTaken, ErrChanged.
func (store) change(ctx context.Context, tx *db.Tx, m Model) error {
	n, err := tx.Exec(ctx, `UPDATE model_repo SET name = $4, name_lower = $5, description = $6, updated_at = $7, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`,
		m.tenant, m.ID, m.Rev, m.Name, strings.ToLower(m.Name), m.Description, db.Micro(m.UpdatedAt))
	return db.Guard(n, taken(err, m.Name), ErrChanged)
}

// remove deletes a repository; its versions, files and reports go with it. ErrNotFound.
func (store) remove(ctx context.Context, tx *db.Tx, tenant, id string) error {
	n, err := tx.Exec(ctx, `DELETE FROM model_repo WHERE tenant_id = $1 AND id = $2`, tenant, id)
	return db.Guard(n, err, ErrNotFound)
}

// nextNumber counts the version up and returns it. ErrNotFound if the repository is gone.
func (store) nextNumber(ctx context.Context, tx *db.Tx, tenant, id string, now int64) (int, error) {
	n, err := db.One(ctx, tx, db.Scalar[int], `UPDATE model_repo SET versions = versions + 1, updated_at = $3, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 RETURNING versions`, tenant, id, now)
	return n, missing(err, ErrNotFound)
}

// sizes returns the bytes of the distinct blobs of repositories, by id.
func (store) sizes(ctx context.Context, q db.Querier, tenant string, ids []string) (map[string]int64, error) {
	type size struct {
		id string
		n  int64
	}
	scan := func(r db.Row) (s size, err error) { return s, r.Scan(&s.id, &s.n) }
	list, err := db.List(ctx, q, scan, `SELECT d.repo_id, CAST(COALESCE(SUM(d.size_bytes), 0) AS BIGINT) FROM
		(SELECT DISTINCT v.repo_id AS repo_id, f.sha256 AS sha256, f.size_bytes AS size_bytes FROM model_file f JOIN model_version v ON v.id = f.version_id WHERE v.tenant_id = $1 AND v.repo_id IN (`+db.In(2, len(ids))+`)) d
		GROUP BY d.repo_id`, db.Args(ids, tenant)...)
	m := map[string]int64{}
	for _, s := range list {
		m[s.id] = s.n
	}
	return m, err
}

// keep records that a blob is there and used. ErrBusy if it is just being deleted.
func (store) keep(ctx context.Context, tx *db.Tx, tenant string, f File, now int64) error {
	n, err := tx.Exec(ctx, `INSERT INTO model_blob (tenant_id, sha256, size_bytes, state, created_at, touched_at) VALUES ($1, $2, $3, 'live', $4, $4)
		ON CONFLICT (tenant_id, sha256) DO UPDATE SET state = 'live', touched_at = excluded.touched_at WHERE model_blob.state <> 'deleting'`, tenant, f.SHA256, f.SizeBytes, now)
	return db.Guard(n, err, ErrBusy)
}

// revive makes a condemned blob live again; one that has no row is fine. ErrBusy if it is just being deleted.
func (store) revive(ctx context.Context, tx *db.Tx, tenant, sha string, now int64) error {
	n, err := tx.Exec(ctx, `UPDATE model_blob SET state = 'live', touched_at = $3 WHERE tenant_id = $1 AND sha256 = $2 AND state <> 'deleting'`, tenant, sha, now)
	if err != nil || n > 0 {
		return err
	}
	left, err := db.One(ctx, tx, db.Scalar[int64], `SELECT COUNT(*) FROM model_blob WHERE tenant_id = $1 AND sha256 = $2`, tenant, sha)
	if err == nil && left > 0 {
		return ErrBusy
	}
	return err
}

// checked reports whether a check of this version passed on a blob before.
func (store) checked(ctx context.Context, q db.Querier, tenant, sha, check string, version int) (bool, error) {
	n, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM model_check WHERE tenant_id = $1 AND sha256 = $2 AND check_id = $3 AND check_version = $4`, tenant, sha, check, version)
	return n > 0, err
}

// passed remembers a check of a blob.
func (store) passed(ctx context.Context, tx *db.Tx, tenant, sha, check string, version int, now int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO model_check (tenant_id, sha256, check_id, check_version, at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (tenant_id, sha256, check_id) DO UPDATE SET check_version = excluded.check_version, at = excluded.at`, tenant, sha, check, version, now)
	return err
}

// blob is a row of the collection of garbage.
type blob struct{ tenant, sha string }

func scanBlob(r db.Row) (b blob, err error) { return b, r.Scan(&b.tenant, &b.sha) }

// idle lists blobs of any tenant in a state, not touched since the time.
func (store) idle(ctx context.Context, q db.Querier, state string, before int64, n int) ([]blob, error) {
	return db.List(ctx, q, scanBlob, `SELECT tenant_id, sha256 FROM model_blob WHERE state = $1 AND touched_at < $2 ORDER BY touched_at LIMIT $3`, state, before, n)
}

// step moves an unused blob on, if it still is in the state and still idle. Reports whether it did.
func (store) step(ctx context.Context, tx *db.Tx, b blob, from, to string, before, now int64) (bool, error) {
	n, err := tx.Exec(ctx, `UPDATE model_blob SET state = $4, touched_at = $6 WHERE tenant_id = $1 AND sha256 = $2 AND state = $3 AND touched_at < $5
		AND NOT EXISTS (SELECT 1 FROM model_file f WHERE f.tenant_id = model_blob.tenant_id AND f.sha256 = model_blob.sha256)`, b.tenant, b.sha, from, to, before, now)
	return n > 0, err
}

// touch puts off blobs that are in use, so that the next round sees others first.
func (store) touch(ctx context.Context, tx *db.Tx, b blob, now int64) error {
	_, err := tx.Exec(ctx, `UPDATE model_blob SET touched_at = $3 WHERE tenant_id = $1 AND sha256 = $2 AND state = 'live'`, b.tenant, b.sha, now)
	return err
}

// forget removes the rows of a blob whose object is gone.
func (store) forget(ctx context.Context, tx *db.Tx, b blob) error {
	if _, err := tx.Exec(ctx, `DELETE FROM model_check WHERE tenant_id = $1 AND sha256 = $2`, b.tenant, b.sha); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM model_blob WHERE tenant_id = $1 AND sha256 = $2 AND state = 'deleting'`, b.tenant, b.sha)
	return err
}

func pack(v any) string {
	b, _ := json.Marshal(v) // plain structs of strings and numbers
	return string(b)
}
