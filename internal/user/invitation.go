package user

import (
	"context"
	"errors"
	"math"
	"net/mail"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
)

const invitationMost = 90 * 24 * time.Hour

// Invitations lists the invitations of the caller's organisation, newest first.
func (s *Service) Invitations(ctx context.Context, limit int, after string) (page.List[Invitation], error) {
	p, _ := auth.From(ctx)
	limit = page.Limit(limit)
	filter := "invitations\x00" + p.TenantID
	at, last, err := cursor(filter, after, math.MaxInt64)
	if err != nil {
		return page.List[Invitation]{}, err
	}
	var rows []Invitation
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = invitationsOf(ctx, q, p.TenantID, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[Invitation]{}, err
	}
	for i := range rows {
		rows[i].show(s.Now())
	}
	return page.Of(rows, limit, filter, func(i Invitation) []string { return []string{micros(i.CreatedAt), i.ID} }), nil
}

// show gives an invitation whose time is over its state.
func (i *Invitation) show(now time.Time) {
	if i.State == invitationPending && !now.Before(i.ExpiresAt) {
		i.State = invitationExpired
	}
}

// The states of invitations.
const (
	invitationPending  = "pending"
	invitationAccepted = "accepted"
	invitationRevoked  = "revoked"
	invitationExpired  = "expired"
)

// Invite asks a person by address to become a member. The link is in the answer, once, and in a mail where this installation sends mails. An earlier open invitation of the address is withdrawn.
func (s *Service) Invite(ctx context.Context, n NewInvitation) (MadeInvitation, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	role, err := ParseRole(n.one(string(Developer)))
	if err != nil {
		return MadeInvitation{}, err
	}
	i := Invitation{Email: n.Email, Role: role, Projects: n.Projects, InvitedBy: p.UserID, ExpiresAt: n.ExpiresAt.UTC()}
	if i.ExpiresAt.IsZero() {
		i.ExpiresAt = now.Add(invitationLife)
	}
	var made *MadeInvitation
	err = s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.mayAssign(ctx, tx, role); err != nil {
			return err
		}
		if err := s.inviteProjects(ctx, tx, &i); err != nil {
			return err
		}
		t, err := tenantByID(ctx, tx, p.UserID, p.TenantID)
		if err != nil {
			return err
		}
		made, err = s.makeInvitation(ctx, tx, Tenant{ID: t.ID, Name: t.Name}, i)
		return err
	})
	if err != nil {
		return MadeInvitation{}, err
	}
	return *made, nil
}

// inviteProjects checks the projects that come with a membership: the caller leads them or may change all.
func (s *Service) inviteProjects(ctx context.Context, q db.Querier, i *Invitation) error {
	p, _ := auth.From(ctx)
	for _, pid := range i.Projects {
		t, err := projectByID(ctx, q, p.TenantID, p.UserID, pid)
		if err == nil {
			err = lead(p, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeInvitation stores an invitation and plans its mail.
func (s *Service) makeInvitation(ctx context.Context, tx *db.Tx, t Tenant, i Invitation) (*MadeInvitation, error) {
	now := s.Now()
	i.ID, i.State, i.CreatedAt, i.Rev, i.tenantID, i.Roles = id.New("inv"), invitationPending, now, 1, t.ID, []Role{i.Role}
	if err := i.validate(now); err != nil {
		return nil, err
	}
	uid, err := accountByEmail(ctx, tx, i.Email)
	if err != nil {
		return nil, err
	}
	if uid != "" {
		if _, err := memberByID(ctx, tx, t.ID, uid); err == nil {
			return nil, ErrAlreadyMember.With("%s is a member already", i.Email)
		}
	}
	if err := closeInvitations(ctx, tx, t.ID, i.Email, now); err != nil {
		return nil, err
	}
	token := newOpaque()
	i.hash = hexHash(token)
	if i.Mailed, err = s.sendInvitation(ctx, tx, t, i, token); err != nil {
		return nil, err
	}
	if err := insertInvitation(ctx, tx, i); err != nil {
		return nil, err
	}
	if i, err = invitationByID(ctx, tx, t.ID, i.ID); err != nil {
		return nil, err
	}
	return &MadeInvitation{i, token, s.inviteURL(token)}, s.invited(ctx, tx, t, i)
}

func (i *Invitation) validate(now time.Time) error {
	var f []fault.Field
	i.Email = strings.TrimSpace(i.Email)
	if a, err := mail.ParseAddress(i.Email); err != nil || a.Address != i.Email || len(i.Email) > 254 {
		f = append(f, fault.Field{Name: "body.email", Code: "format", Message: "must be a mail address"})
	}
	if !i.ExpiresAt.After(now) || i.ExpiresAt.After(now.Add(invitationMost)) {
		f = append(f, fault.Field{Name: "body.expires_at", Code: "out_of_range", Message: "must lie in the next 90 days"})
	}
	if i.Projects == nil {
		i.Projects = []string{}
	}
	return fields(ErrInvitationFields, f)
}

func (s *Service) invited(ctx context.Context, tx *db.Tx, t Tenant, i Invitation) error {
	p, _ := auth.From(ctx)
	return s.publish(ctx, tx, t.ID, InvitationCreated{InvitationID: i.ID, Email: i.Email, TenantName: t.Name, RoleName: i.RoleName, Mailed: i.Mailed, ExpiresAt: i.ExpiresAt, By: p.UserID})
}

// ResendInvitation makes a new link, good for the usual time, and sends it; the old link ends.
func (s *Service) ResendInvitation(ctx context.Context, iid string) (MadeInvitation, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	token := newOpaque()
	var i Invitation
	err := s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if i, err = invitationByID(ctx, tx, p.TenantID, iid); err != nil {
			return err
		}
		if i.State != invitationPending {
			return ErrInvitationClosed
		}
		if err := s.mayAssign(ctx, tx, i.Role); err != nil {
			return err
		}
		td, err := tenantByID(ctx, tx, p.UserID, p.TenantID)
		if err != nil {
			return err
		}
		t := Tenant{ID: td.ID, Name: td.Name}
		i.hash, i.ExpiresAt = hexHash(token), now.Add(invitationLife)
		if i.Mailed, err = s.sendInvitation(ctx, tx, t, i, token); err != nil {
			return err
		}
		if err := updateInvitation(ctx, tx, i, now); err != nil {
			return err
		}
		i.Rev++
		return s.invited(ctx, tx, t, i)
	})
	return MadeInvitation{i, token, s.inviteURL(token)}, err
}

// RevokeInvitation withdraws an invitation: its link ends.
func (s *Service) RevokeInvitation(ctx context.Context, iid string) error {
	p, _ := auth.From(ctx)
	return s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		i, err := invitationByID(ctx, tx, p.TenantID, iid)
		if err != nil {
			return err
		}
		i.State = invitationRevoked
		return updateInvitation(ctx, tx, i, s.Now())
	})
}

