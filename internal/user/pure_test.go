package user

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"maas/internal/platform/clock"
)

func TestKeyText(t *testing.T) {
	t.Parallel()
	for range 200 {
		k := newKeyText()
		require.True(t, wellFormed(k), k)
		b := []byte(k)
		i := len(keyPrefix) + int(b[20])%(keyRandom+keySum)
		b[i] = base62[(strings.IndexByte(base62, b[i])+1)%base62Size]
		require.False(t, wellFormed(string(b)), "one character differs: %s", b)
	}
	for _, bad := range []string{"", "sk-maas-", "sk-maas-" + strings.Repeat("a", 49), newKeyText() + "x", "sk_maas_" + newKeyText()[8:]} {
		require.False(t, wellFormed(bad), bad)
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	h := newHasher()
	phc, err := h.hash(t.Context(), "pässwörd 12345")
	require.NoError(t, err)
	for text, want := range map[string]bool{"pässwörd 12345": true, "pa\u0308sswo\u0308rd 12345": true, "pässwörd 12346": false, "": false} {
		ok, stale, err := h.verify(t.Context(), phc, text)
		require.NoError(t, err)
		require.Equal(t, want, ok, text)
		require.False(t, stale)
	}
	ok, _, err := h.verify(t.Context(), "", "no such password")
	require.NoError(t, err)
	require.False(t, ok, "the dummy's own password opens nothing")
	_, _, err = h.verify(t.Context(), "$2a$10$abc", "x")
	require.Error(t, err)
	for text, code := range map[string]string{"short": "too_short", strings.Repeat("x", 300): "too_long", "aaaaaaaaaaaa": "pattern", "password123": "pattern", "Ada@Example.com": "pattern", "\xff2345678901": "format"} {
		err := checkPassword(text, "ada@example.com", "")
		require.ErrorIs(t, err, ErrWeakPassword, text)
		require.Contains(t, err.Error(), "body.password", text)
		_ = code
	}
	require.NoError(t, checkPassword("four ordinary words here"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	_, err = h.hash(ctx, "x")
	require.ErrorIs(t, err, context.Canceled)
}

// The time of a sign-in must not tell whether the account exists.
func TestUnknownAccountCostsTheSame(t *testing.T) {
	t.Parallel()
	h := newHasher()
	phc, err := h.hash(t.Context(), "right password")
	require.NoError(t, err)
	median := func(phc string) time.Duration {
		var d []time.Duration
		for range 9 {
			start := time.Now()
			_, _, err := h.verify(t.Context(), phc, "wrong password")
			require.NoError(t, err)
			d = append(d, time.Since(start))
		}
		slices.Sort(d)
		return d[len(d)/2]
	}
	known, unknown := median(phc), median("")
	ratio := float64(known) / float64(unknown)
	require.InDelta(t, 1, ratio, 0.7, "known %v, unknown %v", known, unknown) // wide: other work shares the cores
}

func TestRolesAndPermissions(t *testing.T) {
	t.Parallel()
	require.True(t, Owner.May("tenant:delete"))
	require.False(t, Admin.May("tenant:delete"))
	require.True(t, Developer.May("inference:write"))
	require.False(t, Developer.May("key:admin"))
	require.False(t, Viewer.May("key:write"))
	require.True(t, Viewer.May("inference:invoke"))
	for i, r := range Roles[1:4] { // each role holds what the next weaker one holds; billing stands beside them
		for _, p := range r.Permissions() {
			require.True(t, Roles[i].May(p), "%s lacks %s of %s", Roles[i], p, r)
		}
		require.True(t, slices.IsSorted(r.Permissions()))
	}
	require.Equal(t, []string{"inference:invoke"}, meet(Viewer.Permissions(), []string{"model:write", "inference:invoke"}))
	require.Equal(t, Viewer.Permissions(), meet(Viewer.Permissions(), []string{"all"}))
	_, err := ParseRole("root")
	require.ErrorIs(t, err, ErrBadRole)
}

func TestDamping(t *testing.T) {
	t.Parallel()
	d, now := newDamper(dampRules), clock.Now()
	for range 5 {
		require.NoError(t, d.check(now, "a", "1.1.1.1"))
		d.fail(now, "a", "1.1.1.1")
	}
	require.NoError(t, d.check(now, "a", "1.1.1.1"), "five are free")
	d.fail(now, "a", "1.1.1.1")
	require.ErrorIs(t, d.check(now, "a", "1.1.1.1"), ErrTooManyAttempts)
	require.NoError(t, d.check(now, "a", "2.2.2.2"), "the account itself is not locked")
	require.NoError(t, d.check(now.Add(time.Second), "a", "1.1.1.1"))
	for range 20 {
		d.fail(now, "a", "1.1.1.1")
	}
	require.ErrorIs(t, d.check(now.Add(14*time.Minute), "a", "1.1.1.1"), ErrTooManyAttempts)
	require.ErrorIs(t, d.check(now, "b", "1.1.1.1"), ErrTooManyAttempts, "one address, many accounts")
	d.sweep(now.Add(2 * time.Hour))
	require.Empty(t, d.m)
}

func TestNewUserListsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := newUser(NewUser{Email: "no", Username: "X", Locale: "??", Profile: Profile{AvatarURL: "javascript:x", FirstName: "a\nb"}}, "usr_1", Tenant{}, clock.Now())
	require.ErrorIs(t, err, ErrInvalidUser)
	for _, f := range []string{"body.email", "body.username", "body.locale", "body.profile.avatar_url", "body.profile.first_name"} {
		require.Contains(t, err.Error(), f)
	}
	u, err := newUser(NewUser{Email: "Ada.L+x@Example.com"}, "usr_1", Tenant{}, clock.Now())
	require.NoError(t, err)
	require.Equal(t, "ada.l-x", u.Username)
	require.Equal(t, "A***@Example.com", u.masked().Email)
	for _, mail := range []string{"a@b.c", "api@b.c", "Ünï@b.c"} {
		u, err := newUser(NewUser{Email: mail}, "usr_1", Tenant{}, clock.Now())
		require.NoError(t, err, mail)
		require.GreaterOrEqual(t, len(u.Username), 3)
	}
}

func TestSigningPlan(t *testing.T) {
	t.Parallel()
	now := clock.Now()
	at := func(state string, age time.Duration) signingKey {
		return signingKey{kid: state, state: state, notBefore: now.Add(-age), retireAt: now.Add(-age)}
	}
	day := 24 * time.Hour
	require.Equal(t, rotation{makeNext: true}, plan(nil, now))
	require.Equal(t, rotation{promote: "next"}, plan([]signingKey{at(signNext, 0)}, now))
	require.Equal(t, rotation{}, plan([]signingKey{at(signActive, 28*day)}, now))
	require.Equal(t, rotation{makeNext: true}, plan([]signingKey{at(signActive, 29*day)}, now))
	require.Equal(t, rotation{}, plan([]signingKey{at(signActive, 30*day), at(signNext, 23*time.Hour)}, now))
	require.Equal(t, rotation{promote: "next"}, plan([]signingKey{at(signActive, 30*day), at(signNext, day)}, now))
	require.Equal(t, rotation{drop: []string{"retired"}}, plan([]signingKey{at(signActive, 0), at(signRetired, time.Second)}, now))
}

// Tokens that must not pass: each differs from a good one in one thing.
func TestBadAccessTokens(t *testing.T) {
	t.Parallel()
	each := func(f func(c *claims, h map[string]any)) func(w *world, s Session) string {
		return func(w *world, s Session) string {
			k := w.signer.Load()
			c := claims{RegisteredClaims: jwt.RegisteredClaims{Issuer: issuer, Subject: s.userID, Audience: jwt.ClaimStrings{audience}, IssuedAt: jwt.NewNumericDate(w.clock()), ExpiresAt: jwt.NewNumericDate(w.clock().Add(accessLife))}, SessionID: s.ID}
			tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &c)
			tok.Header["typ"], tok.Header["kid"] = tokenType, k.kid
			f(&c, tok.Header)
			text, err := tok.SignedString(k.private)
			if err != nil {
				panic(err)
			}
			return text
		}
	}
	w := newWorld(t, dbOpen(t))
	_, good := w.owner(t)
	s := good.Session
	s.userID = good.User.ID
	require.NoError(t, w.refused(t, each(func(*claims, map[string]any) {})(w, s)))
	for name, f := range map[string]func(c *claims, h map[string]any){
		"issuer":   func(c *claims, _ map[string]any) { c.Issuer = "other" },
		"audience": func(c *claims, _ map[string]any) { c.Audience = jwt.ClaimStrings{"other"} },
		"no exp":   func(c *claims, _ map[string]any) { c.ExpiresAt = nil },
		"future":   func(c *claims, _ map[string]any) { c.IssuedAt = jwt.NewNumericDate(w.clock().Add(time.Hour)) },
		"typ":      func(_ *claims, h map[string]any) { h["typ"] = "JWT" },
		"kid":      func(_ *claims, h map[string]any) { h["kid"] = "jwk_other" },
		"no sid":   func(c *claims, _ map[string]any) { c.SessionID = "" },
		"sid":      func(c *claims, _ map[string]any) { c.SessionID = "ses_other" },
	} {
		require.Error(t, w.refused(t, each(f)(w, s)), name)
	}
	expired := each(func(c *claims, _ map[string]any) { c.ExpiresAt = jwt.NewNumericDate(w.clock().Add(-time.Minute)) })(w, s)
	require.ErrorIs(t, w.refused(t, expired), ErrSessionExpired)
	none := jwt.NewWithClaims(jwt.SigningMethodNone, &claims{SessionID: s.ID})
	none.Header["typ"], none.Header["kid"] = tokenType, w.signer.Load().kid
	text, err := none.SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)
	require.ErrorIs(t, w.refused(t, text), ErrInvalidToken)
	mac := jwt.NewWithClaims(jwt.SigningMethodHS256, &claims{SessionID: s.ID})
	mac.Header["typ"], mac.Header["kid"] = tokenType, w.signer.Load().kid
	keys, err := w.SigningKeys(t.Context())
	require.NoError(t, err)
	text, err = mac.SignedString(keys[0].Public)
	require.NoError(t, err)
	require.ErrorIs(t, w.refused(t, text), ErrInvalidToken, "HS256 with the public key")
	for _, text := range []string{"a", "a.b.c", good.Access + ".x.y", good.Access[:len(good.Access)-2], strings.Repeat("x", 10_000)} {
		require.True(t, errors.Is(w.refused(t, text), ErrInvalidToken), text[:1])
	}
}

func BenchmarkVerifier(b *testing.B) {
	v := NewVerifier(nil, clock.Now, discard)
	texts := make([]string, 10_000)
	grants := make([]KeyGrant, len(texts))
	for i := range texts {
		texts[i] = newKeyText()
		grants[i] = KeyGrant{Hash: hexHash(texts[i]), Status: KeyActive}
	}
	v.setKeys(grants)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		c, err := v.Credential(b.Context(), texts[i%len(texts)])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Check(v.now()); err != nil {
			b.Fatal(err)
		}
	}
}
