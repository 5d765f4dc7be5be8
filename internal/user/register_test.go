package user

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event/eventtest"
	"maas/internal/platform/job"
	"maas/internal/platform/mail"
	"maas/internal/platform/mail/mailtest"
	"maas/internal/platform/object/file"
	"maas/internal/platform/seal"
)

// town is a world with a mail server, a bucket and the worker that sends letters.
type town struct {
	*world
	post *mailtest.Server
}

const newPass = "long enough 123"

// newTown makes a service with a first owner; more changes the settings.
func newTown(t *testing.T, d *db.DB, more func(*Deps)) *town {
	t.Helper()
	post := mailtest.Start(t, mailtest.Options{})
	sender, err := mail.New(post.Config)
	require.NoError(t, err)
	ring, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + filepath.Join(t.TempDir(), "master.key")}, d)
	require.NoError(t, err)
	bucket, err := file.Open(t.TempDir(), 1)
	require.NoError(t, err)
	t.Cleanup(func() { _ = bucket.Close() })
	w := &world{now: clock.Now()}
	deps := Deps{DB: d, Log: slog.New(slog.DiscardHandler), Now: w.clock, Seal: ring, Version: "test", Config: Defaults(), Mail: sender, Objects: bucket, PublicURL: func() string { return "https://maas.example.com" }}
	if more != nil {
		more(&deps)
	}
	w.Service, err = New(t.Context(), deps)
	require.NoError(t, err)
	jobs := job.NewRegistry()
	w.Jobs(jobs)
	eventtest.Run(t, (&job.Worker{DB: d.System(), Registry: jobs, Log: slog.New(slog.DiscardHandler), Poll: 50 * time.Millisecond}).Run)
	return &town{w, post}
}

func eachTown(t *testing.T, more func(*Deps), f func(t *testing.T, w *town)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) { f(t, newTown(t, d, more)) }, tables...)
}

func registration(mode string) func(*Deps) {
	return func(d *Deps) { d.Config.Registration = mode }
}

// token takes the one-time token out of a letter.
func token(t *testing.T, l mailtest.Letter, page string) string {
	t.Helper()
	text, ok := strings.CutPrefix(l.Link(), "https://maas.example.com"+page+"?token=")
	require.True(t, ok, "%s: %s", l.Subject, l.Link())
	require.Contains(t, l.HTML, l.Link())
	return text
}

func (w *town) signIn(t *testing.T, email, password string) error {
	t.Helper()
	_, err := w.SignIn(t.Context(), Login{Email: email, Password: password}, home)
	return err
}

func TestOpenRegistrationProvesTheAddress(t *testing.T) {
	eachTown(t, registration(RegistrationOpen), func(t *testing.T, w *town) {
		owner, _ := w.owner(t)
		r, err := w.Register(t.Context(), Registration{Email: "Bea@example.com", Password: newPass, Name: "Bea", Locale: "zh"}, home)
		require.NoError(t, err)
		require.Equal(t, Registered{Status: registeredVerification}, r)
		require.ErrorIs(t, w.signIn(t, "bea@example.com", newPass), ErrNotVerified)
		require.ErrorIs(t, w.signIn(t, "bea@example.com", "wrong wrong"), ErrBadCredentials, "the state is told after the right password only")
		l := w.post.Next(t)
		require.Equal(t, "Bea@example.com", l.To)
		require.Equal(t, "请确认您的邮箱地址", l.Subject)
		require.Contains(t, l.Text, "Bea")
		code := token(t, l, "/verify")
		_, err = w.VerifyEmail(t.Context(), code+"x", home)
		require.ErrorIs(t, err, ErrTokenUsed)
		_, err = w.ResetMailCheck(t, code)
		require.ErrorIs(t, err, ErrTokenUsed, "a token is for one purpose")
		r, err = w.VerifyEmail(t.Context(), code, home)
		require.NoError(t, err)
		require.Equal(t, registeredActive, r.Status)
		_, err = w.VerifyEmail(t.Context(), code, home)
		require.ErrorIs(t, err, ErrTokenUsed, "once")
		require.NoError(t, w.signIn(t, "bea@example.com", newPass))
		list, err := w.Users(owner, 10, "")
		require.NoError(t, err)
		require.Len(t, list.Items, 2)
		require.True(t, list.Items[1].Verified)
		require.Equal(t, Developer, list.Items[1].Role)
		require.False(t, list.Items[0].Verified, "the owner's address was typed, not proven")
	})
}

