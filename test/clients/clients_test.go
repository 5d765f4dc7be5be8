// Package clients runs the programs that users of the OpenAI SDKs write, unchanged, against the built binary.
package clients

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary is a running `maas serve --quickstart` on an empty folder.
type binary struct {
	t     *testing.T
	url   string
	start struct{ Email, Password, Key, Model string }
	token string
}

// missing skips, or fails where everything must be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("MAAS_TEST_STRICT") != "" {
		t.Fatal("missing: " + what)
	}
	t.Skip("SKIP: missing: " + what)
}

func serve(t *testing.T) *binary {
	t.Helper()
	path := os.Getenv("MAAS_BIN")
	if path == "" {
		missing(t, "MAAS_BIN, the built binary (sh scripts/clients.sh)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	data := t.TempDir()
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, "serve", "--quickstart", "--data", data, "--listen", address)
	cmd.Stderr = &log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	b := &binary{t: t, url: "http://" + address}
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(filepath.Join(data, "quickstart.json"))
		return err == nil && json.Unmarshal(raw, &b.start) == nil && b.start.Key != ""
	}, 90*time.Second, 100*time.Millisecond, "no key after a minute and a half")
	var login struct {
		Token string `json:"access_token"`
	}
	b.do("POST", "/auth/login", map[string]string{"email": b.start.Email, "password": b.start.Password}, &login)
	b.token = login.Token
	return b
}

// do calls the management API.
func (b *binary) do(method, path string, in, out any) {
	b.t.Helper()
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		require.NoError(b.t, err)
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+"/api/v1"+path, body)
	require.NoError(b.t, err)
	req.Header.Set("Authorization", "Bearer "+b.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	require.Less(b.t, resp.StatusCode, 300, "%s %s: %s", method, path, raw)
	if out != nil {
		require.NoError(b.t, json.Unmarshal(raw, out))
	}
}

func (b *binary) key(body map[string]any) string {
	var k struct{ Secret string }
	b.do("POST", "/keys", body, &k)
	return k.Secret
}

// refuses reports whether the gateway answers 401 to a key.
func (b *binary) refuses(key string) bool {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+"/v1/models", nil)
	require.NoError(b.t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusUnauthorized
}

// run starts a client program and shows what it said when it fails.
func (b *binary) run(dir string, env []string, name string, args ...string) {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append(env, "OPENAI_BASE_URL="+b.url+"/v1", "OPENAI_API_KEY="+b.start.Key, "MODEL="+b.start.Model)...)
	out, err := cmd.CombinedOutput()
	require.NoError(b.t, err, string(out))
	require.Contains(b.t, string(out), " passed, 0 failed")
}

func TestOpenAIPython(t *testing.T) {
	python := os.Getenv("MAAS_PYTHON")
	if python == "" {
		missing(t, "MAAS_PYTHON, an interpreter with the openai package (sh scripts/clients.sh)")
	}
	b := serve(t)
	expired := b.key(map[string]any{"name": "short", "expires_at": time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)})
	env := []string{"LIMITED_KEY=" + b.key(map[string]any{"name": "limited", "models": []string{"something-else"}}), "EXPIRED_KEY=" + expired}
	require.Eventually(t, func() bool { return b.refuses(expired) }, 5*time.Second, 50*time.Millisecond, "the key does not expire")
	before := b.usage()
	b.run("python", env, python, "openai_client.py")
	// What the program did is in the usage, the stream that it closed early too.
	require.Eventually(t, func() bool {
		now := b.usage()
		return now.Requests >= before.Requests+12 && now.Completion > before.Completion && b.aborted()
	}, 15*time.Second, 200*time.Millisecond, "usage does not show the requests")
}

type totals struct {
	Requests   int64 `json:"requests"`
	Completion int64 `json:"completion_tokens"`
}

func (b *binary) usage() totals {
	var u struct{ Totals totals }
	now := time.Now().UTC()
	b.do("GET", "/usage?bucket=1d&from="+now.Add(-time.Hour).Format(time.RFC3339)+"&to="+now.Add(time.Hour).Format(time.RFC3339), nil, &u)
	return u.Totals
}

func (b *binary) aborted() bool {
	var l struct {
		Items []struct {
			End        string `json:"end"`
			Completion int64  `json:"completion_tokens"`
		}
	}
	b.do("GET", "/usage/requests?limit=100", nil, &l)
	for _, r := range l.Items {
		if r.End == "client_abort" {
			return true
		}
	}
	return false
}

func TestOpenAINode(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "node")
	}
	if _, err := os.Stat("node/node_modules/openai"); err != nil {
		missing(t, "the openai package for Node (sh scripts/clients.sh)")
	}
	serve(t).run("node", nil, "node", "openai_client.mjs")
}

// The curl that the quickstart prints works when pasted.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		missing(t, "curl")
	}
	b := serve(t)
	out, err := exec.CommandContext(t.Context(), curl, "-sS", b.url+"/v1/chat/completions", "-H", "Authorization: Bearer "+b.start.Key, "-H", "Content-Type: application/json",
		"-d", `{"model":"`+b.start.Model+`","messages":[{"role":"user","content":"hi"}],"stream":true}`).CombinedOutput()
	require.NoError(t, err, string(out))
	require.True(t, strings.HasPrefix(string(out), "data: {"), string(out))
	require.True(t, strings.HasSuffix(strings.TrimSpace(string(out)), "data: [DONE]"), string(out))
}
