package inference

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/fake"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
)

// wires answers lists of models and smoke requests in the forms of three providers.
func wires(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		answer, ok := map[string]string{
			"GET /ant/v1/models?limit=1000":                                                `{"data":[{"type":"model","id":"claude","display_name":"Claude"}],"has_more":false}`,
			"POST /ant/v1/messages":                                                        `{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"H"}],"stop_reason":"max_tokens","usage":{"input_tokens":1,"output_tokens":1}}`,
			"GET /gem/v1beta/models?pageSize=1000":                                         `{"models":[{"name":"models/gemini-x"},{"name":"models/embed-x"}]}`,
			"POST /gem/v1beta/models/gemini-x:generateContent":                             `{"candidates":[{"content":{"role":"model"},"finishReason":"MAX_TOKENS"}]}`,
			"POST /gem/v1beta/models/embed-x:batchEmbedContents":                           `{"embeddings":[{"values":[0.5]}]}`,
			"GET /az/openai/models?api-version=2024-10-21":                                 `{"data":[{"id":"gpt-4o"}]}`,
			"POST /az/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21": `{"choices":[{"message":{"role":"assistant","content":"H"}}]}`,
			"GET /az/openai/v1/models":                                                     `{"data":[{"id":"gpt-4o"}]}`,
			"POST /az/openai/v1/chat/completions":                                          `{"choices":[{"message":{"role":"assistant","content":"H"}}]}`,
		}[r.Method+" "+r.URL.RequestURI()]
		right := strings.HasPrefix(r.URL.Path, "/ant") && h.Get("X-Api-Key") == "k" && h.Get("Anthropic-Version") != "" || strings.HasPrefix(r.URL.Path, "/gem") && h.Get("X-Goog-Api-Key") == "k" || strings.HasPrefix(r.URL.Path, "/az") && h.Get("Api-Key") == "k"
		switch {
		case !right || h.Get("Authorization") != "":
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestProviderKinds(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Helper()
		url := wires(t)
		r := start(t, d, fake.Script{})
		ctx := as(t, "ten_a")
		for _, tc := range []struct {
			name    string
			new     NewProvider
			model   string
			models  string
			dialect engine.Dialect
			base    string
			query   string
			auth    string
		}{
			{"ant", NewProvider{Kind: KindAnthropic, BaseURL: url + "/ant/v1"}, "claude", "claude", engine.Anthropic, "/ant/v1", "", "X-Api-Key"},
			{"gem", NewProvider{Kind: KindGemini, BaseURL: url + "/gem/v1beta"}, "gemini-x", "gemini-x embed-x", engine.Gemini, "/gem/v1beta", "", "X-Goog-Api-Key"},
			{"gem-embed", NewProvider{Preset: "gemini", BaseURL: url + "/gem/v1beta"}, "embed-x", "gemini-x embed-x", engine.Gemini, "/gem/v1beta", "", "X-Goog-Api-Key"},
			{"az-old", NewProvider{Kind: KindAzure, BaseURL: url + "/az", Version: "2024-10-21"}, "my gpt", "gpt-4o", engine.Azure, "/az/openai/deployments/my%20gpt", "api-version=2024-10-21", "Api-Key"},
			{"az", NewProvider{Kind: KindAzure, BaseURL: url + "/az/openai/v1"}, "gpt-4o", "gpt-4o", engine.Azure, "/az/openai/v1", "", "Api-Key"},
		} {
			tc.new.Name, tc.new.APIKey = tc.name, "k"
			p, err := r.CreateProvider(ctx, tc.new)
			require.NoError(t, err, tc.name)
			test, err := r.TestProvider(ctx, p.ID)
			require.NoError(t, err)
			require.True(t, test.OK, "%s: %+v", tc.name, test.Error)
			list, err := r.ProviderModels(ctx, p.ID)
			require.NoError(t, err)
			var ids []string
			for _, m := range list {
				ids = append(ids, m.ID)
			}
			require.Equal(t, tc.models, strings.Join(ids, " "))
			_, err = r.Deploy(ctx, NewDeployment{Name: tc.name, Provider: p.ID, UpstreamModel: tc.model})
			require.NoError(t, err)
			r.status(t, tc.name, Ready)
			a := r.pick(t, tc.name)
			ep := a.Endpoint
			require.Equal(t, []string{string(tc.dialect), tc.base, tc.query, tc.auth, "k"}, []string{string(ep.Dialect), ep.BasePath, ep.Query, ep.AuthName, ep.Auth.Reveal()}, tc.name)
			a.Done(Outcome{Class: OK})
			require.NoError(t, d.System().Read(ctx, func(ctx context.Context, q *db.Query) error {
				stored, err := db.One(ctx, q, db.Scalar[string], "SELECT api_key FROM inference_provider WHERE id = $1", p.ID)
				require.NotEqual(t, "k", stored)
				return err
			}))
		}
		wrong := "wrong"
		p, err := r.CreateProvider(ctx, NewProvider{Name: "no", Kind: KindAnthropic, BaseURL: url + "/ant/v1", APIKey: wrong})
		require.NoError(t, err)
		test, err := r.TestProvider(ctx, p.ID)
		require.NoError(t, err)
		require.Equal(t, "upstream_auth", test.Error.Code)
	}, tables...)
}

func TestPresets(t *testing.T) {
	t.Parallel()
	r := start(t, dbtest.Open(t, tables...), fake.Script{})
	ctx := as(t, "ten_a")
	seen := map[string]bool{}
	for _, p := range Presets() {
		require.False(t, seen[p.ID], p.ID)
		seen[p.ID] = true
		require.NotEmpty(t, p.Needs, p.ID)
		n := NewProvider{Name: p.ID, Preset: p.ID}
		if strings.ContainsAny(p.BaseURL, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			_, err := r.CreateProvider(ctx, n)
			require.ErrorIs(t, err, ErrProviderInvalid, "%s has a part that must be filled in", p.ID)
			n.BaseURL = "https://example.com"
		}
		made, err := r.CreateProvider(ctx, n)
		require.NoError(t, err, p.ID)
		require.Equal(t, []string{p.Kind, p.ID}, []string{made.Kind, made.Preset})
	}
	made, err := r.CreateProvider(ctx, NewProvider{Name: "by address", BaseURL: "https://api.deepseek.com/v1"})
	require.NoError(t, err)
	require.Equal(t, "deepseek", made.Preset)
	require.True(t, capsOf(&made).Thoughts)
	elsewhere := "https://example.com/v1"
	made, err = r.UpdateProvider(ctx, made.ID, ProviderPatch{BaseURL: &elsewhere}, nil)
	require.NoError(t, err)
	require.Empty(t, made.Preset, "what is known of one address does not hold for another")
	made, err = r.Provider(ctx, made.ID)
	require.NoError(t, err)
	require.Empty(t, made.Preset)
	for _, n := range []NewProvider{{Name: "x", Preset: "nope", BaseURL: "https://example.com"}, {Name: "x", Preset: "anthropic", Kind: KindOpenAI}, {Name: "x"}, {Name: "x", BaseURL: "https://example.com", Version: "2024-10-21"}, {Name: "x", Kind: KindAzure, BaseURL: "https://example.com", Version: "a&b"}} {
		_, err := r.CreateProvider(ctx, n)
		require.ErrorIs(t, err, ErrProviderInvalid)
	}
}
