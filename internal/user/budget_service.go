package user

import (
	"context"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/platform/page"
	"maas/internal/user/ledger"
)

// MakeBudget makes a budget: ErrBudgetFields, ErrBudgets. What its subject used in the present period counts already.
func (s *Service) MakeBudget(ctx context.Context, n NewBudget) (Budget, error) {
	who, _ := auth.From(ctx)
	now := s.Now()
	b := Budget{ID: id.New(budgetPrefix), Subject: n.Subject, Name: n.Name, Unit: n.Unit, Limit: n.Limit, Window: n.Window, Hard: n.Hard, CreatedAt: now, UpdatedAt: now, Rev: 1, tenantID: who.TenantID}
	if b.Subject.Kind == "tenant" && b.Subject.ID == "" {
		b.Subject.ID = who.TenantID
	}
	if err := b.validate(); err != nil {
		return Budget{}, err
	}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockWallet(ctx, tx, b.tenantID, s.currency(), now); err != nil {
			return err
		}
		if ok, err := budgetSubjectExists(ctx, tx, b.tenantID, b.Subject); err != nil {
			return err
		} else if !ok {
			return ErrBudgetFields.WithFields(fault.Field{Name: "body.subject.id", Code: "not_found", Message: "there is no such " + b.Subject.Kind})
		}
		had, err := budgetsFor(ctx, tx, b.tenantID, []string{b.Subject.ID})
		if err != nil {
			return err
		}
		if len(had) >= budgetsPerPerson {
			return ErrBudgets.With("this %s has %d budgets, as many as it may have", b.Subject.Kind, len(had))
		}
		zone, err := tenantZone(ctx, tx, b.tenantID)
		if err != nil {
			return err
		}
		b.zone = zone.String()
		version, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		if err := insertBudget(ctx, tx, b, version); err != nil {
			return err
		}
		start, end := b.period(now)
		p, err := openPeriod(ctx, tx, b, start, end)
		if err != nil {
			return err
		}
		b.show(p, now)
		return s.announce(ctx, tx, &b, p)
	})
	return b, err
}

// BudgetFilter narrows the list of budgets.
type BudgetFilter struct {
	Subject string // id of a tenant, project, user or key
	Limit   int
	After   string
}

// Budgets lists the budgets of the caller's organisation, newest first; without billing:read_all only those that the caller's own calls are charged to.
func (s *Service) Budgets(ctx context.Context, f BudgetFilter) (page.List[Budget], error) {
	who, _ := auth.From(ctx)
	if !who.May("billing:read_all") {
		list, err := s.myBudgets(ctx, who)
		return page.List[Budget]{Items: list}, err
	}
	limit := page.Limit(f.Limit)
	filter := "budgets\x00" + who.TenantID + "\x00" + f.Subject
	at, last, err := cursor(filter, f.After, db.Micro(s.Now().Add(time.Hour)))
	if err != nil {
		return page.List[Budget]{}, err
	}
	var rows []Budget
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		if rows, err = budgetsOf(ctx, q, who.TenantID, f.Subject, at, last, limit+1); err != nil {
			return err
		}
		return s.showAll(ctx, q, rows)
	})
	if err != nil {
		return page.List[Budget]{}, err
	}
	return page.Of(rows, limit, filter, func(b Budget) []string { return []string{micros(b.CreatedAt), b.ID} }), nil
}

// showAll fills in what the budgets have used in their present period.
func (s *Service) showAll(ctx context.Context, q db.Querier, rows []Budget) error {
	now := s.Now()
	for i := range rows {
		b := &rows[i]
		start, _ := b.period(now)
		p, err := periodOf(ctx, q, b.ID, db.Micro(start))
		if err != nil && !isNoRow(err) {
			return err
		}
		b.show(p, now)
	}
	return nil
}

func (s *Service) myBudgets(ctx context.Context, who auth.Principal) ([]Budget, error) {
	subjects := []string{who.TenantID}
	for _, id := range [...]string{who.KeyID, who.UserID, who.Project} {
		if id != "" {
			subjects = append(subjects, id)
		}
	}
	rows := []Budget{}
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		list, err := budgetsFor(ctx, q, who.TenantID, subjects)
		if err != nil {
			return err
		}
		rows = append(rows, list...)
		return s.showAll(ctx, q, rows)
	})
	return rows, err
}

// Budget returns one budget with what it has used: ErrBudgetNotFound.
func (s *Service) Budget(ctx context.Context, bid string) (Budget, error) {
	who, _ := auth.From(ctx)
	var b Budget
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		if b, err = budgetByID(ctx, q, who.TenantID, bid); err != nil {
			return err
		}
		one := []Budget{b}
		err = s.showAll(ctx, q, one)
		b = one[0]
		return err
	})
	return b, err
}

