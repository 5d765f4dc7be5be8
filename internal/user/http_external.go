package user

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"maas/internal/platform/fault"
	"maas/internal/platform/web"
)

// flowCookie holds a sign-in under way at a provider. Lax, because the provider sends the browser back from another site; sealed, short, for the provider routes alone.
const (
	flowCookie = "maas_login"
	flowPath   = cookiePath + "/providers"
)

// providerInfo is a button on the sign-in page.
type providerInfo struct {
	ID       string `json:"id"`
	Kind     string `json:"kind" enum:"oidc,oauth2"`
	Name     string `json:"name"`
	StartURL string `json:"start_url" doc:"Go there; return_to is where to come back to"`
}

func (s *Service) providerList() []providerInfo {
	list := []providerInfo{}
	for _, e := range s.providers.All() {
		list = append(list, providerInfo{e.ID, e.Kind, e.Name, flowPath + "/" + e.ID + "/start"})
	}
	return list
}

// mfaConfig says which second factors there are.
type mfaConfig struct {
	TOTP     bool `json:"totp"`
	Passkeys bool `json:"passkeys"`
}

func (s *Service) externalRoutes(api web.API, mux *web.Mux) {
	mux.Handle(http.MethodGet, "/auth/providers/{provider}/start", "user_provider_start", web.Public, http.HandlerFunc(s.httpStart))
	mux.Handle(http.MethodGet, "/auth/providers/{provider}/callback", "user_provider_callback", web.Public, http.HandlerFunc(s.httpCallback))
	web.Get(api, "/auth/identities", "user_identity_list", web.SignedIn, http.StatusOK, func(ctx context.Context, _ *struct{}) (identityList, error) {
		list, err := s.Identities(ctx)
		if list == nil {
			list = []Identity{}
		}
		return identityList{Items: list}, err
	})
	web.Delete(api, "/auth/identities/{id}", "user_identity_delete", web.SignedIn, http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) {
		return web.None{}, s.Unlink(ctx, in.ID, device(ctx))
	})
	web.Post(api, "/auth/identities/{provider}/link", "user_identity_link", web.SignedIn, http.StatusOK, s.httpLink)
}

// identityList is the answer form of the list of identities; it has one page.
type identityList struct {
	Items []Identity `json:"items"`
	Next  *string    `json:"next"`
}

func (s *Service) flowCookie(r *http.Request, provider, value string) *http.Cookie {
	c := &http.Cookie{Name: flowCookie, Value: value, Path: flowPath + "/" + provider, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.Config.SecureCookies || r.TLS != nil, MaxAge: int(flowLife.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// httpStart sends the browser to a provider.
func (s *Service) httpStart(w http.ResponseWriter, r *http.Request) {
	provider := r.PathValue("provider")
	q := r.URL.Query()
	address, sealed, err := s.startFlow(r.Context(), provider, q.Get("return_to"), q.Get("invitation"), "")
	if err != nil {
		s.sendBack(w, r, err, "")
		return
	}
	http.SetCookie(w, s.flowCookie(r, provider, sealed))
	redirect(w, r, address)
}

// httpCallback takes the browser back from a provider and sends it to the console: with a session, with the question for the second factor, or with the code of an error.
func (s *Service) httpCallback(w http.ResponseWriter, r *http.Request) {
	provider, sealed := r.PathValue("provider"), ""
	if c, err := r.Cookie(flowCookie); err == nil {
		sealed = c.Value
	}
	end, err := s.finishFlow(r.Context(), provider, sealed, r.URL.Query(), Device{IP: RemoteIP(r), UserAgent: r.UserAgent()})
	http.SetCookie(w, s.flowCookie(r, provider, ""))
	result := "ok"
	if err != nil {
		result = fault.From(err).Code
	}
	s.metrics.logins.WithLabelValues(result).Inc()
	back := url.QueryEscape(end.ReturnTo)
	switch {
	case err != nil && end.Linked != "":
		s.sendBack(w, r, err, end.ReturnTo)
	case err != nil:
		s.sendBack(w, r, err, "")
	case end.Linked != "":
		redirect(w, r, s.url(with(end.ReturnTo, "linked", end.Linked)))
	case end.MFA != nil: // behind #, so that it is in no server's log
		redirect(w, r, s.url("/enter#mfa_token="+url.QueryEscape(end.MFA.Token)+"&methods="+strings.Join(end.MFA.Methods, ",")+"&return_to="+back))
	default:
		http.SetCookie(w, s.sessionCookie(r, end.Tokens))
		redirect(w, r, s.url("/enter?return_to="+back))
	}
}

// sendBack goes to a page of the console with the code of an error; "" is the sign-in page.
func (s *Service) sendBack(w http.ResponseWriter, r *http.Request, err error, page string) {
	e := fault.From(err)
	if e.Kind == fault.Internal || e.Kind == fault.Upstream || strings.HasPrefix(e.Code, "login.") {
		s.Log.WarnContext(r.Context(), "sign-in by a provider failed", "provider", r.PathValue("provider"), "error", err)
	}
	if page == "" {
		page = "/enter"
	}
	redirect(w, r, s.url(with(page, "error", e.Code)))
}

// with adds a parameter to a local path.
func with(path, name, value string) string {
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	path, fragment, found := strings.Cut(path, "#")
	path += mark + name + "=" + url.QueryEscape(value)
	if found {
		path += "#" + fragment
	}
	return path
}

func redirect(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, to, http.StatusFound)
}

type linkIn struct {
	Provider string `path:"provider" maxLength:"100"`
	Body     *struct {
		ReturnTo string `json:"return_to,omitempty" maxLength:"500"`
		Password string `json:"password,omitempty" maxLength:"1024" doc:"Needed when the sign-in is more than ten minutes ago"`
	} `required:"false"`
}

type linkOut struct {
	URL string `json:"url" doc:"Go there in this browser"`
}

func (s *Service) httpLink(ctx context.Context, in *linkIn) (linkOut, error) {
	var returnTo, password string
	if in.Body != nil {
		returnTo, password = in.Body.ReturnTo, in.Body.Password
	}
	address, sealed, err := s.LinkURL(ctx, in.Provider, returnTo, password, device(ctx))
	if err != nil {
		return linkOut{}, err
	}
	web.SetHeader(ctx, "Cache-Control", "no-store")
	web.SetCookie(ctx, s.flowCookie(web.Request(ctx), in.Provider, sealed))
	return linkOut{address}, nil
}
