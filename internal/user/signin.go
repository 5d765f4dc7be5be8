package user

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
)

// The errors of first set-up.
var (
	ErrSetupDone = fault.New(fault.Conflict, "user.setup_done", "this installation has an owner already").WithHint("Sign in")
	ErrSetupCode = fault.New(fault.Forbidden, "user.setup_code", "set-up from another machine needs the code that the server printed at start")
)

// Setup is what makes the first owner and team.
type Setup struct {
	Email      string `json:"email" maxLength:"254"`
	Password   string `json:"password" maxLength:"1024"`
	Name       string `json:"name,omitempty" maxLength:"100" doc:"First name of the owner"`
	TenantName string `json:"tenant_name,omitempty" maxLength:"100"`
	Code       string `json:"code,omitempty" maxLength:"64" doc:"Printed by the server at start; needed from other machines"`
}

// Login is a sign-in.
type Login struct {
	Email    string // or user name
	Password string
	Remember bool
}

// Tokens is what a session gives out.
type Tokens struct {
	Access  string
	Refresh string
	Session Session
	User    User
	MFA     *Challenge // the sign-in wants a second factor first; everything else is empty
}

func (s *Service) needsSetup(ctx context.Context) (bool, error) {
	if s.setupDone.Load() {
		return false, nil
	}
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		n, err := counter(ctx, q, "setup")
		if n > 0 {
			s.setupDone.Store(true)
		}
		return err
	})
	return !s.setupDone.Load(), err
}

// setupFromConfig makes the owner that the configuration names, once.
func (s *Service) setupFromConfig(ctx context.Context) error {
	if s.Admin.Email == "" || s.setupDone.Load() {
		return nil
	}
	_, err := s.setup(ctx, Setup{Email: s.Admin.Email, Password: s.Admin.Password})
	if errors.Is(err, ErrSetupDone) {
		return nil
	}
	return err
}

// SetUp makes the first owner and signs them in. From other than this machine it wants the printed code. ErrSetupDone if there is an owner.
func (s *Service) SetUp(ctx context.Context, in Setup, d Device, local bool) (Tokens, error) {
	if need, err := s.needsSetup(ctx); err != nil || !need {
		return Tokens{}, errors.Join(err, ErrSetupDone)
	}
	if !local {
		now := s.Now()
		if err := s.damp.check(now, "setup", d.IP); err != nil {
			return Tokens{}, err
		}
		if subtle.ConstantTimeCompare([]byte(in.Code), []byte(s.setupCode)) != 1 {
			s.damp.fail(now, "setup", d.IP)
			return Tokens{}, ErrSetupCode
		}
	}
	u, err := s.setup(ctx, in)
	if err != nil {
		return Tokens{}, err
	}
	return s.begin(ctx, u, d, true)
}

func (s *Service) setup(ctx context.Context, in Setup) (User, error) {
	now := s.Now()
	t := Tenant{ID: id.New("ten"), Name: in.TenantName}
	if t.Name == "" {
		t.Name = "My team"
	}
	u, err := newUser(NewUser{Email: in.Email, Role: string(Owner), Profile: Profile{FirstName: in.Name}}, id.New("usr"), t, now)
	if err != nil {
		return u, err
	}
	u.operator = true
	if err := checkPassword(in.Password, u.Email, u.Username, t.Name); err != nil {
		return u, err
	}
	if u.password, err = s.hasher.hash(ctx, in.Password); err != nil {
		return u, err
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := claimSetup(ctx, tx); err != nil {
			if errors.Is(err, db.ErrDuplicate) {
				return ErrSetupDone
			}
			return err
		}
		if err := insertTenant(ctx, tx, t, firstSlug(t), now); err != nil {
			return err
		}
		if err := insertUser(ctx, tx, u); err != nil {
			return err
		}
		s.changed(tx)
		return s.publish(ctx, tx, t.ID, Changed{UserID: u.ID, Status: u.Status, Role: u.Role})
	})
	if err == nil {
		s.setupDone.Store(true)
	}
	return u, err
}

// SignIn checks a password and begins a session. The answer and its time are the same for an unknown account and a wrong password. ErrBadCredentials, ErrTooManyAttempts, ErrBusy, ErrSuspended (said only
// after the right password).
func (s *Service) SignIn(ctx context.Context, in Login, d Device) (Tokens, error) {
	if need, err := s.needsSetup(ctx); err != nil || need {
		return Tokens{}, errors.Join(err, ErrSetupRequired)
	}
	u, err := s.checkLogin(ctx, in, d)
	if err != nil {
		s.metrics.logins.WithLabelValues(fault.From(err).Code).Inc()
		return Tokens{}, err
	}
	s.metrics.logins.WithLabelValues("ok").Inc()
	return s.afterFirst(ctx, u, d, in.Remember, methodPassword)
}

