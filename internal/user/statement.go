package user

import (
	"context"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/user/invoice"
	"maas/internal/user/ledger"
)

// ErrMonth is a month that does not read.
var ErrMonth = fault.New(fault.Invalid, "user.month", "a month is written like 2026-11").WithHint("From 1970-01 on")

// StatementLine is what calls of one model used and cost in a month.
type StatementLine struct {
	Model           string `json:"model"`
	Requests        int64  `json:"requests"`
	InputTokens     int64  `json:"input_tokens" doc:"Without those from a cache"`
	CachedTokens    int64  `json:"cached_tokens"`
	OutputTokens    int64  `json:"output_tokens" doc:"Without reasoning"`
	ReasoningTokens int64  `json:"reasoning_tokens"`
	AmountMicro     int64  `json:"amount_micro"`

	rest int64 // pico-units beside the amount, until Split
}

// StatementMove is a sum of postings on the wallet.
type StatementMove struct {
	Kind        ledger.JournalKind `json:"kind" enum:"usage,topup,refund,payout,adjust"`
	AmountMicro int64              `json:"amount_micro"`
}

// Statement is a month of an organisation: its calls by the time they began, and its wallet by the time of posting. Calls of the month's last seconds are posted in the next.
type Statement struct {
	Month        string          `json:"month"`
	TenantID     string          `json:"tenant_id"`
	TenantName   string          `json:"tenant_name"`
	Timezone     string          `json:"timezone"`
	From         time.Time       `json:"from"`
	To           time.Time       `json:"to"`
	Complete     bool            `json:"complete" doc:"The month is over"`
	Currency     string          `json:"currency"`
	Lines        []StatementLine `json:"lines"`
	Requests     int64           `json:"requests"`
	TotalMicro   int64           `json:"total_micro" doc:"Sum of the lines"`
	OpeningMicro int64           `json:"opening_micro" doc:"Balance of the wallet when the month began"`
	Moves        []StatementMove `json:"moves"`
	ClosingMicro int64           `json:"closing_micro"`
}

// Statement adds up a month of the caller's organisation, or for operators of another; "" = the month that runs.
func (s *Service) Statement(ctx context.Context, tenant, month string) (Statement, error) {
	tenant, err := billedTenant(ctx, tenant)
	if err != nil {
		return Statement{}, err
	}
	var st Statement
	err = s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		st, err = s.statement(ctx, q, tenant, month)
		return err
	})
	return st, err
}

func (s *Service) statement(ctx context.Context, q db.Querier, tenant, month string) (Statement, error) {
	name, zone, err := tenantHead(ctx, q, tenant)
	if err != nil {
		return Statement{}, err
	}
	where := location(zone)
	if month == "" {
		month = s.Now().In(where).Format("2006-01")
	}
	from, to, ok := ledger.MonthOf(month, where)
	if !ok {
		return Statement{}, ErrMonth
	}
	st := Statement{Month: month, TenantID: tenant, TenantName: name, Timezone: where.String(), From: from, To: to, Complete: !s.Now().Before(to), Currency: s.currency(), Lines: []StatementLine{}, Moves: []StatementMove{}}
	lines, err := statementLines(ctx, q, tenant, db.Micro(from), db.Micro(to))
	if err != nil {
		return st, err
	}
	parts := make([]ledger.Part, len(lines))
	for i, l := range lines {
		parts[i] = ledger.Part{Micro: l.AmountMicro, Pico: l.rest}
		st.Requests += l.Requests
	}
	amounts, total, ok := ledger.Split(parts)
	if !ok {
		return st, ErrAmount
	}
	for i := range lines {
		lines[i].AmountMicro, lines[i].rest = amounts[i], 0
	}
	st.Lines, st.TotalMicro = append(st.Lines, lines...), total
	if st.OpeningMicro, err = walletBefore(ctx, q, tenant, db.Micro(from)); err != nil {
		return st, err
	}
	moves, err := walletMoves(ctx, q, tenant, db.Micro(from), db.Micro(to))
	st.Moves, st.ClosingMicro = append(st.Moves, moves...), st.OpeningMicro
	for _, m := range moves {
		st.ClosingMicro += m.AmountMicro
	}
	return st, err
}

// document is the statement on paper.
func (st *Statement) document(chinese bool) invoice.Document {
	d := invoice.Document{Chinese: chinese, Month: st.Month, Zone: st.Timezone, Customer: []string{st.TenantName, st.TenantID}, Currency: st.Currency, Net: st.TotalMicro, Total: st.TotalMicro, Account: st.account()}
	d.Lines = st.paperLines()
	return d
}

func (st *Statement) paperLines() []invoice.Line {
	out := make([]invoice.Line, len(st.Lines))
	for i, l := range st.Lines {
		out[i] = invoice.Line{Model: l.Model, Requests: l.Requests, Input: l.InputTokens, CachedInput: l.CachedTokens, Output: l.OutputTokens, Reasoning: l.ReasoningTokens, Amount: l.AmountMicro}
	}
	return out
}

func (st *Statement) account() []invoice.Movement {
	out := []invoice.Movement{{Name: "opening", Amount: st.OpeningMicro}}
	for _, m := range st.Moves {
		out = append(out, invoice.Movement{Name: string(m.Kind), Amount: m.AmountMicro})
	}
	return append(out, invoice.Movement{Name: "closing", Amount: st.ClosingMicro})
}

