package cli

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"maas/internal/maas"
	"maas/internal/platform/config"
)

// People are approved, declined, signed in with a second factor and freed of it from the command line.
func TestPeople(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	c, err := maas.Load(config.Source{Env: []string{}, Set: map[string]string{
		"data": t.TempDir(), "listen": "127.0.0.1:0", "user.registration": "approval", "user.verify_email": "false", "admin.email": "ada@example.com", "admin.password": "ada-password-1",
	}})
	require.NoError(t, err)
	p, err := maas.Start(t.Context(), c, maas.Options{Version: "test", Console: &bytes.Buffer{}})
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(); require.NoError(t, p.Wait()) })
	run := func(in string, args ...string) (int, string, string) {
		var out, errw bytes.Buffer
		code := Run(t.Context(), args, strings.NewReader(in), &out, &errw)
		return code, out.String(), errw.String()
	}
	login := func(email, password string, more ...string) (int, string) {
		code, _, errs := run(password+"\n", append([]string{"login", "--url", p.URL(), "--email", email, "--password-stdin"}, more...)...)
		return code, errs
	}
	anybody := &client{p.URL(), "", newHTTP()}
	for _, email := range []string{"bea@example.com", "carl@example.com"} {
		require.NoError(t, anybody.do(t.Context(), http.MethodPost, "/auth/register", map[string]any{"email": email, "password": "long-enough-1"}, nil))
	}
	code, errs := login("bea@example.com", "long-enough-1")
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "user.pending_approval")
	code, errs = login("ada@example.com", "ada-password-1")
	require.Equal(t, exitOK, code, errs)
	code, out, errs := run("", "user", "approve", "Bea@example.com")
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, "approved")
	code, _, errs = run("", "user", "reject", "carl@example.com")
	require.Equal(t, exitOK, code, errs)
	code, out, _ = run("", "user", "list")
	require.Equal(t, exitOK, code)
	require.NotContains(t, out, "carl@example.com")
	code, _, errs = run("", "user", "approve", "nobody@example.com")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "there is no nobody@example.com")
	code, _, errs = run("", "user", "approve", "bea@example.com")
	require.Equal(t, exitFail, code)
	require.Contains(t, errs, "user.bad_status")

	var s loginAnswer
	require.NoError(t, anybody.do(t.Context(), http.MethodPost, "/auth/login", map[string]any{"email": "bea@example.com", "password": "long-enough-1"}, &s))
	bea := &client{p.URL(), s.AccessToken, newHTTP()}
	var app struct{ Secret string }
	require.NoError(t, bea.do(t.Context(), http.MethodPost, "/auth/mfa/totp", nil, &app))
	now, err := totp.GenerateCode(app.Secret, time.Now())
	require.NoError(t, err)
	var codes struct {
		List []string `json:"recovery_codes"`
	}
	require.NoError(t, bea.do(t.Context(), http.MethodPost, "/auth/mfa/totp/confirm", map[string]any{"code": now}, &codes))
	code, errs = login("bea@example.com", "long-enough-1")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--code")
	next, err := totp.GenerateCode(app.Secret, time.Now().Add(30*time.Second)) // the code of now is used up
	require.NoError(t, err)
	code, errs = login("bea@example.com", "long-enough-1", "--code", next)
	require.Equal(t, exitOK, code, errs)
	code, errs = login("bea@example.com", "long-enough-1", "--code", codes.List[0])
	require.Equal(t, exitOK, code, errs)
	code, errs = login("ada@example.com", "ada-password-1")
	require.Equal(t, exitOK, code, errs)
	code, _, errs = run("", "user", "reset-mfa", "bea@example.com")
	require.Equal(t, exitOK, code, errs)
	code, errs = login("bea@example.com", "long-enough-1")
	require.Equal(t, exitOK, code, errs)
}
