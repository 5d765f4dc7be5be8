package user

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/platform/rpc"
	"maas/internal/user/ledger"
)

// TestAPI holds the local service and its client over the wire to the same answers and the same errors.
func TestAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbOpen(t))
	owner, tok := w.owner(t)
	key, err := w.MakeKey(owner, NewKey{Name: "k", Models: []string{"m"}, ExpiresAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	o := rpc.Options{Secret: make([]byte, 32), Audience: "user", Log: discard}
	m, err := rpc.NewMux(o)
	require.NoError(t, err)
	w.Serve(m)
	s := httptest.NewServer(m)
	defer s.Close()
	o.URL = s.URL
	c, err := rpc.NewClient(o)
	require.NoError(t, err)
	defer c.Close()
	ticket := func() string {
		text, _, err := w.Ticket(owner, "/p", home)
		require.NoError(t, err)
		return text
	}
	wallet := w.limitedWallet(t, owner)
	answers := map[string]map[string]any{}
	for name, api := range map[string]API{"local": w.Service, "remote": NewClient(c)} {
		got := map[string]any{}
		say := func(what string, v any, err error) {
			if err != nil {
				v = fault.From(err).Code
			}
			got[what] = v
		}
		changes, err := api.Changes(t.Context(), 0)
		say("changes", changes, err)
		changes, err = api.Changes(t.Context(), changes.Version)
		say("no changes", changes, err)
		grant, err := api.KeyByHash(t.Context(), hexHash(key.Secret))
		say("key", grant, err)
		_, err = api.KeyByHash(t.Context(), "none")
		say("no key", nil, err)
		p, err := api.Session(t.Context(), tok.Session.ID)
		say("session", p, err)
		_, err = api.Session(t.Context(), "ses_none")
		say("no session", nil, err)
		keys, err := api.SigningKeys(t.Context())
		say("signing keys", keys, err)
		text := ticket()
		p, err = api.RedeemTicket(t.Context(), TicketUse{Ticket: text, Path: "/p", IP: home.IP})
		say("ticket", p, err)
		_, err = api.RedeemTicket(t.Context(), TicketUse{Ticket: text, Path: "/p", IP: home.IP})
		say("ticket again", nil, err)
		b := Batch{Node: name, Epoch: 1, Seq: 1, Rows: []Usage{{RequestID: id.New("req"), At: w.clock(), TenantID: tok.User.Tenant.ID}}}
		say("record", true, api.Record(t.Context(), b))
		say("record again", true, api.Record(t.Context(), b))
		b.Rows[0].RequestID = id.New("req")
		say("record other rows", nil, api.Record(t.Context(), b))
		say("record nothing of nobody", nil, api.Record(t.Context(), Batch{}))
		asks := []meter.LeaseAsk{{ID: name, Node: name, Target: wallet, Need: 5, Want: 5}, {ID: name + "2", Node: name, Target: "bud_none", Need: 1, Want: 1}}
		lent, err := api.Lease(t.Context(), asks)
		require.NoError(t, err)
		say("lease", []any{lent[0].Amount, lent[0].Unlimited, lent[0].ExpiresAt, lent[1].Unlimited}, err)
		say("return", nil, api.Return(t.Context(), []meter.LeaseReturn{{LeaseID: lent[0].LeaseID, Unused: 5}, {LeaseID: "lse_none"}}))
		_, err = api.Lease(t.Context(), []meter.LeaseAsk{{ID: "x"}})
		say("lease of nothing", nil, err)
		answers[name] = got
	}
	require.Empty(t, cmp.Diff(answers["local"], answers["remote"]))
	require.Equal(t, "user.invalid_key", answers["remote"]["no key"])
	require.Equal(t, "user.session_expired", answers["remote"]["no session"])
	require.Equal(t, "user.lease", answers["remote"]["lease of nothing"])
	require.Equal(t, "user.bad_ticket", answers["remote"]["ticket again"])
	require.Equal(t, "user.usage_batch_reused", answers["remote"]["record other rows"])
	p, ok := answers["remote"]["session"].(auth.Principal)
	require.True(t, ok)
	require.Equal(t, ownerMail, p.Name)

	// a process that has only the client checks credentials like one that has the service
	far := NewVerifier(NewClient(c), w.clock, discard)
	require.NoError(t, far.Refresh(t.Context()))

	// prices, budgets and wallets come with the feed
	price, err := w.SetPrice(owner, NewPrice{Model: "m", Input: 3})
	require.NoError(t, err)
	bud, err := w.MakeBudget(owner, NewBudget{Subject: Subject{Kind: "tenant"}, Unit: meter.Money, Limit: 5, Window: ledger.Day, Hard: true})
	require.NoError(t, err)
	before := far.MoneyGeneration()
	require.NoError(t, far.Refresh(t.Context()))
	require.Greater(t, far.MoneyGeneration(), before)
	require.Equal(t, price.ID, far.Price(tok.User.Tenant.ID, "m", w.clock()).ID)
	require.Equal(t, w.verifier.Charge(&p), far.Charge(&p))
	require.Equal(t, Charge{Budgets: []BudgetRef{{bud.ID, "tenant", meter.Money, true}}, Wallet: wallet}, far.Charge(&p))
	for _, text := range []string{key.Secret, tok.Access} {
		cred, err := far.Credential(t.Context(), text)
		require.NoError(t, err)
		_, err = cred.Check(w.clock())
		require.NoError(t, err)
	}
	_, err = w.RevokeKey(owner, key.ID)
	require.NoError(t, err)
	require.NoError(t, far.Refresh(t.Context()))
	cred, err := far.Credential(t.Context(), key.Secret)
	require.NoError(t, err)
	_, err = cred.Check(w.clock())
	require.ErrorIs(t, err, ErrKeyRevoked)
}
