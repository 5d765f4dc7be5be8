package scenario

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest"
	"maas/internal/platform/db"
)

type fields = map[string]any

// organisation makes a second organisation whose owner is a person of its own, and answers its id and its owner.
func organisation(t *testing.T, s *maastest.Set, name string) (string, maastest.Caller) {
	t.Helper()
	mail, password := "owner@"+name+".example", "a long password for "+name
	made := s.As("owner").Post("/api/v1/tenants", fields{"name": name, "owner_email": mail}).Want(http.StatusCreated).Event("user.invitation.created")
	token := made.Str("invitation.token")
	require.Contains(t, made.Str("invitation.accept_url"), token)
	shown := s.With("").Get("/api/v1/invitations/by-token/" + token).Want(http.StatusOK)
	require.Equal(t, name, shown.Str("tenant.name"))
	s.With("").Post("/api/v1/auth/register", fields{"email": mail, "password": password, "invitation": token}).Want(http.StatusCreated)
	login := s.With("").Post("/api/v1/auth/login", fields{"email": mail, "password": password}).Want(http.StatusOK)
	require.Equal(t, made.Str("id"), login.Str("user.tenant.id"))
	return made.Str("id"), s.With(login.Str("access_token"))
}

func rowsOf(t *testing.T, d *db.DB, tenant string) map[string]int64 {
	t.Helper()
	tables, err := d.TenantTables(t.Context())
	require.NoError(t, err)
	rows := map[string]int64{}
	require.NoError(t, d.System().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
		for _, table := range tables {
			n, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM `+table.Name+` WHERE tenant_id = $1`, tenant)
			if err != nil {
				return err
			}
			if n > 0 {
				rows[table.Name] = n
			}
		}
		return nil
	}))
	return rows
}

func TestOrganisationIsExportedSuspendedAndPurged(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		operator := s.As("owner")
		tenant, owner := organisation(t, s, "acme")
		owner.Post("/api/v1/models/demo", nil).Want(http.StatusCreated)
		model := owner.Get("/api/v1/models").Str("items.0.name")
		await(t, owner, "/api/v1/models/"+model, "latest.status", "ready")
		owner.Post("/api/v1/inference/deployments", fields{"name": "theirs", "model": model}).Want(http.StatusCreated)
		await(t, owner, "/api/v1/inference/deployments/theirs", "status", "ready")
		owner.Post("/api/v1/inference/routes", fields{"name": "way", "targets": []fields{{"deployment": "theirs"}}}).Want(http.StatusCreated)
		owner.Post("/api/v1/inference/providers", fields{"name": "up", "base_url": "http://127.0.0.1:9/v1", "api_key": "planted-provider-key"}).Want(http.StatusCreated)
		project := owner.Post("/api/v1/projects", fields{"name": "Alpha"}).Want(http.StatusCreated).Str("id")
		service := owner.Post("/api/v1/service-accounts", fields{"name": "bot", "roles": []string{"developer"}, "project_id": project}).Want(http.StatusCreated).Str("id")
		owner.Post("/api/v1/roles", fields{"name": "Reader", "permissions": []string{"model:read"}}).Want(http.StatusCreated)
		owner.Post("/api/v1/grants", fields{"subject": fields{"kind": "service_account", "id": service}, "permission": "model:write"}).Want(http.StatusCreated)
		key := owner.Post("/api/v1/keys", fields{"name": "k", "service_account_id": service}).Want(http.StatusCreated)
		require.Equal(t, project, key.Str("project_id"))
		app := s.With(key.Str("secret"))
		var answered atomic.Int64
		call := func() int {
			status := app.Post("/v1/chat/completions", chat("way")).Status
			if status == http.StatusOK {
				answered.Add(1)
			}
			return status
		}
		require.Equal(t, http.StatusOK, call())

		// export: what the organisation has, and no secret
		job := operator.Post("/api/v1/tenants/"+tenant+"/export", nil).Want(http.StatusAccepted).Str("job_id")
		await(t, operator, "/api/v1/jobs/"+job, "state", "succeeded")
		b := operator.Get("/api/v1/tenants/" + tenant + "/export").Want(http.StatusOK).Body
		checkExport(t, b, key.Str("id"), key.Str("secret"))
		owner.Post("/api/v1/tenants/current/export", nil).Want(http.StatusAccepted)
		owner.Get("/api/v1/tenants/" + tenant + "/export").Want(http.StatusForbidden)

		// suspend: refused within a second, everywhere
		operator.Post("/api/v1/tenants/"+tenant+"/purge", nil).Want(http.StatusConflict).Code("user.tenant_status")
		operator.Post("/api/v1/tenants/"+tenant+"/suspend", nil).Want(http.StatusOK).Event("user.tenant.changed")
		start := time.Now()
		require.Eventually(t, func() bool {
			return call() == http.StatusForbidden && owner.Get("/api/v1/models").Status >= 401
		}, 30*time.Second, 20*time.Millisecond)
		require.Less(t, time.Since(start), 2*time.Second, "about a second on every node")
		operator.Post("/api/v1/tenants/"+tenant+"/activate", nil).Want(http.StatusOK)
		require.Eventually(t, func() bool { return call() == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
		require.Eventually(t, func() bool { return rowsOf(t, s.DB(), tenant)["user_usage"] == answered.Load() }, 30*time.Second, 20*time.Millisecond, "all answered calls are booked")
		operator.Post("/api/v1/tenants/"+tenant+"/suspend", nil).Want(http.StatusOK)

		// purge: engines end, rows and files go
		require.Contains(t, rowsOf(t, s.DB(), tenant), "model_blob")
		job = operator.Post("/api/v1/tenants/"+tenant+"/purge", nil).Want(http.StatusAccepted).Str("job_id")
		await(t, operator, "/api/v1/jobs/"+job, "state", "succeeded")
		operator.Get("/api/v1/tenants/" + tenant).Want(http.StatusNotFound)
		kept := []string{"event_", "job_", "object_", "seal_"} // who did what and when, until their own time is over; no content
		var left map[string]int64
		defer func() {
			if t.Failed() {
				t.Log("left:", left, string(operator.Get("/api/v1/jobs").Body))
			}
		}()
		require.Eventually(t, func() bool {
			left = rowsOf(t, s.DB(), tenant)
			for table := range left {
				if !slices.ContainsFunc(kept, func(p string) bool { return strings.HasPrefix(table, p) }) {
					return false
				}
			}
			return true
		}, 60*time.Second, 100*time.Millisecond)
		app.Post("/v1/chat/completions", chat("way")).Want(http.StatusUnauthorized, http.StatusForbidden)
		s.With("").Post("/api/v1/auth/login", fields{"email": "owner@acme.example", "password": "a long password for acme"}).Want(http.StatusUnauthorized)
		operator.Get("/api/v1/tenants/" + tenant + "/export").Want(http.StatusNotFound)
	})
}

func checkExport(t *testing.T, b []byte, keyID, secret string) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	files := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		files[f.Name] = string(text)
		require.NotContains(t, string(text), secret, f.Name)
		require.NotContains(t, string(text), "planted-provider-key", f.Name)
	}
	require.Contains(t, files["people.json"], "owner@acme.example")
	require.Contains(t, files["tables/user_key.jsonl"], keyID)
	require.Contains(t, files["tables/inference_deployment.jsonl"], "theirs")
	require.Contains(t, files["tables/user_project.jsonl"], "Alpha")
	require.NotContains(t, files["tables/user_key.jsonl"], `"hash"`)
	require.NotContains(t, files["tables/user_project.jsonl"], "My team")
	var o struct {
		Rows map[string]int64 `json:"rows"`
	}
	require.NoError(t, json.Unmarshal([]byte(files["organisation.json"]), &o))
	require.Equal(t, int64(1), o.Rows["inference_route"])
}

// A grant on one deployment lets its holder call and handle that one, and nothing else, until it ends.
func TestGrantOnOneDeployment(t *testing.T) {
	maastest.Run(t, func(t *testing.T, s *maastest.Set) {
		owner := s.As("owner")
		owner.Post("/api/v1/models/demo", nil).Want(http.StatusCreated)
		model := owner.Get("/api/v1/models").Str("items.0.name")
		await(t, owner, "/api/v1/models/"+model, "latest.status", "ready")
		ids := map[string]string{}
		for _, name := range []string{"open", "closed"} {
			ids[name] = owner.Post("/api/v1/inference/deployments", fields{"name": name, "model": model}).Want(http.StatusCreated).Str("id")
			await(t, owner, "/api/v1/inference/deployments/"+name, "status", "ready")
		}
		role := owner.Post("/api/v1/roles", fields{"name": "Guest", "permissions": []string{"user:read", "key:read", "key:write"}}).Want(http.StatusCreated).Str("id")
		user := owner.Post("/api/v1/users", fields{"email": "guest@example.com", "password": "a long password for them", "role": role}).Want(http.StatusCreated).Str("id")
		guest := s.With(s.With("").Post("/api/v1/auth/login", fields{"email": "guest@example.com", "password": "a long password for them"}).Want(http.StatusOK).Str("access_token"))
		guest.Post("/v1/chat/completions", chat("open")).Want(http.StatusForbidden)
		grant := func(permission string) string {
			return owner.Post("/api/v1/grants", fields{"subject": fields{"kind": "user", "id": user}, "permission": permission, "object": fields{"kind": "deployment", "id": ids["open"]}}).Want(http.StatusCreated).Event("user.grant.changed").Str("id")
		}
		invoke := grant("inference:invoke")
		grant("inference:write")
		eventually := func(status int, ask func() int) {
			t.Helper()
			require.Eventually(t, func() bool { return ask() == status }, 30*time.Second, 20*time.Millisecond)
		}
		eventually(http.StatusOK, func() int { return guest.Post("/v1/chat/completions", chat("open")).Status })
		guest.Post("/v1/chat/completions", chat("closed")).Want(http.StatusForbidden)
		require.NotContains(t, string(guest.Get("/v1/models").Want(http.StatusOK).Body), "closed")
		guest.Get("/v1/models/closed").Want(http.StatusNotFound)
		eventually(http.StatusOK, func() int { return guest.Post("/api/v1/inference/deployments/"+ids["open"]+"/stop", nil).Status })
		guest.Post("/api/v1/inference/deployments/"+ids["closed"]+"/stop", nil).Want(http.StatusForbidden)
		guest.Delete("/api/v1/inference/deployments/" + ids["closed"]).Want(http.StatusForbidden)
		owner.Delete("/api/v1/grants/" + invoke).Want(http.StatusNoContent)
		eventually(http.StatusForbidden, func() int { return guest.Post("/v1/chat/completions", chat("open")).Status })
	})
}
