package user

import (
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// requests is how often a row counts as a call: not at all when no engine answered it.
func (u *Usage) requests() int64 {
	if u.Source == SourceNone {
		return 0
	}
	return 1
}

// tokens are all of a row.
func (u *Usage) tokens() int64 { return u.InFresh + u.InCache + u.OutText + u.OutReasoning }

func (u *Usage) counts() ledger.Counts {
	return ledger.Counts{Input: u.InFresh, CachedInput: u.InCache, Output: u.OutText, Reasoning: u.OutReasoning, Requests: u.requests()}
}

// bookedRow is a usage row with what it costs.
type bookedRow struct {
	*Usage
	price, cost int64 // pico-units
}

// pricing fills in what each row costs: the price by the version pinned in it, the cost by what its provider took at that moment. It reads price versions that this process has not seen.
func (s *Service) pricing(ctx context.Context, rows []Usage) ([]bookedRow, error) {
	out := make([]bookedRow, len(rows))
	view := s.verifier.money.load()
	for i := range rows {
		u := &rows[i]
		out[i].Usage = u
		if u.PriceVersion != "" {
			p, err := s.priceVersion(ctx, u.PriceVersion)
			if err != nil {
				return nil, err
			}
			out[i].price = s.quote(ctx, p, u, u.counts())
		}
		cost := func(provider string, c ledger.Counts) {
			if p, ok := view.price(u.TenantID, provider, u.Model, u.At); ok && provider != "" {
				out[i].cost += s.quote(ctx, p, u, c)
			}
		}
		cost(u.ProviderID, u.counts())
		for _, l := range u.Lost[:min(len(u.Lost), lostMost)] {
			cost(l.ProviderID, ledger.Counts{Input: l.InFresh, CachedInput: l.InCache, Output: l.OutText, Reasoning: l.OutReasoning})
		}
	}
	return out, nil
}

const (
	lostMost  = 16
	quoteMost = math.MaxInt64 / (4 * lostMost) // no call comes near; the price of one and the cost of all its attempts always fit
)

// quote prices counts in pico-units.
func (s *Service) quote(ctx context.Context, p PriceVersion, u *Usage, c ledger.Counts) int64 {
	n, ok := p.Quote(c)
	if !ok || n > quoteMost {
		s.Log.ErrorContext(ctx, "the price of a call does not fit; it is booked as free", "request_id", u.RequestID, "price_version", p.ID)
		return 0
	}
	return n
}

// priceVersion finds a version, which never changes. One that does not exist prices nothing: a gateway cannot be left with a journal that nobody takes.
func (s *Service) priceVersion(ctx context.Context, pid string) (PriceVersion, error) {
	if p, ok := s.prices.Load(pid); ok {
		return p.(PriceVersion), nil //nolint:forcetypeassert // the map holds nothing else
	}
	var p PriceVersion
	err := s.books().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		p, err = priceByID(ctx, q, pid)
		return err
	})
	if isNoRow(err) {
		s.Log.ErrorContext(ctx, "usage names a price version that does not exist; it is booked as free", "price_version", pid)
		return PriceVersion{}, nil
	}
	if err != nil {
		return p, err
	}
	s.prices.Store(pid, p)
	return p, nil
}

// charge books newly inserted rows on wallets and budgets. All wallets are locked before any budget, as leases do it.
func (s *Service) charge(ctx context.Context, tx *db.Tx, b Batch, rows []bookedRow) error {
	by := map[string][]bookedRow{}
	for _, r := range rows {
		by[r.TenantID] = append(by[r.TenantID], r)
	}
	tenants := slices.Sorted(maps.Keys(by))
	for _, t := range tenants {
		if err := s.chargeWallet(ctx, tx, b, t, by[t]); err != nil {
			return err
		}
	}
	for _, t := range tenants {
		if err := s.chargeBudgets(ctx, tx, b.Node, t, by[t]); err != nil {
			return err
		}
	}
	return nil
}

// chargeWallet posts what the rows of a tenant cost: the whole micro-units now, the rest is carried.
func (s *Service) chargeWallet(ctx context.Context, tx *db.Tx, b Batch, tenant string, rows []bookedRow) error {
	now := s.Now()
	w, err := lockWallet(ctx, tx, tenant, s.currency(), now)
	if err != nil {
		return err
	}
	micro, carry, err := carried(w.carry, rows)
	if err != nil {
		return err
	}
	if carry != w.carry {
		if err := setCarry(ctx, tx, w.id, carry); err != nil {
			return err
		}
	}
	if micro == 0 {
		return nil
	}
	ref := b.Node + "/" + strconv.FormatInt(b.Epoch, 10) + "/" + strconv.FormatInt(b.Seq, 10)
	if err := post(ctx, tx, posting{id: id.New("jnl"), tenant: tenant, kind: ledger.Usage, ref: ref, amount: micro, at: now}, s.currency()); err != nil {
		return err
	}
	if w.leased == 0 {
		return nil
	}
	n, err := drain(ctx, tx, b.Node, w.id, 0, micro)
	if err != nil || n == 0 {
		return err
	}
	return addLeased(ctx, tx, w.id, -n)
}

