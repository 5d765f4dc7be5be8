package telemetry

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T, c Config) (*Telemetry, string, *bytes.Buffer) {
	t.Helper()
	dir, console := t.TempDir(), &bytes.Buffer{}
	tel, err := New(c, dir, console)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Close()) })
	return tel, filepath.Join(dir, c.File), console
}

func TestLevelChangesWhileRunning(t *testing.T) {
	t.Parallel()
	tel, file, console := open(t, Defaults())
	tel.Log.Debug("one")
	require.NoError(t, tel.SetLevel("debug"))
	require.Equal(t, "debug", tel.Level())
	tel.Log.Debug("two")
	tel.Log.Error("three")
	require.ErrorIs(t, tel.SetLevel("loud"), ErrLevel)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotContains(t, string(b), "one")
	require.Contains(t, string(b), "two")
	require.NotContains(t, console.String(), "two", "the console shows warnings and errors only")
	require.Contains(t, console.String(), "three")
}

func TestSecretsAreMasked(t *testing.T) {
	t.Parallel()
	c := Defaults()
	c.File = ""
	tel, _, out := open(t, c)
	key := "sk-maas-" + strings.Repeat("a", 43)
	tel.Log.Info("login", "password", "hunter2", "header", "Bearer "+key, "error", errors.New("dial postgres://maas:hunter2@db/x"), "max_tokens", 5, "tokens", "7")
	require.NotContains(t, out.String(), "hunter2")
	require.NotContains(t, out.String(), key)
	require.Contains(t, out.String(), `"max_tokens":5`)
	require.Contains(t, out.String(), `"tokens":"7"`)
}

func TestTraceContext(t *testing.T) {
	t.Parallel()
	c := Defaults()
	c.File = ""
	tel, _, out := open(t, c)
	in := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	tr := ParseTraceparent(in)
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", tr.TraceID)
	require.NotEqual(t, "00f067aa0ba902b7", tr.SpanID, "a new span")
	require.True(t, strings.HasSuffix(tr.Traceparent(), "-01"))
	tel.Log.InfoContext(WithTrace(t.Context(), tr), "hello")
	require.Contains(t, out.String(), `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`)
	for _, bad := range []string{"", "00-x-y-z", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", in + "-extra"} {
		got := ParseTraceparent(bad)
		require.NotEqual(t, tr.TraceID, got.TraceID, bad)
		require.Len(t, got.TraceID, 32)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	tel, _, _ := open(t, Defaults())
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Contains(t, w.Body.String(), "go_goroutines")
}
