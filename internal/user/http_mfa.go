package user

import (
	"context"
	"encoding/json"
	"net/http"

	"maas/internal/platform/web"
)

func (s *Service) mfaRoutes(api web.API) {
	web.Post(api, "/auth/login/mfa", "user_auth_second", web.Public, http.StatusOK, s.httpSecond)
	web.Get(api, "/auth/mfa", "user_mfa_get", web.SignedIn, http.StatusOK, func(ctx context.Context, _ *struct{}) (MFAState, error) { return s.MFA(ctx) })
	web.Post(api, "/auth/mfa/totp", "user_totp_create", web.SignedIn, http.StatusCreated, s.httpTOTP)
	web.Post(api, "/auth/mfa/totp/confirm", "user_totp_confirm", web.SignedIn, http.StatusOK, func(ctx context.Context, in *codeIn) (codesOut, error) {
		list, err := s.ConfirmTOTP(ctx, in.Body.Code, device(ctx))
		return codesOut{list}, err
	})
	web.Post(api, "/auth/mfa/totp/disable", "user_totp_disable", web.SignedIn, http.StatusNoContent, func(ctx context.Context, in *confirmIn) (web.None, error) {
		return web.None{}, s.DisableTOTP(ctx, in.Body.Password, device(ctx))
	})
	web.Post(api, "/auth/mfa/recovery-codes", "user_recovery_renew", web.SignedIn, http.StatusOK, func(ctx context.Context, in *confirmIn) (codesOut, error) {
		list, err := s.RenewRecoveryCodes(ctx, in.Body.Password, device(ctx))
		return codesOut{list}, err
	})
	web.Post(api, "/users/{id}/reset-mfa", "user_user_reset_mfa", "user:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) {
		return web.None{}, s.ResetMFA(ctx, in.ID)
	})
	web.Get(api, "/auth/passkeys", "user_passkey_list", web.SignedIn, http.StatusOK, func(ctx context.Context, _ *struct{}) (passkeyList, error) {
		list, err := s.Passkeys(ctx)
		if list == nil {
			list = []Passkey{}
		}
		return passkeyList{Items: list}, err
	})
	web.Patch(api, "/auth/passkeys/{id}", "user_passkey_update", web.SignedIn, http.StatusOK, func(ctx context.Context, in *passkeyPatch) (Passkey, error) {
		return s.RenamePasskey(ctx, in.ID, in.Body.Name)
	})
	web.Delete(api, "/auth/passkeys/{id}", "user_passkey_delete", web.SignedIn, http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) {
		return web.None{}, s.DropPasskey(ctx, in.ID, device(ctx))
	})
	web.Post(api, "/auth/passkeys/register/begin", "user_passkey_begin", web.SignedIn, http.StatusOK, func(ctx context.Context, in *passkeyBegin) (Ceremony, error) {
		password := ""
		if in.Body != nil {
			password = in.Body.Password
		}
		return s.BeginPasskey(ctx, password, device(ctx))
	})
	web.Post(api, "/auth/passkeys/register/finish", "user_passkey_create", web.SignedIn, http.StatusCreated, func(ctx context.Context, in *passkeyFinish) (MadePasskey, error) {
		web.SetHeader(ctx, "Cache-Control", "no-store")
		return s.FinishPasskey(ctx, in.Body.Ceremony, in.Body.Name, in.Body.Credential)
	})
	web.Post(api, "/auth/passkeys/login/begin", "user_passkey_login_begin", web.Public, http.StatusOK, func(ctx context.Context, in *passkeyLoginBegin) (Ceremony, error) {
		token := ""
		if in.Body != nil {
			token = in.Body.Token
		}
		return s.BeginPasskeyLogin(ctx, token, device(ctx))
	})
	web.Post(api, "/auth/passkeys/login/finish", "user_passkey_login", web.Public, http.StatusOK, s.httpPasskeyLogin)
}

// loginAnswer is a session, or the question for a second factor.
type loginAnswer struct {
	AccessToken  string   `json:"access_token,omitempty"`
	TokenType    string   `json:"token_type,omitempty" enum:"Bearer"`
	ExpiresIn    int      `json:"expires_in,omitempty" doc:"Seconds"`
	RefreshToken string   `json:"refresh_token,omitempty"`
	User         *User    `json:"user,omitempty"`
	MFARequired  bool     `json:"mfa_required,omitempty"`
	MFAToken     string   `json:"mfa_token,omitempty" doc:"Holds for five minutes and five wrong answers"`
	Methods      []string `json:"methods,omitempty" doc:"totp, passkey, recovery"`
}

