package gateway

import (
	"net/http"
	"strings"

	"maas/internal/inference/dialect"
	"maas/internal/inference/engine"
)

// operation is a kind of inference call: what the client speaks, and what an endpoint must be able to do.
type operation struct {
	name  string       // in usage
	path  string       // below an endpoint's base path, where the endpoint speaks the client's form
	form  dialect.Form // of the client
	needs engine.Ops
	plain bool // nothing is generated: no stream, no sampling defaults
	free  bool // costs nothing
}

var (
	opChat       = operation{name: "chat", path: "/chat/completions", form: dialect.Chat, needs: engine.OpChat}
	opCompletion = operation{name: "completion", path: "/completions", form: dialect.Completion, needs: engine.OpCompletion}
	opMessages   = operation{name: "messages", path: "/messages", form: dialect.Messages, needs: engine.OpChat}
	opCount      = operation{name: "count_tokens", path: "/messages/count_tokens", form: dialect.Count, needs: engine.OpChat, plain: true, free: true}
	opResponses  = operation{name: "responses", path: "/responses", form: dialect.Responses, needs: engine.OpChat}
	opEmbedding  = operation{name: "embedding", path: "/embeddings", form: dialect.Embeddings, needs: engine.OpEmbedding, plain: true}
	opModeration = operation{name: "moderation", path: "/moderations", form: dialect.Moderations, needs: engine.OpModeration, plain: true}
	opRerank     = operation{name: "rerank", path: "/rerank", form: dialect.Rerank, needs: engine.OpRerank, plain: true}
	opRerank2    = operation{name: "rerank", path: "/rerank", form: dialect.RerankCohere, needs: engine.OpRerank, plain: true}
)

// operationAt finds the operation of a path under /v1 and /v2; nil if there is none.
func operationAt(path string) *operation {
	switch path {
	case "/v1/chat/completions":
		return &opChat
	case "/v1/completions":
		return &opCompletion
	case "/v1/messages":
		return &opMessages
	case "/v1/messages/count_tokens":
		return &opCount
	case "/v1/responses":
		return &opResponses
	case "/v1/embeddings":
		return &opEmbedding
	case "/v1/moderations":
		return &opModeration
	case "/v1/rerank":
		return &opRerank
	case "/v2/rerank":
		return &opRerank2
	}
	return nil
}

// fit reads the fields the way the operation means them: another form has another name for the limit of the answer, and where nothing is generated nothing is streamed.
func (f *fields) fit(op *operation) {
	if op.form == dialect.Responses {
		f.hasMax, f.maxTokens = f.maxOutput >= 0, f.maxOutput
	}
	if op.plain {
		f.stream = false
	}
}

// speaksAnthropic reports whether a request is of Anthropic's dialect: errors and lists of models then have its form.
func speaksAnthropic(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v1/messages") || r.Header.Get("Anthropic-Version") != "" && strings.HasPrefix(r.URL.Path, "/v1/models")
}