// changeBudget runs one change of a budget, lets its announcements begin anew where the limit grew, and returns it as it then is.
func (s *Service) changeBudget(ctx context.Context, bid string, change func(b *Budget, now time.Time) error) (Budget, error) {
	who, _ := auth.From(ctx)
	var b Budget
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := s.Now()
		if _, err := lockWallet(ctx, tx, who.TenantID, s.currency(), now); err != nil {
			return err
		}
		var err error
		if b, err = budgetByID(ctx, tx, who.TenantID, bid); err != nil {
			return err
		}
		if err := change(&b, now); err != nil {
			return err
		}
		b.UpdatedAt = now
		if err := b.validate(); err != nil {
			return err
		}
		version, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		if err := updateBudget(ctx, tx, b, version); err != nil {
			return err
		}
		b.Rev++
		if b.deleted {
			return nil
		}
		start, end := b.period(now)
		p, err := periodOf(ctx, tx, b.ID, db.Micro(start))
		if isNoRow(err) {
			p, err = openPeriod(ctx, tx, b, start, end)
		}
		if err != nil {
			return err
		}
		p.told = min(p.told, ledger.Reached(p.used, b.limit(now)))
		b.show(p, now)
		return s.announce(ctx, tx, &b, p)
	})
	return b, err
}

// UpdateBudget changes name, limit or hardness of a budget. check sees the budget first (for the caller's revision).
func (s *Service) UpdateBudget(ctx context.Context, bid string, p BudgetPatch, check func(Budget) error) (Budget, error) {
	return s.changeBudget(ctx, bid, func(b *Budget, _ time.Time) error {
		if err := check(*b); err != nil {
			return err
		}
		if p.Name != nil {
			b.Name = *p.Name
		}
		if p.Limit != nil {
			b.Limit = *p.Limit
		}
		if p.Hard != nil {
			b.Hard = *p.Hard
		}
		return nil
	})
}

const raiseMost = 400 * 24 * time.Hour

// RaiseBudget lifts the limit until a moment; an amount of 0 ends a raise.
func (s *Service) RaiseBudget(ctx context.Context, bid string, r Raise) (Budget, error) {
	who, _ := auth.From(ctx)
	return s.changeBudget(ctx, bid, func(b *Budget, now time.Time) error {
		if r.Amount == 0 {
			b.Extra, b.ExtraUntil, b.ExtraReason, b.ExtraBy = 0, time.Time{}, "", ""
			return nil
		}
		var f []fault.Field
		if r.Amount < 0 || r.Amount > budgetLimitMost {
			f = append(f, fault.Field{Name: "body.amount", Code: "out_of_range", Message: "must be 0 or more, and not astronomical", Limit: int64(budgetLimitMost)})
		}
		if !r.Until.After(now) || r.Until.After(now.Add(raiseMost)) {
			f = append(f, fault.Field{Name: "body.until", Code: "out_of_range", Message: "must lie in the future, by at most 400 days"})
		}
		if strings.TrimSpace(r.Reason) == "" {
			f = append(f, fault.Field{Name: "body.reason", Code: "required", Message: "must say why"})
		}
		if len(f) > 0 {
			return ErrBudgetFields.WithFields(f...)
		}
		b.Extra, b.ExtraUntil, b.ExtraReason, b.ExtraBy = r.Amount, r.Until.UTC(), strings.TrimSpace(r.Reason), who.UserID
		return nil
	})
}

// DeleteBudget ends a budget; what it counted stays for the books.
func (s *Service) DeleteBudget(ctx context.Context, bid string) error {
	_, err := s.changeBudget(ctx, bid, func(b *Budget, _ time.Time) error {
		b.deleted = true
		return nil
	})
	return err
}

// Quota is what the caller may still use.
type Quota struct {
	Budgets      []Budget `json:"budgets" doc:"Every budget that the caller's calls are charged to"`
	Currency     string   `json:"currency"`
	BalanceMicro *int64   `json:"balance_micro,omitempty" doc:"What the organisation's wallet has left with its credit; absent when it never refuses"`
}

// MyQuota lists what limits the calls of the caller.
func (s *Service) MyQuota(ctx context.Context) (Quota, error) {
	who, _ := auth.From(ctx)
	q := Quota{Currency: s.currency()}
	var err error
	if q.Budgets, err = s.myBudgets(ctx, who); err != nil {
		return q, err
	}
	var a bookAccount
	err = s.db.Read(ctx, func(ctx context.Context, r *db.Query) error {
		a, err = accountOf(ctx, r, who.TenantID, ledger.Wallet)
		return err
	})
	if isNoRow(err) {
		return q, nil
	}
	if a.limited() {
		left := a.balance + a.credit - a.leased
		q.BalanceMicro = &left
	}
	return q, err
}

// budgetSubjectExists reports whether a tenant has such a subject.
func budgetSubjectExists(ctx context.Context, q db.Querier, tenant string, sub Subject) (bool, error) {
	var text string
	switch sub.Kind {
	case "tenant":
		return sub.ID == tenant, nil
	case "project":
		text = `SELECT COUNT(*) FROM user_project WHERE tenant_id = $1 AND id = $2`
	case "user":
		text = `SELECT COUNT(*) FROM user_member WHERE tenant_id = $1 AND user_id = $2`
	case "key":
		text = `SELECT COUNT(*) FROM user_key WHERE tenant_id = $1 AND id = $2 AND deleted_at = 0`
	}
	n, err := db.One(ctx, q, db.Scalar[int64], text, tenant, sub.ID)
	return n > 0, err
}

var _ meter.Grantor = (*Service)(nil)
