package user

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event"
	"maas/internal/platform/job"
	"maas/internal/platform/seal"
)

var tables = []dbtest.Source{{Service: "job", FS: job.Migrations}, {Service: "event", FS: event.Migrations}, {Service: "seal", FS: seal.Migrations}, {Service: "user", FS: Migrations}}

func TestSchema(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, dbtest.Source{Service: "user", FS: Migrations}, ".", "user_tenant", "user_user", "user_signing_key", "user_change", "user_usage_batch", "user_node", "user_invoice_number",
		"user_identity", "user_totp", "user_recovery", "user_passkey")
}

// world is a service with a clock that tests move.
type world struct {
	*Service
	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	_ = w.verifier.Refresh(context.Background()) // Run would have, meanwhile
}

const (
	ownerMail = "ada@example.com"
	ownerPass = "correct horse battery"
)

var home = Device{IP: "127.0.0.1", UserAgent: "test"}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	w := &world{now: clock.Now()}
	ring, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + filepath.Join(t.TempDir(), "master.key")}, d)
	require.NoError(t, err)
	w.Service, err = New(t.Context(), Deps{DB: d, Log: slog.New(slog.DiscardHandler), Now: w.clock, Seal: ring, Version: "test", Config: Defaults()})
	require.NoError(t, err)
	return w
}

// as signs a new member of a role in and returns the context that routes would have.
func (w *world) as(t *testing.T, owner context.Context, role Role) (context.Context, User) {
	t.Helper()
	mail := string(role) + "-" + newOpaque()[:6] + "@example.com"
	u, err := w.Create(owner, NewUser{Email: mail, Password: "long enough 123", Role: string(role)})
	require.NoError(t, err)
	tok, err := w.SignIn(t.Context(), Login{Email: mail, Password: "long enough 123"}, home)
	require.NoError(t, err)
	return w.ctx(t, tok.Access), u
}

func (w *world) ctx(t *testing.T, credential string) context.Context {
	t.Helper()
	c, err := w.verifier.Credential(t.Context(), credential)
	require.NoError(t, err)
	p, err := c.Check(w.clock())
	require.NoError(t, err)
	return auth.With(t.Context(), *p)
}

func (w *world) refused(t *testing.T, credential string) error {
	t.Helper()
	c, err := w.verifier.Credential(t.Context(), credential)
	if err != nil {
		return err
	}
	_, err = c.Check(w.clock())
	return err
}

func (w *world) owner(t *testing.T) (context.Context, Tokens) {
	t.Helper()
	tok, err := w.SetUp(t.Context(), Setup{Email: ownerMail, Password: ownerPass}, home, true)
	require.NoError(t, err)
	return w.ctx(t, tok.Access), tok
}

func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) { f(t, newWorld(t, d)) }, tables...)
}

func TestFirstSetUp(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		require.ErrorIs(t, w.verifier.NeedSetup(t.Context()), ErrSetupRequired)
		_, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass}, home)
		require.ErrorIs(t, err, ErrSetupRequired)
		far := Device{IP: "192.0.2.7"}
		_, err = w.SetUp(t.Context(), Setup{Email: ownerMail, Password: ownerPass, Code: "guess"}, far, false)
		require.ErrorIs(t, err, ErrSetupCode)
		_, err = w.SetUp(t.Context(), Setup{Email: ownerMail, Password: "short"}, home, true)
		require.ErrorIs(t, err, ErrWeakPassword)
		tok, err := w.SetUp(t.Context(), Setup{Email: ownerMail, Password: ownerPass, Code: w.SetupCode()}, far, false)
		require.NoError(t, err)
		require.Equal(t, Owner, tok.User.Role)
		require.NoError(t, w.verifier.NeedSetup(t.Context()))
		_, err = w.SetUp(t.Context(), Setup{Email: "b@example.com", Password: ownerPass}, home, true)
		require.ErrorIs(t, err, ErrSetupDone)
		require.Empty(t, w.SetupCode())
		me, err := w.Me(w.ctx(t, tok.Access))
		require.NoError(t, err)
		require.Equal(t, ownerMail, me.Email)
		require.Contains(t, me.Permissions, "tenant:delete")
	})
}

