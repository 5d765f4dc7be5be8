package user

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
)

// The errors of tenants and of what belongs to them.
var (
	ErrTenantNotFound     = fault.New(fault.NotFound, "user.tenant_not_found", "there is no such organisation")
	ErrTenantFields       = fault.New(fault.Invalid, "user.tenant_invalid", "some fields of the organisation are wrong")
	ErrTenantTaken        = fault.New(fault.Conflict, "user.tenant_taken", "another organisation has this short name")
	ErrTenantStatus       = fault.New(fault.Conflict, "user.tenant_status", "the organisation is in another state")
	ErrMemberNotFound     = fault.New(fault.NotFound, "user.member_not_found", "there is no such member")
	ErrSharedAccount      = fault.New(fault.Forbidden, "user.shared_account", "this person belongs to other organisations too; only they can change their account").WithHint("Change the role, suspend or remove the member instead")
	ErrRoleNotFound       = fault.New(fault.NotFound, "user.role_not_found", "there is no such role")
	ErrRoleFields         = fault.New(fault.Invalid, "user.role_invalid", "some fields of the role are wrong")
	ErrRoleTaken          = fault.New(fault.Conflict, "user.role_taken", "another role has this name")
	ErrRoleInUse          = fault.New(fault.Conflict, "user.role_in_use", "members, invitations or grants have this role").WithHint("Give them another role first")
	ErrRoleBuiltIn        = fault.New(fault.Conflict, "user.role_built_in", "built-in roles stay as they are").WithHint("Make a role of your own with the permissions you want")
	ErrMoreThanOwn        = fault.New(fault.Forbidden, "user.more_than_own", "nobody gives rights that they do not hold")
	ErrGrantNotFound      = fault.New(fault.NotFound, "user.grant_not_found", "there is no such grant")
	ErrGrantTaken         = fault.New(fault.Conflict, "user.grant_taken", "the account has this grant already")
	ErrGrantFields        = fault.New(fault.Invalid, "user.grant_invalid", "some fields of the grant are wrong")
	ErrProjectNotFound    = fault.New(fault.NotFound, "user.project_not_found", "there is no such project")
	ErrProjectFields      = fault.New(fault.Invalid, "user.project_invalid", "some fields of the project are wrong")
	ErrProjectTaken       = fault.New(fault.Conflict, "user.project_taken", "another project has this short name")
	ErrProjectInUse       = fault.New(fault.Conflict, "user.project_in_use", "keys belong to this project").WithHint("Revoke or move them first, or archive the project")
	ErrInvitationNotFound = fault.New(fault.NotFound, "user.invitation_not_found", "there is no such invitation").WithHint("It may have expired or been withdrawn: ask for a new one")
	ErrInvitationFields   = fault.New(fault.Invalid, "user.invitation_invalid", "some fields of the invitation are wrong")
	ErrInvitationClosed   = fault.New(fault.Conflict, "user.invitation_closed", "the invitation was accepted or withdrawn")
	ErrAlreadyMember      = fault.New(fault.Conflict, "user.already_member", "this person is a member already")
	ErrServiceNotFound    = fault.New(fault.NotFound, "user.service_account_not_found", "there is no such service account")
	ErrServiceFields      = fault.New(fault.Invalid, "user.service_account_invalid", "some fields of the service account are wrong")
)

// TenantStatus is the state of an organisation.
type TenantStatus string

// The states.
const (
	TenantActive    TenantStatus = "active"
	TenantSuspended TenantStatus = "suspended" // nobody signs in, no key works; undone by activate
	TenantPurging   TenantStatus = "purging"   // its data is being removed; final
)

// TenantDetail is an organisation as its members and the operator see it.
type TenantDetail struct {
	ID        string       `json:"id"`
	Slug      string       `json:"slug"`
	Name      string       `json:"name"`
	Status    TenantStatus `json:"status" enum:"active,suspended,purging"`
	Timezone  string       `json:"timezone" doc:"IANA name; days and months of budgets and statements are counted in it"`
	Role      string       `json:"role,omitempty" doc:"The caller's role in it"`
	Current   bool         `json:"current" doc:"The caller's session acts in it"`
	Members   int64        `json:"members"`
	CreatedAt time.Time    `json:"created_at"`
	UpdatedAt time.Time    `json:"updated_at"`
	Rev       int64        `json:"rev"`
}

