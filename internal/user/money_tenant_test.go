package user

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// The owner of one organisation sees and changes nothing of another's money; the operator does, by naming it.
func TestMoneyOfOthers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := newTeam(t, w)
		first, _ := auth.From(m.owner)
		mine, err := w.Wallet(m.owner, "")
		require.NoError(t, err)
		_, err = w.Wallet(m.stranger, first.TenantID)
		require.ErrorIs(t, err, ErrTenantNotFound)
		theirs, err := w.Wallet(m.owner, m.second)
		require.NoError(t, err)
		require.NotEqual(t, mine.ID, theirs.ID)
		require.Equal(t, m.second, theirs.TenantID)

		j, err := w.Post(m.owner, theirs.ID, ledger.TopUp, Posting{AmountMicro: 100, Reference: "theirs"})
		require.NoError(t, err)
		_, err = w.Post(m.owner, mine.ID, ledger.TopUp, Posting{AmountMicro: 7, Reference: "theirs"})
		require.NoError(t, err, "a reference is one per organisation")
		got, err := w.Journal(m.stranger, j.ID)
		require.NoError(t, err)
		require.Equal(t, m.second, got.TenantID)
		l, err := w.Journals(m.owner, JournalFilter{})
		require.NoError(t, err)
		require.Len(t, l.Items, 1)
		_, err = w.Journal(m.stranger, l.Items[0].ID)
		require.ErrorIs(t, err, ErrJournalNotFound)
		l, err = w.Journals(m.owner, JournalFilter{Tenant: m.second})
		require.NoError(t, err)
		require.Len(t, l.Items, 1)

		bud, err := w.MakeBudget(m.owner, NewBudget{Subject: Subject{Kind: "tenant"}, Unit: meter.Tokens, Limit: 5, Window: ledger.Day})
		require.NoError(t, err)
		_, err = w.Budget(m.stranger, bud.ID)
		require.ErrorIs(t, err, ErrBudgetNotFound)
		require.ErrorIs(t, w.DeleteBudget(m.stranger, bud.ID), ErrBudgetNotFound)
		_, err = w.RaiseBudget(m.stranger, bud.ID, Raise{})
		require.ErrorIs(t, err, ErrBudgetNotFound)
		_, err = w.MakeBudget(m.stranger, NewBudget{Subject: Subject{"tenant", first.TenantID}, Unit: meter.Tokens, Limit: 5, Window: ledger.Day})
		require.ErrorIs(t, err, ErrBudgetFields)
		_, err = w.MakeBudget(m.stranger, NewBudget{Subject: Subject{"user", first.UserID}, Unit: meter.Tokens, Limit: 5, Window: ledger.Day})
		require.ErrorIs(t, err, ErrBudgetFields)

		month := w.clock().AddDate(0, -1, -3).Format("2006-01")
		inv, err := w.MakeInvoice(m.owner, m.second, month)
		require.NoError(t, err)
		_, err = w.Invoice(m.stranger, inv.ID)
		require.ErrorIs(t, err, ErrInvoiceNotFound, "a draft is the operator's")
		inv, err = w.IssueInvoice(m.owner, inv.ID)
		require.NoError(t, err)
		_, err = w.Invoice(m.stranger, inv.ID)
		require.NoError(t, err)
		list, err := w.Invoices(m.owner, InvoiceFilter{})
		require.NoError(t, err)
		require.Empty(t, list.Items)
		list, err = w.Invoices(m.owner, InvoiceFilter{Tenant: "*"})
		require.NoError(t, err)
		require.Len(t, list.Items, 1)
		_, err = w.Invoices(m.stranger, InvoiceFilter{Tenant: "*"})
		require.ErrorIs(t, err, ErrTenantNotFound)
		st, err := w.Statement(m.owner, m.second, "")
		require.NoError(t, err)
		require.EqualValues(t, 100, st.ClosingMicro)

		// a price of one organisation is not the other's, nor theirs to see
		p, err := w.SetPrice(m.owner, NewPrice{Model: "m", Input: 9, TenantID: m.second})
		require.NoError(t, err)
		require.Equal(t, p.ID, w.verifier.Price(m.second, "m", w.clock()).ID)
		require.Empty(t, w.verifier.Price(first.TenantID, "m", w.clock()).ID)
		prices, err := w.Prices(m.stranger, PriceFilter{})
		require.NoError(t, err)
		require.Len(t, prices.Items, 1)
		dev, _ := w.as(t, m.owner, Developer)
		prices, err = w.Prices(dev, PriceFilter{})
		require.NoError(t, err)
		require.Empty(t, prices.Items)

		// a batch may hold calls of many organisations
		rid := func() string { return id.New("req") }
		require.NoError(t, w.Record(t.Context(), Batch{Node: "n", Epoch: 1, Seq: 1, Rows: []Usage{
			{RequestID: rid(), At: w.clock(), TenantID: first.TenantID, Model: "m", Source: SourceUpstream, InFresh: 1_000_000},
			{RequestID: rid(), At: w.clock(), TenantID: m.second, Model: "m", Source: SourceUpstream, InFresh: 1_000_000, PriceVersion: p.ID},
		}}))
		w.wait(time.Second)
		rev, err := w.Revenue(m.owner, RevenueQuery{GroupBy: "tenant"})
		require.NoError(t, err)
		require.Len(t, rev.Items, 2)
		require.EqualValues(t, 9, rev.Totals.RevenueMicro)
		theirs, err = w.Wallet(m.stranger, "")
		require.NoError(t, err)
		require.EqualValues(t, 91, theirs.BalanceMicro)
		r, err := w.VerifyLedger(m.owner)
		require.NoError(t, err)
		require.True(t, r.OK, "%+v", r)
	})
}

// A postpaid wallet with a credit is a ceiling of debt; a prepaid one with a credit may go below zero by it.
func TestCredit(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		credit := int64(50)
		for i, mode := range []string{Postpaid, Prepaid} {
			wal, err := b.SetWallet(b.owner, "", WalletPatch{Mode: &mode, CreditMicro: &credit}, func(Wallet) error { return nil })
			require.NoError(t, err)
			require.True(t, wal.Limited)
			g, err := b.Lease(t.Context(), []meter.LeaseAsk{{ID: mode, Node: "n1", Target: wal.ID, Need: 51, Want: 51}, {ID: mode + "2", Node: "n1", Target: wal.ID, Need: 50, Want: 90}})
			require.NoError(t, err)
			require.Zero(t, g[0].Amount, mode)
			require.EqualValues(t, 50, g[1].Amount, mode)
			require.Zero(t, g[1].Left)
			require.NoError(t, b.Return(t.Context(), []meter.LeaseReturn{{LeaseID: g[1].LeaseID, Unused: 50}}), i)
		}
		zero := int64(0)
		mode := Postpaid
		wal, err := b.SetWallet(b.owner, "", WalletPatch{Mode: &mode, CreditMicro: &zero}, func(Wallet) error { return nil })
		require.NoError(t, err)
		require.False(t, wal.Limited)
		b.sound(t)
	})
}
