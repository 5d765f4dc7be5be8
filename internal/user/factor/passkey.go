package factor

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// RelyingParty is this installation as passkeys know it: its host name. A passkey works at the address it was made for only, which is what protects it from imitations of the site.
type RelyingParty struct{ w *webauthn.WebAuthn }

// NewRelyingParty makes the relying party of a public address.
func NewRelyingParty(address, name string) (*RelyingParty, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the public address has no host")
	}
	w, err := webauthn.New(&webauthn.Config{RPID: u.Hostname(), RPDisplayName: name, RPOrigins: []string{u.Scheme + "://" + u.Host}, AttestationPreference: protocol.PreferNoAttestation})
	if err != nil {
		return nil, err
	}
	return &RelyingParty{w}, nil
}

// Account is who a ceremony is for.
type Account struct {
	Handle string // stable, not personal; at most 64 bytes
	Name   string
	Show   string
	Keys   [][]byte // records of the passkeys that the account has
}

// Passkey is a credential with its record.
type Passkey struct {
	ID       string // base64url
	Record   []byte // JSON
	Count    uint32
	BackedUp bool
	Verified bool // the person was verified by the device: PIN, finger, face
	Cloned   bool // the counter went backwards: there may be a copy
}

type person struct {
	a    Account
	keys []webauthn.Credential
}

func (p person) WebAuthnID() []byte                         { return []byte(p.a.Handle) }
func (p person) WebAuthnName() string                       { return p.a.Name }
func (p person) WebAuthnDisplayName() string                { return p.a.Show }
func (p person) WebAuthnCredentials() []webauthn.Credential { return p.keys }

func (a Account) person() (person, error) {
	p := person{a: a}
	for _, r := range a.Keys {
		var c webauthn.Credential
		if err := json.Unmarshal(r, &c); err != nil {
			return p, err
		}
		p.keys = append(p.keys, c)
	}
	return p, nil
}

func passkey(c *webauthn.Credential) (Passkey, error) {
	record, err := json.Marshal(c)
	return Passkey{
		ID: base64.RawURLEncoding.EncodeToString(c.ID), Record: record, Count: c.Authenticator.SignCount, BackedUp: c.Flags.BackupState, Verified: c.Flags.UserVerified, Cloned: c.Authenticator.CloneWarning,
	}, err
}

// pair makes the two halves of a ceremony: options for the browser, and what is kept to check the answer.
func pair(options, session any) (json.RawMessage, []byte, error) {
	o, err := json.Marshal(options)
	if err != nil {
		return nil, nil, err
	}
	s, err := json.Marshal(session)
	return o, s, err
}

// BeginRegister starts making a passkey that can sign in by itself.
func (r *RelyingParty) BeginRegister(a Account) (options json.RawMessage, session []byte, err error) {
	p, err := a.person()
	if err != nil {
		return nil, nil, err
	}
	o, s, err := r.w.BeginRegistration(p, webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
		ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(), UserVerification: protocol.VerificationPreferred,
	}), webauthn.WithExclusions(webauthn.Credentials(p.keys).CredentialDescriptors()))
	if err != nil {
		return nil, nil, err
	}
	return pair(o, s)
}

// resume reads the first half of a ceremony for its second.
func (a Account) resume(session []byte) (p person, s webauthn.SessionData, err error) {
	if p, err = a.person(); err == nil {
		err = json.Unmarshal(session, &s)
	}
	return p, s, err
}

// FinishRegister checks what the browser made.
func (r *RelyingParty) FinishRegister(a Account, session, answer []byte) (Passkey, error) {
	p, s, err := a.resume(session)
	if err != nil {
		return Passkey{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return Passkey{}, err
	}
	c, err := r.w.CreateCredential(p, s, parsed)
	if err != nil {
		return Passkey{}, err
	}
	return passkey(c)
}

// BeginLogin starts a sign-in: with the keys of one account as its second factor, or, without an account, with any passkey alone; then the device must verify the person.
func (r *RelyingParty) BeginLogin(a *Account) (options json.RawMessage, session []byte, err error) {
	if a == nil {
		o, s, err := r.w.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
		if err != nil {
			return nil, nil, err
		}
		return pair(o, s)
	}
	p, err := a.person()
	if err != nil {
		return nil, nil, err
	}
	o, s, err := r.w.BeginLogin(p, webauthn.WithUserVerification(protocol.VerificationPreferred))
	if err != nil {
		return nil, nil, err
	}
	return pair(o, s)
}

// FinishLogin checks an assertion of one of the account's keys.
func (r *RelyingParty) FinishLogin(a Account, session, answer []byte) (Passkey, error) {
	p, s, err := a.resume(session)
	if err != nil {
		return Passkey{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Passkey{}, err
	}
	c, err := r.w.ValidateLogin(p, s, parsed)
	if err != nil {
		return Passkey{}, err
	}
	return passkey(c)
}

// FinishAlone checks an assertion that names its account itself; find returns the account of a handle.
func (r *RelyingParty) FinishAlone(session, answer []byte, find func(handle string) (Account, error)) (Passkey, string, error) {
	var s webauthn.SessionData
	if err := json.Unmarshal(session, &s); err != nil {
		return Passkey{}, "", err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Passkey{}, "", err
	}
	var who string
	_, c, err := r.w.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		a, err := find(string(handle))
		if err != nil {
			return nil, err
		}
		who = a.Handle
		return a.person()
	}, s, parsed)
	if err != nil {
		return Passkey{}, "", err
	}
	p, err := passkey(c)
	return p, who, err
}

// BackedUp reads from a record whether the passkey is kept by a password manager.
func BackedUp(record []byte) bool {
	var c webauthn.Credential
	return json.Unmarshal(record, &c) == nil && c.Flags.BackupState
}
