package user

import (
	"context"
	"errors"
	"net/mail"
	"slices"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
)

// The errors of registration and of proving an address.
var (
	ErrRegistrationClosed = fault.New(fault.Forbidden, "user.registration_closed", "nobody can register here").WithHint("Ask an owner or admin for an account")
	ErrInvitationNeeded   = fault.New(fault.Forbidden, "user.invitation_needed", "registration is for invited people").WithHint("Ask an owner or admin for an invitation")
	ErrMailDomain         = fault.New(fault.Forbidden, "user.mail_domain", "addresses of this domain cannot register here")
	ErrNotVerified        = fault.New(fault.Forbidden, "user.not_verified", "the address is not confirmed yet").WithHint("Open the link in the mail, or ask for another one")
	ErrPendingApproval    = fault.New(fault.Forbidden, "user.pending_approval", "the account waits for approval").WithHint("An owner or admin of the team approves it")
	ErrTokenUsed          = fault.New(fault.Conflict, "user.token_used", "this link was used, has expired or is not complete").WithHint("Ask for a new mail")
	ErrNoMail             = fault.New(fault.Unavailable, "user.no_mail", "this installation cannot send mail").WithHint("An operator sets mail.url; an admin can set a new password")
	ErrConfig             = fault.New(fault.Invalid, "user.config", "the settings of accounts do not fit together")
)

// Registration is who may make an account for themselves.
const (
	RegistrationClosed   = "closed"
	RegistrationInvite   = "invite"
	RegistrationApproval = "approval"
	RegistrationOpen     = "open"
)

// Why an account is pending.
const (
	pendingVerification = "verification" // the address is not proven
	pendingApproval     = "approval"     // an admin has to say yes
)

// Lives of one-time tokens that go by mail.
const (
	verifyLife = 24 * time.Hour
	resetLife  = 30 * time.Minute
)

// Registration is what a person gives to make an account for themselves.
type Registration struct {
	Email      string `json:"email" maxLength:"254"`
	Password   string `json:"password" maxLength:"1024"`
	Name       string `json:"name,omitempty" maxLength:"100"`
	Locale     string `json:"locale,omitempty" maxLength:"16" doc:"Language of mails; default en"`
	Invitation string `json:"invitation,omitempty" maxLength:"128" doc:"Token of an invitation"`
}

// Registered says what happens next. Where a mail or an approval decides, the answer is the same whether the address has an account or not.
type Registered struct {
	Status string `json:"status" enum:"active,pending_verification,pending_approval"`
	User   *User  `json:"user,omitempty" doc:"Only if the account can be used at once"`
}

// What a registration can come to.
const (
	registeredActive       = "active"
	registeredVerification = "pending_verification"
	registeredApproval     = "pending_approval"
)

// storedStatus is the status of the row: a pending account is stored as a suspended one with a reason, so that whoever asks for active ones refuses it.
func (u User) storedStatus() Status {
	if u.Status == Pending {
		return Suspended
	}
	return u.Status
}

func (u User) verifiedAt() int64 {
	if u.Verified {
		return db.Micro(u.CreatedAt)
	}
	return 0
}

// whyNot says why an account cannot sign in: nil if it can. It is said only after the right password, or another proof of who it is.
func (u User) whyNot() error {
	switch {
	case u.Status == Pending && u.pending == pendingVerification:
		return ErrNotVerified
	case u.Status == Pending:
		return ErrPendingApproval
	case u.Status != Active || u.tenantStatus != string(Active):
		return ErrSuspended
	}
	return nil
}

// validate collects what is wrong with the settings of accounts.
func (c Config) validate(mail bool) error {
	var f []fault.Field
	bad := func(name, code, message string) {
		f = append(f, fault.Field{Name: "user." + name, Code: code, Message: message})
	}
	if !slices.Contains([]string{RegistrationClosed, RegistrationInvite, RegistrationApproval, RegistrationOpen}, c.Registration) {
		bad("registration", "not_in_list", "is closed, invite, approval or open")
	}
	if (c.Registration == RegistrationOpen || c.Registration == RegistrationApproval) && c.VerifyEmail && !mail {
		bad("verify_email", "required", "needs mail.url, or false: people who register must get a mail")
	}
	if _, err := ParseRole(c.RegistrationRole); err != nil || c.RegistrationRole == string(Owner) {
		bad("registration_role", "not_in_list", "is admin, developer or viewer")
	}
	if len(f) > 0 {
		return ErrConfig.WithFields(f...)
	}
	return nil
}

