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

// The roles in a project and its states.
const (
	projectLead     = "lead"
	projectMember   = "member"
	projectActive   = "active"
	projectArchived = "archived"
)

// Projects lists the projects of the caller's organisation, oldest first.
func (s *Service) Projects(ctx context.Context, limit int, after string) (page.List[Project], error) {
	p, _ := auth.From(ctx)
	limit = page.Limit(limit)
	filter := "projects\x00" + p.TenantID
	at, last, err := cursor(filter, after, 0)
	if err != nil {
		return page.List[Project]{}, err
	}
	var rows []Project
	err = s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		rows, err = projectsOf(ctx, q, p.TenantID, p.UserID, at, last, limit+1)
		return err
	})
	if err != nil {
		return page.List[Project]{}, err
	}
	return page.Of(rows, limit, filter, func(t Project) []string { return []string{micros(t.CreatedAt), t.ID} }), nil
}

// Project is one of the caller's organisation: ErrProjectNotFound.
func (s *Service) Project(ctx context.Context, pid string) (Project, error) {
	p, _ := auth.From(ctx)
	var t Project
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		var err error
		t, err = projectByID(ctx, q, p.TenantID, p.UserID, pid)
		return err
	})
	return t, err
}

// MakeProject makes a project; the caller becomes its lead. ErrProjectFields, ErrProjectTaken.
func (s *Service) MakeProject(ctx context.Context, n NewProject) (Project, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	t := Project{ID: id.New("prj"), Slug: n.Slug, Name: n.Name, Description: n.Description, Status: projectActive, Members: 1, Role: projectLead, CreatedAt: now, UpdatedAt: now, Rev: 1}
	if t.Slug == "" {
		if t.Slug = slugFrom(t.Name); t.Slug == "" || reserved[t.Slug] {
			t.Slug = strings.ReplaceAll(t.ID, "_", "-")
		}
	}
	if err := t.validate(); err != nil {
		return t, err
	}
	return t, s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insertProject(ctx, tx, p.TenantID, t); err != nil {
			return err
		}
		if err := putProjectMember(ctx, tx, p.TenantID, t.ID, p.UserID, projectLead, now); err != nil {
			return err
		}
		return s.projectChanged(ctx, tx, t)
	})
}

func (t *Project) validate() error {
	f := oneLine(&t.Name, "name", false, 100)
	f = append(f, oneLine(&t.Description, "description", true, 500)...)
	f = append(f, badSlug(t.Slug)...)
	if t.Status != projectActive && t.Status != projectArchived {
		f = append(f, fault.Field{Name: "body.status", Code: "not_in_list", Message: "must be active or archived"})
	}
	return fields(ErrProjectFields, f)
}

// projectChanged makes every process ask again who may act for which project; keys of an archived one stop.
func (s *Service) projectChanged(ctx context.Context, tx *db.Tx, t Project) error {
	p, _ := auth.From(ctx)
	v, err := bump(ctx, tx)
	if err != nil {
		return err
	}
	s.changed(tx)
	if err := touchTenant(ctx, tx, p.TenantID, v); err != nil {
		return err
	}
	return s.publish(ctx, tx, p.TenantID, ProjectChanged{ProjectID: t.ID, Name: t.Name, Status: t.Status, By: p.UserID})
}

// lead refuses who neither leads the project nor may change all projects.
func lead(p auth.Principal, t Project) error {
	if t.Role == projectLead || p.MayOn("project:write", auth.Object{Kind: "project", ID: t.ID}) {
		return nil
	}
	return auth.ErrForbidden.With("only a lead of the project or an admin can change it")
}

// changeProject applies f to a project that the caller leads.
func (s *Service) changeProject(ctx context.Context, pid string, f func(context.Context, *db.Tx, *Project, time.Time) error) (Project, error) {
	p, _ := auth.From(ctx)
	now := s.Now()
	var t Project
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if t, err = projectByID(ctx, tx, p.TenantID, p.UserID, pid); err != nil {
			return err
		}
		if err := lead(p, t); err != nil {
			return err
		}
		t.UpdatedAt = now
		return f(ctx, tx, &t, now)
	})
	return t, err
}

