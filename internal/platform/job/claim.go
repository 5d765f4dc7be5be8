package job

import (
	"context"
	"errors"

	"maas/internal/platform/db"
)

// due reports whether there is anything to claim or promote, with reads only: an idle program writes nothing.
func (w *Worker) due(ctx context.Context) (promote bool, lanes map[string]bool, err error) {
	lanes = map[string]bool{}
	err = w.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) error {
		waiting, err := db.List(ctx, q, db.Scalar[int64], `SELECT run_at FROM job_entry WHERE state = 'waiting' AND run_at <= $1 LIMIT 1`, db.Micro(w.now()))
		if err != nil {
			return err
		}
		promote = len(waiting) > 0
		for lane := range w.lanes {
			found, err := db.List(ctx, q, db.Scalar[string], `SELECT id FROM job_entry WHERE state = 'queued' AND lane = $1 LIMIT 1`, lane)
			if err != nil {
				return err
			}
			lanes[lane] = len(found) > 0
		}
		return nil
	})
	return promote, lanes, err
}

// promote queues waiting entries whose time has come.
func (w *Worker) promote(ctx context.Context) error {
	return w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := db.Micro(w.now())
		_, err := tx.Exec(ctx, `UPDATE job_entry SET state = 'queued', wait_code = '', wait_message = '', updated_at = $1 WHERE state = 'waiting' AND run_at <= $1`, now)
		return err
	})
}

type share struct {
	tenant          string
	weight, cap     int64
	used            float64
	running, queued int64
}

// claim takes up to n entries of a lane. The lane's row is the lock: one claimer at a time per lane over all processes.
func (w *Worker) claim(ctx context.Context, lane string, n int) (got []Entry, err error) {
	kinds := w.lanes[lane].kinds
	err = w.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		got = nil
		type state struct {
			slots  int64
			served float64
		}
		head, err := db.One(ctx, tx, func(r db.Row) (s state, err error) { return s, r.Scan(&s.slots, &s.served) }, `UPDATE job_lane SET claims = claims + 1 WHERE lane = $1 AND NOT paused RETURNING slots, served`, lane)
		if errors.Is(err, db.ErrNoRow) {
			return nil // paused
		}
		if err != nil {
			return err
		}
		if head.slots > 0 {
			running, err := db.One(ctx, tx, db.Scalar[int64], `SELECT COUNT(*) FROM job_entry WHERE state = 'running' AND lane = $1`, lane)
			if err != nil {
				return err
			}
			n = int(min(int64(n), head.slots-running))
		}
		shares, err := w.shares(ctx, tx, lane, kinds)
		if err != nil {
			return err
		}
		for len(got) < n {
			s := pick(shares, head.served)
			if s == nil {
				break
			}
			e, err := w.take(ctx, tx, lane, s.tenant, kinds)
			if errors.Is(err, db.ErrNoRow) {
				s.queued = 0
				continue
			}
			if err != nil {
				return err
			}
			head.served = max(head.served, s.used/float64(s.weight))
			s.used = head.served*float64(s.weight) + float64(e.cost)
			s.running++
			if _, err := tx.Exec(ctx, `INSERT INTO job_share (lane, tenant_id, used) VALUES ($1, $2, $3) ON CONFLICT (lane, tenant_id) DO UPDATE SET used = excluded.used`, lane, s.tenant, s.used); err != nil {
				return err
			}
			got = append(got, e.Entry)
		}
		if len(got) == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE job_lane SET served = $2 WHERE lane = $1`, lane, head.served)
		return err
	})
	return got, err
}

// shares lists the tenants with queued entries in a lane: a skip scan over the index, so its cost is the number of tenants and not that of entries.
func (w *Worker) shares(ctx context.Context, tx *db.Tx, lane string, kinds []string) ([]*share, error) {
	scan := func(r db.Row) (*share, error) {
		s := &share{queued: 1}
		return s, r.Scan(&s.tenant, &s.weight, &s.cap, &s.used, &s.running)
	}
	in := db.In(2, len(kinds))
	return db.List(ctx, tx, scan, `WITH RECURSIVE t (tenant_id) AS (
			SELECT (SELECT tenant_id FROM job_entry WHERE state = 'queued' AND lane = $1 AND kind IN (`+in+`) ORDER BY tenant_id LIMIT 1)
			UNION ALL
			SELECT (SELECT e.tenant_id FROM job_entry e WHERE e.state = 'queued' AND e.lane = $1 AND e.kind IN (`+in+`) AND e.tenant_id > t.tenant_id ORDER BY e.tenant_id LIMIT 1) FROM t WHERE t.tenant_id IS NOT NULL
		)
		SELECT t.tenant_id, COALESCE(s.weight, 1), COALESCE(s.cap, 0), COALESCE(s.used, 0),
			CASE WHEN COALESCE(s.cap, 0) = 0 THEN 0 ELSE (SELECT COUNT(*) FROM job_entry e WHERE e.state = 'running' AND e.lane = $1 AND e.tenant_id = t.tenant_id) END
		FROM t LEFT JOIN job_share s ON s.lane = $1 AND s.tenant_id = t.tenant_id WHERE t.tenant_id IS NOT NULL`, db.Args(kinds, lane)...)
}

// pick chooses by start-time fair queueing (Goyal, Vin, Cheng 1996): the least start tag max(served, used/weight). A tenant that was idle starts at the lane's present tag: it neither saved credit nor owes.
func pick(shares []*share, served float64) (best *share) {
	var least float64
	for _, s := range shares {
		if s.queued == 0 || s.cap > 0 && s.running >= s.cap {
			continue
		}
		tag := max(served, s.used/float64(s.weight))
		if best == nil || tag < least || tag == least && s.used/float64(s.weight) < best.used/float64(best.weight) {
			best, least = s, tag
		}
	}
	return best
}

type taken struct {
	Entry
	cost int64
}

// take leases the first entry of a tenant. ErrNoRow if there is none.
func (w *Worker) take(ctx context.Context, tx *db.Tx, lane, tenant string, kinds []string) (taken, error) {
	id, err := db.One(ctx, tx, db.Scalar[string], `SELECT id FROM job_entry e WHERE state = 'queued' AND lane = $1 AND tenant_id = $2 AND kind IN (`+db.In(3, len(kinds))+`) ORDER BY priority DESC, run_at, id LIMIT 1`+tx.ForUpdate("e"), db.Args(kinds, lane, tenant)...)
	if err != nil {
		return taken{}, err
	}
	now := w.now()
	var t taken
	scan := func(r db.Row) (e Entry, err error) { return scanEntry(&extra{r, &t.cost}) }
	t.Entry, err = db.One(ctx, tx, scan, `UPDATE job_entry SET state = 'running', fence = fence + 1, attempt = attempt + 1, node = $2, lease_until = $3, started_at = $4, updated_at = $4, wait_code = '', wait_message = '', wait_since = 0, stage = ''
		WHERE id = $1 AND state = 'queued' RETURNING `+columns+`, cost`, id, w.Node, db.Micro(now.Add(w.firstLease(kinds))), db.Micro(now))
	return t, err
}

// extra scans one more column behind those of a shared scan function.
type extra struct {
	db.Row
	dest any
}

func (e *extra) Scan(dest ...any) error { return e.Row.Scan(append(dest, e.dest)...) }