// mailAllowed reports whether addresses of this domain may register.
func (c Config) mailAllowed(email string) bool {
	_, domain, _ := strings.Cut(emailKey(email), "@")
	return len(c.MailDomains) == 0 || slices.ContainsFunc(c.MailDomains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// Register makes an account for a person who has none. ErrRegistrationClosed, ErrInvitationNeeded, ErrMailDomain, ErrInvalidUser, ErrWeakPassword, ErrTooManyAttempts; ErrTaken only where neither a mail nor
// an approval stands between the registration and the account.
func (s *Service) Register(ctx context.Context, in Registration, d Device) (Registered, error) {
	if need, err := s.needsSetup(ctx); err != nil || need {
		return Registered{}, errors.Join(err, ErrSetupRequired)
	}
	if err := s.mayRegister(in.Invitation != ""); err != nil {
		return Registered{}, err
	}
	if err := s.rates.take("register", d.IP, registerMost, s.Now()); err != nil {
		return Registered{}, err
	}
	u, inv, err := s.newcomer(ctx, in)
	if err != nil {
		return Registered{}, err
	}
	if u.password, err = s.hasher.hash(ctx, in.Password); err != nil {
		return Registered{}, err
	}
	for range 3 { // two people with one user name at the same moment: the second one gets another
		if err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return s.addNewcomer(ctx, tx, &u, inv) }); !errors.Is(err, errNameRace) {
			break
		}
	}
	status := map[string]string{"": registeredActive, pendingVerification: registeredVerification, pendingApproval: registeredApproval}[u.pending]
	switch {
	case errors.Is(err, ErrTaken) && u.pending != "":
		return Registered{Status: status}, s.tellOwner(ctx, u)
	case err != nil:
		return Registered{}, err
	case status == registeredActive:
		return Registered{Status: status, User: &u}, nil
	}
	return Registered{Status: status}, nil
}

func (s *Service) mayRegister(invited bool) error {
	switch {
	case s.Config.Registration == RegistrationClosed:
		return ErrRegistrationClosed
	case s.Config.Registration == RegistrationInvite && !invited:
		return ErrInvitationNeeded
	}
	return nil
}

// newcomer checks a registration and makes the account, not stored yet.
func (s *Service) newcomer(ctx context.Context, in Registration) (User, *Invitation, error) {
	now := s.Now()
	t, role, inv, err := s.firstPlace(ctx, in.Invitation)
	if err != nil {
		return User{}, nil, err
	}
	u, err := newUser(NewUser{Email: in.Email, Role: string(Developer), Profile: Profile{FirstName: in.Name}, Locale: in.Locale}, id.New("usr"), t, now)
	if err != nil {
		return User{}, nil, err
	}
	u.Role = role
	if inv == nil && !s.Config.mailAllowed(u.Email) {
		return User{}, nil, ErrMailDomain
	}
	if err := checkPassword(in.Password, u.Email, u.Username, u.Tenant.Name); err != nil {
		return User{}, nil, err
	}
	s.settle(&u, inv)
	return u, inv, nil
}

// settle says what stands between a new account and its first sign-in. An invitation was opened by whoever reads its address's mail, and whoever wrote it has approved.
func (s *Service) settle(u *User, inv *Invitation) {
	switch {
	case inv != nil:
		u.Verified = emailKey(inv.Email) == emailKey(u.Email)
	case s.Config.VerifyEmail && !u.Verified:
		u.Status, u.pending = Pending, pendingVerification
	case s.Config.Registration == RegistrationApproval:
		u.Status, u.pending = Pending, pendingApproval
	}
}

// addNewcomer stores a new account, with a user name of its own, and sends the mail that proves its address.
func (s *Service) addNewcomer(ctx context.Context, tx *db.Tx, u *User, inv *Invitation) error {
	if known, err := emailKnown(ctx, tx, u.Email); err != nil || known {
		return errors.Join(err, onlyIf(known, ErrTaken))
	}
	var err error
	if u.Username, err = freeUsername(ctx, tx, u.Username); err != nil {
		return err
	}
	if err := insertUser(ctx, tx, *u); err != nil {
		if errors.Is(err, ErrTaken) {
			err = errors.Join(err, errNameRace)
		}
		return err
	}
	if inv != nil {
		if err := s.takeInvitation(ctx, tx, *inv, *u); err != nil {
			return err
		}
	}
	if u.pending == pendingVerification {
		if err := s.enqueueMail(ctx, tx, letterJob{Kind: jobVerify, UserID: u.ID}); err != nil {
			return err
		}
	}
	s.changed(tx)
	return s.publish(ctx, tx, u.Tenant.ID, Changed{UserID: u.ID, Status: u.Status, Role: u.Role})
}

// errNameRace: the address or the user name was free a moment ago.
var errNameRace = errors.New("taken meanwhile")

func onlyIf(yes bool, err error) error {
	if yes {
		return err
	}
	return nil
}

