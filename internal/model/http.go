package model

import (
	"context"
	"net/http"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

// Routes registers the routes of this service.
func (s *Service) Routes(api web.API, mux *web.Mux) {
	web.Get(api, "/models", "model_repo_list", "model:read", http.StatusOK, s.httpModels)
	web.Post(api, "/models", "model_repo_create", "model:write", http.StatusCreated, s.httpCreate)
	web.Post(api, "/models/demo", "model_repo_demo", "model:write", http.StatusCreated, s.httpDemo)
	web.Get(api, "/models/{id}", "model_repo_get", "model:read", http.StatusOK, s.httpModel)
	web.Patch(api, "/models/{id}", "model_repo_update", "model:write", http.StatusOK, s.httpUpdate)
	web.Delete(api, "/models/{id}", "model_repo_delete", "model:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) { return web.None{}, s.DeleteModel(ctx, in.ID) })
	s.versionRoutes(api, mux)
	mux.Handle("", "/uploads", "model_upload_create", "model:write", s.uploads)
	mux.Handle("", "/uploads/{id}", "model_upload_send", "model:write", s.uploads)
}

type idIn struct {
	ID string `path:"id" maxLength:"128" doc:"Id or name of the model"`
}

type modelsIn struct {
	Query string `query:"q" maxLength:"96" doc:"Part of the name"`
	Limit int    `query:"limit" minimum:"0" maximum:"200"`
	After string `query:"after" maxLength:"2048"`
}

func (s *Service) httpModels(ctx context.Context, in *modelsIn) (page.List[Model], error) {
	return s.Models(ctx, ModelFilter{Query: in.Query, Limit: in.Limit, After: in.After})
}

func (s *Service) httpCreate(ctx context.Context, in *struct{ Body NewModel }) (Model, error) {
	m, err := s.CreateModel(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/models/"+m.ID)
		web.SetRev(ctx, m.Rev)
	}
	return m, err
}

func (s *Service) httpDemo(ctx context.Context, _ *struct{}) (Model, error) {
	m, err := s.Demo(ctx)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/models/"+m.ID)
	}
	return m, err
}

func (s *Service) httpModel(ctx context.Context, in *idIn) (Model, error) {
	m, err := s.Model(ctx, in.ID)
	web.SetRev(ctx, m.Rev)
	return m, err
}

func (s *Service) httpUpdate(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"128"`
	Body ModelPatch
},
) (Model, error) {
	m, err := s.UpdateModel(ctx, in.ID, in.Body, func(m Model) error { return web.CheckRev(ctx, m.Rev) })
	web.SetRev(ctx, m.Rev)
	return m, err
}
