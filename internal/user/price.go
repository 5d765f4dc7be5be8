package user

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
	"maas/internal/user/ledger"
)

// The errors of money in general and of prices.
var (
	ErrAmount        = fault.New(fault.Invalid, "user.amount", "this amount is not acceptable")
	ErrPriceFields   = fault.New(fault.Invalid, "user.price_invalid", "some fields of the price are wrong")
	ErrPriceConflict = fault.New(fault.Conflict, "user.price_exists", "a version of this price begins at that moment already").WithHint("Versions are never changed: begin the new one a little later")
)

const (
	priceMost = 1_000_000_000_000_000 // micro-units: a milliard per million tokens, far from overflow for any call
	nameMost  = 256
)

// Price is one version of what calls of a model cost, as people see it. Prices of tokens are micro-units of the currency per million tokens.
type Price struct {
	ID          string    `json:"id"`
	Model       string    `json:"model" doc:"Public name; * = every model without a price of its own"`
	TenantID    string    `json:"tenant_id,omitempty" doc:"Organisation with a price of its own; absent = all others"`
	Provider    string    `json:"provider,omitempty" doc:"Id of the provider whose cost this is; absent = what organisations pay"`
	Currency    string    `json:"currency"`
	Input       int64     `json:"input_micro_per_mtok"`
	CachedInput int64     `json:"cached_input_micro_per_mtok"`
	Output      int64     `json:"output_micro_per_mtok"`
	Reasoning   int64     `json:"reasoning_micro_per_mtok"`
	Request     int64     `json:"request_micro"`
	ValidFrom   time.Time `json:"valid_from"`
	ValidUntil  time.Time `json:"valid_until,omitzero" doc:"When the next version begins"`
	Current     bool      `json:"current"`
	Note        string    `json:"note,omitempty"`
	CreatedBy   string    `json:"created_by,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
}

// NewPrice is what a version is made from. Cached input without a price costs as much as fresh input, reasoning as much as output.
type NewPrice struct {
	Model       string     `json:"model" minLength:"1" maxLength:"256" doc:"Public name; * = every model without a price of its own"`
	TenantID    string     `json:"tenant_id,omitempty" maxLength:"100"`
	Provider    string     `json:"provider,omitempty" maxLength:"100"`
	Currency    string     `json:"currency,omitempty" maxLength:"3" doc:"Default and only choice: that of the installation"`
	Input       int64      `json:"input_micro_per_mtok,omitempty" minimum:"0"`
	CachedInput *int64     `json:"cached_input_micro_per_mtok,omitempty" minimum:"0"`
	Output      int64      `json:"output_micro_per_mtok,omitempty" minimum:"0"`
	Reasoning   *int64     `json:"reasoning_micro_per_mtok,omitempty" minimum:"0"`
	Request     int64      `json:"request_micro,omitempty" minimum:"0"`
	ValidFrom   *time.Time `json:"valid_from,omitempty" format:"date-time" doc:"Default: now. Not in the past: what was booked stays"`
	Note        string     `json:"note,omitempty" maxLength:"500"`
}

// currency of all books of this installation.
func (s *Service) currency() string {
	if s.Config.Billing.Currency == "" {
		return defaultCurrency
	}
	return s.Config.Billing.Currency
}

func newPrice(n NewPrice, currency string, by string, now time.Time) (Price, error) {
	p := Price{
		ID: id.New("prc"), Model: strings.TrimSpace(n.Model), TenantID: n.TenantID, Provider: n.Provider, Currency: currency, Input: n.Input, CachedInput: n.Input, Output: n.Output, Reasoning: n.Output,
		Request: n.Request, ValidFrom: now, Note: strings.TrimSpace(n.Note), CreatedBy: by, CreatedAt: now,
	}
	if n.CachedInput != nil {
		p.CachedInput = *n.CachedInput
	}
	if n.Reasoning != nil {
		p.Reasoning = *n.Reasoning
	}
	if n.ValidFrom != nil && !n.ValidFrom.IsZero() {
		p.ValidFrom = n.ValidFrom.UTC().Truncate(time.Microsecond)
	}
	var f []fault.Field
	if p.Model == "" || utf8.RuneCountInString(p.Model) > nameMost || strings.ContainsFunc(p.Model, func(r rune) bool { return r < ' ' }) {
		f = append(f, fault.Field{Name: "body.model", Code: "pattern", Message: "must be a model's public name, or *"})
	}
	if n.Currency != "" && n.Currency != currency {
		f = append(f, fault.Field{Name: "body.currency", Code: "not_in_list", Message: "must be " + currency + ": this installation keeps its books in one currency", Limit: currency})
	}
	if p.ValidFrom.Before(now.Add(-time.Minute)) {
		f = append(f, fault.Field{Name: "body.valid_from", Code: "out_of_range", Message: "must not lie in the past: what was booked stays as it is"})
	}
	p.ValidFrom = later(p.ValidFrom, now)
	for name, v := range map[string]int64{"input_micro_per_mtok": p.Input, "cached_input_micro_per_mtok": p.CachedInput, "output_micro_per_mtok": p.Output, "reasoning_micro_per_mtok": p.Reasoning, "request_micro": p.Request} {
		if v < 0 || v > priceMost {
			f = append(f, fault.Field{Name: "body." + name, Code: "out_of_range", Message: "must be 0 to 1000000000000000 micro-units", Limit: int64(priceMost)})
		}
	}
	if len(f) > 0 {
		return p, ErrPriceFields.WithFields(f...)
	}
	return p, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (p *Price) version() PriceVersion {
	return PriceVersion{
		ID: p.ID, TenantID: p.TenantID, Provider: p.Provider, Model: p.Model, ValidFrom: p.ValidFrom,
		Price: ledger.Price{Input: p.Input, CachedInput: p.CachedInput, Output: p.Output, Reasoning: p.Reasoning, Request: p.Request},
	}
}

// SetPrice adds a version: ErrPriceFields, ErrPriceConflict. It holds for calls that are admitted after it reached the gateways, within half a second.
func (s *Service) SetPrice(ctx context.Context, n NewPrice) (Price, error) {
	who, _ := auth.From(ctx)
	p, err := newPrice(n, s.currency(), who.UserID, s.Now())
	if err != nil {
		return p, err
	}
	err = s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if p.TenantID != "" {
			if _, err := tenantZone(ctx, tx, p.TenantID); err != nil {
				return ErrPriceFields.WithFields(fault.Field{Name: "body.tenant_id", Code: "not_found", Message: "there is no such organisation"})
			}
		}
		version, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		if err := insertPrice(ctx, tx, p, version); errors.Is(err, db.ErrDuplicate) {
			return ErrPriceConflict
		} else if err != nil {
			return err
		}
		return nil
	})
	p.Current = !p.ValidFrom.After(s.Now())
	return p, err
}

// PriceFilter narrows the list of prices.
type PriceFilter struct {
	Model  string
	Cost   bool // what providers take, instead of what organisations pay
	Limit  int
	After  string
	tenant string // whose prices are shown: its own and those for all; "" = every tenant's
}

// Prices lists versions, newest first: those for all and those of the caller's organisation; for operators every one.
func (s *Service) Prices(ctx context.Context, f PriceFilter) (page.List[Price], error) {
	who, _ := auth.From(ctx)
	if !who.May("billing:operate") {
		f.tenant, f.Cost = who.TenantID, false
	}
	limit := page.Limit(f.Limit)
	filter := "prices\x00" + f.tenant + "\x00" + f.Model
	at, last, err := cursor(filter, f.After, db.Micro(s.Now().AddDate(100, 0, 0)))
	if err != nil {
		return page.List[Price]{}, err
	}
	var rows []Price
	err = s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = pricesOf(ctx, q, f, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[Price]{}, err
	}
	s.mark(rows)
	return page.Of(rows, limit, filter, func(p Price) []string { return []string{micros(p.ValidFrom), p.ID} }), nil
}

// mark says which versions hold now, and until when.
func (s *Service) mark(rows []Price) {
	now, view := s.Now(), s.verifier.money.load()
	for i := range rows {
		p := &rows[i]
		list := view.prices[priceKey{p.TenantID, p.Provider, p.Model}]
		for j, v := range list {
			if v.ID == p.ID && j+1 < len(list) {
				p.ValidUntil = list[j+1].ValidFrom
			}
		}
		p.Current = !p.ValidFrom.After(now) && (p.ValidUntil.IsZero() || p.ValidUntil.After(now))
	}
}

// CurrentPrices lists what the caller's organisation pays for each model now.
func (s *Service) CurrentPrices(ctx context.Context) ([]Price, error) {
	who, _ := auth.From(ctx)
	var rows []Price
	err := s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		rows, err = pricesOf(ctx, q, PriceFilter{tenant: who.TenantID}, db.Micro(s.Now().Add(time.Microsecond)), "", 10_000)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mark(rows)
	best := map[string]int{}
	out := []Price{}
	for _, p := range rows {
		if !p.Current {
			continue
		}
		if i, ok := best[p.Model]; ok {
			if p.TenantID != "" {
				out[i] = p
			}
			continue
		}
		best[p.Model] = len(out)
		out = append(out, p)
	}
	return out, nil
}
