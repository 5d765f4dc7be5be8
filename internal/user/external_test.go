package user

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/web"
	"maas/internal/user/login/logintest"
)

// browser keeps cookies like one, by path, and follows no redirect by itself.
type browser struct {
	*site
	cookies map[string]*http.Cookie
}

func (w *town) site(t *testing.T) *site {
	t.Helper()
	s := web.New(web.Options{Version: "test", Log: discard, Authenticate: w.Authenticate})
	w.Routes(s.API(), s.Mux())
	hs := httptest.NewServer(s.Handler())
	t.Cleanup(hs.Close)
	return &site{w.world, t, hs.URL + web.Prefix}
}

func (s *site) browser() *browser { return &browser{s, map[string]*http.Cookie{}} }

// get goes to a path below the prefix and returns where it is sent.
func (b *browser) get(path string) string {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+path, nil)
	require.NoError(b.t, err)
	for _, c := range b.cookies {
		if strings.HasPrefix(r.URL.Path, c.Path) {
			r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(b.t, err)
	_ = resp.Body.Close()
	require.Equal(b.t, http.StatusFound, resp.StatusCode)
	require.Equal(b.t, "no-store", resp.Header.Get("Cache-Control"))
	b.take(resp.Cookies())
	return resp.Header.Get("Location")
}

func (b *browser) take(list []*http.Cookie) {
	for _, c := range list {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
			continue
		}
		b.cookies[c.Name] = c
	}
}

// back starts at a provider and returns the query that the browser comes back with.
func (b *browser) back(provider, query string) url.Values {
	b.t.Helper()
	to := b.get("/auth/providers/" + provider + "/start" + query)
	require.NotContains(b.t, to, "/enter?error", "%s", to)
	c := b.cookies[flowCookie]
	require.NotNil(b.t, c)
	require.True(b.t, c.HttpOnly)
	require.Equal(b.t, http.SameSiteLaxMode, c.SameSite)
	return logintest.Follow(b.t, to)
}

func (b *browser) callback(provider string, q url.Values) string {
	b.t.Helper()
	return b.get("/auth/providers/" + provider + "/callback?" + q.Encode())
}

// through signs in at a provider and returns where the browser ends.
func (b *browser) through(provider, query string) string {
	b.t.Helper()
	return b.callback(provider, b.back(provider, query))
}

// me uses the session cookie.
func (b *browser) me() answer {
	b.t.Helper()
	c := b.cookies[refreshCookie]
	if c == nil {
		return answer{}
	}
	a := b.do("POST", "/auth/refresh", c.Name+"="+c.Value, nil)
	require.Equal(b.t, 200, a.status, a.body)
	return b.do("GET", "/users/me", a.str("access_token"), nil)
}

const away = "https://maas.example.com/enter"

// withIssuer runs f with an OpenID Connect provider and a GitHub.
func withIssuer(t *testing.T, more func(*Deps), f func(t *testing.T, w *town, i *logintest.Issuer, s *logintest.Service)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var w *town
		i := logintest.NewIssuer(t, func() time.Time { return w.clock() }, map[string]any{"sub": "bea-1", "email": "bea@example.com", "email_verified": true, "given_name": "Bea", "locale": "zh-CN"})
		s := logintest.NewService(t, logintest.Who{ID: "4711", Name: "Bea", Email: "bea@example.com", Verified: true})
		w = newTown(t, d, func(d *Deps) {
			d.Config.Registration = RegistrationOpen
			l := &d.Config.Login
			l.OIDC.Name, l.OIDC.Issuer, l.OIDC.ClientID, l.OIDC.ClientSecret, l.OIDC.LinkDomains = "Our login", i.URL, logintest.ClientID, logintest.ClientSecret, []string{"example.com"}
			l.GitHub.URL, l.GitHub.API, l.GitHub.ClientID, l.GitHub.ClientSecret = s.URL, s.URL, logintest.ClientID, logintest.ClientSecret
			l.WeCom.Login, l.WeCom.API, l.WeCom.ClientID, l.WeCom.ClientSecret, l.WeCom.AgentID = s.URL, s.URL, logintest.ClientID, logintest.ClientSecret, "1"
			if more != nil {
				more(d)
			}
		})
		f(t, w, i, s)
	}, tables...)
}

