package user

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
)

// objectService is the service that answers for a kind of object: on one only its permissions can be granted.
var objectService = map[string]string{"model": "model", "deployment": "inference", "provider": "inference", "route": "inference", "key": "key", "project": "project"}

// Grants lists grants of the caller's organisation, oldest first.
func (s *Service) Grants(ctx context.Context, f GrantFilter) (page.List[GrantDetail], error) {
	p, _ := auth.From(ctx)
	limit := page.Limit(f.Limit)
	filter := strings.Join([]string{"grants", p.TenantID, f.Subject, f.Kind, f.Object}, "\x00")
	at, last, err := cursor(filter, f.After, 0)
	if err != nil {
		return page.List[GrantDetail]{}, err
	}
	var rows []GrantDetail
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = grantsOf(ctx, q, p.TenantID, f, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[GrantDetail]{}, err
	}
	for i := range rows {
		if rows[i].Subject.ID != p.UserID && !p.May("user:read_pii") {
			rows[i].Subject.Name = User{Email: rows[i].Subject.Name}.masked().Email
		}
	}
	return page.Of(rows, limit, filter, func(g GrantDetail) []string { return []string{micros(g.CreatedAt), g.ID} }), nil
}

// MakeGrant gives a member or service account a role or one permission, everywhere or on one object, for a time or for good. It acts at once. ErrGrantFields, ErrMemberNotFound, ErrMoreThanOwn, ErrGrantTaken.
func (s *Service) MakeGrant(ctx context.Context, n NewGrant) (GrantDetail, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	g := GrantDetail{ID: id.New("grt"), Subject: n.Subject, Role: n.Role, Permission: n.Permission, Object: n.Object, ExpiresAt: n.ExpiresAt.UTC(), CreatedBy: p.UserID, CreatedAt: now}
	if err := g.validate(); err != nil {
		return g, err
	}
	if !g.ExpiresAt.IsZero() && !g.ExpiresAt.After(now) {
		return g, ErrGrantFields.WithFields(fault.Field{Name: "body.expires_at", Code: "out_of_range", Message: "must lie in the future"})
	}
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		u, err := userByID(ctx, tx, p.TenantID, g.Subject.ID)
		if errors.Is(err, ErrNotFound) || err == nil && u.service != (g.Subject.Kind == "service_account") {
			return ErrMemberNotFound.With("there is no %s %q", strings.ReplaceAll(g.Subject.Kind, "_", " "), g.Subject.ID)
		}
		if err != nil {
			return err
		}
		if g.Subject.Name, err = userName(ctx, tx, p.TenantID, u.ID); err != nil {
			return err
		}
		list := []string{g.Permission}
		if g.Role != "" {
			if list, err = rolePermissions(ctx, tx, p.TenantID, Role(g.Role)); err != nil {
				return err
			}
		}
		if err := covers(p, list); err != nil {
			return err
		}
		if err := insertGrant(ctx, tx, p.TenantID, g); err != nil {
			return err
		}
		if err := s.accountTouched(ctx, tx, u.ID); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, GrantChanged{GrantID: g.ID, UserID: u.ID, By: p.UserID})
	})
	return g, err
}

// validate returns all that is wrong with the form of a grant.
func (g *GrantDetail) validate() error {
	var f []fault.Field
	bad := func(name, code, message string) {
		f = append(f, fault.Field{Name: "body." + name, Code: code, Message: message})
	}
	if g.Subject.Kind != "user" && g.Subject.Kind != "service_account" {
		bad("subject.kind", "not_in_list", "must be user or service_account")
	}
	if (g.Role == "") == (g.Permission == "") {
		bad("permission", "required", "name either a permission or a role")
	}
	if g.Role != "" {
		if r, err := ParseRole(g.Role); err != nil || r == Owner {
			bad("role", "not_in_list", "must be a role of the organisation other than owner")
		}
		if g.Object != nil {
			bad("role", "conflict", "on one object a permission is granted, not a role")
		}
	}
	if g.Permission != "" && (!Known(g.Permission) || len(grants[g.Permission]) == 0 || g.Permission == "user:grant_owner") {
		bad("permission", "not_in_list", "must be one of GET /permissions")
	}
	if g.Object != nil {
		service, known := objectService[g.Object.Kind]
		switch {
		case !known:
			bad("object.kind", "not_in_list", "must be "+strings.Join(slices.Sorted(maps.Keys(objectService)), ", "))
		case g.Permission != "" && !strings.HasPrefix(g.Permission, service+":"):
			bad("permission", "conflict", "on a "+g.Object.Kind+" a permission of "+service+" can be granted")
		}
		if g.Object.ID == "" || strings.ContainsAny(g.Object.ID, "/\x00") {
			bad("object.id", "required", "must be the id of the object")
		}
	}
	return fields(ErrGrantFields, f)
}

// DeleteGrant takes a grant back at once.
func (s *Service) DeleteGrant(ctx context.Context, gid string) error {
	p, _ := auth.From(ctx)
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		g, err := grantByID(ctx, tx, p.TenantID, gid)
		if err != nil {
			return err
		}
		if err := deleteGrant(ctx, tx, p.TenantID, gid); err != nil {
			return err
		}
		if err := s.accountTouched(ctx, tx, g.Subject.ID); err != nil {
			return err
		}
		return s.publish(ctx, tx, p.TenantID, GrantChanged{GrantID: g.ID, UserID: g.Subject.ID, Ended: true, By: p.UserID})
	})
}

// watchGrants ends grants whose time is over, each second, until ctx ends.
func (s *Service) watchGrants(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := s.EndGrants(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.Log.ErrorContext(ctx, "end grants", "error", err)
		}
		failing = err != nil
	}
}

// EndGrants removes the grants whose time is over; those who had them lose the rights at once. Run calls it each second.
func (s *Service) EndGrants(ctx context.Context) error {
	now := s.Now()
	due := false
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		n, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_grant WHERE expires_at > 0 AND expires_at <= $1`, db.Micro(now))
		due = n > 0
		return err
	})
	if err != nil || !due {
		return err
	}
	return s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		ended, err := endGrants(ctx, tx, now)
		if err != nil {
			return err
		}
		v, err := bump(ctx, tx)
		if err != nil {
			return err
		}
		s.changed(tx)
		for _, g := range ended {
			if err := touchRights(ctx, tx, g.who.tenant, g.who.user, v); err != nil {
				return err
			}
			if err := s.publish(ctx, tx, g.who.tenant, GrantChanged{GrantID: g.id, UserID: g.who.user, Ended: true}); err != nil {
				return err
			}
		}
		return nil
	})
}
