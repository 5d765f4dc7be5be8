package user

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/user/factor"
)

// The errors of passkeys.
var (
	ErrPasskey         = fault.New(fault.Unauthenticated, "user.passkey_refused", "this passkey was not accepted")
	ErrPasskeyNotFound = fault.New(fault.NotFound, "user.passkey_not_found", "there is no such passkey")
	ErrPasskeyAddress  = fault.New(fault.Conflict, "user.passkey_address", "passkeys belong to a host name, and this installation is reached at an IP address").WithHint("Give it a name in `url` of the configuration and open it there; on this machine, localhost")
	ErrPasskeyTaken    = fault.New(fault.Conflict, "user.passkey_taken", "this passkey is registered already")
	ErrCeremony        = fault.New(fault.Conflict, "user.ceremony_expired", "this took too long or was tried before").WithHint("Begin again")
	ErrPasskeyFields   = fault.New(fault.Invalid, "user.passkey_invalid", "the passkey or its name cannot be used")
	ErrLastMethod      = fault.New(fault.Conflict, "user.last_method", "this is the last way to sign in to the account").WithHint("Set a password or link another provider first")
)

const (
	ceremonyLife = 5 * time.Minute
	passkeysMost = 20
)

// Passkey is a person's credential on a device.
type Passkey struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	BackedUp   bool      `json:"backed_up" doc:"Kept by a password manager, also on other devices"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`

	userID string
	record []byte
}

// Ceremony is the first half of making or using a passkey.
type Ceremony struct {
	Token   string          `json:"ceremony" doc:"Send it back with the answer of the browser, within five minutes"`
	Options json.RawMessage `json:"options" doc:"Argument of navigator.credentials.create or get; binary parts are base64url"`
}

// ceremony is the data of a ceremony's token.
type ceremony struct {
	Purpose string `json:"purpose"` // register, second, alone
	Session []byte `json:"session"`
}

// relyingParty is this installation at its public address. Browsers take a name only (WebAuthn level 3, section 5.1.2): at a loopback address that is localhost; ErrPasskeyAddress at any other number.
func (s *Service) relyingParty() (*factor.RelyingParty, error) {
	u, err := url.Parse(s.PublicURL())
	if err != nil {
		return nil, err
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		if !a.IsLoopback() {
			return nil, ErrPasskeyAddress
		}
		port := u.Port()
		if u.Host = "localhost"; port != "" {
			u.Host += ":" + port
		}
	}
	return factor.NewRelyingParty(u.String(), s.site())
}

// passkeysAt reports whether a browser that has this host in its address bar can use passkeys here. A proxy may have put another host there: it counts only where the public address is a number.
func (s *Service) passkeysAt(host string) bool {
	if _, err := s.relyingParty(); err != nil {
		return false
	}
	return !numeric(host) || !numeric(strings.TrimPrefix(strings.TrimPrefix(s.PublicURL(), "http://"), "https://"))
}

func numeric(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	_, err = netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil
}

// passkeyAccount is a person with their passkeys, as ceremonies want them.
func passkeyAccount(ctx context.Context, q db.Querier, u User) (factor.Account, error) {
	keys, err := passkeysOf(ctx, q, u.ID)
	a := factor.Account{Handle: u.ID, Name: u.Email, Show: u.Email}
	if u.Profile.FirstName != "" {
		a.Show = u.Profile.FirstName
	}
	for _, k := range keys {
		a.Keys = append(a.Keys, k.record)
	}
	return a, err
}

// keep stores what a ceremony's answer is checked with.
func (s *Service) keep(ctx context.Context, tx *db.Tx, tenant, userID, purpose string, options json.RawMessage, session []byte) (Ceremony, error) {
	data, err := json.Marshal(ceremony{purpose, session})
	if err != nil {
		return Ceremony{}, err
	}
	c := Ceremony{Token: newOpaque(), Options: options}
	return c, insertToken(ctx, tx, hexHash(c.Token), tenant, "passkey", userID, string(data), s.Now().Add(ceremonyLife))
}

// recall uses a ceremony up: ErrCeremony.
func (s *Service) recall(ctx context.Context, tx *db.Tx, token, userID, purpose string) (oneTime, []byte, error) {
	t, err := takeToken(ctx, tx, token, "passkey", s.Now())
	if errors.Is(err, ErrTokenUsed) {
		return t, nil, ErrCeremony
	}
	var c ceremony
	if err == nil {
		err = json.Unmarshal([]byte(t.data), &c)
	}
	if err == nil && (c.Purpose != purpose || t.userID != userID) {
		err = ErrCeremony
	}
	return t, c.Session, err
}

