package replay_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/fault"
	"maas/internal/platform/replay"
	"maas/internal/platform/seal"
	"maas/internal/platform/web"
)

type rig struct {
	t     *testing.T
	d     *db.DB
	url   string
	now   atomic.Int64
	calls atomic.Int64
	hold  chan struct{} // nil = answers at once
	fail  atomic.Bool
}

type in struct {
	Body struct {
		Name string `json:"name"`
	}
}

type out struct {
	Name   string `json:"name"`
	Call   int64  `json:"call"`
	Secret string `json:"secret"`
}

func newRig(t *testing.T, d *db.DB, hold chan struct{}) *rig {
	t.Helper()
	ring, err := seal.Open(t.Context(), seal.Config{Keys: "file:" + filepath.Join(t.TempDir(), "master.key")}, d)
	require.NoError(t, err)
	g := &rig{t: t, d: d, hold: hold}
	g.now.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMicro())
	s := web.New(web.Options{Log: slog.New(slog.DiscardHandler), Authenticate: func(_ context.Context, r *http.Request) (auth.Principal, error) {
		who := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if who == "" {
			return auth.Principal{}, auth.ErrUnauthenticated
		}
		return auth.Principal{Kind: auth.User, TenantID: "t1", UserID: who}, nil
	}})
	store := &replay.Store{DB: d, Seal: ring, Now: func() time.Time { return time.UnixMicro(g.now.Load()).UTC() }}
	s.SetReplay(store.Serve)
	web.Post(s.API(), "/things", "probe_thing_create", web.SignedIn, http.StatusCreated, func(_ context.Context, in *in) (out, error) {
		n := g.calls.Add(1)
		if g.hold != nil {
			<-g.hold
		}
		if g.fail.Load() {
			return out{}, fault.ErrInternal
		}
		return out{in.Body.Name, n, "planted-secret-of-the-answer"}, nil
	})
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

func (g *rig) post(who, key, path, body string) (status int, text string, replayed bool) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, strings.NewReader(body))
	require.NoError(g.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header["Idempotency-Key"] = []string{key}
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(g.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(g.t, err)
	return resp.StatusCode, string(b), resp.Header.Get("Idempotency-Replayed") == "true"
}

func TestReplay(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		g := newRig(t, d, nil)
		const path, body = "/api/v1/things", `{"name":"a"}`
		status, first, replayed := g.post("ann", "k1", path, body)
		require.Equal(t, http.StatusCreated, status, first)
		require.False(t, replayed)
		status, again, replayed := g.post("ann", "k1", path, body)
		require.Equal(t, http.StatusCreated, status)
		require.True(t, replayed)
		require.Equal(t, first, again)
		require.EqualValues(t, 1, g.calls.Load())
		status, text, _ := g.post("ann", "k1", path, `{"name":"b"}`)
		require.Equal(t, http.StatusUnprocessableEntity, status)
		require.Contains(t, text, "replay.mismatch")
		status, _, replayed = g.post("bob", "k1", path, body)
		require.Equal(t, http.StatusCreated, status, "another caller's keys are his own")
		require.False(t, replayed)
		status, _, _ = g.post("", "k1", path, body)
		require.Equal(t, http.StatusUnauthorized, status)
		for _, bad := range []string{"a b", strings.Repeat("k", 256), "ü"} {
			status, text, _ = g.post("ann", bad, path, body)
			require.Equal(t, http.StatusUnprocessableEntity, status, bad)
			require.Contains(t, text, "replay.bad_key")
		}
		status, invalid, _ := g.post("ann", "k2", path, `{"nam":"a"}`)
		require.Equal(t, http.StatusUnprocessableEntity, status)
		_, _, replayed = g.post("ann", "k2", path, `{"nam":"a"}`)
		require.True(t, replayed, "a refusal is an answer too: %s", invalid)

		g.fail.Store(true)
		status, _, _ = g.post("ann", "k3", path, body)
		require.Equal(t, http.StatusInternalServerError, status)
		g.fail.Store(false)
		status, _, replayed = g.post("ann", "k3", path, body)
		require.Equal(t, http.StatusCreated, status, "what failed in here may be repeated")
		require.False(t, replayed)

		require.NoError(t, d.System().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
			list, err := db.List(ctx, q, db.Scalar[string], `SELECT sealed FROM replay_answer`)
			require.NotEmpty(t, list)
			require.NotContains(t, strings.Join(list, " "), "planted-secret")
			return err
		}))
		g.now.Add((25 * time.Hour).Microseconds())
		_, _, replayed = g.post("ann", "k1", path, `{"name":"b"}`)
		require.False(t, replayed, "after a day a key is free again")
	}, dbtest.Source{Service: "seal", FS: seal.Migrations}, dbtest.Source{Service: "replay", FS: replay.Migrations})
}

// Fifty copies at once have one effect: the others are told to wait, and get the same answer later. A call whose process died frees its key after a while.
func TestCopiesAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		g := newRig(t, d, make(chan struct{}))
		var wg sync.WaitGroup
		var created, waiting atomic.Int64
		for range 50 {
			wg.Go(func() {
				status, text, _ := g.post("ann", "same", "/api/v1/things", `{"name":"a"}`)
				if status == http.StatusCreated {
					created.Add(1)
					return
				}
				if status != http.StatusConflict {
					t.Errorf("%d: %s", status, text)
				}
				if waiting.Add(1) == 49 {
					close(g.hold)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, []int64{1, 1, 49}, []int64{g.calls.Load(), created.Load(), waiting.Load()})
		_, _, replayed := g.post("ann", "same", "/api/v1/things", `{"name":"a"}`)
		require.True(t, replayed)

		require.NoError(t, d.System().Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE replay_answer SET state = 'running', holder = 'dead'`)
			return err
		}))
		status, _, _ := g.post("ann", "same", "/api/v1/things", `{"name":"a"}`)
		require.Equal(t, http.StatusConflict, status)
		g.now.Add((3 * time.Minute).Microseconds())
		status, _, replayed = g.post("ann", "same", "/api/v1/things", `{"name":"a"}`)
		require.Equal(t, http.StatusCreated, status)
		require.False(t, replayed)
	}, dbtest.Source{Service: "seal", FS: seal.Migrations}, dbtest.Source{Service: "replay", FS: replay.Migrations})
}

func TestSchema(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, dbtest.Source{Service: "replay", FS: replay.Migrations}, ".")
}
