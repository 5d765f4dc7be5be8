package model

import (
	"context"
	"strings"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/page"
)

// NewModel is what a model begins with.
type NewModel struct {
	Name        string `json:"name" maxLength:"96" doc:"1 to 96 letters, digits, dots, dashes, underscores; unique in the team, whatever the case"`
	Description string `json:"description,omitempty" maxLength:"4096"`
}

// ModelPatch changes what is set.
type ModelPatch struct {
	Name        *string `json:"name,omitempty" maxLength:"96"`
	Description *string `json:"description,omitempty" maxLength:"4096"`
}

// ModelFilter selects models. Query is a part of the name.
type ModelFilter struct {
	Query string
	Limit int
	After string
}

// CreateModel makes an empty model. ErrBadName, ErrNameTaken.
func (s *Service) CreateModel(ctx context.Context, in NewModel) (Model, error) {
	if err := checkName(in.Name); err != nil {
		return Model{}, err
	}
	now := s.Now()
	m := Model{ID: id.New("rep"), Name: in.Name, Description: strings.TrimSpace(in.Description), Visibility: "tenant", CreatedAt: now, UpdatedAt: now, Rev: 1, tenant: auth.Tenant(ctx)}
	p, _ := auth.From(ctx)
	err := s.DB.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return s.store.insert(ctx, tx, m, p.UserID) })
	return m, err
}

// Model finds one by id or name, with its newest version. ErrNotFound.
func (s *Service) Model(ctx context.Context, ref string) (m Model, err error) {
	err = s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		if m, err = s.store.repo(ctx, q, auth.Tenant(ctx), ref); err != nil {
			return err
		}
		return s.fill(ctx, q, &m)
	})
	return m, err
}

// fill adds newest versions and sizes.
func (s *Service) fill(ctx context.Context, q db.Querier, models ...*Model) error {
	if len(models) == 0 {
		return nil
	}
	ids := make([]string, len(models))
	for i, m := range models {
		ids[i] = m.ID
	}
	tenant := auth.Tenant(ctx)
	latest, err := s.store.latest(ctx, q, tenant, ids)
	if err != nil {
		return err
	}
	sizes, err := s.store.sizes(ctx, q, tenant, ids)
	if err != nil {
		return err
	}
	var versions []*Version
	for _, m := range models {
		m.Latest, m.SizeBytes = latest[m.ID], sizes[m.ID]
		if m.Latest != nil {
			versions = append(versions, m.Latest)
		}
	}
	return s.store.addFiles(ctx, q, tenant, versions...)
}

// Models lists models by name.
func (s *Service) Models(ctx context.Context, f ModelFilter) (list page.List[Model], err error) {
	limit := page.Limit(f.Limit)
	filter := "model.list?" + f.Query
	after, err := page.Decode(filter, f.After, 1)
	if err != nil {
		return list, err
	}
	from := ""
	if after != nil {
		from = after[0]
	}
	var models []Model
	err = s.DB.Read(ctx, func(ctx context.Context, q *db.Query) error {
		if models, err = s.store.repos(ctx, q, auth.Tenant(ctx), f.Query, from, limit+1); err != nil {
			return err
		}
		all := make([]*Model, len(models))
		for i := range models {
			all[i] = &models[i]
		}
		return s.fill(ctx, q, all...)
	})
	return page.Of(models, limit, filter, func(m Model) []string { return []string{strings.ToLower(m.Name)} }), err
}

// UpdateModel changes name and description; check sees the present state first. ErrNotFound, ErrBadName, ErrNameTaken, ErrChanged.
func (s *Service) UpdateModel(ctx context.Context, ref string, p ModelPatch, check func(Model) error) (m Model, err error) {
	if p.Name != nil {
		if err := checkName(*p.Name); err != nil {
			return m, err
		}
	}
	err = s.DB.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if m, err = s.store.repo(ctx, tx, auth.Tenant(ctx), ref); err != nil {
			return err
		}
		if err := check(m); err != nil {
			return err
		}
		if p.Name != nil {
			m.Name = *p.Name
		}
		if p.Description != nil {
			m.Description = strings.TrimSpace(*p.Description)
		}
		m.UpdatedAt = s.Now()
		if err := s.store.change(ctx, tx, m); err != nil {
			return err
		}
		m.Rev++
		return s.fill(ctx, tx, &m)
	})
	return m, err
}

// DeleteModel removes a model with all versions. The bytes that nothing else names go with the next rounds of model.gc. ErrInUse names what uses it; ErrNotFound.
func (s *Service) DeleteModel(ctx context.Context, ref string) error {
	m, err := s.Model(ctx, ref)
	if err != nil {
		return err
	}
	uses, err := s.uses(ctx, m.ID)
	if err != nil {
		return err
	}
	if len(uses) > 0 {
		e := ErrInUse.With("%s is used by %s", m.Name, strings.Join(uses, ", "))
		for _, u := range uses {
			e = e.WithFields(fault.Field{Name: "path.id", Code: "conflict", Message: "used by " + u})
		}
		return e
	}
	return s.DB.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		tenant := auth.Tenant(ctx)
		versions, err := s.store.ids(ctx, tx, tenant, m.ID)
		if err != nil {
			return err
		}
		if err := s.store.remove(ctx, tx, tenant, m.ID); err != nil {
			return err
		}
		return event.Publish(ctx, tx, RepoDeleted{ModelID: m.ID, Name: m.Name, Versions: versions})
	})
}
