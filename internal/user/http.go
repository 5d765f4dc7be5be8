package user

import (
	"context"
	"net"
	"net/http"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/web"
)

// refreshCookie is the only cookie that is a credential. It goes to /api/v1/auth alone and never to another site's request.
const (
	refreshCookie = "maas_refresh"
	cookiePath    = web.Prefix + "/auth"
)

// Routes declares the service's routes.
func (s *Service) Routes(api web.API, mux *web.Mux) {
	web.Get(api, "/auth/config", "user_auth_config", web.Public, http.StatusOK, s.httpConfig)
	web.Post(api, "/auth/setup", "user_auth_setup", web.Public, http.StatusCreated, s.httpSetup)
	web.Post(api, "/auth/login", "user_auth_login", web.Public, http.StatusOK, s.httpLogin)
	web.Post(api, "/auth/refresh", "user_auth_refresh", web.Public, http.StatusOK, s.httpRefresh)
	web.Post(api, "/auth/logout", "user_auth_logout", web.Public, http.StatusNoContent, s.httpLogout)
	web.Post(api, "/auth/password/change", "user_password_change", web.SignedIn, http.StatusNoContent, s.httpPassword)
	web.Get(api, "/auth/sessions", "user_session_list", web.SignedIn, http.StatusOK, s.httpSessions)
	web.Delete(api, "/auth/sessions/{id}", "user_session_revoke", web.SignedIn, http.StatusNoContent, s.httpSessionRevoke)
	web.Post(api, "/auth/ws-ticket", "user_ticket_create", web.SignedIn, http.StatusOK, s.httpTicket)
	s.registerRoutes(api)
	s.externalRoutes(api, mux)
	s.mfaRoutes(api)
	s.accountRoutes(api, mux)
	s.userRoutes(api)
	s.keyRoutes(api)
	s.limitRoutes(api)
	s.moneyRoutes(api, mux)
	s.tenantRoutes(api, mux)
	s.projectRoutes(api)
	s.inviteRoutes(api)
}

type authConfig struct {
	SetupRequired     bool   `json:"setup_required"`
	SetupCodeRequired bool   `json:"setup_code_required" doc:"The caller is on another machine: set-up wants the code printed at start"`
	Registration      string `json:"registration" enum:"closed,invite,approval,open"`
	Version           string `json:"version"`
	Password          struct {
		MinLength int `json:"min_length"`
	} `json:"password"`
	Email     emailConfig    `json:"email"`
	Providers []providerInfo `json:"providers"`
	MFA       mfaConfig      `json:"mfa"`
	DemoModel bool           `json:"demo_model" doc:"The built-in demo model can be made: POST /models/demo"`
}

func (s *Service) httpConfig(ctx context.Context, _ *struct{}) (authConfig, error) {
	need, err := s.needsSetup(ctx)
	c := authConfig{SetupRequired: need, SetupCodeRequired: need && !local(web.Request(ctx)), Registration: s.Config.Registration, Version: s.Version, DemoModel: s.Demo}
	c.Password.MinLength = passwordMin
	c.Providers, c.MFA = s.providerList(), mfaConfig{TOTP: true, Passkeys: s.passkeysAt(web.Request(ctx).Host)}
	c.Email = emailConfig{Enabled: s.Mail != nil, Verification: s.Mail != nil && s.Config.VerifyEmail}
	return c, err
}

// authAnswer is what a session gives out. The refresh token is in the body for the command line only; browsers have it in the cookie, out of reach of scripts.
type authAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type" enum:"Bearer"`
	ExpiresIn    int    `json:"expires_in" doc:"Seconds"`
	RefreshToken string `json:"refresh_token,omitempty"`
	User         User   `json:"user"`
}

func (s *Service) answer(ctx context.Context, t Tokens, cli bool) authAnswer {
	web.SetHeader(ctx, "Cache-Control", "no-store")
	a := authAnswer{AccessToken: t.Access, TokenType: "Bearer", ExpiresIn: int(accessLife.Seconds()), User: t.User}
	if cli {
		a.RefreshToken = t.Refresh
		return a
	}
	web.SetCookie(ctx, s.sessionCookie(web.Request(ctx), t))
	return a
}

func (s *Service) sessionCookie(r *http.Request, t Tokens) *http.Cookie {
	c := s.cookie(r, t.Refresh)
	if t.Session.remember {
		c.MaxAge = int(t.Session.endsAt.Sub(s.Now()).Seconds())
	}
	return c
}

func (s *Service) cookie(r *http.Request, value string) *http.Cookie {
	return &http.Cookie{Name: refreshCookie, Value: value, Path: cookiePath, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.Config.SecureCookies || r.TLS != nil}
}