// NewTenant is what an operator gives to make an organisation.
type NewTenant struct {
	Name       string `json:"name" maxLength:"100"`
	Slug       string `json:"slug,omitempty" maxLength:"63" doc:"Short name; made from the name if empty"`
	OwnerEmail string `json:"owner_email,omitempty" maxLength:"254" doc:"Invited as its owner; empty = the caller becomes the owner"`
}

// TenantPatch changes parts of an organisation.
type TenantPatch struct {
	Name     *string `json:"name,omitempty" maxLength:"100"`
	Slug     *string `json:"slug,omitempty" maxLength:"63"`
	Timezone *string `json:"timezone,omitempty" maxLength:"64"`
}

// RoleInput names the role of an account: it holds one in an organisation. A list of one is taken too.
type RoleInput struct {
	Role  string   `json:"role,omitempty" maxLength:"100" doc:"Built-in name or id of a custom role"`
	Roles []string `json:"roles,omitempty" maxItems:"1" doc:"The same as a list of one"`
}

// one is the role that was named; otherwise def.
func (r RoleInput) one(def string) string {
	switch {
	case len(r.Roles) > 0:
		return r.Roles[0]
	case r.Role != "":
		return r.Role
	}
	return def
}

// Member is an account in one organisation.
type Member struct {
	ID          string    `json:"id" doc:"Of the account"`
	Email       string    `json:"email"`
	Username    string    `json:"username"`
	Name        string    `json:"name"`
	Role        Role      `json:"role" doc:"Built-in name or id of a custom role"`
	RoleName    string    `json:"role_name"`
	Roles       []Role    `json:"roles"`
	Status      Status    `json:"status" enum:"active,suspended"`
	Shared      bool      `json:"shared" doc:"Belongs to other organisations too"`
	LastLoginAt time.Time `json:"last_login_at,omitzero"`
	JoinedAt    time.Time `json:"joined_at"`
}

// MemberPatch changes a membership.
type MemberPatch struct {
	RoleInput
	Status *string `json:"status,omitempty" enum:"active,suspended"`
}

// Invitation asks a person to become a member.
type Invitation struct {
	ID         string    `json:"id"`
	Email      string    `json:"email"`
	Role       Role      `json:"role"`
	RoleName   string    `json:"role_name"`
	Roles      []Role    `json:"roles"`
	Projects   []string  `json:"projects" doc:"Ids of projects that come with the membership"`
	State      string    `json:"state" enum:"pending,accepted,revoked,expired"`
	Mailed     bool      `json:"mailed" doc:"A mail with the link was handed to the mail server"`
	InvitedBy  string    `json:"invited_by"`
	ExpiresAt  time.Time `json:"expires_at"`
	AcceptedAt time.Time `json:"accepted_at,omitzero"`
	CreatedAt  time.Time `json:"created_at"`
	Rev        int64     `json:"rev"`

	tenantID, hash, acceptedBy string
}

// MadeInvitation is a new invitation with its link: the only time it is shown.
type MadeInvitation struct {
	Invitation
	Token     string `json:"token"`
	AcceptURL string `json:"accept_url" doc:"Page of the console that accepts it"`
}

// NewInvitation is what an invitation is made from.
type NewInvitation struct {
	Email string `json:"email" maxLength:"254"`
	RoleInput
	Projects  []string  `json:"projects,omitempty" maxItems:"100" doc:"Ids of projects that come with the membership"`
	ExpiresAt time.Time `json:"expires_at,omitempty" format:"date-time" required:"false" doc:"Default: in 7 days; at most 90"`
}

