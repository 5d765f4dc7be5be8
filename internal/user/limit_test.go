package user

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/meter"
)

func TestLimitsReachTheVerifier(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, tok := w.owner(t)
		k, err := w.MakeKey(owner, NewKey{Name: "k", Limits: KeyLimits{RequestsPerMinute: 7, Concurrent: 2}})
		require.NoError(t, err)
		cred, err := w.verifier.Credential(t.Context(), k.Secret)
		require.NoError(t, err)
		seen := func() []meter.Limit {
			p, err := cred.Check(w.clock())
			require.NoError(t, err)
			own, _ := cred.KeyTerms()
			return w.verifier.LimitsOf(p, own)
		}
		require.Equal(t, []meter.Limit{{Kind: "key", ID: k.ID, Unit: meter.Requests, Limit: 7}, {Kind: "key", ID: k.ID, Unit: meter.Concurrent, Limit: 2}}, seen())
		before := cred.Rights()
		_, err = w.UpdateKey(owner, k.ID, KeyPatch{Limits: &KeyLimits{TokensPerMinute: 9}}, func(Key) error { return nil })
		require.NoError(t, err)
		require.NotSame(t, before, cred.Rights(), "what was derived from the old rights is stale")
		require.Equal(t, []meter.Limit{{Kind: "key", ID: k.ID, Unit: meter.Tokens, Limit: 9}}, seen())

		g := w.verifier.LimitGeneration()
		person, err := w.MakeLimit(owner, NewLimit{Subject: LimitSubject{"user", tok.User.ID}, Unit: meter.Tokens, Limit: 1000, Burst: 10})
		require.NoError(t, err)
		team, err := w.MakeLimit(owner, NewLimit{Subject: LimitSubject{Kind: "tenant"}, Unit: meter.Requests, Limit: 50})
		require.NoError(t, err)
		require.Equal(t, tok.User.Tenant.ID, team.Subject.ID)
		model, err := w.MakeLimit(owner, NewLimit{Subject: LimitSubject{"model", "m"}, Unit: meter.Concurrent, Limit: 3})
		require.NoError(t, err)
		require.Greater(t, w.verifier.LimitGeneration(), g)
		require.Equal(t, []meter.Limit{
			{Kind: "key", ID: k.ID, Unit: meter.Tokens, Limit: 9},
			{Kind: "user", ID: tok.User.ID, Unit: meter.Tokens, Limit: 1000, Burst: 10, Counter: person.ID},
			{Kind: "tenant", ID: tok.User.Tenant.ID, Unit: meter.Requests, Limit: 50, Counter: team.ID},
		}, seen())
		require.Equal(t, []meter.Limit{{Kind: "model", ID: "m", Unit: meter.Concurrent, Limit: 3, Counter: model.ID}}, w.verifier.LimitsOfModel(tok.User.Tenant.ID, "m"))
		require.Empty(t, w.verifier.LimitsOfModel("ten_other", "m"))

		fresh := NewVerifier(w.Service, w.clock, w.Log) // one that starts now sees the same
		require.NoError(t, fresh.Refresh(t.Context()))
		p, err := cred.Check(w.clock())
		require.NoError(t, err)
		require.Equal(t, w.verifier.LimitsOf(p, KeyLimits{}), fresh.LimitsOf(p, KeyLimits{}))

		require.NoError(t, w.DeleteLimit(owner, person.ID))
		team, err = w.UpdateLimit(owner, team.ID, LimitPatch{Limit: new(int64(60))}, nil)
		require.NoError(t, err)
		require.Equal(t, int64(60), team.Limit)
		require.Equal(t, int64(60), seen()[1].Limit)
		require.Len(t, seen(), 2)
		require.NoError(t, fresh.Refresh(t.Context()))
		require.Equal(t, w.verifier.LimitsOf(p, KeyLimits{}), fresh.LimitsOf(p, KeyLimits{}))
	})
}