// ShowInvitation tells the holder of a token what it is for: ErrInvitationNotFound for an unknown, used, withdrawn or expired one.
func (s *Service) ShowInvitation(ctx context.Context, token string) (InvitationView, error) {
	var v InvitationView
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		i, t, err := s.liveInvitation(ctx, q, token)
		if err != nil {
			return err
		}
		uid, err := accountByEmail(ctx, q, i.Email)
		v = InvitationView{Tenant: t, Email: i.Email, RoleName: i.RoleName, ExpiresAt: i.ExpiresAt, AccountExists: uid != ""}
		return err
	})
	return v, err
}

// liveInvitation finds an invitation that can be accepted now, and its organisation.
func (s *Service) liveInvitation(ctx context.Context, q db.Querier, token string) (Invitation, Tenant, error) {
	if token == "" || len(token) > 128 {
		return Invitation{}, Tenant{}, ErrInvitationNotFound
	}
	i, err := invitationByHash(ctx, q, hexHash(token))
	if err != nil {
		return i, Tenant{}, err
	}
	t, err := tenantByID(ctx, q, "", i.tenantID)
	if err != nil {
		return i, Tenant{}, err
	}
	if i.State != invitationPending || !s.Now().Before(i.ExpiresAt) || t.Status != TenantActive {
		return i, Tenant{}, ErrInvitationNotFound
	}
	return i, Tenant{ID: t.ID, Name: t.Name}, nil
}

// AcceptInvitation makes the signed-in caller, who must be the invited person, a member. Their session stays where it is; SwitchTenant moves it.
func (s *Service) AcceptInvitation(ctx context.Context, token string) (TenantDetail, error) {
	p, err := person(ctx)
	if err != nil {
		return TenantDetail{}, err
	}
	var t TenantDetail
	err = s.across().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		i, tenant, err := s.liveInvitation(ctx, tx, token)
		if err != nil {
			return err
		}
		me, err := userByID(ctx, tx, p.TenantID, p.UserID)
		if err != nil {
			return err
		}
		if emailKey(me.Email) != emailKey(i.Email) {
			return ErrInvitationNotFound.With("this invitation is for another address").WithHint("Sign in as the invited person")
		}
		if err := insertMember(ctx, tx, tenant.ID, me.ID, i.Role, s.Now()); err != nil {
			return err
		}
		me.Tenant, me.Role = tenant, i.Role
		if err := s.joined(ctx, tx, i, me); err != nil {
			return err
		}
		t, err = tenantByID(ctx, tx, p.UserID, tenant.ID)
		return err
	})
	return t, err
}

// joined closes an invitation that was accepted: projects are joined, every process asks again for the rights of the account.
func (s *Service) joined(ctx context.Context, tx *db.Tx, i Invitation, u User) error {
	now := s.Now()
	i.State, i.acceptedBy, i.AcceptedAt = invitationAccepted, u.ID, now
	if err := updateInvitation(ctx, tx, i, now); err != nil {
		return err
	}
	for _, pid := range i.Projects {
		if _, err := projectByID(ctx, tx, i.tenantID, u.ID, pid); errors.Is(err, ErrProjectNotFound) {
			continue // deleted meanwhile
		} else if err != nil {
			return err
		}
		if err := putProjectMember(ctx, tx, i.tenantID, pid, u.ID, projectMember, now); err != nil {
			return err
		}
	}
	return s.rightsChanged(auth.AsSystem(ctx, i.tenantID), tx, u, false, now)
}

// sendInvitation plans the mail with the link; false where this installation sends none.
func (s *Service) sendInvitation(ctx context.Context, tx *db.Tx, t Tenant, i Invitation, token string) (bool, error) {
	by, err := userAnywhere(ctx, tx, i.InvitedBy)
	if err != nil && !isNoRow(err) {
		return false, err
	}
	return s.mailInvitation(ctx, tx, i.Email, t.Name, by.Email, by.Locale, s.inviteURL(token), i.ExpiresAt.Sub(s.Now()))
}

// inviteURL is the page that accepts an invitation.
func (s *Service) inviteURL(token string) string { return s.url("/invite?token=" + token) }