// InvitationView is what the holder of a token sees before they accept.
type InvitationView struct {
	Tenant        Tenant    `json:"tenant"`
	Email         string    `json:"email"`
	RoleName      string    `json:"role_name"`
	ExpiresAt     time.Time `json:"expires_at"`
	AccountExists bool      `json:"account_exists" doc:"Accept with the password of that account, or signed in as it"`
}

// Acceptance accepts an invitation: with a new account, or with the password of the one that has the address.
type Acceptance struct {
	Password string `json:"password,omitempty" maxLength:"1024" doc:"Not needed when the caller is signed in as the invited person"`
	Name     string `json:"name,omitempty" maxLength:"100" doc:"First name of a new account"`
	Username string `json:"username,omitempty" maxLength:"64"`
}

// RoleDetail is a named set of permissions.
type RoleDetail struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Permissions []string  `json:"permissions"`
	BuiltIn     bool      `json:"builtin"`
	Members     int64     `json:"members"`
	CreatedAt   time.Time `json:"created_at,omitzero"`
	UpdatedAt   time.Time `json:"updated_at,omitzero"`
	Rev         int64     `json:"rev"`
}

// NewRole is what a custom role is made from.
type NewRole struct {
	Name        string   `json:"name" maxLength:"64"`
	Description string   `json:"description,omitempty" maxLength:"500"`
	Permissions []string `json:"permissions" maxItems:"200"`
}

// RolePatch changes parts of a custom role.
type RolePatch struct {
	Name        *string   `json:"name,omitempty" maxLength:"64"`
	Description *string   `json:"description,omitempty" maxLength:"500"`
	Permissions *[]string `json:"permissions,omitempty" maxItems:"200"`
}

// PermissionDetail is one permission and who holds it.
type PermissionDetail struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Group string   `json:"group" doc:"The service that it belongs to"`
	Roles []string `json:"roles" doc:"Built-in roles that hold it"`
	Own   bool     `json:"own" doc:"The caller holds it, and may give it"`
}

// GrantSubject is who a grant is for.
type GrantSubject struct {
	Kind string `json:"kind" enum:"user,service_account"`
	ID   string `json:"id" maxLength:"100"`
	Name string `json:"name,omitempty" readOnly:"true" doc:"Address of a person, name of a service account"`
}

// GrantObject is what a grant is on.
type GrantObject struct {
	Kind string `json:"kind" enum:"model,deployment,provider,route,key,project"`
	ID   string `json:"id" maxLength:"256"`
}

// GrantDetail gives a role or one permission to an account, on one object or on the whole organisation.
type GrantDetail struct {
	ID         string       `json:"id"`
	Subject    GrantSubject `json:"subject"`
	Role       string       `json:"role,omitempty"`
	Permission string       `json:"permission,omitempty"`
	Object     *GrantObject `json:"object" doc:"null = the whole organisation"`
	ExpiresAt  time.Time    `json:"expires_at,omitzero"`
	CreatedBy  string       `json:"created_by"`
	CreatedAt  time.Time    `json:"created_at"`
}

// NewGrant is what a grant is made from: a role or a permission, not both. On an object only a permission of its service.
type NewGrant struct {
	Subject    GrantSubject `json:"subject"`
	Role       string       `json:"role,omitempty" maxLength:"100"`
	Permission string       `json:"permission,omitempty" maxLength:"100"`
	Object     *GrantObject `json:"object,omitempty"`
	ExpiresAt  time.Time    `json:"expires_at,omitempty" format:"date-time" required:"false"`
}

// GrantFilter narrows the list of grants.
type GrantFilter struct {
	Subject, Kind, Object string
	Limit                 int
	After                 string
}

// Project is a part of an organisation that keys and usage are counted on.
type Project struct {
	ID          string    `json:"id"`
	Slug        string    `json:"slug"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Status      string    `json:"status" enum:"active,archived"`
	Members     int64     `json:"members"`
	Role        string    `json:"role,omitempty" doc:"The caller's role in it: lead or member"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Rev         int64     `json:"rev"`
}

