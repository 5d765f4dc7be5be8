package user

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/web"
)

// site is the service behind the real edge.
type site struct {
	*world
	t   *testing.T
	url string
}

type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func newSite(t *testing.T) *site {
	t.Helper()
	w := newWorld(t, dbOpen(t))
	s := web.New(web.Options{Version: "test", Log: discard, Authenticate: w.Authenticate})
	w.Routes(s.API(), s.Mux())
	for _, r := range s.Routes() {
		if r.Permission != web.Public && r.Permission != web.SignedIn && !Known(r.Permission) {
			t.Errorf("%s %s asks for an unknown permission %s", r.Method, r.Path, r.Permission)
		}
	}
	hs := httptest.NewServer(s.Handler())
	t.Cleanup(hs.Close)
	return &site{w, t, hs.URL + web.Prefix}
}

// do sends a request with a credential ("" = none) or, where it holds "=", a cookie.
func (s *site) do(method, path, credential string, body any) answer {
	s.t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(s.t, err)
		in = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, in)
	require.NoError(s.t, err)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	switch {
	case strings.Contains(credential, "="):
		r.Header.Set("Cookie", credential)
	case credential != "":
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header}
	b, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	if len(b) > 0 {
		require.NoError(s.t, json.Unmarshal(b, &a.body), string(b))
	}
	return a
}

func (a answer) str(key string) string { s, _ := a.body[key].(string); return s }

type obj = map[string]any

func TestHTTPSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.do("GET", "/users/me", "", nil)
	require.Equal(t, 503, a.status)
	require.Equal(t, "user.setup_required", a.str("code"))
	a = s.do("GET", "/auth/config", "", nil)
	require.Equal(t, true, a.body["setup_required"])
	a = s.do("POST", "/auth/setup", "", obj{"email": ownerMail, "password": ownerPass, "name": "Ada", "tenant_name": "Lab"})
	require.Equal(t, 201, a.status, a.body)
	require.NotEmpty(t, a.str("access_token"))
	require.Empty(t, a.str("refresh_token"))
	cookie := a.header.Get("Set-Cookie")
	for _, part := range []string{"maas_refresh=", "HttpOnly", "SameSite=Strict", "Path=/api/v1/auth", "Max-Age="} {
		require.Contains(t, cookie, part)
	}
	require.NotContains(t, cookie, "Secure", "no TLS here")
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	require.Equal(t, 409, s.do("POST", "/auth/setup", "", obj{"email": "x@example.com", "password": ownerPass}).status)

	me := s.do("GET", "/users/me", a.str("access_token"), nil)
	require.Equal(t, 200, me.status)
	require.Equal(t, "Lab", me.body["tenant"].(obj)["name"])
	require.Equal(t, `"1"`, me.header.Get("ETag"))
	me = s.do("PATCH", "/users/me", a.str("access_token"), obj{"profile": obj{"last_name": "L"}, "locale": "zh"})
	require.Equal(t, 200, me.status, me.body)
	require.Equal(t, obj{"first_name": "Ada", "last_name": "L"}, me.body["profile"])

	a = s.do("POST", "/auth/login", "", obj{"email": ownerMail, "password": "wrong wrong"})
	require.Equal(t, 401, a.status)
	require.Equal(t, "user.bad_credentials", a.str("code"))
	a = s.do("POST", "/auth/login", "", obj{"email": ownerMail, "password": ownerPass, "role": "owner"})
	require.Equal(t, 422, a.status, "unknown fields are refused")
	require.NotContains(t, a.str("detail"), ownerPass)
	a = s.do("POST", "/auth/login", "", obj{"email": ownerMail, "password": ownerPass, "remember": false})
	require.Equal(t, 200, a.status)
	cookie, _, _ = strings.Cut(a.header.Get("Set-Cookie"), ";")
	require.NotContains(t, a.header.Get("Set-Cookie"), "Max-Age", "ends with the browser")
	b := s.do("POST", "/auth/refresh", cookie, nil)
	require.Equal(t, 200, b.status, b.body)
	require.Empty(t, b.str("refresh_token"))
	require.Equal(t, 204, s.do("POST", "/auth/logout", cookie, nil).status)
	b = s.do("POST", "/auth/refresh", cookie, nil)
	require.Equal(t, 401, b.status)
	require.Contains(t, b.header.Get("Set-Cookie"), "Max-Age=0")

	a = s.do("POST", "/auth/login", "", obj{"email": ownerMail, "password": ownerPass, "client": "cli"})
	require.NotEmpty(t, a.str("refresh_token"))
	require.Empty(t, a.header.Get("Set-Cookie"))
	b = s.do("POST", "/auth/refresh", "", obj{"refresh_token": a.str("refresh_token")})
	require.Equal(t, 200, b.status)
	require.NotEmpty(t, b.str("refresh_token"))
	list := s.do("GET", "/auth/sessions", b.str("access_token"), nil)
	require.Len(t, list.body["items"], 2)
	require.Equal(t, 404, s.do("DELETE", "/auth/sessions/ses_x", b.str("access_token"), nil).status)
	tk := s.do("POST", "/auth/ws-ticket", b.str("access_token"), obj{"path": "/v1/inference/stream"})
	require.Equal(t, 200, tk.status)
	require.NotEmpty(t, tk.str("ticket"))
	require.Equal(t, 401, s.do("GET", "/users/me", "nonsense", nil).status)
	require.Equal(t, 401, s.do("POST", "/auth/refresh", "", nil).status)
}

