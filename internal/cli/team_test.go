package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/maas"
	"maas/internal/platform/config"
)

// A team is set up, switched, and given keys from the command line.
func TestTeams(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	c, err := maas.Load(config.Source{Env: []string{}, Set: map[string]string{"data": t.TempDir(), "listen": "127.0.0.1:0", "admin.email": "ada@example.com", "admin.password": "ada-password-1"}})
	require.NoError(t, err)
	p, err := maas.Start(t.Context(), c, maas.Options{Version: "test", Console: &bytes.Buffer{}})
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(); require.NoError(t, p.Wait()) })
	run := func(want int, in string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		require.Equal(t, want, Run(t.Context(), args, strings.NewReader(in), &out, &errs), "%v: %s", args, errs.String())
		return out.String() + errs.String()
	}
	id := func(args ...string) string {
		t.Helper()
		var v struct{ ID string }
		text := run(exitOK, "", append(args, "-o", "json")...)
		require.NoError(t, json.Unmarshal([]byte(text), &v), text)
		return v.ID
	}
	run(exitOK, "ada-password-1\n", "login", "--url", p.URL(), "--email", "ada@example.com", "--password-stdin")
	project := id("project", "create", "Alpha")
	bot := id("service-account", "create", "bot", "--project", "alpha")
	key := id("key", "create", "--name", "ci", "--service-account", bot, "--ip", "10.0.0.0/8")
	require.Contains(t, run(exitOK, "", "key", "list", "-o", "json"), key)
	require.Contains(t, run(exitOK, "", "key", "rotate", key, "--overlap", "1h", "-q"), "sk-maas-")
	run(exitOK, "", "project", "add", project, bot, "--as", "lead")
	run(exitOK, "", "project", "remove", project, bot)
	role := id("role", "create", "Reader", "--permission", "model:read,user:read")
	require.Contains(t, run(exitOK, "", "role", "permissions"), "Call models")
	require.Contains(t, run(exitOK, "", "role", "list"), "Reader")
	require.Contains(t, run(exitOK, "", "invite", "create", "grace@example.com", "--role", role), "/invite?token=")
	require.Contains(t, run(exitOK, "", "invite", "list"), "pending")
	run(exitFail, "", "role", "delete", role) // the invitation names it
	require.Contains(t, run(exitOK, "", "member", "list"), "owner")

	second := id("tenant", "create", "Second Lab")
	require.Contains(t, run(exitOK, "", "tenant", "list"), "second-lab")
	run(exitOK, "", "tenant", "switch", "second-lab")
	require.NotContains(t, run(exitOK, "", "project", "list"), project, "the session acts in the other organisation")
	run(exitFail, "", "tenant", "suspend", second)
	run(exitUsage, "", "tenant", "switch", "nowhere")
	run(exitOK, "", "tenant", "switch", "my-team")
	require.Contains(t, run(exitOK, "", "tenant", "suspend", "second-lab"), "suspended")
	run(exitUsage, "", "tenant", "purge", "second-lab")
	require.Contains(t, run(exitOK, "", "tenant", "purge", "second-lab", "--yes"), "purges")
	require.Contains(t, run(exitOK, "", "tenant", "export"), "/api/v1/tenants/current/export")
	run(exitOK, "", "service-account", "delete", bot)
	run(exitOK, "", "project", "archive", project)
}
