package inference

import (
	"context"
	"net/http"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) providerRoutes(api web.API) {
	web.Get(api, "/inference/providers", "inference_provider_list", mayRead, http.StatusOK, s.httpProviders)
	web.Post(api, "/inference/providers", "inference_provider_create", mayOperate, http.StatusCreated, s.httpProviderCreate)
	web.Get(api, "/inference/providers/{id}", "inference_provider_get", mayRead, http.StatusOK, s.httpProvider)
	web.Patch(api, "/inference/providers/{id}", "inference_provider_update", mayOperate, http.StatusOK, s.httpProviderPatch)
	web.Delete(api, "/inference/providers/{id}", "inference_provider_delete", mayOperate, http.StatusNoContent, s.httpProviderDelete)
	web.Post(api, "/inference/providers/{id}/test", "inference_provider_test", mayOperate, http.StatusOK, s.httpProviderTest)
	web.Get(api, "/inference/provider-presets", "inference_provider_preset_list", mayRead, http.StatusOK, s.httpPresets)
	web.Get(api, "/inference/providers/{id}/models", "inference_provider_models", mayRead, http.StatusOK, s.httpProviderModels)
}

func (s *Service) httpPresets(context.Context, *struct{}) (page.List[Preset], error) {
	return page.List[Preset]{Items: Presets()}, nil
}

func answeredProvider(ctx context.Context, p Provider, err error) (Provider, error) {
	if err != nil {
		return p, err
	}
	web.SetRev(ctx, p.Rev)
	p.Reason = p.Reason.In(language(web.Request(ctx)))
	return p, nil
}

type pageInput struct {
	Limit int    `query:"limit" minimum:"0" maximum:"200"`
	After string `query:"after" maxLength:"2048"`
}

func (s *Service) httpProviders(ctx context.Context, in *pageInput) (page.List[Provider], error) {
	l, err := s.Providers(ctx, in.After, in.Limit)
	lang := language(web.Request(ctx))
	for i := range l.Items {
		l.Items[i].Reason = l.Items[i].Reason.In(lang)
	}
	return l, err
}

func (s *Service) httpProviderCreate(ctx context.Context, in *struct{ Body NewProvider }) (Provider, error) {
	p, err := s.CreateProvider(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/inference/providers/"+p.ID)
	}
	return answeredProvider(ctx, p, err)
}

func (s *Service) httpProvider(ctx context.Context, in *refInput) (Provider, error) {
	p, err := s.Provider(ctx, in.ID)
	return answeredProvider(ctx, p, err)
}

type providerPatchInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body ProviderPatch
}

func (s *Service) httpProviderPatch(ctx context.Context, in *providerPatchInput) (Provider, error) {
	p, err := s.UpdateProvider(ctx, in.ID, in.Body, func(rev int64) error { return web.CheckRev(ctx, rev) })
	return answeredProvider(ctx, p, err)
}

func (s *Service) httpProviderDelete(ctx context.Context, in *refInput) (web.None, error) {
	return web.None{}, s.DeleteProvider(ctx, in.ID)
}

func (s *Service) httpProviderTest(ctx context.Context, in *refInput) (ProviderTest, error) {
	t, err := s.TestProvider(ctx, in.ID)
	t.Error = t.Error.In(language(web.Request(ctx)))
	return t, err
}

func (s *Service) httpProviderModels(ctx context.Context, in *refInput) (page.List[UpstreamModel], error) {
	l, err := s.ProviderModels(ctx, in.ID)
	return page.List[UpstreamModel]{Items: l}, err
}
