package inference

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/inference/engine"
)

// Buckets of the histograms that carry vLLM's names: its own, so that its dashboards work on us.
var (
	ttftBuckets  = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	itlBuckets   = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	wholeBuckets = []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
)

// metrics are the service's Prometheus metrics. Labels are bounded by the number of deployments; a deleted one's series go.
type metrics struct {
	replicas  *prometheus.GaugeVec   // state
	restarts  *prometheus.CounterVec // model_name, engine
	attached  prometheus.Counter
	coldStart *prometheus.HistogramVec // engine
	requests  *prometheus.CounterVec   // model_name, class
	breakers  *prometheus.CounterVec   // model_name, state, reason

	running, waiting, kv       *prometheus.GaugeVec // model_name, engine
	ttft, interToken, duration *prometheus.HistogramVec
	prompt, generated          *prometheus.CounterVec

	mu sync.Mutex // guards engines
	by map[string]string
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &metrics{
		replicas:   gauge("maas_inference_replicas", "Replicas by state", "state"),
		restarts:   counter("maas_inference_restarts_total", "Attempts after the first of a replica", "model_name", "engine"),
		attached:   prometheus.NewCounter(prometheus.CounterOpts{Name: "maas_inference_attached_total", Help: "Engines that were found again after a restart of the server"}),
		coldStart:  histogram("maas_inference_cold_start_seconds", "From the start of an engine to its readiness", ttftBuckets, "engine"),
		requests:   counter("maas_inference_requests_total", "Attempts at replicas by what became of them", "model_name", "class"),
		breakers:   counter("maas_inference_breaker_moves_total", "Breakers of endpoints that opened or closed, by reason", "model_name", "state", "reason"),
		running:    gauge("vllm:num_requests_running", "Requests that the engine works on", "model_name", "engine"),
		waiting:    gauge("vllm:num_requests_waiting", "Requests that wait inside the engine", "model_name", "engine"),
		kv:         gauge("vllm:kv_cache_usage_perc", "Share of the key/value cache in use, 0 to 1", "model_name", "engine"),
		ttft:       histogram("vllm:time_to_first_token_seconds", "To the first piece of a streamed answer, seen from the gateway", ttftBuckets, "model_name", "engine"),
		interToken: histogram("vllm:inter_token_latency_seconds", "Mean time between the tokens of a streamed answer", itlBuckets, "model_name", "engine"),
		duration:   histogram("vllm:e2e_request_latency_seconds", "Whole time of answered requests", wholeBuckets, "model_name", "engine"),
		prompt:     counter("vllm:prompt_tokens_total", "Prompt tokens of answered requests", "model_name", "engine"),
		generated:  counter("vllm:generation_tokens_total", "Generated tokens", "model_name", "engine"),
		by:         map[string]string{},
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.replicas, m.restarts, m.attached, m.coldStart, m.requests, m.breakers, m.running, m.waiting, m.kv, m.ttft, m.interToken, m.duration, m.prompt, m.generated} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) replicaStates(counts map[ReplicaState]int) {
	for _, s := range []ReplicaState{RPending, RFitting, RStarting, RLoading, RReady, RDraining, RStopped, RFailed} {
		m.replicas.WithLabelValues(string(s)).Set(float64(counts[s]))
	}
}

// started notes that a replica became ready.
func (m *metrics) started(r Replica, name string) {
	m.coldStart.WithLabelValues(r.Spec.Engine).Observe(r.ReadyAt.Sub(r.StartedAt).Seconds())
	m.mu.Lock()
	m.by[name] = r.Spec.Engine
	m.mu.Unlock()
}

func (m *metrics) load(name, driver string, l engine.Load) {
	m.running.WithLabelValues(name, driver).Set(float64(l.Running))
	m.waiting.WithLabelValues(name, driver).Set(float64(l.Waiting))
	m.kv.WithLabelValues(name, driver).Set(l.KVUsage)
}

func (m *metrics) outcome(name string, o Outcome) {
	m.mu.Lock()
	driver := m.by[name]
	m.mu.Unlock()
	m.requests.WithLabelValues(name, string(o.Class)).Inc()
	m.prompt.WithLabelValues(name, driver).Add(float64(o.PromptTokens))
	m.generated.WithLabelValues(name, driver).Add(float64(o.CompletionTokens))
	if o.Stream && o.TTFT > 0 {
		m.ttft.WithLabelValues(name, driver).Observe(o.TTFT.Seconds())
		if o.CompletionTokens > 1 && o.Duration > o.TTFT {
			m.interToken.WithLabelValues(name, driver).Observe((o.Duration - o.TTFT).Seconds() / float64(o.CompletionTokens-1))
		}
	}
	if o.Class == OK {
		m.duration.WithLabelValues(name, driver).Observe(o.Duration.Seconds())
	}
}

func (m *metrics) moved(b Move) {
	m.breakers.WithLabelValues(b.Name, string(b.State), b.Reason).Inc()
}

func (m *metrics) forget(name string) {
	label := prometheus.Labels{"model_name": name}
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.restarts, m.requests, m.breakers, m.running, m.waiting, m.kv, m.ttft, m.interToken, m.duration, m.prompt, m.generated} {
		v.DeletePartialMatch(label)
	}
	m.mu.Lock()
	delete(m.by, name)
	m.mu.Unlock()
}
