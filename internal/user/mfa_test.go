package user

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
	authenticator "github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"maas/internal/platform/db"
)

// code is what an authenticator app shows now.
func (w *town) code(t *testing.T, secret string) string {
	t.Helper()
	c, err := authenticator.GenerateCode(secret, w.clock())
	require.NoError(t, err)
	return c
}

// withTOTP sets an authenticator app up for the caller.
func (w *town) withTOTP(t *testing.T, ctx context.Context) (secret string, recovery []string) {
	t.Helper()
	app, err := w.StartTOTP(ctx)
	require.NoError(t, err)
	recovery, err = w.ConfirmTOTP(ctx, w.code(t, app.Secret), home)
	require.NoError(t, err)
	require.Contains(t, w.post.Next(t).Text, "authenticator app was added")
	w.wait(time.Minute) // the code of the confirmation is used up
	return app.Secret, recovery
}

// first signs in with the password and returns the challenge.
func (w *town) first(t *testing.T) Challenge {
	t.Helper()
	tok, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass, Remember: true}, home)
	require.NoError(t, err)
	require.NotNil(t, tok.MFA)
	require.Empty(t, tok.Access)
	require.Empty(t, tok.Refresh)
	return *tok.MFA
}

func (w *town) second(t *testing.T, c Challenge, method, code string) (Tokens, error) {
	t.Helper()
	return w.SignInSecond(t.Context(), SecondFactor{Token: c.Token, Method: method, Code: code}, home)
}

func TestAuthenticatorApp(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		ctx, _ := w.owner(t)
		_, err := w.ConfirmTOTP(ctx, "123456", home)
		require.ErrorIs(t, err, ErrMFAInactive)
		app, err := w.StartTOTP(ctx)
		require.NoError(t, err)
		require.Contains(t, app.URL, "otpauth://totp/maas.example.com:ada@example.com?")
		require.True(t, strings.HasPrefix(app.QR, "<svg "))
		_, err = w.ConfirmTOTP(ctx, "000000", home)
		require.ErrorIs(t, err, ErrMFAWrong)
		require.NoError(t, w.signIn(t, ownerMail, ownerPass), "set up, not proven: nothing is asked for yet")
		recovery, err := w.ConfirmTOTP(ctx, w.code(t, app.Secret), home)
		require.NoError(t, err)
		require.Len(t, recovery, 10)
		_, err = w.StartTOTP(ctx)
		require.ErrorIs(t, err, ErrMFAActive, "a session that was left open cannot replace it")
		var sealed string
		require.NoError(t, w.db.Read(t.Context(), func(ctx context.Context, q *db.Query) (err error) {
			sealed, err = db.One(ctx, q, db.Scalar[string], `SELECT secret_sealed FROM user_totp`)
			return err
		}))
		require.NotContains(t, sealed, app.Secret)

		c := w.first(t)
		require.Equal(t, []string{"totp", "recovery"}, c.Methods)
		_, err = w.second(t, c, "totp", w.code(t, app.Secret))
		require.ErrorIs(t, err, ErrMFAWrong, "the code of the confirmation does not work again")
		w.wait(time.Minute)
		_, err = w.second(t, c, "nonsense", w.code(t, app.Secret))
		require.ErrorIs(t, err, ErrMFAWrong)
		good := w.code(t, app.Secret)
		tok, err := w.second(t, c, "totp", good[:3]+" "+good[3:])
		require.NoError(t, err)
		require.True(t, tok.Session.remember)
		require.Equal(t, []string{"mfa", "otp", "pwd"}, tok.Session.methods)
		require.NoError(t, w.refused(t, tok.Access))
		_, err = w.second(t, c, "totp", good)
		require.ErrorIs(t, err, ErrMFAExpired, "a challenge is answered once")
		_, err = w.second(t, w.first(t), "totp", good)
		require.ErrorIs(t, err, ErrMFAWrong, "so is a code")
		m, err := w.MFA(ctx)
		require.NoError(t, err)
		require.Equal(t, MFAState{TOTP: true, Recovery: 10, Password: true}, m)

		c = w.first(t)
		w.wait(mfaLife + time.Second)
		_, err = w.second(t, c, "totp", w.code(t, app.Secret))
		require.ErrorIs(t, err, ErrMFAExpired)
		require.ErrorIs(t, w.DisableTOTP(ctx, "wrong wrong", home), ErrBadCredentials)
		require.NoError(t, w.DisableTOTP(ctx, ownerPass, home))
		require.ErrorIs(t, w.DisableTOTP(ctx, ownerPass, home), ErrMFAInactive)
		require.NoError(t, w.signIn(t, ownerMail, ownerPass))
		m, err = w.MFA(ctx)
		require.NoError(t, err)
		require.Equal(t, MFAState{Password: true}, m, "recovery codes go with the last factor")
	})
}

