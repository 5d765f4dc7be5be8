package user

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// books is a world with an owner who runs the installation, and a node that books usage.
type books struct {
	*world
	owner  context.Context //nolint:containedctx // the person whose books these are
	tenant string
	user   string
	seq    int64
}

func newBooks(t *testing.T, w *world) *books {
	t.Helper()
	owner, tok := w.world(t)
	return &books{world: w, owner: owner, tenant: tok.User.Tenant.ID, user: tok.User.ID}
}

// world is the owner with the rights of the installation's operator.
func (w *world) world(t *testing.T) (context.Context, Tokens) {
	t.Helper()
	ctx, tok := w.owner(t)
	p, _ := auth.From(ctx)
	require.True(t, p.May("billing:operate"), "the first owner runs the installation")
	return ctx, tok
}

// call is a finished call of the owner, priced as a gateway would have pinned it.
func (b *books) call(u Usage) Usage {
	if u.At.IsZero() {
		u.At = b.clock()
	}
	u.RequestID, u.TenantID = id.New("req"), b.tenant
	if u.UserID == "" {
		u.UserID = b.user
	}
	if u.Model == "" {
		u.Model = "m"
	}
	if u.Source == "" {
		u.Source = SourceUpstream
	}
	if u.PriceVersion == "" {
		u.PriceVersion = b.verifier.Price(u.TenantID, u.Model, u.At).ID
	}
	u.Op, u.Status, u.End, u.Attempts = "chat", 200, EndDone, 1
	return u
}

func (b *books) book(t *testing.T, rows ...Usage) Batch {
	t.Helper()
	b.seq++
	batch := Batch{Node: "n1", Epoch: 1, Seq: b.seq, Rows: rows}
	require.NoError(t, b.Record(t.Context(), batch))
	return batch
}

func (b *books) price(t *testing.T, n NewPrice) Price {
	t.Helper()
	p, err := b.SetPrice(b.owner, n)
	require.NoError(t, err)
	return p
}

func (b *books) wallet(t *testing.T) Wallet {
	t.Helper()
	w, err := b.Wallet(b.owner, "")
	require.NoError(t, err)
	return w
}

func (b *books) prepaid(t *testing.T, micro int64) Wallet {
	t.Helper()
	mode := Prepaid
	w, err := b.SetWallet(b.owner, "", WalletPatch{Mode: &mode}, func(Wallet) error { return nil })
	require.NoError(t, err)
	_, err = b.Post(b.owner, w.ID, ledger.TopUp, Posting{AmountMicro: micro, Reference: "payment " + id.New("pay")})
	require.NoError(t, err)
	return b.wallet(t)
}

func (b *books) sound(t *testing.T) {
	t.Helper()
	require.NoError(t, b.sweepLeases(t.Context()), "as Run does every minute")
	r, err := b.VerifyLedger(b.owner)
	require.NoError(t, err)
	for _, c := range r.Checks {
		require.True(t, c.OK, "%s: %s", c.ID, c.Detail)
	}
	require.True(t, r.OK)
}

// A fresh installation has no prices: calls are booked, nothing is owed, nobody is refused.
func TestFreeCalls(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		p, _ := auth.From(b.owner)
		require.Zero(t, b.verifier.Charge(&p))
		b.book(t, b.call(Usage{InFresh: 1000, OutText: 100}))
		got := b.wallet(t)
		require.Zero(t, got.BalanceMicro)
		require.False(t, got.Limited)
		l, err := b.Journals(b.owner, JournalFilter{})
		require.NoError(t, err)
		require.Empty(t, l.Items)
		g, err := b.Lease(t.Context(), []meter.LeaseAsk{{ID: "a", Node: "n1", Target: got.ID, Need: 1, Want: 1}})
		require.NoError(t, err)
		require.True(t, g[0].Unlimited)
		b.sound(t)
	})
}

