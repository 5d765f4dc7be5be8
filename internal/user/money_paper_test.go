package user

import (
	"bytes"
	"context"
	"encoding/csv"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// at sets the clock of a world.
func (w *world) at(t time.Time) { w.wait(t.Sub(w.clock())) }

// A month is counted in the time zone of the organisation; its lines add up to its total and the wallet's movements to its balance.
func TestStatementAndInvoice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		zone := "Asia/Shanghai"
		_, err := w.UpdateTenant(b.owner, b.tenant, TenantPatch{Timezone: &zone}, func(TenantDetail) error { return nil })
		require.NoError(t, err)
		b.price(t, NewPrice{Model: "甲", Input: 400_001})
		b.price(t, NewPrice{Model: "乙", Input: 400_001, Output: 1_000_000})
		now := b.clock().In(location(zone))
		start := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, location(zone)) // of the next month: the whole of it lies ahead
		end := start.AddDate(0, 1, 0)
		month := start.Format("2006-01")
		call := func(at time.Time, u Usage) {
			b.at(at)
			u.At = at
			row := b.call(u)
			row.RequestID = requestAt(at)
			b.book(t, row)
		}
		call(start.Add(-time.Second), Usage{Model: "甲", InFresh: 1_000_000}) // the month before
		call(start, Usage{Model: "甲", InFresh: 1})
		call(start.Add(time.Hour), Usage{Model: "甲", InFresh: 1, OutReasoning: 2})
		call(end.Add(-time.Second), Usage{Model: "乙", InFresh: 2, InCache: 1, OutText: 7})
		_, err = b.Post(b.owner, b.wallet(t).ID, ledger.TopUp, Posting{AmountMicro: 500_000, Reference: "bank 1"})
		require.NoError(t, err)
		st, err := b.Statement(b.owner, "", month)
		require.NoError(t, err)
		require.False(t, st.Complete)
		require.Equal(t, start.UTC(), st.From)
		require.Equal(t, end.UTC(), st.To)
		require.Len(t, st.Lines, 2)
		require.Equal(t, "乙", st.Lines[0].Model)
		require.EqualValues(t, 8, st.Lines[0].AmountMicro) // 3 * 400,001 + 7,000,000 pico = 8.2 micro
		require.EqualValues(t, 1, st.Lines[1].AmountMicro) // 2 * 400,001 pico: 0.8 micro, and the total passes 9
		require.EqualValues(t, 9, st.TotalMicro)
		require.EqualValues(t, -400_001, st.OpeningMicro)
		require.EqualValues(t, -400_001-9+500_000, st.ClosingMicro)
		require.Equal(t, b.wallet(t).BalanceMicro, st.ClosingMicro)

		_, err = b.Statement(b.owner, "", "2026-13")
		require.ErrorIs(t, err, ErrMonth)
		viewer, _ := w.as(t, b.owner, Viewer)
		_, err = b.Statement(viewer, "ten_other", month)
		require.ErrorIs(t, err, ErrTenantNotFound)

		b.Config.Billing = BillingConfig{Seller: "MaaS 有限公司", SellerDetails: "街 1 | VAT 7", TaxPercent: "6.5"}
		inv, err := b.MakeInvoice(b.owner, "", month)
		require.NoError(t, err)
		require.Equal(t, InvoiceDraft, inv.State)
		_, err = b.MakeInvoice(b.owner, "", month)
		require.ErrorIs(t, err, ErrInvoiceExists)
		_, err = b.IssueInvoice(b.owner, inv.ID)
		require.ErrorIs(t, err, ErrInvoiceOpen)
		b.at(end.Add(time.Hour))
		inv, err = b.IssueInvoice(b.owner, inv.ID)
		require.NoError(t, err)
		require.Regexp(t, `^INV-\d{4}-000001$`, inv.Number)
		require.EqualValues(t, 9, inv.NetMicro)
		require.EqualValues(t, 1, inv.TaxMicro)
		require.EqualValues(t, 10, inv.TotalMicro)
		require.Equal(t, []string{"MaaS 有限公司", "街 1", "VAT 7"}, inv.Seller)
		_, err = b.IssueInvoice(b.owner, inv.ID)
		require.ErrorIs(t, err, ErrInvoiceState)
		_, err = b.VoidInvoice(b.owner, inv.ID, " ")
		require.ErrorIs(t, err, ErrPostingFields)
		void, err := b.VoidInvoice(b.owner, inv.ID, "wrong address")
		require.NoError(t, err)
		require.Equal(t, inv.Number, void.Number)
		again, err := b.MakeInvoice(b.owner, "", month)
		require.NoError(t, err)
		again, err = b.IssueInvoice(b.owner, again.ID)
		require.NoError(t, err)
		require.Regexp(t, `^INV-\d{4}-000002$`, again.Number)
		l, err := b.Invoices(b.owner, InvoiceFilter{})
		require.NoError(t, err)
		require.Len(t, l.Items, 2)
		got, err := b.Invoice(b.owner, again.ID)
		require.NoError(t, err)
		require.Equal(t, again.Lines, got.Lines)
		_, err = b.Invoice(viewer, "inv_none")
		require.ErrorIs(t, err, ErrInvoiceNotFound)
		b.sound(t)

		var out bytes.Buffer
		require.NoError(t, b.Export(b.owner, ExportQuery{From: start, To: end}, func() io.Writer { return &out }))
		rows, err := csv.NewReader(&out).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 4)
		require.Equal(t, "0.400001", rows[1][22])
	})
}