type setupIn struct {
	Body struct {
		Setup
		Client string `json:"client,omitempty" enum:"cli,"`
	}
}

func (s *Service) httpSetup(ctx context.Context, in *setupIn) (authAnswer, error) {
	t, err := s.SetUp(ctx, in.Body.Setup, device(ctx), local(web.Request(ctx)))
	if err != nil {
		return authAnswer{}, err
	}
	return s.answer(ctx, t, in.Body.Client == "cli"), nil
}

type loginIn struct {
	Body struct {
		Email    string `json:"email" maxLength:"254" doc:"Address or user name"`
		Password string `json:"password" maxLength:"1024"`
		Remember bool   `json:"remember,omitempty"`
		Client   string `json:"client,omitempty" enum:"cli," doc:"cli: the refresh token comes in the body"`
	}
}

func (s *Service) httpLogin(ctx context.Context, in *loginIn) (loginAnswer, error) {
	t, err := s.SignIn(ctx, Login{in.Body.Email, in.Body.Password, in.Body.Remember}, device(ctx))
	if err != nil {
		return loginAnswer{}, err
	}
	return s.loginAnswer(ctx, t, in.Body.Client == "cli"), nil
}

type refreshIn struct {
	Body *struct {
		RefreshToken string `json:"refresh_token,omitempty" maxLength:"128"`
	} `required:"false"`
}

// token returns the refresh token of the body, else of the cookie.
func (in *refreshIn) token(ctx context.Context) (text string, body bool) {
	if in.Body != nil && in.Body.RefreshToken != "" {
		return in.Body.RefreshToken, true
	}
	if c, err := web.Request(ctx).Cookie(refreshCookie); err == nil {
		return c.Value, false
	}
	return "", false
}

func (s *Service) httpRefresh(ctx context.Context, in *refreshIn) (authAnswer, error) {
	text, body := in.token(ctx)
	t, err := s.Refresh(ctx, text, device(ctx))
	if err != nil {
		if !body && text != "" {
			s.dropCookie(ctx)
		}
		return authAnswer{}, err
	}
	return s.answer(ctx, t, body), nil
}

func (s *Service) dropCookie(ctx context.Context) {
	c := s.cookie(web.Request(ctx), "")
	c.MaxAge = -1
	web.SetCookie(ctx, c)
}

func (s *Service) httpLogout(ctx context.Context, in *refreshIn) (web.None, error) {
	text, _ := in.token(ctx)
	s.dropCookie(ctx)
	return web.None{}, s.SignOut(ctx, text)
}

type passwordIn struct {
	Body struct {
		CurrentPassword string `json:"current_password" maxLength:"1024"`
		NewPassword     string `json:"new_password" maxLength:"1024"`
	}
}

func (s *Service) httpPassword(ctx context.Context, in *passwordIn) (web.None, error) {
	return web.None{}, s.ChangePassword(ctx, in.Body.CurrentPassword, in.Body.NewPassword, device(ctx))
}

// sessionList is the answer form of the list of sessions; it has one page.
type sessionList struct {
	Items []Session `json:"items"`
	Next  *string   `json:"next"`
}

func (s *Service) httpSessions(ctx context.Context, _ *struct{}) (sessionList, error) {
	list, err := s.Sessions(ctx)
	if list == nil {
		list = []Session{}
	}
	return sessionList{Items: list}, err
}

type idIn struct {
	ID string `path:"id" maxLength:"100"`
}

func (s *Service) httpSessionRevoke(ctx context.Context, in *idIn) (web.None, error) {
	return web.None{}, s.RevokeSession(ctx, in.ID)
}

type ticketIn struct {
	Body struct {
		Path string `json:"path" maxLength:"500" pattern:"^/" doc:"Path of the WebSocket, without query"`
	}
}

type ticketOut struct {
	Ticket    string `json:"ticket"`
	ExpiresIn int    `json:"expires_in"`
}

func (s *Service) httpTicket(ctx context.Context, in *ticketIn) (ticketOut, error) {
	text, life, err := s.Ticket(ctx, in.Body.Path, device(ctx))
	return ticketOut{text, int(life / time.Second)}, err
}

func device(ctx context.Context) Device {
	r := web.Request(ctx)
	return Device{IP: RemoteIP(r), UserAgent: r.UserAgent()}
}

// RemoteIP is the address of the peer of a request.
func RemoteIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// local reports whether a request comes from this machine itself. Behind a proxy the peer's address says nothing about the caller, so a forwarded request is never local.
func local(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	return IsLocal(RemoteIP(r))
}

// principal is the caller of a route.
func principal(ctx context.Context) auth.Principal {
	p, _ := auth.From(ctx)
	return p
}