func TestSignInTellsNothingAboutAccountsAndDampsGuessing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.owner(t)
		_, err := w.SignIn(t.Context(), Login{Email: "nobody@example.com", Password: "x"}, home)
		require.ErrorIs(t, err, ErrBadCredentials)
		for range 6 {
			_, err = w.SignIn(t.Context(), Login{Email: ownerMail, Password: "wrong wrong"}, Device{IP: "198.51.100.1"})
			require.ErrorIs(t, err, ErrBadCredentials)
		}
		_, err = w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass}, Device{IP: "198.51.100.1"})
		require.ErrorIs(t, err, ErrTooManyAttempts)
		_, err = w.SignIn(t.Context(), Login{Email: "  ADA@example.com", Password: ownerPass}, home)
		require.NoError(t, err, "the owner elsewhere is not locked out")
		w.wait(2 * time.Second)
		_, err = w.SignIn(t.Context(), Login{Email: "ada", Password: ownerPass}, Device{IP: "198.51.100.1"})
		require.NoError(t, err)
	})
}

func TestRefreshTokensRotateAndReuseEndsTheSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, first := w.owner(t)
		second, err := w.Refresh(t.Context(), first.Refresh, home)
		require.NoError(t, err)
		require.NotEqual(t, first.Refresh, second.Refresh)
		w.wait(5 * time.Second)
		again, err := w.Refresh(t.Context(), first.Refresh, home)
		require.NoError(t, err)
		require.Equal(t, second.Refresh, again.Refresh, "within the grace: the same successor")
		third, err := w.Refresh(t.Context(), second.Refresh, home)
		require.NoError(t, err)
		w.wait(11 * time.Second)
		require.NoError(t, w.refused(t, third.Access))
		_, err = w.Refresh(t.Context(), second.Refresh, home)
		require.ErrorIs(t, err, ErrTokenReused)
		_, err = w.Refresh(t.Context(), third.Refresh, home)
		require.ErrorIs(t, err, ErrTokenReused, "the thief's or the owner's: both are out")
		require.ErrorIs(t, w.refused(t, third.Access), ErrTokenReused)
		var n int
		require.NoError(t, w.db.Read(t.Context(), func(ctx context.Context, q *db.Query) error {
			n, err = db.One(ctx, q, db.Scalar[int], `SELECT COUNT(*) FROM event_outbox WHERE topic = 'user.session.reused'`)
			return err
		}))
		require.Equal(t, 1, n)
		_, err = w.Refresh(t.Context(), newOpaque(), home)
		require.ErrorIs(t, err, ErrBadRefresh)
	})
}

func TestParallelRefreshesGiveOneSuccessor(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, first := w.owner(t)
		got := make([]string, 20)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				tok, err := w.Refresh(t.Context(), first.Refresh, home)
				if err != nil {
					t.Error(err)
				}
				got[i] = tok.Refresh
			})
		}
		wg.Wait()
		for _, s := range got {
			require.Equal(t, got[0], s)
		}
	})
}

func TestSessionsEnd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx, a := w.owner(t)
		b, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass, Remember: true}, home)
		require.NoError(t, err)
		list, err := w.Sessions(ctx)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.True(t, list[1].Current)
		require.ErrorIs(t, w.ChangePassword(ctx, "wrong wrong", "another long one", home), ErrBadCredentials)
		require.ErrorIs(t, w.ChangePassword(ctx, ownerPass, ownerPass, home), ErrWeakPassword)
		require.NoError(t, w.refused(t, b.Access))
		require.NoError(t, w.ChangePassword(ctx, ownerPass, "another long one", home))
		require.NoError(t, w.refused(t, a.Access), "the session that changed it goes on")
		require.ErrorIs(t, w.refused(t, b.Access), ErrSessionRevoked)
		_, err = w.Refresh(t.Context(), b.Refresh, home)
		require.ErrorIs(t, err, ErrSessionRevoked)
		require.NoError(t, w.SignOut(t.Context(), a.Refresh))
		require.ErrorIs(t, w.refused(t, a.Access), ErrSessionRevoked)

		c, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: "another long one"}, home)
		require.NoError(t, err)
		w.wait(16 * time.Minute)
		require.ErrorIs(t, w.refused(t, c.Access), ErrSessionExpired)
		w.wait(13 * time.Hour)
		_, err = w.Refresh(t.Context(), c.Refresh, home)
		require.ErrorIs(t, err, ErrSessionExpired)
	})
}

