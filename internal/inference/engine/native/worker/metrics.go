package worker

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"maas/internal/llm/run"
)

// Buckets of vLLM's histograms, so that its dashboards work.
var (
	ttftBuckets    = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	tokenBuckets   = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	latencyBuckets = []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	lengthBuckets  = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
)

// metrics are vLLM's names with the labels model_name and engine.
type metrics struct {
	registry                                          *prometheus.Registry
	ttft, inter, e2e, queue, prefill, decode          prometheus.Histogram
	promptLen, genLen                                 prometheus.Histogram
	server                                            *server
	running, waiting, kv, promptTotal, genTotal, hits *prometheus.Desc
	queries, preemptions, finished, cacheInfo         *prometheus.Desc
	label                                             string
}

func newMetrics(s *server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), server: s, label: s.cfg.Model}
	if m.label == "" {
		m.label = s.cfg.Nonce
	}
	labels := prometheus.Labels{"model_name": m.label, "engine": "0"}
	hist := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vllm:" + name, Help: help, Buckets: buckets, ConstLabels: labels})
		m.registry.MustRegister(h)
		return h
	}
	m.ttft = hist("time_to_first_token_seconds", "From the request's arrival to its first token.", ttftBuckets)
	m.inter = hist("inter_token_latency_seconds", "Between two tokens of a choice.", tokenBuckets)
	m.e2e = hist("e2e_request_latency_seconds", "From arrival to the end.", latencyBuckets)
	m.queue = hist("request_queue_time_seconds", "From arrival to the first computed token of the prompt.", latencyBuckets)
	m.prefill = hist("request_prefill_time_seconds", "Computing the prompt.", latencyBuckets)
	m.decode = hist("request_decode_time_seconds", "From the first generated token to the last.", latencyBuckets)
	m.promptLen = hist("request_prompt_tokens", "Tokens of the prompt.", lengthBuckets)
	m.genLen = hist("request_generation_tokens", "Generated tokens of a request.", lengthBuckets)
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("vllm:"+name, help, variable, labels)
	}
	m.running = desc("num_requests_running", "Sequences being computed.")
	m.waiting = desc("num_requests_waiting", "Sequences waiting for a slot.")
	m.kv = desc("kv_cache_usage_perc", "Part of the key/value cache held by sequences, 0 to 1.")
	m.promptTotal = desc("prompt_tokens_total", "Prompt tokens computed.")
	m.genTotal = desc("generation_tokens_total", "Tokens generated.")
	m.queries = desc("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.")
	m.hits = desc("prefix_cache_hits_total", "Prompt tokens found there.")
	m.preemptions = desc("num_preemptions_total", "Sequences sent back to wait because the cache was full.")
	m.finished = desc("request_success_total", "Ended choices by reason.", "finished_reason")
	m.cacheInfo = desc("cache_config_info", "Shape of the key/value cache.", "block_size", "num_gpu_blocks")
	m.registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.running, m.waiting, m.kv, m.promptTotal, m.genTotal, m.queries, m.hits, m.preemptions, m.finished, m.cacheInfo} {
		ch <- d
	}
}

// Collect implements prometheus.Collector from the engine's own counters.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	loaded := m.server.model.Load()
	if loaded == nil {
		return
	}
	s := loaded.computer().Stats()
	gauge := func(d *prometheus.Desc, v float64, l ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, l...)
	}
	count := func(d *prometheus.Desc, v int64, l ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), l...)
	}
	gauge(m.running, float64(s.Running))
	gauge(m.waiting, float64(s.Waiting))
	if s.Pages > 0 {
		gauge(m.kv, 1-float64(s.FreePages)/float64(s.Pages))
	}
	count(m.promptTotal, s.PromptTokens)
	count(m.genTotal, s.CompletionTokens)
	count(m.queries, s.PrefixQueries)
	count(m.hits, s.PrefixHits)
	count(m.preemptions, s.Preemptions)
	for _, f := range []run.Finish{run.FinishStop, run.FinishLength, run.FinishAbort, run.FinishError} {
		count(m.finished, s.Finished[f], string(f))
	}
	gauge(m.cacheInfo, 1, strconv.Itoa(s.PageTokens), strconv.Itoa(s.Pages))
}

// watch times one request.
type watch struct {
	m      *metrics
	start  time.Time
	last   map[int]time.Time // by choice: its newest chunk
	timing run.Timing
}

func (m *metrics) begin() *watch {
	return &watch{m: m, start: time.Now(), last: map[int]time.Time{}}
}

// chunk records the time of new tokens. Tokens that a slow reader got at once share the time since the chunk before.
func (w *watch) chunk(c run.Chunk) {
	if n := len(c.Tokens); n > 0 {
		now := time.Now()
		if at, ok := w.last[c.Index]; ok {
			each := now.Sub(at).Seconds() / float64(n)
			for range n {
				w.m.inter.Observe(each)
			}
		} else if len(w.last) == 0 {
			w.m.ttft.Observe(now.Sub(w.start).Seconds())
		}
		w.last[c.Index] = now
	}
	w.timing = c.Timing
}

// end records a request that was answered, in whole or in part.
func (w *watch) end(u run.Usage, err error) {
	if err != nil && u.Completion == 0 {
		return
	}
	w.m.e2e.Observe(time.Since(w.start).Seconds())
	w.m.queue.Observe(w.timing.Queued.Seconds())
	w.m.prefill.Observe(w.timing.Prefill.Seconds())
	w.m.decode.Observe(w.timing.Decode.Seconds())
	w.m.promptLen.Observe(float64(u.Prompt))
	w.m.genLen.Observe(float64(u.Completion))
}
