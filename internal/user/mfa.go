package user

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/seal"
	"maas/internal/user/factor"
)

// The errors of second factors.
var (
	ErrMFAWrong    = fault.New(fault.Unauthenticated, "user.mfa_wrong", "the code is wrong, was used before or has expired")
	ErrMFAExpired  = fault.New(fault.Unauthenticated, "user.mfa_expired", "this sign-in took too long or had too many wrong codes").WithHint("Begin again with the password")
	ErrMFAActive   = fault.New(fault.Conflict, "user.mfa_active", "an authenticator app is set up already").WithHint("Disable it first")
	ErrMFAInactive = fault.New(fault.Conflict, "user.mfa_inactive", "there is no second factor to do this with").WithHint("Set up an authenticator app or a passkey first")
)

// A sign-in that waits for its second factor.
const (
	mfaLife  = 5 * time.Minute
	mfaTries = 5
)

// The second factors, as routes name them.
const (
	factorTOTP     = "totp"
	factorPasskey  = "passkey"
	factorRecovery = "recovery"
)

// Challenge is a sign-in that wants a second factor.
type Challenge struct {
	Token   string
	Methods []string
}

// waiting is the data of a challenge's token.
type waiting struct {
	Remember bool     `json:"remember"`
	Methods  []string `json:"methods"` // proven so far
}

// SecondFactor is the answer to a Challenge.
type SecondFactor struct {
	Token     string
	Method    string
	Code      string
	Ceremony  string          // of a passkey
	Assertion json.RawMessage // of a passkey
}

// MFAState is what a person has set up.
type MFAState struct {
	TOTP     bool  `json:"totp"`
	Recovery int64 `json:"recovery_codes_left"`
	Passkeys int64 `json:"passkeys"`
	Required bool  `json:"required" doc:"The organisation demands a second factor"`
	Password bool  `json:"password" doc:"The account has a password"`
}

func (m MFAState) on() bool { return m.TOTP || m.Passkeys > 0 }

func (m MFAState) methods() []string {
	var list []string
	if m.TOTP {
		list = append(list, factorTOTP)
	}
	if m.Passkeys > 0 {
		list = append(list, factorPasskey)
	}
	if m.Recovery > 0 {
		list = append(list, factorRecovery)
	}
	return list
}

// afterFirst goes on after the first proof of who somebody is: a session, or, where the person has a second factor, the question for it.
func (s *Service) afterFirst(ctx context.Context, u User, d Device, remember bool, methods ...string) (Tokens, error) {
	var have MFAState
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		have, err = mfaState(ctx, q, u.ID)
		return err
	})
	if err != nil {
		return Tokens{}, err
	}
	if !have.on() {
		return s.begin(ctx, u, d, remember, methods...)
	}
	data, err := json.Marshal(waiting{remember, methods})
	if err != nil {
		return Tokens{}, err
	}
	text := newOpaque()
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return insertToken(ctx, tx, hexHash(text), u.Tenant.ID, "mfa", u.ID, string(data), s.Now().Add(mfaLife))
	})
	return Tokens{MFA: &Challenge{Token: text, Methods: have.methods()}}, err
}

// SignInSecond answers a challenge and begins the session. ErrMFAWrong, ErrMFAExpired, ErrTooManyAttempts; five wrong answers end the challenge.
func (s *Service) SignInSecond(ctx context.Context, in SecondFactor, d Device) (Tokens, error) {
	t, err := s.signInSecond(ctx, in, d)
	result := "ok"
	if err != nil {
		result = fault.From(err).Code
	}
	s.metrics.logins.WithLabelValues(result).Inc()
	return t, err
}

func (s *Service) signInSecond(ctx context.Context, in SecondFactor, d Device) (Tokens, error) {
	now := s.Now()
	u, err := s.tokenOwner(ctx, in.Token, "mfa", now)
	if errors.Is(err, ErrTokenUsed) {
		return Tokens{}, ErrMFAExpired
	}
	if err != nil {
		return Tokens{}, err
	}
	if err := s.codes.check(now, u.ID, d.IP); err != nil {
		return Tokens{}, err
	}
	if err := u.whyNot(); err != nil {
		return Tokens{}, err
	}
	proof, err := s.prove(ctx, u, in)
	if errors.Is(err, ErrMFAWrong) {
		s.codes.fail(now, u.ID, d.IP)
		return Tokens{}, errors.Join(err, s.wrongAnswer(ctx, in.Token, now))
	}
	if err != nil {
		return Tokens{}, err
	}
	s.codes.ok(u.ID, d.IP)
	var w waiting
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := takeToken(ctx, tx, in.Token, "mfa", now)
		if errors.Is(err, ErrTokenUsed) {
			return ErrMFAExpired
		}
		if err != nil {
			return err
		}
		if proof == methodRecovery {
			if err := s.mailIfAny(ctx, tx, letterJob{Kind: jobFactor, UserID: u.ID, Detail: "recovery"}); err != nil {
				return err
			}
		}
		return json.Unmarshal([]byte(t.data), &w)
	})
	if err != nil {
		return Tokens{}, err
	}
	return s.begin(ctx, u, d, w.Remember, append(w.Methods, proof, methodMFA)...)
}

