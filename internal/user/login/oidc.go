package login

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// OIDC is any OpenID Connect issuer: Keycloak, Authentik, Dex, Entra ID, ...
type OIDC struct {
	Name         string   `yaml:"name" doc:"Words on the button."`
	Issuer       string   `yaml:"issuer" doc:"Address of the issuer, exactly as its tokens name it."`
	ClientID     string   `yaml:"client_id" doc:"Id of this installation at the issuer; empty = off."`
	ClientSecret string   `yaml:"client_secret" secret:"true" doc:"Secret of this installation at the issuer; empty = a public client with PKCE alone."`
	Scopes       []string `yaml:"scopes" doc:"Scopes that are asked for; openid is always."`
	LinkDomains  []string `yaml:"link_domains" doc:"Mail domains that the issuer is trusted for: who comes back with a proven address of one is signed in to the account that has it. Empty = people link while signed in."`
}

func (c OIDC) client() registered { return registered{c.ClientID, c.ClientSecret, c.LinkDomains} }

func (c OIDC) provider(web *caller) Provider {
	return &connect{issuer: c.Issuer, id: c.ClientID, secret: c.ClientSecret, scopes: c.Scopes, web: web}
}

// connect speaks OpenID Connect Core 1.0 with the code flow, PKCE and a nonce. What the issuer publishes is asked for at the first use and again each hour.
type connect struct {
	issuer, id, secret string
	scopes             []string
	extra              map[string]string         // parameters of the authorization request
	check              func(claims claims) error // more to ask of a token; nil = nothing
	web                *caller

	mu    sync.Mutex // guards found, at
	found *oidc.Provider
	at    time.Time
	meta  metadata
}

// metadata is what the library does not read of the discovery document.
type metadata struct {
	IssInAnswer bool `json:"authorization_response_iss_parameter_supported"` // RFC 9207
}

// discoverEvery is how long a discovery document is believed. Keys are asked for again by themselves when an unknown one signs.
const discoverEvery = time.Hour

func (c *connect) discover(ctx context.Context) (*oidc.Provider, metadata, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found != nil && c.web.now().Sub(c.at) < discoverEvery {
		return c.found, c.meta, nil
	}
	p, err := oidc.NewProvider(c.web.with(ctx), c.issuer)
	if err != nil {
		return nil, metadata{}, ErrAway.Wrap(fmt.Errorf("discovery: %w", clean(err)))
	}
	var m metadata
	if err := p.Claims(&m); err != nil {
		return nil, metadata{}, ErrAway.Wrap(err)
	}
	c.found, c.meta, c.at = p, m, c.web.now()
	return p, m, nil
}

func (c *connect) config(p *oidc.Provider, redirect string) oauth2.Config {
	scopes := c.scopes
	if !slices.Contains(scopes, oidc.ScopeOpenID) {
		scopes = append([]string{oidc.ScopeOpenID}, scopes...)
	}
	return oauth2.Config{ClientID: c.id, ClientSecret: c.secret, Endpoint: p.Endpoint(), RedirectURL: redirect, Scopes: scopes}
}

// AuthURL implements Provider.
func (c *connect) AuthURL(ctx context.Context, f Flow) (string, error) {
	p, _, err := c.discover(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)}
	for k, v := range c.extra {
		options = append(options, oauth2.SetAuthURLParam(k, v))
	}
	conf := c.config(p, f.Redirect)
	return conf.AuthCodeURL(f.State, options...), nil
}

// claims of an id token or of the user info that are looked at.
type claims struct {
	Email           string `json:"email"`
	Verified        truth  `json:"email_verified"`
	Name            string `json:"name"`
	Given           string `json:"given_name"`
	Locale          string `json:"locale"`
	Picture         string `json:"picture"`
	AuthorizedParty string `json:"azp"`
	Hosted          string `json:"hd"`
}

// truth reads true and "true": some issuers send words.
type truth bool

// UnmarshalJSON implements json.Unmarshaler.
func (t *truth) UnmarshalJSON(b []byte) error {
	*t = truth(string(b) == "true" || string(b) == `"true"`)
	return nil
}

