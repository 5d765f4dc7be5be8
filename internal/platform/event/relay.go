package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/job"
)

const (
	batch     = 500
	keepSent  = time.Hour
	keepInbox = 14 * 24 * time.Hour
	keepGroup = 7 * 24 * time.Hour // a group that no process has offered for so long is no longer waited for
)

// Relay applies the events of the outbox to the groups of this process: the memory driver. Fill the fields, call Run.
type Relay struct {
	DB       *db.DB
	Registry *Registry
	Log      *slog.Logger
	Poll     time.Duration         // how often to look without being woken; 0 = 500 ms
	Metrics  prometheus.Registerer // nil = none

	lag     prometheus.Gauge
	handled *prometheus.CounterVec
}

type stored struct {
	id, tenant, topic, data string
}

func scanStored(r db.Row) (s stored, err error) {
	return s, r.Scan(&s.id, &s.tenant, &s.topic, &s.data)
}

// redelivery is the payload of the job for an event whose handler failed. It holds the event: the outbox is pruned.
type redelivery struct {
	Group  string `json:"group"`
	Event  string `json:"event"`
	Tenant string `json:"tenant"`
	Topic  string `json:"topic"`
	Data   string `json:"data"`
}

// redeliver is the kind of job of a group: one each, so that only processes with the group take its events.
func redeliver(group string) job.Kind[redelivery] {
	return job.Kind[redelivery]{Name: "event.redeliver." + group, Lane: "event", MaxAttempts: 8, Backoff: job.Exp(time.Second, 5*time.Minute)}
}

// Jobs registers the redelivery of events whose handler failed. Call it after all subscriptions.
func (l *Relay) Jobs(r *job.Registry) {
	for _, g := range l.Registry.groups {
		job.Handle(r, redeliver(g.name), l.again)
	}
}

// Run delivers until ctx ends. It returns nil then.
func (l *Relay) Run(ctx context.Context) error {
	l.start()
	if err := l.announce(ctx); err != nil {
		return err
	}
	woken, stop := l.DB.Listen(wake)
	defer stop()
	poll := l.Poll
	if poll <= 0 {
		poll = 500 * time.Millisecond
	}
	turn, tend := time.NewTicker(poll), time.NewTicker(time.Minute)
	defer turn.Stop()
	defer tend.Stop()
	for {
		if err := l.deliver(ctx); err != nil && ctx.Err() == nil {
			l.Log.WarnContext(ctx, "events could not be delivered; they stay in the outbox", "error", err)
			select { // not again at once: the database is ill
			case <-ctx.Done():
			case <-turn.C:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
		case <-turn.C:
		case <-tend.C:
			if err := errors.Join(l.announce(ctx), l.prune(ctx)); err != nil && ctx.Err() == nil {
				l.Log.WarnContext(ctx, "old events could not be removed", "error", err)
			}
		}
	}
}

func (l *Relay) start() {
	l.lag = prometheus.NewGauge(prometheus.GaugeOpts{Name: "maas_event_outbox_age_seconds", Help: "Age of the oldest event that a group has not applied."})
	l.handled = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "maas_event_total", Help: "Events applied by group and result (done, redeliver)."}, []string{"group", "result"})
	if l.Metrics != nil {
		l.Metrics.MustRegister(l.lag, l.handled)
	}
}