func TestGuessingCodesIsDamped(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		ctx, _ := w.owner(t)
		secret, _ := w.withTOTP(t, ctx)
		c := w.first(t)
		for range mfaTries {
			_, err := w.second(t, c, "totp", "000000")
			require.ErrorIs(t, err, ErrMFAWrong)
		}
		_, err := w.second(t, c, "totp", w.code(t, secret))
		require.ErrorIs(t, err, ErrMFAExpired, "five wrong answers end the challenge")
		_, err = w.second(t, w.first(t), "totp", "000000")
		require.ErrorIs(t, err, ErrMFAWrong)
		_, err = w.second(t, w.first(t), "totp", w.code(t, secret))
		require.ErrorIs(t, err, ErrTooManyAttempts, "and a new challenge does not help")
		tries := 0
		for i := range 40 { // from everywhere, as fast as it lets them
			ip := Device{IP: "198.51.100." + string(rune('0'+i%10)) + string(rune('0'+i/10))}
			if _, err = w.SignInSecond(t.Context(), SecondFactor{Token: w.first(t).Token, Method: "totp", Code: "000000"}, ip); err != nil && strings.Contains(err.Error(), "mfa_wrong") {
				tries++
			}
		}
		require.LessOrEqual(t, tries, 5, "the account counts, not the address")
		w.wait(time.Hour)
		_, err = w.second(t, w.first(t), "totp", w.code(t, secret))
		require.NoError(t, err)
	})
}

func TestOneCodeOneSession(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		ctx, _ := w.owner(t)
		secret, recovery := w.withTOTP(t, ctx)
		for _, answer := range [][2]string{{"totp", w.code(t, secret)}, {"recovery", recovery[3]}} {
			var wg sync.WaitGroup
			var won atomic.Int32
			for range 6 {
				c := w.first(t)
				wg.Go(func() {
					if _, err := w.SignInSecond(context.Background(), SecondFactor{Token: c.Token, Method: answer[0], Code: answer[1]}, home); err == nil {
						won.Add(1)
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, 1, won.Load(), answer[0])
			w.wait(2 * time.Hour)
		}
	})
}

func TestRecoveryCodes(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		ctx, _ := w.owner(t)
		_, old := w.withTOTP(t, ctx)
		_, err := w.second(t, w.first(t), "recovery", strings.ToUpper(strings.ReplaceAll(old[0], "-", " ")))
		require.NoError(t, err, "however it is typed")
		require.Contains(t, w.post.Next(t).Text, "recovery code was used")
		_, err = w.second(t, w.first(t), "recovery", old[0])
		require.ErrorIs(t, err, ErrMFAWrong)
		m, err := w.MFA(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 9, m.Recovery)
		_, err = w.RenewRecoveryCodes(ctx, "wrong wrong", home)
		require.ErrorIs(t, err, ErrBadCredentials)
		fresh, err := w.RenewRecoveryCodes(ctx, ownerPass, home)
		require.NoError(t, err)
		require.Len(t, fresh, 10)
		_, err = w.second(t, w.first(t), "recovery", old[1])
		require.ErrorIs(t, err, ErrMFAWrong)
		_, err = w.second(t, w.first(t), "recovery", fresh[9])
		require.NoError(t, err)
	})
}