// tellOwner tells the owner of an address that somebody tried to register with it; the one who tried learns nothing.
func (s *Service) tellOwner(ctx context.Context, u User) error {
	if s.Mail == nil {
		return nil
	}
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return s.enqueueMail(ctx, tx, letterJob{Kind: jobExists, Email: u.Email})
	})
}

// VerifyEmail proves the address of an account by a token of a mail. The account is active then, or waits for approval.
func (s *Service) VerifyEmail(ctx context.Context, token string, d Device) (Registered, error) {
	now := s.Now()
	if err := s.damp.check(now, "token", d.IP); err != nil {
		return Registered{}, err
	}
	var status string
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		t, err := takeToken(ctx, tx, token, "verify", now)
		if err != nil {
			return err
		}
		u, err := userAnywhere(ctx, tx, t.userID)
		if err != nil {
			return onlyIf(true, ErrTokenUsed)
		}
		if emailKey(u.Email) != t.data {
			return ErrTokenUsed // the address was changed meanwhile
		}
		status, err = s.proven(ctx, tx, u, now)
		return err
	})
	if errors.Is(err, ErrTokenUsed) {
		s.damp.fail(now, "token", d.IP)
	}
	return Registered{Status: status}, err
}

// proven notes that an address is its account's.
func (s *Service) proven(ctx context.Context, tx *db.Tx, u User, now time.Time) (string, error) {
	pending, status := u.pending, registeredActive
	if pending == pendingVerification {
		pending = ""
		if s.Config.Registration == RegistrationApproval {
			pending = pendingApproval
		}
	}
	if pending == pendingApproval {
		status = registeredApproval
	}
	if err := setVerified(ctx, tx, u.ID, pending, now); err != nil || pending == u.pending {
		return status, err
	}
	u.Status = Active
	if pending != "" {
		u.Status = Pending
	}
	return status, s.rightsChanged(auth.AsSystem(ctx, u.Tenant.ID), tx, u, false, now)
}

// ResendVerification sends the mail again, if there is an account that waits for it. It answers the same in every case.
func (s *Service) ResendVerification(ctx context.Context, email string, d Device) error {
	return s.askForMail(ctx, letterJob{Kind: jobVerify, Email: email}, d)
}

// Approve lets a person who registered sign in: ErrBadStatus if they do not wait for it. An address that is not proven yet counts as proven by whoever approves.
func (s *Service) Approve(ctx context.Context, uid string) (User, error) {
	return s.decide(ctx, uid, func(ctx context.Context, tx *db.Tx, u *User, now time.Time) error {
		if err := setPending(ctx, tx, u.ID, "", now); err != nil {
			return err
		}
		u.Status, u.pending, u.UpdatedAt = Active, "", now
		u.Rev++
		if err := s.rightsChanged(ctx, tx, *u, false, now); err != nil {
			return err
		}
		return s.mailIfAny(ctx, tx, letterJob{Kind: jobApproved, UserID: u.ID})
	})
}

// Reject declines a registration: what the person entered is deleted, and the address may register again.
func (s *Service) Reject(ctx context.Context, uid string) error {
	_, err := s.decide(ctx, uid, func(ctx context.Context, tx *db.Tx, u *User, now time.Time) error {
		if err := s.mailIfAny(ctx, tx, letterJob{Kind: jobRejected, Email: u.Email, Locale: u.Locale, Name: u.Profile.FirstName}); err != nil {
			return err
		}
		return s.leave(ctx, tx, *u, now)
	})
	return err
}

func (s *Service) decide(ctx context.Context, uid string, f func(context.Context, *db.Tx, *User, time.Time) error) (User, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	var u User
	err := s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := lockTenant(ctx, tx, p.TenantID, now); err != nil {
			return err
		}
		var err error
		if u, err = userByID(ctx, tx, p.TenantID, uid); err != nil {
			return err
		}
		if u.Status != Pending {
			return ErrBadStatus.With("the account does not wait for approval")
		}
		if err := s.mayAssign(ctx, tx, u.Role); err != nil {
			return err
		}
		return f(ctx, tx, &u, now)
	})
	return u, err
}

// unprovenKeep is how long a registration waits for the confirmation of its address: after that the address is free again.
const unprovenKeep = 7 * 24 * time.Hour

// dropUnproven erases registrations whose address nobody confirmed.
func (s *Service) dropUnproven(ctx context.Context) error {
	now := s.Now()
	return s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		list, err := unprovenBefore(ctx, tx, now.Add(-unprovenKeep))
		if err != nil {
			return err
		}
		for _, u := range list {
			if err := s.leave(auth.AsSystem(ctx, u.Tenant.ID), tx, u, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// plainAddress reports whether a text is a mail address, without looking at whether it exists.
func plainAddress(s string) bool {
	a, err := mail.ParseAddress(strings.TrimSpace(s))
	return err == nil && a.Address == strings.TrimSpace(s) && len(s) <= 254
}
