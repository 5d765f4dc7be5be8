package user

import (
	"context"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
)

// firstPlace is where a new account begins: the organisation and role of its invitation, else the first organisation with the configured role.
func (s *Service) firstPlace(ctx context.Context, token string) (Tenant, Role, *Invitation, error) {
	var t Tenant
	var inv *Invitation
	role := Role(s.Config.RegistrationRole)
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		if token == "" {
			var err error
			t, err = firstTenant(ctx, q)
			return err
		}
		i, err := s.openInvitation(ctx, q, token)
		if err != nil {
			return err
		}
		inv, role, t.ID = &i, i.Role, i.tenantID
		t.Name, err = db.One(ctx, q, db.Scalar[string], `SELECT name FROM user_tenant WHERE id = $1 AND status = 'active'`, i.tenantID)
		if isNoRow(err) {
			return ErrInvitationNotFound
		}
		return err
	})
	if isNoRow(err) {
		err = ErrRegistrationClosed
	}
	return t, role, inv, err
}

// openInvitation finds an invitation that can still be accepted.
func (s *Service) openInvitation(ctx context.Context, q db.Querier, token string) (Invitation, error) {
	if len(token) > 128 {
		return Invitation{}, ErrInvitationNotFound
	}
	i, err := invitationByHash(ctx, q, hexHash(token))
	switch {
	case err != nil:
		return i, err
	case i.State != "pending":
		return i, ErrInvitationClosed
	case !s.Now().Before(i.ExpiresAt):
		return i, ErrInvitationNotFound
	}
	return i, nil
}

// takeInvitation uses an invitation up for an account that was made for it: an invitation is for the person it was sent to.
func (s *Service) takeInvitation(ctx context.Context, tx *db.Tx, i Invitation, u User) error {
	if emailKey(i.Email) != emailKey(u.Email) {
		return ErrInvitationNotFound.With("this invitation is for another address")
	}
	now := s.Now()
	i.State, i.acceptedBy, i.AcceptedAt = "accepted", u.ID, now
	if err := updateInvitation(ctx, tx, i, now); err != nil {
		return err
	}
	for _, project := range i.Projects {
		n, err := db.One(ctx, tx, db.Scalar[int64], `SELECT COUNT(*) FROM user_project WHERE tenant_id = $1 AND id = $2`, i.tenantID, project)
		if err == nil && n > 0 {
			err = putProjectMember(ctx, tx, i.tenantID, project, u.ID, "member", now)
		}
		if err != nil {
			return err
		}
	}
	return s.rightsChanged(auth.AsSystem(ctx, i.tenantID), tx, u, false, now)
}
