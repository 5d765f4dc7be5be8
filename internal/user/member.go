package user

import (
	"context"
	"errors"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/page"
)

// Members lists the people of the caller's organisation in the order in which they joined.
func (s *Service) Members(ctx context.Context, limit int, after string) (page.List[Member], error) {
	p, _ := auth.From(ctx)
	limit = page.Limit(limit)
	filter := "members\x00" + p.TenantID
	at, last, err := cursor(filter, after, 0)
	if err != nil {
		return page.List[Member]{}, err
	}
	var rows []Member
	err = s.across().Read(ctx, func(ctx context.Context, q *db.Query) error { // Shared counts other organisations
		rows, err = membersOf(ctx, q, p.TenantID, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[Member]{}, err
	}
	for i := range rows {
		rows[i] = rows[i].seenBy(p)
	}
	return page.Of(rows, limit, filter, func(m Member) []string { return []string{micros(m.JoinedAt), m.ID} }), nil
}

// Member is one of the caller's organisation: ErrMemberNotFound.
func (s *Service) Member(ctx context.Context, uid string) (Member, error) {
	p, _ := auth.From(ctx)
	var m Member
	err := s.across().Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		m, err = memberByID(ctx, q, p.TenantID, uid)
		return err
	})
	return m.seenBy(p), err
}

// seenBy hides the address, and that there are other organisations, from those who may not read personal data of others.
func (m Member) seenBy(p auth.Principal) Member {
	if m.ID != p.UserID && !p.May("user:read_pii") {
		m.Email, m.Shared = User{Email: m.Email}.masked().Email, false
	}
	return m
}

// UpdateMember changes role and state of a member in the caller's organisation, and nothing of the account itself.
func (s *Service) UpdateMember(ctx context.Context, uid string, patch MemberPatch) (Member, error) {
	p, _ := auth.From(ctx)
	_, err := s.change(ctx, uid, func(u *User, now time.Time) error {
		if role := patch.one(""); role != "" {
			r, err := ParseRole(role)
			if err != nil {
				return err
			}
			u.Role = r
		}
		if patch.Status != nil {
			if u.ID == p.UserID {
				return ErrSelf.With("you cannot suspend yourself")
			}
			u.Status = Status(*patch.Status)
		}
		u.UpdatedAt = now
		return nil
	})
	if err != nil {
		return Member{}, memberErr(err, uid)
	}
	return s.Member(ctx, uid)
}

// RemoveMember takes a person out of the caller's organisation; see Delete.
func (s *Service) RemoveMember(ctx context.Context, uid string) error {
	return memberErr(s.Delete(ctx, uid), uid)
}

func memberErr(err error, uid string) error {
	if errors.Is(err, ErrNotFound) {
		return ErrMemberNotFound.With("there is no member %q", uid)
	}
	return err
}
