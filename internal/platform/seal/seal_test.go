package seal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/seal"
)

var tables = dbtest.Source{Service: "seal", FS: seal.Migrations}

func TestSchema(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, tables, ".")
}

func open(t *testing.T, d *db.DB, path string) *seal.Ring {
	t.Helper()
	r, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + path}, d)
	require.NoError(t, err)
	return r
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := auth.AsSystem(t.Context(), "t1")
		path := filepath.Join(t.TempDir(), "keys", "master.key")
		r := open(t, d, path)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm())
		at := seal.Place{Table: "user_account", Column: "totp", Row: "usr_1", Tenant: "t1"}
		plain := []byte("the secret")
		sealed, err := r.Seal(ctx, at, plain)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(sealed, "s1.1."))
		other, err := r.Seal(ctx, at, plain)
		require.NoError(t, err)
		require.NotEqual(t, sealed, other)
		for range 2 { // the second ring reads the key from file and database
			got, err := r.Open(ctx, at, sealed)
			require.NoError(t, err)
			require.Equal(t, plain, got)
			r2 := open(t, d, path)
			require.Equal(t, r.Index("x", plain), r2.Index("x", plain))
			require.Equal(t, r.Derive("rpc"), r2.Derive("rpc"))
			r = r2
		}
		require.NotEqual(t, r.Index("x", plain), r.Index("y", plain))
		require.NotEqual(t, r.Derive("x"), r.Derive("y"))
		for _, wrong := range []seal.Place{{"user_accoun", "ttotp", "usr_1", "t1"}, {"user_account", "totp", "usr_2", "t1"}, {"user_account", "totp", "usr_1", "t2"}, {"user_account", "totp", "usr_1", ""}, {}} {
			_, err := r.Open(ctx, wrong, sealed)
			require.ErrorIs(t, err, seal.ErrBroken, "%v", wrong)
		}
		for i := range sealed { // every position altered, by one bit and by another letter
			for _, b := range []byte{sealed[i] ^ 1, sealed[i] ^ 4, '.'} {
				if b == sealed[i] {
					continue
				}
				_, err := r.Open(ctx, at, sealed[:i]+string(rune(b))+sealed[i+1:])
				require.ErrorIs(t, err, seal.ErrBroken, "position %d", i)
			}
			_, err := r.Open(ctx, at, sealed[:i])
			require.ErrorIs(t, err, seal.ErrBroken)
		}
		require.NoError(t, d.System().Read(ctx, func(ctx context.Context, q *db.Query) error {
			n, err := db.One(ctx, q, db.Scalar[int], `SELECT COUNT(*) FROM seal_key`)
			require.Equal(t, 2, n, "one for the tenant, one for the installation")
			return err
		}))
	}, tables)
}

// A tenant's first key that is rolled back must not live on in memory.
func TestRollbackOfTheFirstKey(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := auth.AsSystem(t.Context(), "t1")
		path := filepath.Join(t.TempDir(), "master.key")
		r := open(t, d, path)
		at := seal.Place{Table: "a", Column: "b", Row: "c", Tenant: "t1"}
		boom := errors.New("boom")
		require.ErrorIs(t, d.Tx(ctx, func(ctx context.Context, _ *db.Tx) error {
			s, err := r.Seal(ctx, at, []byte("x"))
			require.NoError(t, err)
			_, err = r.Open(ctx, at, s)
			require.NoError(t, err, "inside the transaction it opens")
			return boom
		}), boom)
		sealed, err := r.Seal(ctx, at, []byte("y"))
		require.NoError(t, err)
		got, err := open(t, d, path).Open(ctx, at, sealed)
		require.NoError(t, err)
		require.Equal(t, "y", string(got))
	}, tables)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		path := filepath.Join(t.TempDir(), "master.key")
		var wg sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			wg.Go(func() {
				r, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + path}, d)
				if err != nil {
					errs[i] = err
					return
				}
				at := seal.Place{Tenant: "t9", Row: fmt.Sprint(i)}
				s, err := r.Seal(t.Context(), at, []byte("v"))
				if err == nil {
					_, err = r.Open(t.Context(), at, s)
				}
				errs[i] = err
			})
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
	}, tables)
}

func TestMasterKeyFile(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t, tables)
	path := filepath.Join(t.TempDir(), "master.key")
	open(t, d, path)
	again := func() error { _, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + path}, d); return err }
	saved, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o644))
	require.ErrorIs(t, again(), seal.ErrKeyFile)
	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, again(), seal.ErrKeyMissing)
	_, err = os.Stat(path)
	require.Error(t, err, "no new key is made over sealed values")
	id, _, _ := strings.Cut(string(saved), " ")
	require.NoError(t, os.WriteFile(path, []byte("mk_000000000000 "+strings.Repeat("A", 43)+"=\n"), 0o600))
	require.ErrorIs(t, again(), seal.ErrKeyMissing)
	require.ErrorContains(t, again(), id)
	require.NoError(t, os.WriteFile(path, []byte(id+" "+strings.Repeat("A", 43)+"=\n"), 0o600))
	require.ErrorIs(t, again(), seal.ErrKeyMissing, "the right name with the wrong key")
	require.NoError(t, os.WriteFile(path, []byte("nonsense\n"), 0o600))
	require.ErrorIs(t, again(), seal.ErrKeyFile)
	require.NoError(t, os.WriteFile(path, append(saved, []byte("mk_111111111111 "+strings.Repeat("A", 43)+"=\n")...), 0o600))
	require.NoError(t, again(), "an added master")
	_, err = seal.Open(t.Context(), seal.Config{Keys: "vault:x"}, d)
	require.ErrorIs(t, err, seal.ErrBadURL)
}

func TestSecretDoesNotPrint(t *testing.T) {
	t.Parallel()
	type holder struct {
		Key seal.Secret `json:"key"`
	}
	var h holder
	require.NoError(t, json.Unmarshal([]byte(`{"key":"hunter2"}`), &h))
	require.Equal(t, "hunter2", h.Key.Reveal())
	var log bytes.Buffer
	l := slog.New(slog.NewJSONHandler(&log, nil))
	l.Info("x", "key", h.Key, "holder", h)
	b, err := json.Marshal(h)
	require.NoError(t, err)
	all := log.String() + string(b) + fmt.Sprintf("%v %+v %#v %s %q %x %d", h, h, h, h.Key, h.Key, h.Key, h.Key) + fmt.Sprint(h, &h)
	require.NotContains(t, all, "hunter2")
	require.NotContains(t, all, "68756e74")
	require.Contains(t, all, "***")
	require.True(t, seal.NewSecret("").IsZero())
}
