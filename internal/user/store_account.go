package user

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"maas/internal/platform/db"
)

// userAnywhere finds a person by id in the organisation they acted in last; db.ErrNoRow.
func userAnywhere(ctx context.Context, q db.Querier, id string) (User, error) {
	return db.One(ctx, q, scanUser, `SELECT `+userCols+userFrom+`WHERE u.id = $1 AND u.status <> 'erased' AND u.kind = 'person'
		ORDER BY CASE WHEN m.status = 'active' AND t.status = 'active' THEN 0 ELSE 1 END, m.chosen_at DESC, m.created_at, m.tenant_id LIMIT 1`, id)
}

// userByEmail finds a person by address; db.ErrNoRow.
func userByEmail(ctx context.Context, q db.Querier, email string) (User, error) {
	return db.One(ctx, q, scanUser, `SELECT `+userCols+userFrom+`WHERE u.email_key = $1 AND u.status <> 'erased' AND u.kind = 'person'
		ORDER BY CASE WHEN m.status = 'active' AND t.status = 'active' THEN 0 ELSE 1 END, m.chosen_at DESC, m.created_at, m.tenant_id LIMIT 1`, emailKey(email))
}

// unprovenBefore lists registrations from before a time that wait for the confirmation of their address.
func unprovenBefore(ctx context.Context, q db.Querier, before time.Time) ([]User, error) {
	return db.List(ctx, q, scanUser, `SELECT `+userCols+userFrom+`WHERE u.pending = 'verification' AND u.status = 'suspended' AND u.created_at < $1 ORDER BY u.created_at, u.id LIMIT 500`, db.Micro(before))
}

func emailKnown(ctx context.Context, q db.Querier, email string) (bool, error) {
	n, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_user WHERE email_key = $1`, emailKey(email))
	return n > 0, err
}

// freeUsername returns the wanted user name, with a few random letters where another account has it.
func freeUsername(ctx context.Context, q db.Querier, want string) (string, error) {
	n, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_user WHERE username_key = $1`, want)
	if err != nil || n == 0 {
		return want, err
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	return want[:min(len(want), 50)] + "-" + hex.EncodeToString(b[:]), nil
}

// firstTenant is the organisation that people come to who register without an invitation: the first of the installation.
func firstTenant(ctx context.Context, q db.Querier) (Tenant, error) {
	return db.One(ctx, q, func(r db.Row) (t Tenant, err error) { return t, r.Scan(&t.ID, &t.Name) }, `SELECT id, name FROM user_tenant WHERE status = 'active' ORDER BY created_at, id LIMIT 1`)
}

// setVerified notes that the address of an account is proven, and what it waits for now.
func setVerified(ctx context.Context, tx *db.Tx, id, pending string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_user SET verified_at = $2, status = CASE WHEN pending <> '' AND $3 = '' AND status = 'suspended' THEN 'active' ELSE status END, pending = $3, updated_at = $2, rev = rev + 1 WHERE id = $1`, id, db.Micro(now), pending)
	return err
}

// setPending changes what a pending account waits for; "" makes it active.
func setPending(ctx context.Context, tx *db.Tx, id, pending string, now time.Time) error {
	n, err := tx.Exec(ctx, `UPDATE user_user SET status = CASE WHEN $2 = '' THEN 'active' ELSE status END, pending = $2, updated_at = $3, rev = rev + 1 WHERE id = $1 AND pending <> '' AND status = 'suspended'`, id, pending, db.Micro(now))
	return db.Guard(n, err, ErrBadStatus)
}

// oneTime is a stored one-time token.
type oneTime struct {
	userID, tenantID, data string
	tries                  int64
}

func scanOneTime(r db.Row) (t oneTime, err error) {
	return t, r.Scan(&t.userID, &t.tenantID, &t.data, &t.tries)
}

// tokenByHash reads a token that still holds; db.ErrNoRow.
func tokenByHash(ctx context.Context, q db.Querier, hash, kind string, now time.Time) (oneTime, error) {
	return db.One(ctx, q, scanOneTime, `SELECT user_id, tenant_id, data, tries FROM user_token WHERE hash = $1 AND kind = $2 AND used_at = 0 AND expires_at > $3`, hash, kind, db.Micro(now))
}

// takeToken uses a one-time token up: ErrTokenUsed if it is unknown, used or expired.
func takeToken(ctx context.Context, tx *db.Tx, text, kind string, now time.Time) (oneTime, error) {
	if text == "" || len(text) > 128 {
		return oneTime{}, ErrTokenUsed
	}
	t, err := db.One(ctx, tx, scanOneTime, `UPDATE user_token SET used_at = $3 WHERE hash = $1 AND kind = $2 AND used_at = 0 AND expires_at > $3 RETURNING user_id, tenant_id, data, tries`, hexHash(text), kind, db.Micro(now))
	if isNoRow(err) {
		err = ErrTokenUsed
	}
	return t, err
}

// dropTokens takes back the unused tokens of a kind: the newest letter is the one that works.
func dropTokens(ctx context.Context, tx *db.Tx, userID, kind string) error {
	_, err := tx.Exec(ctx, `DELETE FROM user_token WHERE user_id = $1 AND kind = $2 AND used_at = 0`, userID, kind)
	return err
}

// countTry notes a wrong answer to a token and returns how many there were.
func countTry(ctx context.Context, tx *db.Tx, hash string) (int64, error) {
	n, err := db.One(ctx, tx, db.Scalar[int64], `UPDATE user_token SET tries = tries + 1 WHERE hash = $1 RETURNING tries`, hash)
	if errors.Is(err, db.ErrNoRow) {
		return 0, ErrTokenUsed
	}
	return n, err
}

// dropProofs removes what else than their row tells who a person is: identities, second factors, tokens, the addresses of their sessions and invitations.
func dropProofs(ctx context.Context, tx *db.Tx, userID string) error {
	if err := dropFactors(ctx, tx, userID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM user_identity WHERE user_id = $1`, userID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM user_token WHERE user_id = $1`, userID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE user_session SET ip = '', ua = '' WHERE user_id = $1`, userID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE user_invitation SET email = $1, email_key = $1 WHERE accepted_by = $1`, userID)
	return err
}

// dropFactors removes the second factors of a person.
func dropFactors(ctx context.Context, tx *db.Tx, userID string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM user_totp WHERE user_id = $1`, userID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM user_recovery WHERE user_id = $1`, userID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM user_passkey WHERE user_id = $1`, userID)
	return err
}
