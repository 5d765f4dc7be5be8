package model

import (
	"context"
	"errors"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
	"maas/internal/platform/job"
	"maas/internal/platform/page"
	"maas/internal/user"
)

// purge removes the models of a tenant that is gone, with their bytes.
var purge = job.Kind[struct{}]{Name: "model.purge", Lane: "maintenance"}

const purgeRows = 2000

// purgeEvents begins the purge of a tenant that the user service removed.
func (s *Service) purgeEvents(r *event.Registry) {
	event.Subscribe(r, "model.purge", func(ctx context.Context, tx *db.Tx, e user.TenantPurged) error {
		_, err := job.Enqueue(auth.AsSystem(ctx, e.TenantID), tx, purge, struct{}{}, job.Options{Key: "purge", SubjectKind: "tenant", SubjectID: e.TenantID})
		return err
	})
}

func (s *Service) purge(ctx context.Context, run *job.Run) error {
	list, err := s.Models(ctx, ModelFilter{Limit: page.MaxLimit})
	if err != nil {
		return err
	}
	used := false
	for _, m := range list.Items {
		err := s.DeleteModel(ctx, m.ID)
		used = used || errors.Is(err, ErrInUse)
		if err != nil && !errors.Is(err, ErrInUse) && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	if used || list.Next != nil { // what serves them is ending
		return run.Yield(time.Second, job.Reason{Code: "model.in_use", Message: "deployments of the organisation are still ending"})
	}
	tenant := auth.Tenant(ctx)
	err = run.Commit(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE model_blob SET state = 'deleting', touched_at = 0 WHERE tenant_id = $1`, tenant)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.collect(ctx); err != nil { // the bytes first: the rows say where they are
		return err
	}
	tables, err := s.DB.TenantTables(ctx, "model_")
	if err != nil {
		return err
	}
	for _, table := range tables {
		for more := true; more; {
			err := run.Commit(ctx, func(ctx context.Context, tx *db.Tx) error {
				n, err := tx.DeleteOf(ctx, table, tenant, purgeRows)
				more = n == purgeRows
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