// A call costs what the version pinned at its admission says, to the pico-unit; fractions are carried from batch to batch and never lost.
func TestCallsAreBookedExactly(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		cached := int64(1)
		first := b.price(t, NewPrice{Model: "m", Input: 3, CachedInput: &cached, Output: 7, Request: 0})
		require.True(t, first.Current)
		old := b.call(Usage{InFresh: 100_001, InCache: 5, OutText: 3, OutReasoning: 2}) // 300,003 + 5 + 21 + 14 pico
		b.wait(time.Second)
		b.price(t, NewPrice{Model: "m", Input: 3_000_000, Output: 7_000_000, Request: 11})
		b.wait(0)
		young := b.call(Usage{InFresh: 10, OutText: 1}) // 30 + 7 + 11 micro
		require.NotEqual(t, old.PriceVersion, young.PriceVersion)
		batch := b.book(t, old, young)
		require.NoError(t, b.Record(t.Context(), batch), "a repeat changes nothing")
		require.EqualValues(t, -48, b.wallet(t).BalanceMicro)
		for range 9 {
			b.book(t, b.call(Usage{PriceVersion: old.PriceVersion, InFresh: 100_001})) // 300,003 pico each
		}
		// 300,043 + 9 * 300,003 pico = 3 micro and 70 pico
		require.EqualValues(t, -51, b.wallet(t).BalanceMicro)
		r, err := b.Request(b.owner, old.RequestID)
		require.NoError(t, err)
		require.EqualValues(t, 300_043, r.PricePico)
		require.Equal(t, first.ID, r.PriceVersion)
		b.sound(t)

		// the same rows in another batch, as after a restart of a node: each request is booked once
		b.book(t, old, young)
		require.EqualValues(t, -51, b.wallet(t).BalanceMicro)
		// a call that no engine answered is free, also of the price per request
		b.book(t, b.call(Usage{Source: SourceNone}))
		require.EqualValues(t, -51, b.wallet(t).BalanceMicro)
		b.sound(t)
	})
}

func TestPrices(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		now := b.clock()
		b.price(t, NewPrice{Model: "*", Input: 1})
		b.price(t, NewPrice{Model: "m", Input: 2})
		own := b.price(t, NewPrice{Model: "m", Input: 3, TenantID: b.tenant})
		tomorrow := now.Add(24 * time.Hour)
		next := b.price(t, NewPrice{Model: "m", Input: 4, TenantID: b.tenant, ValidFrom: &tomorrow})
		require.False(t, next.Current)
		at := func(tenant, model string, at time.Time) int64 { return b.verifier.Price(tenant, model, at).Input }
		require.EqualValues(t, 1, at("ten_x", "other", now))
		require.EqualValues(t, 2, at("ten_x", "m", now))
		require.EqualValues(t, 3, at(b.tenant, "m", now))
		require.EqualValues(t, 3, at(b.tenant, "m", tomorrow.Add(-time.Microsecond)))
		require.EqualValues(t, 4, at(b.tenant, "m", tomorrow))
		require.Empty(t, b.verifier.Price(b.tenant, "m", now.Add(-time.Hour)).ID, "nothing had a price then")
		_, err := b.SetPrice(b.owner, NewPrice{Model: "m", Input: 5, TenantID: b.tenant, ValidFrom: &tomorrow})
		require.ErrorIs(t, err, ErrPriceConflict)
		yesterday := now.Add(-24 * time.Hour)
		for _, n := range []NewPrice{{Model: " "}, {Model: "m", Currency: "XXX"}, {Model: "m", ValidFrom: &yesterday}, {Model: "m", Input: -1}, {Model: "m", Request: priceMost + 1}, {Model: "m", TenantID: "ten_none"}} {
			_, err := b.SetPrice(b.owner, n)
			require.ErrorIs(t, err, ErrPriceFields, "%+v", n)
		}
		l, err := b.Prices(b.owner, PriceFilter{})
		require.NoError(t, err)
		require.Len(t, l.Items, 4)
		require.Equal(t, next.ID, l.Items[0].ID)
		current, err := b.CurrentPrices(b.owner)
		require.NoError(t, err)
		require.Len(t, current, 2)
		for _, p := range current {
			if p.Model == "m" {
				require.Equal(t, own.ID, p.ID)
				require.Equal(t, tomorrow.UTC(), p.ValidUntil)
			}
		}
		// what providers take is the operator's to see
		b.price(t, NewPrice{Model: "m", Provider: "prv_1", Input: 1_000_000})
		viewer, _ := w.as(t, b.owner, Viewer)
		l, err = b.Prices(viewer, PriceFilter{Cost: true})
		require.NoError(t, err)
		require.Len(t, l.Items, 4)
		b.book(t, b.call(Usage{ProviderID: "prv_1", InFresh: 5}))
		rev, err := b.Revenue(b.owner, RevenueQuery{From: now.Add(-time.Hour), To: now.Add(time.Hour), Bucket: "1d", GroupBy: "model"})
		require.NoError(t, err)
		require.EqualValues(t, 5, rev.Totals.CostMicro)
	})
}