func TestAdminsResetFactors(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		owner, _ := w.owner(t)
		dev, u := w.as(t, owner, Developer)
		app, err := w.StartTOTP(dev)
		require.NoError(t, err)
		_, err = w.ConfirmTOTP(dev, w.code(t, app.Secret), home)
		require.NoError(t, err)
		require.NotEmpty(t, w.post.Next(t))
		require.ErrorIs(t, w.ResetMFA(dev, mustUser(dev)), ErrSelf)
		viewer, _ := w.as(t, owner, Viewer)
		require.Error(t, w.ResetMFA(viewer, u.ID), "nobody touches those who may more")
		require.NoError(t, w.ResetMFA(owner, u.ID))
		require.Contains(t, w.post.Next(t).Text, "an administrator removed")
		require.NoError(t, w.signIn(t, u.Email, "long enough 123"))
	})
}

var device1 = virtualwebauthn.RelyingParty{ID: "maas.example.com", Name: "maas.example.com", Origin: "https://maas.example.com"}

// makePasskey registers a passkey of a software authenticator for the caller.
func (w *town) makePasskey(t *testing.T, ctx context.Context, a *virtualwebauthn.Authenticator, k virtualwebauthn.Credential, name string) (MadePasskey, error) {
	t.Helper()
	c, err := w.BeginPasskey(ctx, "", home)
	require.NoError(t, err)
	o, err := virtualwebauthn.ParseAttestationOptions(string(c.Options))
	require.NoError(t, err)
	require.Equal(t, device1.ID, o.RelyingPartyID)
	made, err := w.FinishPasskey(ctx, c.Token, name, json.RawMessage(virtualwebauthn.CreateAttestationResponse(device1, *a, k, *o)))
	if err == nil {
		a.Options.UserHandle = []byte(o.UserID)
		a.AddCredential(k)
	}
	return made, err
}

// assert answers a ceremony with a passkey.
func assert(t *testing.T, rp virtualwebauthn.RelyingParty, a virtualwebauthn.Authenticator, k virtualwebauthn.Credential, c Ceremony) json.RawMessage {
	t.Helper()
	o, err := virtualwebauthn.ParseAssertionOptions(string(c.Options))
	require.NoError(t, err)
	return json.RawMessage(virtualwebauthn.CreateAssertionResponse(rp, a, k, *o))
}

// newCredential makes a passkey of a device. The library leaves leading zeros of a coordinate out, which no device does: such keys are thrown away.
func newCredential(t *testing.T) virtualwebauthn.Credential {
	t.Helper()
	for {
		c := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
		k, err := x509.ParsePKCS8PrivateKey(c.Key.Data)
		require.NoError(t, err)
		ec, ok := k.(*ecdsa.PrivateKey)
		require.True(t, ok)
		if len(ec.X.Bytes()) == 32 && len(ec.Y.Bytes()) == 32 {
			return c
		}
	}
}

