package tus_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/fault"
	"maas/internal/platform/object"
	"maas/internal/platform/object/file"
	"maas/internal/platform/object/objecttest"
	"maas/internal/platform/object/tus"
)

var tables = dbtest.Source{Service: "object", FS: object.Migrations}

// TestMain turns the test binary into a server when it is started as one.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TUSTEST_SERVER"); dir != "" {
		if err := childServer(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func TestSchema(t *testing.T) {
	t.Parallel()
	dbtest.Lint(t, tables, ".")
}

func handler(d *db.DB, b object.Bucket, now clock.Clock) (*tus.Handler, error) {
	h, err := tus.New(tus.Deps{DB: d, Bucket: b, Path: "/up", MaxSize: 8 << 20, Now: now})
	if err == nil {
		h.Purpose("probe", tus.Purpose{Permission: "probe:write"})
	}
	return h, err
}

// as takes the caller from headers: what the authentication before the handler does.
func as(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := auth.Principal{Kind: auth.User, TenantID: "t1", UserID: "u1", Permissions: []string{"probe:write"}}
		if v := r.Header.Get("X-User"); v != "" {
			p.UserID = v
		}
		if v := r.Header.Get("X-Tenant"); v != "" {
			p.TenantID = v
		}
		if r.Header.Get("X-Viewer") != "" {
			p.Permissions = nil
		}
		h.ServeHTTP(w, r.WithContext(auth.With(r.Context(), p)))
	})
}

func childServer(dir string) error {
	ctx := context.Background()
	var d *db.DB
	for {
		var err error
		if d, err = db.Open(ctx, db.Config{URL: "sqlite:" + filepath.Join(dir, "maas.db")}); err == nil {
			break
		}
		if !errors.Is(err, db.ErrInUse) { // the killed one's lock goes when the kernel has cleaned up
			return err
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := d.Migrate(ctx, "object", object.Migrations); err != nil {
		return err
	}
	b, err := file.Open(filepath.Join(dir, "objects"), -1)
	if err != nil {
		return err
	}
	h, err := handler(d, b, nil)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr().String())
	return http.Serve(l, as(h))
}

type rig struct {
	t    *testing.T
	d    *db.DB
	b    *file.Bucket
	h    *tus.Handler
	s    *httptest.Server
	now  atomic.Int64
	done atomic.Int64
	fail atomic.Bool
}

func each(t *testing.T, f func(*rig)) {
	t.Helper()
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		g := &rig{t: t, d: d}
		var err error
		g.b, err = file.Open(t.TempDir(), -1)
		require.NoError(t, err)
		g.h, err = handler(d, g.b, func() time.Time { return clock.Now().Add(time.Duration(g.now.Load())) })
		require.NoError(t, err)
		g.h.Purpose("hooked", tus.Purpose{
			MaxSize: 1000,
			Allow: func(_ context.Context, u tus.Upload) error {
				if u.Metadata["path"] == "bad" {
					return fault.ErrInternal
				}
				return nil
			},
			Done: func(_ context.Context, tx *db.Tx, u tus.Upload) error {
				if g.fail.Load() {
					return errors.New("not now")
				}
				require.NotEmpty(t, u.SHA256)
				tx.After(func() { g.done.Add(1) })
				return nil
			},
		})
		g.s = httptest.NewServer(as(g.h))
		t.Cleanup(g.s.Close)
		f(g)
	}, tables)
}

func meta(pairs ...string) string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, pairs[i]+" "+base64.StdEncoding.EncodeToString([]byte(pairs[i+1])))
	}
	return strings.Join(out, ",")
}

func send(t *testing.T, base, method, path string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, body)
	require.NoError(t, err)
	r.Header.Set("Tus-Resumable", "1.0.0")
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "-" {
			r.Header.Del(header[i])
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp
}

func (g *rig) send(method, path string, status int, body io.Reader, header ...string) *http.Response {
	g.t.Helper()
	resp := send(g.t, g.s.URL, method, path, body, header...)
	b, _ := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(b))
	require.Equal(g.t, status, resp.StatusCode, "%s %s: %s", method, path, b)
	require.Equal(g.t, "1.0.0", resp.Header.Get("Tus-Resumable"))
	return resp
}

func (g *rig) create(size int, m string) string {
	g.t.Helper()
	loc := g.send("POST", "/up", 201, nil, "Upload-Length", strconv.Itoa(size), "Upload-Metadata", m).Header.Get("Location")
	require.True(g.t, strings.HasPrefix(loc, "/up/upl_"), loc)
	return loc
}

func (g *rig) patch(loc string, off int, data []byte, status int, header ...string) *http.Response {
	g.t.Helper()
	return g.send("PATCH", loc, status, bytes.NewReader(data), append([]string{"Content-Type", "application/offset+octet-stream", "Upload-Offset", strconv.Itoa(off)}, header...)...)
}

