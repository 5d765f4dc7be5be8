package user

import (
	"context"
	"strings"

	"maas/internal/platform/db"
	"maas/internal/platform/fault"
)

const defaultCurrency = "CNY"

// BillingConfig says in whose name and in which currency books are kept.
type BillingConfig struct {
	Currency      string `yaml:"currency" doc:"ISO 4217 code of the one currency of all prices, wallets and invoices. It cannot change once there are books."`
	Seller        string `yaml:"seller" doc:"Who issues invoices: name"`
	SellerDetails string `yaml:"seller_details" doc:"Address, tax number, bank: lines of the invoice's head, separated by |"`
	TaxPercent    string `yaml:"tax_percent" doc:"Tax put on invoices, in percent with up to two decimals; empty = none"`
}

// ErrCurrency is a change of the currency under existing books.
var ErrCurrency = fault.New(fault.Conflict, "user.currency", "the books of this installation are kept in another currency").WithHint("Set user.billing.currency back")

// currencyOK reports whether a text has the form of a currency code.
func currencyOK(s string) bool {
	return len(s) == 3 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// books is the handle for money across tenants: nodes book batches of many, operators post for any, prices without a tenant hold for all.
func (s *Service) books() *db.DB { return s.DB.System() }

// checkBilling refuses a configuration that does not read, or another currency than that of the books.
func (s *Service) checkBilling(ctx context.Context) error {
	if err := s.Config.Billing.validate(); err != nil {
		return err
	}
	return s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		other, err := db.One(ctx, q, db.Scalar[string], `SELECT currency FROM user_account WHERE currency <> $1 ORDER BY id LIMIT 1`, s.currency())
		if isNoRow(err) {
			return nil
		}
		if err == nil {
			err = ErrCurrency.With("the books of this installation are kept in %s, not in %s", other, s.currency())
		}
		return err
	})
}
