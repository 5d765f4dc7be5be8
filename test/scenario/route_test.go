package scenario

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest"
	"maas/internal/maastest/faulty"
)

// A name that leads to a hosted model and, when that is away, to one of our own: clients see no difference, people see why.
func TestRouteSurvivesAnUpstream(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		u, err := faulty.New("hosted")
		require.NoError(t, err)
		t.Cleanup(u.Close)
		dev, admin := s.As("developer"), s.As("admin")
		dev.Post("/api/v1/models/demo", nil).Want(http.StatusCreated)
		model := dev.Get("/api/v1/models").Want(http.StatusOK).Str("items.0.name")
		await(t, dev, "/api/v1/models/"+model, "latest.status", "ready")
		dev.Post("/api/v1/inference/deployments", map[string]any{"name": "local", "model": model}).Want(http.StatusCreated)
		p := admin.Post("/api/v1/inference/providers", map[string]any{"name": "hosted", "base_url": "http://" + u.Addr() + "/v1"}).Want(http.StatusCreated)
		dev.Post("/api/v1/inference/deployments", map[string]any{"name": "hosted", "provider": p.Str("id"), "upstream_model": "m", "engine": "openai"}).Want(http.StatusCreated)
		await(t, dev, "/api/v1/inference/deployments/local", "status", "ready")
		await(t, dev, "/api/v1/inference/deployments/hosted", "status", "ready")

		spec := map[string]any{"name": "team/chat", "aliases": []string{"gpt-4o"}, "targets": []map[string]any{{"deployment": "hosted"}, {"deployment": "local", "priority": 1}}}
		s.As("viewer").Post("/api/v1/inference/routes", spec).Want(http.StatusForbidden)
		id := dev.Post("/api/v1/inference/routes", spec).Want(http.StatusCreated).Str("id")
		test := dev.Post("/api/v1/inference/routes/"+id+"/test", map[string]any{"model": "gpt-4o"}).Want(http.StatusOK)
		require.Equal(t, "true", test.Str("ok"), string(test.Body))
		require.Equal(t, "hosted", test.Str("attempts.0.deployment"))
		key := dev.Post("/api/v1/keys", map[string]any{"name": "app", "models": []string{"team/chat"}}).Want(http.StatusCreated)
		app := s.With(key.Str("secret"))
		a := app.Post("/v1/chat/completions", chat("gpt-4o")).Want(http.StatusOK)
		require.Equal(t, "team/chat", a.Header.Get("X-Maas-Model"))
		require.Contains(t, a.Str("choices.0.message.content"), "word")

		u.Mode(func() string { return "down" })
		for range 6 {
			a = app.Post("/v1/chat/completions", chat("gpt-4o", "stream", true)).Want(http.StatusOK)
			require.Contains(t, string(a.Body), "[DONE]")
			require.NotContains(t, string(a.Body), `"error"`)
		}
		require.Equal(t, "1", a.Header.Get("X-Maas-Attempts"), "the upstream is left alone by now")
		state := await(t, dev, "/api/v1/inference/routes/"+id, "state.0.breaker", "open", "half_open")
		require.Equal(t, "hosted", state.Str("state.0.deployment"))
		require.Equal(t, "gateway.upstream_broken", state.Str("state.0.last_error.code"))
		require.False(t, strings.Contains(string(state.Body), u.Addr()), "addresses stay inside")
		require.Equal(t, "closed", state.Str("state.1.breaker"))
		require.NotEmpty(t, dev.Get("/api/v1/inference/upstreams").Want(http.StatusOK).Str("items.1.deployment"))

		u.Mode(nil)
		require.Eventually(t, func() bool {
			return strings.Contains(app.Post("/v1/chat/completions", chat("team/chat")).Want(http.StatusOK).Str("choices.0.message.content"), "word")
		}, 90*time.Second, 200*time.Millisecond, "it never came back")

		dev.Delete("/api/v1/inference/deployments/local").Want(http.StatusConflict).Code("inference.deployment_routed")
		dev.Patch("/api/v1/inference/routes/gpt-4o", map[string]any{"fallbacks": []string{"gpt-4o"}}).Want(http.StatusUnprocessableEntity)
		dev.Delete("/api/v1/inference/routes/" + id).Want(http.StatusNoContent)
		require.Eventually(t, func() bool { return app.Post("/v1/chat/completions", chat("gpt-4o")).Status == http.StatusNotFound }, 30*time.Second, 20*time.Millisecond, "a deleted name is gone")
	})
}
