package inference

import (
	"context"
	"time"

	"maas/internal/platform/db"
)

const providerColumns = `id, tenant_id, name, kind, preset, base_url, api_version, api_key, status, cause, checked_at, created_at, updated_at, rev`

func scanProvider(row db.Row) (Provider, error) {
	var p Provider
	var c string
	var checked, created, updated int64
	if err := row.Scan(&p.ID, &p.tenant, &p.Name, &p.Kind, &p.Preset, &p.BaseURL, &p.Version, &p.sealed, &p.Status, &c, &checked, &created, &updated, &p.Rev); err != nil {
		return p, err
	}
	p.KeySet = p.sealed != ""
	p.CheckedAt, p.CreatedAt, p.UpdatedAt = db.FromMicro(checked), db.FromMicro(created), db.FromMicro(updated)
	err := unpack(c, &p.cause)
	p.Reason = p.cause.view()
	return p, err
}

func (store) provider(ctx context.Context, q db.Querier, tenant, ref string) (Provider, error) {
	return db.One(ctx, q, scanProvider, `SELECT `+providerColumns+` FROM inference_provider WHERE tenant_id = $1 AND id = $2`, tenant, ref)
}

// providers lists a tenant's by name, after a name.
func (store) providers(ctx context.Context, q db.Querier, tenant, after string, limit int) ([]Provider, error) {
	return db.List(ctx, q, scanProvider, `SELECT `+providerColumns+` FROM inference_provider WHERE tenant_id = $1 AND name > $2 ORDER BY name LIMIT $3`, tenant, after, limit)
}

func (store) insertProvider(ctx context.Context, tx *db.Tx, p Provider) error {
	_, err := tx.Exec(ctx, `INSERT INTO inference_provider (`+providerColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		p.ID, p.tenant, p.Name, p.Kind, p.Preset, p.BaseURL, p.Version, p.sealed, p.Status, pack(p.cause), db.Micro(p.CheckedAt), db.Micro(p.CreatedAt), db.Micro(p.UpdatedAt), p.Rev)
	return err
}

// updateProvider writes everything that can change, if nobody changed it since p was read; ErrRevision else.
func (store) updateProvider(ctx context.Context, tx *db.Tx, p Provider) error {
	n, err := tx.Exec(ctx, `UPDATE inference_provider SET name = $4, base_url = $5, api_key = $6, status = $7, cause = $8, checked_at = $9, updated_at = $10, api_version = $11, preset = $12, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`,
		p.tenant, p.ID, p.Rev, p.Name, p.BaseURL, p.sealed, p.Status, pack(p.cause), db.Micro(p.CheckedAt), db.Micro(p.UpdatedAt), p.Version, p.Preset)
	return db.Guard(n, err, ErrRevision)
}

// checkedProvider stores the result of a test; it is no change by a person, so the revision stays.
func (store) checkedProvider(ctx context.Context, tx *db.Tx, tenant, ref, status string, c cause, at time.Time) error {
	n, err := tx.Exec(ctx, `UPDATE inference_provider SET status = $3, cause = $4, checked_at = $5 WHERE tenant_id = $1 AND id = $2`, tenant, ref, status, pack(c), db.Micro(at))
	return db.Guard(n, err, ErrProviderNotFound)
}

func (store) deleteProvider(ctx context.Context, tx *db.Tx, tenant, ref string) error {
	n, err := tx.Exec(ctx, `DELETE FROM inference_provider WHERE tenant_id = $1 AND id = $2`, tenant, ref)
	return db.Guard(n, err, ErrProviderNotFound)
}