// requestAt is the id of a request that begins at a moment.
func requestAt(at time.Time) string {
	u := id.New("req")
	ms := at.UnixMilli()
	const hexa = "0123456789abcdef"
	b := []byte(u)
	for i := range 12 {
		b[4+11-i] = hexa[ms&15]
		ms >>= 4
	}
	return string(b)
}

func TestForecastOfTheMonth(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		f, err := b.Forecast(b.owner, "")
		require.NoError(t, err)
		require.Zero(t, f.ForecastMicro)
		b.price(t, NewPrice{Model: "m", Input: 1_000_000})
		now := b.clock()
		start := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		for day := range 20 {
			at := start.AddDate(0, 0, day).Add(12 * time.Hour)
			b.at(at)
			row := b.call(Usage{At: at, InFresh: 100})
			row.RequestID = requestAt(at)
			b.book(t, row)
		}
		f, err = b.Forecast(b.owner, start.Format("2006-01"))
		require.NoError(t, err)
		days := start.AddDate(0, 1, -1).Day()
		require.EqualValues(t, 2000, f.SpentMicro)
		require.InDelta(t, 100*days, f.ForecastMicro, 60, "half of today is still to come")
		require.Equal(t, 19, f.Days)
		_, err = b.Forecast(b.owner, start.AddDate(0, 2, 0).Format("2006-01"))
		require.ErrorIs(t, err, ErrMonth)
		b.at(start.AddDate(0, 1, 1))
		f, err = b.Forecast(b.owner, start.Format("2006-01"))
		require.NoError(t, err)
		require.EqualValues(t, 2000, f.ForecastMicro)
	})
}

func TestUsageByEveryGroup(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		b.price(t, NewPrice{Model: "m", Output: 2_000_000})
		b.book(t, b.call(Usage{ProjectID: "prj_1", ProviderID: "prv_1", OutText: 1, OutReasoning: 2}), b.call(Usage{ProjectID: "prj_2", OutText: 5}))
		for _, by := range []string{"project", "provider", "tenant", "model", "key", "user"} {
			r, err := b.Usage(b.owner, UsageQuery{From: b.clock().Add(-time.Hour), To: b.clock().Add(time.Hour), Bucket: "1d", GroupBy: []string{by}})
			require.NoError(t, err, by)
			require.EqualValues(t, 16, r.Totals.CostMicro, by)
			require.EqualValues(t, 2, r.Totals.ReasoningTokens, by)
			seen := map[string]bool{}
			for _, i := range r.Items {
				seen[i.ProjectID+i.ProviderID+i.TenantID] = true
			}
			switch by {
			case "project":
				require.True(t, seen["prj_1"] && seen["prj_2"])
			case "provider":
				require.True(t, seen["prv_1"] && seen[""])
			case "tenant":
				require.True(t, seen[b.tenant])
			}
		}
		admin, _ := w.as(t, b.owner, Admin)
		_, err := b.Usage(admin, UsageQuery{GroupBy: []string{"tenant"}})
		require.ErrorIs(t, err, auth.ErrForbidden)
		_, err = b.Usage(admin, UsageQuery{GroupBy: []string{"shoe"}})
		require.ErrorIs(t, err, ErrUsageQuery)
	})
}

func TestTaxPoints(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"": 0, "0": 0, "19": 1900, "6.5": 650, "0.07": 7, "100": 10_000} {
		n, err := taxPoints(text)
		require.NoError(t, err, text)
		require.Equal(t, want, n, text)
	}
	for _, bad := range []string{"x", "-1", "1.", ".5", "1.234", "101", "100.01", strings.Repeat("9", 30)} {
		_, err := taxPoints(bad)
		require.ErrorIs(t, err, ErrTaxPercent, bad)
	}
}

// What is purged of one tenant leaves books that add up, and the numbered invoices.
func TestPurgedMoney(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		b.price(t, NewPrice{Model: "m", Input: 1_000_000, TenantID: b.tenant})
		wal := b.prepaid(t, 1000)
		_, err := b.MakeBudget(b.owner, NewBudget{Subject: Subject{Kind: "tenant"}, Unit: meter.Tokens, Limit: 100, Window: ledger.Month, Hard: true})
		require.NoError(t, err)
		b.book(t, b.call(Usage{InFresh: 7}))
		_, err = b.Lease(t.Context(), []meter.LeaseAsk{{ID: "1", Node: "n1", Target: wal.ID, Need: 5, Want: 5}})
		require.NoError(t, err)
		month := b.clock().AddDate(0, -2, 0).Format("2006-01")
		inv, err := b.MakeInvoice(b.owner, "", month)
		require.NoError(t, err)
		_, err = b.IssueInvoice(b.owner, inv.ID)
		require.NoError(t, err)
		require.NoError(t, b.books().Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return purgeMoney(ctx, tx, b.tenant) }))
		b.sound(t)
		l, err := b.Invoices(b.owner, InvoiceFilter{})
		require.NoError(t, err)
		require.Len(t, l.Items, 1)
		require.NoError(t, b.books().Read(t.Context(), func(ctx context.Context, q *db.Query) error {
			for _, table := range []string{"user_usage", "user_entry", "user_journal", "user_account", "user_budget", "user_budget_period", "user_lease", "user_price"} {
				n, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM `+table)
				require.NoError(t, err)
				require.Zero(t, n, table)
			}
			return nil
		}))
	})
}
