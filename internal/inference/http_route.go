package inference

import (
	"context"
	"net/http"

	"maas/internal/platform/auth"
	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) routeRoutes(api web.API) {
	web.Get(api, "/inference/routes", "inference_route_list", mayRead, http.StatusOK, s.httpRoutes)
	web.Post(api, "/inference/routes", "inference_route_create", mayWrite, http.StatusCreated, s.httpRouteCreate)
	web.Get(api, "/inference/routes/{id}", "inference_route_get", mayRead, http.StatusOK, s.httpRoute)
	web.Patch(api, "/inference/routes/{id}", "inference_route_update", mayWrite, http.StatusOK, s.httpRoutePatch)
	web.Delete(api, "/inference/routes/{id}", "inference_route_delete", mayWrite, http.StatusNoContent, s.httpRouteDelete)
	web.Get(api, "/inference/upstreams", "inference_upstream_list", mayRead, http.StatusOK, s.httpUpstreams)
}

func answeredRoute(ctx context.Context, r RouteView, err error) (RouteView, error) {
	if err == nil {
		web.SetRev(ctx, r.Rev)
	}
	return r, err
}

func (s *Service) httpRoutes(ctx context.Context, in *pageInput) (page.List[RouteView], error) {
	return s.RouteList(ctx, in.After, in.Limit)
}

func (s *Service) httpRouteCreate(ctx context.Context, in *struct{ Body NewRoute }) (RouteView, error) {
	r, err := s.CreateRoute(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/inference/routes/"+r.ID)
	}
	return answeredRoute(ctx, r, err)
}

func (s *Service) httpRoute(ctx context.Context, in *refInput) (RouteView, error) {
	r, err := s.Route(ctx, in.ID)
	return answeredRoute(ctx, r, err)
}

type routePatchInput struct {
	ID   string `path:"id" maxLength:"200" doc:"id or name"`
	Body RoutePatch
}

func (s *Service) httpRoutePatch(ctx context.Context, in *routePatchInput) (RouteView, error) {
	r, err := s.UpdateRoute(ctx, in.ID, in.Body, func(rev int64) error { return web.CheckRev(ctx, rev) })
	return answeredRoute(ctx, r, err)
}

func (s *Service) httpRouteDelete(ctx context.Context, in *refInput) (web.None, error) {
	return web.None{}, s.DeleteRoute(ctx, in.ID, func(rev int64) error { return web.CheckRev(ctx, rev) })
}

// httpUpstreams lists every endpoint of the tenant with the state of its breaker.
func (s *Service) httpUpstreams(ctx context.Context, _ *struct{}) (page.List[EndpointState], error) {
	l := page.List[EndpointState]{Items: s.upstreams(auth.Tenant(ctx))}
	if l.Items == nil {
		l.Items = []EndpointState{}
	}
	return l, nil
}
