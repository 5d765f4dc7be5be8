package model

import (
	"context"
	"errors"
	"slices"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/job"
)

type validateArgs struct {
	Version string `json:"version"`
}

// Validate is the work of checking one version.
var Validate = job.Kind[validateArgs]{Name: "model.validate", Lane: "cpu", MaxAttempts: 5, Backoff: job.Exp(2*time.Second, time.Minute)}

// Collect is the work of removing the bytes that no version names.
var Collect = job.Kind[struct{}]{Name: "model.gc", Lane: "maintenance", MaxAttempts: 3}

// Jobs registers the work of this service.
func (s *Service) Jobs(r *job.Registry) {
	s.uploads.Jobs(r)
	job.Handle(r, purge, func(ctx context.Context, run *job.Run, _ struct{}) error { return s.purge(ctx, run) })
	job.Handle(r, Validate, func(ctx context.Context, run *job.Run, p validateArgs) error {
		err := s.validate(ctx, run.Commit, p.Version, func(done, total int64) { run.Progress(done, total, "bytes", "") })
		switch {
		case errors.Is(err, ErrNoVersion): // deleted meanwhile
			return nil
		case err == nil || ctx.Err() != nil:
			return err
		case run.Attempt < Validate.MaxAttempts && !final(err):
			return err
		}
		if e := s.fail(ctx, run.Commit, p.Version, err); e != nil {
			return errors.Join(err, e)
		}
		return err
	})
	job.Handle(r, Collect, func(ctx context.Context, _ *job.Run, _ struct{}) error { return s.collect(ctx) })
	job.Schedule(r, "model.gc", "@every 1h", Collect, struct{}{})
}

// final reports errors that no repetition helps.
func final(err error) bool { return errors.Is(err, ErrBlobLost) }

// condemnedFor is how long a condemned blob waits before it is looked at again and deleted.
const condemnedFor = time.Hour

// collect moves every idle blob one step on: live -> condemned -> deleting -> gone. A crash leaves rows that the next round finishes.
func (s *Service) collect(ctx context.Context) error {
	if err := s.tidy(ctx); err != nil {
		return err
	}
	now := s.Now()
	if err := s.sweep(ctx, "live", "condemned", now.Add(-s.Config.Grace)); err != nil {
		return err
	}
	if err := s.sweep(ctx, "condemned", "deleting", now.Add(-condemnedFor)); err != nil {
		return err
	}
	for {
		var list []blob
		err := s.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
			list, err = s.store.idle(ctx, q, "deleting", db.Micro(now)+1, 500)
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		for _, b := range list {
			if err := s.Objects.Delete(ctx, blobKey(b.tenant, b.sha)); err != nil {
				return err
			}
			if err := s.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error { return s.store.forget(ctx, tx, b) }); err != nil {
				return err
			}
			s.metrics.removed.Inc()
		}
	}
}

// tidy removes folders of this machine's cache whose version is gone: those deleted while this process was away.
func (s *Service) tidy(ctx context.Context) error {
	ids := s.cache.versions()
	for batch := range slices.Chunk(ids, 500) {
		var alive []string
		err := s.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
			alive, err = s.store.alive(ctx, q, batch)
			return err
		})
		if err != nil {
			return err
		}
		for _, v := range batch {
			if !slices.Contains(alive, v) {
				s.cache.remove(v)
			}
		}
	}
	return nil
}

// sweep moves the blobs that are idle since before and named by no version.
func (s *Service) sweep(ctx context.Context, from, to string, before time.Time) error {
	for {
		var list []blob
		err := s.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
			list, err = s.store.idle(ctx, q, from, db.Micro(before), 500)
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		for _, b := range list {
			err := s.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
				now := db.Micro(s.Now())
				moved, err := s.store.step(ctx, tx, b, from, to, db.Micro(before), now)
				if err != nil || moved {
					return err
				}
				return s.store.touch(ctx, tx, b, now)
			})
			if err != nil {
				return err
			}
		}
	}
}
