package dialect

import "encoding/json"

// count serves count_tokens by an upstream that counts in another form: as chat, which our engine and vLLM take, or as Gemini's.
type count struct {
	o      Options
	seen   Seen
	gemini bool
}

// Seen implements Translator.
func (t *count) Seen() *Seen { return &t.seen }

// Request implements Translator.
func (t *count) Request(dst, body []byte) ([]byte, error) {
	var m struct {
		MaxTokens *int `json:"max_tokens"`
	}
	if err := Decode(body, &m); err != nil {
		return dst, err
	}
	near := &messagesToChat{o: Options{Model: t.o.Model, Extras: true, Thoughts: true}}
	if m.MaxTokens == nil { // counting needs no limit, the translation does
		body = append([]byte(`{"max_tokens":1,`), trimBrace(body)...)
	}
	chat, err := near.Request(nil, body)
	if err != nil {
		return dst, err
	}
	if !t.gemini {
		return append(dst, chat...), nil
	}
	far := &chatToGenerate{o: Options{Model: t.o.Model}}
	g, err := far.Request(nil, chat)
	if err != nil {
		return dst, err
	}
	full := append([]byte(`{"model":`), raw("models/"+t.o.Model)...)
	full = append(append(full, ','), trimBrace(g)...)
	return appendJSON(dst, struct {
		Request json.RawMessage `json:"generateContentRequest"`
	}{full})
}

// trimBrace is an object without its opening brace. Decode has seen that there is one, and a member behind it.
func trimBrace(b []byte) []byte {
	for i, c := range b {
		if c == '{' {
			return b[i+1:]
		}
	}
	return b
}

// Response implements Translator.
func (t *count) Response(dst, body []byte) ([]byte, error) {
	var in struct {
		Count *int64 `json:"count"`
		Total *int64 `json:"totalTokens"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return dst, err
	}
	n := in.Count
	if t.gemini {
		n = in.Total
	}
	if n == nil {
		t.seen.Failed = body
		return dst, errNoAnswer
	}
	return appendJSON(dst, struct {
		InputTokens int64 `json:"input_tokens"`
	}{*n})
}

// Event implements Translator: there is no stream.
func (*count) Event(dst, _ []byte) ([]byte, error) { return dst, errNoAnswer }

// Close implements Translator.
func (*count) Close(dst []byte) ([]byte, error) { return dst, nil }
