package user

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/seal"
	"maas/internal/user/login"
)

// The errors of signing in by another provider.
var (
	ErrLoginState       = fault.New(fault.Forbidden, "user.login_state", "this sign-in was not begun in this browser, took too long or was used before").WithHint("Begin again on the sign-in page")
	ErrLinkFirst        = fault.New(fault.Conflict, "user.link_first", "an account with this address exists").WithHint("Sign in with the password, then link the provider in your profile")
	ErrIdentityTaken    = fault.New(fault.Conflict, "user.identity_taken", "this account at the provider belongs to somebody else here")
	ErrIdentityNotFound = fault.New(fault.NotFound, "user.identity_not_found", "there is no such linked account")
	ErrReturnTo         = fault.New(fault.Invalid, "user.return_to", "return_to is a path of this site")
)

// flowLife is how long somebody may take at the provider.
const flowLife = 10 * time.Minute

// flow is a sign-in under way at a provider. It lives in a sealed cookie of the browser that began it.
type flow struct {
	Provider   string    `json:"provider"`
	State      string    `json:"state"`
	Nonce      string    `json:"nonce"`
	Verifier   string    `json:"verifier"`
	ReturnTo   string    `json:"return_to"`
	Invitation string    `json:"invitation,omitempty"`
	Session    string    `json:"session,omitempty"` // link to the account of this session
	Expires    time.Time `json:"expires"`
}

// Identity is an account at a provider that signs a person in.
type Identity struct {
	ID           string    `json:"id"`
	Provider     string    `json:"provider"`
	ProviderName string    `json:"provider_name"`
	Subject      string    `json:"subject"`
	Email        string    `json:"email,omitempty"`
	Name         string    `json:"name,omitempty"`
	CreatedAt    time.Time `json:"created_at"`
	LastUsedAt   time.Time `json:"last_used_at,omitzero"`

	userID, issuer string
}

// localPath accepts a path of this site only: what a browser takes for another host ("//evil", "/\evil", control characters) is refused.
func localPath(p string) (string, error) {
	if p == "" {
		return "/", nil
	}
	u, err := url.Parse(p)
	if err != nil || len(p) > 500 || p[0] != '/' || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\") || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == 0x7f }) || u.Host != "" || u.Scheme != "" || strings.HasPrefix(u.Path, "//") {
		return "", ErrReturnTo
	}
	return p, nil
}

func random() string { return newOpaque() }

func (s *Service) callbackURL(provider string) string {
	return s.url("/api/v1/auth/providers/" + provider + "/callback")
}

// startFlow begins a sign-in at a provider: the address to go to, and the sealed cookie that the answer must come with.
func (s *Service) startFlow(ctx context.Context, provider, returnTo, invitation, session string) (address, sealed string, err error) {
	e, err := s.providers.Find(provider)
	if err != nil {
		return "", "", err
	}
	if returnTo, err = localPath(returnTo); err != nil {
		return "", "", err
	}
	f := flow{Provider: provider, State: random(), Nonce: random(), Verifier: random() + random(), ReturnTo: returnTo, Invitation: invitation, Session: session, Expires: s.Now().Add(flowLife)}
	if address, err = e.AuthURL(ctx, login.Flow{State: f.State, Nonce: f.Nonce, Verifier: f.Verifier, Redirect: s.callbackURL(provider)}); err != nil {
		return "", "", err
	}
	b, err := json.Marshal(f)
	if err != nil {
		return "", "", err
	}
	sealed, err = s.Seal.Seal(ctx, flowPlace(provider), b)
	return address, sealed, err
}

func flowPlace(provider string) seal.Place {
	return seal.Place{Table: "cookie", Column: "login", Row: provider}
}

// openFlow reads the cookie of a sign-in and uses it up: ErrLoginState if it is not of this browser, not for this answer, too old or used before.
func (s *Service) openFlow(ctx context.Context, provider, sealed string, back url.Values) (flow, error) {
	var f flow
	b, err := s.Seal.Open(ctx, flowPlace(provider), sealed)
	if err != nil || json.Unmarshal(b, &f) != nil || f.Provider != provider || !s.Now().Before(f.Expires) {
		return f, ErrLoginState
	}
	if f.State == "" || subtle.ConstantTimeCompare([]byte(f.State), []byte(back.Get("state"))) != 1 {
		return f, ErrLoginState
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return insertToken(ctx, tx, hexHash(f.State), "", "login", "", "", f.Expires)
	})
	if errors.Is(err, db.ErrDuplicate) {
		return f, ErrLoginState
	}
	return f, err
}

