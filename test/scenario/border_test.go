package scenario

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest"
)

// kinds names the kind of object behind a path parameter, by the path up to it. A route with a parameter that is not here fails the test.
var kinds = map[string]string{
	"/auth/sessions/{id}": "session", "/budgets/{id}": "budget", "/grants/{id}": "grant", "/inference/deployments/{id}": "deployment", "/inference/providers/{id}": "provider", "/inference/routes/{id}": "route",
	"/invitations/{id}": "invitation", "/invitations/by-token/{token}": "token", "/jobs/{id}": "job", "/keys/{id}": "key", "/ledger/journals/{id}": "journal", "/limits/{id}": "limit", "/members/{id}": "user",
	"/models/{id}": "model", "/projects/{id}": "project", "/roles/{id}": "role", "/service-accounts/{id}": "service", "/tenants/{id}": "tenant", "/uploads/{id}": "upload", "/usage/requests/{id}": "request",
	"/users/{id}": "user", "/wallets/{id}": "wallet", "/invoices/{id}": "invoice", "/projects/{id}/members/{user_id}": "user", "/users/me/exports/{id}": "export",
	// what only ever belongs to the caller alone, and cannot be made in this test
	"/auth/identities/{id}": "", "/auth/passkeys/{id}": "",
	// no object of a tenant
	"/models/{id}/versions/{n}": "=1", "/models/{id}/versions/{n}/files/{path}": "=config.json", "/statements/{month}": "=2026-01", "/auth/identities/{provider}": "=none", "/auth/providers/{provider}": "=none",
}

// bodies are what a route takes, where {} is not enough to get past the check of the form.
var bodies = map[string]any{
	"user_budget_update": fields{"name": "x"}, "user_budget_raise": fields{"amount": 1, "until": "2999-01-01T00:00:00Z", "reason": "r"}, "user_invoice_void": fields{"reason": "r"},
	"user_limit_update": fields{"limit": 5}, "user_member_update": fields{"status": "suspended"}, "user_project_admit": fields{"role": "member"}, "user_user_replace": fields{"username": "someone.else", "email": "someone.else@example.com", "role": "viewer"},
	"user_user_update": fields{"locale": "zh"}, "user_key_update": fields{"name": "x"}, "user_key_rotate": fields{"overlap_s": 0}, "model_repo_update": fields{"description": "x"}, "model_version_create": fields{"files": []fields{{"path": "a", "upload_id": "x"}}},
	"inference_deployment_update": fields{"concurrency": 1}, "inference_provider_update": fields{"name": "x"}, "inference_route_update": fields{"description": "x"}, "inference_route_test": fields{"prompt": "x"}, "user_role_update": fields{"description": "x"},
	"user_project_update": fields{"description": "x"}, "user_service_update": fields{"description": "x"}, "user_tenant_update": fields{"name": "x"},
	"user_wallet_topup": fields{"amount_micro": 1, "reference": "r"}, "user_wallet_adjust": fields{"amount_micro": 1, "reference": "r"}, "user_wallet_refund": fields{"amount_micro": 1, "reference": "r"}, "user_wallet_payout": fields{"amount_micro": 1, "reference": "r"},
}

// route is one of the interface's own document.
type route struct{ method, path, id, permission string }

