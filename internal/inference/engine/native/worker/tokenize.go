package worker

import (
	"net/http"
	"strings"

	"maas/internal/inference/dialect"
	"maas/internal/llm/token"
)

// tokenizeRequest is vLLM's: a prompt, or a conversation.
type tokenizeRequest struct {
	dialect.ChatRequest
	Prompt           *string `json:"prompt"`
	AddSpecialTokens *bool   `json:"add_special_tokens"`
}

// tokenize is POST /tokenize: {count, max_model_len, tokens}.
func (s *server) tokenize(w http.ResponseWriter, _ *http.Request, m *model, body []byte) error {
	var in tokenizeRequest
	if err := decode(body, &in); err != nil {
		return err
	}
	var ids []int32
	if in.Prompt == nil && m.engine == nil {
		return errMissing.With("this model has no form of a conversation: send prompt")
	}
	if in.Prompt == nil {
		p, err := m.render(&in.ChatRequest)
		if err != nil {
			return err
		}
		ids = p.ids
	} else {
		o := m.tok.Defaults()
		o.AddEOS = false
		if in.AddSpecialTokens != nil && !*in.AddSpecialTokens {
			o = token.Options{}
		}
		var err error
		if ids, err = m.tok.Encode(nil, []token.Part{{Text: *in.Prompt, Trusted: true}}, o); err != nil {
			return err
		}
	}
	if ids == nil {
		ids = []int32{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"count": len(ids), "max_model_len": m.computer().MaxContext(), "tokens": ids})
	return nil
}

// detokenize is POST /detokenize: {prompt}.
func (s *server) detokenize(w http.ResponseWriter, _ *http.Request, m *model, body []byte) error {
	var in struct {
		Tokens []int32 `json:"tokens"`
	}
	if err := decode(body, &in); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]string{"prompt": strings.ToValidUTF8(string(m.tok.Decode(in.Tokens, true)), "\uFFFD")})
	return nil
}
