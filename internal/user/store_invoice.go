package user

import (
	"context"
	"encoding/json"
	"strings"

	"maas/internal/platform/db"
)

func invoiceTexts(inv Invoice) (customer, seller, body string, err error) {
	b, err := json.Marshal(invoiceBody{inv.Lines, inv.zone, inv.TaxPercent})
	return strings.Join(inv.Customer, "\n"), strings.Join(inv.Seller, "\n"), string(b), err
}

func insertInvoice(ctx context.Context, tx *db.Tx, inv Invoice) error {
	customer, seller, body, err := invoiceTexts(inv)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_invoice (id, tenant_id, month, number, state, currency, net_micro, tax_micro, total_micro, customer, seller, body, void_reason, created_by, created_at, issued_at, voided_at, updated_at, rev)
		VALUES ($1, $2, $3, '', 'draft', $4, $5, $6, $7, $8, $9, $10, '', $11, $12, 0, 0, $12, 1)`,
		inv.ID, inv.TenantID, inv.Month, inv.Currency, inv.NetMicro, inv.TaxMicro, inv.TotalMicro, customer, seller, body, inv.CreatedBy, db.Micro(inv.CreatedAt))
	return err
}

func updateInvoice(ctx context.Context, tx *db.Tx, inv Invoice) error {
	customer, seller, body, err := invoiceTexts(inv)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `UPDATE user_invoice SET number = $3, state = $4, net_micro = $5, tax_micro = $6, total_micro = $7, customer = $8, seller = $9, body = $10, void_reason = $11, issued_at = $12, voided_at = $13, updated_at = $14, rev = rev + 1
		WHERE id = $1 AND rev = $2`, inv.ID, inv.Rev, inv.Number, inv.State, inv.NetMicro, inv.TaxMicro, inv.TotalMicro, customer, seller, body, inv.VoidReason, db.Micro(inv.IssuedAt), db.Micro(inv.VoidedAt), db.Micro(inv.UpdatedAt))
	return db.Guard(n, err, ErrInvoiceState)
}

// nextInvoice takes the next number of a year. Its row is locked until the commit, so numbers have no gaps.
func nextInvoice(ctx context.Context, tx *db.Tx, year int64) (int64, error) {
	if _, err := tx.Exec(ctx, `INSERT INTO user_invoice_number (year, last) VALUES ($1, 0) ON CONFLICT (year) DO NOTHING`, year); err != nil {
		return 0, err
	}
	return db.One(ctx, tx, db.Scalar[int64], `UPDATE user_invoice_number SET last = last + 1 WHERE year = $1 RETURNING last`, year)
}

const invoiceCols = `id, tenant_id, month, number, state, currency, net_micro, tax_micro, total_micro, customer, seller, body, void_reason, created_by, created_at, issued_at, voided_at, updated_at, rev FROM user_invoice `

func scanInvoice(r db.Row) (Invoice, error) {
	var inv Invoice
	var customer, seller, body string
	var created, issued, voided, updated int64
	if err := r.Scan(&inv.ID, &inv.TenantID, &inv.Month, &inv.Number, &inv.State, &inv.Currency, &inv.NetMicro, &inv.TaxMicro, &inv.TotalMicro, &customer, &seller, &body, &inv.VoidReason, &inv.CreatedBy,
		&created, &issued, &voided, &updated, &inv.Rev); err != nil {
		return inv, err
	}
	inv.CreatedAt, inv.IssuedAt, inv.VoidedAt, inv.UpdatedAt = db.FromMicro(created), db.FromMicro(issued), db.FromMicro(voided), db.FromMicro(updated)
	inv.Customer, inv.Seller = strings.Split(customer, "\n"), strings.Split(seller, "\n")
	var b invoiceBody
	err := json.Unmarshal([]byte(body), &b)
	inv.Lines, inv.zone, inv.TaxPercent = b.Lines, b.Zone, b.TaxPercent
	return inv, err
}

// invoiceByID finds an invoice; of any tenant where tenant is "".
func invoiceByID(ctx context.Context, q db.Querier, tenant, iid string) (Invoice, error) {
	inv, err := db.One(ctx, q, scanInvoice, `SELECT `+invoiceCols+`WHERE id = $1 AND ($2 = '' OR tenant_id = $2)`, iid, tenant)
	if isNoRow(err) {
		return inv, ErrInvoiceNotFound.With("there is no invoice %q", iid)
	}
	return inv, err
}

func invoicesOf(ctx context.Context, q db.Querier, f InvoiceFilter, drafts bool, at int64, before string, limit int) ([]Invoice, error) {
	return db.List(ctx, q, scanInvoice, `SELECT `+invoiceCols+`WHERE (tenant_id = $1 OR $2) AND ($3 = '' OR state = $3) AND ($4 OR state <> 'draft') AND (created_at, id) < ($5, $6) ORDER BY created_at DESC, id DESC LIMIT $7`,
		f.Tenant, f.all, f.State, drafts, at, before, limit)
}
