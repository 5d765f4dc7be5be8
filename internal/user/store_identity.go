package user

import (
	"context"
	"time"

	"maas/internal/platform/db"
)

const identityCols = `id, user_id, provider, issuer, subject, email, name, created_at, used_at`

func scanIdentity(r db.Row) (Identity, error) {
	var i Identity
	var created, used int64
	err := r.Scan(&i.ID, &i.userID, &i.Provider, &i.issuer, &i.Subject, &i.Email, &i.Name, &created, &used)
	i.CreatedAt, i.LastUsedAt = db.FromMicro(created), db.FromMicro(used)
	return i, err
}

// identityBySubject finds whose an account at a provider is; db.ErrNoRow.
func identityBySubject(ctx context.Context, q db.Querier, provider, issuer, subject string) (Identity, error) {
	return db.One(ctx, q, scanIdentity, `SELECT `+identityCols+` FROM user_identity WHERE provider = $1 AND issuer = $2 AND subject = $3`, provider, issuer, subject)
}

// identitiesOf lists the accounts of a person at providers, oldest first.
func identitiesOf(ctx context.Context, q db.Querier, userID string) ([]Identity, error) {
	return db.List(ctx, q, scanIdentity, `SELECT `+identityCols+` FROM user_identity WHERE user_id = $1 ORDER BY created_at, id LIMIT 100`, userID)
}

func insertIdentity(ctx context.Context, tx *db.Tx, i Identity) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_identity (id, user_id, provider, issuer, subject, email, name, created_at, used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)`,
		i.ID, i.userID, i.Provider, i.issuer, i.Subject, i.Email, i.Name, db.Micro(i.CreatedAt))
	return err
}

func touchIdentity(ctx context.Context, tx *db.Tx, id string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_identity SET used_at = $2 WHERE id = $1`, id, db.Micro(now))
	return err
}

func dropIdentity(ctx context.Context, tx *db.Tx, userID, id string) (int64, error) {
	return tx.Exec(ctx, `DELETE FROM user_identity WHERE user_id = $1 AND id = $2`, userID, id)
}
