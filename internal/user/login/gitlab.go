package login

// GitLab signs in by OpenID Connect: gitlab.com or one's own.
type GitLab struct {
	Issuer       string   `yaml:"issuer" doc:"Address of the GitLab."`
	ClientID     string   `yaml:"client_id" doc:"Id of this installation at GitLab; empty = off."`
	ClientSecret string   `yaml:"client_secret" secret:"true" doc:"Secret of this installation at GitLab."`
	LinkDomains  []string `yaml:"link_domains" doc:"Mail domains that this GitLab is trusted for: who comes back with a proven address of one is signed in to the account that has it. Empty = people link while signed in."`
}

func (c GitLab) client() registered { return registered{c.ClientID, c.ClientSecret, c.LinkDomains} }

func (c GitLab) provider(web *caller) Provider {
	return &connect{issuer: c.Issuer, id: c.ClientID, secret: c.ClientSecret, scopes: []string{"openid", "email", "profile"}, web: web}
}
