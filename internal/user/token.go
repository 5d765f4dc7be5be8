package user

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"maas/internal/platform/id"
)

// Claims of access tokens: fixed names, so that every process of an installation agrees.
const (
	issuer    = "maas"
	audience  = "maas"
	tokenType = "at+jwt" // RFC 9068
	leeway    = 30 * time.Second
)

// Rotation of signing keys.
const (
	signingLife    = 30 * 24 * time.Hour
	signingPublish = 24 * time.Hour         // how long `next` is known before it signs
	signingRetired = accessLife + time.Hour // how long a retired key is still published
)

// claims of an access token. Roles are not inside: they are looked up, so that a change acts at once.
type claims struct {
	jwt.RegisteredClaims
	SessionID string   `json:"sid"`
	TenantID  string   `json:"tid"`
	Methods   []string `json:"amr"`
	AuthTime  int64    `json:"auth_time"`
}

// signer is the private half that signs now.
type signer struct {
	kid     string
	private ed25519.PrivateKey
}

// access makes the access token of a session.
func (k *signer) access(s Session, now time.Time) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Subject: s.userID, Audience: jwt.ClaimStrings{audience}, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(accessLife)), ID: id.New("jti"),
		},
		SessionID: s.ID, TenantID: s.tenantID, Methods: s.methods, AuthTime: s.AuthAt.Unix(),
	})
	t.Header["typ"], t.Header["kid"] = tokenType, k.kid
	return t.SignedString(k.private)
}

// signingKey is a row of user_signing_key.
type signingKey struct {
	kid           string
	public        []byte
	privateSealed string
	state         string
	notBefore     time.Time
	retireAt      time.Time
}

// The states of signing keys, in the order of their life.
const (
	signNext    = "next"    // published, does not sign yet
	signActive  = "active"  // signs
	signRetired = "retired" // verifies what it signed until retireAt
)

// rotation says what is due for a set of keys: make a next key, promote it, drop retired ones. Pure, so that the calendar is tested without a database.
type rotation struct {
	makeNext bool
	promote  string   // kid of the next key that becomes active
	drop     []string // kids of retired keys past their time
}

func plan(keys []signingKey, now time.Time) rotation {
	var r rotation
	var active, next *signingKey
	for i := range keys {
		switch k := &keys[i]; k.state {
		case signActive:
			active = k
		case signNext:
			next = k
		case signRetired:
			if !now.Before(k.retireAt) {
				r.drop = append(r.drop, k.kid)
			}
		}
	}
	switch {
	case active == nil && next != nil:
		r.promote = next.kid
	case active == nil:
		r.makeNext = true // promoted in the next step: nobody waits for the first key
	case next == nil:
		r.makeNext = !now.Before(active.notBefore.Add(signingLife - signingPublish))
	case !now.Before(active.notBefore.Add(signingLife)) && !now.Before(next.notBefore.Add(signingPublish)):
		r.promote = next.kid
	}
	return r
}

// serveJWKS answers GET /.well-known/jwks.json (RFC 7517, RFC 8037).
func serveJWKS(w http.ResponseWriter, keys []PublicKey) {
	type jwk struct {
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		Use string `json:"use"`
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		X   string `json:"x"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{[]jwk{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, jwk{"OKP", "Ed25519", "sig", "EdDSA", k.Kid, base64.RawURLEncoding.EncodeToString(k.Public)})
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_ = json.NewEncoder(w).Encode(set) // the client is gone: nothing left to do
}
