package user

import (
	"encoding/hex"
	"net/netip"
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

// KeyOwner is the account that a key acts for.
type KeyOwner struct {
	ID    string `json:"id"`
	Email string `json:"email" doc:"Address of a person, name of a service account"`
	Kind  string `json:"kind" enum:"person,service"`
}

// KeyLimits bound what one key may ask for; 0 = no limit of its own. The gateway enforces them.
type KeyLimits struct {
	RequestsPerMinute int64 `json:"requests_per_minute,omitempty" minimum:"0"`
	TokensPerMinute   int64 `json:"tokens_per_minute,omitempty" minimum:"0"`
	Concurrent        int64 `json:"concurrent,omitempty" minimum:"0"`
}

// KeyFilter narrows the list of keys.
type KeyFilter struct {
	Owner, Project string
	Limit          int
	After          string
}

// Key is an API key without its text.
type Key struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Owner      KeyOwner  `json:"owner"`
	Models     []string  `json:"models" doc:"Public model names it may call; empty = all"`
	Scopes     []string  `json:"scopes" doc:"Permissions it may use of those its owner holds"`
	IPAllow    []string  `json:"ip_allow" doc:"Addresses and CIDR blocks it may be used from; empty = all"`
	Limits     KeyLimits `json:"limits"`
	ProjectID  string    `json:"project_id,omitempty" doc:"Project that its usage is counted on; without one the caller chooses"`
	Project    string    `json:"project,omitempty" doc:"Short name of that project"`
	Strict     bool      `json:"strict" doc:"Reserve the most that a call can cost, so that budgets are never overspent"`
	Prefix     string    `json:"prefix"`
	Last4      string    `json:"last4"`
	State      KeyStatus `json:"state" enum:"active,expired,revoked,suspended"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	RotatesAt  time.Time `json:"rotates_at,omitzero" doc:"Until then the secret from before the last rotation works too"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	Rev        int64     `json:"rev"`

	tenantID, hash string
	revokedAt      time.Time
	ownerActive    bool // user and tenant active, still a member
	ownerRole      Role
	ownerPerms     []string // of a custom role
	deleted        bool
}

// NewKey is what a key is made from.
type NewKey struct {
	Name      string    `json:"name" maxLength:"100"`
	Models    []string  `json:"models,omitempty" maxItems:"200"`
	Scopes    []string  `json:"scopes,omitempty" maxItems:"100" doc:"Default: call and list models. \"all\" = everything its owner may do"`
	IPAllow   []string  `json:"ip_allow,omitempty" maxItems:"100"`
	Limits    KeyLimits `json:"limits,omitempty"`
	Project   string    `json:"project_id,omitempty" maxLength:"100" doc:"Id or short name of a project"`
	Service   string    `json:"service_account_id,omitempty" maxLength:"100" doc:"Id of a service account that owns the key"`
	Strict    bool      `json:"strict,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitempty" format:"date-time" required:"false"`
}

// KeyPatch changes a key; nil leaves a part as it is. A zero expiry means never.
type KeyPatch struct {
	Name      *string    `json:"name,omitempty" maxLength:"100"`
	Models    *[]string  `json:"models,omitempty" maxItems:"200"`
	Scopes    *[]string  `json:"scopes,omitempty" maxItems:"100"`
	IPAllow   *[]string  `json:"ip_allow,omitempty" maxItems:"100"`
	Limits    *KeyLimits `json:"limits,omitempty"`
	Project   *string    `json:"project_id,omitempty" maxLength:"100" doc:"Id or short name of a project; empty = none"`
	Strict    *bool      `json:"strict,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// MadeKey is a new key with its text: the only time it is shown.
type MadeKey struct {
	Key
	Secret string `json:"secret" doc:"Shown once. Keep it like a password"`
}

// renew gives the key a new text and returns it.
func (k *Key) renew(now time.Time) string {
	text := newKeyText()
	h := hashText(text)
	k.Prefix, k.Last4, k.hash, k.UpdatedAt = text[:keyShown], text[len(text)-keyLast:], hex.EncodeToString(h[:]), now
	return text
}

// newKey makes a key and its text.
func newKey(n NewKey, id string, owner User, now time.Time) (Key, string, error) {
	k := Key{
		ID: id, Name: n.Name, Owner: KeyOwner{owner.ID, owner.Email, owner.kind()}, Models: n.Models, Scopes: n.Scopes, IPAllow: n.IPAllow, Limits: n.Limits, Strict: n.Strict,
		ExpiresAt: n.ExpiresAt.UTC(), CreatedAt: now, UpdatedAt: now, Rev: 1, tenantID: owner.Tenant.ID, ownerActive: true, ownerRole: owner.Role, ownerPerms: owner.rolePerms,
	}
	text := k.renew(now)
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
	f = append(f, k.checkIPs()...)
	if k.Limits.RequestsPerMinute < 0 || k.Limits.TokensPerMinute < 0 || k.Limits.Concurrent < 0 {
		f = append(f, fault.Field{Name: "body.limits", Code: "out_of_range", Message: "must not be negative; 0 = no limit"})
	}
	if !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now) {
		f = append(f, fault.Field{Name: "body.expires_at", Code: "out_of_range", Message: "must lie in the future"})
	}
	if len(f) > 0 {
		return ErrKeyFields.WithFields(f...)
	}
	return nil
}

// checkIPs brings the addresses into their canonical form.
func (k *Key) checkIPs() []fault.Field {
	list := []string{}
	for _, text := range k.IPAllow {
		n, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			a, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil || a.Zone() != "" {
				return []fault.Field{{Name: "body.ip_allow", Code: "format", Message: "must hold addresses and CIDR blocks such as 10.0.0.0/8"}}
			}
			n = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
		list = append(list, n.Masked().String())
	}
	k.IPAllow = list
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
	if p.Scopes != nil {
		k.Scopes = *p.Scopes
	}
	if p.IPAllow != nil {
		k.IPAllow = *p.IPAllow
	}
	if p.Limits != nil {
		k.Limits = *p.Limits
	}
	if p.Strict != nil {
		k.Strict = *p.Strict
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

// show brings the state up to now; a rotation whose overlap is over is no news.
func (k *Key) show(now time.Time) {
	k.State = k.status(now)
	if !k.RotatesAt.After(now) {
		k.RotatesAt = time.Time{}
	}
}
