package user

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
	"github.com/stretchr/testify/require"
)

func TestHTTPRegistration(t *testing.T) {
	eachTown(t, registration(RegistrationApproval), func(t *testing.T, w *town) {
		owner, tok := w.owner(t)
		_ = owner
		s := w.site(t)
		conf := s.do("GET", "/auth/config", "", nil)
		require.Equal(t, "approval", conf.str("registration"))
		require.Equal(t, obj{"enabled": true, "verification": true}, conf.body["email"])
		require.Equal(t, obj{"totp": true, "passkeys": true}, conf.body["mfa"])
		require.Equal(t, 422, s.do("POST", "/auth/register", "", obj{"email": "bea@example.com", "password": newPass, "role": "owner"}).status, "no field makes an owner")
		require.Equal(t, 422, s.do("POST", "/auth/register", "", obj{"email": "bea@example.com", "password": "short"}).status)
		for _, email := range []string{"bea@example.com", ownerMail} {
			a := s.do("POST", "/auth/register", "", obj{"email": email, "password": newPass, "name": "Bea", "locale": "zh-CN"})
			require.Equal(t, 201, a.status, a.body)
			require.Equal(t, obj{"status": "pending_verification"}, a.body)
		}
		var code string
		for range 2 {
			if l := w.post.Next(t); l.To == "bea@example.com" {
				code = token(t, l, "/verify")
			}
		}
		w.settled(t)
		require.Equal(t, 204, s.do("POST", "/auth/verify-email/resend", "", obj{"email": "bea@example.com"}).status)
		l := w.post.Next(t)
		a := s.do("POST", "/auth/verify-email", "", obj{"token": code})
		require.Equal(t, 409, a.status, "a newer letter was sent")
		require.Equal(t, "user.token_used", a.str("code"))
		a = s.do("POST", "/auth/verify-email", "", obj{"token": token(t, l, "/verify")})
		require.Equal(t, obj{"status": "pending_approval"}, a.body)
		a = s.do("POST", "/auth/login", "", obj{"email": "bea@example.com", "password": newPass})
		require.Equal(t, 403, a.status)
		require.Equal(t, "user.pending_approval", a.str("code"))
		id := s.do("GET", "/users", tok.Access, nil).body["items"].([]any)[1].(obj)["id"].(string)
		_, dev := w.as(t, owner, Developer)
		devTok, err := w.SignIn(t.Context(), Login{Email: dev.Email, Password: "long enough 123"}, home)
		require.NoError(t, err)
		for _, verb := range []string{"approve", "reject", "reset-mfa"} {
			require.Equal(t, 403, s.do("POST", "/users/"+id+"/"+verb, devTok.Access, nil).status, verb)
			require.Equal(t, 401, s.do("POST", "/users/"+id+"/"+verb, "", nil).status, verb)
			require.Equal(t, 404, s.do("POST", "/users/usr_x/"+verb, tok.Access, nil).status, verb)
		}
		a = s.do("POST", "/users/"+id+"/approve", tok.Access, nil)
		require.Equal(t, 200, a.status, a.body)
		require.Equal(t, "active", a.str("status"))
		require.Equal(t, 409, s.do("POST", "/users/"+id+"/reject", tok.Access, nil).status)
		require.Equal(t, 200, s.do("POST", "/auth/login", "", obj{"email": "bea@example.com", "password": newPass}).status)
		require.Equal(t, "您的账号已通过审核", w.post.Next(t).Subject)
	})
}

func TestHTTPForgottenPassword(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		_, tok := w.owner(t)
		s := w.site(t)
		for _, email := range []string{ownerMail, "nobody@example.com"} {
			a := s.do("POST", "/auth/password/forgot", "", obj{"email": email})
			require.Equal(t, 204, a.status)
			require.Empty(t, a.body)
		}
		code := token(t, w.post.Next(t), "/reset")
		require.Equal(t, 422, s.do("POST", "/auth/password/reset", "", obj{"token": code, "password": "short"}).status)
		require.Equal(t, 204, s.do("POST", "/auth/password/reset", "", obj{"token": code, "password": newPass}).status)
		require.Equal(t, 409, s.do("POST", "/auth/password/reset", "", obj{"token": code, "password": newPass}).status)
		require.Equal(t, 401, s.do("GET", "/users/me", tok.Access, nil).status, "all devices are out")
		a := s.do("POST", "/auth/login", "", obj{"email": ownerMail, "password": newPass})
		b := s.do("POST", "/auth/login", "", obj{"email": ownerMail, "password": newPass})
		require.Equal(t, 204, s.do("POST", "/auth/sessions/revoke-others", a.str("access_token"), nil).status)
		require.Equal(t, 200, s.do("GET", "/users/me", a.str("access_token"), nil).status)
		require.Equal(t, 401, s.do("GET", "/users/me", b.str("access_token"), nil).status)
	})
}