func TestRolesActAtOnceAndTheLastOwnerStays(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, tok := w.owner(t)
		admin, _ := w.as(t, owner, Admin)
		dev, devUser := w.as(t, owner, Developer)
		none := func(User) error { return nil }
		role := func(r Role) Patch { s := string(r); return Patch{Role: &s} }

		_, err := w.Create(admin, NewUser{Email: "o@example.com", Password: "long enough 123", Role: "owner"})
		require.ErrorIs(t, err, ErrOwnerOnly)
		_, err = w.Update(admin, tok.User.ID, role(Viewer), none)
		require.ErrorIs(t, err, ErrOwnerOnly)
		_, err = w.Update(owner, tok.User.ID, role(Viewer), none)
		require.ErrorIs(t, err, ErrLastOwner)
		require.ErrorIs(t, w.Delete(owner, tok.User.ID), ErrSelf)
		_, err = w.Create(owner, NewUser{Email: devUser.Email, Password: "long enough 123"})
		require.ErrorIs(t, err, ErrTaken)

		key, err := w.MakeKey(dev, NewKey{Name: "k", Scopes: []string{"all"}})
		require.NoError(t, err)
		require.NoError(t, auth.Need(w.ctx(t, key.Secret), "model:write"))
		_, err = w.Update(owner, devUser.ID, role(Viewer), none)
		require.NoError(t, err)
		require.ErrorIs(t, auth.Need(w.ctx(t, key.Secret), "model:write"), auth.ErrForbidden, "a key may no more than its owner")
		sess, err := w.SignIn(t.Context(), Login{Email: devUser.Email, Password: "long enough 123"}, home)
		require.NoError(t, err)
		_, err = w.Suspend(admin, devUser.ID)
		require.NoError(t, err)
		require.ErrorIs(t, w.refused(t, key.Secret), ErrSuspended)
		require.Error(t, w.refused(t, sess.Access))
		_, err = w.SignIn(t.Context(), Login{Email: devUser.Email, Password: "long enough 123"}, home)
		require.ErrorIs(t, err, ErrSuspended)
		_, err = w.SignIn(t.Context(), Login{Email: devUser.Email, Password: "wrong wrong"}, home)
		require.ErrorIs(t, err, ErrBadCredentials, "suspension is told after the right password only")
		_, err = w.Activate(admin, devUser.ID)
		require.NoError(t, err)
		require.NoError(t, w.refused(t, key.Secret))
		require.NoError(t, w.Delete(admin, devUser.ID))
		require.ErrorIs(t, w.refused(t, key.Secret), ErrKeyRevoked)
		_, err = w.User(owner, devUser.ID)
		require.ErrorIs(t, err, ErrNotFound)
		list, err := w.Users(owner, 1, "")
		require.NoError(t, err)
		require.NotNil(t, list.Next)
		list, err = w.Users(owner, 10, *list.Next)
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
	})
}

func TestKeys(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, _ := w.owner(t)
		dev, _ := w.as(t, owner, Developer)
		other, _ := w.as(t, owner, Developer)
		k, err := w.MakeKey(dev, NewKey{Name: " dev ", Models: []string{"a"}, ExpiresAt: w.clock().Add(time.Hour)})
		require.NoError(t, err)
		require.Equal(t, "dev", k.Name)
		p, ok := auth.From(w.ctx(t, k.Secret))
		require.True(t, ok)
		require.Equal(t, []string{"a"}, p.Models)
		require.Equal(t, []string{"inference:invoke", "inference:read", "model:read"}, p.Permissions)
		_, err = w.Key(other, k.ID)
		require.ErrorIs(t, err, ErrKeyNotFound)
		_, err = w.RevokeKey(other, k.ID)
		require.ErrorIs(t, err, ErrKeyNotFound)
		for owner, n := range map[string]int{"": 1, "me": 0} {
			list, err := w.Keys(w.ownerCtx(t), KeyFilter{Owner: owner, Limit: 10})
			require.NoError(t, err)
			require.Len(t, list.Items, n)
		}
		models := []string{"a", "b"}
		got, err := w.UpdateKey(dev, k.ID, KeyPatch{Models: &models}, func(Key) error { return nil })
		require.NoError(t, err)
		require.Equal(t, int64(2), got.Rev)
		p, _ = auth.From(w.ctx(t, k.Secret))
		require.Equal(t, models, p.Models)
		c, err := w.verifier.Credential(t.Context(), k.Secret)
		require.NoError(t, err)
		w.wait(2 * time.Hour)
		require.ErrorIs(t, w.refused(t, k.Secret), ErrKeyExpired)
		never := time.Time{}
		_, err = w.UpdateKey(dev, k.ID, KeyPatch{ExpiresAt: &never}, func(Key) error { return nil })
		require.NoError(t, err)
		require.NoError(t, w.refused(t, k.Secret))
		_, err = w.RevokeKey(owner, k.ID)
		require.NoError(t, err)
		_, err = c.Check(w.clock())
		require.ErrorIs(t, err, ErrKeyRevoked, "a stream that holds the credential sees it")
		_, err = w.UpdateKey(dev, k.ID, KeyPatch{}, func(Key) error { return nil })
		require.ErrorIs(t, err, ErrKeyClosed)
		require.NoError(t, w.DeleteKey(dev, k.ID))
		_, err = w.Key(dev, k.ID)
		require.ErrorIs(t, err, ErrKeyNotFound)
		require.ErrorIs(t, w.refused(t, k.Secret), ErrKeyRevoked)
	})
}

