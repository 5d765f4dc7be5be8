package user

import (
	"context"

	"maas/internal/platform/db"
)

const limitCols = `l.id, l.tenant_id, l.subject_kind, l.subject_id, l.unit, l.most, l.burst, l.by_operator, l.deleted_at, l.created_at, l.updated_at, l.rev FROM user_limit l `

func scanLimit(r db.Row) (Limit, error) {
	var l Limit
	var deleted, created, updated int64
	err := r.Scan(&l.ID, &l.tenantID, &l.Subject.Kind, &l.Subject.ID, &l.Unit, &l.Limit, &l.Burst, &l.ByOperator, &deleted, &created, &updated, &l.Rev)
	l.deleted, l.CreatedAt, l.UpdatedAt = deleted != 0, db.FromMicro(created), db.FromMicro(updated)
	return l, err
}

func insertLimit(ctx context.Context, tx *db.Tx, l Limit, version int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_limit (id, tenant_id, subject_kind, subject_id, unit, most, burst, by_operator, deleted_at, version, created_at, updated_at, rev)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $10, 1)`, l.ID, l.tenantID, l.Subject.Kind, l.Subject.ID, string(l.Unit), l.Limit, l.Burst, l.ByOperator, version, db.Micro(l.CreatedAt))
	return err
}

func updateLimit(ctx context.Context, tx *db.Tx, l *Limit, version int64) error {
	deleted := int64(0)
	if l.deleted {
		deleted = db.Micro(l.UpdatedAt)
	}
	n, err := tx.Exec(ctx, `UPDATE user_limit SET most = $4, burst = $5, deleted_at = $6, updated_at = $7, version = $8, rev = rev + 1 WHERE tenant_id = $1 AND id = $2 AND rev = $3`,
		l.tenantID, l.ID, l.Rev, l.Limit, l.Burst, deleted, db.Micro(l.UpdatedAt), version)
	l.Rev++
	return db.Guard(n, err, ErrStaleLimit)
}

// limitByID finds a limit of a tenant; of any if tenant is "".
func limitByID(ctx context.Context, q db.Querier, tenant, lid string) (Limit, error) {
	l, err := db.One(ctx, q, scanLimit, `SELECT `+limitCols+`WHERE ($1 = '' OR l.tenant_id = $1) AND l.id = $2 AND l.deleted_at = 0`, tenant, lid)
	if isNoRow(err) {
		return l, ErrLimitNotFound.With("there is no limit %q", lid)
	}
	return l, err
}

func limitsOf(ctx context.Context, q db.Querier, tenant string, f LimitFilter, at int64, after string, limit int) ([]Limit, error) {
	return db.List(ctx, q, scanLimit, `SELECT `+limitCols+`WHERE l.tenant_id = $1 AND l.deleted_at = 0 AND ($2 = '' OR l.subject_kind = $2) AND ($3 = '' OR l.subject_id = $3) AND (l.created_at, l.id) > ($4, $5)
		ORDER BY l.created_at, l.id LIMIT $6`, tenant, f.Kind, f.Subject, at, after, limit)
}

// limitsSince lists limits changed after a version, deleted ones included unless everything is asked for.
func limitsSince(ctx context.Context, q db.Querier, since int64) ([]LimitGrant, error) {
	list, err := db.List(ctx, q, scanLimit, `SELECT `+limitCols+`WHERE l.version > $1 AND ($1 > 0 OR l.deleted_at = 0) ORDER BY l.version, l.id`, since)
	var out []LimitGrant
	for _, l := range list {
		out = append(out, l.grant())
	}
	return out, err
}

// limitSubjectExists reports whether a limit has somebody to hold for. Names of models are taken as they are: they come and go.
func limitSubjectExists(ctx context.Context, q db.Querier, tenant string, s LimitSubject) (bool, error) {
	var text string
	switch s.Kind {
	case "model":
		return true, nil
	case "tenant":
		if s.ID != tenant {
			return false, nil
		}
		text = `SELECT COUNT(*) FROM user_tenant t WHERE t.id = $1 AND t.id = $2`
	case "project":
		text = `SELECT COUNT(*) FROM user_project p WHERE p.tenant_id = $1 AND p.id = $2`
	case "user":
		text = `SELECT COUNT(*) FROM user_member m WHERE m.tenant_id = $1 AND m.user_id = $2`
	case "key":
		text = `SELECT COUNT(*) FROM user_key k WHERE k.tenant_id = $1 AND k.id = $2 AND k.deleted_at = 0`
	default:
		return false, nil
	}
	n, err := db.One(ctx, q, db.Scalar[int64], text, tenant, s.ID)
	return n > 0, err
}