// carried adds the prices of rows to what was carried, one by one: a sum over a batch may not fit where its postings do.
func carried(carry int64, rows []bookedRow) (micro, left int64, err error) {
	left = carry
	for _, r := range rows {
		m, rest, ok := ledger.Carry(left, r.price)
		if !ok {
			return 0, 0, ErrAmount
		}
		if micro, ok = ledger.Add(micro, m); !ok {
			return 0, 0, ErrAmount
		}
		left = rest
	}
	return micro, left, nil
}

// chargeBudgets counts the rows of a tenant in every budget that applies, in the period of their own time.
func (s *Service) chargeBudgets(ctx context.Context, tx *db.Tx, node, tenant string, rows []bookedRow) error {
	subjects := map[string]bool{tenant: true}
	for _, r := range rows {
		for _, id := range [...]string{r.KeyID, r.UserID, r.ProjectID} {
			if id != "" {
				subjects[id] = true
			}
		}
	}
	budgets, err := budgetsFor(ctx, tx, tenant, slices.Sorted(maps.Keys(subjects)))
	if err != nil {
		return err
	}
	slices.SortFunc(budgets, func(a, b Budget) int { return strings.Compare(a.ID, b.ID) })
	for i := range budgets {
		b := &budgets[i]
		for _, p := range periodsOf(b, rows) {
			if err := s.chargePeriod(ctx, tx, node, b, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// periodRows are the rows of one period of a budget.
type periodRows struct {
	start, end time.Time
	rows       []bookedRow
}

// periodsOf sorts the rows that a budget counts into its periods, oldest first. Nearly always there is one.
func periodsOf(b *Budget, rows []bookedRow) []periodRows {
	var list []periodRows
next:
	for _, r := range rows {
		if !b.counts(r.Usage) {
			continue
		}
		for i := range list {
			if p := &list[i]; !r.At.Before(p.start) && (p.end.IsZero() || r.At.Before(p.end)) {
				p.rows = append(p.rows, r)
				continue next
			}
		}
		start, end := b.period(r.At)
		list = append(list, periodRows{start, end, []bookedRow{r}})
	}
	slices.SortFunc(list, func(a, b periodRows) int { return a.start.Compare(b.start) })
	return list
}

// counts reports whether a row is of the budget's subject.
func (b *Budget) counts(u *Usage) bool {
	switch b.Subject.Kind {
	case "key":
		return u.KeyID == b.Subject.ID
	case "user":
		return u.UserID == b.Subject.ID
	case "project":
		return u.ProjectID == b.Subject.ID
	}
	return u.TenantID == b.Subject.ID
}

func (s *Service) chargePeriod(ctx context.Context, tx *db.Tx, node string, b *Budget, pr periodRows) error {
	p, err := periodOf(ctx, tx, b.ID, db.Micro(pr.start))
	if isNoRow(err) { // the first rows of a period: its sum has them already
		if p, err = openPeriod(ctx, tx, *b, pr.start, pr.end); err != nil {
			return err
		}
		return s.announce(ctx, tx, b, p)
	}
	if err != nil {
		return err
	}
	before := p.used
	if p.used, p.carry, err = b.plus(p, pr.rows); err != nil {
		return err
	}
	if err := s.announce(ctx, tx, b, p); err != nil || p.leased == 0 || p.used == before {
		return err
	}
	n, err := drain(ctx, tx, node, b.ID, p.start, p.used-before)
	if err != nil || n == 0 {
		return err
	}
	return addPeriodLeased(ctx, tx, b.ID, p.start, -n)
}

// plus adds rows to what a period has used, in the budget's unit.
func (b *Budget) plus(p period, rows []bookedRow) (used, carry int64, err error) {
	if b.Unit == meter.Money {
		micro, left, err := carried(p.carry, rows)
		return p.used + micro, left, err
	}
	used = p.used
	for _, r := range rows {
		if b.Unit == meter.Requests {
			used += r.requests()
		} else {
			used += r.tokens()
		}
	}
	return used, 0, nil
}

// announce stores a period, and tells once when a share of the limit is reached.
func (s *Service) announce(ctx context.Context, tx *db.Tx, b *Budget, p period) error {
	limit := b.limit(s.Now())
	if step := ledger.Reached(p.used, limit); step > p.told && p.used > 0 {
		p.told = step
		e := BudgetReached{BudgetID: b.ID, TenantID: b.tenantID, Subject: b.Subject, Unit: b.Unit, Hard: b.Hard, Percent: step, Used: p.used, Limit: limit, PeriodStart: db.FromMicro(p.start), Name: b.Name}
		if err := s.publish(ctx, tx, b.tenantID, e); err != nil {
			return err
		}
	}
	return setUsed(ctx, tx, b.ID, p)
}
