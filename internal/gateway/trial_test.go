package gateway

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/inference"
	"maas/internal/user"
)

func TestRouteTestTellsEachAttempt(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	f.spec.TimeoutMS = 0
	f.fresh()
	try := func(ref, body string, status int) (r RouteTested) {
		t.Helper()
		res := f.call("/api/v1/inference/routes/"+ref+"/test", f.token, body)
		require.Equal(t, status, res.status, res.body)
		require.NoError(t, json.Unmarshal([]byte(res.body), &r))
		return r
	}
	for _, stream := range []bool{false, true} {
		r := try("rte_1", fmt.Sprintf(`{"prompt":"fault=503 on=a tokens=2","stream":%v}`, stream), 200)
		require.True(t, r.OK)
		require.NotEmpty(t, r.Answer)
		require.Len(t, r.Attempts, 2)
		require.Equal(t, "only-a", r.Attempts[0].Deployment)
		require.Equal(t, 503, r.Attempts[0].Status)
		require.Contains(t, r.Attempts[0].Error.Message, "status 503")
		require.NotContains(t, r.Attempts[0].Error.Message, "10.0.0.7")
		require.Equal(t, TriedEndpoint{Deployment: "only-b", DeploymentID: "dep_b", Endpoint: "b", Status: 200, MS: r.Attempts[1].MS}, r.Attempts[1])
		u := f.booked(r.RequestID)
		require.Equal(t, int64(2), u.CompletionTokens, "it is booked like any other call")
	}
	r := try("gpt-4o", `{"model":"gpt-4o","prompt":"fault=500"}`, 200)
	require.False(t, r.OK)
	require.Len(t, r.Attempts, 2)
	require.Equal(t, "gateway.upstream_error", r.Error.Code)
	r = try("fast", "", 200)
	require.True(t, r.OK, "without a body a prompt of ours is sent")
	try("fast", `{"model":"only-a"}`, 404)
	try("only-a", `{}`, 404)
	try("nothing", `{}`, 404)
	try("fast", `nonsense`, 400)
}

func TestAliases(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	res := f.call("/v1/chat/completions", f.key, asking("gpt-4o", "tokens=2", ""))
	require.Equal(t, 200, res.status, res.body)
	require.Equal(t, routed, res.header.Get("X-Maas-Model"))
	require.Equal(t, routed, f.booked(res.rid).Model)
	for list, want := range map[string]int{"gpt-4o": 200, routed: 200, "only-a": 403} {
		key, _ := f.newKey(user.NewKey{Name: list, Models: []string{list}})
		require.Equal(t, want, f.call("/v1/chat/completions", key, asking("gpt-4o", "", "")).status, list)
	}
	q := f.get("/v1/models")
	require.Contains(t, q, `"id":"gpt-4o"`)
	require.Contains(t, q, `"id":"fast"`)
	require.Contains(t, q, `"id":"only-a"`)
}

// A conversation stays with the deployment it began with, whatever its later turns add.
func TestSessionOfAConversation(t *testing.T) {
	t.Parallel()
	f := newFaultRig(t)
	f.spec.Strategy = inference.BySession
	f.spec.Targets[1].Priority = 0
	f.fresh()
	homes := map[string]int{}
	for i := range 24 {
		first := fmt.Sprintf(`{"model":"fast","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"question %d"}]}`, i)
		next := fmt.Sprintf(`{"model":"fast","temperature":0,"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"question %d"},{"role":"assistant","content":"x"},{"role":"user","content":"and?"}]}`, i)
		home := f.call("/v1/chat/completions", f.key, first).header.Get("X-Maas-Deployment")
		require.Equal(t, home, f.call("/v1/chat/completions", f.key, next).header.Get("X-Maas-Deployment"))
		homes[home]++
		keyed := fmt.Sprintf(`{"model":"fast","prompt_cache_key":"k%d","messages":[{"role":"user","content":"%%s"}]}`, i)
		home = f.call("/v1/chat/completions", f.key, fmt.Sprintf(keyed, "a")).header.Get("X-Maas-Deployment")
		require.Equal(t, home, f.call("/v1/chat/completions", f.key, fmt.Sprintf(keyed, "b")).header.Get("X-Maas-Deployment"))
	}
	require.Len(t, homes, 2, "different conversations spread")
}