func TestWallets(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		wal := b.prepaid(t, 1_000_000)
		require.EqualValues(t, 1_000_000, wal.BalanceMicro)
		require.True(t, wal.Limited)
		p, _ := auth.From(b.owner)
		require.Equal(t, wal.ID, b.verifier.Charge(&p).Wallet)

		_, err := b.Post(b.owner, wal.ID, ledger.TopUp, Posting{AmountMicro: 5, Reference: "r1"})
		require.NoError(t, err)
		_, err = b.Post(b.owner, wal.ID, ledger.TopUp, Posting{AmountMicro: 5, Reference: "r1"})
		require.ErrorIs(t, err, ErrPosted)
		j, err := b.Post(b.owner, wal.ID, ledger.Adjust, Posting{AmountMicro: -7, Reference: "r1", Note: "counted wrongly"})
		require.NoError(t, err)
		require.EqualValues(t, -7, j.AmountMicro)
		require.Len(t, j.Entries, 2)
		_, err = b.Post(b.owner, wal.ID, ledger.Refund, Posting{AmountMicro: 2, Reference: "req_1"})
		require.NoError(t, err)
		_, err = b.Post(b.owner, wal.ID, ledger.Payout, Posting{AmountMicro: 2_000_000, Reference: "back"})
		require.ErrorIs(t, err, ErrBalance)
		_, err = b.Post(b.owner, wal.ID, ledger.Payout, Posting{AmountMicro: 1_000_000, Reference: "back"})
		require.NoError(t, err)
		for kind, bad := range map[ledger.JournalKind]Posting{ledger.TopUp: {AmountMicro: -1, Reference: "x"}, ledger.Adjust: {AmountMicro: 1, Reference: "x"}, ledger.Refund: {AmountMicro: 1}} {
			_, err := b.Post(b.owner, wal.ID, kind, bad)
			require.ErrorIs(t, err, ErrPostingFields, kind)
		}
		_, err = b.Post(b.owner, "wal_none", ledger.TopUp, Posting{AmountMicro: 1, Reference: "x"})
		require.ErrorIs(t, err, ErrWalletNotFound)
		require.EqualValues(t, 0, b.wallet(t).BalanceMicro)
		l, err := b.Journals(b.owner, JournalFilter{})
		require.NoError(t, err)
		require.Len(t, l.Items, 5)
		got, err := b.Journal(b.owner, l.Items[0].ID)
		require.NoError(t, err)
		require.Equal(t, ledger.Payout, got.Kind)
		_, err = b.Journal(b.owner, "jnl_none")
		require.ErrorIs(t, err, ErrJournalNotFound)
		b.sound(t)
	})
}