// ResetMailCheck tries a token of another kind.
func (w *town) ResetMailCheck(t *testing.T, code string) (struct{}, error) {
	return struct{}{}, w.ResetPassword(t.Context(), code, newPass, home)
}

func TestRegistrationTellsNothingAboutAddresses(t *testing.T) {
	eachTown(t, registration(RegistrationOpen), func(t *testing.T, w *town) {
		w.owner(t)
		known, err := w.Register(t.Context(), Registration{Email: ownerMail, Password: newPass}, home)
		require.NoError(t, err)
		fresh, err := w.Register(t.Context(), Registration{Email: "new@example.com", Password: newPass}, home)
		require.NoError(t, err)
		require.Equal(t, known, fresh)
		got := map[string]string{}
		for range 2 {
			l := w.post.Next(t)
			got[l.To] = l.Subject
		}
		require.Equal(t, map[string]string{ownerMail: "You already have an account", "new@example.com": "Confirm your e-mail address"}, got)
		require.NoError(t, w.signIn(t, ownerMail, ownerPass), "the owner's password stays")
		for _, email := range []string{ownerMail, "nobody@example.com", "no address", ""} {
			require.NoError(t, w.ForgotPassword(t.Context(), email, home))
			require.NoError(t, w.ResendVerification(t.Context(), email, home))
		}
		seen := map[string]bool{}
		for range 2 {
			seen[w.post.Next(t).Subject] = true
		}
		require.Equal(t, map[string]bool{"Choose a new password": true, "Confirm your e-mail address": true}, seen)
		w.settled(t)
		w.post.None(t)
	})
}