func (g *rig) offset(loc string) int {
	g.t.Helper()
	r := g.send("HEAD", loc, 200, nil)
	require.Equal(g.t, "no-store", r.Header.Get("Cache-Control"))
	n, err := strconv.Atoi(r.Header.Get("Upload-Offset"))
	require.NoError(g.t, err)
	return n
}

func (g *rig) upload(loc string) (u tus.Upload) {
	g.t.Helper()
	require.NoError(g.t, g.d.Read(auth.AsSystem(g.t.Context(), "t1"), func(ctx context.Context, q *db.Query) (err error) {
		u, err = tus.Get(ctx, q, strings.TrimPrefix(loc, "/up/"))
		return err
	}))
	return u
}

func sum(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

func (g *rig) object(key string) []byte {
	g.t.Helper()
	r, _, err := g.b.Get(g.t.Context(), key, 0, -1)
	require.NoError(g.t, err)
	got, err := io.ReadAll(r)
	require.NoError(g.t, errors.Join(err, r.Close()))
	return got
}

func TestUpload(t *testing.T) {
	each(t, func(g *rig) {
		r := g.send("OPTIONS", "/up", 204, nil, "Tus-Resumable", "-")
		require.Equal(g.t, []string{"1.0.0", "creation,creation-with-upload,expiration,checksum,termination", "8388608", "sha1,sha256"},
			[]string{r.Header.Get("Tus-Version"), r.Header.Get("Tus-Extension"), r.Header.Get("Tus-Max-Size"), r.Header.Get("Tus-Checksum-Algorithm")})
		data := objecttest.Bytes(300_000)
		m := meta("purpose", "probe", "path", "weights/ä.gguf", "sha256", sum(data))
		loc := g.create(len(data), m)
		require.Equal(g.t, 0, g.offset(loc))
		require.Equal(g.t, "100000", g.patch(loc, 0, data[:100_000], 204).Header.Get("Upload-Offset"))
		require.Equal(g.t, "100000", g.patch(loc, 0, data[:10], 409).Header.Get("Upload-Offset"), "ours is named")
		require.Equal(g.t, 100_000, g.offset(loc))
		require.Equal(g.t, "200000", g.patch(loc, 100_000, data[100_000:200_000], 204).Header.Get("Upload-Offset"))
		g.patch(loc, 200_000, append(data[200_000:], 1), 413)
		require.ErrorIs(g.t, g.d.Tx(auth.AsSystem(g.t.Context(), "t1"), func(ctx context.Context, tx *db.Tx) error {
			_, err := tus.Consume(ctx, tx, strings.TrimPrefix(loc, "/up/"))
			return err
		}), tus.ErrUnfinished)
		r = g.send("POST", loc, 204, bytes.NewReader(data[200_000:]), "X-HTTP-Method-Override", "PATCH", "Content-Type", "application/offset+octet-stream", "Upload-Offset", "200000")
		require.Equal(g.t, "300000", r.Header.Get("Upload-Offset"))
		require.Equal(g.t, m, g.send("HEAD", loc, 200, nil).Header.Get("Upload-Metadata"))
		u := g.upload(loc)
		require.Equal(g.t, []any{"finished", sum(data), "weights/ä.gguf"}, []any{u.State, u.SHA256, u.Metadata["path"]})
		require.True(g.t, bytes.Equal(data, g.object(u.Key)))
		g.patch(loc, 300_000, nil, 204) // told again
		for i, want := range []error{nil, tus.ErrConsumed} {
			err := g.d.Tx(auth.AsSystem(g.t.Context(), "t1"), func(ctx context.Context, tx *db.Tx) error { _, err := tus.Consume(ctx, tx, u.ID); return err })
			require.ErrorIs(g.t, err, want, "time %d", i)
		}
		g.send("DELETE", loc, 409, nil)
		require.True(g.t, bytes.Equal(data, g.object(u.Key)), "it is the owner's now")
		loc = g.send("POST", "/up", 201, bytes.NewReader(data[:50]), "Upload-Length", "100", "Upload-Metadata", m[:strings.Index(m, ",sha256")], "Content-Type", "application/offset+octet-stream").Header.Get("Location")
		require.Equal(g.t, 50, g.offset(loc), "creation with upload")
		empty := g.create(0, meta("purpose", "probe"))
		require.Equal(g.t, "finished", g.upload(empty).State)
		require.Empty(g.t, g.object(g.upload(empty).Key))
	})
}

func TestRefusals(t *testing.T) {
	each(t, func(g *rig) {
		p := meta("purpose", "probe")
		for _, c := range []struct {
			status int
			header []string
		}{
			{412, []string{"Tus-Resumable", "0.2.2", "Upload-Length", "1"}},
			{412, []string{"Tus-Resumable", "-", "Upload-Length", "1"}},
			{400, []string{"Upload-Metadata", p}},
			{400, []string{"Upload-Length", "-1", "Upload-Metadata", p}},
			{400, []string{"Upload-Length", "+1", "Upload-Metadata", p}},
			{400, []string{"Upload-Length", "x", "Upload-Metadata", p}},
			{400, []string{"Upload-Length", "1"}},
			{400, []string{"Upload-Length", "1", "Upload-Metadata", meta("purpose", "other")}},
			{400, []string{"Upload-Length", "1", "Upload-Metadata", "purpose !!!"}},
			{400, []string{"Upload-Length", "1", "Upload-Metadata", p + "," + p}},
			{400, []string{"Upload-Length", "1", "Upload-Metadata", meta("purpose", strings.Repeat("x", 5000))}},
			{403, []string{"Upload-Length", "1", "Upload-Metadata", p, "X-Viewer", "1"}},
			{413, []string{"Upload-Length", strconv.Itoa(9 << 20), "Upload-Metadata", p}},
			{413, []string{"Upload-Length", "1001", "Upload-Metadata", meta("purpose", "hooked")}},
			{500, []string{"Upload-Length", "1", "Upload-Metadata", meta("purpose", "hooked", "path", "bad")}},
		} {
			g.send("POST", "/up", c.status, nil, c.header...)
		}
		loc := g.create(10, p)
		g.send("PATCH", loc, 415, strings.NewReader("x"), "Upload-Offset", "0")
		g.send("PATCH", loc, 400, strings.NewReader("x"), "Content-Type", "application/offset+octet-stream")
		g.send("PUT", loc, 405, nil)
		g.send("POST", loc, 405, nil)
		for _, method := range []string{"HEAD", "DELETE"} {
			g.send(method, loc, 404, nil, "X-Tenant", "t2")
			g.send(method, loc, 404, nil, "X-User", "u2")
			g.send(method, "/up/upl_none", 404, nil)
			g.send(method, "/up/..%2f..", 404, nil)
		}
		g.patch(loc, 0, []byte("x"), 404, "X-User", "u2")
		sha := func(b string) string {
			s := sha1.Sum([]byte(b))
			return "sha1 " + base64.StdEncoding.EncodeToString(s[:])
		}
		g.patch(loc, 0, []byte("abc"), 400, "Upload-Checksum", "md5 AAAA")
		g.patch(loc, 0, []byte("abc"), 400, "Upload-Checksum", "sha1 AAAA")
		g.patch(loc, 0, []byte("abc"), 460, "Upload-Checksum", sha("abd"))
		require.Equal(g.t, 0, g.offset(loc), "the bytes of that request are dropped")
		g.patch(loc, 0, []byte("abc"), 204, "Upload-Checksum", sha("abc"))
		require.Equal(g.t, 3, g.offset(loc))
		s256 := sha256.Sum256([]byte("defghij"))
		g.patch(loc, 3, []byte("defghij"), 204, "Upload-Checksum", "sha256 "+base64.StdEncoding.EncodeToString(s256[:]))
		require.Equal(g.t, "abcdefghij", string(g.object(g.upload(loc).Key)))
		wrong := g.create(3, meta("purpose", "probe", "sha256", sum([]byte("xyz"))))
		g.patch(wrong, 0, []byte("abc"), 460)
		g.send("HEAD", wrong, 404, nil)
		for range 20 {
			loc = g.create(5, p)
		}
		require.Equal(g.t, "upload.too_many", problem(g.send("POST", "/up", 429, nil, "Upload-Length", "1", "Upload-Metadata", p)))
		g.send("POST", "/up", 201, nil, "Upload-Length", "1", "Upload-Metadata", p, "X-User", "u2")
		g.send("DELETE", loc, 204, nil)
		g.send("HEAD", loc, 404, nil)
		g.create(1, p)
	})
}

func problem(r *http.Response) string {
	var p struct{ Code string }
	_ = json.NewDecoder(r.Body).Decode(&p)
	return p.Code
}

func TestDoneHookAndExpiry(t *testing.T) {
	each(t, func(g *rig) {
		loc := g.create(3, meta("purpose", "hooked"))
		g.fail.Store(true)
		g.patch(loc, 0, []byte("abc"), 500)
		require.Equal(g.t, "open", g.upload(loc).State)
		g.fail.Store(false)
		require.Equal(g.t, 3, g.offset(loc), "HEAD brings it to its end")
		require.Equal(g.t, "finished", g.upload(loc).State)
		require.EqualValues(g.t, 1, g.done.Load(), "the owner was told once")
		key := g.upload(loc).Key
		half := g.create(10, meta("purpose", "probe"))
		g.patch(half, 0, []byte("abc"), 204)
		g.now.Store(int64(8 * 24 * time.Hour))
		g.send("HEAD", half, 410, nil)
		g.patch(half, 3, []byte("d"), 410)
		require.NoError(g.t, g.h.Expire(g.t.Context()))
		g.send("HEAD", half, 404, nil)
		_, err := g.b.Stat(g.t.Context(), key)
		require.ErrorIs(g.t, err, object.ErrNotFound)
		_, err = g.b.Read(g.t.Context(), strings.TrimPrefix(half, "/up/"), 1)
		require.ErrorIs(g.t, err, object.ErrNoUpload)
	})
}

// A PATCH whose client went silent keeps the upload for two seconds; then a newer one takes over, and what arrived counts.
func TestStalledRequestIsPushedAside(t *testing.T) {
	each(t, func(g *rig) {
		data := objecttest.Bytes(1000)
		loc := g.create(len(data), meta("purpose", "probe"))
		conn, err := net.Dial("tcp", g.s.Listener.Addr().String())
		require.NoError(g.t, err)
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: 1000\r\n\r\n%s", loc, data[:400])
		require.NoError(g.t, err)
		locked := func() int {
			return send(g.t, g.s.URL, "PATCH", loc, bytes.NewReader(data), "Content-Type", "application/offset+octet-stream", "Upload-Offset", "0").StatusCode
		}
		require.Eventually(g.t, func() bool {
			var held bool
			require.NoError(g.t, g.d.System().Read(g.t.Context(), func(ctx context.Context, q *db.Query) (err error) {
				held, err = db.One(ctx, q, db.Scalar[bool], `SELECT holder <> '' FROM object_upload`)
				return err
			}))
			return held
		}, 10*time.Second, 5*time.Millisecond)
		require.Equal(g.t, 423, locked())
		require.Eventually(g.t, func() bool { return locked() == 409 }, 20*time.Second, 50*time.Millisecond, "the stalled one is gone; its bytes moved the offset")
		require.Equal(g.t, 400, g.offset(loc))
		g.patch(loc, 400, data[400:], 204)
		require.True(g.t, bytes.Equal(data, g.object(g.upload(loc).Key)))
	})
}

// The server is killed with SIGKILL in the middle of requests, over and over; the client goes on where the server says, and the object is whole.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() (string, *exec.Cmd) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TUSTEST_SERVER="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		buf := make([]byte, 100)
		n, err := out.Read(buf)
		require.NoError(t, err)
		return "http://" + strings.TrimSpace(string(buf[:n])), cmd
	}
	data := objecttest.Bytes(6 << 20)
	base, cmd := start()
	loc := send(t, base, "POST", "/up", nil, "Upload-Length", strconv.Itoa(len(data)), "Upload-Metadata", meta("purpose", "probe", "sha256", sum(data))).Header.Get("Location")
	require.NotEmpty(t, loc)
	kills := 0
	for offset := 0; offset < len(data); {
		kill := kills < 5
		end := min(len(data), offset+700_000)
		body := io.Reader(bytes.NewReader(data[offset:end]))
		if kill { // it dies after a part of the body
			body = io.MultiReader(bytes.NewReader(data[offset:offset+300_000]), readerFunc(func() { _ = cmd.Process.Kill() }), bytes.NewReader(data[offset+300_000:end]))
		}
		r, err := http.NewRequestWithContext(t.Context(), "PATCH", base+loc, body)
		require.NoError(t, err)
		r.ContentLength = int64(end - offset)
		for k, v := range map[string]string{"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": strconv.Itoa(offset)} {
			r.Header.Set(k, v)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if kill {
			if err == nil {
				_ = resp.Body.Close()
			}
			_ = cmd.Process.Kill() // an early refusal may have ended the request before it came to that
			_ = cmd.Wait()
			kills++
			base, cmd = start()
		} else if err == nil { // a refusal may come before the body is read: then sending ends with a broken pipe
			_ = resp.Body.Close()
			require.Contains(t, []int{204, 423}, resp.StatusCode)
		}
		h := send(t, base, "HEAD", loc, nil)
		require.Equal(t, 200, h.StatusCode)
		got, err := strconv.Atoi(h.Header.Get("Upload-Offset"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, got, offset, "an offset that was told never goes back")
		offset = got
	}
	require.Equal(t, 5, kills)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	b, err := file.Open(filepath.Join(dir, "objects"), -1)
	require.NoError(t, err)
	r, _, err := b.Get(t.Context(), "upload/t1/"+strings.TrimPrefix(loc, "/up/"), 0, -1)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, errors.Join(err, r.Close()))
	require.True(t, bytes.Equal(data, got))
}

// readerFunc is an empty reader that does something when it is its turn.
type readerFunc func()

func (f readerFunc) Read([]byte) (int, error) { f(); return 0, io.EOF }