// Two nodes never get the same money; what was leased and not spent comes back; what a dead node held is free after the grace; usage that comes even later is booked all the same.
func TestLeases(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		price := b.price(t, NewPrice{Model: "m", Input: 1_000_000}) // a token is a micro-unit
		wal := b.prepaid(t, 1000)
		ask := func(node, aid string, need, want int64) meter.Grant {
			g, err := b.Lease(t.Context(), []meter.LeaseAsk{{ID: aid, Node: node, Epoch: 1, Target: wal.ID, Need: need, Want: want}})
			require.NoError(t, err)
			return g[0]
		}
		g := ask("n1", "a1", 10, 10_000)
		require.EqualValues(t, 250, g.Amount, "a quarter of what is left, for one node")
		require.EqualValues(t, 750, g.Left)
		again := ask("n1", "a1", 10, 10_000)
		require.Equal(t, g.LeaseID, again.LeaseID, "a repeat is answered with the same lease")
		require.EqualValues(t, 250, b.wallet(t).LeasedMicro)
		g2 := ask("n2", "a2", 600, 600)
		require.EqualValues(t, 600, g2.Amount, "never less than what is needed")
		require.Zero(t, ask("n2", "a3", 151, 151).Amount, "refused: 150 are left")

		b.book(t, b.call(Usage{InFresh: 100, PriceVersion: price.ID})) // by n1
		require.EqualValues(t, 150+600, b.wallet(t).LeasedMicro)
		require.NoError(t, b.Return(t.Context(), []meter.LeaseReturn{{LeaseID: g.LeaseID, Spent: 120, Unused: 130}}))
		require.NoError(t, b.Return(t.Context(), []meter.LeaseReturn{{LeaseID: g.LeaseID, Spent: 120, Unused: 130}}))
		require.EqualValues(t, 20+600, b.wallet(t).LeasedMicro, "20 were spent and wait for their usage")
		b.book(t, b.call(Usage{InFresh: 20}))
		require.EqualValues(t, 600, b.wallet(t).LeasedMicro)
		require.Zero(t, ask("n1", "a1", 1, 1).Amount, "the ask of a closed lease gives nothing new")

		// n2 dies: its lease is lost, what it holds is kept for a while, then free again
		b.wait(leaseKeep + time.Second)
		require.NoError(t, b.sweepLeases(t.Context()))
		require.EqualValues(t, 600, b.wallet(t).LeasedMicro)
		b.sound(t)
		b.wait(leaseGrace)
		require.NoError(t, b.sweepLeases(t.Context()))
		require.Zero(t, b.wallet(t).LeasedMicro)
		require.NoError(t, b.Record(t.Context(), Batch{Node: "n2", Epoch: 1, Seq: 1, Rows: []Usage{b.call(Usage{InFresh: 5000, PriceVersion: price.ID})}}))
		require.EqualValues(t, 1000-120-5000, b.wallet(t).BalanceMicro, "nothing is lost: the wallet goes below zero")
		require.Zero(t, ask("n1", "a4", 1, 1).Amount)
		b.sound(t)
		_, err := b.Lease(t.Context(), []meter.LeaseAsk{{ID: "x", Node: "n"}})
		require.ErrorIs(t, err, ErrLease)
	})
}

// A lease that usage of another lease has drained gives back all the same what was not spent on it.
func TestLeaseReturnedAfterOthersWereBooked(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		price := b.price(t, NewPrice{Model: "m", Input: 1_000_000})
		wal := b.prepaid(t, 10_000)
		g, err := b.Lease(t.Context(), []meter.LeaseAsk{{ID: "1", Node: "n1", Target: wal.ID, Need: 100, Want: 100}, {ID: "2", Node: "n1", Target: wal.ID, Need: 100, Want: 100}})
		require.NoError(t, err)
		b.book(t, b.call(Usage{InFresh: 100, PriceVersion: price.ID})) // 60 were spent on the first, 40 on the second
		require.NoError(t, b.Return(t.Context(), []meter.LeaseReturn{{LeaseID: g[0].LeaseID, Spent: 60, Unused: 40}}))
		require.EqualValues(t, 60, b.wallet(t).LeasedMicro)
		require.NoError(t, b.Return(t.Context(), []meter.LeaseReturn{{LeaseID: g[1].LeaseID, Spent: 40, Unused: 60}}))
		require.Zero(t, b.wallet(t).LeasedMicro)
		b.sound(t)
	})
}