func TestLoginByProvider(t *testing.T) {
	withIssuer(t, nil, func(t *testing.T, w *town, i *logintest.Issuer, _ *logintest.Service) {
		w.owner(t)
		s := w.site(t)
		conf := s.do("GET", "/auth/config", "", nil)
		require.Equal(t, []any{
			obj{"id": "oidc", "kind": "oidc", "name": "Our login", "start_url": "/api/v1/auth/providers/oidc/start"},
			obj{"id": "github", "kind": "oauth2", "name": "GitHub", "start_url": "/api/v1/auth/providers/github/start"},
			obj{"id": "wecom", "kind": "oauth2", "name": "企业微信 WeCom", "start_url": "/api/v1/auth/providers/wecom/start"},
		}, conf.body["providers"])
		b := s.browser()
		require.Equal(t, away+"?return_to=%2Fmodels%3Fx%3D1", b.through("oidc", "?return_to="+url.QueryEscape("/models?x=1")))
		require.Nil(t, b.cookies[flowCookie], "used up")
		me := b.me()
		require.Equal(t, "bea@example.com", me.str("email"))
		require.Equal(t, true, me.body["email_verified"], "the provider vouches for it")
		require.Equal(t, "zh", me.str("locale"))
		require.Equal(t, "developer", me.str("role"))
		require.ErrorIs(t, w.signIn(t, "bea@example.com", ""), ErrBadCredentials, "there is no password")
		id := me.str("id")
		i.Who(map[string]any{"sub": "bea-1", "email": "changed@example.com", "email_verified": true})
		b2 := s.browser()
		require.Equal(t, away+"?return_to=%2F", b2.through("oidc", ""))
		require.Equal(t, id, b2.me().str("id"), "the subject is who they are, not the address")
		require.Equal(t, away+"?error=login.unknown_provider", s.browser().get("/auth/providers/google/start"))
	})
}

func TestLoginFlowAttacks(t *testing.T) {
	withIssuer(t, nil, func(t *testing.T, w *town, i *logintest.Issuer, _ *logintest.Service) {
		w.owner(t)
		s := w.site(t)
		const refused = away + "?error=user.login_state"
		for _, to := range []string{"//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/%0d%0aSet-Cookie:x", "/\tx", "evil", "///evil.example"} {
			got := s.browser().get("/auth/providers/oidc/start?return_to=" + url.QueryEscape(to))
			if to == "/%0d%0aSet-Cookie:x" { // escaped twice: a harmless path
				require.NotContains(t, got, "Set-Cookie:x\r")
				continue
			}
			require.Equal(t, away+"?error=user.return_to", got, to)
		}
		b := s.browser()
		q := b.back("oidc", "")
		require.Equal(t, refused, s.browser().callback("oidc", q), "another browser: somebody else's session would be forced on it")
		wrong := url.Values{"code": q["code"], "state": {"x"}}
		kept := *b.cookies[flowCookie]
		require.Equal(t, refused, b.callback("oidc", wrong))
		b.cookies[flowCookie] = &kept
		require.Equal(t, refused, b.callback("github", q), "the flow of one provider at another")
		kept.Path = flowPath
		b.cookies[flowCookie] = &kept
		require.Equal(t, refused, b.callback("github", q), "even if the cookie came along")
		b.cookies[flowCookie] = &kept
		require.Equal(t, away+"?return_to=%2F", b.callback("oidc", q))
		b.cookies[flowCookie] = &kept
		require.Equal(t, refused, b.callback("oidc", q), "an answer counts once")
		b.cookies[flowCookie] = &http.Cookie{Name: flowCookie, Value: kept.Value + "x", Path: flowPath}
		require.Equal(t, refused, b.callback("oidc", q))
		b = s.browser()
		q = b.back("oidc", "")
		w.wait(flowLife + time.Second)
		require.Equal(t, refused, b.callback("oidc", q), "too late")
		b = s.browser()
		q = b.back("oidc", "")
		require.Equal(t, away+"?error=login.denied", b.callback("oidc", url.Values{"error": {"access_denied"}, "state": q["state"]}))
		require.Nil(t, b.cookies[refreshCookie])
		i.Sign("none")
		require.Equal(t, away+"?error=login.bad_token", s.browser().through("oidc", ""))
	})
}

