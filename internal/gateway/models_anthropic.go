package gateway

import (
	"net/http"
	"strconv"
	"time"

	"maas/internal/inference"
)

// modelMessage is one entry of GET /v1/models in Anthropic's form.
type modelMessage struct {
	Type      string    `json:"type"` // model
	ID        string    `json:"id"`
	Name      string    `json:"display_name"`
	CreatedAt time.Time `json:"created_at"`
	MaxInput  int       `json:"max_input_tokens,omitempty"`
}

func messageOf(m inference.ModelInfo) modelMessage {
	return modelMessage{"model", m.ID, m.ID, m.Created.UTC().Truncate(time.Second), m.ContextLength}
}

// modelsAnthropic pages through a sorted list: ?limit (20, at most 1000), after_id or before_id.
func (g *Gateway) modelsAnthropic(w http.ResponseWriter, r *http.Request, list []inference.ModelInfo) {
	q := r.URL.Query()
	limit := 20
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n >= 1 && n <= 1000 {
		limit = n
	}
	from, to := 0, len(list)
	for i, m := range list {
		if m.ID == q.Get("after_id") {
			from = i + 1
		}
		if m.ID == q.Get("before_id") {
			to = i
		}
	}
	page := struct {
		Data    []modelMessage `json:"data"`
		FirstID *string        `json:"first_id"`
		LastID  *string        `json:"last_id"`
		HasMore bool           `json:"has_more"`
	}{Data: []modelMessage{}}
	if from < to {
		cut := list[from:to]
		if page.HasMore = len(cut) > limit; page.HasMore {
			if q.Get("before_id") != "" {
				cut = cut[len(cut)-limit:]
			} else {
				cut = cut[:limit]
			}
		}
		for _, m := range cut {
			page.Data = append(page.Data, messageOf(m))
		}
		page.FirstID, page.LastID = &page.Data[0].ID, &page.Data[len(page.Data)-1].ID
	}
	w.Header().Set("Request-Id", w.Header().Get("X-Request-Id"))
	g.writeJSON(w, r, page)
}
