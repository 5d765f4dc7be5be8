package dialect

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
)

// embedToGemini serves a client of embeddings by a Gemini upstream.
type embedToGemini struct {
	o      Options
	seen   Seen
	base64 bool
}

// Seen implements Translator.
func (t *embedToGemini) Seen() *Seen { return &t.seen }

type embedContent struct {
	Model      string        `json:"model"`
	Content    geminiContent `json:"content"`
	Dimensions *int          `json:"outputDimensionality,omitempty"`
}

// Request implements Translator.
func (t *embedToGemini) Request(dst, body []byte) ([]byte, error) {
	var in struct {
		Input      json.RawMessage `json:"input"`
		Format     string          `json:"encoding_format"`
		Dimensions *int            `json:"dimensions"`
	}
	if err := Decode(body, &in); err != nil {
		return dst, err
	}
	if err := t.seen.leftOut(body, []string{"model", "input", "encoding_format", "dimensions", "user"}); err != nil {
		return dst, err
	}
	switch in.Format {
	case "", "float":
	case "base64":
		t.base64 = true
	default:
		return dst, wrong("encoding_format", "must be float or base64")
	}
	var texts Strings
	if isNull(in.Input) || texts.UnmarshalJSON(in.Input) != nil || len(texts) == 0 {
		return dst, wrong("input", "must be a string or a list of strings: this model's provider takes no token ids")
	}
	var out struct {
		Requests []embedContent `json:"requests"`
	}
	for _, s := range texts {
		if s == "" {
			return dst, wrong("input", "must not hold an empty string")
		}
		out.Requests = append(out.Requests, embedContent{"models/" + t.o.Model, geminiContent{Parts: []geminiPart{{Text: &s}}}, in.Dimensions})
	}
	return appendJSON(dst, out)
}

// Response implements Translator. The upstream tells no usage.
func (t *embedToGemini) Response(dst, body []byte) ([]byte, error) {
	var in struct {
		Embeddings []struct {
			Values []float64 `json:"values"`
		} `json:"embeddings"`
		Usage *struct {
			Prompt int64 `json:"promptTokenCount"`
		} `json:"usageMetadata"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return dst, err
	}
	if in.Embeddings == nil {
		t.seen.Failed = body
		return dst, errNoAnswer
	}
	if in.Usage != nil {
		t.seen.Usage = Tokens{Told: true, Fresh: bound(in.Usage.Prompt)}
		t.seen.Final = true
	}
	type vector struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
	}
	var out struct {
		Object string   `json:"object"`
		Data   []vector `json:"data"`
		Model  string   `json:"model"`
		Usage  struct {
			Prompt int64 `json:"prompt_tokens"`
			Total  int64 `json:"total_tokens"`
		} `json:"usage"`
	}
	out.Object, out.Model = "list", t.o.Public
	out.Usage.Prompt, out.Usage.Total = t.seen.Usage.Fresh, t.seen.Usage.Fresh
	for i, e := range in.Embeddings {
		v := vector{"embedding", i, e.Values}
		if t.base64 {
			v.Embedding = packed(e.Values)
		}
		out.Data = append(out.Data, v)
	}
	return appendJSON(dst, out)
}

// packed is the base64 of the little-endian float32 form.
func packed(v []float64) string {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(x)))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// Event implements Translator: there is no stream.
func (*embedToGemini) Event(dst, _ []byte) ([]byte, error) { return dst, errNoAnswer }

// Close implements Translator.
func (*embedToGemini) Close(dst []byte) ([]byte, error) { return dst, nil }