func TestLimitRules(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		owner, tok := w.owner(t)
		mine := tok.User.Tenant.ID
		for name, n := range map[string]NewLimit{
			"nobody":       {Subject: LimitSubject{"key", "key_none"}, Unit: meter.Requests, Limit: 1},
			"other tenant": {Subject: LimitSubject{"tenant", "ten_x"}, Unit: meter.Requests, Limit: 1},
			"no name":      {Subject: LimitSubject{"model", ""}, Unit: meter.Requests, Limit: 1},
			"burst":        {Subject: LimitSubject{"tenant", mine}, Unit: meter.Requests, Limit: 1, Burst: 2},
			"burst slots":  {Subject: LimitSubject{"tenant", mine}, Unit: meter.Concurrent, Limit: 5, Burst: 2},
			"negative":     {Subject: LimitSubject{"tenant", mine}, Unit: meter.Tokens, Limit: -1},
		} {
			_, err := w.MakeLimit(owner, n)
			require.ErrorIs(t, err, ErrLimitFields, name)
		}
		l, err := w.MakeLimit(owner, NewLimit{Subject: LimitSubject{Kind: "tenant"}, Unit: meter.Requests, Limit: 5})
		require.NoError(t, err)
		_, err = w.MakeLimit(owner, NewLimit{Subject: LimitSubject{Kind: "tenant"}, Unit: meter.Requests, Limit: 6})
		require.ErrorIs(t, err, ErrLimitTaken)
		top, err := w.MakeLimit(owner, NewLimit{Subject: LimitSubject{Kind: "tenant"}, Unit: meter.Requests, Limit: 6, Operator: true}) // the first owner is the operator too
		require.NoError(t, err, "the operator's stands beside the team's own")
		admin, _ := w.as(t, owner, Admin)
		_, err = w.UpdateLimit(admin, top.ID, LimitPatch{Limit: new(int64(600))}, nil)
		require.ErrorIs(t, err, ErrLimitOperator)
		require.ErrorIs(t, w.DeleteLimit(admin, top.ID), ErrLimitOperator)
		_, err = w.MakeLimit(admin, NewLimit{Subject: LimitSubject{Kind: "tenant"}, Unit: meter.Tokens, Limit: 6, Operator: true})
		require.ErrorIs(t, err, auth.ErrForbidden)
		list, err := w.Limits(admin, LimitFilter{Kind: "tenant"})
		require.NoError(t, err)
		require.Len(t, list.Items, 2)
		require.NoError(t, w.DeleteLimit(admin, l.ID))
		_, err = w.Limit(admin, l.ID)
		require.ErrorIs(t, err, ErrLimitNotFound)
		require.ErrorIs(t, w.DeleteLimit(auth.With(t.Context(), auth.Principal{TenantID: "ten_other"}), top.ID), ErrLimitNotFound)
		_, err = w.MakeLimit(admin, NewLimit{Subject: LimitSubject{Kind: "tenant"}, Unit: meter.Requests, Limit: 6})
		require.NoError(t, err, "after a deletion there is room again")
	})
}

func TestCopiedNodeIsRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		r := NodeReport{Node: "node_a", Epoch: 1, Place: "here", Started: w.clock()}
		reply, err := w.Node(ctx, r)
		require.NoError(t, err)
		require.Equal(t, int64(1), reply.Nodes)
		r.Epoch = 2 // restarted
		_, err = w.Node(ctx, r)
		require.NoError(t, err)
		elsewhere := r
		elsewhere.Place = "there"
		_, err = w.Node(ctx, elsewhere)
		require.ErrorIs(t, err, ErrNodeCopied)
		other := NodeReport{Node: "node_b", Epoch: 1, Place: "there", Limits: NodeLimits{Shared: "away"}}
		reply, err = w.Node(ctx, other)
		require.NoError(t, err)
		require.Equal(t, int64(2), reply.Nodes)
		live, err := w.LiveNodes(ctx)
		require.NoError(t, err)
		require.Len(t, live, 2)
		require.Equal(t, "away", live[1].Shared)
		w.wait(nodeAlive + time.Second) // moved, not copied: nobody was alive under the name
		reply, err = w.Node(ctx, elsewhere)
		require.NoError(t, err)
		require.Equal(t, int64(1), reply.Nodes)
		_, err = w.Node(ctx, r)
		require.ErrorIs(t, err, ErrNodeCopied)
	})
}

func TestLimitsOverHTTP(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, tok := s.owner(t)
	made := s.do("POST", "/limits", tok.Access, map[string]any{"subject": map[string]any{"kind": "model", "id": "m"}, "unit": "tokens", "limit": 100})
	require.Equal(t, http.StatusCreated, made.status, made.body)
	lid, _ := made.body["id"].(string)
	got := s.do("GET", "/limits/"+lid, tok.Access, nil)
	require.Equal(t, http.StatusOK, got.status)
	require.InDelta(t, 100, got.body["limit"], 0)
	require.Equal(t, http.StatusOK, s.do("PATCH", "/limits/"+lid, tok.Access, map[string]any{"limit": 5}).status)
	list := s.do("GET", "/limits?kind=model", tok.Access, nil)
	require.Len(t, list.body["items"], 1)
	live := s.do("GET", "/limits/live", tok.Access, nil)
	require.Equal(t, http.StatusOK, live.status)
	require.Equal(t, false, live.body["degraded"])
	require.Equal(t, http.StatusNoContent, s.do("DELETE", "/limits/"+lid, tok.Access, nil).status)
	require.Equal(t, http.StatusNotFound, s.do("GET", "/limits/"+lid, tok.Access, nil).status)
	require.Equal(t, http.StatusUnprocessableEntity, s.do("POST", "/limits", tok.Access, map[string]any{"subject": map[string]any{"kind": "planet", "id": "m"}, "unit": "tokens", "limit": 100}).status)
}