func (w *world) ownerCtx(t *testing.T) context.Context {
	t.Helper()
	tok, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass}, home)
	require.NoError(t, err)
	return w.ctx(t, tok.Access)
}

// A second process follows by polling alone.
func TestVerifierOfAnotherProcessFollows(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, tok := w.owner(t)
		far := NewVerifier(w.Service, w.clock, slog.New(slog.DiscardHandler))
		k, err := w.MakeKey(owner, NewKey{Name: "k"})
		require.NoError(t, err)
		s, err := far.Credential(t.Context(), tok.Access)
		require.ErrorIs(t, err, ErrInvalidToken, "no signing key was read yet")
		require.Nil(t, s)
		c, err := far.Credential(t.Context(), k.Secret)
		require.NoError(t, err, "asked for because it is not in the snapshot yet, and all news with it")
		_, err = c.Check(w.clock())
		require.NoError(t, err)
		require.NoError(t, far.Refresh(t.Context()))
		s, err = far.Credential(t.Context(), tok.Access)
		require.NoError(t, err)
		_, err = s.Check(w.clock())
		require.NoError(t, err)
		_, err = w.RevokeKey(owner, k.ID)
		require.NoError(t, err)
		require.NoError(t, w.SignOut(t.Context(), tok.Refresh))
		require.NoError(t, far.Refresh(t.Context()))
		_, err = c.Check(w.clock())
		require.ErrorIs(t, err, ErrKeyRevoked)
		_, err = s.Check(w.clock())
		require.ErrorIs(t, err, ErrSessionRevoked)
		_, err = far.Credential(t.Context(), newKeyText())
		require.ErrorIs(t, err, ErrInvalidKey)
		w.wait(time.Hour)
		_, err = far.Credential(t.Context(), k.Secret)
		require.ErrorIs(t, err, ErrKeysStale)
	})
}

func TestTickets(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, _ := w.owner(t)
		text, _, err := w.Ticket(owner, "/v1/inference/stream", home)
		require.NoError(t, err)
		_, err = w.RedeemTicket(t.Context(), TicketUse{Ticket: text, Path: "/v1/inference/stream", IP: home.IP})
		require.NoError(t, err)
		_, err = w.RedeemTicket(t.Context(), TicketUse{Ticket: text, Path: "/v1/inference/stream", IP: home.IP})
		require.ErrorIs(t, err, ErrTicket)
		text, _, err = w.Ticket(owner, "/v1/inference/stream", home)
		require.NoError(t, err)
		_, err = w.RedeemTicket(t.Context(), TicketUse{Ticket: text, Path: "/v1/inference/stream", IP: "192.0.2.1"})
		require.ErrorIs(t, err, ErrTicket)
		text, _, err = w.Ticket(owner, "/v1/inference/stream", home)
		require.NoError(t, err)
		w.wait(31 * time.Second)
		_, err = w.RedeemTicket(t.Context(), TicketUse{Ticket: text, Path: "/v1/inference/stream", IP: home.IP})
		require.ErrorIs(t, err, ErrTicket)
	})
}

