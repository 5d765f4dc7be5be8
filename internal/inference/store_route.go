package inference

import (
	"context"
	"strconv"

	"maas/internal/platform/db"
)

const routeColumns = `id, tenant_id, name, spec, created_at, updated_at, rev`

func scanRoute(row db.Row) (storedRoute, error) {
	var r storedRoute
	var name, spec string
	var created, updated int64
	if err := row.Scan(&r.ID, &r.Tenant, &name, &spec, &created, &updated, &r.Rev); err != nil {
		return r, err
	}
	r.CreatedAt, r.UpdatedAt = db.FromMicro(created), db.FromMicro(updated)
	return r, unpack(spec, &r.Spec)
}

// route finds one by tenant and id, name or alias; db.ErrNoRow if there is none.
func (store) route(ctx context.Context, q db.Querier, tenant, ref string) (storedRoute, error) {
	return db.One(ctx, q, scanRoute, `SELECT `+routeColumns+` FROM inference_route WHERE tenant_id = $1 AND (id = $2 OR id = (SELECT route_id FROM inference_route_name WHERE tenant_id = $1 AND name = $2))`, tenant, ref)
}

// routes lists a tenant's by name, after a name.
func (store) routes(ctx context.Context, q db.Querier, tenant, after string, limit int) ([]storedRoute, error) {
	return db.List(ctx, q, scanRoute, `SELECT `+routeColumns+` FROM inference_route WHERE tenant_id = $1 AND name > $2 ORDER BY name LIMIT $3`, tenant, after, limit)
}

// allRoutes lists those of every tenant after an id: what the table is made from.
func (store) allRoutes(ctx context.Context, q db.Querier, after string, limit int) ([]storedRoute, error) {
	return db.List(ctx, q, scanRoute, `SELECT `+routeColumns+` FROM inference_route WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
}

func (s store) insertRoute(ctx context.Context, tx *db.Tx, r storedRoute) error {
	_, err := tx.Exec(ctx, `INSERT INTO inference_route (`+routeColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`, r.ID, r.Tenant, r.Spec.Name, pack(r.Spec), db.Micro(r.CreatedAt), db.Micro(r.UpdatedAt), r.Rev)
	if err != nil {
		return err
	}
	return s.nameRoute(ctx, tx, r)
}

// updateRoute writes everything that can change, if nobody changed it since r was read; ErrRevision else.
func (s store) updateRoute(ctx context.Context, tx *db.Tx, r storedRoute) error {
	n, err := tx.Exec(ctx, `UPDATE inference_route SET name = $4, spec = $5, updated_at = $6, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`, r.Tenant, r.ID, r.Rev, r.Spec.Name, pack(r.Spec), db.Micro(r.UpdatedAt))
	if err := db.Guard(n, err, ErrRevision); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM inference_route_name WHERE route_id = $1`, r.ID); err != nil {
		return err
	}
	return s.nameRoute(ctx, tx, r)
}

func (store) nameRoute(ctx context.Context, tx *db.Tx, r storedRoute) error {
	for _, n := range r.Spec.names() {
		if _, err := tx.Exec(ctx, `INSERT INTO inference_route_name (tenant_id, name, route_id) VALUES ($1, $2, $3)`, r.Tenant, n, r.ID); err != nil {
			return err
		}
	}
	return nil
}

func (store) deleteRoute(ctx context.Context, tx *db.Tx, tenant, id string, rev int64) error {
	if _, err := tx.Exec(ctx, `DELETE FROM inference_route_name WHERE tenant_id = $1 AND route_id = $2`, tenant, id); err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `DELETE FROM inference_route WHERE tenant_id = $1 AND id = $2 AND rev = $3`, tenant, id, rev)
	return db.Guard(n, err, ErrRevision)
}

// routesMark is a text that changes with every write of a route.
func (store) routesMark(ctx context.Context, q db.Querier) (string, error) {
	return db.One(ctx, q, func(r db.Row) (string, error) {
		var n, sum, last int64
		err := r.Scan(&n, &sum, &last)
		return strconv.FormatInt(n, 10) + "." + strconv.FormatInt(sum, 10) + "." + strconv.FormatInt(last, 10), err
	}, `SELECT COUNT(*), CAST(COALESCE(SUM(rev), 0) AS BIGINT), CAST(COALESCE(MAX(updated_at), 0) AS BIGINT) FROM inference_route`)
}