func TestBudgets(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		key, err := w.MakeKey(b.owner, NewKey{Name: "k"})
		require.NoError(t, err)
		b.book(t, b.call(Usage{KeyID: key.ID, InFresh: 30, OutText: 10}))
		bud, err := b.MakeBudget(b.owner, NewBudget{Subject: Subject{"key", key.ID}, Unit: meter.Tokens, Limit: 100, Window: ledger.Day, Hard: true, Name: "trial"})
		require.NoError(t, err)
		require.EqualValues(t, 40, bud.Used, "what was used today counts")
		require.Equal(t, BudgetOK, bud.State)
		cred := w.ctx(t, key.Secret)
		p, _ := auth.From(cred)
		require.Equal(t, []BudgetRef{{bud.ID, "key", meter.Tokens, true}}, b.verifier.Charge(&p).Budgets)

		lease := func(aid string, need, want int64) meter.Grant {
			g, err := b.Lease(t.Context(), []meter.LeaseAsk{{ID: aid, Node: "n1", Target: bud.ID, Need: need, Want: want}})
			require.NoError(t, err)
			return g[0]
		}
		g := lease("1", 20, 50)
		require.EqualValues(t, 20, g.Amount)
		require.Equal(t, bud.PeriodEnd, g.PeriodEnd)
		require.Zero(t, lease("2", 41, 41).Amount)
		b.book(t, b.call(Usage{KeyID: key.ID, InFresh: 41}))
		got, err := b.Budget(b.owner, bud.ID)
		require.NoError(t, err)
		require.EqualValues(t, 81, got.Used)
		require.Zero(t, got.Leased)
		require.Equal(t, BudgetWarn, got.State)
		require.Equal(t, []int64{80}, told(t, b, bud.ID), "one step in one go: the highest")
		b.book(t, b.call(Usage{KeyID: key.ID, OutText: 30}), b.call(Usage{InFresh: 7})) // the second is not of the key
		got, err = b.Budget(b.owner, bud.ID)
		require.NoError(t, err)
		require.EqualValues(t, 111, got.Used, "what was used is counted, also beyond the limit")
		require.Equal(t, BudgetExhausted, got.State)
		require.Zero(t, got.Left)
		require.Zero(t, lease("3", 1, 1).Amount)

		_, err = b.RaiseBudget(b.owner, bud.ID, Raise{Amount: 100, Until: b.clock().Add(time.Hour)})
		require.ErrorIs(t, err, ErrBudgetFields)
		got, err = b.RaiseBudget(b.owner, bud.ID, Raise{Amount: 100, Until: b.clock().Add(time.Hour), Reason: "launch"})
		require.NoError(t, err)
		require.EqualValues(t, 89, got.Left)
		require.NotZero(t, lease("4", 1, 1).Amount)
		b.wait(time.Hour + leaseKeep)
		require.Zero(t, lease("5", 1, 1).Amount, "the raise is over")
		b.sound(t)

		// a new day: everything begins anew
		b.wait(24 * time.Hour)
		got, err = b.Budget(b.owner, bud.ID)
		require.NoError(t, err)
		require.Zero(t, got.Used)
		require.EqualValues(t, 100, lease("6", 100, 100).Amount)
		b.sound(t)

		soft := false
		got, err = b.UpdateBudget(b.owner, bud.ID, BudgetPatch{Hard: &soft}, func(Budget) error { return nil })
		require.NoError(t, err)
		require.False(t, got.Hard)
		require.True(t, lease("7", 1000, 1000).Unlimited, "a soft one refuses nothing")
		require.NoError(t, b.DeleteBudget(b.owner, bud.ID))
		_, err = b.Budget(b.owner, bud.ID)
		require.ErrorIs(t, err, ErrBudgetNotFound)
		require.Empty(t, b.verifier.Charge(&p).Budgets)
		require.True(t, lease("8", 1000, 1000).Unlimited)
	})
}

