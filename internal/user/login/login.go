// Package login signs people in at other providers: OpenID Connect issuers, and the OAuth 2 services that have a shape of their own. One file a provider. It knows no accounts: it starts a flow and says who
// came back from it.
//
// What the caller holds for a flow (state, nonce, PKCE verifier) is bound to one browser and used once; comparing the state is the caller's.
package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"maas/internal/platform/clock"
	"maas/internal/platform/fault"
	"maas/internal/platform/netguard"
)

// Errors of this package.
var (
	ErrConfig  = fault.New(fault.Invalid, "login.config", "the settings of a login provider cannot be used")
	ErrUnknown = fault.New(fault.NotFound, "login.unknown_provider", "there is no such login provider")
	ErrDenied  = fault.New(fault.Forbidden, "login.denied", "the provider did not sign you in")
	ErrToken   = fault.New(fault.Forbidden, "login.bad_token", "what the provider says about you cannot be trusted")
	ErrAway    = fault.New(fault.Upstream, "login.provider_away", "the login provider does not answer as it should")
)

// Flow is one attempt to sign in.
type Flow struct {
	State    string
	Nonce    string
	Verifier string // of PKCE, RFC 7636
	Redirect string // exact address that the provider sends people back to
}

// Person is who the provider says came back.
type Person struct {
	Issuer        string
	Subject       string // stable at the issuer
	Email         string
	EmailVerified bool // the provider vouches for the address
	Name          string
	Locale        string
	Picture       string
}

// Provider signs people in. Safe for concurrent use.
type Provider interface {
	// AuthURL is where the browser goes. ErrAway if the provider has to be asked and does not answer.
	AuthURL(ctx context.Context, f Flow) (string, error)
	// Exchange turns what the browser brought back (the query of the redirect) into a person. ErrDenied, ErrToken, ErrAway.
	Exchange(ctx context.Context, f Flow, back url.Values) (Person, error)
}

// Config of all providers. One is on when it has a client id.
type Config struct {
	OIDC     OIDC     `yaml:"oidc"`
	Google   Google   `yaml:"google"`
	GitLab   GitLab   `yaml:"gitlab"`
	GitHub   GitHub   `yaml:"github"`
	Feishu   Feishu   `yaml:"feishu"`
	DingTalk DingTalk `yaml:"dingtalk"`
	WeCom    WeCom    `yaml:"wecom"`
}

// registered is what every provider gives out when an application is registered with it.
type registered struct {
	id, secret  string
	linkDomains []string
}

// Defaults returns the settings without any provider.
func Defaults() Config {
	return Config{
		OIDC: OIDC{Name: "Single sign-on", Scopes: []string{"openid", "email", "profile"}}, Google: Google{Issuer: "https://accounts.google.com"}, GitLab: GitLab{Issuer: "https://gitlab.com"},
		GitHub: GitHub{URL: "https://github.com", API: "https://api.github.com"}, Feishu: Feishu{Accounts: "https://accounts.feishu.cn", API: "https://open.feishu.cn"},
		DingTalk: DingTalk{Login: "https://login.dingtalk.com", API: "https://api.dingtalk.com"}, WeCom: WeCom{Login: "https://login.work.weixin.qq.com", API: "https://qyapi.weixin.qq.com"},
	}
}

// Entry is a provider that is on.
type Entry struct {
	Provider
	ID   string // in paths
	Kind string // oidc or oauth2
	Name string // on buttons

	linkDomains []string
}

