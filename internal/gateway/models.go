package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"maas/internal/inference"
	"maas/internal/platform/auth"
)

// modelObject is one entry of GET /v1/models in OpenAI's form, with ours under maas.
type modelObject struct {
	ID      string    `json:"id"`
	Object  string    `json:"object"`
	Created int64     `json:"created"`
	OwnedBy string    `json:"owned_by"`
	Maas    modelMore `json:"maas"`
}

type modelMore struct {
	ContextLength int              `json:"context_length,omitempty"`
	State         inference.Status `json:"state"`
	Task          string           `json:"task,omitempty"`
	Deployment    string           `json:"deployment"`
}

func objectOf(m inference.ModelInfo) modelObject {
	return modelObject{m.ID, "model", m.Created.Unix(), m.OwnedBy, modelMore{m.ContextLength, m.State, m.Task, m.Deployment}}
}

// caller is who asks for models: any credential that may read or call them.
func (g *Gateway) caller(w http.ResponseWriter, r *http.Request) (*auth.Principal, bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		g.refuseHTTP(w, r, ErrMethod.With("%s takes GET", r.URL.Path), false)
		return nil, false
	}
	cred, err := g.credential(r.Context(), r)
	if err != nil {
		g.refuseHTTP(w, r, asFault(err), false)
		return nil, false
	}
	p, err := cred.Check(g.Now())
	if err == nil && !p.May("inference:invoke") && !p.May("inference:read") && len(p.Grants) == 0 {
		err = ErrScope
	}
	if err != nil {
		g.refuseHTTP(w, r, asFault(err), false)
		return nil, false
	}
	return p, true
}

// serveModels lists what the caller may call.
func (g *Gateway) serveModels(w http.ResponseWriter, r *http.Request) {
	p, ok := g.caller(w, r)
	if !ok {
		return
	}
	list := struct {
		Object  string        `json:"object"`
		Data    []modelObject `json:"data"`
		FirstID *string       `json:"first_id"`
		LastID  *string       `json:"last_id"`
		HasMore bool          `json:"has_more"`
	}{Object: "list", Data: []modelObject{}}
	var may []inference.ModelInfo
	for _, m := range g.Router.Models(p.TenantID) {
		if allowed(p, m.ID) && (p.May("inference:read") || mayInvoke(p, &m)) {
			may = append(may, m)
			list.Data = append(list.Data, objectOf(m))
		}
	}
	if speaksAnthropic(r) {
		g.modelsAnthropic(w, r, may)
		return
	}
	if n := len(list.Data); n > 0 {
		list.FirstID, list.LastID = &list.Data[0].ID, &list.Data[n-1].ID
	}
	g.writeJSON(w, r, list)
}

// serveModel shows one model. Its name may hold slashes, plain or escaped; one that the caller may not call answers like a missing one.
func (g *Gateway) serveModel(w http.ResponseWriter, r *http.Request) {
	p, ok := g.caller(w, r)
	if !ok {
		return
	}
	name := strings.TrimPrefix(r.URL.EscapedPath(), "/v1/models/")
	if plain, err := url.PathUnescape(name); err == nil {
		name = plain
	}
	t, err := g.Router.Resolve(p.TenantID, name)
	if err != nil || !allowed(p, t.Model.ID) || !p.May("inference:read") && !mayInvoke(p, &t.Model) {
		g.refuseHTTP(w, r, ErrModelNotFound.With("there is no model %.300q", name), false)
		return
	}
	if speaksAnthropic(r) {
		g.writeJSON(w, r, messageOf(t.Model))
		return
	}
	g.writeJSON(w, r, objectOf(t.Model))
}

func (g *Gateway) writeJSON(w http.ResponseWriter, r *http.Request, v any) {
	h := w.Header()
	if h.Get("X-Request-Id") == "" {
		h.Set("X-Request-Id", requestID(r.Context()))
	}
	h.Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nothing left to do
}