// announce writes which groups there are: a row of the outbox is sent when all of them have seen it.
func (l *Relay) announce(ctx context.Context) error {
	return l.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := db.Micro(clock.Now())
		for _, g := range l.Registry.groups {
			for _, topic := range g.topics() {
				if _, err := tx.Exec(ctx, `INSERT INTO event_group (topic, grp, seen_at) VALUES ($1, $2, $3) ON CONFLICT (topic, grp) DO UPDATE SET seen_at = excluded.seen_at`, topic, g.name, now); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// deliver applies all unseen events to all groups, then marks what is done.
func (l *Relay) deliver(ctx context.Context) error {
	for _, g := range l.Registry.groups {
		for {
			events, err := l.unseen(ctx, g)
			if err != nil {
				return err
			}
			for _, e := range events {
				if err := l.apply(ctx, g, e); err != nil {
					return err
				}
			}
			if len(events) < batch {
				break
			}
		}
	}
	return l.mark(ctx)
}

func (l *Relay) unseen(ctx context.Context, g *group) (events []stored, err error) {
	topics := g.topics()
	err = l.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		n := len(topics)
		events, err = db.List(ctx, q, scanStored, `SELECT id, tenant_id, topic, data FROM event_outbox o WHERE sent_at = 0 AND topic IN (`+db.In(3, n)+`)
			AND NOT EXISTS (SELECT 1 FROM event_inbox i WHERE i.grp = $1 AND i.event_id = o.id) ORDER BY id LIMIT $2`, db.Args(topics, g.name, batch)...)
		return err
	})
	return events, err
}

// apply runs a handler with its inbox row. A failure of the handler is written as a job; an error of the database is returned.
func (l *Relay) apply(ctx context.Context, g *group, e stored) error {
	mine := false
	err := l.DB.System().Tx(auth.AsSystem(ctx, e.tenant), func(ctx context.Context, tx *db.Tx) error {
		var err error
		if mine, err = see(ctx, tx, g.name, e.id, "done"); err != nil || !mine {
			return err
		}
		return l.call(ctx, tx, g, e)
	})
	if err == nil {
		if mine {
			l.handled.WithLabelValues(g.name, "done").Inc()
		}
		return nil
	}
	if ctx.Err() != nil || errors.Is(err, db.ErrUnavailable) || errors.Is(err, db.ErrDiskFull) {
		return err
	}
	l.Log.WarnContext(ctx, "an event handler failed; its event is delivered again later", "group", g.name, "topic", e.topic, "event", e.id, "error", err)
	err = l.DB.System().Tx(auth.AsSystem(ctx, e.tenant), func(ctx context.Context, tx *db.Tx) error {
		if mine, err := see(ctx, tx, g.name, e.id, "redeliver"); err != nil || !mine {
			return err
		}
		_, err := job.Enqueue(ctx, tx, redeliver(g.name), redelivery{g.name, e.id, e.tenant, e.topic, e.data}, job.Options{Key: g.name + "/" + e.id, SubjectKind: "event", SubjectID: e.id, NotBefore: clock.Now().Add(time.Second)})
		return err
	})
	if err == nil {
		l.handled.WithLabelValues(g.name, "redeliver").Inc()
	}
	return err
}

// see writes the inbox row; false if the group had seen the event.
func see(ctx context.Context, tx *db.Tx, group, event, state string) (bool, error) {
	n, err := tx.Exec(ctx, `INSERT INTO event_inbox (grp, event_id, state, at) VALUES ($1, $2, $3, $4) ON CONFLICT (grp, event_id) DO NOTHING`, group, event, state, db.Micro(clock.Now()))
	return n == 1, err
}

// call runs the handler; a panic is its failure.
func (l *Relay) call(ctx context.Context, tx *db.Tx, g *group, e stored) (err error) {
	defer func() {
		if p := recover(); p != nil {
			l.Log.ErrorContext(ctx, "an event handler panicked", "group", g.name, "topic", e.topic, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = job.ErrPanic.Wrap(fmt.Errorf("panic: %v", p))
		}
	}()
	return g.subs[e.topic](ctx, tx, []byte(e.data))
}

// again is one more delivery of an event whose handler failed before.
func (l *Relay) again(ctx context.Context, r *job.Run, p redelivery) error {
	g := l.Registry.group(p.Group)
	if g == nil || g.subs[p.Topic] == nil {
		return ErrNoTopic.With("%s is not subscribed to %s any more", p.Group, p.Topic)
	}
	return r.Commit(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE event_inbox SET state = 'done', at = $3 WHERE grp = $1 AND event_id = $2 AND state = 'redeliver'`, p.Group, p.Event, db.Micro(clock.Now()))
		if err != nil || n == 0 { // 0: an attempt before this one did it and died before it could say so
			return err
		}
		return l.call(ctx, tx, g, stored{p.Event, p.Tenant, p.Topic, p.Data})
	})
}

// mark notes as sent what every known group has seen, with reads first: an idle relay writes nothing.
func (l *Relay) mark(ctx context.Context) error {
	now := clock.Now()
	var ids []string
	var oldest int64
	err := l.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) (err error) {
		ids, err = db.List(ctx, q, db.Scalar[string], `SELECT id FROM event_outbox o WHERE sent_at = 0 AND NOT EXISTS (
			SELECT 1 FROM event_group g WHERE g.topic = o.topic AND g.seen_at > $1 AND NOT EXISTS (SELECT 1 FROM event_inbox i WHERE i.grp = g.grp AND i.event_id = o.id)) LIMIT $2`, db.Micro(now.Add(-keepGroup)), 10*batch)
		if err != nil {
			return err
		}
		oldest, err = db.One(ctx, q, db.Scalar[int64], `SELECT COALESCE(MIN(at), 0) FROM event_outbox WHERE sent_at = 0`)
		return err
	})
	if err != nil {
		return err
	}
	l.lag.Set(0)
	if oldest != 0 {
		l.lag.Set(max(0, now.Sub(db.FromMicro(oldest)).Seconds()))
	}
	for len(ids) > 0 {
		some := ids[:min(batch, len(ids))]
		ids = ids[len(some):]
		err := l.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE event_outbox SET sent_at = $1 WHERE sent_at = 0 AND id IN (`+db.In(2, len(some))+`)`, db.Args(some, db.Micro(now))...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Relay) prune(ctx context.Context) error {
	now := clock.Now()
	for _, step := range []struct {
		text   string
		before time.Time
	}{
		{`DELETE FROM event_outbox WHERE id IN (SELECT id FROM event_outbox WHERE sent_at > 0 AND sent_at < $1 LIMIT 5000)`, now.Add(-keepSent)},
		{`DELETE FROM event_inbox WHERE state = 'done' AND at < $1`, now.Add(-keepInbox)},
		{`DELETE FROM event_group WHERE seen_at < $1`, now.Add(-keepGroup)},
	} {
		err := l.DB.System().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, step.text, db.Micro(step.before))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
