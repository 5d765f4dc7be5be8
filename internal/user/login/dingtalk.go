package login

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// DingTalk speaks OAuth 2 with JSON bodies, and takes the token in a header of its own.
type DingTalk struct {
	Login        string   `yaml:"login" doc:"Where people sign in."`
	API          string   `yaml:"api" doc:"Address of the open platform."`
	ClientID     string   `yaml:"client_id" doc:"AppKey of this installation; empty = off."`
	ClientSecret string   `yaml:"client_secret" secret:"true" doc:"AppSecret of this installation."`
	LinkDomains  []string `yaml:"link_domains" doc:"Not used by DingTalk, which proves no addresses: people link while signed in."`
}

func (c DingTalk) client() registered { return registered{c.ClientID, c.ClientSecret, nil} }

type dingtalk struct {
	c   DingTalk
	web *caller
}

// AuthURL implements Provider.
func (p *dingtalk) AuthURL(_ context.Context, f Flow) (string, error) {
	q := url.Values{"client_id": {p.c.ClientID}, "redirect_uri": {f.Redirect}, "response_type": {"code"}, "scope": {"openid"}, "prompt": {"consent"}, "state": {f.State}}
	return strings.TrimRight(p.c.Login, "/") + "/oauth2/auth?" + q.Encode(), nil
}

// Exchange implements Provider. The code comes as authCode; the address is what the person typed and counts for nothing.
func (p *dingtalk) Exchange(ctx context.Context, _ Flow, back url.Values) (Person, error) {
	name := "authCode"
	if back.Get(name) == "" {
		name = "code"
	}
	code, err := came(back, name)
	if err != nil {
		return Person{}, err
	}
	api := strings.TrimRight(p.c.API, "/")
	var tok struct {
		AccessToken string `json:"accessToken"`
		Code        string `json:"code"`
	}
	err = p.web.ask(ctx, "POST", api+"/v1.0/oauth2/userAccessToken", nil, map[string]string{"clientId": p.c.ClientID, "clientSecret": p.c.ClientSecret, "code": code, "grantType": "authorization_code"}, &tok)
	if err != nil {
		return Person{}, err
	}
	if tok.AccessToken == "" {
		return Person{}, ErrDenied.Wrap(fmt.Errorf("the provider refuses the code: %.100q", tok.Code))
	}
	var me struct {
		Nick    string `json:"nick"`
		UnionID string `json:"unionId"`
		Picture string `json:"avatarUrl"`
		Email   string `json:"email"`
		Code    string `json:"code"`
	}
	if err := p.web.ask(ctx, "GET", api+"/v1.0/contact/users/me", map[string]string{"x-acs-dingtalk-access-token": tok.AccessToken}, nil, &me); err != nil {
		return Person{}, err
	}
	if me.UnionID == "" {
		return Person{}, ErrAway.Wrap(fmt.Errorf("the provider names nobody: %.100q", me.Code))
	}
	return Person{Issuer: api, Subject: me.UnionID, Email: me.Email, Name: me.Nick, Picture: me.Picture, Locale: "zh"}, nil
}