// Trusted reports whether a proven address of this provider may sign in to the account that has the address.
func (e Entry) Trusted(email string) bool {
	_, domain, _ := strings.Cut(strings.ToLower(email), "@")
	return domain != "" && slices.ContainsFunc(e.linkDomains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// Set holds the providers that are on, in the order of their buttons.
type Set struct{ list []Entry }

// New makes the providers of a configuration. ErrConfig names all that is wrong.
func New(c Config, now clock.Clock) (*Set, error) {
	var s Set
	var f []fault.Field
	web := &caller{client: client(), now: now}
	add := func(id, kind, name string, cl registered, needs map[string]string, p Provider) {
		if cl.id == "" {
			return
		}
		for key, value := range needs {
			if value == "" {
				f = append(f, fault.Field{Name: "user.login." + id + "." + key, Code: "required", Message: "is needed for this provider"})
			}
			if u, err := url.Parse(value); value != "" && (key == "issuer" || key == "url" || key == "api" || key == "login" || key == "accounts") && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
				f = append(f, fault.Field{Name: "user.login." + id + "." + key, Code: "format", Message: "must be an address such as https://login.example.com"})
			}
		}
		s.list = append(s.list, Entry{Provider: p, ID: id, Kind: kind, Name: name, linkDomains: cl.linkDomains})
	}
	add("oidc", "oidc", c.OIDC.Name, c.OIDC.client(), map[string]string{"issuer": c.OIDC.Issuer}, c.OIDC.provider(web))
	add("google", "oidc", "Google", c.Google.client(), map[string]string{"issuer": c.Google.Issuer}, c.Google.provider(web))
	add("gitlab", "oidc", "GitLab", c.GitLab.client(), map[string]string{"issuer": c.GitLab.Issuer}, c.GitLab.provider(web))
	add("github", "oauth2", "GitHub", c.GitHub.client(), map[string]string{"client_secret": c.GitHub.ClientSecret, "url": c.GitHub.URL, "api": c.GitHub.API}, &github{c.GitHub, web})
	add("feishu", "oauth2", "飞书 Feishu", c.Feishu.client(), map[string]string{"client_secret": c.Feishu.ClientSecret, "accounts": c.Feishu.Accounts, "api": c.Feishu.API}, &feishu{c.Feishu, web})
	add("dingtalk", "oauth2", "钉钉 DingTalk", c.DingTalk.client(), map[string]string{"client_secret": c.DingTalk.ClientSecret, "login": c.DingTalk.Login, "api": c.DingTalk.API}, &dingtalk{c.DingTalk, web})
	add("wecom", "oauth2", "企业微信 WeCom", c.WeCom.client(), map[string]string{"client_secret": c.WeCom.ClientSecret, "agent_id": c.WeCom.AgentID, "login": c.WeCom.Login, "api": c.WeCom.API}, &wecom{c: c.WeCom, web: web})
	if len(f) > 0 {
		slices.SortFunc(f, func(a, b fault.Field) int { return strings.Compare(a.Name, b.Name) })
		return nil, ErrConfig.WithFields(f...)
	}
	return &s, nil
}

// All lists the providers that are on.
func (s *Set) All() []Entry {
	if s == nil {
		return nil
	}
	return s.list
}

// Find returns a provider by id: ErrUnknown.
func (s *Set) Find(id string) (Entry, error) {
	for _, e := range s.All() {
		if e.ID == id {
			return e, nil
		}
	}
	return Entry{}, ErrUnknown
}

// bodyMost bounds what is read from a provider.
const bodyMost = 1 << 20

// client reaches the providers that an operator configured, inside the house or out.
func client() *http.Client {
	c := netguard.Policy{AllowLoopback: true, AllowPrivate: true}.Client()
	c.Timeout = 20 * time.Second
	c.Transport = limited{c.Transport}
	return c
}

// limited cuts bodies at bodyMost.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, bodyMost), resp.Body}
	return resp, nil
}

// caller asks providers over HTTP.
type caller struct {
	client *http.Client
	now    clock.Clock
}

// with makes the OAuth libraries use this caller's client.
func (c *caller) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, c.client)
}

// ask sends a request and reads the JSON of the answer into out, whatever its status: these services put errors into bodies of every status.
func (c *caller) ask(ctx context.Context, method, address string, header map[string]string, body, out any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = strings.NewReader(string(b))
	}
	r, err := http.NewRequestWithContext(ctx, method, address, in)
	if err != nil {
		return ErrAway.Wrap(clean(err))
	}
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return ErrAway.Wrap(clean(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return ErrAway.Wrap(fmt.Errorf("status %d: %w", resp.StatusCode, err))
	}
	return nil
}

// clean takes the address out of an error: some of these services want secrets in it.
func clean(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// came returns the code that the browser brought back: ErrDenied if the provider or the person said no.
func came(back url.Values, name string) (string, error) {
	if e := back.Get("error"); e != "" {
		return "", ErrDenied.Wrap(fmt.Errorf("the provider says %.100q", e))
	}
	code := back.Get(name)
	if code == "" || len(code) > 4096 {
		return "", ErrDenied.Wrap(errors.New("no code came back"))
	}
	return code, nil
}