// wrongAnswer counts against a challenge; the fifth ends it.
func (s *Service) wrongAnswer(ctx context.Context, token string, now time.Time) error {
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := countTry(ctx, tx, hexHash(token))
		if err != nil || n < mfaTries {
			return err
		}
		_, err = useToken(ctx, tx, hexHash(token), "mfa", now)
		if isNoRow(err) {
			err = nil
		}
		return err
	})
}

// prove checks one second factor and uses it up: ErrMFAWrong.
func (s *Service) prove(ctx context.Context, u User, in SecondFactor) (method string, err error) {
	switch in.Method {
	case factorTOTP:
		return methodCode, s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return s.useCode(ctx, tx, u.ID, in.Code) })
	case factorRecovery:
		return methodRecovery, s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			n, err := useRecovery(ctx, tx, u.ID, hexHash(factor.Normal(in.Code)), s.Now())
			return db.Guard(n, err, ErrMFAWrong)
		})
	case factorPasskey:
		return methodPasskey, s.usePasskey(ctx, u, in.Ceremony, in.Assertion)
	}
	return "", ErrMFAWrong
}

// useCode checks a code of an authenticator app. The step it belongs to is remembered in the same statement that checks that it is newer: of two requests with one code, one wins.
func (s *Service) useCode(ctx context.Context, tx *db.Tx, userID, code string) error {
	have, err := totpOf(ctx, tx, userID)
	if isNoRow(err) || err == nil && have.confirmedAt.IsZero() {
		return ErrMFAWrong
	}
	if err != nil {
		return err
	}
	secret, err := s.Seal.Open(ctx, totpPlace(userID), have.sealed)
	if err != nil {
		return err
	}
	step, ok := factor.Check(string(secret), code, s.Now(), have.lastStep)
	if !ok {
		return ErrMFAWrong
	}
	n, err := setStep(ctx, tx, userID, step)
	return db.Guard(n, err, ErrMFAWrong)
}

func totpPlace(userID string) seal.Place {
	return seal.Place{Table: "user_totp", Column: "secret_sealed", Row: userID}
}

// caller is the signed-in person; API keys have no factors.
func (s *Service) caller(ctx context.Context) (User, error) {
	p, _ := auth.From(ctx)
	if p.Kind != auth.User {
		return User{}, auth.ErrForbidden.With("an API key cannot change how a person signs in")
	}
	return s.user(ctx, p.TenantID, p.UserID)
}

// MFA returns what the caller has set up.
func (s *Service) MFA(ctx context.Context) (MFAState, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return MFAState{}, err
	}
	var m MFAState
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		m, err = mfaState(ctx, q, u.ID)
		m.Password = u.password != ""
		return err
	})
	return m, err
}

// StartTOTP makes a secret for an authenticator app. It counts after ConfirmTOTP; until then another start replaces it. ErrMFAActive.
func (s *Service) StartTOTP(ctx context.Context) (factor.TOTP, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return factor.TOTP{}, err
	}
	t, err := factor.NewTOTP(s.site(), u.Email)
	if err != nil {
		return factor.TOTP{}, err
	}
	sealed, err := s.Seal.Seal(ctx, totpPlace(u.ID), []byte(t.Secret))
	if err != nil {
		return factor.TOTP{}, err
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := putTOTP(ctx, tx, u.ID, sealed, s.Now())
		return db.Guard(n, err, ErrMFAActive)
	})
	return t, err
}

