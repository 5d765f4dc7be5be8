package user

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
