package inference

import (
	"context"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
)

// count is what happened to a deployment since the last write.
type count struct{ requests, errors, prompt, cached, completion int64 }

const (
	statEvery = 10 * time.Second
	statKeep  = 30 * 24 * time.Hour
)

// Overview is the tenant's last day at a glance.
type Overview struct {
	Requests    int64            `json:"requests_24h"`
	Tokens      int64            `json:"tokens_24h"` // read and written
	Errors      int64            `json:"errors_24h"`
	Deployments DeploymentCounts `json:"deployments"`
	Models      int64            `json:"models"`
	Keys        int64            `json:"keys"`
	Series      []OverviewPoint  `json:"series"` // hours, oldest first, also the empty ones
}

// DeploymentCounts says how many answer.
type DeploymentCounts struct {
	Ready int64 `json:"ready"`
	Total int64 `json:"total"`
}

// OverviewPoint is one hour.
type OverviewPoint struct {
	At         time.Time `json:"at"`
	Requests   int64     `json:"requests"`
	Errors     int64     `json:"errors"`
	Completion int64     `json:"completion_tokens"`
}

// tally writes what was counted, every ten seconds while there is anything, until ctx ends and once more then.
func (s *Service) tally(ctx context.Context) {
	last := s.now()
	for {
		wait(ctx, statEvery)
		write, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		s.writeStats(write)
		if now := s.now(); now.Sub(last) > time.Hour {
			last = now
			if err := s.db.Tx(write, func(ctx context.Context, tx *db.Tx) error { return s.store.forgetOld(ctx, tx, now.Add(-statKeep)) }); err != nil {
				s.logError(ctx, "old statistics and transitions were not removed", err)
			}
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *Service) writeStats(ctx context.Context) {
	counts := s.monitor.take()
	if len(counts) == 0 {
		return
	}
	minute := s.now().Truncate(time.Minute)
	tenants := s.feed.tenants()
	err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		for deployment, c := range counts {
			if tenants[deployment] == "" {
				continue // deleted meanwhile
			}
			if err := s.store.addStat(ctx, tx, tenants[deployment], deployment, minute, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.monitor.putBack(counts)
		s.logError(ctx, "statistics were not written", err)
	}
}

// Overview sums up the caller's tenant.
func (s *Service) Overview(ctx context.Context) (Overview, error) {
	s.writeStats(ctx) // so that the request of a moment ago is in it
	var o Overview
	now := s.now().Truncate(time.Hour)
	from := now.Add(-23 * time.Hour)
	hours := map[int64]count{}
	err := s.db.Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		if o.Deployments, err = s.store.deploymentCounts(ctx, q, auth.Tenant(ctx)); err != nil {
			return err
		}
		hours, err = s.store.statHours(ctx, q, auth.Tenant(ctx), from)
		return err
	})
	if err != nil {
		return o, err
	}
	for at := from; !at.After(now); at = at.Add(time.Hour) {
		c := hours[at.UnixMicro()/time.Hour.Microseconds()]
		o.Requests += c.requests
		o.Errors += c.errors
		o.Tokens += c.prompt + c.completion
		o.Series = append(o.Series, OverviewPoint{At: at, Requests: c.requests, Errors: c.errors, Completion: c.completion})
	}
	if s.counts != nil {
		o.Models, o.Keys, err = s.counts(ctx)
	}
	return o, err
}

func (store) addStat(ctx context.Context, tx *db.Tx, tenant, deployment string, at time.Time, c count) error {
	_, err := tx.Exec(ctx, `INSERT INTO inference_stat (tenant_id, deployment_id, at, requests, errors, prompt, cached, completion) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (tenant_id, deployment_id, at) DO UPDATE SET requests = inference_stat.requests + excluded.requests, errors = inference_stat.errors + excluded.errors,
		prompt = inference_stat.prompt + excluded.prompt, cached = inference_stat.cached + excluded.cached, completion = inference_stat.completion + excluded.completion`,
		tenant, deployment, db.Micro(at), c.requests, c.errors, c.prompt, c.cached, c.completion)
	return err
}

// forgetOld removes statistics and history from before a time.
func (store) forgetOld(ctx context.Context, tx *db.Tx, before time.Time) error {
	if _, err := tx.Exec(ctx, `DELETE FROM inference_stat WHERE at < $1`, db.Micro(before)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM inference_transition WHERE at < $1`, db.Micro(before))
	return err
}

// statHours sums a tenant's rows from a time on by hour since 1970.
func (store) statHours(ctx context.Context, q db.Querier, tenant string, from time.Time) (map[int64]count, error) {
	type row struct {
		hour int64
		count
	}
	list, err := db.List(ctx, q, func(r db.Row) (x row, err error) {
		err = r.Scan(&x.hour, &x.requests, &x.errors, &x.prompt, &x.completion)
		return x, err
	}, `SELECT at / 3600000000, CAST(COALESCE(SUM(requests), 0) AS BIGINT), CAST(COALESCE(SUM(errors), 0) AS BIGINT), CAST(COALESCE(SUM(prompt), 0) AS BIGINT), CAST(COALESCE(SUM(completion), 0) AS BIGINT)
		FROM inference_stat WHERE tenant_id = $1 AND at >= $2 GROUP BY at / 3600000000 LIMIT 100`, tenant, db.Micro(from))
	hours := make(map[int64]count, len(list))
	for _, x := range list {
		hours[x.hour] = x.count
	}
	return hours, err
}

func (store) deploymentCounts(ctx context.Context, q db.Querier, tenant string) (DeploymentCounts, error) {
	return db.One(ctx, q, func(r db.Row) (c DeploymentCounts, err error) {
		err = r.Scan(&c.Total, &c.Ready)
		return c, err
	}, `SELECT COUNT(*), COUNT(*) FILTER (WHERE status IN ('ready', 'degraded', 'updating')) FROM inference_deployment WHERE tenant_id = $1`, tenant)
}
