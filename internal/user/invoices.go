package user

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
	"maas/internal/user/invoice"
	"maas/internal/user/ledger"
)

// The errors of invoices.
var (
	ErrInvoiceNotFound = fault.New(fault.NotFound, "user.invoice_not_found", "there is no such invoice")
	ErrInvoiceExists   = fault.New(fault.Conflict, "user.invoice_exists", "this month has an invoice already").WithHint("Void it first, if it is wrong")
	ErrInvoiceState    = fault.New(fault.Conflict, "user.invoice_state", "the invoice is not in a state for this")
	ErrInvoiceOpen     = fault.New(fault.Conflict, "user.invoice_month_open", "the month is not over yet").WithHint("A draft can be made now and issued when the month is over")
	ErrTaxPercent      = fault.New(fault.Invalid, "user.tax_percent", "user.billing.tax_percent must be a percentage from 0 to 100 with up to two decimals")
)

// The states of an invoice.
const (
	InvoiceDraft  = "draft"
	InvoiceIssued = "issued"
	InvoiceVoid   = "void"
)

// Invoice is a month's bill. A draft shows what the month adds up to when it was made; issuing adds up once more, gives the number and fixes everything for good.
type Invoice struct {
	ID         string    `json:"id"`
	TenantID   string    `json:"tenant_id"`
	Number     string    `json:"number,omitempty" doc:"Given when it is issued, without gaps in a year"`
	Month      string    `json:"month"`
	State      string    `json:"state" enum:"draft,issued,void"`
	Currency   string    `json:"currency"`
	NetMicro   int64     `json:"net_micro"`
	TaxMicro   int64     `json:"tax_micro"`
	TotalMicro int64     `json:"total_micro"`
	TaxPercent string    `json:"tax_percent,omitempty"`
	Customer   []string  `json:"customer"`
	Seller     []string  `json:"seller"`
	VoidReason string    `json:"void_reason,omitempty"`
	CreatedBy  string    `json:"created_by,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
	IssuedAt   time.Time `json:"issued_at,omitzero"`
	VoidedAt   time.Time `json:"voided_at,omitzero"`
	UpdatedAt  time.Time `json:"updated_at"`
	Rev        int64     `json:"rev"`

	Lines []StatementLine `json:"lines"`
	zone  string
}

// invoiceBody is what of an invoice is kept as one text.
type invoiceBody struct {
	Lines      []StatementLine `json:"lines"`
	Zone       string          `json:"zone"`
	TaxPercent string          `json:"tax_percent,omitempty"`
}

// taxPoints reads a percentage with up to two decimals as hundredths of a percent.
func taxPoints(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	whole, frac, dot := strings.Cut(text, ".")
	if dot && (frac == "" || len(frac) > 2) {
		return 0, ErrTaxPercent
	}
	n, err := strconv.ParseUint(whole+(frac + "00")[:2], 10, 32)
	if err != nil || n > 10_000 || whole == "" {
		return 0, ErrTaxPercent
	}
	return int64(n), nil
}

// validate checks the configuration.
func (c BillingConfig) validate() error {
	if c.Currency != "" && !currencyOK(c.Currency) {
		return ErrCurrency.With("user.billing.currency must be a code of three capital letters, like CNY")
	}
	_, err := taxPoints(c.TaxPercent)
	return err
}

// fill puts a month's statement into a draft.
func (s *Service) fillInvoice(inv *Invoice, st Statement) error {
	points, err := taxPoints(s.Config.Billing.TaxPercent)
	if err != nil {
		return err
	}
	inv.Lines, inv.zone, inv.Currency, inv.NetMicro = st.Lines, st.Timezone, st.Currency, st.TotalMicro
	inv.TaxMicro = ledger.Tax(st.TotalMicro, points)
	inv.TaxPercent = s.Config.Billing.TaxPercent
	inv.TotalMicro = inv.NetMicro + inv.TaxMicro
	inv.Customer = []string{st.TenantName, st.TenantID}
	inv.Seller = []string{s.Config.Billing.Seller}
	for line := range strings.SplitSeq(s.Config.Billing.SellerDetails, "|") {
		if line = strings.TrimSpace(line); line != "" {
			inv.Seller = append(inv.Seller, line)
		}
	}
	return nil
}

// MakeInvoice makes the draft of a month: ErrInvoiceExists if there is one that is not void.
func (s *Service) MakeInvoice(ctx context.Context, tenant, month string) (Invoice, error) {
	tenant, err := billedTenant(ctx, tenant)
	if err != nil {
		return Invoice{}, err
	}
	who, _ := auth.From(ctx)
	now := s.Now()
	inv := Invoice{ID: id.New("inv"), TenantID: tenant, Month: month, State: InvoiceDraft, CreatedBy: who.UserID, CreatedAt: now, UpdatedAt: now, Rev: 1}
	err = s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		st, err := s.statement(ctx, tx, tenant, month)
		if err != nil {
			return err
		}
		inv.Month = st.Month
		if err := s.fillInvoice(&inv, st); err != nil {
			return err
		}
		if err := insertInvoice(ctx, tx, inv); errors.Is(err, db.ErrDuplicate) {
			return ErrInvoiceExists.With("%s has an invoice already", inv.Month)
		} else if err != nil {
			return err
		}
		return nil
	})
	return inv, err
}

// IssueInvoice adds a draft's month up once more, numbers it and closes it for changes: ErrInvoiceOpen before the month is over.
func (s *Service) IssueInvoice(ctx context.Context, iid string) (Invoice, error) {
	return s.changeInvoice(ctx, iid, func(ctx context.Context, tx *db.Tx, inv *Invoice) error {
		if inv.State != InvoiceDraft {
			return ErrInvoiceState.With("only a draft can be issued; this invoice is %s", inv.State)
		}
		st, err := s.statement(ctx, tx, inv.TenantID, inv.Month)
		if err != nil {
			return err
		}
		if !st.Complete {
			return ErrInvoiceOpen
		}
		if err := s.fillInvoice(inv, st); err != nil {
			return err
		}
		inv.State, inv.IssuedAt = InvoiceIssued, s.Now()
		year := int64(inv.IssuedAt.In(location(inv.zone)).Year())
		n, err := nextInvoice(ctx, tx, year)
		inv.Number = fmt.Sprintf("INV-%d-%06d", year, n)
		return err
	})
}

// VoidInvoice takes an invoice back: its number stays used, its month can be invoiced again. A draft that is voided has no number.
func (s *Service) VoidInvoice(ctx context.Context, iid, reason string) (Invoice, error) {
	reason = strings.TrimSpace(reason)
	return s.changeInvoice(ctx, iid, func(_ context.Context, _ *db.Tx, inv *Invoice) error {
		if inv.State == InvoiceVoid {
			return ErrInvoiceState.With("the invoice is void already")
		}
		if reason == "" && inv.State == InvoiceIssued {
			return ErrPostingFields.WithFields(fault.Field{Name: "body.reason", Code: "required", Message: "must say why an issued invoice is taken back"})
		}
		inv.State, inv.VoidReason, inv.VoidedAt = InvoiceVoid, reason, s.Now()
		return nil
	})
}

func (s *Service) changeInvoice(ctx context.Context, iid string, change func(ctx context.Context, tx *db.Tx, inv *Invoice) error) (Invoice, error) {
	var inv Invoice
	err := s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if inv, err = invoiceByID(ctx, tx, "", iid); err != nil {
			return err
		}
		if err := change(ctx, tx, &inv); err != nil {
			return err
		}
		inv.UpdatedAt = s.Now()
		if err := updateInvoice(ctx, tx, inv); err != nil {
			return err
		}
		inv.Rev++
		return nil
	})
	return inv, err
}

// Invoice returns one of the caller's organisation, for operators of any: ErrInvoiceNotFound.
func (s *Service) Invoice(ctx context.Context, iid string) (Invoice, error) {
	who, _ := auth.From(ctx)
	tenant := who.TenantID
	if who.May("billing:operate") {
		tenant = ""
	}
	var inv Invoice
	err := s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		inv, err = invoiceByID(ctx, q, tenant, iid)
		return err
	})
	if err == nil && inv.State == InvoiceDraft && tenant != "" {
		return Invoice{}, ErrInvoiceNotFound.With("there is no invoice %q", iid)
	}
	return inv, err
}

// InvoiceFilter narrows the list of invoices.
type InvoiceFilter struct {
	Tenant, State string
	Limit         int
	After         string
	all           bool
}

// Invoices lists the invoices of the caller's organisation, newest first, drafts for operators only; operators may name another organisation or "*" for all.
func (s *Service) Invoices(ctx context.Context, f InvoiceFilter) (page.List[Invoice], error) {
	who, _ := auth.From(ctx)
	f.all = f.Tenant == "*" && who.May("billing:operate")
	if !f.all {
		var err error
		if f.Tenant, err = billedTenant(ctx, f.Tenant); err != nil {
			return page.List[Invoice]{}, err
		}
	}
	limit := page.Limit(f.Limit)
	filter := "invoices\x00" + f.Tenant + "\x00" + f.State
	at, last, err := cursor(filter, f.After, db.Micro(s.Now().Add(time.Hour)))
	if err != nil {
		return page.List[Invoice]{}, err
	}
	var rows []Invoice
	err = s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = invoicesOf(ctx, q, f, who.May("billing:operate"), at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[Invoice]{}, err
	}
	return page.Of(rows, limit, filter, func(i Invoice) []string { return []string{micros(i.CreatedAt), i.ID} }), nil
}

// document is the invoice on paper.
func (inv *Invoice) document(chinese bool) invoice.Document {
	st := Statement{Lines: inv.Lines}
	d := invoice.Document{
		Chinese: chinese, Number: inv.Number, Draft: inv.State == InvoiceDraft, Month: inv.Month, Zone: inv.zone, Issued: inv.IssuedAt, Seller: inv.Seller, Customer: inv.Customer, Currency: inv.Currency,
		Lines: st.paperLines(), Net: inv.NetMicro, Tax: inv.TaxMicro, TaxRate: inv.TaxPercent, Total: inv.TotalMicro,
	}
	if inv.State == InvoiceVoid {
		d.Void = inv.VoidReason
		if d.Void == "" {
			d.Void = inv.VoidedAt.UTC().Format(time.DateOnly)
		}
	}
	return d
}
