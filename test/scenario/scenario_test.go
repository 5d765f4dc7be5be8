// Package scenario runs what users do through the public interfaces, in one process and again as a split pair of processes over PostgreSQL.
package scenario

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/cli"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
	"maas/internal/maastest"
)

// TestMain lets the engine's child process, and servers of their own, be this test binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "worker" || os.Args[1] == "serve") {
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// await repeats a question until the answer's value is one of these.
func await(t *testing.T, c maastest.Caller, path, value string, want ...string) *maastest.Answer {
	t.Helper()
	var a *maastest.Answer
	require.Eventually(t, func() bool {
		a = c.Get(path).Want(http.StatusOK)
		got := a.Str(value)
		for _, w := range want {
			if got == w {
				return true
			}
		}
		return false
	}, 30*time.Second, 50*time.Millisecond, "%s of %s", value, path)
	return a
}

func chat(model string, extra ...any) map[string]any {
	b := map[string]any{"model": model, "messages": []map[string]string{{"role": "user", "content": "hi"}}, "temperature": 0}
	for i := 0; i+1 < len(extra); i += 2 {
		b[extra[i].(string)] = extra[i+1] //nolint:forcetypeassert // test
	}
	return b
}

func TestFromDemoModelToUsage(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		dev := s.As("developer")
		dev.Post("/api/v1/models/demo", nil).Want(http.StatusCreated)
		model := dev.Get("/api/v1/models").Want(http.StatusOK).Str("items.0.name")
		await(t, dev, "/api/v1/models/"+model, "latest.status", "ready")
		s.As("viewer").Post("/api/v1/inference/deployments", map[string]any{"name": "demo", "model": model}).Want(http.StatusForbidden).Code("auth.forbidden")
		dev.Post("/api/v1/inference/deployments", map[string]any{"name": "demo", "model": model}).Want(http.StatusCreated).Event("inference.deployment.created")
		dev.Post("/api/v1/inference/deployments", map[string]any{"name": "demo", "model": model}).Want(http.StatusConflict)
		await(t, dev, "/api/v1/inference/deployments/demo", "status", "ready")

		key := dev.Post("/api/v1/keys", map[string]any{"name": "ci"}).Want(http.StatusCreated)
		app := s.With(key.Str("secret"))
		require.Empty(t, dev.Get("/api/v1/keys/"+key.Str("id")).Want(http.StatusOK).Str("secret"), "the secret is shown once")
		require.Equal(t, "demo", app.Get("/v1/models").Want(http.StatusOK).Str("data.0.id"))
		text := app.Post("/v1/chat/completions", chat("demo")).Want(http.StatusOK).Str("choices.0.message.content")
		require.Contains(t, text, "toy network")
		stream := app.Post("/v1/chat/completions", chat("demo", "stream", true)).Want(http.StatusOK)
		require.Equal(t, "text/event-stream", stream.Header.Get("Content-Type"))
		require.True(t, bytes.HasSuffix(bytes.TrimSpace(stream.Body), []byte("data: [DONE]")))
		require.Contains(t, app.Post("/api/v1/inference/chat", chat("demo")).Want(http.StatusOK).Str("choices.0.message.content"), "toy network")
		app.Post("/v1/chat/completions", chat("nothing")).Want(http.StatusNotFound).Code("model_not_found")
		app.Post("/api/v1/inference/chat", chat("nothing")).Want(http.StatusNotFound)
		s.With("").Post("/v1/chat/completions", chat("demo")).Want(http.StatusUnauthorized)

		now := time.Now().UTC()
		window := "?bucket=1h&group_by=model&from=" + now.Add(-time.Hour).Format(time.RFC3339) + "&to=" + now.Add(time.Hour).Format(time.RFC3339)
		require.Eventually(t, func() bool {
			u := dev.Get("/api/v1/usage" + window).Want(http.StatusOK)
			done, _ := strconv.Atoi(u.Str("totals.completion_tokens"))
			return done == 3*48 // three answers of the toy's one sentence
		}, 10*time.Second, 100*time.Millisecond, "usage")

		dev.Post("/api/v1/keys/"+key.Str("id")+"/revoke", nil).Want(http.StatusOK).Event("user.key.changed")
		start := time.Now()
		require.Eventually(t, func() bool { return app.Get("/v1/models").Status == http.StatusUnauthorized }, 3*time.Second, 20*time.Millisecond)
		require.Less(t, time.Since(start), time.Second, "a revoked key is refused within a second")
		s.As("admin").Delete("/api/v1/models/" + model).Want(http.StatusConflict) // in use
		dev.Delete("/api/v1/inference/deployments/demo").Want(http.StatusNoContent, http.StatusAccepted)
		require.Eventually(t, func() bool { return dev.Post("/v1/chat/completions", chat("demo")).Status == http.StatusNotFound }, 2*time.Second, 20*time.Millisecond, "a deleted name is gone")
	})
}

