package user

import (
	"context"
	"errors"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/platform/page"
)

// The errors of limits.
var (
	ErrLimitNotFound = fault.New(fault.NotFound, "user.limit_not_found", "there is no such limit")
	ErrLimitFields   = fault.New(fault.Invalid, "user.limit_invalid", "some fields of the limit are wrong")
	ErrLimitTaken    = fault.New(fault.Conflict, "user.limit_taken", "this subject has a limit of this unit").WithHint("Change that one")
	ErrLimitOperator = fault.New(fault.Forbidden, "user.limit_of_operator", "this limit was set by the operator of the installation")
	ErrStaleLimit    = fault.New(fault.Conflict, "user.limit_stale", "the limit was changed by someone else meanwhile").WithHint("Load it again, then repeat the change")
)

const limitMost = 1 << 50

// LimitSubject is whom a limit holds for.
type LimitSubject struct {
	Kind string `json:"kind" enum:"tenant,project,user,key,model"`
	ID   string `json:"id" maxLength:"256" doc:"Of a model: its public name. Of the tenant: may be left out"`
}

// Limit bounds what a subject may ask for per minute, or at a time.
type Limit struct {
	ID         string       `json:"id"`
	Subject    LimitSubject `json:"subject"`
	Unit       meter.Unit   `json:"unit" enum:"requests,tokens,concurrent"`
	Limit      int64        `json:"limit" doc:"Requests or tokens per minute; requests at a time for concurrent. 0 = nothing passes"`
	Burst      int64        `json:"burst,omitempty" doc:"Units that may come at once; 0 = ten seconds' worth of requests, a minute's of tokens"`
	ByOperator bool         `json:"by_operator,omitempty" doc:"Set by the operator of the installation"`
	CreatedAt  time.Time    `json:"created_at"`
	UpdatedAt  time.Time    `json:"updated_at"`
	Rev        int64        `json:"rev"`

	tenantID string
	deleted  bool
}

// NewLimit is what a limit is made from.
type NewLimit struct {
	Subject  LimitSubject `json:"subject"`
	Unit     meter.Unit   `json:"unit" enum:"requests,tokens,concurrent"`
	Limit    int64        `json:"limit" minimum:"0"`
	Burst    int64        `json:"burst,omitempty" minimum:"0"`
	Operator bool         `json:"operator,omitempty" doc:"Operators only: a limit that the organisation cannot change; the subject may be any organisation"`
}

// LimitPatch changes a limit; nil leaves a part as it is.
type LimitPatch struct {
	Limit *int64 `json:"limit,omitempty" minimum:"0"`
	Burst *int64 `json:"burst,omitempty" minimum:"0"`
}

// LimitFilter narrows the list.
type LimitFilter struct {
	Kind, Subject string
	Limit         int
	After         string
}

func (l *Limit) validate() error {
	var f []fault.Field
	if s := l.Subject.ID; s == "" || len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
		f = append(f, fault.Field{Name: "body.subject.id", Code: "required", Message: "names whom the limit is for"})
	}
	if l.Limit < 0 || l.Limit > limitMost {
		f = append(f, fault.Field{Name: "body.limit", Code: "out_of_range", Message: "must be 0 to 2^50"})
	}
	switch {
	case l.Burst < 0 || l.Burst > limitMost:
		f = append(f, fault.Field{Name: "body.burst", Code: "out_of_range", Message: "must be 0 to 2^50"})
	case l.Burst > 0 && l.Unit == meter.Concurrent:
		f = append(f, fault.Field{Name: "body.burst", Code: "unknown", Message: "limits of concurrent requests have none"})
	case l.Burst > l.Limit:
		f = append(f, fault.Field{Name: "body.burst", Code: "out_of_range", Message: "must not be over the limit", Limit: l.Limit})
	}
	if len(f) > 0 {
		return ErrLimitFields.WithFields(f...)
	}
	return nil
}

