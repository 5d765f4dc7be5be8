package user

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
)

// asked is a request with a credential from an address.
func asked(credential, addr string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = addr
	r.Header.Set("Authorization", "Bearer "+credential)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestKeysHoldToTheirAddresses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, _ := w.owner(t)
		_, err := w.MakeKey(owner, NewKey{Name: "k", IPAllow: []string{"10.0.0.0/8", "somewhere"}})
		require.ErrorIs(t, err, ErrKeyFields)
		k, err := w.MakeKey(owner, NewKey{Name: "k", IPAllow: []string{" 10.1.2.3/8 ", "192.0.2.7", "2001:db8::/32"}})
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"}, k.IPAllow)
		for addr, want := range map[string]error{
			"10.200.0.1:1": nil, "192.0.2.7:1": nil, "[2001:db8:1::1]:1": nil, "[::ffff:10.0.0.1]:1": nil,
			"192.0.2.8:1": ErrIPNotAllowed, "[2001:db9::1]:1": ErrIPNotAllowed, "@": ErrIPNotAllowed, "": ErrIPNotAllowed,
		} {
			_, err := w.Authenticate(t.Context(), asked(k.Secret, addr))
			if want == nil {
				require.NoError(t, err, addr)
			} else {
				require.ErrorIs(t, err, want, addr)
			}
		}
		list := []string{"192.0.2.8"}
		_, err = w.UpdateKey(owner, k.ID, KeyPatch{IPAllow: &list}, func(Key) error { return nil })
		require.NoError(t, err)
		_, err = w.Authenticate(t.Context(), asked(k.Secret, "10.200.0.1:1"))
		require.ErrorIs(t, err, ErrIPNotAllowed, "a changed list acts at once")
		_, err = w.RevokeKey(owner, k.ID)
		require.NoError(t, err)
		_, err = w.Authenticate(t.Context(), asked(k.Secret, "10.200.0.1:1"))
		require.ErrorIs(t, err, ErrKeyRevoked)
	})
}

func TestRotationOverlaps(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, _ := w.owner(t)
		k, err := w.MakeKey(owner, NewKey{Name: "k"})
		require.NoError(t, err)
		next, err := w.RotateKey(owner, k.ID, 1e9*60)
		require.NoError(t, err)
		require.Equal(t, k.ID, next.ID)
		require.NotEqual(t, k.Secret, next.Secret)
		require.WithinDuration(t, w.clock().Add(60e9), next.RotatesAt, 0)
		for _, text := range []string{k.Secret, next.Secret} {
			p, ok := auth.From(w.ctx(t, text))
			require.True(t, ok)
			require.Equal(t, k.ID, p.KeyID)
		}
		third, err := w.RotateKey(owner, k.ID, 0)
		require.NoError(t, err)
		require.ErrorIs(t, w.refused(t, next.Secret), ErrKeyExpired, "no overlap: at once")
		require.NoError(t, w.refused(t, k.Secret), "an earlier overlap keeps its end")
		w.wait(61e9)
		require.ErrorIs(t, w.refused(t, k.Secret), ErrKeyExpired)
		require.NoError(t, w.refused(t, third.Secret))
		far := NewVerifier(w.Service, w.clock, discard) // a process that starts now
		require.NoError(t, far.Refresh(t.Context()))
		c, err := far.Credential(t.Context(), k.Secret)
		if err == nil {
			_, err = c.Check(w.clock())
		}
		require.Error(t, err)
		_, err = w.RevokeKey(owner, k.ID)
		require.NoError(t, err)
		require.ErrorIs(t, w.refused(t, third.Secret), ErrKeyRevoked)
		_, err = w.RotateKey(owner, k.ID, 0)
		require.ErrorIs(t, err, ErrKeyClosed)
	})
}

// A process that heard nothing for a while reads everything anew: what was deleted meanwhile could not be told.
func TestVerifierForgetsWhatIsGone(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, tok := w.owner(t)
		k, err := w.MakeKey(owner, NewKey{Name: "k"})
		require.NoError(t, err)
		stays, err := w.MakeKey(owner, NewKey{Name: "k"})
		require.NoError(t, err)
		far := NewVerifier(w.Service, w.clock, discard)
		require.NoError(t, far.Refresh(t.Context()))
		check := func(text string) error {
			c, err := far.Credential(t.Context(), text)
			if err == nil {
				_, err = c.Check(w.clock())
			}
			return err
		}
		for _, text := range []string{k.Secret, stays.Secret, tok.Access} {
			require.NoError(t, check(text))
		}
		require.NoError(t, w.across().Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for _, text := range []string{`DELETE FROM user_key WHERE id = '` + k.ID + `'`, `DELETE FROM user_refresh WHERE session_id <> ''`, `DELETE FROM user_session WHERE id <> ''`} {
				if _, err := tx.Exec(ctx, text); err != nil {
					return err
				}
			}
			return nil
		}))
		require.NoError(t, far.Refresh(t.Context()))
		require.NoError(t, check(k.Secret), "within the gap nothing is told")
		w.mu.Lock()
		w.now = w.now.Add(6 * time.Second)
		w.mu.Unlock()
		require.NoError(t, far.Refresh(t.Context()))
		require.ErrorIs(t, check(k.Secret), ErrKeyRevoked)
		require.NoError(t, check(stays.Secret))
		require.Error(t, check(tok.Access))
	})
}