// External is the end of a sign-in at a provider.
type External struct {
	Tokens
	ReturnTo string
	Linked   string // provider that was linked to the caller's account
}

// finishFlow takes who came back from a provider in: signs in the account that is linked, links it, or makes one, as far as registration allows.
func (s *Service) finishFlow(ctx context.Context, provider, sealed string, back url.Values, d Device) (External, error) {
	if need, err := s.needsSetup(ctx); err != nil || need {
		return External{}, errors.Join(err, ErrSetupRequired)
	}
	e, err := s.providers.Find(provider)
	if err != nil {
		return External{}, err
	}
	f, err := s.openFlow(ctx, provider, sealed, back)
	if err != nil {
		return External{}, err
	}
	end := External{ReturnTo: f.ReturnTo}
	p, err := e.Exchange(ctx, login.Flow{State: f.State, Nonce: f.Nonce, Verifier: f.Verifier, Redirect: s.callbackURL(provider)}, back)
	if err != nil {
		return end, err
	}
	if f.Session != "" {
		end.Linked = provider
		return end, s.link(ctx, e, p, f.Session)
	}
	u, err := s.recognise(ctx, e, p, f.Invitation)
	if err != nil {
		return end, err
	}
	if err := u.whyNot(); err != nil {
		return end, err
	}
	end.Tokens, err = s.afterFirst(ctx, u, d, true, methodProvider)
	return end, err
}

// link adds a provider's account to that of a session, which must still hold.
func (s *Service) link(ctx context.Context, e login.Entry, p login.Person, session string) error {
	who, err := s.Session(ctx, session)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		have, err := identityBySubject(ctx, tx, e.ID, p.Issuer, p.Subject)
		switch {
		case err == nil && have.userID == who.UserID:
			return nil
		case err == nil:
			return ErrIdentityTaken
		case !isNoRow(err):
			return err
		}
		return s.addIdentity(ctx, tx, e, p, who.UserID, who.TenantID)
	})
}

func (s *Service) addIdentity(ctx context.Context, tx *db.Tx, e login.Entry, p login.Person, userID, tenant string) error {
	i := Identity{ID: id.New("idn"), Provider: e.ID, Subject: p.Subject, Email: cut(p.Email), Name: cut(p.Name), CreatedAt: s.Now(), userID: userID, issuer: p.Issuer}
	if err := insertIdentity(ctx, tx, i); err != nil {
		if errors.Is(err, db.ErrDuplicate) {
			return ErrIdentityTaken
		}
		return err
	}
	return s.publish(ctx, tx, tenant, IdentityLinked{UserID: userID, Provider: e.ID})
}

func cut(s string) string {
	if r := []rune(s); len(r) > 254 {
		return string(r[:254])
	}
	return s
}

// recognise finds or makes the account of who came back.
func (s *Service) recognise(ctx context.Context, e login.Entry, p login.Person, invitation string) (User, error) {
	var u User
	known := false
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		i, err := identityBySubject(ctx, tx, e.ID, p.Issuer, p.Subject)
		if isNoRow(err) {
			u, known, err = s.byProvenAddress(ctx, tx, e, p)
			return err
		}
		if err != nil {
			return err
		}
		known = true
		if err := touchIdentity(ctx, tx, i.ID, s.Now()); err != nil {
			return err
		}
		u, err = userAnywhere(ctx, tx, i.userID)
		if isNoRow(err) {
			err = ErrSuspended // no organisation any more
		}
		return err
	})
	if err != nil || known {
		return u, err
	}
	return s.registerExternal(ctx, e, p, invitation)
}