// upload sends bytes by tus and returns the id.
func upload(t *testing.T, c maastest.Caller, model, path string, b []byte, sum string) *maastest.Answer {
	t.Helper()
	meta := func(kv ...string) string {
		var parts []string
		for i := 0; i < len(kv); i += 2 {
			parts = append(parts, kv[i]+" "+base64.StdEncoding.EncodeToString([]byte(kv[i+1])))
		}
		return strings.Join(parts, ",")
	}
	h := http.Header{"Tus-Resumable": {"1.0.0"}, "Upload-Length": {strconv.Itoa(len(b))}, "Upload-Metadata": {meta("purpose", "model", "model", model, "path", path, "sha256", sum)}}
	a := c.Request(http.MethodPost, "/api/v1/uploads", nil, h).Want(http.StatusCreated)
	at := a.Header.Get("Location")
	half := len(b) / 2
	for _, part := range [][2]int{{0, half}, {half, len(b)}} { // in two pieces, as after a cut connection
		h := http.Header{"Tus-Resumable": {"1.0.0"}, "Upload-Offset": {strconv.Itoa(part[0])}, "Content-Type": {"application/offset+octet-stream"}}
		p := c.Request(http.MethodPatch, at[strings.Index(at, "/api/"):], bytes.NewReader(b[part[0]:part[1]]), h)
		if p.Status != http.StatusNoContent {
			return p
		}
	}
	a.Header.Set("Upload-Id", at[strings.LastIndexByte(at, '/')+1:])
	return a
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestImportedModelCounts(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		dev := s.As("developer")
		b, err := modelgen.GGUF(modelgen.Spec{Arch: "qwen2", Kind: modelgen.Successor, Type: quant.Q8_0, Seed: 3})
		require.NoError(t, err)
		id := dev.Post("/api/v1/models", map[string]any{"name": "counter"}).Want(http.StatusCreated).Str("id")
		dev.Post("/api/v1/models", map[string]any{"name": "counter"}).Want(http.StatusConflict)
		upload(t, dev, id, "counter.gguf", b, strings.Repeat("0", 64)).Want(http.StatusUnprocessableEntity, 460, http.StatusBadRequest) // a wrong hash is refused
		up := upload(t, dev, id, "counter.gguf", b, digest(b)).Want(http.StatusCreated)
		v := dev.Post("/api/v1/models/"+id+"/versions", map[string]any{"files": []map[string]string{{"path": "counter.gguf", "upload_id": up.Header.Get("Upload-Id")}}}).Want(http.StatusAccepted)
		require.Equal(t, "1", v.Str("number"))
		require.Equal(t, "qwen2", await(t, dev, "/api/v1/models/counter/versions/1", "status", "ready", "warned").Str("architecture"))
		file := dev.Request(http.MethodGet, "/api/v1/models/counter/versions/1/files/counter.gguf", nil, http.Header{"Range": {"bytes=0-3"}}).Want(http.StatusPartialContent)
		require.Equal(t, "GGUF", string(file.Body))

		dev.Post("/api/v1/inference/deployments", map[string]any{"name": "counter", "model": "counter@r1"}).Want(http.StatusCreated)
		await(t, dev, "/api/v1/inference/deployments/counter", "status", "ready")
		answer := dev.Post("/v1/completions", map[string]any{"model": "counter", "prompt": "3 4 5", "max_tokens": 6, "temperature": 0}).Want(http.StatusOK)
		require.Contains(t, strings.Join(strings.Fields(answer.Str("choices.0.text")), " "), "6 7", string(answer.Body))
	})
}

