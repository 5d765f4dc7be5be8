package user

import (
	"context"
	"net/http"

	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func (s *Service) inviteRoutes(api web.API) {
	web.Get(api, "/invitations", "user_invitation_list", "user:write", http.StatusOK, s.httpInvitations)
	web.Post(api, "/invitations", "user_invitation_create", "user:write", http.StatusCreated, s.httpInvite)
	web.Delete(api, "/invitations/{id}", "user_invitation_delete", "user:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) {
		return web.None{}, s.RevokeInvitation(ctx, in.ID)
	})
	web.Post(api, "/invitations/{id}/resend", "user_invitation_resend", "user:write", http.StatusOK, s.httpResend)
	web.Get(api, "/invitations/by-token/{token}", "user_invitation_show", web.Public, http.StatusOK, s.httpShowInvitation)
	web.Post(api, "/invitations/by-token/{token}/accept", "user_invitation_accept", web.SignedIn, http.StatusOK, s.httpAccept)
}

func (s *Service) httpInvitations(ctx context.Context, in *listIn) (page.List[Invitation], error) {
	return s.Invitations(ctx, in.Limit, in.After)
}

func (s *Service) httpInvite(ctx context.Context, in *struct{ Body NewInvitation }) (MadeInvitation, error) {
	i, err := s.Invite(ctx, in.Body)
	web.SetHeader(ctx, "Cache-Control", "no-store")
	return i, err
}

func (s *Service) httpResend(ctx context.Context, in *idIn) (MadeInvitation, error) {
	i, err := s.ResendInvitation(ctx, in.ID)
	web.SetHeader(ctx, "Cache-Control", "no-store")
	return i, err
}

type inviteTokenIn struct {
	Token string `path:"token" maxLength:"128"`
}

// httpShowInvitation is damped like a sign-in: tokens are not for guessing.
func (s *Service) httpShowInvitation(ctx context.Context, in *inviteTokenIn) (InvitationView, error) {
	ip := device(ctx).IP
	if err := s.damp.check(s.Now(), "invitation", ip); err != nil {
		return InvitationView{}, err
	}
	v, err := s.ShowInvitation(ctx, in.Token)
	if err != nil {
		s.damp.fail(s.Now(), "invitation", ip)
	}
	return v, err
}

func (s *Service) httpAccept(ctx context.Context, in *inviteTokenIn) (TenantDetail, error) {
	return s.AcceptInvitation(ctx, in.Token)
}
