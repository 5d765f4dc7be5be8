package worker

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"slices"
	"strconv"

	"maas/internal/inference/dialect"
	"maas/internal/llm/arch"
	"maas/internal/llm/run"
	"maas/internal/llm/token"
	"maas/internal/platform/fault"
)

const (
	maxInputs    = 2048 // texts of one request, as OpenAI has it
	maxDocuments = 1000
)

// embeddings is POST /v1/embeddings: {input: text, texts, ids or lists of ids; encoding_format; dimensions}.
func (s *server) embeddings(w http.ResponseWriter, r *http.Request, m *model, body []byte) error {
	var in struct {
		Input      dialect.Prompts `json:"input"`
		Format     string          `json:"encoding_format"`
		Dimensions *int            `json:"dimensions"`
		Model      string          `json:"model"`
	}
	if err := decode(body, &in); err != nil {
		return err
	}
	switch {
	case m.encoder == nil || m.encoder.Ranks():
		return errMissing.With("this model makes no vectors")
	case len(in.Input) == 0:
		return errRequest.With("input is required").WithFields(fault.Field{Name: "input", Code: "required", Message: "is required"})
	case len(in.Input) > maxInputs:
		return errRequest.With("input: %d texts are over the limit of %d", len(in.Input), maxInputs).WithFields(fault.Field{Name: "input", Code: "too_long", Message: "too many", Limit: maxInputs})
	case in.Format != "" && in.Format != "float" && in.Format != "base64":
		return errRequest.With("encoding_format must be float or base64").WithFields(fault.Field{Name: "encoding_format", Code: "not_in_list", Message: "must be float or base64"})
	case in.Dimensions != nil && *in.Dimensions != m.encoder.Dim():
		return errMissing.With("this model makes vectors of %d values and was not made to have them cut", m.encoder.Dim()).WithFields(fault.Field{Name: "dimensions", Code: "not_in_list", Message: "must be " + strconv.Itoa(m.encoder.Dim()), Limit: m.encoder.Dim()})
	}
	list := make([][]int32, len(in.Input))
	total := 0
	for i, p := range in.Input {
		ids := p.IDs
		if ids == nil {
			var err error
			if ids, err = m.tok.Encode(nil, []token.Part{{Text: p.Text}}, m.tok.Defaults()); err != nil {
				return err
			}
		}
		if len(ids) > m.encoder.MaxContext() {
			return tooLong(len(ids), m.encoder.MaxContext(), "input")
		}
		list[i] = ids
		total += len(ids)
	}
	watch := s.metrics.begin()
	vectors, err := m.encoder.Embed(r.Context(), list)
	watch.end(run.Usage{Prompt: total}, err)
	if err != nil {
		return err
	}
	data := make([]embedding, len(vectors))
	for i, v := range vectors {
		data[i] = embedding{"embedding", i, v}
		if in.Format == "base64" {
			data[i].Embedding = packed(v)
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": data, "model": cmp.Or(in.Model, s.cfg.Model), "usage": map[string]int{"prompt_tokens": total, "total_tokens": total}})
	return nil
}

type embedding struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"`
}

// packed is the base64 of little-endian float32, which OpenAI's clients ask for.
func packed(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(b)
}

type scored struct {
	Index int     `json:"index"`
	Score float64 `json:"relevance_score"`
}

// rerank is POST /v1/rerank: {query, documents, top_n}; scores are the sigmoid of the head's output, best first.
func (s *server) rerank(w http.ResponseWriter, r *http.Request, m *model, body []byte) error {
	var in struct {
		Query     string   `json:"query"`
		Documents []string `json:"documents"`
		TopN      *int     `json:"top_n"`
		Model     string   `json:"model"`
		PerDoc    *int     `json:"max_tokens_per_doc"`
	}
	if err := decode(body, &in); err != nil {
		return err
	}
	switch {
	case m.encoder == nil || !m.encoder.Ranks():
		return errMissing.With("this model does not rank")
	case len(in.Documents) == 0:
		return errRequest.With("documents is required").WithFields(fault.Field{Name: "documents", Code: "required", Message: "is required"})
	case len(in.Documents) > maxDocuments:
		return errRequest.With("documents: %d are over the limit of %d", len(in.Documents), maxDocuments).WithFields(fault.Field{Name: "documents", Code: "too_long", Message: "too many", Limit: maxDocuments})
	case in.TopN != nil && *in.TopN < 1:
		return errRequest.With("top_n must be at least 1").WithFields(fault.Field{Name: "top_n", Code: "out_of_range", Message: "must be at least 1"})
	case in.PerDoc != nil && *in.PerDoc < 1:
		return errRequest.With("max_tokens_per_doc must be at least 1").WithFields(fault.Field{Name: "max_tokens_per_doc", Code: "out_of_range", Message: "must be at least 1"})
	}
	most := 0
	if in.PerDoc != nil {
		most = *in.PerDoc
	}
	pairs := make([]arch.Sequence, len(in.Documents))
	total := 0
	for i, d := range in.Documents {
		var err error
		if pairs[i], err = m.encoder.Pair(in.Query, d, most, m.encoder.MaxContext()); err != nil {
			return err
		}
		total += len(pairs[i].Tokens)
	}
	watch := s.metrics.begin()
	scores, err := m.encoder.Rank(r.Context(), pairs)
	watch.end(run.Usage{Prompt: total}, err)
	if err != nil {
		return err
	}
	results := make([]scored, len(scores))
	for i, v := range scores {
		results[i] = scored{i, 1 / (1 + math.Exp(-float64(v)))}
	}
	slices.SortStableFunc(results, func(a, b scored) int { return cmp.Compare(b.Score, a.Score) })
	if in.TopN != nil {
		results = results[:min(len(results), *in.TopN)]
	}
	writeJSON(w, http.StatusOK, map[string]any{"id": newID("rerank-"), "model": cmp.Or(in.Model, s.cfg.Model), "results": results, "usage": map[string]int{"prompt_tokens": total, "total_tokens": total}})
	return nil
}
