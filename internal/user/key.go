package user

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"maas/internal/platform/fault"
)

// The errors of API keys as objects.
var (
	ErrKeyNotFound = fault.New(fault.NotFound, "user.key_not_found", "there is no such key")
	ErrKeyFields   = fault.New(fault.Invalid, "user.key_invalid", "some fields of the key are wrong")
	ErrKeyClosed   = fault.New(fault.Conflict, "user.key_closed", "the key was revoked")
	ErrStaleKey    = fault.New(fault.Conflict, "user.key_stale", "the key was changed by someone else meanwhile").WithHint("Load it again, then repeat the change")
)

const (
	keyNameMost   = 100
	keyModelsMost = 200
)

// KeyOwner is the person that a key acts for.
type KeyOwner struct {
	ID    string `json:"id"`
	Email string `json:"email"`
}

// Key is an API key without its text.
type Key struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Owner      KeyOwner  `json:"owner"`
	Models     []string  `json:"models" doc:"Public model names it may call; empty = all"`
	Scopes     []string  `json:"scopes" doc:"Permissions it may use of those its owner holds"`
	Prefix     string    `json:"prefix"`
	Last4      string    `json:"last4"`
	State      KeyStatus `json:"state" enum:"active,expired,revoked,suspended"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	Rev        int64     `json:"rev"`

	tenantID, hash string
	revokedAt      time.Time
	ownerActive    bool // user and tenant active, still a member
	ownerRole      Role
	deleted        bool
}

// NewKey is what a key is made from.
type NewKey struct {
	Name      string    `json:"name" maxLength:"100"`
	Models    []string  `json:"models,omitempty" maxItems:"200"`
	Scopes    []string  `json:"scopes,omitempty" maxItems:"100" doc:"Default: call and list models. \"all\" = everything its owner may do"`
	ExpiresAt time.Time `json:"expires_at,omitempty" format:"date-time" required:"false"`
}

// KeyPatch changes a key; nil leaves a part as it is. A zero expiry means never.
type KeyPatch struct {
	Name      *string    `json:"name,omitempty" maxLength:"100"`
	Models    *[]string  `json:"models,omitempty" maxItems:"200"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// MadeKey is a new key with its text: the only time it is shown.
type MadeKey struct {
	Key
	Secret string `json:"secret" doc:"Shown once. Keep it like a password"`
}

// newKey makes a key and its text.
func newKey(n NewKey, id string, owner User, now time.Time) (Key, string, error) {
	text := newKeyText()
	h := hashText(text)
	k := Key{
		ID: id, Name: n.Name, Owner: KeyOwner{owner.ID, owner.Email}, Models: n.Models, Scopes: n.Scopes, Prefix: text[:keyShown], Last4: text[len(text)-keyLast:],
		ExpiresAt: n.ExpiresAt.UTC(), CreatedAt: now, UpdatedAt: now, Rev: 1, tenantID: owner.Tenant.ID, hash: hex.EncodeToString(h[:]), ownerActive: true, ownerRole: owner.Role,
	}
	if len(k.Scopes) == 0 {
		k.Scopes = slices.Clone(keyDefault)
	}
	if n.ExpiresAt.IsZero() {
		k.ExpiresAt = time.Time{}
	}
	if err := k.validate(now); err != nil {
		return Key{}, "", err
	}
	k.State = k.status(now)
	return k, text, nil
}

func (k *Key) validate(now time.Time) error {
	var f []fault.Field
	k.Name = strings.TrimSpace(k.Name)
	if n := utf8.RuneCountInString(k.Name); n == 0 || n > keyNameMost || strings.ContainsFunc(k.Name, func(r rune) bool { return r < ' ' }) {
		f = append(f, fault.Field{Name: "body.name", Code: "pattern", Message: "must be one line of 1 to 100 characters", Limit: keyNameMost})
	}
	if k.Models == nil {
		k.Models = []string{}
	}
	if len(k.Models) > keyModelsMost {
		f = append(f, fault.Field{Name: "body.models", Code: "too_long", Message: "must name at most 200 models", Limit: keyModelsMost})
	}
	for _, m := range k.Models {
		if m == "" || len(m) > 256 || strings.ContainsFunc(m, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
			f = append(f, fault.Field{Name: "body.models", Code: "format", Message: "must hold model names"})
			break
		}
	}
	for _, s := range k.Scopes {
		if s != "all" && !Known(s) {
			f = append(f, fault.Field{Name: "body.scopes", Code: "not_in_list", Message: "must hold permissions, or \"all\""})
			break
		}
	}
	if !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now) {
		f = append(f, fault.Field{Name: "body.expires_at", Code: "out_of_range", Message: "must lie in the future"})
	}
	if len(f) > 0 {
		return ErrKeyFields.WithFields(f...)
	}
	return nil
}

// apply puts a patch on a key that is not revoked.
func (k *Key) apply(p KeyPatch, now time.Time) error {
	if !k.revokedAt.IsZero() {
		return ErrKeyClosed
	}
	if p.Name != nil {
		k.Name = *p.Name
	}
	if p.Models != nil {
		k.Models = *p.Models
	}
	if p.ExpiresAt != nil {
		k.ExpiresAt = time.Time{}
		if !p.ExpiresAt.IsZero() {
			k.ExpiresAt = p.ExpiresAt.UTC()
		}
	}
	k.UpdatedAt = now
	if err := k.validate(now); err != nil {
		return err
	}
	k.State = k.status(now)
	return nil
}

// revoke ends the key for good. Again is no error.
func (k *Key) revoke(now time.Time) {
	if k.revokedAt.IsZero() {
		k.revokedAt, k.UpdatedAt = now, now
	}
	k.State = k.status(now)
}

func (k *Key) status(now time.Time) KeyStatus {
	switch {
	case !k.revokedAt.IsZero() || k.deleted:
		return KeyRevoked
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return KeyExpired
	case !k.ownerActive:
		return KeySuspended
	}
	return KeyActive
}
