package user

import (
	"context"
	"errors"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
)

// ServiceAccounts lists the accounts for programs: those that the caller made, or all of the organisation for those with key:admin.
func (s *Service) ServiceAccounts(ctx context.Context, limit int, after string) (page.List[ServiceAccount], error) {
	p, _ := auth.From(ctx)
	limit = page.Limit(limit)
	filter := "services\x00" + p.TenantID + "\x00" + keyOwner(p)
	at, last, err := cursor(filter, after, 0)
	if err != nil {
		return page.List[ServiceAccount]{}, err
	}
	var rows []ServiceAccount
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = servicesOf(ctx, q, p.TenantID, keyOwner(p), at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[ServiceAccount]{}, err
	}
	return page.Of(rows, limit, filter, func(a ServiceAccount) []string { return []string{micros(a.CreatedAt), a.ID} }), nil
}

// ServiceAccount is one that the caller may handle: ErrServiceNotFound.
func (s *Service) ServiceAccount(ctx context.Context, sid string) (ServiceAccount, error) {
	p, _ := auth.From(ctx)
	var a ServiceAccount
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		a, err = serviceByID(ctx, q, p.TenantID, keyOwner(p), sid)
		return err
	})
	return a, err
}

// MakeServiceAccount makes an account for programs. It has a role that may no more than the caller, owns keys and never signs in.
func (s *Service) MakeServiceAccount(ctx context.Context, n NewServiceAccount) (ServiceAccount, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	a := ServiceAccount{ID: id.New("svc"), Name: n.Name, Description: n.Description, Status: Active, CreatedBy: p.UserID, CreatedAt: now, UpdatedAt: now, Rev: 1}
	role, err := ParseRole(n.one(string(Developer)))
	if err != nil {
		return a, err
	}
	a.Role = role
	if err := a.validate(); err != nil {
		return a, err
	}
	err = s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.mayAssign(ctx, tx, a.Role); err != nil {
			return err
		}
		if a.ProjectID, _, err = s.keyProject(ctx, tx, p, n.ProjectID); err != nil {
			return err
		}
		if err := insertService(ctx, tx, p.TenantID, a); err != nil {
			return err
		}
		if a, err = serviceByID(ctx, tx, p.TenantID, "", a.ID); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, Changed{UserID: a.ID, Status: a.Status, Role: a.Role, By: p.UserID})
	})
	return a, err
}

func (a *ServiceAccount) validate() error {
	f := oneLine(&a.Name, "name", false, 64)
	f = append(f, oneLine(&a.Description, "description", true, 500)...)
	if a.Status != Active && a.Status != Suspended {
		f = append(f, fault.Field{Name: "body.status", Code: "not_in_list", Message: "must be active or suspended"})
	}
	if a.Role == Owner {
		f = append(f, fault.Field{Name: "body.role", Code: "not_in_list", Message: "owners are people"})
	}
	return fields(ErrServiceFields, f)
}

// changeService applies f to a service account that the caller may handle and that may no more than they do; what changed of its rights acts at once.
func (s *Service) changeService(ctx context.Context, sid string, f func(context.Context, *db.Tx, *ServiceAccount, time.Time) error) (ServiceAccount, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	var a ServiceAccount
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if a, err = serviceByID(ctx, tx, p.TenantID, keyOwner(p), sid); err != nil {
			return err
		}
		was := a.Role
		a.UpdatedAt = now
		if err := f(ctx, tx, &a, now); err != nil {
			return err
		}
		if err := s.mayAssign(ctx, tx, was, a.Role); err != nil {
			return err
		}
		if err := s.accountTouched(ctx, tx, a.ID); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, Changed{UserID: a.ID, Status: a.Status, Role: a.Role, By: p.UserID})
	})
	return a, err
}

// UpdateServiceAccount changes a service account; a suspended one's keys do not work.
func (s *Service) UpdateServiceAccount(ctx context.Context, sid string, patch ServiceAccountPatch, check func(ServiceAccount) error) (ServiceAccount, error) {
	p, _ := auth.From(ctx)
	return s.changeService(ctx, sid, func(ctx context.Context, tx *db.Tx, a *ServiceAccount, _ time.Time) error {
		if patch.Name != nil {
			a.Name = *patch.Name
		}
		if patch.Description != nil {
			a.Description = *patch.Description
		}
		if patch.Status != nil {
			a.Status = Status(*patch.Status)
		}
		if role := patch.one(""); role != "" {
			r, err := ParseRole(role)
			if err != nil {
				return err
			}
			a.Role = r
		}
		if err := errors.Join(check(*a), a.validate()); err != nil {
			return err
		}
		var err error
		if patch.ProjectID != nil {
			if a.ProjectID, _, err = s.keyProject(ctx, tx, p, *patch.ProjectID); err != nil {
				return err
			}
		}
		if _, err := rolePermissions(ctx, tx, p.TenantID, a.Role); err != nil {
			return err
		}
		if err := updateService(ctx, tx, p.TenantID, *a); err != nil {
			return err
		}
		*a, err = serviceByID(ctx, tx, p.TenantID, "", a.ID)
		return err
	})
}

// DeleteServiceAccount ends a service account: its keys are revoked. Usage keeps its id.
func (s *Service) DeleteServiceAccount(ctx context.Context, sid string) error {
	p, _ := auth.From(ctx)
	_, err := s.changeService(ctx, sid, func(ctx context.Context, tx *db.Tx, a *ServiceAccount, now time.Time) error {
		u, err := userByID(ctx, tx, p.TenantID, a.ID)
		if err != nil {
			return err
		}
		a.Status = Erased
		return s.leave(ctx, tx, u, now)
	})
	return err
}
