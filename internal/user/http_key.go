package user

import (
	"context"
	"net/http"
	"time"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) keyRoutes(api web.API) {
	web.Get(api, "/keys", "user_key_list", "key:read", http.StatusOK, s.httpKeys)
	web.Post(api, "/keys", "user_key_create", "key:write", http.StatusCreated, s.httpMakeKey)
	web.Get(api, "/keys/{id}", "user_key_get", "key:read", http.StatusOK, s.httpKey)
	web.Patch(api, "/keys/{id}", "user_key_update", "key:write", http.StatusOK, s.httpUpdateKey)
	web.Delete(api, "/keys/{id}", "user_key_delete", "key:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) { return web.None{}, s.DeleteKey(ctx, in.ID) })
	web.Post(api, "/keys/{id}/revoke", "user_key_revoke", "key:write", http.StatusOK, func(ctx context.Context, in *idIn) (Key, error) { return s.RevokeKey(ctx, in.ID) })
	web.Post(api, "/keys/{id}/rotate", "user_key_rotate", "key:write", http.StatusOK, s.httpRotateKey)
	web.Get(api, "/usage", "user_usage_sum", "billing:read", http.StatusOK, s.httpUsage)
	web.Get(api, "/usage/requests", "user_usage_list", "billing:read", http.StatusOK, s.httpRequests)
	web.Get(api, "/usage/requests/{id}", "user_usage_get", "billing:read", http.StatusOK, func(ctx context.Context, in *idIn) (UsageRequest, error) { return s.Request(ctx, in.ID) })
}

type keysIn struct {
	Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After   string `query:"after" maxLength:"2048"`
	Owner   string `query:"owner" maxLength:"100" doc:"Id of a person or service account, or me"`
	Project string `query:"project" maxLength:"100" doc:"Id of a project"`
}

func (s *Service) httpKeys(ctx context.Context, in *keysIn) (page.List[Key], error) {
	return s.Keys(ctx, KeyFilter{in.Owner, in.Project, in.Limit, in.After})
}

func (s *Service) httpRotateKey(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body struct {
		OverlapS int `json:"overlap_s,omitempty" minimum:"0" maximum:"2592000" doc:"Seconds that the old secret goes on working"`
	}
},
) (MadeKey, error) {
	k, err := s.RotateKey(ctx, in.ID, time.Duration(in.Body.OverlapS)*time.Second)
	if err == nil {
		web.SetHeader(ctx, "Cache-Control", "no-store")
	}
	return k, err
}

func (s *Service) httpMakeKey(ctx context.Context, in *struct{ Body NewKey }) (MadeKey, error) {
	k, err := s.MakeKey(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/keys/"+k.ID)
		web.SetHeader(ctx, "Cache-Control", "no-store")
	}
	return k, err
}

func (s *Service) httpKey(ctx context.Context, in *idIn) (Key, error) {
	k, err := s.Key(ctx, in.ID)
	web.SetRev(ctx, k.Rev)
	return k, err
}

func (s *Service) httpUpdateKey(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body KeyPatch
},
) (Key, error) {
	k, err := s.UpdateKey(ctx, in.ID, in.Body, func(k Key) error { return web.CheckRev(ctx, k.Rev) })
	web.SetRev(ctx, k.Rev)
	return k, err
}

type usageIn struct {
	From    time.Time `query:"from" doc:"Default: a day before to"`
	To      time.Time `query:"to" doc:"Default: now"`
	Bucket  string    `query:"bucket" enum:"1h,1d" default:"1h"`
	GroupBy []string  `query:"group_by" doc:"model, key, user, project, provider; operators: tenant"`
}

func (s *Service) httpUsage(ctx context.Context, in *usageIn) (UsageReport, error) {
	return s.Usage(ctx, UsageQuery{From: in.From, To: in.To, Bucket: in.Bucket, GroupBy: in.GroupBy})
}

type requestsIn struct {
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After string `query:"after" maxLength:"2048"`
	Model string `query:"model" maxLength:"256"`
	KeyID string `query:"key_id" maxLength:"100"`
}

func (s *Service) httpRequests(ctx context.Context, in *requestsIn) (page.List[UsageRequest], error) {
	return s.Requests(ctx, UsageFilter{Model: in.Model, KeyID: in.KeyID, Limit: in.Limit, After: in.After})
}
