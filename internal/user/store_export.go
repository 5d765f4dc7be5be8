package user

import (
	"context"
	"time"

	"maas/internal/platform/db"
)

// tenantIDsOf lists the organisations of a person.
func tenantIDsOf(ctx context.Context, q db.Querier, userID string) ([]string, error) {
	return db.List(ctx, q, db.Scalar[string], `SELECT tenant_id FROM user_member WHERE user_id = $1 ORDER BY created_at, tenant_id LIMIT 1000`, userID)
}

func otherOperators(ctx context.Context, q db.Querier, userID string) (int64, error) {
	return db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_user WHERE operator AND status = 'active' AND id <> $1`, userID)
}

// readAccount gathers everything about a person but their calls; db.ErrNoRow.
func readAccount(ctx context.Context, q db.Querier, userID string, now time.Time) (accountData, error) {
	d := accountData{Form: "maas-account/1", At: now, Teams: []accountTeam{}, Sessions: []accountSession{}, Identities: []Identity{}, Passkeys: []Passkey{}, Keys: []accountKey{}, Totals: []accountUsageDays{}}
	u, err := userAnywhere(ctx, q, userID)
	if err != nil {
		return d, err
	}
	d.Account = accountSelf{u.ID, u.Username, u.Email, u.Verified, u.Profile, u.Locale, u.CreatedAt, u.LastLoginAt}
	for _, part := range []func() error{
		func() error { return gather(&d.Teams)(teamsOf(ctx, q, userID)) },
		func() error { return gather(&d.Sessions)(sessionsOf(ctx, q, userID)) },
		func() error { return gather(&d.Identities)(identitiesOf(ctx, q, userID)) },
		func() error { return gather(&d.Passkeys)(passkeysOf(ctx, q, userID)) },
		func() error { return gather(&d.Keys)(accountKeys(ctx, q, userID)) },
		func() error { d.MFA, err = mfaState(ctx, q, userID); return err },
	} {
		if err := part(); err != nil {
			return d, err
		}
	}
	for _, t := range d.Teams {
		rows, err := usageTotals(ctx, q, t.ID, userID)
		if err != nil {
			return d, err
		}
		d.Totals = append(d.Totals, rows...)
	}
	return d, nil
}

// gather takes a list over unless it is empty, so that JSON shows [] and not null.
func gather[T any](to *[]T) func([]T, error) error {
	return func(list []T, err error) error {
		if len(list) > 0 {
			*to = list
		}
		return err
	}
}

func teamsOf(ctx context.Context, q db.Querier, userID string) ([]accountTeam, error) {
	return db.List(ctx, q, func(r db.Row) (t accountTeam, err error) {
		var at int64
		err = r.Scan(&t.ID, &t.Name, &t.Role, &t.Status, &at)
		t.JoinedAt = db.FromMicro(at)
		return t, err
	}, `SELECT t.id, t.name, m.role, m.status, m.created_at FROM user_member m JOIN user_tenant t ON t.id = m.tenant_id WHERE m.user_id = $1 ORDER BY m.created_at, t.id LIMIT 1000`, userID)
}

func sessionsOf(ctx context.Context, q db.Querier, userID string) ([]accountSession, error) {
	return db.List(ctx, q, func(r db.Row) (s accountSession, err error) {
		var auth, seen, ended int64
		err = r.Scan(&s.IP, &s.UserAgent, &auth, &seen, &ended)
		s.AuthAt, s.SeenAt, s.EndedAt = db.FromMicro(auth), db.FromMicro(seen), db.FromMicro(ended)
		return s, err
	}, `SELECT ip, ua, auth_at, seen_at, revoked_at FROM user_session WHERE user_id = $1 ORDER BY id DESC LIMIT 1000`, userID)
}

func accountKeys(ctx context.Context, q db.Querier, userID string) ([]accountKey, error) {
	return db.List(ctx, q, func(r db.Row) (k accountKey, err error) {
		var created, used, revoked int64
		err = r.Scan(&k.ID, &k.TenantID, &k.Name, &k.Prefix, &k.Last4, &created, &used, &revoked)
		k.CreatedAt, k.LastUsedAt, k.RevokedAt = db.FromMicro(created), db.FromMicro(used), db.FromMicro(revoked)
		return k, err
	}, `SELECT id, tenant_id, name, prefix, last4, created_at, last_used_at, revoked_at FROM user_key WHERE user_id = $1 ORDER BY created_at, id LIMIT 10000`, userID)
}

func usageTotals(ctx context.Context, q db.Querier, tenant, userID string) ([]accountUsageDays, error) {
	return db.List(ctx, q, func(r db.Row) (u accountUsageDays, err error) {
		u.TenantID = tenant
		return u, r.Scan(&u.Model, &u.Requests, &u.Prompt, &u.Completion)
	}, `SELECT model, COUNT(*), CAST(COALESCE(SUM(in_fresh + in_cache), 0) AS BIGINT), CAST(COALESCE(SUM(out_text + out_reasoning), 0) AS BIGINT) FROM user_usage WHERE tenant_id = $1 AND user_id = $2 GROUP BY model ORDER BY model LIMIT 10000`, tenant, userID)
}

// callsOf pages through the calls of a person in an organisation after (at, request id).
func callsOf(ctx context.Context, q db.Querier, tenant, userID string, at int64, after string, limit int) ([]accountCall, error) {
	return db.List(ctx, q, func(r db.Row) (c accountCall, err error) {
		var t int64
		c.TenantID = tenant
		err = r.Scan(&c.RequestID, &t, &c.Model, &c.KeyID, &c.Op, &c.Status, &c.Prompt, &c.Completion)
		c.At = db.FromMicro(t)
		return c, err
	}, `SELECT request_id, at, model, key_id, op, status, in_fresh + in_cache, out_text + out_reasoning FROM user_usage WHERE tenant_id = $1 AND user_id = $2 AND (at, request_id) > ($3, $4) ORDER BY at, request_id LIMIT $5`, tenant, userID, at, after, limit)
}
