package user

import (
	"context"
	"time"

	"maas/internal/platform/db"
	"maas/internal/user/factor"
)

// mfaState counts the second factors of a person.
func mfaState(ctx context.Context, q db.Querier, userID string) (MFAState, error) {
	return db.One(ctx, q, func(r db.Row) (MFAState, error) {
		var m MFAState
		var totp int64
		err := r.Scan(&totp, &m.Recovery, &m.Passkeys)
		m.TOTP = totp > 0
		return m, err
	}, `SELECT (SELECT COUNT(*) FROM user_totp WHERE user_id = $1 AND confirmed_at > 0), (SELECT COUNT(*) FROM user_recovery WHERE user_id = $1 AND used_at = 0), (SELECT COUNT(*) FROM user_passkey WHERE user_id = $1)`, userID)
}

// totp is a stored secret of an authenticator app.
type totp struct {
	sealed      string
	confirmedAt time.Time
	lastStep    int64
}

// totpOf reads it; db.ErrNoRow.
func totpOf(ctx context.Context, q db.Querier, userID string) (totp, error) {
	return db.One(ctx, q, func(r db.Row) (totp, error) {
		var t totp
		var confirmed int64
		err := r.Scan(&t.sealed, &confirmed, &t.lastStep)
		t.confirmedAt = db.FromMicro(confirmed)
		return t, err
	}, `SELECT secret_sealed, confirmed_at, last_step FROM user_totp WHERE user_id = $1`, userID)
}

// putTOTP stores a secret that is not proven yet; 0 rows: there is a proven one.
func putTOTP(ctx context.Context, tx *db.Tx, userID, sealed string, now time.Time) (int64, error) {
	return tx.Exec(ctx, `INSERT INTO user_totp (user_id, secret_sealed, confirmed_at, last_step, created_at) VALUES ($1, $2, 0, 0, $3)
		ON CONFLICT (user_id) DO UPDATE SET secret_sealed = excluded.secret_sealed, last_step = 0, created_at = excluded.created_at WHERE user_totp.confirmed_at = 0`, userID, sealed, db.Micro(now))
}

func confirmTOTP(ctx context.Context, tx *db.Tx, userID string, step int64, now time.Time) error {
	n, err := tx.Exec(ctx, `UPDATE user_totp SET confirmed_at = $2, last_step = $3 WHERE user_id = $1 AND confirmed_at = 0`, userID, db.Micro(now), step)
	return db.Guard(n, err, ErrMFAActive)
}

// setStep uses a time step up; 0 rows: it, or a later one, was used before.
func setStep(ctx context.Context, tx *db.Tx, userID string, step int64) (int64, error) {
	return tx.Exec(ctx, `UPDATE user_totp SET last_step = $2 WHERE user_id = $1 AND last_step < $2 AND confirmed_at > 0`, userID, step)
}

func dropTOTP(ctx context.Context, tx *db.Tx, userID string) (int64, error) {
	return tx.Exec(ctx, `DELETE FROM user_totp WHERE user_id = $1`, userID)
}

func insertRecovery(ctx context.Context, tx *db.Tx, userID, hash string) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_recovery (hash, user_id, used_at) VALUES ($1, $2, 0)`, hash, userID)
	return err
}

// useRecovery uses a recovery code up; 0 rows: there is no unused one.
func useRecovery(ctx context.Context, tx *db.Tx, userID, hash string, now time.Time) (int64, error) {
	return tx.Exec(ctx, `UPDATE user_recovery SET used_at = $3 WHERE hash = $2 AND user_id = $1 AND used_at = 0`, userID, hash, db.Micro(now))
}

func dropRecovery(ctx context.Context, tx *db.Tx, userID string) error {
	_, err := tx.Exec(ctx, `DELETE FROM user_recovery WHERE user_id = $1`, userID)
	return err
}

const passkeyCols = `id, user_id, name, data, created_at, used_at`

func scanPasskey(r db.Row) (Passkey, error) {
	var p Passkey
	var data string
	var created, used int64
	if err := r.Scan(&p.ID, &p.userID, &p.Name, &data, &created, &used); err != nil {
		return p, err
	}
	p.record, p.CreatedAt, p.LastUsedAt = []byte(data), db.FromMicro(created), db.FromMicro(used)
	p.BackedUp = factor.BackedUp(p.record)
	return p, nil
}

// passkeysOf lists the passkeys of a person, oldest first.
func passkeysOf(ctx context.Context, q db.Querier, userID string) ([]Passkey, error) {
	return db.List(ctx, q, scanPasskey, `SELECT `+passkeyCols+` FROM user_passkey WHERE user_id = $1 ORDER BY created_at, id LIMIT 100`, userID)
}

func passkeyByID(ctx context.Context, q db.Querier, userID, id string) (Passkey, error) {
	p, err := db.One(ctx, q, scanPasskey, `SELECT `+passkeyCols+` FROM user_passkey WHERE user_id = $1 AND id = $2`, userID, id)
	if isNoRow(err) {
		err = ErrPasskeyNotFound
	}
	return p, err
}

func insertPasskey(ctx context.Context, tx *db.Tx, p Passkey, credential string, count uint32) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_passkey (id, user_id, credential_id, name, data, sign_count, created_at, used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0)`,
		p.ID, p.userID, credential, p.Name, string(p.record), int64(count), db.Micro(p.CreatedAt))
	return err
}

func touchPasskey(ctx context.Context, tx *db.Tx, userID, credential string, record []byte, count uint32, now time.Time) error {
	n, err := tx.Exec(ctx, `UPDATE user_passkey SET data = $3, sign_count = $4, used_at = $5 WHERE user_id = $1 AND credential_id = $2`, userID, credential, string(record), int64(count), db.Micro(now))
	return db.Guard(n, err, ErrPasskey)
}

func namePasskey(ctx context.Context, tx *db.Tx, userID, id, name string) (int64, error) {
	return tx.Exec(ctx, `UPDATE user_passkey SET name = $3 WHERE user_id = $1 AND id = $2`, userID, id, name)
}

func dropPasskey(ctx context.Context, tx *db.Tx, userID, id string) (int64, error) {
	return tx.Exec(ctx, `DELETE FROM user_passkey WHERE user_id = $1 AND id = $2`, userID, id)
}
