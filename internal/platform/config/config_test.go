package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/fault"
)

type part struct {
	Wait  time.Duration `yaml:"wait" doc:"how long"`
	Limit int64         `yaml:"limit" doc:"bytes"`
	Token string        `yaml:"token" doc:"secret" secret:"true"`
}

type root struct {
	Listen   string   `yaml:"listen" doc:"address"`
	Services []string `yaml:"services" doc:"which"`
	Debug    bool     `yaml:"debug" doc:"talk"`
	Gateway  part     `yaml:"gateway"`
}

func defaults() root {
	return root{Listen: ":8080", Services: []string{"all"}, Gateway: part{Wait: time.Second, Limit: 1}}
}

func file(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "maas.yaml")
	require.NoError(t, os.WriteFile(f, []byte(text), 0o600))
	return f
}

func TestLaterSourcesWin(t *testing.T) {
	t.Parallel()
	c := defaults()
	err := Load(&c, Source{
		File: file(t, "listen: ':1'\nservices: [user, model]\ngateway:\n  wait: 5s\n  limit: 64MiB\n"),
		Env:  []string{"MAAS_LISTEN=:2", "MAAS_GATEWAY_TOKEN=abc", "OTHER=1"},
		Set:  map[string]string{"listen": ":3", "debug": "true"},
	})
	require.NoError(t, err)
	require.Equal(t, root{Listen: ":3", Services: []string{"user", "model"}, Debug: true, Gateway: part{5 * time.Second, 64 << 20, "abc"}}, c)
}

func TestEveryFaultIsNamed(t *testing.T) {
	t.Parallel()
	c := defaults()
	err := Load(&c, Source{File: file(t, "lissten: ':1'\ngateway:\n  wait: soon\n  limit: many\nservices: x\n"), Env: []string{"MAAS_DEBUG=perhaps"}, Set: map[string]string{"nothing.at.all": "1"}})
	require.ErrorIs(t, err, ErrInvalid)
	got := map[string]string{}
	for _, f := range fault.From(err).Fields {
		got[f.Name] = f.Message
	}
	require.Contains(t, got["lissten"], "did you mean listen?")
	require.Contains(t, got["gateway.wait"], "duration")
	require.Contains(t, got["gateway.limit"], "whole number")
	require.Contains(t, got["MAAS_DEBUG"], "true or false")
	require.Contains(t, got, "nothing.at.all")
}

func TestMissingFileIsAnError(t *testing.T) {
	t.Parallel()
	c := defaults()
	require.ErrorIs(t, Load(&c, Source{File: "/nonexistent.yaml", Env: []string{}}), ErrInvalid)
}

func TestPrintRedactsAndReadsBack(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Gateway.Token = "hush"
	var b strings.Builder
	require.NoError(t, Print(&b, c))
	require.NotContains(t, b.String(), "hush")
	require.Contains(t, b.String(), "  token: ***")
	again := defaults()
	require.NoError(t, Load(&again, Source{File: file(t, strings.ReplaceAll(b.String(), "***", "hush")), Env: []string{}}))
	require.Equal(t, c, again)
}

func TestReferenceNamesEveryKey(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, Reference(&b, defaults()))
	require.Contains(t, b.String(), "| `gateway.wait` | `MAAS_GATEWAY_WAIT` | `1s` | how long |")
}

func FuzzLoad(f *testing.F) {
	f.Add("listen: ':1'")
	f.Add("gateway: {limit: 9223372036854775807GiB}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		c := defaults()
		name := filepath.Join(t.TempDir(), "f.yaml")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		if err := Load(&c, Source{File: name, Env: []string{}}); err != nil {
			require.ErrorIs(t, err, ErrInvalid)
		}
	})
}
