package user

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/db"
	"maas/internal/platform/id"
)

func TestAccountExport(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		owner, tok := w.owner(t)
		dev, u := w.as(t, owner, Developer)
		k, err := w.MakeKey(dev, NewKey{Name: "mine"})
		require.NoError(t, err)
		var rows []Usage
		for range exportPage + 5 {
			rows = append(rows, Usage{RequestID: id.New("req"), At: w.clock(), TenantID: u.Tenant.ID, UserID: u.ID, KeyID: k.ID, Op: "chat", Model: "m", Status: 200, End: EndDone, Source: SourceUpstream, Attempts: 1, InFresh: 2, OutText: 1})
		}
		rows = append(rows, Usage{RequestID: id.New("req"), At: w.clock(), TenantID: u.Tenant.ID, UserID: mustUser(owner), Op: "chat", Model: "secret-model-of-another", Status: 200, End: EndDone, Source: SourceUpstream, Attempts: 1})
		require.NoError(t, w.Record(t.Context(), Batch{Node: "n", Epoch: 1, Seq: 1, Rows: rows}))
		s := w.site(t)
		devTok, err := w.SignIn(t.Context(), Login{Email: u.Email, Password: "long enough 123"}, home)
		require.NoError(t, err)
		a := s.do("POST", "/users/me/export", devTok.Access, nil)
		require.Equal(t, 202, a.status, a.body)
		require.Contains(t, a.header.Get("Location"), "/jobs/job_")
		w.settled(t)
		list := s.do("GET", "/users/me/exports", devTok.Access, nil).body["items"].([]any)
		require.Len(t, list, 1)
		require.Equal(t, a.body["download_url"], list[0].(obj)["download_url"])
		get := func(access string) *http.Response {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(s.url, "/api/v1")+a.str("download_url"), nil)
			require.NoError(t, err)
			r.Header.Set("Authorization", "Bearer "+access)
			resp, err := http.DefaultTransport.RoundTrip(r)
			require.NoError(t, err)
			t.Cleanup(func() { _ = resp.Body.Close() })
			return resp
		}
		resp := get(devTok.Access)
		require.Equal(t, 200, resp.StatusCode)
		require.Contains(t, resp.Header.Get("Content-Disposition"), "attachment")
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		var got struct {
			accountData
			Calls []accountCall `json:"calls"`
		}
		require.NoError(t, json.Unmarshal(b, &got), string(b[:min(len(b), 2000)]))
		require.Equal(t, u.Email, got.Account.Email)
		require.Equal(t, []accountUsageDays{{u.Tenant.ID, "m", exportPage + 5, 2 * (exportPage + 5), exportPage + 5}}, got.Totals)
		require.Len(t, got.Calls, exportPage+5)
		require.Len(t, got.Keys, 1)
		require.NotEmpty(t, got.Sessions)
		for _, secret := range []string{k.Secret, hexHash(k.Secret), "argon2", "secret-model-of-another", ownerMail} {
			require.NotContains(t, string(b), secret)
		}
		require.Equal(t, 404, get(tok.Access).StatusCode, "an owner reads no export of others")
		require.Equal(t, 401, get(k.Secret+"x").StatusCode)
		require.Equal(t, 403, get(k.Secret).StatusCode, "nor does a key")
		require.Equal(t, 404, s.do("GET", "/users/me/exports/exp_..%2fx", devTok.Access, nil).status)
		require.NoError(t, w.sweepExports(t.Context(), time.Now().Add(time.Hour)))
		require.Equal(t, 404, get(devTok.Access).StatusCode, "exports end")
		for range accountExportMost {
			a = s.do("POST", "/users/me/export", devTok.Access, nil)
		}
		require.Equal(t, 429, a.status)
		w.settled(t)
	})
}

func TestAccountErase(t *testing.T) {
	eachTown(t, nil, func(t *testing.T, w *town) {
		owner, tok := w.owner(t)
		require.ErrorIs(t, w.EraseAccount(owner, ownerPass, "", home), ErrLastOwner)
		admin, _ := w.as(t, owner, Admin)
		require.NoError(t, w.db.Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE user_member SET role = 'developer' WHERE user_id = $1`, mustUser(owner)) // the operator is a simple member now
			return err
		}))
		evil := "evil@example.com"
		_, err := w.Update(admin, mustUser(owner), Patch{Email: &evil}, func(User) error { return nil })
		require.ErrorIs(t, err, ErrOperatorOnly, "else an admin had a new password sent to an address of theirs")
		require.ErrorIs(t, w.ResetMFA(admin, mustUser(owner)), ErrOperatorOnly)
		require.ErrorIs(t, w.Delete(admin, mustUser(owner)), ErrOperatorOnly)
		require.ErrorIs(t, w.EraseAccount(owner, ownerPass, "", home), ErrLastOperator)
		require.NoError(t, w.db.Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE user_member SET role = 'owner' WHERE user_id = $1`, mustUser(owner))
			return err
		}))
		dev, u := w.as(t, owner, Developer)
		k, err := w.MakeKey(dev, NewKey{Name: "mine"})
		require.NoError(t, err)
		app, err := w.StartTOTP(dev)
		require.NoError(t, err)
		_, err = w.ConfirmTOTP(dev, w.code(t, app.Secret), home)
		require.NoError(t, err)
		_ = w.post.Next(t)
		_, _, err = w.ExportAccount(dev)
		require.NoError(t, err)
		w.settled(t)
		require.ErrorIs(t, w.EraseAccount(dev, "wrong wrong", "", home), ErrBadCredentials)
		require.ErrorIs(t, w.EraseAccount(dev, "long enough 123", ownerMail, home), ErrInvalidUser)
		require.NoError(t, w.EraseAccount(dev, "long enough 123", u.Email, home))
		require.ErrorIs(t, w.signIn(t, u.Email, "long enough 123"), ErrBadCredentials)
		require.Error(t, w.refused(t, k.Secret))
		_, err = w.User(owner, u.ID)
		require.ErrorIs(t, err, ErrNotFound)
		left, err := w.Objects.List(t.Context(), accountExportRoot+"/", "", 10)
		require.NoError(t, err)
		require.Empty(t, left)
		require.NoError(t, w.refused(t, tok.Access), "others go on")
		_, err = w.Create(owner, NewUser{Email: u.Email, Password: newPass})
		require.NoError(t, err, "the address is free")
		u2, err := w.User(owner, "me")
		require.NoError(t, err)
		require.Equal(t, ownerMail, u2.Email)
	})
}