// Exchange implements Provider.
func (c *connect) Exchange(ctx context.Context, f Flow, back url.Values) (Person, error) {
	p, meta, err := c.discover(ctx)
	if err != nil {
		return Person{}, err
	}
	// RFC 9207: an answer that came from another issuer than the one we asked (mix-up).
	if iss := back.Get("iss"); iss != "" && iss != c.issuer || iss == "" && meta.IssInAnswer {
		return Person{}, ErrToken.Wrap(errors.New("the answer came from another issuer"))
	}
	code, err := came(back, "code")
	if err != nil {
		return Person{}, err
	}
	conf := c.config(p, f.Redirect)
	tok, err := conf.Exchange(c.web.with(ctx), code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return Person{}, exchanged(err)
	}
	raw, ok := tok.Extra("id_token").(string)
	if !ok {
		return Person{}, ErrToken.Wrap(errors.New("no id token came"))
	}
	id, cl, err := c.verify(ctx, p, f, raw, tok)
	if err != nil {
		return Person{}, err
	}
	if cl.Email == "" || cl.Name == "" {
		cl = c.userInfo(ctx, p, tok, id.Subject, cl)
	}
	if c.check != nil {
		if err := c.check(cl); err != nil {
			return Person{}, err
		}
	}
	person := Person{Issuer: id.Issuer, Subject: id.Subject, Email: cl.Email, EmailVerified: bool(cl.Verified), Name: cl.Given, Locale: cl.Locale, Picture: cl.Picture}
	if person.Name == "" {
		person.Name = cl.Name
	}
	return person, nil
}

// verify checks an id token: signature by a published key with an asymmetric method, issuer, audience, authorized party, expiry, nonce, and that it belongs to the access token.
func (c *connect) verify(ctx context.Context, p *oidc.Provider, f Flow, raw string, tok *oauth2.Token) (*oidc.IDToken, claims, error) {
	id, err := p.VerifierContext(c.web.with(ctx), &oidc.Config{ClientID: c.id, Now: c.web.now}).Verify(c.web.with(ctx), raw)
	if err != nil {
		return nil, claims{}, ErrToken.Wrap(clean(err))
	}
	var cl claims
	if err := id.Claims(&cl); err != nil {
		return nil, claims{}, ErrToken.Wrap(err)
	}
	switch {
	case f.Nonce == "" || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1:
		err = errors.New("the nonce is another one")
	case len(id.Audience) > 1 && cl.AuthorizedParty == "", cl.AuthorizedParty != "" && cl.AuthorizedParty != c.id:
		err = errors.New("the token was made for another application")
	case id.Subject == "" || len(id.Subject) > 255:
		err = errors.New("the token names nobody")
	case id.AccessTokenHash != "":
		err = id.VerifyAccessToken(tok.AccessToken)
	}
	if err != nil {
		return nil, claims{}, ErrToken.Wrap(err)
	}
	return id, cl, nil
}

// userInfo fills what the id token does not say. An answer about somebody else, or none, changes nothing.
func (c *connect) userInfo(ctx context.Context, p *oidc.Provider, tok *oauth2.Token, subject string, cl claims) claims {
	info, err := p.UserInfo(c.web.with(ctx), oauth2.StaticTokenSource(tok))
	if err != nil || info.Subject != subject {
		return cl
	}
	var more claims
	if info.Claims(&more) != nil {
		return cl
	}
	if cl.Email == "" {
		cl.Email, cl.Verified = more.Email, more.Verified
	}
	if cl.Name == "" {
		cl.Name, cl.Given = more.Name, more.Given
	}
	return cl
}

// exchanged says why a code was not taken.
func exchanged(err error) error {
	var e *oauth2.RetrieveError
	if errors.As(err, &e) {
		if e.ErrorCode == "" && !json.Valid(e.Body) || e.Response != nil && e.Response.StatusCode >= 500 {
			return ErrAway.Wrap(fmt.Errorf("the token endpoint answers %s", strings.TrimSpace(e.Response.Status)))
		}
		return ErrDenied.Wrap(fmt.Errorf("the provider refuses the code: %.100q", e.ErrorCode))
	}
	return ErrAway.Wrap(clean(err))
}
