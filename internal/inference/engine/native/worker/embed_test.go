package worker

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/modelgen"
)

type vectors struct {
	Object string
	Model  string
	Data   []struct {
		Object    string
		Index     int
		Embedding []float64
	}
	Usage struct {
		Prompt int `json:"prompt_tokens"`
		Total  int `json:"total_tokens"`
	}
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Arch: "bert", Kind: modelgen.Embed}, Config{})
	code, body := c.post("/v1/embeddings", `{"model":"m","input":["green tea","Green tea!","tax"]}`)
	require.Equal(t, http.StatusOK, code, body)
	v := decodeInto[vectors](t, body)
	require.Equal(t, "list", v.Object)
	require.Len(t, v.Data, 3)
	require.Equal(t, v.Usage.Prompt, v.Usage.Total)
	dot := func(a, b int) (sum float64) {
		for i, f := range v.Data[a].Embedding {
			sum += f * v.Data[b].Embedding[i]
		}
		return sum
	}
	require.InDelta(t, 1, dot(0, 0), 1e-5)
	require.Greater(t, dot(0, 1), dot(0, 2))

	code, packed := c.post("/v1/embeddings", `{"model":"m","input":"green tea","encoding_format":"base64","dimensions":64}`)
	require.Equal(t, http.StatusOK, code, packed)
	one := decodeInto[struct{ Data []struct{ Embedding string } }](t, packed)
	b, err := base64.StdEncoding.DecodeString(one.Data[0].Embedding)
	require.NoError(t, err)
	for i, f := range v.Data[0].Embedding {
		require.InDelta(t, f, float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))), 1e-7)
	}
	tokens := decodeInto[struct{ Tokens []int }](t, func() string { _, b := c.post("/tokenize", `{"prompt":"a"}`); return b }())
	require.NotEmpty(t, tokens.Tokens)
	for in, want := range map[string]string{
		`{"input":[]}`: "input", `{"input":"a","encoding_format":"int8"}`: "encoding_format", `{"input":"a","dimensions":3}`: "dimensions", `{"input":[[1,99999999]]}`: "vocabulary",
		`{"input":"` + strings.Repeat("a ", 600) + `"}`: "context_length_exceeded", `{"input":{"a":1}}`: "input", `{"input":[[]]}`: "empty", `{`: "JSON",
	} {
		code, body := c.post("/v1/embeddings", in)
		require.Equal(t, http.StatusBadRequest, code, "%s: %s", in, body)
		require.Contains(t, body, want, in)
	}
	code, body = c.post("/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}]}`)
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, body, "makes no text")
	code, _ = c.post("/v1/rerank", `{"query":"a","documents":["b"]}`)
	require.Equal(t, http.StatusBadRequest, code)
	code, body = c.get("/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "vllm:prompt_tokens_total")
	code, body = c.get("/v1/models")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, `"max_model_len":512`)
}

func TestRerank(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.Spec{Arch: "bert", Kind: modelgen.Rank, Seed: 2}, Config{})
	type answer struct {
		Results []struct {
			Index int
			Score float64 `json:"relevance_score"`
		}
		Usage struct {
			Total int `json:"total_tokens"`
		}
	}
	code, body := c.post("/v1/rerank", `{"model":"m","query":"where is the tea","documents":["in the kitchen","on mars","`+strings.Repeat("long ", 3000)+`"]}`)
	require.Equal(t, http.StatusOK, code, body)
	a := decodeInto[answer](t, body)
	require.Len(t, a.Results, 3)
	require.GreaterOrEqual(t, a.Results[0].Score, a.Results[1].Score)
	require.GreaterOrEqual(t, a.Results[1].Score, a.Results[2].Score)
	require.Greater(t, a.Usage.Total, 512, "the long document counts as what was read of it")
	code, body = c.post("/v1/rerank", `{"query":"where is the tea","documents":["in the kitchen","on mars"],"top_n":1,"max_tokens_per_doc":2}`)
	require.Equal(t, http.StatusOK, code, body)
	require.Len(t, decodeInto[answer](t, body).Results, 1)
	for _, in := range []string{`{"query":"a"}`, `{"query":"a","documents":["b"],"top_n":0}`, `{"query":"a","documents":["b"],"max_tokens_per_doc":-1}`, `{"query":1,"documents":["b"]}`} {
		code, body := c.post("/v1/rerank", in)
		require.Equal(t, http.StatusBadRequest, code, body)
	}
	code, _ = c.post("/v1/embeddings", `{"input":"a"}`)
	require.Equal(t, http.StatusBadRequest, code)
}
