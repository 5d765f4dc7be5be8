package user

import (
	"net/mail"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"maas/internal/platform/fault"
)

// The errors of accounts.
var (
	ErrNotFound     = fault.New(fault.NotFound, "user.not_found", "there is no such user")
	ErrInvalidUser  = fault.New(fault.Invalid, "user.invalid", "some fields of the user are wrong")
	ErrTaken        = fault.New(fault.Conflict, "user.taken", "another account has this address or user name")
	ErrLastOwner    = fault.New(fault.Conflict, "user.last_owner", "a team keeps at least one active owner").WithHint("Make somebody else owner first")
	ErrOwnerOnly    = fault.New(fault.Forbidden, "user.owner_only", "only an owner may change owners")
	ErrSelf         = fault.New(fault.Conflict, "user.self", "you cannot do this to your own account")
	ErrBadStatus    = fault.New(fault.Conflict, "user.bad_status", "the account is in another state")
	ErrStaleUser    = fault.New(fault.Conflict, "user.stale", "the account was changed by someone else meanwhile").WithHint("Load it again, then repeat the change")
	errPasswordSame = ErrWeakPassword.With("the new password is the old one").WithFields(fault.Field{Name: "body.new_password", Code: "immutable", Message: "must differ from the present one"})
)

// Status of an account.
type Status string

// The states.
const (
	Active    Status = "active"
	Pending   Status = "pending"   // registered; the address is not proven, or nobody has approved yet
	Suspended Status = "suspended" // may not sign in; keys do not work; undone by activate
	Erased    Status = "erased"    // name and address are gone; the row stays for usage
)

// Profile is what a person tells about themselves.
type Profile struct {
	FirstName    string `json:"first_name,omitempty" maxLength:"100"`
	LastName     string `json:"last_name,omitempty" maxLength:"100"`
	AvatarURL    string `json:"avatar_url,omitempty" maxLength:"500"`
	Organization string `json:"organization,omitempty" maxLength:"200"`
}

// Tenant is a team: the border of what people see.
type Tenant struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// User is a person as a member of one tenant.
type User struct {
	ID          string    `json:"id"`
	Username    string    `json:"username"`
	Email       string    `json:"email"`
	Status      Status    `json:"status" enum:"active,pending,suspended,erased"`
	Role        Role      `json:"role" doc:"Built-in name or id of a custom role"`
	RoleName    string    `json:"role_name"`
	Profile     Profile   `json:"profile"`
	Locale      string    `json:"locale"`
	Verified    bool      `json:"email_verified" doc:"The address was proven by a mail or by a provider"`
	LastLoginAt time.Time `json:"last_login_at,omitzero"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Rev         int64     `json:"rev"`
	Tenant      Tenant    `json:"tenant"`
	Permissions []string  `json:"permissions,omitempty"` // for the caller's own account only

	password     string // PHC string
	pending      string // why it is pending: pendingVerification, pendingApproval; "" = it is not
	tenantStatus string
	operator     bool
	service      bool // an account for programs
	rolePerms    []string

	serviceProject string // default project of the keys of a service account
}

func (u User) kind() string {
	if u.service {
		return "service"
	}
	return "person"
}

// rights are the permissions of the person's role here.
func (u User) rights() []string {
	if u.Role.Custom() {
		return u.rolePerms
	}
	return u.Role.Permissions()
}

// NewUser is what an owner or admin gives to make an account.
type NewUser struct {
	Email    string  `json:"email" maxLength:"254"`
	Password string  `json:"password" maxLength:"1024"`
	Username string  `json:"username,omitempty" maxLength:"64" doc:"Made from the address if empty"`
	Role     string  `json:"role,omitempty" doc:"Default: developer"`
	Profile  Profile `json:"profile,omitempty"`
	Locale   string  `json:"locale,omitempty" maxLength:"16"`
}

// Patch changes parts of an account; nil leaves a part as it is. Role is for owners and admins.
type Patch struct {
	Username *string  `json:"username,omitempty" maxLength:"64"`
	Email    *string  `json:"email,omitempty" maxLength:"254"`
	Role     *string  `json:"role,omitempty"`
	Profile  *Profile `json:"profile,omitempty"`
	Locale   *string  `json:"locale,omitempty" maxLength:"16"`
}

var (
	usernameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,62}[a-z0-9]$`)
	localeForm   = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)
)

