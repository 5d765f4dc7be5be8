package scenario

import (
	"maps"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/modelgen"
	"maas/internal/maastest"
)

// An embedding model and a ranker are imported and deployed like any other, say what they do, answer that and nothing else, and are counted.
func TestEmbeddersAndRankers(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		dev := s.As("developer")
		deploy := func(name string, spec modelgen.Spec) {
			b, err := modelgen.GGUF(spec)
			require.NoError(t, err)
			id := dev.Post("/api/v1/models", map[string]any{"name": name}).Want(http.StatusCreated).Str("id")
			up := upload(t, dev, id, name+".gguf", b, digest(b)).Want(http.StatusCreated)
			dev.Post("/api/v1/models/"+id+"/versions", map[string]any{"files": []map[string]string{{"path": name + ".gguf", "upload_id": up.Header.Get("Upload-Id")}}}).Want(http.StatusAccepted)
			require.Equal(t, "bert", await(t, dev, "/api/v1/models/"+name+"/versions/1", "status", "ready", "warned").Str("architecture"))
			dev.Post("/api/v1/inference/deployments", map[string]any{"name": name, "model": name}).Want(http.StatusCreated)
			await(t, dev, "/api/v1/inference/deployments/"+name, "status", "ready")
		}
		deploy("near", modelgen.Spec{Arch: "bert", Kind: modelgen.Embed})
		deploy("rank", modelgen.Spec{Arch: "bert", Kind: modelgen.Rank})

		require.Eventually(t, func() bool { // a process of its own learns of it a moment later
			var list struct {
				Data []struct {
					ID   string
					Maas struct{ Task string }
				}
			}
			dev.Get("/v1/models").Want(http.StatusOK).Into(&list)
			tasks := map[string]string{}
			for _, m := range list.Data {
				tasks[m.ID] = m.Maas.Task
			}
			return maps.Equal(tasks, map[string]string{"near": "embedding", "rank": "rerank"})
		}, 30*time.Second, 100*time.Millisecond, "what each model does")

		var v struct {
			Data  []struct{ Embedding []float64 }
			Usage struct {
				Total int `json:"total_tokens"`
			}
		}
		for _, path := range []string{"/v1/embeddings", "/api/v1/inference/embedding"} {
			dev.Post(path, map[string]any{"model": "near", "input": []string{"green tea", "warm green tea", "quarterly tax report"}}).Want(http.StatusOK).Into(&v)
			dot := func(a, b int) (sum float64) {
				for i, f := range v.Data[a].Embedding {
					sum += f * v.Data[b].Embedding[i]
				}
				return sum
			}
			require.Greater(t, dot(0, 1), dot(0, 2)+0.2)
		}
		ranked := dev.Post("/v1/rerank", map[string]any{"model": "rank", "query": "tea", "documents": []string{"a", "b", "c"}, "top_n": 2, "return_documents": true}).Want(http.StatusOK)
		require.NotEmpty(t, ranked.Str("results.1.document.text"))
		dev.Post("/v1/chat/completions", chat("near")).Want(http.StatusBadRequest).Code("operation_not_supported")
		dev.Post("/v1/embeddings", map[string]any{"model": "rank", "input": "a"}).Want(http.StatusBadRequest).Code("operation_not_supported")
		dev.Post("/v1/embeddings", map[string]any{"model": "near", "input": "a", "dimensions": 7}).Want(http.StatusBadRequest)
		total := 2*v.Usage.Total + int(number(t, ranked.Str("usage.total_tokens")))
		now := time.Now().UTC()
		window := "?bucket=1h&from=" + now.Add(-time.Hour).Format(time.RFC3339) + "&to=" + now.Add(time.Hour).Format(time.RFC3339)
		require.Eventually(t, func() bool {
			return number(t, dev.Get("/api/v1/usage"+window).Str("totals.prompt_tokens")) == float64(total)
		}, 30*time.Second, 100*time.Millisecond, "every token of both is counted once")
	})
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err, s)
	return f
}
