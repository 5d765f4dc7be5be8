package user

import (
	"context"
	"errors"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
)

// ErrReauth asks people who have no password to sign in again before what a password would be asked for.
var ErrReauth = fault.New(fault.Forbidden, "user.reauth_required", "sign in again to do this").WithHint("Your last sign-in is more than ten minutes ago")

// recent is how long a sign-in counts as a proof of presence for people without a password.
const recent = 10 * time.Minute

// ForgotPassword sends a link for a new password, if the address has an account. The answer is the same in every case. ErrNoMail, ErrTooManyAttempts.
func (s *Service) ForgotPassword(ctx context.Context, email string, d Device) error {
	return s.askForMail(ctx, letterJob{Kind: jobReset, Email: email}, d)
}

// ResetPassword sets a password by the token of a letter. All sessions end. Whoever reads the mail of the address has proven it. ErrTokenUsed, ErrWeakPassword (the token is still good then).
func (s *Service) ResetPassword(ctx context.Context, token, password string, d Device) error {
	now := s.Now()
	if err := s.damp.check(now, "token", d.IP); err != nil {
		return err
	}
	u, err := s.tokenOwner(ctx, token, "reset", now)
	if errors.Is(err, ErrTokenUsed) {
		s.damp.fail(now, "token", d.IP)
	}
	if err != nil {
		return err
	}
	if err := checkPassword(password, u.Email, u.Username, u.Tenant.Name); err != nil {
		return err
	}
	phc, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := takeToken(ctx, tx, token, "reset", now)
		if err != nil {
			return err
		}
		if t.data != emailKey(u.Email) {
			return ErrTokenUsed // the address was changed meanwhile
		}
		if err := dropTokens(ctx, tx, u.ID, "reset"); err != nil {
			return err
		}
		if err := setPassword(ctx, tx, u.ID, phc, now); err != nil {
			return err
		}
		if _, err := s.proven(ctx, tx, u, now); err != nil {
			return err
		}
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		if err := revokeSessions(ctx, tx, u.ID, "", reasonPassword, v, now); err != nil {
			return err
		}
		s.changed(tx)
		return s.mailIfAny(ctx, tx, letterJob{Kind: jobChanged, UserID: u.ID})
	})
}

// tokenOwner looks whose a token is without using it: ErrTokenUsed.
func (s *Service) tokenOwner(ctx context.Context, token, kind string, now time.Time) (User, error) {
	if token == "" || len(token) > 128 {
		return User{}, ErrTokenUsed
	}
	var u User
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		t, err := tokenByHash(ctx, q, hexHash(token), kind, now)
		if err != nil {
			return err
		}
		u, err = userAnywhere(ctx, q, t.userID)
		return err
	})
	if isNoRow(err) {
		err = ErrTokenUsed
	}
	return u, err
}

// confirm asks for the caller's password before something that cannot be taken back, with the damping of sign-ins. People without a password must have signed in a short while ago.
func (s *Service) confirm(ctx context.Context, password string, d Device) (User, error) {
	p, _ := auth.From(ctx)
	if p.Kind != auth.User {
		return User{}, auth.ErrForbidden.With("an API key cannot change an account")
	}
	u, err := s.user(ctx, p.TenantID, p.UserID)
	if err != nil {
		return u, err
	}
	if u.password == "" {
		return u, s.confirmRecent(ctx, p.SessionID)
	}
	now, account := s.Now(), emailKey(u.Email)
	if err := s.damp.check(now, account, d.IP); err != nil {
		return u, err
	}
	ok, _, err := s.hasher.verify(ctx, u.password, password)
	if err != nil {
		return u, err
	}
	if !ok {
		s.damp.fail(now, account, d.IP)
		return u, ErrBadCredentials.With("the present password is wrong")
	}
	s.damp.ok(account, d.IP)
	return u, nil
}

func (s *Service) confirmRecent(ctx context.Context, sid string) error {
	return s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		ses, err := sessionByID(ctx, q, sid)
		if err != nil {
			return err
		}
		if s.Now().Sub(ses.AuthAt) > recent {
			return ErrReauth
		}
		return nil
	})
}

// RevokeOtherSessions ends all sessions of the caller but the present one.
func (s *Service) RevokeOtherSessions(ctx context.Context) error {
	p, _ := auth.From(ctx)
	if p.Kind != auth.User {
		return auth.ErrForbidden.With("an API key has no sessions")
	}
	return s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		return revokeSessions(ctx, tx, p.UserID, p.SessionID, reasonRevoked, v, s.Now())
	})
}
