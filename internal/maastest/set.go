// Package maastest starts the program inside a test - all services in one process, and again as a split pair over PostgreSQL - and speaks to it as its users do.
package maastest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/maas"
	"maas/internal/maastest/part"
	"maas/internal/platform/config"
	"maas/internal/platform/db"
	"maas/internal/platform/db/postgres"
	"maas/internal/platform/id"
)

// Set is a running installation.
type Set struct {
	t       *testing.T
	URL     string // the front door
	Data    []string
	procs   []*maas.Process
	tokens  map[string]string
	Owner   struct{ Email, Password string }
	since   int64 // events before this outbox time are not of the present call
	version string
}

// Run runs a scenario in one process on SQLite, and split in two processes over PostgreSQL.
func Run(t *testing.T, f func(t *testing.T, s *Set)) {
	t.Helper()
	t.Run("one process", func(t *testing.T) { f(t, One(t)) })
	t.Run("split", func(t *testing.T) { f(t, Split(t)) })
}

// One starts all services in one process on embedded parts in a new folder.
func One(t *testing.T, set ...string) *Set {
	t.Helper()
	s := newSet(t)
	s.start("all", t.TempDir(), set...)
	s.URL = s.procs[0].URL()
	s.setUp()
	return s
}

// OnPostgres is One on a new PostgreSQL database.
func OnPostgres(t *testing.T, set ...string) *Set {
	t.Helper()
	return One(t, append([]string{"database.url=" + newDatabase(t)}, set...)...)
}

// Split starts user and model in one process, the rest in another: calls between them, one front door, one PostgreSQL.
func Split(t *testing.T, set ...string) *Set {
	t.Helper()
	s := newSet(t)
	database := newDatabase(t)
	run, err := os.MkdirTemp("/tmp", "maas") // unix sockets have short paths
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	sockA, sockB := "unix:"+filepath.Join(run, "a.sock"), "unix:"+filepath.Join(run, "b.sock")
	objects, keys := "objects.url=file:"+filepath.Join(run, "objects"), "seal.keys=file:"+filepath.Join(run, "master.key")
	shared := append([]string{"database.url=" + database, objects, keys}, set...)
	a := s.start("user,model", t.TempDir(), append(shared, "rpc.listen="+sockA, "rpc.peers=inference="+sockB)...)
	front := fmt.Sprintf("rpc.front=user=%s,model=%s", a.URL(), a.URL())
	b := s.start("inference,gateway,console", t.TempDir(), append(shared, "rpc.listen="+sockB, "rpc.peers=user="+sockA+",model="+sockA, front)...)
	s.URL = b.URL()
	s.setUp()
	return s
}

func newSet(t *testing.T) *Set {
	t.Helper()
	s := &Set{t: t, tokens: map[string]string{}}
	s.Owner.Email, s.Owner.Password = "owner@example.com", "correct horse battery"
	return s
}

// start runs one process until the test ends.
func (s *Set) start(services, data string, set ...string) *maas.Process {
	s.t.Helper()
	values := map[string]string{"services": services, "data": data, "listen": "127.0.0.1:0", "telemetry.level": "debug", "inference.upstream.allow_loopback": "true"}
	for _, kv := range set {
		k, v, _ := strings.Cut(kv, "=")
		values[k] = v
	}
	c, err := maas.Load(config.Source{Env: []string{}, Set: values})
	require.NoError(s.t, err)
	var console bytes.Buffer
	p, err := maas.Start(context.WithoutCancel(s.t.Context()), c, maas.Options{Version: "test", Console: &console})
	require.NoError(s.t, err)
	s.procs = append(s.procs, p)
	s.Data = append(s.Data, data)
	s.t.Cleanup(func() {
		p.Stop()
		require.NoError(s.t, p.Wait())
		if s.t.Failed() {
			s.t.Log(console.String())
		}
	})
	return p
}

// newDatabase makes an empty PostgreSQL database for one test.
func newDatabase(t *testing.T) string {
	t.Helper()
	admin, name := part.Postgres(t), "set_"+strings.TrimPrefix(id.New("x"), "x_")
	url, err := postgres.CreateDatabase(t.Context(), admin, name, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, postgres.DropDatabase(context.WithoutCancel(t.Context()), admin, name)) })
	return url
}

// setUp makes the first owner. The code stands for the person at the terminal: through the front door of a split set the caller is another machine.
func (s *Set) setUp() {
	s.t.Helper()
	a := s.call("", http.MethodPost, "/api/v1/auth/setup", map[string]any{"email": s.Owner.Email, "password": s.Owner.Password, "name": "Owner", "client": "cli", "code": s.procs[0].SetupCode()})
	a.Want(http.StatusCreated, http.StatusOK)
	s.tokens["owner"] = a.Str("access_token")
}

// As speaks as a member with this role (owner, admin, developer, viewer), made at first use; "" speaks without a credential.
func (s *Set) As(role string) Caller {
	s.t.Helper()
	if _, ok := s.tokens[role]; !ok && role != "" {
		email, password := role+"@example.com", "a long password for "+role
		s.As("owner").Post("/api/v1/users", map[string]any{"email": email, "password": password, "role": role}).Want(http.StatusCreated)
		s.tokens[role] = s.call("", http.MethodPost, "/api/v1/auth/login", map[string]any{"email": email, "password": password}).Want(http.StatusOK).Str("access_token")
	}
	return Caller{s, s.tokens[role]}
}