func TestHTTPSecondFactors(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		owner, tok := w.owner(t)
		s := w.site(t)
		k, err := w.MakeKey(owner, NewKey{Name: "all", Scopes: []string{"all"}})
		require.NoError(t, err)
		for _, r := range [][2]string{{"POST", "/auth/mfa/totp"}, {"GET", "/auth/mfa"}, {"GET", "/auth/passkeys"}, {"GET", "/auth/identities"}, {"POST", "/auth/passkeys/register/begin"}, {"POST", "/auth/sessions/revoke-others"}, {"POST", "/users/me/export"}} {
			require.Equal(t, 401, s.do(r[0], r[1], "", nil).status, r[1])
			require.Equal(t, 403, s.do(r[0], r[1], k.Secret, nil).status, "%s: a key changes no sign-in", r[1])
		}
		a := s.do("POST", "/auth/mfa/totp", tok.Access, nil)
		require.Equal(t, 201, a.status, a.body)
		require.Equal(t, "no-store", a.header.Get("Cache-Control"))
		secret := a.str("secret")
		require.Contains(t, a.str("otpauth_url"), secret)
		a = s.do("POST", "/auth/mfa/totp/confirm", tok.Access, obj{"code": w.code(t, secret)})
		require.Equal(t, 200, a.status, a.body)
		require.Len(t, a.body["recovery_codes"], 10)

		a = s.do("POST", "/auth/passkeys/register/begin", tok.Access, nil)
		require.Equal(t, 200, a.status, a.body)
		options, err := json.Marshal(a.body["options"])
		require.NoError(t, err)
		o, err := virtualwebauthn.ParseAttestationOptions(string(options))
		require.NoError(t, err)
		device, key := virtualwebauthn.NewAuthenticator(), newCredential(t)
		device.Options.UserHandle = []byte(o.UserID)
		a = s.do("POST", "/auth/passkeys/register/finish", tok.Access, obj{"ceremony": a.str("ceremony"), "name": "Phone", "credential": json.RawMessage(virtualwebauthn.CreateAttestationResponse(device1, device, key, *o))})
		require.Equal(t, 201, a.status, a.body)
		require.NotContains(t, a.body, "recovery_codes", "there are some")
		id := a.str("id")
		require.Equal(t, obj{"totp": true, "recovery_codes_left": 10.0, "passkeys": 1.0, "required": false, "password": true}, s.do("GET", "/auth/mfa", tok.Access, nil).body)

		a = s.do("POST", "/auth/passkeys/login/begin", "", nil)
		options, err = json.Marshal(a.body["options"])
		require.NoError(t, err)
		answer := assert(t, device1, device, key, Ceremony{Options: options})
		a = s.do("POST", "/auth/passkeys/login/finish", "", obj{"ceremony": a.str("ceremony"), "assertion": answer, "client": "cli"})
		require.Equal(t, 200, a.status, a.body)
		require.NotEmpty(t, a.str("refresh_token"))

		a = s.do("POST", "/auth/login", "", obj{"email": ownerMail, "password": ownerPass})
		require.Equal(t, []any{"totp", "passkey", "recovery"}, a.body["methods"])
		challenge := a.str("mfa_token")
		a = s.do("POST", "/auth/passkeys/login/begin", "", obj{"mfa_token": challenge})
		options, err = json.Marshal(a.body["options"])
		require.NoError(t, err)
		require.Contains(t, string(options), "allowCredentials")
		a = s.do("POST", "/auth/login/mfa", "", obj{"mfa_token": challenge, "method": "passkey", "ceremony": a.str("ceremony"), "assertion": assert(t, device1, device, key, Ceremony{Options: options})})
		require.Equal(t, 200, a.status, a.body)
		require.NotEmpty(t, a.str("access_token"))

		require.Equal(t, "Desk", s.do("PATCH", "/auth/passkeys/"+id, tok.Access, obj{"name": "Desk"}).str("name"))
		require.Len(t, s.do("GET", "/auth/passkeys", tok.Access, nil).body["items"], 1)
		require.Equal(t, 204, s.do("DELETE", "/auth/passkeys/"+id, tok.Access, nil).status)
		require.Equal(t, 200, s.do("POST", "/auth/mfa/recovery-codes", tok.Access, obj{"password": ownerPass}).status)
		require.Equal(t, 401, s.do("POST", "/auth/mfa/totp/disable", tok.Access, obj{"password": "wrong wrong"}).status)
		require.Equal(t, 204, s.do("POST", "/auth/mfa/totp/disable", tok.Access, obj{"password": ownerPass}).status)
		require.Equal(t, 409, s.do("POST", "/users/me/erase", tok.Access, obj{"password": ownerPass, "confirm": ownerMail}).status, "the last owner stays")
		w.wait(time.Hour)
		a = s.do("POST", "/auth/passkeys/register/begin", tok.Access, nil)
		require.Equal(t, 401, a.status, "the access token ended meanwhile")
	})
}