func routesOf(t *testing.T, s *maastest.Set) []route {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	s.With("").Get("/api/openapi.json").Want(http.StatusOK).Into(&doc)
	var all []route
	for path, item := range doc.Paths {
		for method, raw := range item {
			var op struct {
				ID         string `json:"operationId"`
				Permission string `json:"x-permission"`
			}
			if json.Unmarshal(raw, &op) == nil && op.ID == "model_upload_send" { // one handler for what resumable uploads take
				for _, m := range []string{http.MethodHead, http.MethodPatch, http.MethodDelete} {
					all = append(all, route{m, strings.TrimPrefix(path, "/api/v1"), op.ID, op.Permission})
				}
				continue
			}
			if op.ID != "" {
				all = append(all, route{strings.ToUpper(method), strings.TrimPrefix(path, "/api/v1"), op.ID, op.Permission})
			}
		}
	}
	require.Greater(t, len(all), 150)
	slices.SortFunc(all, func(a, b route) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return all
}

// things are ids of an organisation's objects by kind.
type things map[string]string

// furnish makes one object of each kind.
func furnish(t *testing.T, s *maastest.Set, name string, owner maastest.Caller, operator maastest.Caller) things {
	t.Helper()
	post := func(path string, body any) *maastest.Answer {
		return owner.Post("/api/v1"+path, body).Want(http.StatusCreated, http.StatusOK, http.StatusAccepted)
	}
	o := things{"tenant": owner.Get("/api/v1/tenants/current").Str("id"), "wallet": owner.Get("/api/v1/wallet").Want(http.StatusOK).Str("id")}
	post("/models/demo", nil)
	models := owner.Get("/api/v1/models")
	o["model"] = models.Str("items.0.id")
	await(t, owner, "/api/v1/models/"+o["model"], "latest.status", "ready")
	o["job"] = post("/tenants/current/export", nil).Str("job_id")
	o["deployment"] = post("/inference/deployments", fields{"name": name + "-dep", "model": models.Str("items.0.name")}).Str("id")
	await(t, owner, "/api/v1/inference/deployments/"+o["deployment"], "status", "ready")
	o["provider"] = post("/inference/providers", fields{"name": name + "-prov", "base_url": "http://127.0.0.1:9/v1", "api_key": "k"}).Str("id")
	o["route"] = post("/inference/routes", fields{"name": name + "-route", "targets": []fields{{"deployment": name + "-dep"}}}).Str("id")
	o["user"] = post("/users", fields{"email": "member@" + name + ".example", "username": name + "-member", "password": "a long password for them", "role": "viewer"}).Str("id")
	login := s.With("").Post("/api/v1/auth/login", fields{"email": "member@" + name + ".example", "password": "a long password for them"}).Want(http.StatusOK)
	o["session"] = s.With(login.Str("access_token")).Get("/api/v1/auth/sessions").Str("items.0.id")
	o["project"] = post("/projects", fields{"name": name}).Str("id")
	o["role"] = post("/roles", fields{"name": name, "permissions": []string{"model:read"}}).Str("id")
	o["grant"] = post("/grants", fields{"subject": fields{"kind": "user", "id": o["user"]}, "permission": "model:write"}).Str("id")
	invitation := post("/invitations", fields{"email": "guest@" + name + ".example"})
	o["invitation"], o["token"] = invitation.Str("id"), invitation.Str("token")
	o["service"] = post("/service-accounts", fields{"name": name}).Str("id")
	o["key"] = post("/keys", fields{"name": name}).Str("id")
	o["budget"] = post("/budgets", fields{"subject": fields{"kind": "tenant", "id": o["tenant"]}, "unit": "tokens", "limit": 1_000_000_000, "window": "month", "hard": false}).Str("id")
	o["limit"] = post("/limits", fields{"subject": fields{"kind": "tenant", "id": o["tenant"]}, "unit": "requests", "limit": 1_000_000}).Str("id")
	up := owner.Request(http.MethodPost, "/api/v1/uploads", nil, http.Header{"Tus-Resumable": {"1.0.0"}, "Upload-Length": {"10"}, "Upload-Metadata": {"purpose bW9kZWw=,path YQ==,model " + base64.StdEncoding.EncodeToString([]byte(o["model"]))}}).Want(http.StatusCreated)
	o["upload"] = up.Header.Get("Location")[strings.LastIndexByte(up.Header.Get("Location"), '/')+1:]
	o["request"] = owner.Post("/v1/chat/completions", chat(name+"-dep")).Want(http.StatusOK).Header.Get("X-Request-Id")
	require.Eventually(t, func() bool { return bytes.Contains(owner.Get("/api/v1/usage/requests").Body, []byte(o["request"])) }, 30*time.Second, 50*time.Millisecond, "usage is booked")
	operator.Post("/api/v1/wallets/"+o["wallet"]+"/topup", fields{"amount_micro": 1_000_000, "reference": "r-" + name}).Want(http.StatusOK, http.StatusCreated)
	o["journal"] = owner.Get("/api/v1/ledger/journals").Want(http.StatusOK).Str("items.0.id")
	return o
}

var idForm = regexp.MustCompile(`[A-Za-z]+[_-][0-9a-f]{32}|[A-Za-z0-9_-]{43}`)

// shape is what an answer says without the ids in it.
func shape(a *maastest.Answer) string {
	var p struct{ Code, Title, Detail, Hint string }
	_ = json.Unmarshal(a.Body, &p) // an answer that is no problem has none of them
	return idForm.ReplaceAllString(strings.Join([]string{p.Code, p.Title, p.Detail, p.Hint}, "|"), "ID")
}

// absent is an id of the same form that nothing has.
func absent(have string) string {
	b := []byte(have)
	for i := len(b) - 6; i < len(b); i++ {
		b[i] = "0123456789abcdef"[(strings.IndexByte("0123456789abcdef", b[i])+9)&15]
	}
	return string(b)
}

// border is one organisation, its people by role, and what another one has.
type border struct {
	*testing.T
	*maastest.Set
	people      map[string]maastest.Caller
	own, others things
}

func newBorder(t *testing.T, s *maastest.Set) *border {
	t.Helper()
	_, owner := organisation(t, s, "acme")
	_, stranger := organisation(t, s, "globex")
	b := &border{t, s, map[string]maastest.Caller{"owner": owner}, furnish(t, s, "acme", owner, s.As("owner")), furnish(t, s, "globex", stranger, s.As("owner"))}
	for _, role := range []string{"admin", "developer", "viewer", "billing"} {
		mail := role + "@acme.example"
		owner.Post("/api/v1/users", fields{"email": mail, "username": "acme-" + role, "password": "a long password for them", "role": role}).Want(http.StatusCreated)
		b.people[role] = s.With(s.With("").Post("/api/v1/auth/login", fields{"email": mail, "password": "a long password for them"}).Want(http.StatusOK).Str("access_token"))
	}
	key := owner.Post("/api/v1/keys", fields{"name": "all", "scopes": []string{"all"}}).Want(http.StatusCreated)
	b.people["key of an owner"] = s.With(key.Str("secret"))
	return b
}

// fill puts ids into the parameters of a path: the last object's from last, those before it from own.
func (b *border) fill(path string, last func(kind string) string) (string, string) {
	out, at, kindOfLast := "", "", ""
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	lastObject := -1
	for i, seg := range segments {
		at += "/" + seg
		if strings.HasPrefix(seg, "{") {
			if kind, ok := kinds[at]; ok && kind != "" && kind[0] != '=' {
				lastObject = i
			} else if !ok {
				b.Errorf("%s: say in kinds what %s is", path, at)
			}
		}
	}
	at = ""
	for i, seg := range segments {
		at += "/" + seg
		kind := kinds[at]
		switch {
		case !strings.HasPrefix(seg, "{"):
			out += "/" + seg
		case strings.HasPrefix(kind, "="):
			out += "/" + kind[1:]
		case i == lastObject:
			kindOfLast = kind
			out += "/" + last(kind)
		default:
			out += "/" + b.own[kind]
		}
	}
	return out, kindOfLast
}

func (b *border) ask(who maastest.Caller, r route, path string) *maastest.Answer {
	body := bodies[r.id]
	h := http.Header{}
	if strings.HasPrefix(r.id, "model_upload") {
		h.Set("Tus-Resumable", "1.0.0")
		h.Set("Upload-Offset", "0")
		h.Set("Content-Type", "application/offset+octet-stream")
	}
	if body == nil {
		return who.Request(r.method, "/api/v1"+path, nil, h)
	}
	text, err := json.Marshal(body)
	require.NoError(b, err)
	h.Set("Content-Type", "application/json")
	return who.Request(r.method, "/api/v1"+path, bytes.NewReader(text), h)
}

// Every route, asked by every role about an object of another organisation, answers as about one that does not exist: 403 or 404. Without the permission it answers 403 about one's own, too.
func TestNobodySeesOverTheBorder(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { checkBorder(t, maastest.One(t)) })
	t.Run("postgres", func(t *testing.T) { checkBorder(t, maastest.OnPostgres(t)) })
}

