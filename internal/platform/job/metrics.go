package job

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/platform/db"
)

type metrics struct {
	total                   *prometheus.CounterVec
	seconds                 *prometheus.HistogramVec
	claim                   prometheus.Histogram
	lost                    prometheus.Counter
	queued, oldest, running *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer, lanes map[string]*lane) *metrics {
	m := &metrics{
		total:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "maas_job_total", Help: "Ended attempts by kind and result (succeeded, failed, cancelled, retry, yield, stopped)."}, []string{"kind", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "maas_job_seconds", Help: "Duration of attempts by kind.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}, []string{"kind"}),
		claim:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "maas_job_claim_seconds", Help: "Duration of claims.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}),
		lost:    prometheus.NewCounter(prometheus.CounterOpts{Name: "maas_job_lost_total", Help: "Leases that ended while their entry was running."}),
		queued:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "maas_job_queued", Help: "Queued entries by lane."}, []string{"lane"}),
		oldest:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "maas_job_oldest_wait_seconds", Help: "Age of the oldest queued entry by lane."}, []string{"lane"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "maas_job_running", Help: "Entries running in this process by lane."}, []string{"lane"}),
	}
	slots := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "maas_job_slots", Help: "Slots of this process by lane."}, []string{"lane"})
	for name, l := range lanes {
		slots.WithLabelValues(name).Set(float64(l.slots))
	}
	if r != nil {
		r.MustRegister(m.total, m.seconds, m.claim, m.lost, m.queued, m.oldest, m.running, slots)
	}
	return m
}

// measure refreshes the gauges of the queue.
func (w *Worker) measure(ctx context.Context) error {
	if w.Metrics == nil {
		return nil
	}
	return w.DB.System().Read(ctx, func(ctx context.Context, q *db.Query) error {
		for name, l := range w.lanes {
			type state struct{ n, oldest int64 }
			s, err := db.One(ctx, q, func(r db.Row) (s state, err error) { return s, r.Scan(&s.n, &s.oldest) }, `SELECT COUNT(*), COALESCE(MIN(run_at), 0) FROM job_entry WHERE state = 'queued' AND lane = $1`, name)
			if err != nil {
				return err
			}
			age := time.Duration(0)
			if s.n > 0 {
				age = w.now().Sub(db.FromMicro(s.oldest))
			}
			w.m.queued.WithLabelValues(name).Set(float64(s.n))
			w.m.oldest.WithLabelValues(name).Set(max(0, age.Seconds()))
			w.m.running.WithLabelValues(name).Set(float64(int64(l.slots) - l.free.Load()))
		}
		return nil
	})
}
