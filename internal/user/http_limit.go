package user

import (
	"context"
	"net/http"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) limitRoutes(api web.API) {
	web.Get(api, "/limits", "user_limit_list", "billing:read", http.StatusOK, s.httpLimits)
	web.Post(api, "/limits", "user_limit_create", "billing:write", http.StatusCreated, s.httpMakeLimit)
	web.Get(api, "/limits/live", "user_limit_live", "billing:read", http.StatusOK, s.httpLimitsLive)
	web.Get(api, "/limits/{id}", "user_limit_get", "billing:read", http.StatusOK, s.httpLimit)
	web.Patch(api, "/limits/{id}", "user_limit_update", "billing:write", http.StatusOK, s.httpUpdateLimit)
	web.Delete(api, "/limits/{id}", "user_limit_delete", "billing:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) { return web.None{}, s.DeleteLimit(ctx, in.ID) })
}

type limitsIn struct {
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After string `query:"after" maxLength:"2048"`
	Kind  string `query:"kind" enum:"tenant,project,user,key,model" required:"false"`
	ID    string `query:"subject" maxLength:"256" doc:"Id of the subject"`
}

func (s *Service) httpLimits(ctx context.Context, in *limitsIn) (page.List[Limit], error) {
	return s.Limits(ctx, LimitFilter{Kind: in.Kind, Subject: in.ID, Limit: in.Limit, After: in.After})
}

func (s *Service) httpMakeLimit(ctx context.Context, in *struct{ Body NewLimit }) (Limit, error) {
	l, err := s.MakeLimit(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/limits/"+l.ID)
	}
	web.SetRev(ctx, l.Rev)
	return l, err
}

func (s *Service) httpLimit(ctx context.Context, in *idIn) (Limit, error) {
	l, err := s.Limit(ctx, in.ID)
	web.SetRev(ctx, l.Rev)
	return l, err
}

func (s *Service) httpUpdateLimit(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body LimitPatch
}) (Limit, error) {
	l, err := s.UpdateLimit(ctx, in.ID, in.Body, func(l Limit) error { return web.CheckRev(ctx, l.Rev) })
	web.SetRev(ctx, l.Rev)
	return l, err
}

// limitsLive is how limits stand now, everywhere.
type limitsLive struct {
	Nodes    []LiveNode `json:"nodes"`
	Degraded bool       `json:"degraded"`
	Words    string     `json:"words" doc:"What that means, for people"`
}

func (s *Service) httpLimitsLive(ctx context.Context, _ *struct{}) (limitsLive, error) {
	nodes, err := s.LiveNodes(ctx)
	l := limitsLive{Nodes: nodes, Words: "All limits and budgets hold."}
	for _, n := range nodes {
		switch {
		case n.JournalFull:
			l.Degraded, l.Words = true, "A process cannot write its usage journal: it refuses calls until the disk has room again."
		case n.Grantor == "away":
			l.Degraded, l.Words = true, "A process cannot ask for budgets: calls go on until what it holds in advance is used up, then they are refused."
		case n.Shared == "away":
			l.Degraded, l.Words = true, "Redis does not answer: each process applies its share of every limit on its own."
		}
	}
	if len(nodes) == 0 && err == nil {
		l.Words = "No process takes calls at the moment."
	}
	return l, err
}