func TestAccountsAreLinkedByProofOnly(t *testing.T) {
	withIssuer(t, nil, func(t *testing.T, w *town, i *logintest.Issuer, g *logintest.Service) {
		owner, _ := w.owner(t)
		s := w.site(t)
		count := func() (n int64) {
			require.NoError(t, w.db.Read(t.Context(), func(ctx context.Context, q *db.Query) (err error) {
				n, err = db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_identity`)
				return err
			}))
			return n
		}
		// somebody took the address without proving it, in the hope that its owner comes by the provider
		u, err := w.Create(owner, NewUser{Email: "bea@example.com", Password: newPass})
		require.NoError(t, err)
		require.Equal(t, away+"?error=user.link_first", s.browser().through("oidc", ""))
		require.Zero(t, count())
		// proven here, but the provider does not say that it is proven there: a new account without the address
		require.NoError(t, w.db.Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return setVerified(ctx, tx, u.ID, "", w.clock()) }))
		i.Who(map[string]any{"sub": "liar", "email": "bea@example.com", "email_verified": false})
		b := s.browser()
		require.Equal(t, away+"?return_to=%2F", b.through("oidc", ""))
		require.NotEqual(t, u.ID, b.me().str("id"))
		require.Regexp(t, `^oidc-[0-9a-f]{12}@oidc\.invalid$`, b.me().str("email"))
		// proven on both sides, but this provider is not trusted for the domain
		require.Equal(t, away+"?error=user.link_first", s.browser().through("github", ""))
		// proven on both sides and trusted
		i.Who(map[string]any{"sub": "bea-1", "email": "Bea@Example.com", "email_verified": true})
		b = s.browser()
		require.Equal(t, away+"?return_to=%2F", b.through("oidc", ""))
		require.Equal(t, u.ID, b.me().str("id"))
		require.EqualValues(t, 2, count())
		_ = g
	})
}

func TestLinkingWhileSignedIn(t *testing.T) {
	withIssuer(t, func(d *Deps) { d.Config.Registration = RegistrationClosed }, func(t *testing.T, w *town, _ *logintest.Issuer, g *logintest.Service) {
		owner, tok := w.owner(t)
		s := w.site(t)
		require.Equal(t, away+"?error=user.registration_closed", s.browser().through("github", ""))
		link := func(credential string, body any) (*browser, string) {
			b := s.browser()
			a := b.do("POST", "/auth/identities/github/link", credential, body)
			require.Equal(t, 200, a.status, a.body)
			b.take((&http.Response{Header: a.header}).Cookies())
			return b, b.callback("github", logintest.Follow(t, a.str("url")))
		}
		b, to := link(tok.Access, obj{"return_to": "/profile?tab=security"})
		require.Equal(t, "https://maas.example.com/profile?tab=security&linked=github", to)
		require.Nil(t, b.cookies[refreshCookie], "linking gives no session")
		list := s.do("GET", "/auth/identities", tok.Access, nil)
		require.Len(t, list.body["items"], 1)
		one := list.body["items"].([]any)[0].(obj)
		require.Equal(t, []any{"github", "GitHub", "bea@example.com", "4711"}, []any{one["provider"], one["provider_name"], one["email"], one["subject"]})
		b = s.browser()
		require.Equal(t, away+"?return_to=%2F", b.through("github", ""))
		require.Equal(t, ownerMail, b.me().str("email"), "signed in to the account it was linked to")
		_, dev := w.as(t, owner, Developer)
		devTok, err := w.SignIn(t.Context(), Login{Email: dev.Email, Password: "long enough 123"}, home)
		require.NoError(t, err)
		_, to = link(devTok.Access, nil)
		require.Equal(t, "https://maas.example.com/profile?error=user.identity_taken", to)
		require.Equal(t, 404, s.do("DELETE", "/auth/identities/"+one["id"].(string), devTok.Access, nil).status)
		// the session ends while the person is at the provider
		b = s.browser()
		a := b.do("POST", "/auth/identities/github/link", devTok.Access, nil)
		b.take((&http.Response{Header: a.header}).Cookies())
		q := logintest.Follow(t, a.str("url"))
		require.NoError(t, w.SignOut(t.Context(), devTok.Refresh))
		g.Who(logintest.Who{ID: "5"})
		require.Equal(t, "https://maas.example.com/profile?error=user.session_revoked", b.callback("github", q))
		w.wait(11 * time.Minute)
		a = s.do("POST", "/auth/identities/github/link", tok.Access, nil)
		require.Equal(t, 403, a.status)
		require.Equal(t, "user.reauth_required", a.str("code"))
		require.Equal(t, 200, s.do("POST", "/auth/identities/github/link", tok.Access, obj{"password": ownerPass}).status)
		again, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass}, home)
		require.NoError(t, err)
		require.Equal(t, 204, s.do("DELETE", "/auth/identities/"+one["id"].(string), again.Access, nil).status)
		require.Equal(t, away+"?error=user.registration_closed", s.browser().through("wecom", ""))
	})
}

func TestProviderPeople(t *testing.T) {
	withIssuer(t, func(d *Deps) { d.Config.Registration = RegistrationApproval }, func(t *testing.T, w *town, i *logintest.Issuer, _ *logintest.Service) {
		owner, _ := w.owner(t)
		s := w.site(t)
		require.Equal(t, away+"?error=user.pending_approval", s.browser().through("wecom", ""))
		list, err := w.Users(owner, 10, "")
		require.NoError(t, err)
		require.Equal(t, Pending, list.Items[1].Status)
		require.True(t, strings.HasSuffix(list.Items[1].Email, "@wecom.invalid"), "WeCom tells no address")
		_, err = w.Approve(owner, list.Items[1].ID)
		require.NoError(t, err)
		w.settled(t) // the letter to an address that receives nothing ends as refused
		w.post.None(t)
		b := s.browser()
		require.Equal(t, away+"?return_to=%2F", b.through("wecom", ""))
		require.Equal(t, "Bea", b.me().body["profile"].(obj)["first_name"])
		access := s.do("POST", "/auth/refresh", refreshCookie+"="+b.cookies[refreshCookie].Value, nil).str("access_token")
		ids := s.do("GET", "/auth/identities", access, nil).body["items"].([]any)
		a := s.do("DELETE", "/auth/identities/"+ids[0].(obj)["id"].(string), access, nil)
		require.Equal(t, 409, a.status)
		require.Equal(t, "user.last_method", a.str("code"), "nobody locks themselves out")
		require.Equal(t, false, s.do("GET", "/auth/mfa", access, nil).body["password"])
		require.Equal(t, 204, s.do("POST", "/auth/password/change", access, obj{"current_password": "", "new_password": newPass}).status, "a first password")
		require.Equal(t, 401, s.do("POST", "/auth/password/change", access, obj{"current_password": "", "new_password": newPass + "x"}).status, "the next one wants the first")
		require.Equal(t, 204, s.do("DELETE", "/auth/identities/"+ids[0].(obj)["id"].(string), access, nil).status)
		i.Who(map[string]any{"sub": "x", "email": "x@example.com", "email_verified": true})
		w.Config.MailDomains = []string{"our.example"}
		require.Equal(t, away+"?error=user.mail_domain", s.browser().through("oidc", ""))
	})
}

func TestSecondFactorAfterProvider(t *testing.T) {
	withIssuer(t, nil, func(t *testing.T, w *town, i *logintest.Issuer, _ *logintest.Service) {
		ctx, tok := w.owner(t)
		s := w.site(t)
		b := s.browser()
		a := b.do("POST", "/auth/identities/oidc/link", tok.Access, nil)
		b.take((&http.Response{Header: a.header}).Cookies())
		require.Contains(t, b.callback("oidc", logintest.Follow(t, a.str("url"))), "linked=oidc")
		secret, _ := w.withTOTP(t, ctx)
		b = s.browser()
		to := b.through("oidc", "?return_to=/usage")
		require.True(t, strings.HasPrefix(to, away+"#mfa_token="), to)
		require.Nil(t, b.cookies[refreshCookie])
		q, err := url.ParseQuery(to[len(away)+1:])
		require.NoError(t, err)
		require.Equal(t, "totp,recovery", q.Get("methods"))
		require.Equal(t, "/usage", q.Get("return_to"))
		a = s.do("POST", "/auth/login/mfa", "", obj{"mfa_token": q.Get("mfa_token"), "method": "totp", "code": "000000"})
		require.Equal(t, 401, a.status)
		require.Equal(t, "user.mfa_wrong", a.str("code"))
		a = s.do("POST", "/auth/login/mfa", "", obj{"mfa_token": q.Get("mfa_token"), "method": "totp", "code": w.code(t, secret)})
		require.Equal(t, 200, a.status, a.body)
		require.NotEmpty(t, a.str("access_token"))
		require.Contains(t, a.header.Get("Set-Cookie"), refreshCookie)
		a = s.do("POST", "/auth/login", "", obj{"email": ownerMail, "password": ownerPass})
		require.Equal(t, 200, a.status)
		require.Equal(t, true, a.body["mfa_required"])
		require.NotContains(t, a.body, "access_token")
		require.Empty(t, a.header.Get("Set-Cookie"))
	})
}

func TestReturnTo(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "/", "/": "/", "/models?a=b#c": "/models?a=b#c", "/a//b": "/a//b", "/模型": "/模型"} {
		got, err := localPath(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"//x", "/\\x", "\\\\x", "x", "http:x", "/a\nb", "/ a", "/%zz", "/" + strings.Repeat("a", 600)} {
		_, err := localPath(in)
		require.ErrorIs(t, err, ErrReturnTo, "%q", in)
	}
	require.Equal(t, "/a?x=1&error=c#f", with("/a?x=1#f", "error", "c"))
}
