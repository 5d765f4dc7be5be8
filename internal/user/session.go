package user

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"maas/internal/platform/fault"
)

// The errors of signing in and of sessions.
var (
	ErrBadCredentials  = fault.New(fault.Unauthenticated, "user.bad_credentials", "the address or the password is wrong")
	ErrBadRefresh      = fault.New(fault.Unauthenticated, "user.bad_refresh", "there is no session to go on with").WithHint("Sign in again")
	ErrTokenReused     = fault.New(fault.Unauthenticated, "user.token_reused", "this refresh token was used before; the session was ended for safety").WithHint("Sign in again. If it was not you, change your password")
	ErrSessionNotFound = fault.New(fault.NotFound, "user.session_not_found", "there is no such session")
)

// Lives of sessions and of the tokens they give out.
const (
	accessLife   = 15 * time.Minute
	idleRemember = 14 * 24 * time.Hour
	lifeRemember = 90 * 24 * time.Hour
	idleShort    = 12 * time.Hour
	reuseGrace   = 10 * time.Second // a refresh token that comes again this soon gets the same successor: a lost answer, two tabs
	ticketLife   = 30 * time.Second
)

// Session is one signed-in device.
type Session struct {
	ID        string    `json:"id"`
	IP        string    `json:"ip"`
	UserAgent string    `json:"user_agent"`
	Current   bool      `json:"current"`
	AuthAt    time.Time `json:"auth_at"`
	SeenAt    time.Time `json:"seen_at"`
	ExpiresAt time.Time `json:"expires_at"`

	tenantID, userID string
	remember         bool
	endsAt           time.Time // absolute
	revokedAt        time.Time
	reason           string
	methods          []string // how the person proved who they are: RFC 8176 names
}

// Device is where a sign-in comes from.
type Device struct {
	IP        string
	UserAgent string
}

func newSession(id string, u User, d Device, remember bool, now time.Time) Session {
	s := Session{ID: id, IP: d.IP, UserAgent: d.UserAgent, AuthAt: now, tenantID: u.Tenant.ID, userID: u.ID, remember: remember, endsAt: now.Add(idleShort), methods: []string{methodPassword}}
	if len(s.UserAgent) > 300 {
		s.UserAgent = s.UserAgent[:300]
	}
	if remember {
		s.endsAt = now.Add(lifeRemember)
	}
	s.touch(now)
	return s
}

// touch moves the idle limit, never past the absolute one.
func (s *Session) touch(now time.Time) {
	idle := idleShort
	if s.remember {
		idle = idleRemember
	}
	s.SeenAt, s.ExpiresAt = now, now.Add(idle)
	if s.ExpiresAt.After(s.endsAt) {
		s.ExpiresAt = s.endsAt
	}
}

// live returns why the session cannot be used, nil if it can.
func (s *Session) live(now time.Time) error {
	switch {
	case !s.revokedAt.IsZero() && s.reason == reasonReused:
		return ErrTokenReused
	case !s.revokedAt.IsZero():
		return ErrSessionRevoked
	case !now.Before(s.ExpiresAt):
		return ErrSessionExpired
	}
	return nil
}

// Why a session was ended.
const (
	reasonLogout    = "logout"
	reasonRevoked   = "revoked"
	reasonReused    = "reused"
	reasonPassword  = "password_changed"
	reasonSuspended = "suspended"
)

// newOpaque makes a random token of 256 bits.
func newOpaque() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// successor derives the refresh token that follows t. It is the same each time, so a token that is repeated within the grace gets the answer that was lost, and nothing secret needs to be stored for it;
// without the installation's secret nobody gets from one token to the next.
func successor(secret []byte, session, t string) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(session))
	m.Write([]byte{0})
	m.Write([]byte(t))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}
