package login_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"maas/internal/platform/clock"
	"maas/internal/platform/fault"
	"maas/internal/user/login"
	"maas/internal/user/login/logintest"
)

const redirect = "https://maas.example.com/api/v1/auth/providers/x/callback"

func flow() login.Flow {
	return login.Flow{State: logintest.Random(), Nonce: logintest.Random(), Verifier: logintest.Random() + logintest.Random(), Redirect: redirect}
}

// set makes the one provider of a configuration.
func set(t *testing.T, change func(*login.Config)) login.Entry {
	t.Helper()
	c := login.Defaults()
	change(&c)
	s, err := login.New(c, clock.Now)
	require.NoError(t, err)
	require.Len(t, s.All(), 1)
	return s.All()[0]
}

func oidc(t *testing.T, i *logintest.Issuer) login.Entry {
	t.Helper()
	return set(t, func(c *login.Config) {
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.ClientSecret, c.OIDC.LinkDomains = i.URL, logintest.ClientID, logintest.ClientSecret, []string{"Example.com"}
	})
}

// try signs in once.
func try(t *testing.T, p login.Entry, f login.Flow) (login.Person, error) {
	t.Helper()
	address, err := p.AuthURL(t.Context(), f)
	require.NoError(t, err)
	back := logintest.Follow(t, address)
	require.Equal(t, f.State, back.Get("state"))
	return p.Exchange(t.Context(), f, back)
}

var ada = map[string]any{"sub": "ada-1", "email": "ada@example.com", "email_verified": true, "given_name": "Ada", "name": "Ada Lovelace"}

func TestOIDC(t *testing.T) {
	t.Parallel()
	i := logintest.NewIssuer(t, time.Now, ada)
	p := oidc(t, i)
	who, err := try(t, p, flow())
	require.NoError(t, err)
	require.Equal(t, login.Person{Issuer: i.URL, Subject: "ada-1", Email: "ada@example.com", EmailVerified: true, Name: "Ada"}, who)
	require.True(t, p.Trusted("x@EXAMPLE.com"))
	require.False(t, p.Trusted("x@example.com.evil"))
	i.NewKey(t) // the keys are rotated: an unknown one is asked for
	_, err = try(t, p, flow())
	require.NoError(t, err)
	i.Who(map[string]any{"sub": "b", "email": "b@example.com", "email_verified": "false"})
	who, err = try(t, p, flow())
	require.NoError(t, err)
	require.False(t, who.EmailVerified)
	i.Who(map[string]any{"sub": "c"})
	i.UserInfo(map[string]any{"email": "c@example.com", "email_verified": "true", "name": "Carl C"})
	who, err = try(t, p, flow())
	require.NoError(t, err)
	require.Equal(t, login.Person{Issuer: i.URL, Subject: "c", Email: "c@example.com", EmailVerified: true, Name: "Carl C"}, who)
	i.UserInfo(map[string]any{"sub": "somebody else", "email": "d@example.com", "email_verified": true})
	who, err = try(t, p, flow())
	require.NoError(t, err)
	require.Empty(t, who.Email, "the answer is about somebody else")
	i.IssInAnswer()
	_, err = try(t, oidc(t, i), flow())
	require.NoError(t, err)
}

func TestOIDCAttacks(t *testing.T) {
	t.Parallel()
	claim := func(name string, v any) func(*jwt.Token) {
		return func(t *jwt.Token) { t.Claims.(jwt.MapClaims)[name] = v }
	}
	for name, tc := range map[string]struct {
		tamper func(*jwt.Token)
		sign   string
	}{
		"another nonce":            {tamper: claim("nonce", "n")},
		"no nonce":                 {tamper: claim("nonce", nil)},
		"another issuer":           {tamper: claim("iss", "https://evil.example")},
		"another audience":         {tamper: claim("aud", "other-app")},
		"no audience":              {tamper: claim("aud", nil)},
		"two audiences, no azp":    {tamper: claim("aud", []string{logintest.ClientID, "other-app"})},
		"another authorized party": {tamper: claim("azp", "other-app")},
		"expired":                  {tamper: claim("exp", time.Now().Add(-time.Hour).Unix())},
		"no expiry":                {tamper: claim("exp", nil)},
		"no subject":               {tamper: claim("sub", "")},
		"another access token":     {tamper: claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA")},
		"alg none":                 {sign: "none"},
		"HMAC with the public key": {sign: "HS256"},
		"a key nobody published":   {sign: "foreign"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := logintest.NewIssuer(t, time.Now, ada)
			p := oidc(t, i)
			_, err := try(t, p, flow())
			require.NoError(t, err, "honest")
			i.Tamper(tc.tamper)
			if tc.sign != "" {
				i.Sign(tc.sign)
			}
			_, err = try(t, p, flow())
			require.ErrorIs(t, err, login.ErrToken)
		})
	}
}

