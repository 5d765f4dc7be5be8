package model

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event"
	"maas/internal/platform/job"
	"maas/internal/platform/object"
	_ "maas/internal/platform/object/file" // the scheme file:
	"maas/internal/platform/web"
)

// set is the whole service in a test: real database, real bucket, real worker and relay, behind the real HTTP edge.
type set struct {
	t      *testing.T
	s      *Service
	db     *db.DB
	url    string
	data   string
	events chan any

	mu  sync.Mutex // guards now
	now time.Time
}

var roles = map[string][]string{"dev": {"model:read", "model:write"}, "viewer": {"model:read"}}

// each runs f on both databases.
func each(t *testing.T, f func(*set)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, d *db.DB) { t.Helper(); f(start(t, d)) },
		dbtest.Source{Service: "job", FS: job.Migrations}, dbtest.Source{Service: "event", FS: event.Migrations}, dbtest.Source{Service: "object", FS: object.Migrations}, dbtest.Source{Service: "model", FS: Migrations})
}

func start(t *testing.T, d *db.DB) *set {
	t.Helper()
	x := &set{t: t, db: d, data: t.TempDir(), events: make(chan any, 100), now: time.Now().UTC().Truncate(time.Microsecond)}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	bucket, err := object.Open(t.Context(), object.Config{URL: "file:" + filepath.Join(x.data, "objects"), MinFree: 1})
	require.NoError(t, err)
	t.Cleanup(func() { _ = bucket.Close() })
	x.s, err = New(t.Context(), Deps{DB: d, Log: log, Now: x.clock, Objects: bucket, Dir: filepath.Join(x.data, "cache"), Config: Defaults()})
	require.NoError(t, err)

	jobs, events := job.NewRegistry(), event.NewRegistry()
	x.s.Jobs(jobs)
	x.s.Events(events)
	watch[VersionReady](x, events)
	watch[VersionRejected](x, events)
	watch[RepoDeleted](x, events)
	relay := &event.Relay{DB: d, Registry: events, Log: log}
	relay.Jobs(jobs)
	x.background((&job.Worker{DB: d, Registry: jobs, Log: log, Poll: 50 * time.Millisecond}).Run)
	x.background(relay.Run)

	edge := web.New(web.Options{Version: "test", Log: log, Authenticate: authenticate})
	x.s.Routes(edge.API(), edge.Mux())
	srv := httptest.NewServer(edge.Handler())
	t.Cleanup(srv.Close)
	x.url = srv.URL
	return x
}

// authenticate takes "Bearer <role>.<tenant>".
func authenticate(_ context.Context, r *http.Request) (auth.Principal, error) {
	role, tenant, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	if !ok {
		return auth.Principal{}, auth.ErrUnauthenticated
	}
	return auth.Principal{Kind: auth.User, TenantID: tenant, UserID: "usr_" + role, Role: role, Permissions: roles[role]}, nil
}

func watch[E event.Event](x *set, r *event.Registry) {
	event.Subscribe(r, "test.watch", func(_ context.Context, tx *db.Tx, e E) error {
		tx.After(func() { x.events <- e })
		return nil
	})
}

// background runs a loop until the end of the test and waits for it.
func (x *set) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	x.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			x.t.Errorf("background: %v", err)
		}
	})
}

func (x *set) clock() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now
}

func (x *set) advance(d time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.now = x.now.Add(d)
}

// event waits for the next event of type E.
func next[E any](x *set) E {
	x.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case e := <-x.events:
			if want, ok := e.(E); ok {
				return want
			}
		case <-late:
			var e E
			x.t.Fatalf("no event %T", e)
		}
	}
}

// ctx is that of a caller inside the process.
func ctxOf(t *testing.T, tenant string) context.Context {
	t.Helper()
	return auth.With(t.Context(), auth.Principal{Kind: auth.User, TenantID: tenant, UserID: "usr_dev", Permissions: roles["dev"]})
}

// answer is what a request gave.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

func (x *set) do(who, method, path string, body any, header ...string) answer {
	x.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		j, err := json.Marshal(body)
		require.NoError(x.t, err)
		r = bytes.NewReader(j)
	}
	if !strings.HasPrefix(path, "http") {
		path = x.url + path
	}
	req, err := http.NewRequestWithContext(x.t.Context(), method, path, r)
	require.NoError(x.t, err)
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	require.NoError(x.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(x.t, err)
	return answer{x.t, resp.StatusCode, resp.Header, b}
}

// want checks status and, for problems, the code.
func (a answer) want(status int, code ...string) answer {
	a.t.Helper()
	require.Equal(a.t, status, a.status, string(a.body))
	if len(code) > 0 {
		var p struct{ Code string }
		require.NoError(a.t, json.Unmarshal(a.body, &p), string(a.body))
		require.Equal(a.t, code[0], p.Code, string(a.body))
	}
	return a
}

func decode[T any](a answer) (v T) {
	a.t.Helper()
	require.NoError(a.t, json.Unmarshal(a.body, &v), string(a.body))
	return v
}

// upload sends bytes by tus and returns the upload's id.
func (x *set) upload(who string, b []byte, meta ...string) string {
	x.t.Helper()
	var parts []string
	for i := 0; i+1 < len(meta); i += 2 {
		parts = append(parts, meta[i]+" "+base64.StdEncoding.EncodeToString([]byte(meta[i+1])))
	}
	if !slices.Contains(meta, "purpose") {
		parts = append(parts, "purpose "+base64.StdEncoding.EncodeToString([]byte("model")))
	}
	a := x.do(who, http.MethodPost, "/api/v1/uploads", nil, "Tus-Resumable", "1.0.0", "Upload-Length", strconv.Itoa(len(b)), "Upload-Metadata", strings.Join(parts, ",")).want(http.StatusCreated)
	at := a.header.Get("Location")
	require.NotEmpty(x.t, at)
	if len(b) == 0 {
		return at[strings.LastIndexByte(at, '/')+1:]
	}
	x.do(who, http.MethodPatch, at, b, "Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "application/offset+octet-stream").want(http.StatusNoContent)
	return at[strings.LastIndexByte(at, '/')+1:]
}

type files = map[string][]byte

// add uploads files and makes a version of them.
func (x *set) add(model string, f files) answer {
	x.t.Helper()
	in := NewVersion{Message: "first"}
	for path, b := range f {
		in.Files = append(in.Files, NewFile{Path: path, UploadID: x.upload("dev.a", b, "model", model, "path", path)})
	}
	return x.do("dev.a", http.MethodPost, "/api/v1/models/"+model+"/versions", in)
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