func TestPasskeys(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		ctx, _ := w.owner(t)
		a, k := virtualwebauthn.NewAuthenticator(), newCredential(t)
		made, err := w.makePasskey(t, ctx, &a, k, "Laptop")
		require.NoError(t, err)
		require.Equal(t, "Laptop", made.Name)
		require.Len(t, made.RecoveryCodes, 10, "the first factor comes with a way back")
		require.Contains(t, w.post.Next(t).Text, "passkey was added")
		_, err = w.makePasskey(t, ctx, &a, k, "Again")
		require.ErrorIs(t, err, ErrPasskeyTaken)

		// alone
		begin := func() Ceremony {
			c, err := w.BeginPasskeyLogin(t.Context(), "", home)
			require.NoError(t, err)
			return c
		}
		c := begin()
		k.Counter++
		answer := assert(t, device1, a, k, c)
		tok, err := w.SignInPasskey(t.Context(), c.Token, answer, true, home)
		require.NoError(t, err)
		require.Equal(t, []string{"hwk", "mfa"}, tok.Session.methods)
		require.Equal(t, ownerMail, tok.User.Email)
		_, err = w.SignInPasskey(t.Context(), c.Token, answer, true, home)
		require.ErrorIs(t, err, ErrCeremony, "once")
		_, err = w.SignInPasskey(t.Context(), begin().Token, answer, true, home)
		require.ErrorIs(t, err, ErrPasskey, "the answer to another question")
		evil := virtualwebauthn.RelyingParty{ID: device1.ID, Name: "x", Origin: "https://maas.example.com.evil.example"}
		c = begin()
		_, err = w.SignInPasskey(t.Context(), c.Token, assert(t, evil, a, k, c), true, home)
		require.ErrorIs(t, err, ErrPasskey, "made at an imitation of the site")
		c = begin()
		lazy := a
		lazy.Options.UserNotVerified = true
		_, err = w.SignInPasskey(t.Context(), c.Token, assert(t, device1, lazy, k, c), true, home)
		require.ErrorIs(t, err, ErrPasskey, "alone, the device must verify the person")
		c = begin()
		stranger := newCredential(t)
		_, err = w.SignInPasskey(t.Context(), c.Token, assert(t, device1, a, stranger, c), true, home)
		require.ErrorIs(t, err, ErrPasskey)
		c = begin()
		w.wait(ceremonyLife + time.Second)
		_, err = w.SignInPasskey(t.Context(), c.Token, assert(t, device1, a, k, c), true, home)
		require.ErrorIs(t, err, ErrCeremony)

		// after the password
		ch := w.first(t)
		require.Equal(t, []string{"passkey", "recovery"}, ch.Methods)
		c, err = w.BeginPasskeyLogin(t.Context(), ch.Token, home)
		require.NoError(t, err)
		k.Counter++
		tok, err = w.SignInSecond(t.Context(), SecondFactor{Token: ch.Token, Method: "passkey", Ceremony: c.Token, Assertion: assert(t, device1, a, k, c)}, home)
		require.NoError(t, err)
		require.Equal(t, []string{"hwk", "mfa", "pwd"}, tok.Session.methods)
		ch = w.first(t)
		c, err = w.BeginPasskeyLogin(t.Context(), ch.Token, home)
		require.NoError(t, err)
		k.Counter = 0 // a copy
		_, err = w.SignInSecond(t.Context(), SecondFactor{Token: ch.Token, Method: "passkey", Ceremony: c.Token, Assertion: assert(t, device1, a, k, c)}, home)
		require.NoError(t, err)
		var cloned int
		require.NoError(t, w.db.Read(t.Context(), func(ctx context.Context, q *db.Query) (err error) {
			cloned, err = db.One(ctx, q, db.Scalar[int], `SELECT COUNT(*) FROM event_outbox WHERE topic = 'user.factor.changed' AND data LIKE '%passkey_cloned%'`)
			return err
		}))
		require.Equal(t, 1, cloned)

		list, err := w.Passkeys(ctx)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.False(t, list[0].LastUsedAt.IsZero())
		p, err := w.RenamePasskey(ctx, list[0].ID, " Desk ")
		require.NoError(t, err)
		require.Equal(t, "Desk", p.Name)
		_, err = w.RenamePasskey(ctx, "pky_x", "x")
		require.ErrorIs(t, err, ErrPasskeyNotFound)
		dev, _ := w.as(t, ctx, Developer)
		require.ErrorIs(t, w.DropPasskey(dev, list[0].ID, home), ErrPasskeyNotFound, "of somebody else")
		w.wait(time.Hour)
		_, err = w.BeginPasskey(ctx, "", home)
		require.ErrorIs(t, err, ErrReauth, "an old session makes no new passkey")
		_, err = w.BeginPasskey(ctx, ownerPass, home)
		require.NoError(t, err)
		require.ErrorIs(t, w.DropPasskey(ctx, list[0].ID, home), ErrReauth)
		require.NoError(t, w.DropPasskey(w.ctx(t, w.recovered(t, made.RecoveryCodes[0]).Access), list[0].ID, home))
		require.NoError(t, w.signIn(t, ownerMail, ownerPass))
	})
}

func (w *town) recovered(t *testing.T, code string) Tokens {
	t.Helper()
	tok, err := w.second(t, w.first(t), "recovery", code)
	require.NoError(t, err)
	return tok
}
