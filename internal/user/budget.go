package user

import (
	"strings"
	"time"
	"unicode/utf8"

	"maas/internal/platform/fault"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// The errors of budgets.
var (
	ErrBudgetNotFound = fault.New(fault.NotFound, "user.budget_not_found", "there is no such budget")
	ErrBudgetFields   = fault.New(fault.Invalid, "user.budget_invalid", "some fields of the budget are wrong")
	ErrStaleBudget    = fault.New(fault.Conflict, "user.budget_stale", "the budget was changed by someone else meanwhile").WithHint("Load it again, then repeat the change")
	ErrBudgets        = fault.New(fault.Conflict, "user.budgets_most", "this subject has as many budgets as it may have").WithHint("Change or delete one of them")
)

const (
	budgetNameMost   = 100
	budgetsPerPerson = 6 // of one subject: two windows in each unit; a call passes those of four subjects
	budgetLimitMost  = 1 << 60
)

// Subject is whom a budget or a limit is for.
type Subject struct {
	Kind string `json:"kind" enum:"tenant,project,user,key"`
	ID   string `json:"id,omitempty" maxLength:"100" doc:"May be left out for a tenant: the caller's"`
}

// BudgetState says how far a budget is used up.
type BudgetState string

// The states.
const (
	BudgetOK        BudgetState = "ok"
	BudgetWarn      BudgetState = "warn"      // 80 % or more
	BudgetExhausted BudgetState = "exhausted" // nothing is left: a hard one refuses
)

// Budget limits what a subject may use in a calendar window.
type Budget struct {
	ID          string        `json:"id"`
	Subject     Subject       `json:"subject"`
	Name        string        `json:"name"`
	Unit        meter.Unit    `json:"unit" enum:"money,tokens,requests" doc:"Money counts micro-units of the currency"`
	Limit       int64         `json:"limit"`
	Window      ledger.Window `json:"window" enum:"day,week,month,total" doc:"In the time zone of the organisation"`
	Hard        bool          `json:"hard" doc:"Refuses calls when it is used up; a soft one only tells"`
	Extra       int64         `json:"extra,omitempty" doc:"Raise of the limit that holds now"`
	ExtraUntil  time.Time     `json:"extra_until,omitzero"`
	ExtraReason string        `json:"extra_reason,omitempty"`
	ExtraBy     string        `json:"extra_by,omitempty"`
	CreatedAt   time.Time     `json:"created_at"`
	UpdatedAt   time.Time     `json:"updated_at"`
	Rev         int64         `json:"rev"`

	Used        int64       `json:"used" doc:"Booked in this period"`
	Leased      int64       `json:"leased" doc:"Held by nodes for calls under way"`
	Left        int64       `json:"left"`
	PeriodStart time.Time   `json:"period_start,omitzero"`
	PeriodEnd   time.Time   `json:"period_end,omitzero"`
	State       BudgetState `json:"state" enum:"ok,warn,exhausted"`

	tenantID, zone string
	deleted        bool
}

// NewBudget is what a budget is made from.
type NewBudget struct {
	Subject Subject       `json:"subject"`
	Unit    meter.Unit    `json:"unit" enum:"money,tokens,requests"`
	Limit   int64         `json:"limit" minimum:"0" doc:"Micro-units, tokens or requests"`
	Window  ledger.Window `json:"window" enum:"day,week,month,total"`
	Hard    bool          `json:"hard,omitempty"`
	Name    string        `json:"name,omitempty" maxLength:"100"`
}

// BudgetPatch changes a budget; nil leaves a part as it is. Subject, unit and window stay: another one is another budget.
type BudgetPatch struct {
	Name  *string `json:"name,omitempty" maxLength:"100"`
	Limit *int64  `json:"limit,omitempty" minimum:"0"`
	Hard  *bool   `json:"hard,omitempty"`
}

// Raise lifts the limit for a time.
type Raise struct {
	Amount int64     `json:"amount" minimum:"0" doc:"Added to the limit; 0 ends a raise"`
	Until  time.Time `json:"until" format:"date-time"`
	Reason string    `json:"reason" maxLength:"500"`
}

// limit is what holds at a moment, a raise included.
func (b *Budget) limit(now time.Time) int64 {
	if b.Extra > 0 && now.Before(b.ExtraUntil) {
		return b.Limit + b.Extra
	}
	return b.Limit
}

// location is the time zone of the tenant; UTC where it does not read.
func location(zone string) *time.Location {
	if l, err := time.LoadLocation(zone); err == nil && zone != "" {
		return l
	}
	return time.UTC
}

// period is the window that holds a moment.
func (b *Budget) period(at time.Time) (start, end time.Time) {
	return b.Window.Period(at, location(b.zone))
}

// show fills in how far the budget is used.
func (b *Budget) show(p period, now time.Time) {
	b.PeriodStart, b.PeriodEnd = b.period(now)
	if !now.Before(b.ExtraUntil) {
		b.Extra, b.ExtraUntil, b.ExtraReason, b.ExtraBy = 0, time.Time{}, "", ""
	}
	limit := b.limit(now)
	b.Used, b.Leased, b.Left = p.used, p.leased, max(limit-p.used, 0)
	switch step := ledger.Reached(p.used, limit); {
	case step >= 100:
		b.State = BudgetExhausted
	case step >= 80:
		b.State = BudgetWarn
	default:
		b.State = BudgetOK
	}
}

func (b *Budget) validate() error {
	var f []fault.Field
	b.Name = strings.TrimSpace(b.Name)
	if utf8.RuneCountInString(b.Name) > budgetNameMost || strings.ContainsFunc(b.Name, func(r rune) bool { return r < ' ' }) {
		f = append(f, fault.Field{Name: "body.name", Code: "pattern", Message: "must be one line of at most 100 characters", Limit: budgetNameMost})
	}
	if b.Limit < 0 || b.Limit > budgetLimitMost {
		f = append(f, fault.Field{Name: "body.limit", Code: "out_of_range", Message: "must be 0 or more, and not astronomical", Limit: int64(budgetLimitMost)})
	}
	if subjectCol[b.Subject.Kind] == "" || b.Subject.ID == "" {
		f = append(f, fault.Field{Name: "body.subject", Code: "required", Message: "must name a tenant, project, user or key by kind and id"})
	}
	if len(f) > 0 {
		return ErrBudgetFields.WithFields(f...)
	}
	return nil
}

// BudgetReached says that a budget reached a share of its limit in this period.
type BudgetReached struct {
	BudgetID    string     `json:"budget_id"`
	TenantID    string     `json:"tenant_id"`
	Subject     Subject    `json:"subject"`
	Unit        meter.Unit `json:"unit"`
	Hard        bool       `json:"hard"`
	Percent     int64      `json:"percent"` // 50, 80, 100
	Used        int64      `json:"used"`
	Limit       int64      `json:"limit"`
	PeriodStart time.Time  `json:"period_start,omitzero"`
	Name        string     `json:"name,omitempty"`
}

// Topic implements event.Event.
func (BudgetReached) Topic() string { return "user.budget.reached" }

// Key implements event.Event.
func (e BudgetReached) Key() string { return e.BudgetID }