// With speaks with a credential of the caller's own: an API key.
func (s *Set) With(credential string) Caller { return Caller{s, credential} }

// DB is the database that the services share.
func (s *Set) DB() *db.DB { return s.procs[0].DB() }

// Caller speaks to the set with one credential.
type Caller struct {
	s          *Set
	credential string
}

// Get asks.
func (c Caller) Get(path string) *Answer {
	c.s.t.Helper()
	return c.s.call(c.credential, http.MethodGet, path, nil)
}

// Post sends body as JSON; nil sends none.
func (c Caller) Post(path string, body any) *Answer {
	c.s.t.Helper()
	return c.s.call(c.credential, http.MethodPost, path, body)
}

// Patch changes parts.
func (c Caller) Patch(path string, body any) *Answer {
	c.s.t.Helper()
	return c.s.call(c.credential, http.MethodPatch, path, body)
}

// Put replaces.
func (c Caller) Put(path string, body any) *Answer {
	c.s.t.Helper()
	return c.s.call(c.credential, http.MethodPut, path, body)
}

// Delete removes.
func (c Caller) Delete(path string) *Answer {
	c.s.t.Helper()
	return c.s.call(c.credential, http.MethodDelete, path, nil)
}

// Request sends a request made by the test (uploads, odd headers).
func (c Caller) Request(method, path string, body io.Reader, header http.Header) *Answer {
	c.s.t.Helper()
	return c.s.send(c.credential, method, path, body, header)
}

func (s *Set) call(credential, method, path string, body any) *Answer {
	s.t.Helper()
	var r io.Reader
	header := http.Header{}
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(s.t, err)
		r = bytes.NewReader(b)
		header.Set("Content-Type", "application/json")
	}
	return s.send(credential, method, path, r, header)
}

var httpClient = &http.Client{Timeout: time.Minute}

func (s *Set) send(credential, method, path string, body io.Reader, header http.Header) *Answer {
	s.t.Helper()
	s.since = time.Now().UnixMicro()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, body)
	require.NoError(s.t, err)
	for k, v := range header {
		req.Header[k] = v
	}
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	resp, err := httpClient.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return &Answer{s: s, what: method + " " + path, Status: resp.StatusCode, Header: resp.Header, Body: raw, since: s.since}
}

// Answer is what came back.
type Answer struct {
	s      *Set
	what   string
	Status int
	Header http.Header
	Body   []byte
	since  int64
}

// Want fails the test unless the status is one of these.
func (a *Answer) Want(status ...int) *Answer {
	a.s.t.Helper()
	require.Contains(a.s.t, status, a.Status, "%s: %s", a.what, a.Body)
	return a
}

// Code fails the test unless the answer is an error with this code, in the form of the management API or of OpenAI.
func (a *Answer) Code(code string) *Answer {
	a.s.t.Helper()
	var e struct {
		Code  string
		Error struct{ Code string }
	}
	require.NoError(a.s.t, json.Unmarshal(a.Body, &e), "%s: %s", a.what, a.Body)
	require.Equal(a.s.t, code, e.Code+e.Error.Code, "%s: %s", a.what, a.Body)
	return a
}

// Field fails the test unless the answer names this field (and rule) as wrong.
func (a *Answer) Field(name, code string) *Answer {
	a.s.t.Helper()
	var e struct {
		Errors []struct{ Field, Code string }
	}
	require.NoError(a.s.t, json.Unmarshal(a.Body, &e))
	require.Contains(a.s.t, e.Errors, struct{ Field, Code string }{name, code}, "%s: %s", a.what, a.Body)
	return a
}

// Str returns a value of the answer by its dotted path, as text.
func (a *Answer) Str(path string) string {
	a.s.t.Helper()
	var v any
	require.NoError(a.s.t, json.Unmarshal(a.Body, &v), "%s: %s", a.what, a.Body)
	for seg := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[seg]
		case []any:
			var i int
			_, err := fmt.Sscanf(seg, "%d", &i)
			require.NoError(a.s.t, err)
			require.Less(a.s.t, i, len(x), "%s: %s has %d items", a.what, path, len(x))
			v = x[i]
		default:
			require.Fail(a.s.t, "no such value", "%s: %s in %s", a.what, path, a.Body)
		}
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// Into decodes the answer.
func (a *Answer) Into(v any) *Answer {
	a.s.t.Helper()
	require.NoError(a.s.t, json.Unmarshal(a.Body, v), "%s: %s", a.what, a.Body)
	return a
}

// Event fails the test unless the call published an event of this topic.
func (a *Answer) Event(topic string) *Answer {
	a.s.t.Helper()
	var n int64
	err := a.s.DB().System().Read(a.s.t.Context(), func(ctx context.Context, q *db.Query) (err error) {
		n, err = db.One(ctx, q, db.Scalar[int64], `SELECT CAST(COUNT(*) AS BIGINT) FROM event_outbox WHERE topic = $1 AND at >= $2`, topic, a.since)
		return err
	})
	require.NoError(a.s.t, err)
	require.Positive(a.s.t, n, "%s published no %s", a.what, topic)
	return a
}
