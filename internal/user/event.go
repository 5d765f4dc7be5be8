package user

import "time"

// Changed says that a user's rights or state changed.
type Changed struct {
	UserID string `json:"user_id"`
	Status Status `json:"status"`
	Role   Role   `json:"role"`
	By     string `json:"by,omitempty"` // who did it
}

// Topic implements event.Event.
func (Changed) Topic() string { return "user.user.changed" }

// Key implements event.Event.
func (e Changed) Key() string { return e.UserID }

// KeyChanged says that an API key was made, changed or revoked.
type KeyChanged struct {
	KeyID  string    `json:"key_id"`
	UserID string    `json:"user_id"`
	State  KeyStatus `json:"state"`
	By     string    `json:"by,omitempty"`
}

// Topic implements event.Event.
func (KeyChanged) Topic() string { return "user.key.changed" }

// Key implements event.Event.
func (e KeyChanged) Key() string { return e.KeyID }

// SessionReused says that a refresh token came a second time after its grace: it was probably stolen. The session is ended already.
type SessionReused struct {
	SessionID string `json:"session_id"`
	UserID    string `json:"user_id"`
	IP        string `json:"ip"`
}

// Topic implements event.Event.
func (SessionReused) Topic() string { return "user.session.reused" }

// Key implements event.Event.
func (e SessionReused) Key() string { return e.SessionID }

// TenantChanged says that an organisation was made, renamed, suspended or activated.
type TenantChanged struct {
	TenantID string       `json:"tenant_id"`
	Name     string       `json:"name"`
	Status   TenantStatus `json:"status"`
	By       string       `json:"by,omitempty"`
}

// Topic implements event.Event.
func (TenantChanged) Topic() string { return "user.tenant.changed" }

// Key implements event.Event.
func (e TenantChanged) Key() string { return e.TenantID }

// TenantPurged says that an organisation is removed for good: every service deletes what it holds of it. Handlers must stand repeats.
type TenantPurged struct {
	TenantID string `json:"tenant_id"`
	By       string `json:"by,omitempty"`
}

// Topic implements event.Event.
func (TenantPurged) Topic() string { return "user.tenant.purged" }

// Key implements event.Event.
func (e TenantPurged) Key() string { return e.TenantID }

// RoleChanged says that a custom role was made, changed or deleted.
type RoleChanged struct {
	RoleID      string   `json:"role_id"`
	Name        string   `json:"name"`
	Permissions []string `json:"permissions,omitempty"`
	Deleted     bool     `json:"deleted,omitempty"`
	By          string   `json:"by,omitempty"`
}

// Topic implements event.Event.
func (RoleChanged) Topic() string { return "user.role.changed" }

// Key implements event.Event.
func (e RoleChanged) Key() string { return e.RoleID }

// GrantChanged says that a grant was given, taken or has run out.
type GrantChanged struct {
	GrantID string `json:"grant_id"`
	UserID  string `json:"user_id"`
	Ended   bool   `json:"ended,omitempty"`
	By      string `json:"by,omitempty"`
}

// Topic implements event.Event.
func (GrantChanged) Topic() string { return "user.grant.changed" }

// Key implements event.Event.
func (e GrantChanged) Key() string { return e.GrantID }

// InvitationCreated says that somebody was invited, or invited again with a new link. The link's token is in the mail and in the answer of the call, nowhere else.
type InvitationCreated struct {
	InvitationID string    `json:"invitation_id"`
	Email        string    `json:"email"`
	TenantName   string    `json:"tenant_name"`
	RoleName     string    `json:"role_name"`
	Mailed       bool      `json:"mailed"`
	ExpiresAt    time.Time `json:"expires_at"`
	By           string    `json:"by,omitempty"`
}

// Topic implements event.Event.
func (InvitationCreated) Topic() string { return "user.invitation.created" }

// Key implements event.Event.
func (e InvitationCreated) Key() string { return e.InvitationID }

// ProjectChanged says that a project was made, changed, archived or deleted.
type ProjectChanged struct {
	ProjectID string `json:"project_id"`
	Name      string `json:"name"`
	Status    string `json:"status"` // active, archived, deleted
	By        string `json:"by,omitempty"`
}

// Topic implements event.Event.
func (ProjectChanged) Topic() string { return "user.project.changed" }

// Key implements event.Event.
func (e ProjectChanged) Key() string { return e.ProjectID }