func TestOIDCFlowAttacks(t *testing.T) {
	t.Parallel()
	i := logintest.NewIssuer(t, time.Now, ada)
	p := oidc(t, i)
	f := flow()
	address, err := p.AuthURL(t.Context(), f)
	require.NoError(t, err)
	back := logintest.Follow(t, address)
	stolen := f
	stolen.Verifier = logintest.Random() + logintest.Random()
	_, err = p.Exchange(t.Context(), stolen, back)
	require.ErrorIs(t, err, login.ErrDenied, "PKCE: a code is for the browser that asked")
	back = logintest.Follow(t, address)
	_, err = p.Exchange(t.Context(), f, back)
	require.NoError(t, err)
	_, err = p.Exchange(t.Context(), f, back)
	require.ErrorIs(t, err, login.ErrDenied, "a code works once")
	_, err = p.Exchange(t.Context(), f, url.Values{"error": {"access_denied"}})
	require.ErrorIs(t, err, login.ErrDenied)
	_, err = p.Exchange(t.Context(), f, url.Values{})
	require.ErrorIs(t, err, login.ErrDenied)
	mixed := logintest.Follow(t, address)
	mixed.Set("iss", "https://evil.example")
	_, err = p.Exchange(t.Context(), f, mixed)
	require.ErrorIs(t, err, login.ErrToken, "the answer of another issuer")
	i.IssInAnswer()
	fresh := oidc(t, i)
	back = logintest.Follow(t, address)
	back.Del("iss")
	_, err = fresh.Exchange(t.Context(), f, back)
	require.ErrorIs(t, err, login.ErrToken, "an issuer that names itself always does")
}

func TestIssuerThatIsAwayOrAnother(t *testing.T) {
	t.Parallel()
	i := logintest.NewIssuer(t, time.Now, ada)
	for _, issuer := range []string{i.URL + "/", "http://127.0.0.1:1"} { // the document names another issuer; nobody answers
		p := set(t, func(c *login.Config) { c.OIDC.Issuer, c.OIDC.ClientID = issuer, "x" })
		_, err := p.AuthURL(t.Context(), flow())
		require.ErrorIs(t, err, login.ErrAway)
	}
}

func TestGoogleDomain(t *testing.T) {
	t.Parallel()
	i := logintest.NewIssuer(t, time.Now, ada)
	p := set(t, func(c *login.Config) {
		c.Google = login.Google{Issuer: i.URL, ClientID: logintest.ClientID, ClientSecret: logintest.ClientSecret, HostedDomain: "example.com"}
	})
	address, err := p.AuthURL(t.Context(), flow())
	require.NoError(t, err)
	require.Contains(t, address, "hd=example.com")
	_, err = try(t, p, flow())
	require.ErrorIs(t, err, login.ErrDenied, "the wish in the address proves nothing")
	i.Who(map[string]any{"sub": "a", "hd": "example.com"})
	_, err = try(t, p, flow())
	require.NoError(t, err)
	p = set(t, func(c *login.Config) {
		c.GitLab = login.GitLab{Issuer: i.URL, ClientID: logintest.ClientID, ClientSecret: logintest.ClientSecret}
	})
	_, err = try(t, p, flow())
	require.NoError(t, err)
}