func TestSigningKeysRotate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.owner(t)
		old := w.signer.Load().kid
		w.wait(29*24*time.Hour + time.Hour)
		require.NoError(t, w.rotate(t.Context()))
		keys, err := w.SigningKeys(t.Context())
		require.NoError(t, err)
		require.Len(t, keys, 2, "the next one is published a day ahead")
		w.wait(24 * time.Hour)
		require.NoError(t, w.rotate(t.Context()))
		require.NotEqual(t, old, w.signer.Load().kid)
		fresh, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass}, home)
		require.NoError(t, err)
		require.NoError(t, w.refused(t, fresh.Access))
		w.wait(2 * time.Hour)
		require.NoError(t, w.rotate(t.Context()))
		keys, err = w.SigningKeys(t.Context())
		require.NoError(t, err)
		require.Len(t, keys, 1)
		again, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass}, home)
		require.NoError(t, err)
		require.NoError(t, w.RotateNow(t.Context()))
		require.ErrorIs(t, w.refused(t, again.Access), ErrInvalidToken)
		next, err := w.Refresh(t.Context(), again.Refresh, home)
		require.NoError(t, err)
		require.NoError(t, w.refused(t, next.Access))
	})
}

func TestUsageIsBookedOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, tok := w.owner(t)
		dev, devUser := w.as(t, owner, Developer)
		k, err := w.MakeKey(dev, NewKey{Name: "k"})
		require.NoError(t, err)
		row := func(n int, u string, model string) Usage {
			return Usage{RequestID: "req_0192f0c0b1c97abc8def0123456789" + string(rune('a'+n)) + "0", At: w.clock().Add(-time.Duration(n) * time.Minute), TenantID: tok.User.Tenant.ID, UserID: u, KeyID: k.ID, Op: "chat", Model: model,
				Status: 200, End: EndDone, Source: SourceUpstream, Attempts: 1, InFresh: 10, InCache: 5, OutText: 7, OutReasoning: 1, Stream: true}
		}
		b := Batch{Node: "n1", Epoch: 1, Seq: 1, Rows: []Usage{row(0, devUser.ID, "a"), row(1, devUser.ID, "b"), row(2, tok.User.ID, "a")}}
		for range 3 {
			require.NoError(t, w.Record(t.Context(), b))
		}
		other := b
		other.Seq = 2
		require.NoError(t, w.Record(t.Context(), other), "the same rows under another number")
		b.Rows = b.Rows[:1]
		require.ErrorIs(t, w.Record(t.Context(), b), ErrBatchReused)
		bad := row(3, devUser.ID, "a")
		bad.InFresh = -1
		require.ErrorIs(t, w.Record(t.Context(), Batch{Node: "n1", Seq: 9, Rows: []Usage{bad}}), ErrBatch)

		w.wait(time.Minute)
		all, err := w.Usage(owner, UsageQuery{GroupBy: []string{"model", "key", "user"}, Bucket: "1d"})
		require.NoError(t, err)
		require.Equal(t, Tally{Requests: 3, PromptTokens: 45, CachedTokens: 15, CompletionTokens: 24, ReasoningTokens: 3}, all.Totals)
		mine, err := w.Usage(dev, UsageQuery{})
		require.NoError(t, err)
		require.Equal(t, int64(2), mine.Totals.Requests)
		_, err = w.Usage(dev, UsageQuery{Bucket: "5m"})
		require.ErrorIs(t, err, ErrUsageQuery)
		list, err := w.Requests(owner, UsageFilter{Limit: 2})
		require.NoError(t, err)
		require.Len(t, list.Items, 2)
		require.Equal(t, "k", list.Items[0].KeyName)
		list, err = w.Requests(owner, UsageFilter{Limit: 2, After: *list.Next})
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
		list, err = w.Requests(owner, UsageFilter{Model: "b"})
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
		one, err := w.Request(dev, row(0, "", "").RequestID)
		require.NoError(t, err)
		require.Equal(t, int64(15), one.PromptTokens)
		_, err = w.Request(dev, row(2, "", "").RequestID)
		require.ErrorIs(t, err, ErrUsageNotFound, "somebody else's")
		got, err := w.Key(dev, k.ID)
		require.NoError(t, err)
		require.False(t, got.LastUsedAt.IsZero())
	})
}

var discard = slog.New(slog.DiscardHandler)

func dbOpen(t *testing.T) *db.DB { t.Helper(); return dbtest.Open(t, tables...) }
