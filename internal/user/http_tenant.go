package user

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) tenantRoutes(api web.API, mux *web.Mux) {
	web.Get(api, "/auth/tenants", "user_tenant_mine", web.SignedIn, http.StatusOK, s.httpMyTenants)
	web.Post(api, "/auth/switch", "user_tenant_switch", web.SignedIn, http.StatusOK, s.httpSwitch)
	web.Get(api, "/tenants/current", "user_tenant_current", "tenant:read", http.StatusOK, s.httpCurrentTenant)
	web.Patch(api, "/tenants/current", "user_tenant_change", "tenant:write", http.StatusOK, s.httpChangeTenant)
	web.Get(api, "/tenants", "user_tenant_list", "platform:read", http.StatusOK, s.httpTenants)
	web.Post(api, "/tenants", "user_tenant_create", "platform:write", http.StatusCreated, s.httpCreateTenant)
	web.Get(api, "/tenants/{id}", "user_tenant_get", "platform:read", http.StatusOK, s.httpTenant)
	web.Patch(api, "/tenants/{id}", "user_tenant_update", "platform:write", http.StatusOK, s.httpUpdateTenant)
	web.Post(api, "/tenants/{id}/suspend", "user_tenant_suspend", "platform:write", http.StatusOK, func(ctx context.Context, in *idIn) (TenantDetail, error) { return s.SuspendTenant(ctx, in.ID) })
	web.Post(api, "/tenants/{id}/activate", "user_tenant_activate", "platform:write", http.StatusOK, func(ctx context.Context, in *idIn) (TenantDetail, error) { return s.ActivateTenant(ctx, in.ID) })
	web.Delete(api, "/tenants/{id}", "user_tenant_delete", "platform:write", http.StatusAccepted, func(ctx context.Context, in *idIn) (TenantJob, error) { return s.PurgeTenant(ctx, in.ID) })
	web.Post(api, "/tenants/{id}/purge", "user_tenant_purge", "platform:write", http.StatusAccepted, func(ctx context.Context, in *idIn) (TenantJob, error) { return s.PurgeTenant(ctx, in.ID) })
	web.Post(api, "/tenants/{id}/export", "user_tenant_export", "platform:write", http.StatusAccepted, func(ctx context.Context, in *idIn) (TenantJob, error) { return s.ExportTenant(ctx, in.ID) })
	mux.Handle(http.MethodGet, "/tenants/{id}/export", "user_tenant_download", "platform:write", http.HandlerFunc(s.httpTenantExport))
	web.Post(api, "/tenants/current/export", "user_tenant_export_own", "tenant:delete", http.StatusAccepted, func(ctx context.Context, _ *struct{}) (TenantJob, error) {
		return s.ExportTenant(ctx, principal(ctx).TenantID)
	})
	mux.Handle(http.MethodGet, "/tenants/current/export", "user_tenant_download_own", "tenant:delete", http.HandlerFunc(s.httpTenantExport))

	web.Get(api, "/members", "user_member_list", "user:read", http.StatusOK, s.httpMembers)
	web.Get(api, "/members/{id}", "user_member_get", "user:read", http.StatusOK, func(ctx context.Context, in *idIn) (Member, error) { return s.Member(ctx, in.ID) })
	web.Patch(api, "/members/{id}", "user_member_update", "user:write", http.StatusOK, s.httpUpdateMember)
	web.Delete(api, "/members/{id}", "user_member_delete", "user:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) { return web.None{}, s.RemoveMember(ctx, in.ID) })

	web.Get(api, "/permissions", "user_permission_list", web.SignedIn, http.StatusOK, s.httpPermissions)
	web.Get(api, "/roles", "user_role_list", "user:read", http.StatusOK, s.httpRoles)
	web.Post(api, "/roles", "user_role_create", "user:write", http.StatusCreated, s.httpMakeRole)
	web.Patch(api, "/roles/{id}", "user_role_update", "user:write", http.StatusOK, s.httpUpdateRole)
	web.Delete(api, "/roles/{id}", "user_role_delete", "user:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) { return web.None{}, s.DeleteRole(ctx, in.ID) })

	web.Get(api, "/grants", "user_grant_list", "user:read", http.StatusOK, s.httpGrants)
	web.Post(api, "/grants", "user_grant_create", "user:write", http.StatusCreated, s.httpMakeGrant)
	web.Delete(api, "/grants/{id}", "user_grant_delete", "user:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) { return web.None{}, s.DeleteGrant(ctx, in.ID) })
}

func (s *Service) httpMyTenants(ctx context.Context, in *listIn) (page.List[TenantDetail], error) {
	return s.MyTenants(ctx, in.Limit, in.After)
}

type switchIn struct {
	Body struct {
		TenantID string `json:"tenant_id" maxLength:"100"`
	}
}

// switched is the answer of a switch: a new access token. The refresh token stays.
type switched struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	User        User   `json:"user"`
}

func (s *Service) httpSwitch(ctx context.Context, in *switchIn) (switched, error) {
	t, err := s.SwitchTenant(ctx, in.Body.TenantID)
	if err != nil {
		return switched{}, err
	}
	web.SetHeader(ctx, "Cache-Control", "no-store")
	return switched{t.Access, "Bearer", int(accessLife.Seconds()), t.User}, nil
}

func (s *Service) httpCurrentTenant(ctx context.Context, _ *struct{}) (TenantDetail, error) {
	t, err := s.CurrentTenant(ctx)
	web.SetRev(ctx, t.Rev)
	return t, err
}

func tenantRev(ctx context.Context) func(TenantDetail) error {
	return func(t TenantDetail) error { return web.CheckRev(ctx, t.Rev) }
}

func (s *Service) httpChangeTenant(ctx context.Context, in *struct{ Body TenantPatch }) (TenantDetail, error) {
	t, err := s.UpdateCurrentTenant(ctx, in.Body, tenantRev(ctx))
	web.SetRev(ctx, t.Rev)
	return t, err
}

func (s *Service) httpTenants(ctx context.Context, in *listIn) (page.List[TenantDetail], error) {
	return s.Tenants(ctx, in.Limit, in.After)
}

// madeTenant is a new organisation, with the invitation of its owner.
type madeTenant struct {
	TenantDetail
	Invitation *MadeInvitation `json:"invitation,omitempty"`
}

func (s *Service) httpCreateTenant(ctx context.Context, in *struct{ Body NewTenant }) (madeTenant, error) {
	t, inv, err := s.CreateTenant(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/tenants/"+t.ID)
		web.SetHeader(ctx, "Cache-Control", "no-store")
	}
	return madeTenant{t, inv}, err
}

func (s *Service) httpTenant(ctx context.Context, in *idIn) (TenantDetail, error) {
	t, err := s.Tenant(ctx, in.ID)
	web.SetRev(ctx, t.Rev)
	return t, err
}

func (s *Service) httpUpdateTenant(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body TenantPatch
}) (TenantDetail, error) {
	t, err := s.UpdateTenant(ctx, in.ID, in.Body, tenantRev(ctx))
	web.SetRev(ctx, t.Rev)
	return t, err
}

func (s *Service) httpMembers(ctx context.Context, in *listIn) (page.List[Member], error) {
	return s.Members(ctx, in.Limit, in.After)
}

func (s *Service) httpUpdateMember(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body MemberPatch
}) (Member, error) {
	return s.UpdateMember(ctx, in.ID, in.Body)
}