func checkBorder(t *testing.T, s *maastest.Set) {
	t.Helper()
	b := newBorder(t, s)
	asked := 0
	for _, r := range routesOf(t, s) {
		if !strings.Contains(r.path, "{") {
			continue
		}
		_, kind := b.fill(r.path, func(string) string { return "x" })
		if kind == "" || kind == "token" { // no object, or one that is found by a secret
			continue
		}
		foreign, known := b.others[kind]
		if !known { // nothing of this kind was made: ask about one that could be
			foreign = "x_" + strings.Repeat("0", 32)
		}
		for role, who := range b.people {
			fp, _ := b.fill(r.path, func(string) string { return foreign })
			mp, _ := b.fill(r.path, func(string) string { return absent(foreign) })
			f, m := b.ask(who, r, fp), b.ask(who, r, mp)
			asked += 2
			if f.Status != http.StatusNotFound && f.Status != http.StatusForbidden {
				t.Errorf("%s %s as %s: foreign %s answers %d %s", r.method, r.path, role, kind, f.Status, f.Body)
			}
			if f.Status != m.Status || shape(f) != shape(m) {
				t.Errorf("%s %s as %s: foreign %s answers %d %s, a missing one %d %s", r.method, r.path, role, kind, f.Status, shape(f), m.Status, shape(m))
			}
			if own := b.own[kind]; own != "" && (r.method == http.MethodGet || f.Status == http.StatusForbidden) {
				op, _ := b.fill(r.path, func(string) string { return own })
				a := b.ask(who, r, op)
				asked++
				if (f.Status == http.StatusForbidden) != (a.Status == http.StatusForbidden) {
					t.Errorf("%s %s as %s: own %s answers %d, a foreign one %d", r.method, r.path, role, kind, a.Status, f.Status)
				}
			}
		}
	}
	t.Logf("%d questions", asked)
	b.lists()
	b.references()
	for kind, id := range b.others { // nothing was changed over there
		for text, tables := range map[string]string{"deployment": "inference_deployment", "key": "user_key", "project": "user_project", "model": "model_repo"} {
			if kind == text {
				require.Equal(t, int64(1), rowsOf(t, s.DB(), b.others["tenant"])[tables], id)
			}
		}
	}
}

