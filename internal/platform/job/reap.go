package job

import (
	"context"
	"errors"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
)

// How long ended entries stay.
const (
	keepEnded     = 7 * 24 * time.Hour
	keepDismissed = 30 * 24 * time.Hour
	maxDeaths     = 3 // an entry whose workers died so often is not tried again by itself
)

// reap takes entries from dead workers, enqueues what the schedules say, removes old rows, and says that this process lives. Every process does it: each statement is guarded.
func (w *Worker) reap(ctx context.Context) {
	for _, step := range []struct {
		what string
		f    func(context.Context) error
	}{
		{"announce", func(ctx context.Context) error { return w.announce(ctx, false) }},
		{"take over", w.takeOver},
		{"schedule", w.schedule},
		{"clean", w.clean},
		{"measure", w.measure},
	} {
		if err := step.f(ctx); err != nil {
			w.complain(ctx, step.what, err)
		}
	}
}

func (w *Worker) takeOver(ctx context.Context) error {
	now := db.Micro(w.now())
	type row struct {
		id     string
		fence  int64
		deaths int
		cancel int64
	}
	scan := func(r db.Row) (x row, err error) { return x, r.Scan(&x.id, &x.fence, &x.deaths, &x.cancel) }
	var dead []row
	err := w.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		dead, err = db.List(ctx, q, scan, `SELECT id, fence, deaths, cancel_at FROM job_entry WHERE state = 'running' AND lease_until < $1 ORDER BY lease_until LIMIT 500`, now)
		return err
	})
	if err != nil {
		return err
	}
	for _, x := range dead {
		err := w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			state, problem, end := Queued, "", int64(0)
			switch {
			case x.cancel != 0:
				state, end = Cancelled, now
			case x.deaths+1 >= maxDeaths:
				state, problem, end = Failed, string(fault.Encode(ErrPoison)), now
			}
			n, err := tx.Exec(ctx, `UPDATE job_entry SET state = $3, deaths = deaths + 1, error = $4, finished_at = $5, run_at = $6, wait_since = $6, updated_at = $6, lease_until = 0 WHERE id = $1 AND fence = $2 AND state = 'running' AND lease_until < $6`,
				x.id, x.fence, string(state), problem, end, now)
			if err != nil || n == 0 {
				return err
			}
			tx.Notify(wakeLane)
			tx.After(w.m.lost.Inc)
			if end != 0 {
				return settleChildren(ctx, tx, x.id, false, now)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// plan writes the schedules of this process; the next time of one that is known stays unless its spec changed.
func (w *Worker) plan(ctx context.Context, tx *db.Tx) error {
	for _, s := range w.Registry.schedules {
		next := db.Micro(s.parsed.Next(w.now()))
		if _, err := tx.Exec(ctx, `INSERT INTO job_schedule (name, spec, kind, payload, next_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, payload = excluded.payload, next_at = CASE WHEN job_schedule.spec = excluded.spec THEN job_schedule.next_at ELSE excluded.next_at END, spec = excluded.spec`,
			s.name, s.spec, s.kind, string(s.payload), next); err != nil {
			return err
		}
	}
	return nil
}

// schedule enqueues due occurrences. The move of next_at is the guard: one process wins.
func (w *Worker) schedule(ctx context.Context) error {
	for _, s := range w.Registry.schedules {
		now := w.now()
		var due []int64
		err := w.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
			due, err = db.List(ctx, q, db.Scalar[int64], `SELECT next_at FROM job_schedule WHERE name = $1 AND next_at <= $2 AND NOT paused`, s.name, db.Micro(now))
			return err
		})
		if err != nil {
			return err
		}
		if len(due) == 0 {
			continue
		}
		err = w.DB.System().Tx(auth.AsSystem(ctx, ""), func(ctx context.Context, tx *db.Tx) error {
			n, err := tx.Exec(ctx, `UPDATE job_schedule SET next_at = $3 WHERE name = $1 AND next_at = $2`, s.name, due[0], db.Micro(s.parsed.Next(now)))
			if err != nil || n == 0 {
				return err
			}
			_, err = enqueue(ctx, tx, s.kind, s.lane, s.payload, Options{Key: "schedule:" + s.name})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) clean(ctx context.Context) error {
	ended, dismissed := db.Micro(w.now().Add(-keepEnded)), db.Micro(w.now().Add(-keepDismissed))
	var old []string
	err := w.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		old, err = db.List(ctx, q, db.Scalar[string], `SELECT id FROM job_entry WHERE finished_at > 0 AND finished_at < $1 AND (state IN ('succeeded', 'cancelled') OR dismissed_at > 0 AND dismissed_at < $2) LIMIT 500`, ended, dismissed)
		return err
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM job_entry WHERE id IN (`+db.In(2, len(old))+`) AND finished_at > 0 AND finished_at < $1`, db.Args(old, ended)...)
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM job_worker WHERE seen_at < $1`, db.Micro(w.now().Add(-time.Hour)))
		}
		return err
	})
}

// Pause stops or resumes claims of a lane in all processes; running entries go on. ErrNotFound for a lane that no process ever offered.
func Pause(ctx context.Context, tx *db.Tx, lane string, paused bool) error {
	n, err := tx.Exec(ctx, `UPDATE job_lane SET paused = $2 WHERE lane = $1`, lane, paused)
	tx.Notify(wakeLane)
	return db.Guard(n, err, ErrNotFound.With("there is no lane %s", lane))
}

// SetShare, called with a transaction across tenants (db.System), gives a tenant its weight in a lane and how many of its entries may run there at once (0 = no limit).
func SetShare(ctx context.Context, tx *db.Tx, lane, tenant string, weight, limit int) error {
	if weight < 1 || limit < 0 {
		return errors.New("job: a weight is at least 1, a limit at least 0")
	}
	_, err := tx.Exec(ctx, `INSERT INTO job_share (lane, tenant_id, weight, cap) VALUES ($1, $2, $3, $4) ON CONFLICT (lane, tenant_id) DO UPDATE SET weight = excluded.weight, cap = excluded.cap`, lane, tenant, weight, limit)
	return err
}

// Wait blocks until the entry of the tenant of ctx has ended or ctx does; for command lines and tests.
func Wait(ctx context.Context, d *db.DB, id string) (Entry, error) {
	for {
		var e Entry
		err := d.Read(ctx, func(ctx context.Context, q *db.Query) (err error) { e, err = Get(ctx, q, id); return err })
		if err != nil || e.State.Final() {
			return e, err
		}
		select {
		case <-ctx.Done():
			return e, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