// Forecast is how the month of an organisation is expected to end.
type Forecast struct {
	Month         string `json:"month"`
	Currency      string `json:"currency"`
	SpentMicro    int64  `json:"spent_micro"`
	ForecastMicro int64  `json:"forecast_micro"`
	LowMicro      int64  `json:"low_micro" doc:"In about nine of ten months it is more"`
	HighMicro     int64  `json:"high_micro" doc:"In about nine of ten months it is less"`
	Days          int    `json:"days" doc:"Whole days that it rests on"`
}

const forecastDays = 56 // eight weeks back

// Forecast continues the month of the caller's organisation by the days of the last eight weeks. A month that is over is told as it was; one that has not begun is ErrMonth.
func (s *Service) Forecast(ctx context.Context, month string) (Forecast, error) {
	who, _ := auth.From(ctx)
	f := Forecast{Currency: s.currency()}
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		_, zone, err := tenantHead(ctx, q, who.TenantID)
		if err != nil {
			return err
		}
		now, where := s.Now(), location(zone)
		if month == "" {
			month = now.In(where).Format("2006-01")
		}
		from, to, ok := ledger.MonthOf(month, where)
		if !ok || from.After(now) {
			return ErrMonth
		}
		f.Month = month
		if !now.Before(to) {
			f.SpentMicro, err = spentIn(ctx, q, who.TenantID, usageOwner(who), from, to)
			f.ForecastMicro, f.LowMicro, f.HighMicro = f.SpentMicro, f.SpentMicro, f.SpentMicro
			return err
		}
		return s.outlook(ctx, q, who, &f, from, to, where)
	})
	return f, err
}

// outlook fills in the forecast of the month that runs.
func (s *Service) outlook(ctx context.Context, q db.Querier, who auth.Principal, f *Forecast, from, to time.Time, where *time.Location) error {
	now, owner := s.Now(), usageOwner(who)
	first, err := firstCall(ctx, q, who.TenantID, owner)
	if err != nil || first.IsZero() {
		return err
	}
	today, tomorrow := ledger.Day.Period(now, where)
	starts := []time.Time{today} // newest first
	for len(starts) <= forecastDays && starts[len(starts)-1].After(first) {
		start, _ := ledger.Day.Period(starts[len(starts)-1].Add(-time.Hour), where)
		starts = append(starts, start)
	}
	days := make([]int64, 0, len(starts))
	inMonth := 0
	for i := len(starts) - 1; i > 0; i-- {
		n, err := spentIn(ctx, q, who.TenantID, owner, starts[i], starts[i-1])
		if err != nil {
			return err
		}
		days = append(days, n)
		if !starts[i].Before(from) {
			inMonth++
		}
	}
	spent, err := spentIn(ctx, q, who.TenantID, owner, today, tomorrow)
	if err != nil {
		return err
	}
	left := 0
	for d := tomorrow; d.Before(to); left++ {
		_, d = ledger.Day.Period(d, where)
	}
	part := float64(now.Sub(today)) / float64(tomorrow.Sub(today))
	o := ledger.Forecast(days, inMonth, int(starts[len(starts)-1].In(where).Weekday()), spent, part, left)
	f.SpentMicro, f.ForecastMicro, f.LowMicro, f.HighMicro, f.Days = o.Spent, o.Forecast, o.Low, o.High, len(days)
	return nil
}

// RevenueQuery asks what calls brought in.
type RevenueQuery struct {
	From, To time.Time
	Bucket   string // 1h, 1d
	GroupBy  string // tenant, model, provider, ""
	Tenant   string // "" = all
}

// RevenueItem is one bucket of one group.
type RevenueItem struct {
	At           time.Time `json:"at"`
	TenantID     string    `json:"tenant_id,omitempty"`
	TenantName   string    `json:"tenant_name,omitempty"`
	Model        string    `json:"model,omitempty"`
	ProviderID   string    `json:"provider_id,omitempty"`
	Requests     int64     `json:"requests"`
	RevenueMicro int64     `json:"revenue_micro" doc:"What organisations pay"`
	CostMicro    int64     `json:"cost_micro" doc:"What providers take"`
	MarginMicro  int64     `json:"margin_micro"`
}

// RevenueReport is what calls brought in and cost.
type RevenueReport struct {
	Currency string        `json:"currency"`
	Items    []RevenueItem `json:"items"`
	Totals   RevenueItem   `json:"totals"`
}

// Revenue adds up what organisations pay and providers take, over the whole installation: for operators.
func (s *Service) Revenue(ctx context.Context, rq RevenueQuery) (RevenueReport, error) {
	uq := UsageQuery{From: rq.From, To: rq.To, Bucket: rq.Bucket}
	if uq.Bucket == "" {
		uq.Bucket = "1d"
	}
	if uq.From.IsZero() {
		uq.From = s.Now().AddDate(0, 0, -30)
	}
	switch rq.GroupBy {
	case "", "tenant", "model", "provider":
	default:
		return RevenueReport{}, ErrUsageQuery.WithFields(fault.Field{Name: "query.group_by", Code: "not_in_list", Message: "must be tenant, model or provider"})
	}
	if err := uq.fill(s.Now()); err != nil {
		return RevenueReport{}, err
	}
	r := RevenueReport{Currency: s.currency(), Items: []RevenueItem{}}
	err := s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		items, err := sumRevenue(ctx, q, uq, rq)
		r.Items = append(r.Items, items...)
		return err
	})
	for i := range r.Items {
		it := &r.Items[i]
		it.MarginMicro = it.RevenueMicro - it.CostMicro
		r.Totals.Requests += it.Requests
		r.Totals.RevenueMicro += it.RevenueMicro
		r.Totals.CostMicro += it.CostMicro
		r.Totals.MarginMicro += it.MarginMicro
	}
	r.Totals.At = uq.From
	return r, err
}
