package user

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/id"
)

// raw fetches a file.
func (s *site) raw(path, credential string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	require.NoError(s.t, err)
	r.Header.Set("Authorization", "Bearer "+credential)
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return resp.StatusCode, resp.Header, string(b)
}

// doIf is do with If-Match.
func (s *site) doIf(method, path, credential, etag string, body obj) answer {
	s.t.Helper()
	b, err := json.Marshal(body)
	require.NoError(s.t, err)
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(b))
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+credential)
	r.Header.Set("If-Match", etag)
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header}
	require.NoError(s.t, json.NewDecoder(resp.Body).Decode(&a.body))
	return a
}

// member makes a person of a role and signs them in.
func (s *site) member(owner string, r Role) string {
	s.t.Helper()
	mail := string(r) + "-" + newOpaque()[:6] + "@example.com"
	a := s.do("POST", "/users", owner, obj{"email": mail, "password": "long enough 123", "role": r})
	require.Equal(s.t, 201, a.status, a.body)
	return s.do("POST", "/auth/login", "", obj{"email": mail, "password": "long enough 123"}).str("access_token")
}

func TestHTTPMoney(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, owner := s.owner(t)
	op := owner.Access
	p := s.do("POST", "/prices", op, obj{"model": "m", "currency": "CNY", "input_micro_per_mtok": 2_000_000, "output_micro_per_mtok": 8_000_000, "request_micro": 5})
	require.Equal(t, 201, p.status, p.body)
	require.Equal(t, true, p.body["current"])
	require.EqualValues(t, 2_000_000, p.body["cached_input_micro_per_mtok"])
	require.Equal(t, 409, s.do("POST", "/prices", op, obj{"model": "m", "valid_from": p.str("valid_from")}).status, "a version is never changed")
	bad := s.do("POST", "/prices", op, obj{"model": "m", "currency": "EUR"})
	require.Equal(t, 422, bad.status, bad.body)
	require.Len(t, s.do("GET", "/prices", op, nil).body["items"], 1)
	require.Equal(t, "CNY", s.do("GET", "/prices/current", op, nil).str("currency"))

	w := s.do("GET", "/wallet", op, nil)
	require.Equal(t, 200, w.status, w.body)
	require.Equal(t, "postpaid", w.str("mode"))
	require.Equal(t, 412, s.doIf("PATCH", "/wallet", op, `"77"`, obj{"mode": "prepaid"}).status)
	w = s.doIf("PATCH", "/wallet", op, w.header.Get("ETag"), obj{"mode": "prepaid", "credit_micro": 100})
	require.Equal(t, 200, w.status, w.body)
	require.Equal(t, true, w.body["limited"])
	wid := w.str("id")
	j := s.do("POST", "/wallets/"+wid+"/topup", op, obj{"amount_micro": 1000, "reference": "bank 1"})
	require.Equal(t, 201, j.status, j.body)
	require.Len(t, j.body["entries"], 2)
	require.Equal(t, 409, s.do("POST", "/wallets/"+wid+"/topup", op, obj{"amount_micro": 1000, "reference": "bank 1"}).status)
	require.Equal(t, 201, s.do("POST", "/wallets/"+wid+"/refund", op, obj{"amount_micro": 3, "reference": "req"}).status)
	require.Equal(t, 422, s.do("POST", "/wallets/"+wid+"/adjust", op, obj{"amount_micro": -3, "reference": "a"}).status, "without a word why")
	require.Equal(t, 201, s.do("POST", "/wallets/"+wid+"/adjust", op, obj{"amount_micro": -3, "reference": "a", "note": "typing error"}).status)
	require.Equal(t, 404, s.do("POST", "/wallets/wal_x/topup", op, obj{"amount_micro": 1, "reference": "b"}).status)
	list := s.do("GET", "/ledger/journals", op, nil)
	require.Len(t, list.body["items"], 3)
	require.Equal(t, 200, s.do("GET", "/ledger/journals/"+j.str("id"), op, nil).status)

	b := s.do("POST", "/budgets", op, obj{"subject": obj{"kind": "tenant", "id": owner.User.Tenant.ID}, "unit": "money", "limit": 500, "window": "month", "hard": true, "name": "all"})
	require.Equal(t, 201, b.status, b.body)
	require.Equal(t, "ok", b.str("state"))
	require.Equal(t, 422, s.do("POST", "/budgets", op, obj{"subject": obj{"kind": "user", "id": "usr_x"}, "unit": "money", "limit": 500, "window": "month"}).status)
	bp := "/budgets/" + b.str("id")
	require.Equal(t, 200, s.do("PATCH", bp, op, obj{"limit": 600}).status)
	r := s.do("POST", bp+"/raise", op, obj{"amount": 50, "until": s.clock().Add(time.Hour).Format(time.RFC3339), "reason": "launch"})
	require.Equal(t, 200, r.status, r.body)
	require.EqualValues(t, 650, r.body["left"])
	require.EqualValues(t, 600, s.do("GET", bp, op, nil).body["limit"])
	require.Len(t, s.do("GET", "/quota", op, nil).body["budgets"], 1)

	s.wait(time.Second)
	require.NoError(t, s.Record(t.Context(), Batch{Node: "n", Epoch: 1, Seq: 1, Rows: []Usage{{RequestID: id.New("req"), At: s.clock(), TenantID: owner.User.Tenant.ID, UserID: owner.User.ID, Model: "m", PriceVersion: p.str("id"), Source: SourceUpstream, InFresh: 10, OutText: 1}}}))
	s.wait(time.Second)
	w = s.do("GET", "/wallet", op, nil)
	require.EqualValues(t, 1000-20-8-5, w.body["balance_micro"])
	u := s.do("GET", "/usage?group_by=project,provider", op, nil)
	require.Equal(t, 200, u.status, u.body)
	require.EqualValues(t, 33, u.body["totals"].(obj)["cost_micro"])
	require.EqualValues(t, 33, s.do("GET", "/revenue?group_by=model", op, nil).body["totals"].(obj)["revenue_micro"])
	require.EqualValues(t, 33, s.do("GET", "/usage/forecast", op, nil).body["spent_micro"])
	st := s.do("GET", "/statements", op, nil)
	require.EqualValues(t, 33, st.body["total_micro"], st.body)
	month := st.str("month")
	inv := s.do("POST", "/invoices", op, obj{"month": month})
	require.Equal(t, 201, inv.status, inv.body)
	require.Equal(t, 409, s.do("POST", "/invoices/"+inv.str("id")+"/issue", op, nil).status, "the month runs")
	for path, kind := range map[string]string{"/statements/" + month + "/pdf": "application/pdf", "/statements/" + month + "/csv": "text/csv; charset=utf-8", "/invoices/" + inv.str("id") + "/pdf?lang=zh": "application/pdf", "/invoices/" + inv.str("id") + "/csv": "text/csv; charset=utf-8"} {
		status, head, body := s.raw(path, op)
		require.Equal(t, 200, status, body)
		require.Equal(t, kind, head.Get("Content-Type"))
		require.Contains(t, head.Get("Content-Disposition"), "attachment")
		require.True(t, strings.HasPrefix(body, "%PDF-") || strings.Contains(body, "0.000033"), body)
	}
	status, _, _ := s.raw("/statements/never/pdf", op)
	require.Equal(t, 400, status)
	status, _, body := s.raw("/usage/export.csv", op)
	require.Equal(t, 200, status)
	require.Contains(t, body, p.str("id"))
	status, _, _ = s.raw("/usage/export.csv?from=yesterday", op)
	require.Equal(t, 400, status)
	require.Equal(t, 200, s.do("POST", "/invoices/"+inv.str("id")+"/void", op, obj{}).status)
	v := s.do("POST", "/ledger/verify", op, nil)
	require.Equal(t, true, v.body["ok"], v.body)
	require.Equal(t, 204, s.do("DELETE", bp, op, nil).status)
}