// told lists the announcements of a budget.
func told(t *testing.T, b *books, bid string) []int64 {
	t.Helper()
	var out []int64
	require.NoError(t, b.db.Read(t.Context(), func(ctx context.Context, q *db.Query) error {
		list, err := db.List(ctx, q, db.Scalar[string], `SELECT data FROM event_outbox WHERE topic = 'user.budget.reached' AND key = $1 ORDER BY id`, bid)
		for _, text := range list {
			var e BudgetReached
			require.NoError(t, json.Unmarshal([]byte(text), &e))
			out = append(out, e.Percent)
		}
		return err
	}))
	return out
}

func TestBudgetOfEachSubject(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		b.price(t, NewPrice{Model: "m", Input: 500_000}) // half a micro-unit a token
		_, err := b.MakeBudget(b.owner, NewBudget{Subject: Subject{"user", "usr_none"}, Unit: meter.Tokens, Limit: 1, Window: ledger.Day})
		require.ErrorIs(t, err, ErrBudgetFields)
		month, err := b.MakeBudget(b.owner, NewBudget{Subject: Subject{Kind: "tenant"}, Unit: meter.Money, Limit: 1000, Window: ledger.Month, Hard: true})
		require.NoError(t, err)
		all, err := b.MakeBudget(b.owner, NewBudget{Subject: Subject{"user", b.user}, Unit: meter.Requests, Limit: 3, Window: ledger.Total})
		require.NoError(t, err)
		for i := range 3 {
			b.book(t, b.call(Usage{InFresh: int64(1 + 2*i)})) // 0.5, 1.5, 2.5 micro-units
		}
		b.book(t, b.call(Usage{Source: SourceNone}))
		got, err := b.Budget(b.owner, month.ID)
		require.NoError(t, err)
		require.EqualValues(t, 4, got.Used)
		got, err = b.Budget(b.owner, all.ID)
		require.NoError(t, err)
		require.EqualValues(t, 3, got.Used)
		require.Equal(t, BudgetExhausted, got.State)
		require.Equal(t, []int64{50, 100}, told(t, b, all.ID)) // 1 of 3 is below half, 2 are above
		q, err := b.MyQuota(b.owner)
		require.NoError(t, err)
		require.Len(t, q.Budgets, 2)
		require.Nil(t, q.BalanceMicro)
		viewer, _ := w.as(t, b.owner, Viewer)
		l, err := b.Budgets(viewer, BudgetFilter{})
		require.NoError(t, err)
		require.Len(t, l.Items, 1, "the organisation's, not the owner's")
		l, err = b.Budgets(b.owner, BudgetFilter{})
		require.NoError(t, err)
		require.Len(t, l.Items, 2)
		for i := range budgetsPerPerson - 1 {
			_, err = b.MakeBudget(b.owner, NewBudget{Subject: Subject{Kind: "tenant"}, Unit: meter.Tokens, Limit: 1, Window: ledger.Week, Name: strconv.Itoa(i)})
			require.NoError(t, err)
		}
		_, err = b.MakeBudget(b.owner, NewBudget{Subject: Subject{Kind: "tenant"}, Unit: meter.Tokens, Limit: 1, Window: ledger.Week})
		require.ErrorIs(t, err, ErrBudgets)
		b.sound(t)
	})
}

// limitedWallet is the wallet of a tenant with a little money that refuses when it is used up.
func (w *world) limitedWallet(t *testing.T, owner context.Context) string {
	t.Helper()
	mode := Prepaid
	wal, err := w.SetWallet(owner, "", WalletPatch{Mode: &mode}, func(Wallet) error { return nil })
	require.NoError(t, err)
	_, err = w.Post(owner, wal.ID, ledger.TopUp, Posting{AmountMicro: 1000, Reference: "first"})
	require.NoError(t, err)
	return wal.ID
}