// BeginPasskey starts making a passkey for the caller. It wants the password, or a sign-in of the last ten minutes: a passkey outlives the session that made it. ErrReauth.
func (s *Service) BeginPasskey(ctx context.Context, password string, d Device) (Ceremony, error) {
	u, err := s.stepUp(ctx, password, d)
	if err != nil {
		return Ceremony{}, err
	}
	r, err := s.relyingParty()
	if err != nil {
		return Ceremony{}, err
	}
	var c Ceremony
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		a, err := passkeyAccount(ctx, tx, u)
		if err != nil {
			return err
		}
		if len(a.Keys) >= passkeysMost {
			return ErrPasskeyFields.With("an account has at most %d passkeys", passkeysMost)
		}
		options, session, err := r.BeginRegister(a)
		if err != nil {
			return err
		}
		c, err = s.keep(ctx, tx, u.Tenant.ID, u.ID, "register", options, session)
		return err
	})
	return c, err
}

// stepUp asks for a fresh proof of presence: the password, or a sign-in of the last ten minutes.
func (s *Service) stepUp(ctx context.Context, password string, d Device) (User, error) {
	if password != "" {
		return s.confirm(ctx, password, d)
	}
	u, err := s.caller(ctx)
	if err != nil {
		return u, err
	}
	p, _ := auth.From(ctx)
	return u, s.confirmRecent(ctx, p.SessionID)
}

// MadePasskey is a new passkey; with the first factor of an account come recovery codes, shown once.
type MadePasskey struct {
	Passkey
	RecoveryCodes []string `json:"recovery_codes,omitempty"`
}

// FinishPasskey stores the passkey that the browser made. ErrCeremony, ErrPasskey, ErrPasskeyTaken.
func (s *Service) FinishPasskey(ctx context.Context, token, name string, answer json.RawMessage) (MadePasskey, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return MadePasskey{}, err
	}
	r, err := s.relyingParty()
	if err != nil {
		return MadePasskey{}, err
	}
	if name, err = passkeyName(name); err != nil {
		return MadePasskey{}, err
	}
	var made MadePasskey
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, session, err := s.recall(ctx, tx, token, u.ID, "register")
		if err != nil {
			return err
		}
		a, err := passkeyAccount(ctx, tx, u)
		if err != nil {
			return err
		}
		p, err := r.FinishRegister(a, session, answer)
		if err != nil {
			return ErrPasskey.Wrap(err)
		}
		had, err := mfaState(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		made = MadePasskey{Passkey: Passkey{ID: id.New("pky"), Name: name, BackedUp: p.BackedUp, CreatedAt: s.Now(), userID: u.ID, record: p.Record}}
		if err := insertPasskey(ctx, tx, made.Passkey, p.ID, p.Count); err != nil {
			if errors.Is(err, db.ErrDuplicate) {
				return ErrPasskeyTaken
			}
			return err
		}
		if !had.on() {
			if made.RecoveryCodes, err = newRecovery(ctx, tx, u.ID); err != nil {
				return err
			}
		}
		return s.factorChanged(ctx, tx, u, "passkey_on")
	})
	return made, err
}

func passkeyName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" {
		name = "Passkey"
	}
	if utf8.RuneCountInString(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return "", ErrPasskeyFields.WithFields(fault.Field{Name: "body.name", Code: "format", Message: "must be one line of at most 64 characters"})
	}
	return name, nil
}

// BeginPasskeyLogin starts a sign-in by passkey: as the second factor of a challenge, or alone ("" ).
func (s *Service) BeginPasskeyLogin(ctx context.Context, challenge string, d Device) (Ceremony, error) {
	if need, err := s.needsSetup(ctx); err != nil || need {
		return Ceremony{}, errors.Join(err, ErrSetupRequired)
	}
	if err := s.rates.take("passkey", d.IP, passkeyMost, s.Now()); err != nil {
		return Ceremony{}, err
	}
	r, err := s.relyingParty()
	if err != nil {
		return Ceremony{}, err
	}
	var u User
	purpose := "alone"
	if challenge != "" {
		purpose = "second"
		u, err = s.tokenOwner(ctx, challenge, "mfa", s.Now())
		if errors.Is(err, ErrTokenUsed) {
			return Ceremony{}, ErrMFAExpired
		}
		if err != nil {
			return Ceremony{}, err
		}
	}
	var c Ceremony
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var account *factor.Account
		if challenge != "" {
			a, err := passkeyAccount(ctx, tx, u)
			if err != nil {
				return err
			}
			if len(a.Keys) == 0 {
				return ErrMFAInactive
			}
			account = &a
		}
		options, session, err := r.BeginLogin(account)
		if err != nil {
			return err
		}
		c, err = s.keep(ctx, tx, u.Tenant.ID, u.ID, purpose, options, session)
		return err
	})
	return c, err
}

// passkeyMost is how many ceremonies one address of the network may begin an hour.
const passkeyMost = 300