func TestBrokenFilesAreRefusedWithTheReason(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		dev := s.As("developer")
		whole, err := modelgen.GGUF(modelgen.Spec{Arch: "llama", Seed: 1})
		require.NoError(t, err)
		absurd := append([]byte("GGUF\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x7f"), make([]byte, 64)...)
		for name, c := range map[string]struct {
			path, code string
			bytes      []byte
		}{
			"truncated": {"m.gguf", "llm.file_truncated", whole[:len(whole)/3]},
			"absurd":    {"m.gguf", "llm.gguf", absurd},
			"pickle":    {"pytorch_model.bin", "llm.pickle_refused", []byte("\x80\x02cposix\nsystem\nq\x00.")},
			"text":      {"m.gguf", "llm.", []byte("this is no model at all")},
		} {
			id := dev.Post("/api/v1/models", map[string]any{"name": "bad-" + name}).Want(http.StatusCreated).Str("id")
			up := upload(t, dev, id, c.path, c.bytes, digest(c.bytes)).Want(http.StatusCreated)
			dev.Post("/api/v1/models/"+id+"/versions", map[string]any{"files": []map[string]string{{"path": c.path, "upload_id": up.Header.Get("Upload-Id")}}}).Want(http.StatusAccepted)
			v := await(t, dev, "/api/v1/models/"+id+"/versions/1", "status", "rejected", "failed")
			require.Contains(t, v.Str("reason.code"), c.code, name)
			require.NotEmpty(t, v.Str("reason.message"), name)
			require.NotEmpty(t, v.Str("reason.hint"), name)
			dev.Post("/api/v1/inference/deployments", map[string]any{"name": "bad-" + name, "model": "bad-" + name}).Want(http.StatusConflict, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusBadRequest)
		}
	})
}

func TestProviderIsServedLikeAModel(t *testing.T) {
	up := maastest.One(t) // another installation plays the provider
	owner := up.As("owner")
	owner.Post("/api/v1/models/demo", nil).Want(http.StatusCreated)
	name := owner.Get("/api/v1/models").Str("items.0.name")
	await(t, owner, "/api/v1/models/"+name, "latest.status", "ready")
	owner.Post("/api/v1/inference/deployments", map[string]any{"name": "far", "model": name}).Want(http.StatusCreated)
	await(t, owner, "/api/v1/inference/deployments/far", "status", "ready")
	key := owner.Post("/api/v1/keys", map[string]any{"name": "peer"}).Want(http.StatusCreated).Str("secret")

	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		admin := s.As("admin")
		p := admin.Post("/api/v1/inference/providers", map[string]any{"name": "peer", "base_url": up.URL + "/v1", "api_key": key}).Want(http.StatusCreated)
		require.NotContains(t, string(p.Body), key, "the key is write-only")
		require.Equal(t, "true", admin.Post("/api/v1/inference/providers/"+p.Str("id")+"/test", nil).Want(http.StatusOK).Str("ok"))
		admin.Post("/api/v1/inference/deployments", map[string]any{"name": "near", "provider": p.Str("id"), "upstream_model": "far", "engine": "openai"}).Want(http.StatusCreated)
		await(t, admin, "/api/v1/inference/deployments/near", "status", "ready")
		var a *maastest.Answer
		require.Eventually(t, func() bool { // the table of routes follows the state within milliseconds
			a = admin.Post("/v1/chat/completions", chat("near"))
			return a.Status == http.StatusOK
		}, 2*time.Second, 20*time.Millisecond)
		require.Contains(t, a.Str("choices.0.message.content"), "toy network")
		require.Equal(t, "near", a.Str("model"), "the name that was asked for")
	})
}

func TestEdges(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		anyone := s.With("")
		require.Equal(t, "ok\n", string(anyone.Get("/livez").Want(http.StatusOK).Body))
		anyone.Get("/readyz").Want(http.StatusOK)
		anyone.Get("/.well-known/jwks.json").Want(http.StatusOK)
		anyone.Get("/api/v1/nothing").Want(http.StatusNotFound).Code("web.not_found")
		anyone.Get("/v1/nothing").Want(http.StatusNotFound, http.StatusUnauthorized)
		anyone.Get("/api/v1/models").Want(http.StatusUnauthorized)
		require.Contains(t, string(anyone.Get("/metrics").Want(http.StatusOK).Body), "maas_")
		page := anyone.Request(http.MethodGet, "/playground", nil, http.Header{"Accept": {"text/html"}}).Want(http.StatusOK)
		require.Contains(t, page.Header.Get("Content-Security-Policy"), "script-src 'self'")
		big := anyone.Request(http.MethodPost, "/api/v1/auth/login", io.LimitReader(zeros{}, 2<<20), http.Header{"Content-Type": {"application/json"}})
		big.Want(http.StatusRequestEntityTooLarge)
		s.As("owner").Put("/api/v1/ops/log-level", map[string]any{"level": "info"}).Want(http.StatusOK)
		s.As("viewer").Put("/api/v1/ops/log-level", map[string]any{"level": "debug"}).Want(http.StatusForbidden)
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