// NewProject is what a project is made from.
type NewProject struct {
	Name        string `json:"name" maxLength:"100"`
	Slug        string `json:"slug,omitempty" maxLength:"63" doc:"Short name for the header X-Maas-Project; made from the name if empty"`
	Description string `json:"description,omitempty" maxLength:"500"`
}

// ProjectPatch changes parts of a project.
type ProjectPatch struct {
	Name        *string `json:"name,omitempty" maxLength:"100"`
	Slug        *string `json:"slug,omitempty" maxLength:"63"`
	Description *string `json:"description,omitempty" maxLength:"500"`
	Status      *string `json:"status,omitempty" enum:"active,archived"`
}

// ProjectMember is an account in a project.
type ProjectMember struct {
	UserID   string    `json:"user_id"`
	Email    string    `json:"email"`
	Role     string    `json:"role" enum:"lead,member" doc:"A lead manages the project and its members"`
	JoinedAt time.Time `json:"joined_at"`
}

// ServiceAccount is an account for programs. It has a role and owns keys, and never signs in.
type ServiceAccount struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	ProjectID   string    `json:"project_id,omitempty" doc:"Project of the keys that are made for it"`
	Role        Role      `json:"role"`
	RoleName    string    `json:"role_name"`
	Roles       []Role    `json:"roles"`
	Status      Status    `json:"status" enum:"active,suspended"`
	Keys        int64     `json:"keys" doc:"Keys that are not revoked"`
	CreatedBy   string    `json:"created_by"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Rev         int64     `json:"rev"`
}

// NewServiceAccount is what a service account is made from.
type NewServiceAccount struct {
	Name        string `json:"name" maxLength:"64"`
	Description string `json:"description,omitempty" maxLength:"500"`
	ProjectID   string `json:"project_id,omitempty" maxLength:"100" doc:"Id or short name; keys made for it belong to this project unless they say otherwise"`
	RoleInput
}

// ServiceAccountPatch changes parts of a service account.
type ServiceAccountPatch struct {
	Name        *string `json:"name,omitempty" maxLength:"64"`
	Description *string `json:"description,omitempty" maxLength:"500"`
	ProjectID   *string `json:"project_id,omitempty" maxLength:"100"`
	Status      *string `json:"status,omitempty" enum:"active,suspended"`
	RoleInput
}

const (
	invitationLife = 7 * 24 * time.Hour
	customRole     = "rol_" // prefix of ids of custom roles
)

var slugForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// slugFrom makes a short name from a name.
func slugFrom(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(norm.NFKD.String(name)) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-") && (r < 128):
			b.WriteByte('-')
		}
	}
	s := strings.Trim(b.String(), "-")
	if len(s) > 50 {
		s = strings.Trim(s[:50], "-")
	}
	return s
}

// oneLine checks a text that people write: one line of up to most characters, trimmed in place.
func oneLine(s *string, field string, empty bool, most int) []fault.Field {
	*s = strings.TrimSpace(norm.NFC.String(*s))
	if n := utf8.RuneCountInString(*s); n > most || n == 0 && !empty || !utf8.ValidString(*s) || strings.ContainsFunc(*s, func(r rune) bool { return r < ' ' }) {
		return []fault.Field{{Name: "body." + field, Code: "pattern", Message: "must be one line of text", Limit: most}}
	}
	return nil
}

func badSlug(slug string) []fault.Field {
	if slugForm.MatchString(slug) && !reserved[slug] {
		return nil
	}
	return []fault.Field{{Name: "body.slug", Code: "pattern", Message: "must be 1 to 63 of a-z, 0-9 and dash, and no reserved name"}}
}

// fields makes one error of what is wrong; nil without.
func fields(e *fault.Error, lists ...[]fault.Field) error {
	if all := slices.Concat(lists...); len(all) > 0 {
		return e.WithFields(all...)
	}
	return nil
}

// covers reports whether the caller holds all of these permissions.
func covers(p auth.Principal, permissions []string) error {
	for _, one := range permissions {
		if !p.May(one) {
			return ErrMoreThanOwn.With("you do not hold %s and cannot give it", one)
		}
	}
	return nil
}
