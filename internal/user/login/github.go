package login

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/oauth2"
)

// GitHub is github.com or a GitHub Enterprise Server. It speaks OAuth 2 without id tokens: who somebody is comes from its API.
type GitHub struct {
	URL          string   `yaml:"url" doc:"Address of the GitHub."`
	API          string   `yaml:"api" doc:"Address of its API; https://HOST/api/v3 for a server of one's own."`
	ClientID     string   `yaml:"client_id" doc:"Id of this installation at GitHub; empty = off."`
	ClientSecret string   `yaml:"client_secret" secret:"true" doc:"Secret of this installation at GitHub."`
	LinkDomains  []string `yaml:"link_domains" doc:"Mail domains that GitHub is trusted for: who comes back with a proven address of one is signed in to the account that has it. Empty = people link while signed in."`
}

func (c GitHub) client() registered { return registered{c.ClientID, c.ClientSecret, c.LinkDomains} }

type github struct {
	c   GitHub
	web *caller
}

func (g *github) config(redirect string) oauth2.Config {
	base := strings.TrimRight(g.c.URL, "/")
	return oauth2.Config{
		ClientID: g.c.ClientID, ClientSecret: g.c.ClientSecret, RedirectURL: redirect, Scopes: []string{"read:user", "user:email"},
		Endpoint: oauth2.Endpoint{AuthURL: base + "/login/oauth/authorize", TokenURL: base + "/login/oauth/access_token", AuthStyle: oauth2.AuthStyleInParams},
	}
}

// AuthURL implements Provider.
func (g *github) AuthURL(_ context.Context, f Flow) (string, error) {
	conf := g.config(f.Redirect)
	return conf.AuthCodeURL(f.State, oauth2.S256ChallengeOption(f.Verifier)), nil
}

// Exchange implements Provider. Errors come with status 200, as {"error": ..}: the library looks for them.
func (g *github) Exchange(ctx context.Context, f Flow, back url.Values) (Person, error) {
	code, err := came(back, "code")
	if err != nil {
		return Person{}, err
	}
	conf := g.config(f.Redirect)
	tok, err := conf.Exchange(g.web.with(ctx), code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return Person{}, exchanged(err)
	}
	api := strings.TrimRight(g.c.API, "/")
	header := map[string]string{"Authorization": "Bearer " + tok.AccessToken, "Accept": "application/vnd.github+json"}
	var me struct {
		ID      int64  `json:"id"`
		Login   string `json:"login"`
		Name    string `json:"name"`
		Picture string `json:"avatar_url"`
	}
	if err := g.web.ask(ctx, "GET", api+"/user", header, nil, &me); err != nil {
		return Person{}, err
	}
	if me.ID == 0 {
		return Person{}, ErrAway.Wrap(errors.New("the API names nobody"))
	}
	p := Person{Issuer: strings.TrimRight(g.c.URL, "/"), Subject: strconv.FormatInt(me.ID, 10), Name: me.Name, Picture: me.Picture}
	if p.Name == "" {
		p.Name = me.Login
	}
	var mails []struct {
		Email    string `json:"email"`
		Primary  bool   `json:"primary"`
		Verified bool   `json:"verified"`
	}
	if err := g.web.ask(ctx, "GET", api+"/user/emails", header, nil, &mails); err != nil {
		return Person{}, err
	}
	for _, m := range mails {
		if m.Primary && m.Verified {
			p.Email, p.EmailVerified = m.Email, true
		}
	}
	return p, nil
}
