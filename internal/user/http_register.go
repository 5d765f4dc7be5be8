package user

import (
	"context"
	"net/http"

	"maas/internal/platform/web"
)

func (s *Service) registerRoutes(api web.API) {
	web.Post(api, "/auth/register", "user_auth_register", web.Public, http.StatusCreated, func(ctx context.Context, in *struct{ Body Registration }) (Registered, error) {
		return s.Register(ctx, in.Body, device(ctx))
	})
	web.Post(api, "/auth/verify-email", "user_email_verify", web.Public, http.StatusOK, func(ctx context.Context, in *tokenIn) (Registered, error) {
		return s.VerifyEmail(ctx, in.Body.Token, device(ctx))
	})
	web.Post(api, "/auth/verify-email/resend", "user_email_resend", web.Public, http.StatusNoContent, func(ctx context.Context, in *emailIn) (web.None, error) {
		return web.None{}, s.ResendVerification(ctx, in.Body.Email, device(ctx))
	})
	web.Post(api, "/auth/password/forgot", "user_password_forgot", web.Public, http.StatusNoContent, func(ctx context.Context, in *emailIn) (web.None, error) {
		return web.None{}, s.ForgotPassword(ctx, in.Body.Email, device(ctx))
	})
	web.Post(api, "/auth/password/reset", "user_password_reset", web.Public, http.StatusNoContent, func(ctx context.Context, in *resetIn) (web.None, error) {
		return web.None{}, s.ResetPassword(ctx, in.Body.Token, in.Body.Password, device(ctx))
	})
	web.Post(api, "/auth/sessions/revoke-others", "user_session_revoke_others", web.SignedIn, http.StatusNoContent, func(ctx context.Context, _ *struct{}) (web.None, error) {
		return web.None{}, s.RevokeOtherSessions(ctx)
	})
	web.Post(api, "/users/{id}/approve", "user_user_approve", "user:write", http.StatusOK, func(ctx context.Context, in *idIn) (User, error) {
		return s.Approve(ctx, in.ID)
	})
	web.Post(api, "/users/{id}/reject", "user_user_reject", "user:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) {
		return web.None{}, s.Reject(ctx, in.ID)
	})
}

type tokenIn struct {
	Body struct {
		Token string `json:"token" maxLength:"128"`
	}
}

type emailIn struct {
	Body struct {
		Email string `json:"email" maxLength:"254"`
	}
}

type resetIn struct {
	Body struct {
		Token    string `json:"token" maxLength:"128"`
		Password string `json:"password" maxLength:"1024"`
	}
}

// emailConfig says what mails this installation sends.
type emailConfig struct {
	Enabled      bool `json:"enabled" doc:"Mails can be sent: forgotten passwords can be replaced"`
	Verification bool `json:"verification" doc:"Whoever registers must open a link in a mail"`
}
