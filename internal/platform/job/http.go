package job

import (
	"context"
	"net/http"

	"maas/internal/platform/db"
	"maas/internal/platform/page"
	"maas/internal/platform/web"
)

type listIn struct {
	State   string `query:"state" enum:"queued,waiting,running,succeeded,failed,cancelled" doc:"Only entries in this state"`
	Kind    string `query:"kind" maxLength:"100" doc:"Only entries of this kind"`
	Subject string `query:"subject_id" maxLength:"100" doc:"Only entries about this object"`
	After   string `query:"after" maxLength:"2048" doc:"Cursor of the page before"`
	Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

type idIn struct {
	ID string `path:"id" maxLength:"100"`
}

// Routes registers the management routes of jobs. People see and change the entries of their tenant.
func Routes(api web.API, d *db.DB) {
	list := func(dead bool) func(context.Context, *listIn) (page.List[Entry], error) {
		return func(ctx context.Context, in *listIn) (l page.List[Entry], err error) {
			err = d.Read(ctx, func(ctx context.Context, q *db.Query) error {
				l, err = List(ctx, q, Filter{State: State(in.State), Kind: in.Kind, SubjectID: in.Subject, Dead: dead, After: in.After, Limit: in.Limit})
				return err
			})
			return l, err
		}
	}
	change := func(f func(context.Context, *db.Tx, string) (Entry, error)) func(context.Context, *idIn) (Entry, error) {
		return func(ctx context.Context, in *idIn) (e Entry, err error) {
			err = d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { e, err = f(ctx, tx, in.ID); return err })
			return e, err
		}
	}
	web.Get(api, "/jobs", "job_entry_list", "job:read", http.StatusOK, list(false))
	web.Get(api, "/jobs/dead", "job_dead_list", "job:read", http.StatusOK, list(true))
	web.Get(api, "/jobs/{id}", "job_entry_get", "job:read", http.StatusOK, func(ctx context.Context, in *idIn) (e Entry, err error) {
		err = d.Read(ctx, func(ctx context.Context, q *db.Query) error { e, err = Get(ctx, q, in.ID); return err })
		return e, err
	})
	web.Post(api, "/jobs/{id}/cancel", "job_entry_cancel", "job:write", http.StatusOK, change(Cancel))
	web.Post(api, "/jobs/{id}/retry", "job_entry_retry", "job:write", http.StatusOK, change(Retry))
	web.Post(api, "/jobs/{id}/dismiss", "job_entry_dismiss", "job:write", http.StatusNoContent, func(ctx context.Context, in *idIn) (web.None, error) {
		return web.None{}, d.Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return Dismiss(ctx, tx, in.ID) })
	})
	web.Get(api, "/jobs/{id}/log", "job_entry_log", "job:read", http.StatusOK, func(ctx context.Context, in *idIn) (l page.List[LogLine], err error) {
		err = d.Read(ctx, func(ctx context.Context, q *db.Query) error { l, err = Lines(ctx, q, in.ID); return err })
		return l, err
	})
}
