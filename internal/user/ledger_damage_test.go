package user

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// Each damage is one that the ledger's check must see, and no other check may mistake for its own without naming it here.
var damages = []struct {
	name, sql string
	finds     []string
}{
	{"an entry was changed", `UPDATE user_entry SET amount_micro = amount_micro + 1 WHERE no = 1 AND journal_id = (SELECT id FROM user_journal WHERE kind = 'topup')`, []string{"journals_zero", "balances"}},
	{"an entry is gone", `DELETE FROM user_entry WHERE no = 2 AND journal_id = (SELECT id FROM user_journal WHERE kind = 'topup')`, []string{"journals_zero", "balances"}},
	{"both entries are gone", `DELETE FROM user_entry WHERE journal_id = (SELECT id FROM user_journal WHERE kind = 'topup')`, []string{"journals_whole", "balances"}},
	{"a balance was changed", `UPDATE user_account SET balance_micro = balance_micro + 1000000 WHERE kind = 'wallet'`, []string{"balances", "accounts_zero"}},
	{"a usage row is gone", `DELETE FROM user_usage WHERE request_id = (SELECT MIN(request_id) FROM user_usage)`, []string{"usage_posted", "budgets_used"}},
	{"the price of a call was changed", `UPDATE user_usage SET price_pico = price_pico + 1 WHERE request_id = (SELECT MIN(request_id) FROM user_usage)`, []string{"usage_posted"}},
	{"tokens of a call were changed", `UPDATE user_usage SET in_fresh = in_fresh + 1 WHERE request_id = (SELECT MIN(request_id) FROM user_usage)`, []string{"budgets_used"}},
	{"the carried rest was lost", `UPDATE user_account SET carry_pico = 0 WHERE kind = 'wallet'`, []string{"usage_posted"}},
	{"a request stands in two partitions", `INSERT INTO user_usage (day, request_id, at, tenant_id, user_id, key_id, op, model, deployment_id, replica_id, stream, status, ended, source, attempts, in_fresh, in_cache, out_text, out_reasoning, ttft_ms, duration_ms, client_request_id)
		SELECT day + 1, request_id, 1, tenant_id, user_id, key_id, op, model, deployment_id, replica_id, stream, status, ended, source, attempts, 0, 0, 0, 0, 0, 0, '' FROM user_usage WHERE request_id = (SELECT MIN(request_id) FROM user_usage)`, []string{"requests_once"}},
	{"a lease was forgotten", `UPDATE user_lease SET expires_at = 1 WHERE state = 'open'`, []string{"leases_due"}},
	{"a lease vanished", `DELETE FROM user_lease WHERE target LIKE 'wal_%'`, []string{"wallets_leased"}},
	{"a lease of a budget grew", `UPDATE user_lease SET amount = amount + 1 WHERE target LIKE 'bud_%'`, []string{"budgets_leased"}},
	{"a budget forgot what was used", `UPDATE user_budget_period SET used = used - 1`, []string{"budgets_used"}},
	{"the wallet of a paying tenant is gone", `UPDATE user_account SET tenant_id = 'ten_other'`, []string{"usage_posted", "usage_wallets"}},
}

func TestDamagedLedgerIsSeen(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, dmg := range damages {
		for _, f := range dmg.finds {
			names[f] = true
		}
		t.Run(dmg.name, func(t *testing.T) {
			t.Parallel()
			dbtest.Each(t, func(t *testing.T, d *db.DB) {
				b := newBooks(t, newWorld(t, d))
				b.price(t, NewPrice{Model: "m", Input: 700_001})
				wal := b.prepaid(t, 1_000_000)
				bud, err := b.MakeBudget(b.owner, NewBudget{Subject: Subject{Kind: "tenant"}, Unit: meter.Tokens, Limit: 1_000_000, Window: ledger.Month, Hard: true})
				require.NoError(t, err)
				for range 3 {
					b.book(t, b.call(Usage{InFresh: 11}))
				}
				g, err := b.Lease(t.Context(), []meter.LeaseAsk{{ID: "1", Node: "n1", Target: wal.ID, Need: 5, Want: 5}, {ID: "2", Node: "n1", Target: bud.ID, Need: 5, Want: 5}})
				require.NoError(t, err)
				require.NotZero(t, g[0].Amount*g[1].Amount)
				b.sound(t)
				require.NoError(t, d.System().Tx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
					n, err := tx.Exec(ctx, dmg.sql)
					require.NotZero(t, n, "the damage was done")
					return err
				}))
				r, err := b.VerifyLedger(b.owner)
				require.NoError(t, err)
				require.False(t, r.OK)
				var found []string
				for _, c := range r.Checks {
					if !c.OK {
						found = append(found, c.ID)
						require.Contains(t, c.Detail, "not so")
					}
				}
				slices.Sort(found)
				want := slices.Sorted(slices.Values(dmg.finds))
				require.Equal(t, want, found)
			}, tables...)
		})
	}
	for _, inv := range invariants {
		require.True(t, names[inv.id], "no damage tests %s", inv.id)
	}
	require.True(t, names["budgets_used"])
}
