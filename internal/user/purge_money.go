package user

import (
	"context"

	"maas/internal/platform/db"
)

// numberedInvoices is the one table of tenants that a purge does not empty.
const numberedInvoices = "user_invoice"

// purgeMoney deletes the money of a tenant for good: usage, prices of its own, leases, budgets, and the whole of its ledger, in one transaction, so that the books add up before and after. Invoices that had a
// number stay: who issues them must keep them, and a gap in the numbers would look like a lost one.
func purgeMoney(ctx context.Context, tx *db.Tx, tenant string) error {
	for _, text := range []string{
		`DELETE FROM user_lease WHERE tenant_id = $1`,
		`DELETE FROM user_budget_period WHERE tenant_id = $1`,
		`DELETE FROM user_budget WHERE tenant_id = $1`,
		`DELETE FROM user_price WHERE tenant_id = $1 AND tenant_id <> ''`,
		`DELETE FROM user_usage WHERE tenant_id = $1`,
		`DELETE FROM user_entry WHERE tenant_id = $1`,
		`DELETE FROM user_journal WHERE tenant_id = $1`,
		`DELETE FROM user_account WHERE tenant_id = $1`,
		`DELETE FROM user_invoice WHERE tenant_id = $1 AND number = ''`,
	} {
		if _, err := tx.Exec(ctx, text, tenant); err != nil {
			return err
		}
	}
	return nil
}