// SignInPasskey signs in with a passkey alone. The device has verified the person, so it counts as two factors. ErrPasskey tells nothing about accounts.
func (s *Service) SignInPasskey(ctx context.Context, token string, answer json.RawMessage, remember bool, d Device) (Tokens, error) {
	now := s.Now()
	if err := s.damp.check(now, "passkey", d.IP); err != nil {
		return Tokens{}, err
	}
	u, err := s.passkeyAlone(ctx, token, answer)
	if err != nil {
		if errors.Is(err, ErrPasskey) {
			s.damp.fail(now, "passkey", d.IP)
		}
		s.metrics.logins.WithLabelValues(fault.From(err).Code).Inc()
		return Tokens{}, err
	}
	if err := u.whyNot(); err != nil {
		return Tokens{}, err
	}
	s.metrics.logins.WithLabelValues("ok").Inc()
	return s.begin(ctx, u, d, remember, methodPasskey, methodMFA)
}

func (s *Service) passkeyAlone(ctx context.Context, token string, answer json.RawMessage) (User, error) {
	r, err := s.relyingParty()
	if err != nil {
		return User{}, err
	}
	var u User
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, session, err := s.recall(ctx, tx, token, "", "alone")
		if err != nil {
			return err
		}
		p, _, err := r.FinishAlone(session, answer, func(handle string) (factor.Account, error) {
			var err error
			if u, err = userAnywhere(ctx, tx, handle); err != nil {
				return factor.Account{}, err
			}
			return passkeyAccount(ctx, tx, u)
		})
		if err != nil {
			return ErrPasskey.Wrap(err)
		}
		if !p.Verified {
			return ErrPasskey.Wrap(errors.New("the device did not verify the person"))
		}
		return s.passkeyUsed(ctx, tx, u, p)
	})
	return u, err
}

// usePasskey checks an assertion as the second factor of u: ErrMFAWrong.
func (s *Service) usePasskey(ctx context.Context, u User, token string, answer json.RawMessage) error {
	r, err := s.relyingParty()
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, session, err := s.recall(ctx, tx, token, u.ID, "second")
		if errors.Is(err, ErrCeremony) {
			return ErrMFAWrong.Wrap(err)
		}
		if err != nil {
			return err
		}
		a, err := passkeyAccount(ctx, tx, u)
		if err != nil {
			return err
		}
		p, err := r.FinishLogin(a, session, answer)
		if err != nil {
			return ErrMFAWrong.Wrap(err)
		}
		return s.passkeyUsed(ctx, tx, u, p)
	})
}

// passkeyUsed notes the counter. One that went backwards is told, not refused: some authenticators start anew.
func (s *Service) passkeyUsed(ctx context.Context, tx *db.Tx, u User, p factor.Passkey) error {
	if p.Cloned {
		s.Log.WarnContext(ctx, "the counter of a passkey went backwards: there may be a copy", "user", u.ID)
		if err := s.publish(ctx, tx, u.Tenant.ID, FactorChanged{UserID: u.ID, What: "passkey_cloned"}); err != nil {
			return err
		}
	}
	return touchPasskey(ctx, tx, u.ID, p.ID, p.Record, p.Count, s.Now())
}

// Passkeys lists the caller's passkeys.
func (s *Service) Passkeys(ctx context.Context) ([]Passkey, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	var list []Passkey
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		list, err = passkeysOf(ctx, q, u.ID)
		return err
	})
	return list, err
}

// RenamePasskey gives one of the caller's passkeys another name.
func (s *Service) RenamePasskey(ctx context.Context, pid, name string) (Passkey, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return Passkey{}, err
	}
	if name, err = passkeyName(name); err != nil {
		return Passkey{}, err
	}
	var p Passkey
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := namePasskey(ctx, tx, u.ID, pid, name)
		if err := db.Guard(n, err, ErrPasskeyNotFound); err != nil {
			return err
		}
		p, err = passkeyByID(ctx, tx, u.ID, pid)
		return err
	})
	return p, err
}

// DropPasskey removes one of the caller's passkeys: ErrReauth, ErrLastMethod.
func (s *Service) DropPasskey(ctx context.Context, pid string, d Device) error {
	u, err := s.stepUp(ctx, "", d)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := dropPasskey(ctx, tx, u.ID, pid)
		if err := db.Guard(n, err, ErrPasskeyNotFound); err != nil {
			return err
		}
		if err := needMethod(ctx, tx, u); err != nil {
			return err
		}
		if err := s.dropIdleRecovery(ctx, tx, u.ID); err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, u, "passkey_off")
	})
}

// needMethod refuses to leave an account without any way to sign in.
func needMethod(ctx context.Context, q db.Querier, u User) error {
	if u.password != "" {
		return nil
	}
	m, err := mfaState(ctx, q, u.ID)
	if err != nil || m.Passkeys > 0 {
		return err
	}
	list, err := identitiesOf(ctx, q, u.ID)
	if err == nil && len(list) == 0 {
		err = ErrLastMethod
	}
	return err
}
