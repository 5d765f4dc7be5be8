package job_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/job"
	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

func TestRoutes(t *testing.T) {
	each(t, func(g *rig) {
		s := web.New(web.Options{Version: "test", Log: slog.New(slog.DiscardHandler), Authenticate: func(_ context.Context, r *http.Request) (auth.Principal, error) {
			p := auth.Principal{Kind: auth.User, UserID: "u", TenantID: r.Header.Get("X-Tenant"), Permissions: []string{"job:read", "job:write"}}
			if r.Header.Get("X-Viewer") != "" {
				p.Permissions = p.Permissions[:1]
			}
			return p, nil
		}})
		job.Routes(s.API(), g.d)
		call := func(tenant, method, path string, status int, header ...string) []byte {
			g.t.Helper()
			r := httptest.NewRequest(method, "/api/v1"+path, nil)
			r.Header.Set("X-Tenant", tenant)
			for _, h := range header {
				r.Header.Set(h, "1")
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			require.Equal(g.t, status, w.Code, "%s %s: %s", method, path, w.Body)
			return w.Body.Bytes()
		}
		entry := func(b []byte) (e job.Entry) { require.NoError(g.t, json.Unmarshal(b, &e)); return e }
		ids := func(b []byte) (out []string) {
			var l page.List[job.Entry]
			require.NoError(g.t, json.Unmarshal(b, &l))
			for _, e := range l.Items {
				out = append(out, e.ID)
			}
			return out
		}
		a, b := g.enqueue(args{1}, job.Options{SubjectKind: "thing", SubjectID: "s1"}), g.enqueue(args{2}, job.Options{})
		other := g.enqueueAs(auth.AsSystem(g.ctx, "t2"), args{3}, job.Options{})
		require.Equal(g.t, []string{b, a}, ids(call("t1", "GET", "/jobs", 200)))
		require.Equal(g.t, []string{a}, ids(call("t1", "GET", "/jobs?subject_id=s1&state=queued&kind=probe.work", 200)))
		require.Empty(g.t, ids(call("t1", "GET", "/jobs/dead", 200)))
		e := entry(call("t1", "GET", "/jobs/"+a, 200))
		require.Equal(g.t, "no_worker", e.Waiting.Code)
		require.Equal(g.t, &job.Subject{Kind: "thing", ID: "s1"}, e.Subject)
		for _, m := range []string{"GET /jobs/" + other, "POST /jobs/" + other + "/cancel", "POST /jobs/" + other + "/retry", "POST /jobs/" + other + "/dismiss", "GET /jobs/" + other + "/log"} {
			method, path, _ := strings.Cut(m, " ")
			call("t1", method, path, 404) // the same as missing
		}
		call("t1", "POST", "/jobs/"+a+"/cancel", 403, "X-Viewer")
		require.Equal(g.t, job.Cancelled, entry(call("t1", "POST", "/jobs/"+a+"/cancel", 200)).State)
		call("t1", "POST", "/jobs/"+a+"/cancel", 409)
		require.Equal(g.t, job.Queued, entry(call("t1", "POST", "/jobs/"+a+"/retry", 200)).State)
		call("t1", "POST", "/jobs/"+b+"/retry", 409)
		call("t1", "POST", "/jobs/"+b+"/dismiss", 409)
		call("t1", "GET", "/jobs/"+a+"/log", 200)
		call("t1", "GET", "/jobs?state=odd", 422)
	})
}
