package user

import (
	"context"
	"net/http"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) projectRoutes(api web.API) {
	web.Get(api, "/projects", "user_project_list", "project:read", http.StatusOK, s.httpProjects)
	web.Post(api, "/projects", "user_project_create", "project:write", http.StatusCreated, s.httpMakeProject)
	web.Get(api, "/projects/{id}", "user_project_get", "project:read", http.StatusOK, s.httpProject)
	web.Patch(api, "/projects/{id}", "user_project_update", "project:read", http.StatusOK, s.httpUpdateProject) // a lead may, the service looks
	web.Delete(api, "/projects/{id}", "user_project_delete", "project:read", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) { return web.None{}, s.DeleteProject(ctx, in.ID) })
	web.Get(api, "/projects/{id}/members", "user_project_members", "project:read", http.StatusOK, s.httpProjectMembers)
	web.Put(api, "/projects/{id}/members/{user_id}", "user_project_admit", "project:read", http.StatusOK, s.httpPutProjectMember)
	web.Delete(api, "/projects/{id}/members/{user_id}", "user_project_dismiss", "project:read", http.StatusNoContent, s.httpDropProjectMember)

	web.Get(api, "/service-accounts", "user_service_list", "key:read", http.StatusOK, s.httpServices)
	web.Post(api, "/service-accounts", "user_service_create", "key:write", http.StatusCreated, s.httpMakeService)
	web.Get(api, "/service-accounts/{id}", "user_service_get", "key:read", http.StatusOK, s.httpService)
	web.Patch(api, "/service-accounts/{id}", "user_service_update", "key:write", http.StatusOK, s.httpUpdateService)
	web.Delete(api, "/service-accounts/{id}", "user_service_delete", "key:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) {
		return web.None{}, s.DeleteServiceAccount(ctx, in.ID)
	})
}

func (s *Service) httpProjects(ctx context.Context, in *listIn) (page.List[Project], error) {
	return s.Projects(ctx, in.Limit, in.After)
}

func (s *Service) httpMakeProject(ctx context.Context, in *struct{ Body NewProject }) (Project, error) {
	t, err := s.MakeProject(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/projects/"+t.ID)
	}
	return t, err
}

func (s *Service) httpProject(ctx context.Context, in *idIn) (Project, error) {
	t, err := s.Project(ctx, in.ID)
	web.SetRev(ctx, t.Rev)
	return t, err
}

func (s *Service) httpUpdateProject(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body ProjectPatch
},
) (Project, error) {
	t, err := s.UpdateProject(ctx, in.ID, in.Body, func(t Project) error { return web.CheckRev(ctx, t.Rev) })
	web.SetRev(ctx, t.Rev)
	return t, err
}

func (s *Service) httpProjectMembers(ctx context.Context, in *idIn) (page.List[ProjectMember], error) {
	list, err := s.ProjectMembers(ctx, in.ID)
	if list == nil {
		list = []ProjectMember{}
	}
	return page.List[ProjectMember]{Items: list}, err
}

type projectMemberIn struct {
	ID     string `path:"id" maxLength:"100"`
	UserID string `path:"user_id" maxLength:"100"`
}

func (s *Service) httpPutProjectMember(ctx context.Context, in *struct {
	ID     string `path:"id" maxLength:"100"`
	UserID string `path:"user_id" maxLength:"100"`
	Body   struct {
		Role string `json:"role,omitempty" enum:"lead,member" default:"member"`
	}
},
) (ProjectMember, error) {
	return s.PutProjectMember(ctx, in.ID, in.UserID, in.Body.Role)
}

func (s *Service) httpDropProjectMember(ctx context.Context, in *projectMemberIn) (web.None, error) {
	return web.None{}, s.DropProjectMember(ctx, in.ID, in.UserID)
}

func (s *Service) httpServices(ctx context.Context, in *listIn) (page.List[ServiceAccount], error) {
	return s.ServiceAccounts(ctx, in.Limit, in.After)
}

func (s *Service) httpMakeService(ctx context.Context, in *struct{ Body NewServiceAccount }) (ServiceAccount, error) {
	a, err := s.MakeServiceAccount(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/service-accounts/"+a.ID)
	}
	return a, err
}

func (s *Service) httpService(ctx context.Context, in *idIn) (ServiceAccount, error) {
	a, err := s.ServiceAccount(ctx, in.ID)
	web.SetRev(ctx, a.Rev)
	return a, err
}

func (s *Service) httpUpdateService(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body ServiceAccountPatch
},
) (ServiceAccount, error) {
	a, err := s.UpdateServiceAccount(ctx, in.ID, in.Body, func(a ServiceAccount) error { return web.CheckRev(ctx, a.Rev) })
	web.SetRev(ctx, a.Rev)
	return a, err
}
