package login

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"
)

// WeCom (WeChat Work) has tokens of the application, not of a person: with one, a code names a member of the company.
type WeCom struct {
	Login        string   `yaml:"login" doc:"Where people sign in."`
	API          string   `yaml:"api" doc:"Address of the API."`
	ClientID     string   `yaml:"client_id" doc:"CorpID of the company; empty = off."`
	AgentID      string   `yaml:"agent_id" doc:"AgentId of the application."`
	ClientSecret string   `yaml:"client_secret" secret:"true" doc:"Secret of the application."`
	LinkDomains  []string `yaml:"link_domains" doc:"Not used by WeCom, which tells no addresses: people link while signed in."`
}

func (c WeCom) client() registered { return registered{c.ClientID, c.ClientSecret, nil} }

type wecom struct {
	c   WeCom
	web *caller

	mu      sync.Mutex // guards token, expires
	token   string
	expires time.Time
}

// AuthURL implements Provider.
func (p *wecom) AuthURL(_ context.Context, f Flow) (string, error) {
	q := url.Values{"login_type": {"CorpApp"}, "appid": {p.c.ClientID}, "agentid": {p.c.AgentID}, "redirect_uri": {f.Redirect}, "state": {f.State}}
	return strings.TrimRight(p.c.Login, "/") + "/wwlogin/sso/login?" + q.Encode(), nil
}

// wecomOK is the part of every answer that says whether it is one.
type wecomOK struct {
	Code int    `json:"errcode"`
	Msg  string `json:"errmsg"`
}

func (w wecomOK) err() error { return fmt.Errorf("errcode %d: %.100q", w.Code, w.Msg) }

// tokenGone are the codes that say that the application's token does not hold (any more).
func (w wecomOK) tokenGone() bool { return w.Code == 40014 || w.Code == 42001 }

// Exchange implements Provider. The subject is company and member.
func (p *wecom) Exchange(ctx context.Context, _ Flow, back url.Values) (Person, error) {
	code, err := came(back, "code")
	if err != nil {
		return Person{}, err
	}
	var who struct {
		wecomOK
		UserID string `json:"userid"`
	}
	if err := p.call(ctx, "/cgi-bin/auth/getuserinfo", "code", code, &who, &who.wecomOK); err != nil {
		return Person{}, err
	}
	if who.Code != 0 || who.UserID == "" { // somebody outside the company has an openid instead
		return Person{}, ErrDenied.Wrap(who.err())
	}
	person := Person{Issuer: strings.TrimRight(p.c.API, "/"), Subject: p.c.ClientID + ":" + who.UserID, Name: who.UserID, Locale: "zh"}
	var member struct {
		wecomOK
		Name string `json:"name"`
	}
	// The name is a nicety: an application without the right to read members signs people in as well.
	if err := p.call(ctx, "/cgi-bin/user/get", "userid", who.UserID, &member, &member.wecomOK); err == nil && member.Code == 0 && member.Name != "" {
		person.Name = member.Name
	}
	return person, nil
}

// call asks with the application's token, with a new one where it does not hold any more.
func (p *wecom) call(ctx context.Context, path, name, value string, out any, ok *wecomOK) error {
	for again := false; ; again = true {
		token, err := p.appToken(ctx, again)
		if err != nil {
			return err
		}
		q := url.Values{"access_token": {token}, name: {value}}
		if err := p.web.ask(ctx, "GET", strings.TrimRight(p.c.API, "/")+path+"?"+q.Encode(), nil, nil, out); err != nil {
			return err
		}
		if !ok.tokenGone() || again {
			return nil
		}
	}
}

// appToken returns the application's token; anew asks for another one.
func (p *wecom) appToken(ctx context.Context, anew bool) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !anew && p.token != "" && p.web.now().Before(p.expires) {
		return p.token, nil
	}
	var t struct {
		wecomOK
		Token   string `json:"access_token"`
		Expires int64  `json:"expires_in"`
	}
	q := url.Values{"corpid": {p.c.ClientID}, "corpsecret": {p.c.ClientSecret}}
	if err := p.web.ask(ctx, "GET", strings.TrimRight(p.c.API, "/")+"/cgi-bin/gettoken?"+q.Encode(), nil, nil, &t); err != nil {
		return "", err
	}
	if t.Code != 0 || t.Token == "" {
		return "", ErrAway.Wrap(t.err())
	}
	p.token, p.expires = t.Token, p.web.now().Add(time.Duration(t.Expires)*time.Second*9/10)
	return p.token, nil
}