// MakeLimit makes a limit for a subject of the caller's tenant; an operator's may be for any tenant. ErrLimitTaken if there is one of the unit.
func (s *Service) MakeLimit(ctx context.Context, n NewLimit) (Limit, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	l := Limit{ID: id.New("lim"), Subject: n.Subject, Unit: n.Unit, Limit: n.Limit, Burst: n.Burst, ByOperator: n.Operator, CreatedAt: now, UpdatedAt: now, Rev: 1, tenantID: p.TenantID}
	if n.Operator && !p.May("platform:write") {
		return Limit{}, auth.ErrForbidden.With("limits that an organisation cannot change are set by operators")
	}
	if l.Subject.Kind == "tenant" {
		if l.Subject.ID == "" {
			l.Subject.ID = p.TenantID
		}
		if n.Operator {
			l.tenantID = l.Subject.ID
		}
	}
	if err := l.validate(); err != nil {
		return Limit{}, err
	}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if ok, err := limitSubjectExists(ctx, tx, l.tenantID, l.Subject); err != nil {
			return err
		} else if !ok {
			return ErrLimitFields.WithFields(fault.Field{Name: "body.subject.id", Code: "not_found", Message: "there is no such " + l.Subject.Kind})
		}
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		return insertLimit(ctx, tx, l, v)
	})
	if errors.Is(err, db.ErrDuplicate) {
		return Limit{}, ErrLimitTaken.Wrap(err)
	}
	return l, err
}

// Limits lists the limits of the caller's tenant, oldest first.
func (s *Service) Limits(ctx context.Context, f LimitFilter) (page.List[Limit], error) {
	p, _ := auth.From(ctx)
	limit := page.Limit(f.Limit)
	filter := "limit\x00" + p.TenantID + "\x00" + f.Kind + "\x00" + f.Subject
	at, last, err := cursor(filter, f.After, 0)
	if err != nil {
		return page.List[Limit]{}, err
	}
	var rows []Limit
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = limitsOf(ctx, q, p.TenantID, f, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[Limit]{}, err
	}
	return page.Of(rows, limit, filter, func(l Limit) []string { return []string{micros(l.CreatedAt), l.ID} }), nil
}

// Limit returns one limit: ErrLimitNotFound.
func (s *Service) Limit(ctx context.Context, lid string) (Limit, error) {
	p, _ := auth.From(ctx)
	var l Limit
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		l, err = limitByID(ctx, q, p.TenantID, lid)
		return err
	})
	return l, err
}

// UpdateLimit changes a limit. It holds for the next call here, and within half a second elsewhere; what was counted goes on counting.
func (s *Service) UpdateLimit(ctx context.Context, lid string, patch LimitPatch, check func(Limit) error) (Limit, error) {
	return s.changeLimit(ctx, lid, check, func(l *Limit) error {
		if patch.Limit != nil {
			l.Limit = *patch.Limit
		}
		if patch.Burst != nil {
			l.Burst = *patch.Burst
		}
		return l.validate()
	})
}

// DeleteLimit lifts a limit.
func (s *Service) DeleteLimit(ctx context.Context, lid string) error {
	_, err := s.changeLimit(ctx, lid, nil, func(l *Limit) error { l.deleted = true; return nil })
	return err
}

func (s *Service) changeLimit(ctx context.Context, lid string, check func(Limit) error, f func(*Limit) error) (Limit, error) {
	p, _ := auth.From(ctx)
	var l Limit
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		tenant := p.TenantID
		if p.May("platform:write") {
			tenant = "" // an operator's reach
		}
		var err error
		if l, err = limitByID(ctx, tx, tenant, lid); err != nil {
			return err
		}
		if tenant == "" && l.tenantID != p.TenantID && !l.ByOperator {
			return ErrLimitNotFound.With("there is no limit %q", lid)
		}
		if l.ByOperator && !p.May("platform:write") {
			return ErrLimitOperator
		}
		if check != nil {
			if err := check(l); err != nil {
				return err
			}
		}
		l.UpdatedAt = s.Now()
		if err := f(&l); err != nil {
			return err
		}
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		return updateLimit(ctx, tx, &l, v)
	})
	return l, err
}
