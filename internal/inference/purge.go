package inference

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

// purge removes everything of a tenant that is gone: routes, then deployments - their engines end first - then providers and the rest.
var purge = job.Kind[struct{}]{Name: "inference.purge", Lane: "maintenance"}

const purgeRows = 2000

// Jobs registers the work of this service.
func (s *Service) Jobs(r *job.Registry) {
	job.Handle(r, purge, func(ctx context.Context, run *job.Run, _ struct{}) error { return s.purge(ctx, run) })
}

// purgeEvents begins the purge of a tenant that the user service removed.
func (s *Service) purgeEvents(r *event.Registry) {
	event.Subscribe(r, "inference.purge", func(ctx context.Context, tx *db.Tx, e user.TenantPurged) error {
		_, err := job.Enqueue(auth.AsSystem(ctx, e.TenantID), tx, purge, struct{}{}, job.Options{Key: "purge", SubjectKind: "tenant", SubjectID: e.TenantID})
		return err
	})
}

func (s *Service) purge(ctx context.Context, run *job.Run) error {
	for {
		list, err := s.RouteList(ctx, "", page.MaxLimit)
		if err != nil {
			return err
		}
		for _, r := range list.Items {
			if err := s.DeleteRoute(ctx, r.ID, nil); err != nil && !errors.Is(err, ErrRouteNotFound) {
				return err
			}
		}
		if list.Next == nil {
			break
		}
	}
	list, err := s.Deployments(ctx, DeploymentFilter{Limit: page.MaxLimit})
	if err != nil {
		return err
	}
	for _, d := range list.Items {
		if err := s.Delete(ctx, d.ID); err != nil && !errors.Is(err, ErrDeploymentNotFound) {
			return err
		}
	}
	if len(list.Items) > 0 { // engines end by themselves; look again
		return run.Yield(time.Second, job.Reason{Code: "inference.engines_ending", Message: "engines of the organisation are still ending"})
	}
	tables, err := s.db.TenantTables(ctx, "inference_")
	if err != nil {
		return err
	}
	tenant := auth.Tenant(ctx)
	for _, table := range tables {
		for more := true; more; {
			err := run.Commit(ctx, func(ctx context.Context, tx *db.Tx) error {
				n, err := tx.DeleteOf(ctx, table, tenant, purgeRows)
				more = n == purgeRows
				tx.After(s.poke)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