func (s *Service) checkLogin(ctx context.Context, in Login, d Device) (User, error) {
	now, account := s.Now(), emailKey(in.Email)
	if len(in.Password) > 4*passwordMax || len(account) > 254 {
		return User{}, ErrBadCredentials
	}
	if err := s.damp.check(now, account, d.IP); err != nil {
		return User{}, err
	}
	var u User
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		if u, err = userByLogin(ctx, q, account); isNoRow(err) {
			u, err = User{}, nil
		}
		return err
	})
	if err != nil {
		return User{}, err
	}
	ok, stale, err := s.hasher.verify(ctx, u.password, in.Password)
	if err != nil {
		return User{}, err
	}
	if !ok {
		s.damp.fail(now, account, d.IP)
		return User{}, ErrBadCredentials
	}
	s.damp.ok(account, d.IP)
	if err := u.whyNot(); err != nil {
		return User{}, err
	}
	if stale {
		if phc, err := s.hasher.hash(ctx, in.Password); err == nil {
			u.password = phc
			err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return setPassword(ctx, tx, u.ID, phc, now) })
			if err != nil {
				return User{}, err
			}
		}
	}
	return u, nil
}

// begin stores a new session of u, who proved who they are by these methods (none = the password), and gives out its first tokens.
func (s *Service) begin(ctx context.Context, u User, d Device, remember bool, methods ...string) (Tokens, error) {
	now := s.Now()
	t := Tokens{User: u, Session: newSession(id.New("ses"), u, d, remember, now), Refresh: newOpaque()}
	if len(methods) > 0 {
		t.Session.methods = sortedMethods(methods)
	}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insertSession(ctx, tx, t.Session, 0); err != nil {
			return err
		}
		if err := insertRefresh(ctx, tx, hexHash(t.Refresh), t.Session, now); err != nil {
			return err
		}
		return setLogin(ctx, tx, u.ID, now)
	})
	if err != nil {
		return Tokens{}, err
	}
	t.User.LastLoginAt = now
	t.User.Permissions = u.sessionRights()
	t.Access, err = s.signer.Load().access(t.Session, now)
	return t, err
}

func hexHash(text string) string {
	h := hashText(text)
	return hex.EncodeToString(h[:])
}

// Refresh turns a refresh token into new tokens; the old one is used up. The same token again within ten seconds gets the same successor; later the session is ended, an event says so, and the answer is
// ErrTokenReused. Others: ErrBadRefresh, ErrSessionExpired, ErrSessionRevoked, ErrSuspended.
func (s *Service) Refresh(ctx context.Context, token string, d Device) (Tokens, error) {
	t, err := s.rotateRefresh(ctx, token, d)
	result := "ok"
	if err != nil {
		result = fault.From(err).Code
	}
	s.metrics.refreshes.WithLabelValues(result).Inc()
	return t, err
}

func (s *Service) rotateRefresh(ctx context.Context, token string, d Device) (Tokens, error) {
	if token == "" || len(token) > 128 {
		return Tokens{}, ErrBadRefresh
	}
	now, hash := s.Now(), hexHash(token)
	var t Tokens
	var refused error // returned after the commit: it must not undo the revocation
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, refused = Tokens{}, nil
		f, err := refreshByHash(ctx, tx, hash)
		if isNoRow(err) {
			return ErrBadRefresh
		}
		if err != nil {
			return err
		}
		if err := f.session.live(now); err != nil {
			return err
		}
		n, err := useRefresh(ctx, tx, hash, now)
		if err != nil {
			return err
		}
		if n == 0 { // used before: when, by a fresh look (another transaction may have committed just now)
			if f, err = refreshByHash(ctx, tx, hash); err != nil {
				return err
			}
			if now.Sub(f.usedAt) > reuseGrace {
				refused = ErrTokenReused
				return s.endReused(ctx, tx, f.session, d, now)
			}
		}
		if t.User, err = userByID(ctx, tx, f.session.tenantID, f.session.userID); err != nil {
			return err
		}
		if t.User.Status != Active || t.User.tenantStatus != string(Active) {
			return ErrSuspended
		}
		t.Session, t.Refresh = f.session, successor(s.refresh, f.session.ID, token)
		t.Session.touch(now)
		if err := touchSession(ctx, tx, t.Session); err != nil {
			return err
		}
		return insertRefresh(ctx, tx, hexHash(t.Refresh), t.Session, now)
	})
	if err = errors.Join(err, refused); err != nil {
		return Tokens{}, err
	}
	t.User.Permissions = t.User.sessionRights()
	t.Access, err = s.signer.Load().access(t.Session, now)
	return t, err
}