// reserved names could be taken for paths or roles of the product.
var reserved = map[string]bool{"api": true, "me": true, "root": true, "system": true, "maas": true, "v1": true, "v2": true, "www": true, "assets": true, "console": true}

// newUser checks the fields and makes an account of the tenant; the password comes hashed later. All wrong fields are listed.
func newUser(n NewUser, id string, t Tenant, now time.Time) (User, error) {
	u := User{ID: id, Status: Active, Profile: n.Profile, Locale: n.Locale, CreatedAt: now, UpdatedAt: now, Rev: 1, Tenant: t, Role: Developer}
	if u.Locale == "" {
		u.Locale = "en"
	}
	if n.Role != "" {
		r, err := ParseRole(n.Role)
		if err != nil {
			return u, err
		}
		u.Role = r
	}
	u.Email = n.Email
	if n.Username == "" {
		n.Username = usernameFrom(n.Email)
	}
	u.Username = n.Username
	return u, u.validate()
}

// validate normalises and checks what people may write.
func (u *User) validate() error {
	var f []fault.Field
	wrong := func(name, code, message string) {
		f = append(f, fault.Field{Name: "body." + name, Code: code, Message: message})
	}
	u.Email = strings.TrimSpace(norm.NFKC.String(u.Email))
	if a, err := mail.ParseAddress(u.Email); err != nil || a.Address != u.Email || len(u.Email) > 254 || !strings.Contains(u.Email, "@") {
		wrong("email", "format", "must be a mail address")
	}
	u.Username = strings.ToLower(strings.TrimSpace(norm.NFKC.String(u.Username)))
	if !usernameForm.MatchString(u.Username) || reserved[u.Username] {
		wrong("username", "pattern", "must be 3 to 64 of a-z, 0-9, dot, dash and underscore, and no reserved name")
	}
	if !localeForm.MatchString(u.Locale) {
		wrong("locale", "format", "must be a language tag such as en or zh")
	}
	for name, s := range map[string]string{"first_name": u.Profile.FirstName, "last_name": u.Profile.LastName, "avatar_url": u.Profile.AvatarURL, "organization": u.Profile.Organization} {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
			wrong("profile."+name, "format", "must be one line of text")
		}
	}
	if u.Profile.AvatarURL != "" && !strings.HasPrefix(u.Profile.AvatarURL, "https://") && !strings.HasPrefix(u.Profile.AvatarURL, "/") {
		wrong("profile.avatar_url", "format", "must be an https address")
	}
	if len(f) > 0 {
		return ErrInvalidUser.WithFields(f...)
	}
	return nil
}

// emailKey is what addresses are compared by.
func emailKey(s string) string { return strings.ToLower(norm.NFKC.String(strings.TrimSpace(s))) }

// usernameFrom makes a user name from the local part of an address.
func usernameFrom(email string) string {
	local, _, _ := strings.Cut(emailKey(email), "@")
	var b strings.Builder
	for _, r := range local {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			b.WriteRune(r)
		case b.Len() > 0:
			b.WriteByte('-')
		}
	}
	s := strings.Trim(b.String(), "._-")
	if len(s) > 60 {
		s = s[:60]
	}
	for len(s) < 3 || reserved[s] {
		s += "-user"
	}
	return s
}

// apply puts a patch on the account.
func (u *User) apply(p Patch, now time.Time) error {
	if p.Username != nil {
		u.Username = *p.Username
	}
	if p.Email != nil {
		u.Email = *p.Email
	}
	if p.Profile != nil {
		u.Profile = *p.Profile
	}
	if p.Locale != nil {
		u.Locale = *p.Locale
	}
	if p.Role != nil {
		r, err := ParseRole(*p.Role)
		if err != nil {
			return err
		}
		u.Role = r
	}
	u.UpdatedAt = now
	return u.validate()
}

// masked hides the address from those who may not read personal data of others.
func (u User) masked() User {
	if at := strings.IndexByte(u.Email, '@'); at > 0 {
		u.Email = u.Email[:1] + "***" + u.Email[at:]
	}
	return u
}
