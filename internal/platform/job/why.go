package job

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"maas/internal/platform/clock"
	"maas/internal/platform/db"
)

// alive is how long a worker counts as present after its last sign of life.
const alive = 30 * time.Second

// farBehind is the last position that is counted: beyond it, the number says "at least".
const farBehind = 999

// explain fills in why a queued or waiting entry waits, from the state of the queue at this moment. The reasons of waiting entries were written when they began to wait.
func explain(ctx context.Context, q db.Querier, e *Entry) error {
	w := e.Waiting
	if w == nil {
		return nil
	}
	if e.State == Waiting {
		if w.Code == "" {
			w.Code, w.Message = "backoff", "It is repeated after a pause."
		}
		return nil
	}
	*w = Reason{Since: w.Since}
	paused, err := db.List(ctx, q, db.Scalar[bool], `SELECT paused FROM job_lane WHERE lane = $1`, e.Lane)
	if err != nil {
		return err
	}
	if len(paused) == 1 && paused[0] {
		w.Code, w.Message = "lane_paused", fmt.Sprintf("The lane %s is paused.", e.Lane)
		return nil
	}
	served, err := db.List(ctx, q, db.Scalar[string], `SELECT kinds FROM job_worker WHERE lane = $1 AND slots > 0 AND seen_at > $2`, e.Lane, db.Micro(clock.Now().Add(-alive)))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(served, func(text string) bool {
		var kinds []string
		return json.Unmarshal([]byte(text), &kinds) == nil && slices.Contains(kinds, e.Kind)
	}) {
		w.Code, w.Message = "no_worker", fmt.Sprintf("No running process works on %s in the lane %s.", e.Kind, e.Lane)
		return nil
	}
	capped, err := db.List(ctx, q, db.Scalar[int64], `SELECT cap FROM job_share WHERE lane = $1 AND tenant_id = $2 AND cap > 0
		AND cap <= (SELECT COUNT(*) FROM job_entry WHERE state = 'running' AND lane = $1 AND tenant_id = $2)`, e.Lane, e.TenantID)
	if err != nil {
		return err
	}
	if len(capped) == 1 {
		w.Code, w.Message = "tenant_cap", fmt.Sprintf("Your team runs %d jobs in the lane %s, its limit.", capped[0], e.Lane)
		return nil
	}
	ahead, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM (SELECT id FROM job_entry WHERE state = 'queued' AND lane = $1 AND tenant_id = $2 AND (priority > $3 OR priority = $3 AND (run_at < $4 OR run_at = $4 AND id < $5)) ORDER BY priority DESC, run_at, id LIMIT $6) x`,
		e.Lane, e.TenantID, e.priority, e.runAt, e.ID, farBehind)
	if err != nil {
		return err
	}
	w.Code, w.Position = "no_slot", ahead+1
	w.Message = fmt.Sprintf("It is number %d of your team in the lane %s; all its slots are taken.", w.Position, e.Lane)
	return nil
}