// Who may what: the operator runs prices, wallets and invoices; a tenant's own people see their money and set budgets.
func TestHTTPMoneyRights(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, owner := s.owner(t)
	wid := s.do("GET", "/wallet", owner.Access, nil).str("id")
	bud := s.do("POST", "/budgets", owner.Access, obj{"subject": obj{"kind": "tenant"}, "unit": "tokens", "limit": 5, "window": "day"}).str("id")
	inv := s.do("POST", "/invoices", owner.Access, obj{"month": "2026-01"}).str("id")
	post := obj{"amount_micro": 1, "reference": "x", "note": "y"}
	sub := obj{"subject": obj{"kind": "tenant"}, "unit": "tokens", "limit": 5, "window": "day"}
	tokens := map[Role]string{Admin: s.member(owner.Access, Admin), Billing: s.member(owner.Access, Billing), Developer: s.member(owner.Access, Developer), Viewer: s.member(owner.Access, Viewer)}
	for _, c := range []struct {
		method, path string
		body         any
		want         [4]int // admin, billing, developer, viewer
	}{
		{"GET", "/prices", nil, [4]int{200, 200, 200, 200}},
		{"GET", "/prices/current", nil, [4]int{200, 200, 200, 200}},
		{"POST", "/prices", obj{"model": "m"}, [4]int{403, 403, 403, 403}},
		{"GET", "/wallet", nil, [4]int{200, 200, 200, 200}},
		{"GET", "/wallet?tenant_id=ten_other", nil, [4]int{404, 404, 404, 404}},
		{"PATCH", "/wallet", obj{"mode": "prepaid"}, [4]int{403, 403, 403, 403}},
		{"POST", "/wallets/" + wid + "/topup", post, [4]int{403, 403, 403, 403}},
		{"POST", "/wallets/" + wid + "/adjust", post, [4]int{403, 403, 403, 403}},
		{"POST", "/wallets/" + wid + "/refund", post, [4]int{403, 403, 403, 403}},
		{"POST", "/wallets/" + wid + "/payout", post, [4]int{403, 403, 403, 403}},
		{"GET", "/ledger/journals", nil, [4]int{200, 200, 403, 403}},
		{"GET", "/ledger/journals?tenant_id=ten_other", nil, [4]int{404, 404, 403, 403}},
		{"GET", "/ledger/journals/jnl_x", nil, [4]int{404, 404, 403, 403}},
		{"POST", "/ledger/verify", nil, [4]int{403, 403, 403, 403}},
		{"GET", "/budgets", nil, [4]int{200, 200, 200, 200}},
		{"POST", "/budgets", sub, [4]int{201, 201, 403, 403}},
		{"GET", "/budgets/" + bud, nil, [4]int{200, 200, 403, 403}},
		{"PATCH", "/budgets/" + bud, obj{"limit": 6}, [4]int{200, 200, 403, 403}},
		{"POST", "/budgets/" + bud + "/raise", obj{"amount": 0, "until": "2030-01-01T00:00:00Z", "reason": ""}, [4]int{200, 200, 403, 403}},
		{"DELETE", "/budgets/bud_x", nil, [4]int{404, 404, 403, 403}},
		{"GET", "/quota", nil, [4]int{200, 200, 200, 200}},
		{"GET", "/statements", nil, [4]int{200, 200, 403, 403}},
		{"GET", "/statements?tenant_id=ten_other", nil, [4]int{404, 404, 403, 403}},
		{"GET", "/invoices", nil, [4]int{200, 200, 403, 403}},
		{"GET", "/invoices?tenant_id=*", nil, [4]int{404, 404, 403, 403}},
		{"POST", "/invoices", obj{"month": "2026-02"}, [4]int{403, 403, 403, 403}},
		{"GET", "/invoices/" + inv, nil, [4]int{404, 404, 403, 403}}, // a draft is the operator's
		{"POST", "/invoices/" + inv + "/issue", nil, [4]int{403, 403, 403, 403}},
		{"POST", "/invoices/" + inv + "/void", obj{}, [4]int{403, 403, 403, 403}},
		{"GET", "/revenue", nil, [4]int{403, 403, 403, 403}},
		{"GET", "/usage/forecast", nil, [4]int{200, 200, 200, 200}},
		{"GET", "/usage?group_by=tenant", nil, [4]int{403, 403, 403, 403}},
	} {
		for i, r := range []Role{Admin, Billing, Developer, Viewer} {
			a := s.do(c.method, c.path, tokens[r], c.body)
			require.Equal(t, c.want[i], a.status, "%s %s as %s: %v", c.method, c.path, r, a.body)
		}
		if c.method != "GET" || !strings.Contains(c.path, "_x") {
			require.Equal(t, 401, s.do(c.method, c.path, "", c.body).status, "%s %s", c.method, c.path)
		}
	}
}
