package dialect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

const documentsMost = 1000

// rerank serves clients of both forms of reranking by an upstream that takes a list of texts. Documents are put back by us, so what an upstream answers beyond index and score does not matter.
type rerank struct {
	o         Options
	seen      Seen
	second    bool // the client speaks Cohere's second version
	documents []json.RawMessage
	texts     []string
	back      bool // the client wants the documents back
	topN      int
}

// Seen implements Translator.
func (t *rerank) Seen() *Seen { return &t.seen }

// Request implements Translator.
func (t *rerank) Request(dst, body []byte) ([]byte, error) {
	var in struct {
		Query     string            `json:"query"`
		Documents []json.RawMessage `json:"documents"`
		TopN      *int              `json:"top_n"`
		TopK      *int              `json:"top_k"`
		Back      bool              `json:"return_documents"`
		MaxTokens *int              `json:"max_tokens_per_doc"`
	}
	if err := Decode(body, &in); err != nil {
		return dst, err
	}
	if in.TopN == nil {
		in.TopN = in.TopK
	}
	switch {
	case in.Query == "":
		return dst, wrong("query", "is required")
	case len(in.Documents) == 0:
		return dst, wrong("documents", "must hold at least one document")
	case len(in.Documents) > documentsMost:
		return dst, wrong("documents", "must hold at most %d documents", documentsMost)
	case in.TopN != nil && *in.TopN < 1:
		return dst, wrong("top_n", "must be at least 1")
	}
	t.documents, t.back, t.topN = in.Documents, in.Back && !t.second, len(in.Documents)
	for i, d := range in.Documents {
		s, err := document(d, t.second)
		if err != nil {
			return dst, wrong(fmt.Sprintf("documents[%d]", i), "%s", err.Error())
		}
		t.texts = append(t.texts, s)
	}
	if in.TopN != nil {
		t.topN = min(*in.TopN, t.topN)
	}
	return appendJSON(dst, struct {
		Model     string   `json:"model"`
		Query     string   `json:"query"`
		Documents []string `json:"documents"`
		TopN      int      `json:"top_n"`
		MaxTokens *int     `json:"max_tokens_per_doc,omitempty"`
	}{t.o.Model, in.Query, t.texts, t.topN, in.MaxTokens})
}

// document takes the text out of a document: a string, or an object with one.
func document(d json.RawMessage, stringsOnly bool) (string, error) {
	var s string
	if json.Unmarshal(d, &s) == nil {
		return s, nil
	}
	var o struct {
		Text *string `json:"text"`
	}
	if stringsOnly || Decode(d, &o) != nil || o.Text == nil {
		return "", &FieldError{Message: "must be a string or an object with a text"}
	}
	return *o.Text, nil
}

type ranked struct {
	Index    int         `json:"index"`
	Score    float64     `json:"relevance_score"`
	Document *rankedText `json:"document,omitempty"`
}

type rankedText struct {
	Text string `json:"text"`
}

// Response implements Translator.
func (t *rerank) Response(dst, body []byte) ([]byte, error) {
	var in struct {
		Results []struct {
			Index *int     `json:"index"`
			Score *float64 `json:"relevance_score"`
			Plain *float64 `json:"score"`
		} `json:"results"`
		Usage *struct {
			Prompt *int64 `json:"prompt_tokens"`
			Total  *int64 `json:"total_tokens"`
		} `json:"usage"`
		Meta *struct {
			Billed struct {
				Units float64 `json:"search_units"`
			} `json:"billed_units"`
			Tokens struct {
				Input *float64 `json:"input_tokens"`
			} `json:"tokens"`
		} `json:"meta"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return dst, err
	}
	if in.Results == nil {
		t.seen.Failed = body
		return dst, errNoAnswer
	}
	u := &t.seen.Usage
	switch {
	case in.Usage != nil && in.Usage.Prompt != nil:
		u.Told, u.Fresh = true, bound(*in.Usage.Prompt)
	case in.Usage != nil && in.Usage.Total != nil:
		u.Told, u.Fresh = true, bound(*in.Usage.Total)
	case in.Meta != nil && in.Meta.Tokens.Input != nil:
		u.Told, u.Fresh = true, bound(int64(*in.Meta.Tokens.Input))
	}
	if in.Meta != nil {
		u.Units = bound(int64(in.Meta.Billed.Units))
	}
	t.seen.Final, t.seen.Finished = u.Told, true
	results := []ranked{}
	for _, r := range in.Results {
		score := r.Score
		if score == nil {
			score = r.Plain
		}
		if r.Index == nil || score == nil || *r.Index < 0 || *r.Index >= len(t.texts) {
			return dst, errNoAnswer
		}
		one := ranked{Index: *r.Index, Score: *score}
		if t.back {
			one.Document = &rankedText{t.texts[*r.Index]}
		}
		results = append(results, one)
	}
	slices.SortStableFunc(results, func(a, b ranked) int { // best first, equals in the order of the documents
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Index, b.Index))
	})
	return appendJSON(dst, t.answer(results[:min(len(results), t.topN)]))
}

// answer is the form of both versions: each has the fields of the other too.
func (t *rerank) answer(results []ranked) any {
	type usage struct {
		Prompt int64 `json:"prompt_tokens"`
		Total  int64 `json:"total_tokens"`
	}
	type meta struct {
		Version struct {
			Version string `json:"version"`
		} `json:"api_version"`
		Billed struct {
			Units int64 `json:"search_units"`
		} `json:"billed_units"`
		Tokens struct {
			Input int64 `json:"input_tokens"`
		} `json:"tokens"`
	}
	var m meta
	m.Version.Version = "1"
	if t.second {
		m.Version.Version = "2"
	}
	m.Billed.Units = max(t.seen.Usage.Units, 1) // a search is at most a hundred documents there, and at least one
	m.Tokens.Input = t.seen.Usage.Fresh
	return struct {
		ID      string   `json:"id"`
		Model   string   `json:"model"`
		Results []ranked `json:"results"`
		Usage   usage    `json:"usage"`
		Meta    meta     `json:"meta"`
	}{"rerank-" + t.o.ID, t.o.Public, results, usage{t.seen.Usage.Fresh, t.seen.Usage.Fresh}, m}
}

// Event implements Translator: there is no stream.
func (*rerank) Event(dst, _ []byte) ([]byte, error) { return dst, errNoAnswer }

// Close implements Translator.
func (*rerank) Close(dst []byte) ([]byte, error) { return dst, nil }