// UpdateProject changes a project; an archived one cannot be chosen and its keys do not work.
func (s *Service) UpdateProject(ctx context.Context, pid string, patch ProjectPatch, check func(Project) error) (Project, error) {
	p, _ := auth.From(ctx)
	return s.changeProject(ctx, pid, func(ctx context.Context, tx *db.Tx, t *Project, _ time.Time) error {
		for _, f := range []struct{ to, from *string }{{&t.Name, patch.Name}, {&t.Slug, patch.Slug}, {&t.Description, patch.Description}, {&t.Status, patch.Status}} {
			if f.from != nil {
				*f.to = *f.from
			}
		}
		if err := errors.Join(check(*t), t.validate()); err != nil {
			return err
		}
		if err := updateProject(ctx, tx, p.TenantID, *t); err != nil {
			return err
		}
		t.Rev++
		return s.projectChanged(ctx, tx, *t)
	})
}

// DeleteProject removes a project without keys: ErrProjectInUse. Usage keeps its id.
func (s *Service) DeleteProject(ctx context.Context, pid string) error {
	p, _ := auth.From(ctx)
	_, err := s.changeProject(ctx, pid, func(ctx context.Context, tx *db.Tx, t *Project, _ time.Time) error {
		if n, err := projectKeys(ctx, tx, p.TenantID, t.ID); err != nil || n > 0 {
			return errors.Join(err, ErrProjectInUse.With("%d keys belong to the project %s", n, t.Slug))
		}
		if err := deleteProject(ctx, tx, p.TenantID, t.ID); err != nil {
			return err
		}
		t.Status = "deleted"
		return s.projectChanged(ctx, tx, *t)
	})
	return err
}

// ProjectMembers lists who is in a project.
func (s *Service) ProjectMembers(ctx context.Context, pid string) ([]ProjectMember, error) {
	p, _ := auth.From(ctx)
	var list []ProjectMember
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) error {
		if _, err := projectByID(ctx, q, p.TenantID, p.UserID, pid); err != nil {
			return err
		}
		var err error
		list, err = projectMembers(ctx, q, p.TenantID, pid)
		return err
	})
	for i := range list {
		if list[i].UserID != p.UserID && !p.May("user:read_pii") {
			list[i].Email = User{Email: list[i].Email}.masked().Email
		}
	}
	return list, err
}

// PutProjectMember adds an account of the organisation to a project, or changes its role there.
func (s *Service) PutProjectMember(ctx context.Context, pid, uid, role string) (ProjectMember, error) {
	p, _ := auth.From(ctx)
	if role != projectLead && role != projectMember {
		return ProjectMember{}, ErrProjectFields.WithFields(fault.Field{Name: "body.role", Code: "not_in_list", Message: "must be lead or member"})
	}
	var m ProjectMember
	_, err := s.changeProject(ctx, pid, func(ctx context.Context, tx *db.Tx, t *Project, now time.Time) error {
		name, err := userName(ctx, tx, p.TenantID, uid)
		if err != nil {
			return err
		}
		if name == "" {
			return ErrMemberNotFound.With("there is no member %q", uid)
		}
		m = ProjectMember{UserID: uid, Email: name, Role: role, JoinedAt: now}
		if err := putProjectMember(ctx, tx, p.TenantID, t.ID, uid, role, now); err != nil {
			return err
		}
		return s.accountTouched(ctx, tx, uid)
	})
	return m, err
}

// accountTouched makes every process ask again what an account may do.
func (s *Service) accountTouched(ctx context.Context, tx *db.Tx, uid string) error {
	p, _ := auth.From(ctx)
	v, err := bump(ctx, tx)
	if err != nil {
		return err
	}
	s.changed(tx)
	return touchRights(ctx, tx, p.TenantID, uid, v)
}

// DropProjectMember takes an account out of a project.
func (s *Service) DropProjectMember(ctx context.Context, pid, uid string) error {
	p, _ := auth.From(ctx)
	_, err := s.changeProject(ctx, pid, func(ctx context.Context, tx *db.Tx, t *Project, _ time.Time) error {
		n, err := dropProjectMember(ctx, tx, p.TenantID, t.ID, uid)
		if err = db.Guard(n, err, ErrMemberNotFound.With("there is no member %q in the project", uid)); err != nil {
			return err
		}
		return s.accountTouched(ctx, tx, uid)
	})
	return err
}
