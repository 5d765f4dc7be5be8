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
	"maas/internal/platform/page"
)

// across is the handle for what concerns several organisations: people's memberships, the operator's list. Statements name the tenant themselves.
func (s *Service) across() *db.DB { return s.DB.System() }

// person is the caller, who must be one with a session.
func person(ctx context.Context) (auth.Principal, error) {
	p, ok := auth.From(ctx)
	if !ok {
		return p, auth.ErrUnauthenticated
	}
	if p.Kind != auth.User {
		return p, auth.ErrForbidden.With("an API key cannot do this; sign in")
	}
	return p, nil
}

// MyTenants lists the organisations that the caller is an active member of, oldest first. A key sees only its own.
func (s *Service) MyTenants(ctx context.Context, limit int, after string) (page.List[TenantDetail], error) {
	p, _ := auth.From(ctx)
	if p.Kind != auth.User {
		t, err := s.CurrentTenant(ctx)
		return page.List[TenantDetail]{Items: []TenantDetail{t}}, err
	}
	return s.tenants(ctx, false, limit, after)
}

// Tenants lists all organisations of the installation: for its operators.
func (s *Service) Tenants(ctx context.Context, limit int, after string) (page.List[TenantDetail], error) {
	return s.tenants(ctx, true, limit, after)
}

func (s *Service) tenants(ctx context.Context, all bool, limit int, after string) (page.List[TenantDetail], error) {
	p, _ := auth.From(ctx)
	limit = page.Limit(limit)
	filter := "tenants\x00" + p.UserID
	at, last, err := cursor(filter, after, 0)
	if err != nil {
		return page.List[TenantDetail]{}, err
	}
	var rows []TenantDetail
	err = s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = tenantsOf(ctx, q, p.UserID, all, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[TenantDetail]{}, err
	}
	for i := range rows {
		rows[i].Current = rows[i].ID == p.TenantID
	}
	return page.Of(rows, limit, filter, func(t TenantDetail) []string { return []string{micros(t.CreatedAt), t.ID} }), nil
}

// CurrentTenant is the organisation that the caller's credential acts in.
func (s *Service) CurrentTenant(ctx context.Context) (TenantDetail, error) {
	p, _ := auth.From(ctx)
	return s.tenant(ctx, p.TenantID)
}

// Tenant is any organisation of the installation: for its operators.
func (s *Service) Tenant(ctx context.Context, tid string) (TenantDetail, error) {
	return s.tenant(ctx, tid)
}

func (s *Service) tenant(ctx context.Context, tid string) (TenantDetail, error) {
	p, _ := auth.From(ctx)
	var t TenantDetail
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		t, err = tenantByID(ctx, q, p.UserID, tid)
		return err
	})
	t.Current = t.ID == p.TenantID
	return t, err
}

// CreateTenant makes an organisation: for operators. Its owner is the caller, or who answers the invitation that is made with it.
func (s *Service) CreateTenant(ctx context.Context, n NewTenant) (TenantDetail, *MadeInvitation, error) {
	p, err := person(ctx)
	if err != nil {
		return TenantDetail{}, nil, err
	}
	now := s.Now()
	t := TenantDetail{ID: id.New("ten"), Slug: n.Slug, Name: n.Name, Status: TenantActive, Timezone: "UTC", CreatedAt: now, UpdatedAt: now, Rev: 1}
	if t.Slug == "" {
		if t.Slug = slugFrom(t.Name); t.Slug == "" || reserved[t.Slug] {
			t.Slug = strings.ReplaceAll(t.ID, "_", "-")
		}
	}
	if err := t.validate(); err != nil {
		return t, nil, err
	}
	var made *MadeInvitation
	err = s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insertTenant(ctx, tx, Tenant{ID: t.ID, Name: t.Name}, t.Slug, now); err != nil {
			if errors.Is(err, db.ErrDuplicate) {
				return ErrTenantTaken.Wrap(err)
			}
			return err
		}
		if n.OwnerEmail == "" {
			if err := insertMember(ctx, tx, t.ID, p.UserID, Owner, now); err != nil {
				return err
			}
			t.Role, t.Members = string(Owner), 1
		} else {
			var err error
			if made, err = s.makeInvitation(ctx, tx, Tenant{ID: t.ID, Name: t.Name}, Invitation{Email: n.OwnerEmail, Role: Owner, InvitedBy: p.UserID, ExpiresAt: now.Add(invitationLife)}); err != nil {
				return err
			}
		}
		return s.publish(ctx, tx, t.ID, TenantChanged{TenantID: t.ID, Name: t.Name, Status: t.Status, By: p.UserID})
	})
	return t, made, err
}

// validate brings the texts into form and returns all that is wrong.
func (t *TenantDetail) validate() error {
	f := oneLine(&t.Name, "name", false, 100)
	f = append(f, badSlug(t.Slug)...)
	if _, err := time.LoadLocation(t.Timezone); err != nil || t.Timezone == "" || t.Timezone == "Local" {
		f = append(f, fault.Field{Name: "body.timezone", Code: "not_in_list", Message: "must be the name of a time zone such as Europe/Berlin or UTC"})
	}
	return fields(ErrTenantFields, f)
}

