// Package logintest runs login providers on loopback for tests: an OpenID Connect issuer that checks what it is asked and can be told to lie, and services with the wire forms of GitHub, Feishu, DingTalk and
// WeCom. People agree at once: the authorization endpoint redirects back without a page.
package logintest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The client that every server knows.
const (
	ClientID     = "maas-test"
	ClientSecret = "s3cret-of-the-test"
)

// Issuer is an OpenID Connect provider.
type Issuer struct {
	URL string
	now func() time.Time

	mu     sync.Mutex // guards what follows
	who    map[string]any
	tamper func(t *jwt.Token)
	method string
	codes  map[string]grant
	issIn  bool
	keys   []*rsa.PrivateKey
	userin map[string]any
	noMail bool
}

type grant struct{ redirect, nonce, challenge string }

// NewIssuer starts an issuer. who are the claims about the person, sub among them.
func NewIssuer(t testing.TB, now func() time.Time, who map[string]any) *Issuer {
	t.Helper()
	i := &Issuer{now: now, who: who, codes: map[string]grant{}, method: "RS256"}
	i.NewKey(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("GET /keys", i.jwks)
	mux.HandleFunc("GET /userinfo", i.userinfo)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	i.URL = s.URL
	return i
}

func (i *Issuer) lock(f func()) { i.mu.Lock(); f(); i.mu.Unlock() }

// Who changes the person that signs in.
func (i *Issuer) Who(who map[string]any) { i.lock(func() { i.who = who }) }

// Tamper changes id tokens before they are signed; nil = honest again.
func (i *Issuer) Tamper(f func(t *jwt.Token)) { i.lock(func() { i.tamper = f }) }

// Sign chooses how id tokens are signed: RS256, none, HS256 (with the public key as the secret: the old confusion), foreign (RS256 by a key that is not published).
func (i *Issuer) Sign(method string) { i.lock(func() { i.method = method }) }

// IssInAnswer makes the issuer announce and send the parameter of RFC 9207.
func (i *Issuer) IssInAnswer() { i.lock(func() { i.issIn = true }) }

// UserInfo makes the issuer keep these claims out of id tokens and tell them at the user info endpoint.
func (i *Issuer) UserInfo(c map[string]any) { i.lock(func() { i.userin = c }) }

// NewKey signs with another key from now on.
func (i *Issuer) NewKey(t testing.TB) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.lock(func() { i.keys = append(i.keys, k) })
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a test that left
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	d := map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys", "userinfo_endpoint": i.URL + "/userinfo",
		"id_token_signing_alg_values_supported": []string{"RS256", "none", "HS256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
	}
	i.lock(func() { d["authorization_response_iss_parameter_supported"] = i.issIn })
	reply(w, http.StatusOK, d)
}

func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != ClientID || q.Get("response_type") != "code" || q.Get("state") == "" || q.Get("nonce") == "" || q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256" {
		http.Error(w, "bad request: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	code := Random()
	out := url.Values{"code": {code}, "state": {q.Get("state")}}
	i.lock(func() {
		i.codes[code] = grant{q.Get("redirect_uri"), q.Get("nonce"), q.Get("code_challenge")}
		if i.issIn {
			out.Set("iss", i.URL)
		}
	})
	back.RawQuery = out.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// token gives a code's tokens once, to the client that asked, with the verifier that belongs to the challenge.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	id, secret, ok := r.BasicAuth()
	if !ok {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if id != ClientID || secret != ClientSecret {
		reply(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	code := r.PostFormValue("code")
	i.mu.Lock()
	defer i.mu.Unlock()
	g, ok := i.codes[code]
	delete(i.codes, code)
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || r.PostFormValue("redirect_uri") != g.redirect || base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge {
		reply(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	access := Random()
	half := sha256.Sum256([]byte(access))
	c := jwt.MapClaims{"iss": i.URL, "aud": ClientID, "iat": i.now().Unix(), "exp": i.now().Add(5 * time.Minute).Unix(), "nonce": g.nonce, "at_hash": base64.RawURLEncoding.EncodeToString(half[:16])}
	maps.Copy(c, i.who)
	t := &jwt.Token{Header: map[string]any{"typ": "JWT", "alg": "RS256", "kid": i.kid(len(i.keys) - 1)}, Claims: c, Method: jwt.SigningMethodRS256}
	if i.tamper != nil {
		i.tamper(t)
	}
	text, err := i.sign(t)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reply(w, http.StatusOK, map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": text})
}

func (i *Issuer) kid(n int) string {
	h := sha256.Sum256(i.keys[n].N.Bytes())
	return hex.EncodeToString(h[:8])
}

func (i *Issuer) sign(t *jwt.Token) (string, error) {
	key := i.keys[len(i.keys)-1]
	switch i.method {
	case "none":
		t.Method, t.Header["alg"] = jwt.SigningMethodNone, "none"
		return t.SignedString(jwt.UnsafeAllowNoneSignatureType)
	case "HS256":
		t.Method, t.Header["alg"] = jwt.SigningMethodHS256, "HS256"
		return t.SignedString(key.N.Bytes())
	case "foreign":
		other, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return "", err
		}
		return t.SignedString(other)
	}
	return t.SignedString(key)
}

func (i *Issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	var keys []map[string]string
	i.lock(func() {
		for n, k := range i.keys {
			keys = append(keys, map[string]string{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": i.kid(n), "n": base64.RawURLEncoding.EncodeToString(k.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.E)).Bytes())})
		}
	})
	reply(w, http.StatusOK, map[string]any{"keys": keys})
}

func (i *Issuer) userinfo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	c := map[string]any{}
	i.lock(func() {
		c["sub"] = i.who["sub"]
		maps.Copy(c, i.userin)
	})
	reply(w, http.StatusOK, c)
}

// Random makes a text that nobody guesses.
func Random() string {
	var b [24]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Follow goes to a provider as a browser would and returns the query that it comes back with.
func Follow(t testing.TB, address string) url.Values {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("%s answers %d", address, resp.StatusCode)
	}
	return back.Query()
}
