package web

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
)

var errBusy = fault.New(fault.Conflict, "webtest.busy", "the thing is busy")

type thing struct {
	Name string `json:"name"`
}

type thingIn struct {
	ID   string `path:"id"`
	Body struct {
		Name string `json:"name" minLength:"2" maxLength:"5"`
	}
}

// newServer has one route of each sort: public, signed-in, with a permission, failing in each way.
func newServer(t *testing.T) *Server {
	t.Helper()
	s := New(Options{Version: "test", Log: slog.New(slog.DiscardHandler), Authenticate: func(_ context.Context, r *http.Request) (auth.Principal, error) {
		switch r.Header.Get("Authorization") {
		case "Bearer dev":
			return auth.Principal{UserID: "usr_1", TenantID: "ten_1", Permissions: []string{"thing:write"}}, nil
		case "Bearer viewer":
			return auth.Principal{UserID: "usr_2", TenantID: "ten_1"}, nil
		}
		return auth.Principal{}, auth.ErrUnauthenticated
	}})
	Get(s.API(), "/things", "web_thing_list", Public, http.StatusOK, func(context.Context, *struct{}) (thing, error) { return thing{"all"}, nil })
	Post(s.API(), "/things/{id}", "web_thing_create", "thing:write", http.StatusCreated, func(ctx context.Context, in *thingIn) (thing, error) {
		SetHeader(ctx, "Location", "/things/"+in.ID)
		switch in.ID {
		case "busy":
			return thing{}, errBusy.With("thing %s is busy", in.ID).After(1500 * time.Millisecond)
		case "boom":
			panic("boom")
		case "io":
			return thing{}, io.ErrUnexpectedEOF
		}
		return thing{in.Body.Name}, CheckRev(ctx, 3)
	})
	s.Mux().Handle(http.MethodGet, "/files/{path...}", "web_file_get", SignedIn, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.PathValue("path"))
	}))
	return s
}

func TestAnswersOfTheEdge(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		name, method, path, who, body string
		header                        string
		status                        int
		code, field                   string
	}{
		{"public needs no credential", "GET", "/api/v1/things", "", "", "", 200, "", ""},
		{"no credential", "POST", "/api/v1/things/a", "", `{"name":"ab"}`, "", 401, "auth.unauthenticated", ""},
		{"no permission", "POST", "/api/v1/things/a", "viewer", `{"name":"ab"}`, "", 403, "auth.forbidden", ""},
		{"created", "POST", "/api/v1/things/a", "dev", `{"name":"ab"}`, "", 201, "", ""},
		{"field too short", "POST", "/api/v1/things/a", "dev", `{"name":"a"}`, "", 422, "web.invalid_fields", "body.name too_short"},
		{"field missing", "POST", "/api/v1/things/a", "dev", `{}`, "", 422, "web.invalid_fields", "body required"},
		{"field unknown", "POST", "/api/v1/things/a", "dev", `{"name":"ab","password":"secret"}`, "", 422, "web.invalid_fields", "body.password unknown"},
		{"field in another case", "POST", "/api/v1/things/a", "dev", `{"name":"ab","NAME":"cd"}`, "", 422, "web.invalid_fields", "body.NAME unknown"},
		{"unknown query", "GET", "/api/v1/things?x=1", "", "", "", 422, "web.invalid_fields", "query.x unknown"},
		{"bad JSON", "POST", "/api/v1/things/a", "dev", `{`, "", 422, "web.invalid_fields", ""},
		{"conflict", "POST", "/api/v1/things/busy", "dev", `{"name":"ab"}`, "", 409, "webtest.busy", ""},
		{"revision moved", "POST", "/api/v1/things/a", "dev", `{"name":"ab"}`, `"2"`, 412, "web.precondition_failed", ""},
		{"revision right", "POST", "/api/v1/things/a", "dev", `{"name":"ab"}`, `"3"`, 201, "", ""},
		{"internal words stay inside", "POST", "/api/v1/things/io", "dev", `{"name":"ab"}`, "", 500, "platform.internal", ""},
		{"panic", "POST", "/api/v1/things/boom", "dev", `{"name":"ab"}`, "", 500, "platform.internal", ""},
		{"wrong method", "DELETE", "/api/v1/things", "dev", "", "", 405, "web.method_not_allowed", ""},
		{"unknown path", "GET", "/api/v1/nothing", "dev", "", "", 404, "web.not_found", ""},
		{"plain handler", "GET", "/api/v1/files/a/b", "viewer", "", "", 200, "", ""},
		{"plain handler guarded", "GET", "/api/v1/files/a/b", "", "", "", 401, "auth.unauthenticated", ""},
		{"large body", "POST", "/api/v1/things/a", "dev", `{"name":"` + strings.Repeat("a", 1<<20) + `"}`, "", 413, "web.body_too_large", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			if c.who != "" {
				r.Header.Set("Authorization", "Bearer "+c.who)
			}
			if c.header != "" {
				r.Header.Set("If-Match", c.header)
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			require.Equal(t, c.status, w.Code, w.Body.String())
			require.NotEmpty(t, w.Header().Get("X-Request-Id"))
			require.NotContains(t, w.Body.String(), "secret")
			require.NotContains(t, w.Body.String(), "unexpected EOF", "causes stay in the log")
			if c.code == "" {
				return
			}
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			var p Problem
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
			require.Equal(t, c.code, p.Code)
			require.Equal(t, w.Header().Get("X-Request-Id"), p.RequestID)
			if name, code, ok := strings.Cut(c.field, " "); ok {
				require.Contains(t, p.Errors, fault.Field{Name: name, Code: code, Message: p.Errors[0].Message})
			}
			if c.code == "webtest.busy" {
				require.Equal(t, "2", w.Header().Get("Retry-After"))
			}
		})
	}
}

func TestServeDrains(t *testing.T) {
	s := New(Options{Version: "test", Log: slog.New(slog.DiscardHandler), Drain: 5 * time.Second})
	started, release := make(chan struct{}), make(chan struct{})
	s.Mount("slow", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-release
		_, _ = io.WriteString(w, "whole")
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	body := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/slow")
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		body <- string(b)
	}()
	<-started
	stop()
	close(release)
	require.Equal(t, "whole", <-body, "a running request finishes")
	require.NoError(t, <-served)
}

func TestSSE(t *testing.T) {
	s := New(Options{Version: "test", Log: slog.New(slog.DiscardHandler)})
	s.Mount("events", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		st := SSE(w)
		_ = st.Send("7", "state", map[string]int{"n": 1})
		_ = st.Comment("alive")
	}))
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/events")
	require.NoError(t, err)
	defer resp.Body.Close()
	var lines []string
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	require.Equal(t, []string{"id: 7", "event: state", `data: {"n":1}`, "", ": alive", ""}, lines)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
}

func TestDocumentListsEveryRoute(t *testing.T) {
	s := newServer(t)
	doc, err := s.Document()
	require.NoError(t, err)
	require.Len(t, s.Routes(), 3)
	for _, r := range s.Routes() {
		require.Contains(t, string(doc), r.OperationID)
		require.NotEmpty(t, r.Permission)
	}
}