func (s *Service) loginAnswer(ctx context.Context, t Tokens, cli bool) loginAnswer {
	if t.MFA != nil {
		web.SetHeader(ctx, "Cache-Control", "no-store")
		return loginAnswer{MFARequired: true, MFAToken: t.MFA.Token, Methods: t.MFA.Methods}
	}
	a := s.answer(ctx, t, cli)
	return loginAnswer{AccessToken: a.AccessToken, TokenType: a.TokenType, ExpiresIn: a.ExpiresIn, RefreshToken: a.RefreshToken, User: &a.User}
}

type secondIn struct {
	Body struct {
		Token     string          `json:"mfa_token" maxLength:"128"`
		Method    string          `json:"method" enum:"totp,recovery,passkey"`
		Code      string          `json:"code,omitempty" maxLength:"64"`
		Ceremony  string          `json:"ceremony,omitempty" maxLength:"128" doc:"Of POST /auth/passkeys/login/begin"`
		Assertion json.RawMessage `json:"assertion,omitempty" doc:"What the browser made, as JSON"`
		Client    string          `json:"client,omitempty" enum:"cli,"`
	}
}

func (s *Service) httpSecond(ctx context.Context, in *secondIn) (loginAnswer, error) {
	b := in.Body
	t, err := s.SignInSecond(ctx, SecondFactor{Token: b.Token, Method: b.Method, Code: b.Code, Ceremony: b.Ceremony, Assertion: b.Assertion}, device(ctx))
	if err != nil {
		return loginAnswer{}, err
	}
	return s.loginAnswer(ctx, t, b.Client == "cli"), nil
}

type totpOut struct {
	Secret string `json:"secret"`
	URL    string `json:"otpauth_url"`
	QR     string `json:"qr_svg"`
}

func (s *Service) httpTOTP(ctx context.Context, _ *struct{}) (totpOut, error) {
	web.SetHeader(ctx, "Cache-Control", "no-store")
	t, err := s.StartTOTP(ctx)
	return totpOut{t.Secret, t.URL, t.QR}, err
}

type codeIn struct {
	Body struct {
		Code string `json:"code" maxLength:"64"`
	}
}

type confirmIn struct {
	Body struct {
		Password string `json:"password,omitempty" maxLength:"1024" doc:"Empty for people without one, whose sign-in must be recent"`
	}
}

type codesOut struct {
	Codes []string `json:"recovery_codes" doc:"Shown once"`
}

// passkeyList is the answer form of the list of passkeys; it has one page.
type passkeyList struct {
	Items []Passkey `json:"items"`
	Next  *string   `json:"next"`
}

type passkeyPatch struct {
	ID   string `path:"id" maxLength:"100"`
	Body struct {
		Name string `json:"name" maxLength:"256"`
	}
}

type passkeyBegin struct {
	Body *struct {
		Password string `json:"password,omitempty" maxLength:"1024" doc:"Needed when the sign-in is more than ten minutes ago"`
	} `required:"false"`
}

type passkeyFinish struct {
	Body struct {
		Ceremony   string          `json:"ceremony" maxLength:"128"`
		Name       string          `json:"name,omitempty" maxLength:"256"`
		Credential json.RawMessage `json:"credential" doc:"What the browser made, as JSON"`
	}
}

type passkeyLoginBegin struct {
	Body *struct {
		Token string `json:"mfa_token,omitempty" maxLength:"128" doc:"As second factor of this sign-in; empty = the passkey alone"`
	} `required:"false"`
}

type passkeyLoginIn struct {
	Body struct {
		Ceremony  string          `json:"ceremony" maxLength:"128"`
		Assertion json.RawMessage `json:"assertion"`
		Remember  bool            `json:"remember,omitempty"`
		Client    string          `json:"client,omitempty" enum:"cli,"`
	}
}

func (s *Service) httpPasskeyLogin(ctx context.Context, in *passkeyLoginIn) (loginAnswer, error) {
	t, err := s.SignInPasskey(ctx, in.Body.Ceremony, in.Body.Assertion, in.Body.Remember, device(ctx))
	if err != nil {
		return loginAnswer{}, err
	}
	return s.loginAnswer(ctx, t, in.Body.Client == "cli"), nil
}