func (s *Service) httpPermissions(ctx context.Context, _ *struct{}) (page.List[PermissionDetail], error) {
	return page.List[PermissionDetail]{Items: s.Permissions(ctx)}, nil
}

func (s *Service) httpRoles(ctx context.Context, _ *struct{}) (page.List[RoleDetail], error) {
	list, err := s.RoleList(ctx)
	return page.List[RoleDetail]{Items: list}, err
}

func (s *Service) httpMakeRole(ctx context.Context, in *struct{ Body NewRole }) (RoleDetail, error) {
	d, err := s.MakeRole(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/roles/"+d.ID)
	}
	return d, err
}

func (s *Service) httpUpdateRole(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body RolePatch
}) (RoleDetail, error) {
	d, err := s.UpdateRole(ctx, in.ID, in.Body, func(d RoleDetail) error { return web.CheckRev(ctx, d.Rev) })
	web.SetRev(ctx, d.Rev)
	return d, err
}

type grantsIn struct {
	Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After   string `query:"after" maxLength:"2048"`
	Subject string `query:"subject" maxLength:"100" doc:"Id of a person or service account"`
	Kind    string `query:"kind" maxLength:"40" doc:"Kind of the object"`
	Object  string `query:"object" maxLength:"256" doc:"Id of the object"`
}

func (s *Service) httpGrants(ctx context.Context, in *grantsIn) (page.List[GrantDetail], error) {
	return s.Grants(ctx, GrantFilter{in.Subject, in.Kind, in.Object, in.Limit, in.After})
}

func (s *Service) httpMakeGrant(ctx context.Context, in *struct{ Body NewGrant }) (GrantDetail, error) {
	g, err := s.MakeGrant(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/grants/"+g.ID)
	}
	return g, err
}

// httpTenantExport sends the last export of an organisation: of the named one, or of the caller's.
func (s *Service) httpTenantExport(w http.ResponseWriter, r *http.Request) {
	tid := r.PathValue("id")
	if tid == "" {
		tid = principal(r.Context()).TenantID
	}
	f, size, err := s.OpenExport(r.Context(), tid)
	if err != nil {
		web.WriteProblem(w, r, err)
		return
	}
	defer func() { _ = f.Close() }()
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", `attachment; filename="organisation.zip"`)
	h.Set("Cache-Control", "no-store")
	_, _ = io.Copy(w, f) // the client is gone: nothing left to do
}
