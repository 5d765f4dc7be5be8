package user

import (
	"context"
	"net/http"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) userRoutes(api web.API) {
	web.Get(api, "/users/me", "user_me_get", web.SignedIn, http.StatusOK, s.httpMe)
	web.Patch(api, "/users/me", "user_me_update", web.SignedIn, http.StatusOK, s.httpUpdateMe)
	web.Get(api, "/users", "user_user_list", "user:read", http.StatusOK, s.httpUsers)
	web.Post(api, "/users", "user_user_create", "user:write", http.StatusCreated, s.httpCreate)
	web.Get(api, "/users/{id}", "user_user_get", "user:read", http.StatusOK, s.httpUser)
	web.Put(api, "/users/{id}", "user_user_replace", "user:write", http.StatusOK, s.httpReplace)
	web.Patch(api, "/users/{id}", "user_user_update", "user:write", http.StatusOK, s.httpUpdate)
	web.Delete(api, "/users/{id}", "user_user_delete", "user:write", http.StatusNoContent, s.httpDelete)
	web.Post(api, "/users/{id}/suspend", "user_user_suspend", "user:write", http.StatusOK, func(ctx context.Context, in *idIn) (User, error) { return s.Suspend(ctx, in.ID) })
	web.Post(api, "/users/{id}/activate", "user_user_activate", "user:write", http.StatusOK, func(ctx context.Context, in *idIn) (User, error) { return s.Activate(ctx, in.ID) })
}

func (s *Service) httpMe(ctx context.Context, _ *struct{}) (User, error) {
	u, err := s.Me(ctx)
	web.SetRev(ctx, u.Rev)
	return u, err
}

// mePatch is what people may change of their own account.
type mePatch struct {
	Username *string       `json:"username,omitempty" maxLength:"64"`
	Profile  *profilePatch `json:"profile,omitempty"`
	Locale   *string       `json:"locale,omitempty" maxLength:"16"`
}

// profilePatch is a merge patch (RFC 7396) of a Profile.
type profilePatch struct {
	FirstName    *string `json:"first_name,omitempty" maxLength:"100"`
	LastName     *string `json:"last_name,omitempty" maxLength:"100"`
	AvatarURL    *string `json:"avatar_url,omitempty" maxLength:"500"`
	Organization *string `json:"organization,omitempty" maxLength:"200"`
}

func (p *profilePatch) on(have Profile) *Profile {
	if p == nil {
		return nil
	}
	for _, f := range []struct {
		to   *string
		from *string
	}{{&have.FirstName, p.FirstName}, {&have.LastName, p.LastName}, {&have.AvatarURL, p.AvatarURL}, {&have.Organization, p.Organization}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	return &have
}

func (s *Service) httpUpdateMe(ctx context.Context, in *struct{ Body mePatch }) (User, error) {
	me, err := s.Me(ctx)
	if err != nil {
		return User{}, err
	}
	if err := web.CheckRev(ctx, me.Rev); err != nil {
		return User{}, err
	}
	u, err := s.UpdateMe(ctx, Patch{Username: in.Body.Username, Locale: in.Body.Locale, Profile: in.Body.Profile.on(me.Profile)})
	web.SetRev(ctx, u.Rev)
	return u, err
}

type listIn struct {
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	After string `query:"after" maxLength:"2048"`
}

func (s *Service) httpUsers(ctx context.Context, in *listIn) (page.List[User], error) {
	return s.Users(ctx, in.Limit, in.After)
}

func (s *Service) httpCreate(ctx context.Context, in *struct{ Body NewUser }) (User, error) {
	u, err := s.Create(ctx, in.Body)
	if err == nil {
		web.SetHeader(ctx, "Location", web.Prefix+"/users/"+u.ID)
	}
	return u, err
}

func (s *Service) httpUser(ctx context.Context, in *idIn) (User, error) {
	u, err := s.User(ctx, in.ID)
	web.SetRev(ctx, u.Rev)
	return u, err
}

// userPut is the writable part of an account, as a whole.
type userPut struct {
	Username string  `json:"username" maxLength:"64"`
	Email    string  `json:"email" maxLength:"254"`
	Role     string  `json:"role"`
	Profile  Profile `json:"profile,omitempty"`
	Locale   string  `json:"locale,omitempty" maxLength:"16" default:"en"`
}

func (s *Service) httpReplace(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body userPut
}) (User, error) {
	b := in.Body
	u, err := s.Update(ctx, in.ID, Patch{Username: &b.Username, Email: &b.Email, Role: &b.Role, Profile: &b.Profile, Locale: &b.Locale}, revCheck(ctx))
	web.SetRev(ctx, u.Rev)
	return u, err
}

// userPatch changes parts of an account.
type userPatch struct {
	Username *string       `json:"username,omitempty" maxLength:"64"`
	Email    *string       `json:"email,omitempty" maxLength:"254"`
	Role     *string       `json:"role,omitempty"`
	Profile  *profilePatch `json:"profile,omitempty"`
	Locale   *string       `json:"locale,omitempty" maxLength:"16"`
}

func (s *Service) httpUpdate(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"100"`
	Body userPatch
}) (User, error) {
	b := in.Body
	p := Patch{Username: b.Username, Email: b.Email, Role: b.Role, Locale: b.Locale}
	if b.Profile != nil {
		have, err := s.user(ctx, principal(ctx).TenantID, in.ID)
		if err != nil {
			return User{}, err
		}
		p.Profile = b.Profile.on(have.Profile)
	}
	u, err := s.Update(ctx, in.ID, p, revCheck(ctx))
	web.SetRev(ctx, u.Rev)
	return u, err
}

func revCheck(ctx context.Context) func(User) error {
	return func(u User) error { return web.CheckRev(ctx, u.Rev) }
}

func (s *Service) httpDelete(ctx context.Context, in *idIn) (web.None, error) {
	return web.None{}, s.Delete(ctx, in.ID)
}
