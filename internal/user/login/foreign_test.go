package login_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/user/login"
	"maas/internal/user/login/logintest"
)

// foreignIssuer builds and runs the provider of test/idp, which others wrote, and returns its issuer. Without its modules the test is skipped, or fails when MAAS_TEST_STRICT is set.
func foreignIssuer(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "idp")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".")
	build.Dir = filepath.Join("..", "..", "..", "test", "idp")
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("MAAS_TEST_STRICT") != "" {
			t.Fatalf("build test/idp: %v\n%s", err, out)
		}
		t.Skipf("SKIP: missing: test/idp does not build here: %v\n%s", err, out)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, address, logintest.ClientID, logintest.ClientSecret, redirect)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { stop(); _ = cmd.Wait() })
	require.Eventually(t, func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/.well-known/openid-configuration", nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	return "http://" + address + "/"
}

// errBack stops a browser at the address of this site.
var errBack = errors.New("back")

// signInAt goes to a provider, types a name and a password into its form and returns the query that the browser comes back with.
func signInAt(t *testing.T, address, name, password string) url.Values {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	var back url.Values
	browser := &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), redirect) {
			back = r.URL.Query()
			return errBack
		}
		return nil
	}}
	do := func(method, to string, form url.Values) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(form.Encode()))
		require.NoError(t, err)
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := browser.Do(r)
		if err != nil && !errors.Is(err, errBack) {
			require.NoError(t, err)
		}
		return resp
	}
	resp := do(http.MethodGet, address, nil)
	page, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	_ = resp.Body.Close()
	id := resp.Request.URL.Query().Get("authRequestID")
	require.NotEmpty(t, id, string(page))
	resp = do(http.MethodPost, resp.Request.URL.String(), url.Values{"username": {name}, "password": {password}, "id": {id}})
	_ = resp.Body.Close()
	return back
}

func TestIssuerThatOthersWrote(t *testing.T) {
	t.Parallel()
	issuer := foreignIssuer(t)
	p := set(t, func(c *login.Config) {
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.ClientSecret = issuer, logintest.ClientID, logintest.ClientSecret
	})
	f := flow()
	address, err := p.AuthURL(t.Context(), f)
	require.NoError(t, err)
	require.Nil(t, signInAt(t, address, "test-user@127.0.0.1", "wrong"))
	address, err = p.AuthURL(t.Context(), f)
	require.NoError(t, err)
	back := signInAt(t, address, "test-user@127.0.0.1", "verysecure")
	require.Equal(t, f.State, back.Get("state"))
	other := flow()
	_, err = p.Exchange(t.Context(), login.Flow{State: f.State, Nonce: f.Nonce, Verifier: other.Verifier, Redirect: redirect}, back)
	require.ErrorIs(t, err, login.ErrDenied, "PKCE")
	address, err = p.AuthURL(t.Context(), f)
	require.NoError(t, err)
	back = signInAt(t, address, "test-user@127.0.0.1", "verysecure")
	who, err := p.Exchange(t.Context(), f, back)
	require.NoError(t, err)
	require.Equal(t, issuer, who.Issuer)
	require.NotEmpty(t, who.Subject)
	require.Equal(t, "test-user@zitadel.ch", who.Email)
	require.True(t, who.EmailVerified)
	_, err = p.Exchange(t.Context(), f, back)
	require.ErrorIs(t, err, login.ErrDenied, "a code works once")
	address, err = p.AuthURL(t.Context(), f)
	require.NoError(t, err)
	back = signInAt(t, address, "test-user@127.0.0.1", "verysecure")
	_, err = p.Exchange(t.Context(), login.Flow{State: f.State, Nonce: other.Nonce, Verifier: f.Verifier, Redirect: redirect}, back)
	require.ErrorIs(t, err, login.ErrToken, "the nonce of another flow")
}