func TestServicesWithShapesOfTheirOwn(t *testing.T) {
	t.Parallel()
	who := logintest.Who{ID: "4711", Name: "Ada", Email: "ada@example.com", Verified: true}
	for _, tc := range []struct {
		id     string
		change func(c *login.Config, url string)
		want   func(url string) login.Person
		pkce   bool
	}{
		{"github", func(c *login.Config, u string) {
			c.GitHub = login.GitHub{URL: u, API: u, ClientID: logintest.ClientID, ClientSecret: logintest.ClientSecret}
		}, func(u string) login.Person {
			return login.Person{Issuer: u, Subject: "4711", Email: "ada@example.com", EmailVerified: true, Name: "Ada", Picture: "https://avatars.example/1"}
		}, true},
		{"feishu", func(c *login.Config, u string) {
			c.Feishu = login.Feishu{Accounts: u, API: u, ClientID: logintest.ClientID, ClientSecret: logintest.ClientSecret}
		}, func(u string) login.Person {
			return login.Person{Issuer: u, Subject: "4711", Email: "ada@example.com", EmailVerified: true, Name: "Ada", Locale: "zh"}
		}, true},
		{"dingtalk", func(c *login.Config, u string) {
			c.DingTalk = login.DingTalk{Login: u, API: u, ClientID: logintest.ClientID, ClientSecret: logintest.ClientSecret, LinkDomains: []string{"example.com"}}
		}, func(u string) login.Person {
			return login.Person{Issuer: u, Subject: "4711", Email: "ada@example.com", Name: "Ada", Locale: "zh", Picture: "https://static.example/1.png"}
		}, false},
		{"wecom", func(c *login.Config, u string) {
			c.WeCom = login.WeCom{Login: u, API: u, ClientID: logintest.ClientID, ClientSecret: logintest.ClientSecret, AgentID: "1000002"}
		}, func(u string) login.Person {
			return login.Person{Issuer: u, Subject: logintest.ClientID + ":4711", Name: "Ada", Locale: "zh"}
		}, false},
	} {
		t.Run(tc.id, func(t *testing.T) {
			t.Parallel()
			s := logintest.NewService(t, who)
			p := set(t, func(c *login.Config) { tc.change(c, s.URL) })
			require.Equal(t, tc.id, p.ID)
			got, err := try(t, p, flow())
			require.NoError(t, err)
			require.Equal(t, tc.want(s.URL), got)

			f := flow()
			address, err := p.AuthURL(t.Context(), f)
			require.NoError(t, err)
			back := logintest.Follow(t, address)
			_, err = p.Exchange(t.Context(), f, back)
			require.NoError(t, err)
			_, err = p.Exchange(t.Context(), f, back)
			require.ErrorIs(t, err, login.ErrDenied, "a code works once")
			_, err = p.Exchange(t.Context(), f, url.Values{"error": {"access_denied"}, "state": {f.State}})
			require.ErrorIs(t, err, login.ErrDenied)
			if tc.pkce {
				back = logintest.Follow(t, address)
				f.Verifier = logintest.Random() + logintest.Random()
				_, err = p.Exchange(t.Context(), f, back)
				require.ErrorIs(t, err, login.ErrDenied, "PKCE")
			}
			plain := who
			plain.Verified = false
			s.Who(plain)
			got, err = try(t, p, flow())
			require.NoError(t, err)
			require.False(t, got.EmailVerified)
			require.False(t, tc.id == "dingtalk" && p.Trusted("ada@example.com"), "nobody is trusted for what they do not prove")
		})
	}
}

func TestWeComTokens(t *testing.T) {
	t.Parallel()
	s := logintest.NewService(t, logintest.Who{ID: "u1", Name: "Ada"})
	p := set(t, func(c *login.Config) {
		c.WeCom = login.WeCom{Login: s.URL, API: s.URL, ClientID: logintest.ClientID, ClientSecret: logintest.ClientSecret, AgentID: "1"}
	})
	for range 3 {
		_, err := try(t, p, flow())
		require.NoError(t, err)
	}
	require.Equal(t, 1, s.Apps(), "the application's token is kept")
	s.Forget()
	_, err := try(t, p, flow())
	require.NoError(t, err, "and asked for again when it does not hold any more")
	require.Equal(t, 2, s.Apps())
	s.Who(logintest.Who{ID: "u1", Outside: true})
	_, err = try(t, p, flow())
	require.ErrorIs(t, err, login.ErrDenied, "people outside the company")
	wrong := set(t, func(c *login.Config) {
		c.WeCom = login.WeCom{Login: s.URL, API: "http://127.0.0.1:1", ClientID: logintest.ClientID, ClientSecret: "very-secret", AgentID: "1"}
	})
	_, err = try(t, wrong, flow())
	require.ErrorIs(t, err, login.ErrAway)
	require.NotContains(t, err.Error(), "very-secret", "the secret is in the address that failed")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	s, err := login.New(login.Defaults(), clock.Now)
	require.NoError(t, err)
	require.Empty(t, s.All())
	_, err = s.Find("google")
	require.ErrorIs(t, err, login.ErrUnknown)
	c := login.Defaults()
	c.OIDC.ClientID, c.GitHub.ClientID, c.WeCom.ClientID, c.Google.ClientID, c.Google.Issuer = "a", "b", "c", "d", "accounts.google.com"
	_, err = login.New(c, clock.Now)
	require.ErrorIs(t, err, login.ErrConfig)
	var names []string
	for _, f := range fault.From(err).Fields {
		names = append(names, f.Name)
	}
	require.Equal(t, "user.login.github.client_secret user.login.google.issuer user.login.oidc.issuer user.login.wecom.agent_id user.login.wecom.client_secret", strings.Join(names, " "))
}
