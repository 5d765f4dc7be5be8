package user

import (
	"context"
	"errors"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
)

func isNoRow(err error) bool { return errors.Is(err, db.ErrNoRow) }

// taken names the field of a duplicate account.
func taken(err error) error {
	if errors.Is(err, db.ErrDuplicate) {
		return ErrTaken.Wrap(err)
	}
	return err
}

func insertSession(ctx context.Context, tx *db.Tx, s Session, version int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_session (id, tenant_id, user_id, ip, ua, remember, auth_at, seen_at, expires_at, ends_at, revoked_at, reason, version, methods)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, 0, '', $10, $11)`,
		s.ID, s.tenantID, s.userID, s.IP, s.UserAgent, s.remember, db.Micro(s.AuthAt), db.Micro(s.ExpiresAt), db.Micro(s.endsAt), version, strings.Join(s.methods, " "))
	return err
}

const sessionCols = `s.id, s.tenant_id, s.user_id, s.ip, s.ua, s.remember, s.auth_at, s.seen_at, s.expires_at, s.ends_at, s.revoked_at, s.reason, s.methods`

func scanSessionInto(r db.Row, s *Session, more ...any) error {
	var authAt, seen, expires, ends, revoked int64
	var methods string
	if err := r.Scan(append([]any{&s.ID, &s.tenantID, &s.userID, &s.IP, &s.UserAgent, &s.remember, &authAt, &seen, &expires, &ends, &revoked, &s.reason, &methods}, more...)...); err != nil {
		return err
	}
	s.methods = strings.Fields(methods)
	s.AuthAt, s.SeenAt, s.ExpiresAt, s.endsAt, s.revokedAt = db.FromMicro(authAt), db.FromMicro(seen), db.FromMicro(expires), db.FromMicro(ends), db.FromMicro(revoked)
	return nil
}

func scanSession(r db.Row) (Session, error) {
	var s Session
	return s, scanSessionInto(r, &s)
}

func sessionByID(ctx context.Context, q db.Querier, id string) (Session, error) {
	s, err := db.One(ctx, q, scanSession, `SELECT `+sessionCols+` FROM user_session s WHERE s.id = $1`, id)
	if isNoRow(err) {
		return s, ErrSessionExpired
	}
	return s, err
}

// liveSessions lists the sessions of a user that still hold, newest first.
func liveSessions(ctx context.Context, q db.Querier, userID string, now time.Time) ([]Session, error) {
	return db.List(ctx, q, scanSession, `SELECT `+sessionCols+` FROM user_session s WHERE s.user_id = $1 AND s.revoked_at = 0 AND s.expires_at > $2 ORDER BY s.id DESC LIMIT 200`, userID, db.Micro(now))
}

// revokeSession ends one session of a user. 0 rows: there is no live one with that id.
func revokeSession(ctx context.Context, tx *db.Tx, id, userID, reason string, version int64, now time.Time) (int64, error) {
	return tx.Exec(ctx, `UPDATE user_session SET revoked_at = $4, reason = $3, version = $5 WHERE id = $1 AND user_id = $2 AND revoked_at = 0`, id, userID, reason, db.Micro(now), version)
}

// revokeSessions ends all sessions of a user but one ("" = all).
func revokeSessions(ctx context.Context, tx *db.Tx, userID, except, reason string, version int64, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE user_session SET revoked_at = $4, reason = $3, version = $5 WHERE user_id = $1 AND id <> $2 AND revoked_at = 0`, userID, except, reason, db.Micro(now), version)
	return err
}

func touchSession(ctx context.Context, tx *db.Tx, s Session) error {
	_, err := tx.Exec(ctx, `UPDATE user_session SET seen_at = $2, expires_at = $3 WHERE id = $1`, s.ID, db.Micro(s.SeenAt), db.Micro(s.ExpiresAt))
	return err
}

func insertRefresh(ctx context.Context, tx *db.Tx, hash string, s Session, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_refresh (hash, tenant_id, session_id, issued_at, used_at) VALUES ($1, $2, $3, $4, 0) ON CONFLICT (hash) DO NOTHING`, hash, s.tenantID, s.ID, db.Micro(now))
	return err
}

// refresh is a stored refresh token with its session.
type refresh struct {
	session Session
	usedAt  time.Time
}

func refreshByHash(ctx context.Context, q db.Querier, hash string) (refresh, error) {
	return db.One(ctx, q, func(r db.Row) (refresh, error) {
		var f refresh
		var used int64
		err := scanSessionInto(r, &f.session, &used)
		f.usedAt = db.FromMicro(used)
		return f, err
	}, `SELECT `+sessionCols+`, f.used_at FROM user_refresh f JOIN user_session s ON s.id = f.session_id WHERE f.hash = $1`, hash)
}

// useRefresh marks a token used if nobody did before.
func useRefresh(ctx context.Context, tx *db.Tx, hash string, now time.Time) (int64, error) {
	return tx.Exec(ctx, `UPDATE user_refresh SET used_at = $2 WHERE hash = $1 AND used_at = 0`, hash, db.Micro(now))
}

// principal of a live session: what the person may do now.
func sessionPrincipal(ctx context.Context, q db.Querier, id string, now time.Time) (auth.Principal, error) {
	s, err := sessionByID(ctx, q, id)
	if err != nil {
		return auth.Principal{}, err
	}
	if err := s.live(now); err != nil {
		return auth.Principal{}, err
	}
	u, err := userByID(ctx, q, s.tenantID, s.userID)
	switch {
	case errors.Is(err, ErrNotFound):
		return auth.Principal{}, ErrSessionRevoked
	case err != nil:
		return auth.Principal{}, err
	case u.Status != Active || u.tenantStatus != string(Active):
		return auth.Principal{}, ErrSuspended
	}
	p := auth.Principal{Kind: auth.User, TenantID: s.tenantID, UserID: u.ID, SessionID: s.ID, Name: u.Email, Role: string(u.Role), Permissions: u.sessionRights()}
	b, err := rightsOf(ctx, q, []string{s.tenantID}, now)
	b.fill(&p, nil)
	return p, err
}

func insertToken(ctx context.Context, tx *db.Tx, hash, tenant, kind, userID, data string, expires time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO user_token (hash, tenant_id, kind, user_id, data, expires_at, used_at) VALUES ($1, $2, $3, $4, $5, $6, 0)`, hash, tenant, kind, userID, data, db.Micro(expires))
	return err
}

// useToken consumes a one-time token and returns its data; db.ErrNoRow if it is unknown, used or expired.
func useToken(ctx context.Context, tx *db.Tx, hash, kind string, now time.Time) (string, error) {
	return db.One(ctx, tx, db.Scalar[string], `UPDATE user_token SET used_at = $3 WHERE hash = $1 AND kind = $2 AND used_at = 0 AND expires_at > $3 RETURNING data`, hash, kind, db.Micro(now))
}

// prune drops what nobody can use any more: one-time tokens, refresh tokens and sessions long past.
func prune(ctx context.Context, tx *db.Tx, now time.Time) error {
	if _, err := tx.Exec(ctx, `DELETE FROM user_key_secret WHERE until < $1`, db.Micro(now.Add(-24*time.Hour))); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM user_token WHERE expires_at < $1`, db.Micro(now.Add(-time.Hour))); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM user_session WHERE expires_at < $1`, db.Micro(now.Add(-30*24*time.Hour)))
	return err
}
