package gateway

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the path. Labels are bounded: operations, status codes, ends and sources are fixed sets; models are those of deployments.
type metrics struct {
	requests   *prometheus.CounterVec
	refused    *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	retries    *prometheus.CounterVec
	budget     *prometheus.CounterVec
	probes     *prometheus.CounterVec
	tokens     *prometheus.CounterVec
	sources    *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	ttft       *prometheus.HistogramVec
	inflight   prometheus.Gauge
	unsettled  prometheus.Counter
	unreadable prometheus.Counter
	suspects   prometheus.Counter

	batchSeconds prometheus.Histogram

	series sync.Map // seriesKey -> *series
	tries  sync.Map // tryKey -> prometheus.Counter
}

// Finding a series by its labels costs more than counting in it, and a call ends in eight of them: those of one kind of call are found together and kept. As many as there are label values, which are bounded.
type (
	seriesKey struct {
		op, model, end, source string
		status                 int
	}
	series struct {
		requests, source prometheus.Counter
		seconds, ttft    prometheus.Observer
		tokens           [4]prometheus.Counter // of tokenKinds
	}
	tryKey struct{ model, class string }
)

var tokenKinds = [4]string{"input", "cached", "output", "reasoning"}

func (m *metrics) of(k seriesKey) *series {
	if s, ok := m.series.Load(k); ok {
		return s.(*series) //nolint:errcheck,forcetypeassert // the map holds nothing else
	}
	s := &series{requests: m.requests.WithLabelValues(k.op, k.model, strconv.Itoa(k.status), k.end), source: m.sources.WithLabelValues(k.source), seconds: m.seconds.WithLabelValues(k.model), ttft: m.ttft.WithLabelValues(k.model)}
	for i, kind := range tokenKinds {
		s.tokens[i] = m.tokens.WithLabelValues(k.model, kind)
	}
	m.series.Store(k, s)
	return s
}

// tried counts an attempt.
func (m *metrics) tried(model, class string) {
	k := tryKey{model, class}
	c, ok := m.tries.Load(k)
	if !ok {
		c, _ = m.tries.LoadOrStore(k, m.attempts.WithLabelValues(model, class))
	}
	c.(prometheus.Counter).Inc() //nolint:errcheck,forcetypeassert // the map holds nothing else
}

var seconds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

func newMetrics(g *Gateway) *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "maas_gateway_" + name, Help: help}, labels)
	}
	hist := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "maas_gateway_" + name, Help: help, Buckets: seconds}, []string{"model"})
	}
	m := &metrics{
		requests:     vec("requests_total", "Inference calls by operation, model, status and end.", "op", "model", "status", "end"),
		refused:      vec("refused_total", "Calls refused before an engine was asked, by code.", "code"),
		attempts:     vec("attempts_total", "Tries at engines by result.", "model", "class"),
		retries:      vec("retries_total", "Attempts beyond the first, by what went wrong before: connect, 429, 5xx, timeout, context.", "model", "reason"),
		budget:       vec("retry_budget_exhausted_total", "Calls that got no further attempt because the retry budget was used up.", "model"),
		probes:       vec("probes_total", "Health probes of endpoints by result.", "result"),
		tokens:       vec("tokens_total", "Tokens booked by kind.", "model", "kind"),
		sources:      vec("usage_source_total", "Where the token counts came from.", "source"),
		seconds:      hist("request_seconds", "Time from the request to the end of its answer."),
		ttft:         hist("ttft_seconds", "Time from the request to the first piece of its answer."),
		inflight:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "maas_gateway_inflight", Help: "Inference calls under way."}),
		unsettled:    prometheus.NewCounter(prometheus.CounterOpts{Name: "maas_gateway_unsettled_total", Help: "Calls that ended without being settled or were settled twice. More than 0 is a bug."}),
		unreadable:   prometheus.NewCounter(prometheus.CounterOpts{Name: "maas_gateway_journal_unreadable_total", Help: "Journal rows that could not be read and were left out."}),
		batchSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "maas_meter_batch_seconds", Help: "Time to book a batch of usage.", Buckets: seconds}),
	}
	m.suspects = prometheus.NewCounter(prometheus.CounterOpts{Name: "maas_gateway_suspects_total", Help: "Addresses that sent so many bad credentials that they were put off."})
	if g.Metrics == nil {
		return m
	}
	g.Metrics.MustRegister(m.suspects)
	g.Metrics.MustRegister(m.requests, m.refused, m.attempts, m.retries, m.budget, m.probes, breakers{g}, m.tokens, m.sources, m.seconds, m.ttft, m.inflight, m.unsettled, m.unreadable, m.batchSeconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "maas_meter_journal_lag_records", Help: "Usage rows that are not booked yet."}, func() float64 { return float64(g.journal.Lag()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "maas_meter_journal_bytes", Help: "Size of the usage journal."}, func() float64 { return float64(g.journal.Bytes()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "maas_gateway_snapshot_age_seconds", Help: "Time since credentials were last brought up to date."}, func() float64 { return g.Verifier.Age().Seconds() }))
	return m
}

// ended counts a call at its end.
func (m *metrics) ended(c *call) {
	u := &c.row
	s := m.of(seriesKey{u.Op, u.Model, u.End, u.Source, u.Status})
	s.requests.Inc()
	s.source.Inc()
	s.seconds.Observe(c.took.Seconds())
	if c.ttft > 0 {
		s.ttft.Observe(c.ttft.Seconds())
	}
	for i, n := range [...]int64{u.InFresh, u.InCache, u.OutText, u.OutReasoning} {
		if n > 0 {
			s.tokens[i].Add(float64(n))
		}
	}
}