func TestHTTPRoles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, owner := s.owner(t)
	tokens := map[Role]string{Owner: owner.Access}
	ids := map[Role]string{}
	for _, r := range []Role{Admin, Developer, Viewer} {
		a := s.do("POST", "/users", owner.Access, obj{"email": string(r) + "@example.com", "password": "long enough 123", "role": r})
		require.Equal(t, 201, a.status, a.body)
		ids[r] = a.str("id")
		require.Equal(t, web.Prefix+"/users/"+a.str("id"), a.header.Get("Location"))
		b := s.do("POST", "/auth/login", "", obj{"email": string(r) + "@example.com", "password": "long enough 123"})
		tokens[r] = b.str("access_token")
	}
	for _, tc := range []struct {
		method, path string
		body         any
		want         map[Role]int
	}{
		{"GET", "/users", nil, map[Role]int{Owner: 200, Admin: 200, Developer: 200, Viewer: 200}},
		{"PATCH", "/users/" + ids[Viewer], obj{"locale": "zh"}, map[Role]int{Owner: 200, Admin: 200, Developer: 403, Viewer: 403}},
		{"PUT", "/users/" + ids[Viewer], obj{"email": "viewer@example.com", "username": "viewer", "role": "viewer"}, map[Role]int{Owner: 200, Admin: 200, Developer: 403, Viewer: 403}},
		{"POST", "/users/" + ids[Viewer] + "/activate", nil, map[Role]int{Owner: 200, Admin: 200, Developer: 403, Viewer: 403}},
		{"GET", "/users/usr_missing", nil, map[Role]int{Owner: 404, Viewer: 404}},
		{"POST", "/keys", obj{"name": "k"}, map[Role]int{Owner: 201, Admin: 201, Developer: 201, Viewer: 403}},
		{"GET", "/keys", nil, map[Role]int{Owner: 200, Viewer: 200}},
		{"GET", "/usage", nil, map[Role]int{Owner: 200, Viewer: 200}},
		{"GET", "/usage/requests?limit=5", nil, map[Role]int{Owner: 200, Viewer: 200}},
		{"GET", "/usage?bucket=1w", nil, map[Role]int{Owner: 422}},
		{"GET", "/usage?group_by=model,key,user&bucket=1d&from=2026-01-01T00:00:00Z&to=2026-01-05T00:00:00Z", nil, map[Role]int{Owner: 200}},
		{"GET", "/usage/requests/req_x", nil, map[Role]int{Owner: 404}},
		{"GET", "/keys?after=nonsense", nil, map[Role]int{Owner: 400}},
		{"DELETE", "/users/" + ids[Developer], nil, map[Role]int{Viewer: 403, Admin: 204}},
	} {
		for r, want := range tc.want {
			a := s.do(tc.method, tc.path, tokens[r], tc.body)
			require.Equal(t, want, a.status, "%s %s as %s: %v", tc.method, tc.path, r, a.body)
		}
	}
	list := s.do("GET", "/users", tokens[Viewer], nil)
	require.Contains(t, list.body["items"].([]any)[0].(obj)["email"], "***", "addresses of others are shortened for a viewer")
	k := s.do("POST", "/keys", tokens[Admin], obj{"name": "k", "models": []string{"m"}, "expires_at": "2999-01-01T00:00:00Z"})
	require.Equal(t, 201, k.status, k.body)
	require.True(t, strings.HasPrefix(k.str("secret"), "sk-maas-"))
	require.Equal(t, 403, s.do("GET", "/users", k.str("secret"), nil).status, "a key for models reads no people")
	got := s.do("GET", "/keys/"+k.str("id"), tokens[Admin], nil)
	require.NotContains(t, got.body, "secret")
	got = s.do("POST", "/keys/"+k.str("id")+"/revoke", tokens[Admin], nil)
	require.Equal(t, "revoked", got.str("state"))
	require.Equal(t, 401, s.do("GET", "/users/me", k.str("secret"), nil).status)
	require.Equal(t, 204, s.do("DELETE", "/keys/"+k.str("id"), tokens[Admin], nil).status)
	require.Equal(t, 404, s.do("GET", "/keys/"+k.str("id"), tokens[Admin], nil).status)
}
