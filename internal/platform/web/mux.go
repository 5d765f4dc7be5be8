package web

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Mux takes the routes of the management API that are not JSON in, JSON out: uploads, downloads, event streams, WebSockets. They pass the same authentication, permission check and request log.
type Mux struct {
	s   *Server
	mux *http.ServeMux
}

// Handle registers a plain handler. pattern is a net/http pattern without method, relative to Prefix ("/uploads/{id}"); method may be "" for all. The handler finds the principal in the request's context.
func (m *Mux) Handle(method, pattern, operationID, permission string, h http.Handler) {
	service, _, ok := strings.Cut(operationID, "_")
	if !ok || permission == "" {
		panic("web: " + method + " " + pattern + ": operationID must be <service>_<noun>_<verb> and a permission must be named")
	}
	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, err := m.s.admitted(w, r, permission)
		if err != nil {
			WriteProblem(w, r, err)
			return
		}
		r = r.WithContext(ctx)
		h.ServeHTTP(w, r.WithContext(context.WithValue(ctx, callKey{}, call{w, r})))
	})
	m.mux.Handle(strings.TrimSpace(method+" "+Prefix+pattern), guarded)
	if method == "" {
		method = http.MethodGet
	}
	op := &huma.Operation{
		Method: method, Path: Prefix + strings.ReplaceAll(pattern, "...}", "}"), OperationID: operationID, Tags: []string{service}, Summary: summary(operationID),
		Metadata: map[string]any{"permission": permission}, Extensions: map[string]any{"x-permission": permission}, Responses: map[string]*huma.Response{"default": {Description: "See the guide"}},
	}
	if permission != Public {
		op.Security = []map[string][]string{{"bearer": {}}}
	}
	for seg := range strings.SplitSeq(op.Path, "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok {
			op.Parameters = append(op.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: "string"}})
		}
	}
	m.s.api.OpenAPI().AddOperation(op)
}