// settled waits until no job is left.
func (w *town) settled(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		n := int64(1)
		_ = w.db.Read(t.Context(), func(ctx context.Context, q *db.Query) (err error) {
			n, err = db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM job_entry WHERE finished_at = 0`)
			return err
		})
		return n == 0
	}, time.Minute, 20*time.Millisecond)
}

func TestApproval(t *testing.T) {
	eachTown(t, registration(RegistrationApproval), func(t *testing.T, w *town) {
		owner, _ := w.owner(t)
		for _, mail := range []string{"bea@example.com", "carl@example.com"} {
			r, err := w.Register(t.Context(), Registration{Email: mail, Password: newPass}, home)
			require.NoError(t, err)
			require.Equal(t, registeredVerification, r.Status)
			r, err = w.VerifyEmail(t.Context(), token(t, w.post.Next(t), "/verify"), home)
			require.NoError(t, err)
			require.Equal(t, registeredApproval, r.Status)
			require.ErrorIs(t, w.signIn(t, mail, newPass), ErrPendingApproval)
		}
		list, err := w.Users(owner, 10, "")
		require.NoError(t, err)
		require.Equal(t, []Status{Active, Pending, Pending}, []Status{list.Items[0].Status, list.Items[1].Status, list.Items[2].Status})
		bea, carl := list.Items[1].ID, list.Items[2].ID
		_, err = w.Activate(owner, bea)
		require.ErrorIs(t, err, ErrBadStatus, "that is for suspended ones")
		u, err := w.Approve(owner, bea)
		require.NoError(t, err)
		require.Equal(t, Active, u.Status)
		require.NoError(t, w.signIn(t, "bea@example.com", newPass))
		require.Equal(t, "Your account is ready", w.post.Next(t).Subject)
		_, err = w.Approve(owner, bea)
		require.ErrorIs(t, err, ErrBadStatus)
		require.ErrorIs(t, w.Reject(owner, bea), ErrBadStatus)
		require.NoError(t, w.Reject(owner, carl))
		l := w.post.Next(t)
		require.Equal(t, "carl@example.com", l.To)
		require.Equal(t, "Your registration was declined", l.Subject)
		require.ErrorIs(t, w.signIn(t, "carl@example.com", newPass), ErrBadCredentials)
		_, err = w.Register(t.Context(), Registration{Email: "carl@example.com", Password: newPass}, home)
		require.NoError(t, err, "the address is free again")
		require.Equal(t, "Confirm your e-mail address", w.post.Next(t).Subject)
	})
}

func TestClosedAndInvite(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		owner, _ := w.owner(t)
		_, err := w.Register(t.Context(), Registration{Email: "bea@example.com", Password: newPass}, home)
		require.ErrorIs(t, err, ErrInvitationNeeded, "the default")
		_, err = w.Register(t.Context(), Registration{Email: "bea@example.com", Password: newPass, Invitation: "guess"}, home)
		require.ErrorIs(t, err, ErrInvitationNotFound)
		code := newOpaque()
		inv := Invitation{ID: "inv_1", Email: "bea@example.com", Role: Viewer, tenantID: auth.Tenant(owner), hash: hexHash(code), CreatedAt: w.clock(), ExpiresAt: w.clock().Add(time.Hour)}
		require.NoError(t, w.db.Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return insertInvitation(ctx, tx, inv) }))
		_, err = w.Register(t.Context(), Registration{Email: "thief@example.com", Password: newPass, Invitation: code}, home)
		require.ErrorIs(t, err, ErrInvitationNotFound, "for the invited address only")
		r, err := w.Register(t.Context(), Registration{Email: "bea@example.com", Password: newPass, Invitation: code}, home)
		require.NoError(t, err)
		require.Equal(t, registeredActive, r.Status)
		require.Equal(t, Viewer, r.User.Role)
		require.True(t, r.User.Verified)
		require.NoError(t, w.signIn(t, "bea@example.com", newPass))
		_, err = w.Register(t.Context(), Registration{Email: "bea2@example.com", Password: newPass, Invitation: code}, home)
		require.ErrorIs(t, err, ErrInvitationClosed)
		w.Config.Registration = RegistrationClosed
		_, err = w.Register(t.Context(), Registration{Email: "dan@example.com", Password: newPass, Invitation: code}, home)
		require.ErrorIs(t, err, ErrRegistrationClosed)
	})
}

func TestInvitationByMail(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		owner, _ := w.owner(t)
		made, err := w.Invite(owner, NewInvitation{Email: "bea@example.com", RoleInput: RoleInput{Role: string(Viewer)}})
		require.NoError(t, err)
		require.True(t, made.Mailed)
		l := w.post.Next(t)
		require.Equal(t, "You are invited to My team", l.Subject)
		require.Contains(t, l.Text, ownerMail+" invites you")
		require.Equal(t, made.AcceptURL, l.Link())
		var payload string
		require.NoError(t, w.db.Read(t.Context(), func(ctx context.Context, q *db.Query) (err error) {
			payload, err = db.One(ctx, q, db.Scalar[string], `SELECT payload FROM job_entry WHERE kind = 'user.mail'`)
			return err
		}))
		code := token(t, l, "/invite")
		require.NotContains(t, payload, code, "no token stands in clear in the list of jobs")
		r, err := w.Register(t.Context(), Registration{Email: "bea@example.com", Password: newPass, Invitation: code}, home)
		require.NoError(t, err)
		require.Equal(t, Viewer, r.User.Role)
	})
}

func TestUnprovenRegistrationsEnd(t *testing.T) {
	eachTown(t, registration(RegistrationOpen), func(t *testing.T, w *town) {
		owner, _ := w.owner(t)
		_, err := w.Register(t.Context(), Registration{Email: "bea@example.com", Password: newPass}, home)
		require.NoError(t, err)
		_, err = w.Register(t.Context(), Registration{Email: "carl@example.com", Password: newPass}, home)
		require.NoError(t, err)
		for range 2 {
			if l := w.post.Next(t); l.To == "carl@example.com" {
				_, err = w.VerifyEmail(t.Context(), token(t, l, "/verify"), home)
				require.NoError(t, err)
			}
		}
		w.wait(unprovenKeep - time.Hour)
		require.NoError(t, w.dropUnproven(t.Context()))
		list, err := w.Users(owner, 10, "")
		require.NoError(t, err)
		require.Len(t, list.Items, 3)
		w.wait(2 * time.Hour)
		require.NoError(t, w.dropUnproven(t.Context()))
		require.NoError(t, w.dropUnproven(t.Context()))
		list, err = w.Users(owner, 10, "")
		require.NoError(t, err)
		require.Len(t, list.Items, 2)
		require.NoError(t, w.signIn(t, "carl@example.com", newPass))
	})
}

func TestManyRegisterAtOnce(t *testing.T) {
	eachTown(t, registration(RegistrationOpen), func(t *testing.T, w *town) {
		w.owner(t)
		var wg sync.WaitGroup
		for i := range 8 { // four names, two domains: user names collide, addresses do not
			wg.Go(func() {
				_, err := w.Register(context.Background(), Registration{Email: fmt.Sprintf("name%d@%s.example.com", i/2, []string{"a", "b"}[i%2]), Password: newPass}, home)
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		seen := map[string]bool{}
		for range 8 {
			seen[w.post.Next(t).To] = true
		}
		require.Len(t, seen, 8, "each got a letter")
	})
}

func TestRegistrationWithoutMail(t *testing.T) {
	eachTown(t, func(d *Deps) {
		d.Config.Registration, d.Config.VerifyEmail, d.Config.MailDomains, d.Config.RegistrationRole = RegistrationOpen, false, []string{"example.com"}, "viewer"
		d.Mail = nil
	}, func(t *testing.T, w *town) {
		w.owner(t)
		r, err := w.Register(t.Context(), Registration{Email: "ada@EXAMPLE.com", Password: newPass}, home)
		require.ErrorIs(t, err, ErrTaken, "%v", r)
		_, err = w.Register(t.Context(), Registration{Email: "x@other.example", Password: newPass}, home)
		require.ErrorIs(t, err, ErrMailDomain)
		_, err = w.Register(t.Context(), Registration{Email: "new@example.com", Password: "short"}, home)
		require.ErrorIs(t, err, ErrWeakPassword)
		for i, mail := range []string{"bea@example.com", "bea@sub.example.com"} {
			w.Config.MailDomains = nil
			r, err = w.Register(t.Context(), Registration{Email: mail, Password: newPass}, home)
			require.NoError(t, err)
			require.Equal(t, registeredActive, r.Status)
			require.Equal(t, i == 0, r.User.Username == "bea", "the second one's user name differs: %s", r.User.Username)
			require.False(t, r.User.Verified)
			require.NoError(t, w.signIn(t, mail, newPass))
		}
		require.ErrorIs(t, w.ForgotPassword(t.Context(), ownerMail, home), ErrNoMail)
		for range registerMost {
			_, err = w.Register(t.Context(), Registration{Email: "bea@example.com", Password: newPass}, Device{IP: "198.51.100.9"})
			require.ErrorIs(t, err, ErrTaken)
		}
		_, err = w.Register(t.Context(), Registration{Email: "bea@example.com", Password: newPass}, Device{IP: "198.51.100.9"})
		require.ErrorIs(t, err, ErrTooManyAttempts)
	})
}

func TestForgottenPassword(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		owner, tok := w.owner(t)
		require.NoError(t, w.ForgotPassword(t.Context(), " ADA@example.com ", home))
		first := token(t, w.post.Next(t), "/reset")
		w.settled(t)
		require.NoError(t, w.ForgotPassword(t.Context(), ownerMail, home))
		l := w.post.Next(t)
		require.Contains(t, l.Text, "30 min")
		second := token(t, l, "/reset")
		require.ErrorIs(t, w.ResetPassword(t.Context(), first, newPass, home), ErrTokenUsed, "the newest letter counts")
		require.ErrorIs(t, w.ResetPassword(t.Context(), second, "short", home), ErrWeakPassword)
		require.NoError(t, w.ResetPassword(t.Context(), second, newPass, home))
		require.ErrorIs(t, w.ResetPassword(t.Context(), second, newPass, home), ErrTokenUsed)
		require.ErrorIs(t, w.refused(t, tok.Access), ErrSessionRevoked, "all devices are out")
		require.ErrorIs(t, w.signIn(t, ownerMail, ownerPass), ErrBadCredentials)
		require.NoError(t, w.signIn(t, ownerMail, newPass))
		require.Equal(t, "Your password was changed", w.post.Next(t).Subject)
		u, err := w.user(t.Context(), auth.Tenant(owner), mustUser(owner))
		require.NoError(t, err)
		require.True(t, u.Verified, "who reads the mail has proven the address")

		w.settled(t)
		require.NoError(t, w.ForgotPassword(t.Context(), ownerMail, home))
		late := token(t, w.post.Next(t), "/reset")
		w.wait(resetLife + time.Second)
		require.ErrorIs(t, w.ResetPassword(t.Context(), late, newPass, home), ErrTokenUsed)
		w.settled(t)
		for range mailMost - 3 {
			require.NoError(t, w.ForgotPassword(t.Context(), ownerMail, home))
		}
		require.ErrorIs(t, w.ForgotPassword(t.Context(), ownerMail, Device{IP: "203.0.113.7"}), ErrTooManyAttempts)
		for range 8 {
			err = w.ResetPassword(t.Context(), newOpaque(), newPass, Device{IP: "203.0.113.8"})
		}
		require.ErrorIs(t, err, ErrTooManyAttempts, "guessing tokens is damped")
	})
}

func mustUser(ctx context.Context) string { p, _ := auth.From(ctx); return p.UserID }

func TestLettersComeWhenTheServerIsBack(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		w.owner(t)
		w.post.Refuse(func(string) error { return mailtest.Reply(451, "busy") })
		require.NoError(t, w.ForgotPassword(t.Context(), ownerMail, home))
		var entry struct{ state, problem, payload string }
		require.Eventually(t, func() bool {
			_ = w.db.Read(t.Context(), func(ctx context.Context, q *db.Query) (err error) {
				entry, err = db.One(ctx, q, func(r db.Row) (e struct{ state, problem, payload string }, err error) {
					return e, r.Scan(&e.state, &e.problem, &e.payload)
				}, `SELECT state, error, payload FROM job_entry WHERE kind = 'user.mail'`)
				return err
			})
			return entry.state == "waiting"
		}, time.Minute, 20*time.Millisecond)
		require.Contains(t, entry.problem, "mail.away")
		require.NotContains(t, entry.payload, "token")
		w.post.Refuse(nil)
		require.NoError(t, w.db.Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE job_entry SET run_at = 0`)
			return err
		}))
		require.NoError(t, w.ResetPassword(t.Context(), token(t, w.post.Next(t), "/reset"), newPass, home))
	})
}

func TestOtherSessionsEnd(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		ctx, first := w.owner(t)
		second, err := w.SignIn(t.Context(), Login{Email: ownerMail, Password: ownerPass}, home)
		require.NoError(t, err)
		require.NoError(t, w.RevokeOtherSessions(ctx))
		require.NoError(t, w.refused(t, first.Access))
		require.ErrorIs(t, w.refused(t, second.Access), ErrSessionRevoked)
	})
}

func TestConfigOfAccounts(t *testing.T) {
	t.Parallel()
	require.NoError(t, Defaults().validate(false))
	for _, change := range []func(*Config){
		func(c *Config) { c.Registration = "everybody" },
		func(c *Config) { c.Registration = RegistrationOpen },
		func(c *Config) { c.RegistrationRole = "owner" },
		func(c *Config) { c.RegistrationRole = "king" },
	} {
		c := Defaults()
		change(&c)
		require.ErrorIs(t, c.validate(false), ErrConfig, "%+v", c)
	}
}