// byProvenAddress links the account that has the address, if everything speaks for it: the provider has proven the address and is trusted for its domain, and the account's address is proven here too. Were one
// of them missing, somebody could take an account over by naming its address.
func (s *Service) byProvenAddress(ctx context.Context, tx *db.Tx, e login.Entry, p login.Person) (User, bool, error) {
	if p.Email == "" || !p.EmailVerified {
		return User{}, false, nil
	}
	u, err := userByEmail(ctx, tx, p.Email)
	switch {
	case isNoRow(err):
		return User{}, false, nil
	case err != nil:
		return u, false, err
	case !u.Verified || !e.Trusted(p.Email) || u.Status == Pending:
		return u, false, ErrLinkFirst
	}
	return u, true, s.addIdentity(ctx, tx, e, p, u.ID, u.Tenant.ID)
}

// registerExternal makes an account for who came back, as far as registration allows. An address that the provider has not proven is not taken: the account gets one that receives nothing.
func (s *Service) registerExternal(ctx context.Context, e login.Entry, p login.Person, invitation string) (User, error) {
	if err := s.mayRegister(invitation != ""); err != nil {
		return User{}, err
	}
	t, role, inv, err := s.firstPlace(ctx, invitation)
	if err != nil {
		return User{}, err
	}
	n := NewUser{Email: p.Email, Role: string(Developer), Profile: Profile{FirstName: strings.Map(printable, firstRunes(p.Name, 100))}, Locale: "en"}
	if strings.HasPrefix(p.Locale, "zh") {
		n.Locale = "zh"
	}
	proven := p.Email != "" && p.EmailVerified
	if !proven {
		h := sha256.Sum256([]byte(p.Issuer + "\x00" + p.Subject))
		n.Email = e.ID + "-" + hex.EncodeToString(h[:6]) + "@" + e.ID + ".invalid" // RFC 2606: receives nothing, belongs to nobody
	}
	u, err := newUser(n, id.New("usr"), t, s.Now())
	if err != nil {
		return User{}, err
	}
	u.Role, u.Verified = role, proven
	if inv == nil && !s.Config.mailAllowed(u.Email) {
		return User{}, ErrMailDomain
	}
	if inv == nil && s.Config.Registration == RegistrationApproval {
		u.Status, u.pending = Pending, pendingApproval
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.addNewcomer(ctx, tx, &u, inv); err != nil {
			return err
		}
		if err := s.addIdentity(ctx, tx, e, p, u.ID, u.Tenant.ID); err != nil {
			return err
		}
		u, err = userAnywhere(ctx, tx, u.ID)
		return err
	})
	if errors.Is(err, ErrTaken) {
		err = ErrLinkFirst
	}
	return u, err
}

func firstRunes(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

func printable(r rune) rune {
	if r < ' ' || r == 0xfffd {
		return -1
	}
	return r
}

// LinkURL begins linking a provider to the caller's account: the address to go to and the cookie that goes with it. It wants the password, or a sign-in of the last ten minutes. ErrReauth.
func (s *Service) LinkURL(ctx context.Context, provider, returnTo, password string, d Device) (address, sealed string, err error) {
	if _, err := s.stepUp(ctx, password, d); err != nil {
		return "", "", err
	}
	if returnTo == "" {
		returnTo = "/profile"
	}
	p, _ := auth.From(ctx)
	return s.startFlow(ctx, provider, returnTo, "", p.SessionID)
}

// Identities lists the caller's accounts at providers.
func (s *Service) Identities(ctx context.Context) ([]Identity, error) {
	u, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	var list []Identity
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		list, err = identitiesOf(ctx, q, u.ID)
		return err
	})
	for i := range list {
		list[i].ProviderName = list[i].Provider
		if e, err := s.providers.Find(list[i].Provider); err == nil {
			list[i].ProviderName = e.Name
		}
	}
	return list, err
}

// Unlink removes one of the caller's accounts at providers. The last way to sign in stays. ErrReauth, ErrLastMethod.
func (s *Service) Unlink(ctx context.Context, iid string, d Device) error {
	u, err := s.stepUp(ctx, "", d)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := dropIdentity(ctx, tx, u.ID, iid)
		if err := db.Guard(n, err, ErrIdentityNotFound); err != nil {
			return err
		}
		return needMethod(ctx, tx, u)
	})
}

// IdentityLinked says that a provider's account signs a person in from now on.
type IdentityLinked struct {
	UserID   string `json:"user_id"`
	Provider string `json:"provider"`
}

// Topic implements event.Event.
func (IdentityLinked) Topic() string { return "user.identity.linked" }

// Key implements event.Event.
func (e IdentityLinked) Key() string { return e.UserID }
