package login

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
)

// Feishu (Lark) speaks OAuth 2 with JSON bodies and {code, msg, data} around its answers.
type Feishu struct {
	Accounts     string   `yaml:"accounts" doc:"Where people sign in; https://accounts.larksuite.com for Lark."`
	API          string   `yaml:"api" doc:"Address of the open platform; https://open.larksuite.com for Lark."`
	ClientID     string   `yaml:"client_id" doc:"App ID of this installation; empty = off."`
	ClientSecret string   `yaml:"client_secret" secret:"true" doc:"App Secret of this installation."`
	LinkDomains  []string `yaml:"link_domains" doc:"Mail domains whose enterprise addresses Feishu is trusted for: who comes back with one is signed in to the account that has it. Empty = people link while signed in."`
}

func (c Feishu) client() registered { return registered{c.ClientID, c.ClientSecret, c.LinkDomains} }

type feishu struct {
	c   Feishu
	web *caller
}

// AuthURL implements Provider.
func (p *feishu) AuthURL(_ context.Context, f Flow) (string, error) {
	q := url.Values{
		"client_id": {p.c.ClientID}, "redirect_uri": {f.Redirect}, "response_type": {"code"}, "state": {f.State},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(f.Verifier)}, "code_challenge_method": {"S256"},
	}
	return strings.TrimRight(p.c.Accounts, "/") + "/open-apis/authen/v1/authorize?" + q.Encode(), nil
}

// Exchange implements Provider. The subject is the union id: the same for all apps of one developer.
func (p *feishu) Exchange(ctx context.Context, f Flow, back url.Values) (Person, error) {
	code, err := came(back, "code")
	if err != nil {
		return Person{}, err
	}
	api := strings.TrimRight(p.c.API, "/")
	var tok struct {
		Code        int    `json:"code"`
		Error       string `json:"error"`
		AccessToken string `json:"access_token"`
	}
	err = p.web.ask(ctx, "POST", api+"/open-apis/authen/v2/oauth/token", nil, map[string]string{
		"grant_type": "authorization_code", "client_id": p.c.ClientID, "client_secret": p.c.ClientSecret, "code": code, "redirect_uri": f.Redirect, "code_verifier": f.Verifier,
	}, &tok)
	if err != nil {
		return Person{}, err
	}
	if tok.Code != 0 || tok.AccessToken == "" {
		return Person{}, ErrDenied.Wrap(fmt.Errorf("the provider refuses the code: %d %.100q", tok.Code, tok.Error))
	}
	var me struct {
		Code int    `json:"code"`
		Msg  string `json:"msg"`
		Data struct {
			Name       string `json:"name"`
			UnionID    string `json:"union_id"`
			Enterprise string `json:"enterprise_email"`
			Picture    string `json:"avatar_url"`
		} `json:"data"`
	}
	if err := p.web.ask(ctx, "GET", api+"/open-apis/authen/v1/user_info", map[string]string{"Authorization": "Bearer " + tok.AccessToken}, nil, &me); err != nil {
		return Person{}, err
	}
	if me.Code != 0 || me.Data.UnionID == "" {
		return Person{}, ErrAway.Wrap(fmt.Errorf("the provider names nobody: %d %.100q", me.Code, me.Msg))
	}
	// Only the enterprise address is the company's; the other one is what the person typed.
	return Person{Issuer: api, Subject: me.Data.UnionID, Email: me.Data.Enterprise, EmailVerified: me.Data.Enterprise != "", Name: me.Data.Name, Picture: me.Data.Picture, Locale: "zh"}, nil
}