func (s *Service) endReused(ctx context.Context, tx *db.Tx, ses Session, d Device, now time.Time) error {
	v, err := bump(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := revokeSession(ctx, tx, ses.ID, ses.userID, reasonReused, v, now); err != nil {
		return err
	}
	s.changed(tx)
	tx.After(func() {
		s.Log.WarnContext(ctx, "refresh token used twice; session ended", "session", ses.ID, "user", ses.userID)
	})
	if err := s.mailIfAny(ctx, tx, letterJob{Kind: jobReused, UserID: ses.userID, By: d.IP}); err != nil {
		return err
	}
	return s.publish(ctx, tx, ses.tenantID, SessionReused{SessionID: ses.ID, UserID: ses.userID, IP: d.IP})
}

// SignOut ends the session that a refresh token belongs to. An unknown token is no error.
func (s *Service) SignOut(ctx context.Context, token string) error {
	if token == "" || len(token) > 128 {
		return nil
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		f, err := refreshByHash(ctx, tx, hexHash(token))
		if isNoRow(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.endSession(ctx, tx, f.session.ID, f.session.userID, reasonLogout)
	})
}

// endSession ends one session; no error if it has ended.
func (s *Service) endSession(ctx context.Context, tx *db.Tx, sid, userID, reason string) error {
	v, err := bump(ctx, tx)
	if err != nil {
		return err
	}
	_, err = revokeSession(ctx, tx, sid, userID, reason, v, s.Now())
	s.changed(tx)
	return err
}

// Sessions lists the caller's live sessions, in whichever organisation they act.
func (s *Service) Sessions(ctx context.Context) ([]Session, error) {
	p, ok := auth.From(ctx)
	if !ok {
		return nil, auth.ErrUnauthenticated
	}
	var list []Session
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		list, err = liveSessions(ctx, q, p.UserID, s.Now())
		return err
	})
	for i := range list {
		list[i].Current = list[i].ID == p.SessionID
	}
	return list, err
}

// RevokeSession ends one of the caller's sessions: ErrSessionNotFound.
func (s *Service) RevokeSession(ctx context.Context, sid string) error {
	p, _ := auth.From(ctx)
	return s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		n, err := revokeSession(ctx, tx, sid, p.UserID, reasonRevoked, v, s.Now())
		s.changed(tx)
		return db.Guard(n, err, ErrSessionNotFound.With("there is no live session %q", sid))
	})
}

// ChangePassword sets the caller's password and ends their other sessions. People without one (who came by a provider) set their first with an empty current and a sign-in of the last ten minutes.
func (s *Service) ChangePassword(ctx context.Context, current, next string, d Device) error {
	p, _ := auth.From(ctx)
	u, err := s.confirm(ctx, current, d)
	if err != nil {
		return err
	}
	now := s.Now()
	if current == next {
		return errPasswordSame
	}
	if err := checkPassword(next, u.Email, u.Username, u.Tenant.Name); err != nil {
		return err
	}
	phc, err := s.hasher.hash(ctx, next)
	if err != nil {
		return err
	}
	return s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		if err := setPassword(ctx, tx, u.ID, phc, now); err != nil {
			return err
		}
		s.changed(tx)
		if err := s.mailIfAny(ctx, tx, letterJob{Kind: jobChanged, UserID: u.ID}); err != nil {
			return err
		}
		return revokeSessions(ctx, tx, u.ID, p.SessionID, reasonPassword, v, now)
	})
}

// ticket is the data of a one-time ticket for a WebSocket.
type ticket struct {
	SessionID string `json:"session_id,omitempty"`
	KeyID     string `json:"key_id,omitempty"`
	Path      string `json:"path"`
	IP        string `json:"ip"`
}

// Ticket makes a one-time ticket for the caller, a path and an address: browsers cannot send a header with a WebSocket.
func (s *Service) Ticket(ctx context.Context, path string, d Device) (string, time.Duration, error) {
	p, _ := auth.From(ctx)
	data, err := json.Marshal(ticket{SessionID: p.SessionID, KeyID: p.KeyID, Path: path, IP: d.IP})
	if err != nil {
		return "", 0, err
	}
	text := newOpaque()
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return insertToken(ctx, tx, hexHash(text), p.TenantID, "ticket", p.UserID, string(data), s.Now().Add(ticketLife))
	})
	return text, ticketLife, err
}

// RedeemTicket implements API.
func (s *Service) RedeemTicket(ctx context.Context, u TicketUse) (auth.Principal, error) {
	var p auth.Principal
	if u.Ticket == "" || len(u.Ticket) > 128 {
		return p, ErrTicket
	}
	now := s.Now()
	var data string
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		data, err = useToken(ctx, tx, hexHash(u.Ticket), "ticket", now)
		if isNoRow(err) {
			return ErrTicket
		}
		return err
	})
	if err != nil {
		return p, err
	}
	var t ticket
	if err := json.Unmarshal([]byte(data), &t); err != nil || t.Path != u.Path || t.IP != u.IP {
		return p, ErrTicket
	}
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		if t.SessionID != "" {
			p, err = sessionPrincipal(ctx, q, t.SessionID, now)
			return err
		}
		k, err := db.One(ctx, q, scanKey, `SELECT `+keyCols+keyFrom+`WHERE k.id = $1`, t.KeyID)
		if isNoRow(err) {
			return ErrTicket
		}
		if err == nil && k.status(now) != KeyActive {
			return ErrKeyRevoked
		}
		if err != nil {
			return err
		}
		b, err := rightsOf(ctx, q, []string{k.tenantID}, now)
		p = k.grant(b).Principal
		return err
	})
	return p, err
}

// IsLocal reports whether an address is of this machine.
func IsLocal(ip string) bool {
	a, err := netip.ParseAddr(ip)
	return err == nil && a.Unmap().IsLoopback()
}