// ConfirmTOTP proves that the app has the secret; from now on sign-ins want a code. It returns recovery codes, shown once. ErrMFAWrong, ErrMFAInactive, ErrMFAActive.
func (s *Service) ConfirmTOTP(ctx context.Context, code string, d Device) ([]string, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	if err := s.codes.check(now, u.ID, d.IP); err != nil {
		return nil, err
	}
	var list []string
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		have, err := totpOf(ctx, tx, u.ID)
		switch {
		case isNoRow(err):
			return ErrMFAInactive
		case err != nil:
			return err
		case !have.confirmedAt.IsZero():
			return ErrMFAActive
		}
		secret, err := s.Seal.Open(ctx, totpPlace(u.ID), have.sealed)
		if err != nil {
			return err
		}
		step, ok := factor.Check(string(secret), code, now, 0)
		if !ok {
			return ErrMFAWrong
		}
		if err := confirmTOTP(ctx, tx, u.ID, step, now); err != nil {
			return err
		}
		if list, err = newRecovery(ctx, tx, u.ID); err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, u, "totp_on")
	})
	if errors.Is(err, ErrMFAWrong) {
		s.codes.fail(now, u.ID, d.IP)
	}
	return list, err
}

// DisableTOTP takes the authenticator app away, and the recovery codes with the last factor.
func (s *Service) DisableTOTP(ctx context.Context, password string, d Device) error {
	u, err := s.confirm(ctx, password, d)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := dropTOTP(ctx, tx, u.ID)
		if err := db.Guard(n, err, ErrMFAInactive); err != nil {
			return err
		}
		if err := s.dropIdleRecovery(ctx, tx, u.ID); err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, u, "totp_off")
	})
}

// dropIdleRecovery removes recovery codes that recover nothing any more.
func (s *Service) dropIdleRecovery(ctx context.Context, tx *db.Tx, userID string) error {
	m, err := mfaState(ctx, tx, userID)
	if err != nil || m.on() {
		return err
	}
	return dropRecovery(ctx, tx, userID)
}

// RenewRecoveryCodes replaces the caller's recovery codes: ErrMFAInactive without a factor.
func (s *Service) RenewRecoveryCodes(ctx context.Context, password string, d Device) ([]string, error) {
	u, err := s.confirm(ctx, password, d)
	if err != nil {
		return nil, err
	}
	var list []string
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, err := mfaState(ctx, tx, u.ID)
		if err != nil || !m.on() {
			return errors.Join(err, onlyIf(!m.on(), ErrMFAInactive))
		}
		list, err = newRecovery(ctx, tx, u.ID)
		return err
	})
	return list, err
}

func newRecovery(ctx context.Context, tx *db.Tx, userID string) ([]string, error) {
	if err := dropRecovery(ctx, tx, userID); err != nil {
		return nil, err
	}
	list := factor.RecoveryCodes()
	for _, c := range list {
		if err := insertRecovery(ctx, tx, userID, hexHash(factor.Normal(c))); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ResetMFA takes all second factors of a member away: for people who lost them. They are told by mail.
func (s *Service) ResetMFA(ctx context.Context, uid string) error {
	p, _ := auth.From(ctx)
	if uid == p.UserID || uid == "me" {
		return ErrSelf.With("disable your own factors with your password")
	}
	return s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		u, err := userByID(ctx, tx, p.TenantID, uid)
		if err != nil {
			return err
		}
		if err := errors.Join(guardOperator(p, u), s.mayAssign(ctx, tx, u.Role)); err != nil {
			return err
		}
		n, err := tenantsCount(ctx, tx, u.ID)
		if err != nil || n > 1 {
			return errors.Join(err, onlyIf(n > 1, ErrSharedAccount))
		}
		if err := dropFactors(ctx, tx, u.ID); err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, u, "reset")
	})
}

// factorChanged tells the person and the installation.
func (s *Service) factorChanged(ctx context.Context, tx *db.Tx, u User, what string) error {
	p, _ := auth.From(ctx)
	if err := s.publish(ctx, tx, u.Tenant.ID, FactorChanged{UserID: u.ID, What: what, By: p.UserID}); err != nil {
		return err
	}
	return s.mailIfAny(ctx, tx, letterJob{Kind: jobFactor, UserID: u.ID, Detail: what})
}

// FactorChanged says that a person's second factors changed: totp_on, totp_off, passkey_on, passkey_off, reset (by an admin), passkey_cloned (a counter went backwards).
type FactorChanged struct {
	UserID string `json:"user_id"`
	What   string `json:"what"`
	By     string `json:"by,omitempty"`
}

// Topic implements event.Event.
func (FactorChanged) Topic() string { return "user.factor.changed" }

// Key implements event.Event.
func (e FactorChanged) Key() string { return e.UserID }

// sortedMethods is the amr claim: each once.
func sortedMethods(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(s string) bool { return strings.TrimSpace(s) == "" })
}
