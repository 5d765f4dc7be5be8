package login

import "errors"

// Google signs in by OpenID Connect.
type Google struct {
	Issuer       string   `yaml:"issuer" doc:"Address of the issuer."`
	ClientID     string   `yaml:"client_id" doc:"Id of this installation at Google; empty = off."`
	ClientSecret string   `yaml:"client_secret" secret:"true" doc:"Secret of this installation at Google."`
	HostedDomain string   `yaml:"hosted_domain" doc:"Google Workspace domain that people must belong to; empty = every Google account."`
	LinkDomains  []string `yaml:"link_domains" doc:"Mail domains that Google is trusted for: who comes back with a proven address of one is signed in to the account that has it. Empty = people link while signed in."`
}

func (c Google) client() registered { return registered{c.ClientID, c.ClientSecret, c.LinkDomains} }

func (c Google) provider(web *caller) Provider {
	p := &connect{issuer: c.Issuer, id: c.ClientID, secret: c.ClientSecret, scopes: []string{"openid", "email", "profile"}, web: web}
	if c.HostedDomain != "" {
		p.extra = map[string]string{"hd": c.HostedDomain}
		p.check = func(cl claims) error { // the parameter is a wish only: the claim decides
			if cl.Hosted != c.HostedDomain {
				return ErrDenied.Wrap(errors.New("the account is of another domain"))
			}
			return nil
		}
	}
	return p
}
