package user

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// BenchmarkRecord is the price of booking one call in a batch of 1,000: without prices, and with a price, a budget of the tenant in money and one of the key in tokens.
func BenchmarkRecord(b *testing.B) {
	for name, priced := range map[string]bool{"free": false, "priced": true} {
		b.Run(name, func(b *testing.B) { benchRecord(b, priced) })
	}
}

func benchRecord(b *testing.B, priced bool) {
	b.Helper()
	w := &world{}
	d := dbtest.Open(b, tables...)
	w.Service = &Service{Deps: Deps{DB: d}, db: d.System(), metrics: newMetrics(nil)}
	w.Now, w.Log = w.clock, discard
	w.verifier = NewVerifier(w.Service, w.clock, discard)
	w.now = id.Time(id.New("req"))
	price := ""
	if priced {
		p, err := newPrice(NewPrice{Model: "m", Input: 123_457, Output: 654_321}, w.currency(), "usr_1", w.now)
		require.NoError(b, err)
		price = p.ID
		require.NoError(b, d.System().Tx(b.Context(), func(ctx context.Context, tx *db.Tx) error {
			require.NoError(b, insertTenant(ctx, tx, Tenant{ID: "ten_1", Name: "t"}, "t", w.now))
			require.NoError(b, insertPrice(ctx, tx, p, 2))
			for _, bud := range []Budget{{Subject: Subject{"tenant", "ten_1"}, Unit: meter.Money}, {Subject: Subject{"key", "key_1"}, Unit: meter.Tokens}} {
				bud.ID, bud.tenantID, bud.Limit, bud.Window, bud.Hard = id.New(budgetPrefix), "ten_1", 1<<50, ledger.Month, true
				require.NoError(b, insertBudget(ctx, tx, bud, 3))
			}
			return nil
		}))
	}
	var batch Batch
	batch.Node = "n"
	b.ReportAllocs()
	for b.Loop() {
		rid := id.New("req")
		batch.Rows = append(batch.Rows, Usage{RequestID: rid, At: id.Time(rid), TenantID: "ten_1", UserID: "usr_1", KeyID: "key_1", PriceVersion: price, Op: "chat", Model: "m", DeploymentID: "dep_1", ReplicaID: "rep_1", Status: 200, End: EndDone, Source: SourceUpstream, Attempts: 1, InFresh: 10, OutText: 20})
		if len(batch.Rows) == 1000 {
			batch.Seq++
			require.NoError(b, w.Record(b.Context(), batch))
			batch.Rows = batch.Rows[:0]
		}
	}
}

// BenchmarkLease is a node's lease of a prepaid wallet and its return.
func BenchmarkLease(b *testing.B) {
	w := &world{}
	d := dbtest.Open(b, tables...)
	w.Service = &Service{Deps: Deps{DB: d}, db: d.System(), metrics: newMetrics(nil)}
	w.Now, w.Log = w.clock, discard
	w.now = id.Time(id.New("req"))
	var wallet string
	require.NoError(b, d.System().Tx(b.Context(), func(ctx context.Context, tx *db.Tx) error {
		a, err := lockWallet(ctx, tx, "ten_1", w.currency(), w.now)
		wallet = a.id
		if err == nil {
			a.mode = Prepaid
			err = setWallet(ctx, tx, a, 2, w.now)
		}
		if err == nil {
			err = post(ctx, tx, posting{id: id.New("jnl"), tenant: "ten_1", kind: ledger.TopUp, ref: "1", amount: 1 << 40, at: w.now}, w.currency())
		}
		return err
	}))
	b.ReportAllocs()
	for b.Loop() {
		g, err := w.Lease(b.Context(), []meter.LeaseAsk{{ID: id.New("ask"), Node: "n", Target: wallet, Need: 10, Want: 1000}})
		require.NoError(b, err)
		require.NoError(b, w.Return(b.Context(), []meter.LeaseReturn{{LeaseID: g[0].LeaseID, Unused: g[0].Amount}}))
	}
}