// lists: what has no id in its path shows nothing of others.
func (b *border) lists() {
	b.Helper()
	for _, r := range routesOf(b.T, b.Set) {
		if r.method != http.MethodGet || strings.Contains(r.path, "{") || strings.HasPrefix(r.path, "/auth/providers") || r.id == "inference_stream_open" {
			continue
		}
		query := ""
		if strings.HasPrefix(r.path, "/statements") {
			query = "?month=" + time.Now().UTC().Format("2006-01")
		}
		for role, who := range b.people {
			a := who.Get("/api/v1" + r.path + query)
			if a.Status >= 500 {
				b.Errorf("GET %s as %s: %d %s", r.path, role, a.Status, a.Body)
			}
			for kind, id := range b.others {
				if bytes.Contains(a.Body, []byte(id)) || bytes.Contains(a.Body, []byte("globex")) {
					b.Errorf("GET %s as %s shows %s of another organisation: %s", r.path, role, kind, a.Body)
					break
				}
			}
		}
	}
}

// references: ids in bodies and queries lead nowhere either.
func (b *border) references() {
	b.Helper()
	subject := func(kind, id string) fields { return fields{"subject": fields{"kind": kind, "id": id}} }
	with := func(f fields, kv ...any) fields {
		for i := 0; i < len(kv); i += 2 {
			f[kv[i].(string)] = kv[i+1] //nolint:forcetypeassert // test
		}
		return f
	}
	owner := b.people["owner"]
	for name, x := range map[string]struct {
		kind, path string
		body       func(id string) fields
	}{
		"grant":              {"user", "/grants", func(id string) fields { return with(subject("user", id), "permission", "model:read") }},
		"grant to a program": {"service", "/grants", func(id string) fields { return with(subject("service_account", id), "permission", "model:read") }},
		"grant of a role":    {"role", "/grants", func(id string) fields { return with(subject("user", b.own["user"]), "role", id) }},
		"invitation role":    {"role", "/invitations", func(id string) fields { return fields{"email": "n@example.com", "roles": []string{id}} }},
		"invitation project": {"project", "/invitations", func(id string) fields { return fields{"email": "n@example.com", "projects": []string{id}} }},
		"user role": {"role", "/users", func(id string) fields {
			return fields{"email": "n@example.com", "password": "a long password for them", "role": id}
		}},
		"key project":         {"project", "/keys", func(id string) fields { return fields{"name": "n", "project_id": id} }},
		"key of a program":    {"service", "/keys", func(id string) fields { return fields{"name": "n", "service_account_id": id} }},
		"program's project":   {"project", "/service-accounts", func(id string) fields { return fields{"name": "n", "project_id": id} }},
		"deployment model":    {"model", "/inference/deployments", func(id string) fields { return fields{"name": "n", "model": id} }},
		"deployment provider": {"provider", "/inference/deployments", func(id string) fields { return fields{"name": "n", "provider": id, "upstream_model": "m"} }},
		"route target":        {"deployment", "/inference/routes", func(id string) fields { return fields{"name": "n", "targets": []fields{{"deployment": id}}} }},
		"fit":                 {"model", "/inference/fit", func(id string) fields { return fields{"model": id} }},
		"budget of a project": {"project", "/budgets", func(id string) fields {
			return with(subject("project", id), "unit", "tokens", "limit", 1, "window", "day")
		}},
		"budget of a key": {"key", "/budgets", func(id string) fields { return with(subject("key", id), "unit", "tokens", "limit", 1, "window", "day") }},
		"limit of a user": {"user", "/limits", func(id string) fields { return with(subject("user", id), "unit", "requests", "limit", 1) }},
		"limit of a key":  {"key", "/limits", func(id string) fields { return with(subject("key", id), "unit", "requests", "limit", 1) }},
		"switch":          {"tenant", "/auth/switch", func(id string) fields { return fields{"tenant_id": id} }},
	} {
		foreign := b.others[x.kind]
		f, m := owner.Post("/api/v1"+x.path, x.body(foreign)), owner.Post("/api/v1"+x.path, x.body(absent(foreign)))
		if f.Status < 400 || f.Status >= 500 || f.Status != m.Status || shape(f) != shape(m) {
			b.Errorf("%s: POST %s with a foreign %s answers %d %s, with a missing one %d %s", name, x.path, x.kind, f.Status, shape(f), m.Status, shape(m))
		}
	}
	for _, q := range []struct{ kind, path string }{{"user", "/keys?owner="}, {"project", "/keys?project="}, {"user", "/grants?subject="}, {"key", "/usage/requests?key_id="}} {
		f, m := owner.Get("/api/v1"+q.path+b.others[q.kind]), owner.Get("/api/v1"+q.path+absent(b.others[q.kind]))
		if f.Status != m.Status || !bytes.Equal(f.Body, m.Body) {
			b.Errorf("GET %s with a foreign %s: %d %s, with a missing one %d %s", q.path, q.kind, f.Status, f.Body, m.Status, m.Body)
		}
	}
	for _, header := range []string{"X-Maas-Project", "OpenAI-Project"} {
		for _, path := range []string{"/api/v1/keys", "/v1/models"} {
			if a := owner.Request(http.MethodGet, path, nil, http.Header{header: {b.others["project"]}}); a.Status != http.StatusForbidden {
				b.Errorf("%s of another organisation on %s: %d", header, path, a.Status)
			}
		}
	}
	for _, model := range []string{"globex-dep", "globex-route"} {
		owner.Post("/v1/chat/completions", chat(model)).Want(http.StatusNotFound)
	}
}