// UpdateCurrentTenant changes name, short name and time zone of the caller's organisation.
func (s *Service) UpdateCurrentTenant(ctx context.Context, patch TenantPatch, check func(TenantDetail) error) (TenantDetail, error) {
	p, _ := auth.From(ctx)
	return s.UpdateTenant(ctx, p.TenantID, patch, check)
}

// UpdateTenant changes any organisation: for operators, and inside UpdateCurrentTenant.
func (s *Service) UpdateTenant(ctx context.Context, tid string, patch TenantPatch, check func(TenantDetail) error) (TenantDetail, error) {
	return s.changeTenant(ctx, tid, func(_ context.Context, _ *db.Tx, t *TenantDetail, _ time.Time) error {
		for _, f := range []struct{ to, from *string }{{&t.Name, patch.Name}, {&t.Slug, patch.Slug}, {&t.Timezone, patch.Timezone}} {
			if f.from != nil {
				*f.to = *f.from
			}
		}
		return errors.Join(check(*t), t.validate())
	})
}

// changeTenant applies f to an organisation and tells what changed.
func (s *Service) changeTenant(ctx context.Context, tid string, f func(context.Context, *db.Tx, *TenantDetail, time.Time) error) (TenantDetail, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	var t TenantDetail
	err := s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if t, err = tenantByID(ctx, tx, p.UserID, tid); err != nil {
			return err
		}
		t.UpdatedAt = now
		if err := f(ctx, tx, &t, now); err != nil {
			return err
		}
		if err := updateTenant(ctx, tx, t); err != nil {
			return err
		}
		t.Rev++
		return s.publish(ctx, tx, t.ID, TenantChanged{TenantID: t.ID, Name: t.Name, Status: t.Status, By: p.UserID})
	})
	t.Current = t.ID == p.TenantID
	return t, err
}

// SuspendTenant stops an organisation: its sessions end, its keys are refused within a second, nobody signs in. ErrSelf for the one that the caller acts in.
func (s *Service) SuspendTenant(ctx context.Context, tid string) (TenantDetail, error) {
	p, _ := auth.From(ctx)
	return s.changeTenant(ctx, tid, func(ctx context.Context, tx *db.Tx, t *TenantDetail, now time.Time) error {
		switch {
		case t.ID == p.TenantID:
			return ErrSelf.With("you act in this organisation; switch to another one first")
		case t.Status == TenantPurging:
			return ErrTenantStatus.With("the organisation is being purged")
		}
		t.Status = TenantSuspended
		return s.endTenant(ctx, tx, t.ID, reasonSuspended, now)
	})
}

// endTenant ends all sessions of an organisation and makes every process ask again for its keys.
func (s *Service) endTenant(ctx context.Context, tx *db.Tx, tid, reason string, now time.Time) error {
	v, err := bump(ctx, tx)
	if err != nil {
		return err
	}
	if err := endTenantSessions(ctx, tx, tid, "", reason, v, now); err != nil {
		return err
	}
	s.changed(tx)
	return touchTenant(ctx, tx, tid, v)
}

// ActivateTenant undoes SuspendTenant. ErrTenantStatus for one that is being purged.
func (s *Service) ActivateTenant(ctx context.Context, tid string) (TenantDetail, error) {
	return s.changeTenant(ctx, tid, func(ctx context.Context, tx *db.Tx, t *TenantDetail, _ time.Time) error {
		if t.Status == TenantPurging {
			return ErrTenantStatus.With("the organisation is being purged")
		}
		t.Status = TenantActive
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		return touchTenant(ctx, tx, t.ID, v)
	})
}

// SwitchTenant moves the caller's session to another of their organisations and gives a new access token: ErrTenantNotFound if they are no active member of it, ErrSuspended if it is suspended.
func (s *Service) SwitchTenant(ctx context.Context, tid string) (Tokens, error) {
	p, err := person(ctx)
	if err != nil {
		return Tokens{}, err
	}
	now := s.Now()
	var t Tokens
	err = s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if t.Session, err = sessionByID(ctx, tx, p.SessionID); err != nil {
			return err
		}
		if err := t.Session.live(now); err != nil {
			return err
		}
		if t.User, err = userByID(ctx, tx, tid, p.UserID); errors.Is(err, ErrNotFound) {
			return ErrTenantNotFound.With("you are no member of an organisation %q", tid)
		}
		if err != nil {
			return err
		}
		if t.User.Status != Active || t.User.tenantStatus != string(Active) {
			return ErrSuspended
		}
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		t.Session.tenantID = tid
		s.changed(tx)
		return moveSession(ctx, tx, t.Session, v, now)
	})
	if err != nil {
		return Tokens{}, err
	}
	t.User.Permissions = t.User.sessionRights()
	t.Access, err = s.signer.Load().access(t.Session, now)
	return t, err
}
