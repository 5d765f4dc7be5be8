package inference

import (
	"sync"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/clock"
)

// Rings of the monitor: ten seconds for an hour, a minute for a day.
const (
	fineStep, fineSlots     = 10 * time.Second, 360
	coarseStep, coarseSlots = time.Minute, 1440
)

// monitor keeps what the charts show, in memory: per deployment two rings of slots. Slots without requests cost a few words.
type monitor struct {
	now clock.Clock
	mu  sync.Mutex // guards all below
	by  map[string]*series
}

type series struct {
	fine, coarse ring
	total        int64            // requests since this process began
	seconds      [16]secondTokens // generated tokens of the last seconds
	last         map[string]engine.Load
	gauges       map[string]engine.Load // newest per replica
	told         bool                   // an engine told its counters: token rates come from there
	unwritten    count                  // not yet in the database
}

type secondTokens struct{ at, tokens int64 }

type ring struct {
	step  time.Duration
	slots []*slot
}

// slot is one step of a ring.
type slot struct {
	at                         int64 // step number since 1970
	requests, errors           int64
	prompt, cached, completion int64
	running, waiting           int     // the largest seen
	kv                         float64 // the largest seen
	ttft, interToken, whole    *histogram
}

// histogram counts durations in geometric buckets: bound i is 1 ms x 1.25^i, so a quantile is right within an eighth.
type histogram struct{ counts [64]uint32 }

var bounds = func() (b [64]float64) {
	v := 0.001
	for i := range b {
		b[i] = v
		v *= 1.25
	}
	return b
}()

func (h *histogram) add(seconds float64, n uint32) *histogram {
	if h == nil {
		h = &histogram{}
	}
	i := 0
	for i < len(bounds)-1 && seconds > bounds[i] {
		i++
	}
	h.counts[i] += n
	return h
}

func (h *histogram) merge(o *histogram) *histogram {
	if o == nil {
		return h
	}
	if h == nil {
		h = &histogram{}
	}
	for i, n := range o.counts {
		h.counts[i] += n
	}
	return h
}

// quantile returns milliseconds, 0 without any value.
func (h *histogram) quantile(q float64) float64 {
	if h == nil {
		return 0
	}
	var total, seen uint64
	for _, n := range h.counts {
		total += uint64(n)
	}
	if total == 0 {
		return 0
	}
	want := q * float64(total)
	for i, n := range h.counts {
		if n == 0 {
			continue
		}
		if float64(seen+uint64(n)) >= want {
			low := 0.0
			if i > 0 {
				low = bounds[i-1]
			}
			return 1000 * (low + (bounds[i]-low)*(want-float64(seen))/float64(n))
		}
		seen += uint64(n)
	}
	return 1000 * bounds[len(bounds)-1]
}

func newMonitor(now clock.Clock) *monitor { return &monitor{now: now, by: map[string]*series{}} }

// of returns a deployment's series; the caller holds mu.
func (m *monitor) of(deployment string) *series {
	s := m.by[deployment]
	if s == nil {
		s = &series{fine: ring{fineStep, make([]*slot, fineSlots)}, coarse: ring{coarseStep, make([]*slot, coarseSlots)}, last: map[string]engine.Load{}, gauges: map[string]engine.Load{}}
		m.by[deployment] = s
	}
	return s
}

// at returns the slot of a moment, emptied if it was an older round's.
func (r *ring) at(now time.Time) *slot {
	n := now.UnixNano() / int64(r.step)
	i := int(n % int64(len(r.slots)))
	if r.slots[i] == nil || r.slots[i].at != n {
		r.slots[i] = &slot{at: n}
	}
	return r.slots[i]
}

func (m *monitor) forget(deployment string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.by, deployment)
}

// outcome counts one request.
func (m *monitor) outcome(o Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.of(o.Deployment)
	now := m.now()
	s.total++
	failed := o.Class == Broken || o.Class == Unreachable || o.Class == TimedOut || o.Class == Busy
	s.unwritten.add(count{requests: 1, errors: map[bool]int64{true: 1}[failed], prompt: int64(o.PromptTokens), cached: int64(o.CachedTokens), completion: int64(o.CompletionTokens)})
	for _, x := range []*slot{s.fine.at(now), s.coarse.at(now)} {
		x.requests++
		if failed {
			x.errors++
		}
		x.prompt += int64(o.PromptTokens)
		x.cached += int64(o.CachedTokens)
		x.completion += int64(o.CompletionTokens)
		if o.TTFT > 0 && o.Stream { // a whole answer has no first token to see
			x.ttft = x.ttft.add(o.TTFT.Seconds(), 1)
			if o.CompletionTokens > 1 && o.Duration > o.TTFT {
				x.interToken = x.interToken.add((o.Duration-o.TTFT).Seconds()/float64(o.CompletionTokens-1), uint32(min(o.CompletionTokens-1, 1<<20)))
			}
		}
		if o.Class == OK && o.Duration > 0 {
			x.whole = x.whole.add(o.Duration.Seconds(), 1)
		}
	}
	if !s.told {
		s.tokens(now, int64(o.CompletionTokens))
	}
}

func (s *series) tokens(now time.Time, n int64) {
	sec := now.Unix()
	x := &s.seconds[sec%int64(len(s.seconds))]
	if x.at != sec {
		*x = secondTokens{at: sec}
	}
	x.tokens += n
}

// load takes what an engine said about itself.
func (m *monitor) load(deployment, replica string, l engine.Load) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.of(deployment)
	now := m.now()
	s.told = true
	if d := l.GenerationTokens - s.last[replica].GenerationTokens; d > 0 {
		if _, seen := s.last[replica]; seen {
			s.tokens(now, d)
		}
	}
	s.last[replica] = l
	s.gauges[replica] = l
	var running, waiting int
	var kv float64
	for _, g := range s.gauges {
		running += g.Running
		waiting += g.Waiting
		kv = max(kv, g.KVUsage)
	}
	for _, x := range []*slot{s.fine.at(now), s.coarse.at(now)} {
		x.running, x.waiting, x.kv = max(x.running, running), max(x.waiting, waiting), max(x.kv, kv)
	}
}

func (c *count) add(o count) {
	c.requests += o.requests
	c.errors += o.errors
	c.prompt += o.prompt
	c.cached += o.cached
	c.completion += o.completion
}

// take returns what was counted since the last call, by deployment.
func (m *monitor) take() map[string]count {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]count{}
	for deployment, s := range m.by {
		if s.unwritten != (count{}) {
			out[deployment] = s.unwritten
			s.unwritten = count{}
		}
	}
	return out
}

// putBack undoes take where the counts could not be written.
func (m *monitor) putBack(counts map[string]count) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for deployment, c := range counts {
		m.of(deployment).unwritten.add(c)
	}
}

// quiet forgets the gauges of a replica that no longer serves.
func (m *monitor) quiet(deployment, replica string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.by[deployment]; s != nil {
		delete(s.gauges, replica)
		delete(s.last, replica)
	}
}

// live returns the newest figures.
func (m *monitor) live(deployment string) Live {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.by[deployment]
	if s == nil {
		return Live{}
	}
	l := Live{RequestsTotal: s.total}
	for _, g := range s.gauges {
		l.Running += g.Running
		l.Waiting += g.Waiting
		l.KVUsage = max(l.KVUsage, g.KVUsage)
	}
	now := m.now()
	for _, x := range s.seconds {
		if x.at > now.Unix()-10 {
			l.TokensPerS += float64(x.tokens) / 10
		}
	}
	var ttft *histogram
	for _, x := range s.fine.slots {
		if x != nil && x.at > now.Add(-5*time.Minute).UnixNano()/int64(fineStep) {
			ttft = ttft.merge(x.ttft)
		}
	}
	l.TTFTP50 = ttft.quantile(0.5)
	return l
}

// MetricsView is a deployment's chart: series that describe themselves, on equal steps, oldest first, also those in which nothing happened.
type MetricsView struct {
	WindowS int            `json:"window_s"`
	StepS   int            `json:"step_s"`
	Series  []MetricSeries `json:"series"`
	Summary MetricPoint    `json:"summary"` // over the whole window
}

// MetricSeries is one line of a chart. Lines of one group share a chart. A point is [seconds since 1970, value]; the value is null where nothing was measured.
type MetricSeries struct {
	Key    string        `json:"key"`
	Name   MetricName    `json:"name"`
	Unit   string        `json:"unit"` // count, tokens, tokens/s, ratio, ms
	Group  string        `json:"group"`
	Points [][2]*float64 `json:"points"`
}

// MetricName is what people call a series.
type MetricName struct {
	EN string `json:"en"`
	ZH string `json:"zh"`
}

// seriesOf lists what a chart shows of a point. measured says that 0 means that nothing was measured.
var seriesOf = []struct {
	key, unit, group, en, zh string
	measured                 bool
	of                       func(MetricPoint) float64
}{
	{"requests", "count", "requests", "Requests", "请求数", false, func(p MetricPoint) float64 { return float64(p.Requests) }},
	{"errors", "count", "requests", "Errors", "错误数", false, func(p MetricPoint) float64 { return float64(p.Errors) }},
	{"tokens_per_s", "tokens/s", "throughput", "Generated tokens per second", "每秒生成词元", false, func(p MetricPoint) float64 { return p.TokensPerS }},
	{"ttft_ms_p50", "ms", "ttft", "Time to first token, median", "首词元延迟中位数", true, func(p MetricPoint) float64 { return p.TTFTP50 }},
	{"ttft_ms_p90", "ms", "ttft", "Time to first token, 90 %", "首词元延迟 P90", true, func(p MetricPoint) float64 { return p.TTFTP90 }},
	{"itl_ms_p50", "ms", "itl", "Time between tokens, median", "词元间隔中位数", true, func(p MetricPoint) float64 { return p.InterTokenP50 }},
	{"itl_ms_p90", "ms", "itl", "Time between tokens, 90 %", "词元间隔 P90", true, func(p MetricPoint) float64 { return p.InterTokenP90 }},
	{"duration_ms_p50", "ms", "duration", "Whole time of a request, median", "请求总时长中位数", true, func(p MetricPoint) float64 { return p.DurationP50 }},
	{"duration_ms_p90", "ms", "duration", "Whole time of a request, 90 %", "请求总时长 P90", true, func(p MetricPoint) float64 { return p.DurationP90 }},
	{"running", "count", "queue", "Running", "运行中", false, func(p MetricPoint) float64 { return float64(p.Running) }},
	{"waiting", "count", "queue", "Waiting", "等待中", false, func(p MetricPoint) float64 { return float64(p.Waiting) }},
	{"kv_usage", "ratio", "kv", "Key/value cache in use", "KV 缓存占用", false, func(p MetricPoint) float64 { return p.KVUsage }},
	{"prompt_tokens", "tokens", "tokens", "Prompt tokens", "输入词元", false, func(p MetricPoint) float64 { return float64(p.PromptTokens) }},
	{"cached_tokens", "tokens", "tokens", "Of these from the cache", "其中命中缓存", false, func(p MetricPoint) float64 { return float64(p.CachedTokens) }},
	{"completion_tokens", "tokens", "tokens", "Generated tokens", "生成词元", false, func(p MetricPoint) float64 { return float64(p.CompletionTokens) }},
}

// linesOf turns points into lines.
func linesOf(points []MetricPoint) []MetricSeries {
	out := make([]MetricSeries, 0, len(seriesOf))
	for _, d := range seriesOf {
		line := MetricSeries{Key: d.key, Name: MetricName{EN: d.en, ZH: d.zh}, Unit: d.unit, Group: d.group, Points: make([][2]*float64, 0, len(points))}
		for _, p := range points {
			at, v := float64(p.At.Unix()), d.of(p)
			point := [2]*float64{&at, &v}
			if d.measured && v == 0 {
				point[1] = nil
			}
			line.Points = append(line.Points, point)
		}
		out = append(out, line)
	}
	return out
}

// MetricPoint is one step. Times are milliseconds, 0 where nothing was measured.
type MetricPoint struct {
	At               time.Time `json:"at"` // begin of the step
	Requests         int64     `json:"requests"`
	Errors           int64     `json:"errors"`
	PromptTokens     int64     `json:"prompt_tokens"`
	CachedTokens     int64     `json:"cached_tokens"`
	CompletionTokens int64     `json:"completion_tokens"`
	TokensPerS       float64   `json:"tokens_per_s"`
	Running          int       `json:"running"`
	Waiting          int       `json:"waiting"`
	KVUsage          float64   `json:"kv_usage"`
	TTFTP50          float64   `json:"ttft_ms_p50"`
	TTFTP90          float64   `json:"ttft_ms_p90"`
	InterTokenP50    float64   `json:"itl_ms_p50"`
	InterTokenP90    float64   `json:"itl_ms_p90"`
	DurationP50      float64   `json:"duration_ms_p50"`
	DurationP90      float64   `json:"duration_ms_p90"`
}

// chart returns the points of a window, at most a day.
func (m *monitor) chart(deployment string, window time.Duration) MetricsView {
	m.mu.Lock()
	defer m.mu.Unlock()
	window = min(max(window, time.Minute), coarseStep*coarseSlots)
	step := fineStep
	if window > fineStep*fineSlots {
		step = coarseStep
	}
	v := MetricsView{WindowS: int(window.Seconds()), StepS: int(step.Seconds())}
	var points []MetricPoint
	s := m.by[deployment]
	last := m.now().UnixNano() / int64(step)
	n := int64(window / step)
	var sum slot
	for at := last - n + 1; at <= last; at++ {
		x := slot{at: at}
		if s != nil {
			r := &s.fine
			if step == coarseStep {
				r = &s.coarse
			}
			if have := r.slots[at%int64(len(r.slots))]; have != nil && have.at == at {
				x = *have
			}
		}
		sum.add(x)
		points = append(points, x.point(step))
	}
	v.Series = linesOf(points)
	v.Summary = sum.point(window)
	v.Summary.At = time.Unix(0, (last-n+1)*int64(step)).UTC()
	return v
}

func (x *slot) add(o slot) {
	x.requests += o.requests
	x.errors += o.errors
	x.prompt += o.prompt
	x.cached += o.cached
	x.completion += o.completion
	x.running, x.waiting, x.kv = max(x.running, o.running), max(x.waiting, o.waiting), max(x.kv, o.kv)
	x.ttft, x.interToken, x.whole = x.ttft.merge(o.ttft), x.interToken.merge(o.interToken), x.whole.merge(o.whole)
}

func (x *slot) point(step time.Duration) MetricPoint {
	return MetricPoint{
		At: time.Unix(0, x.at*int64(step)).UTC(), Requests: x.requests, Errors: x.errors, PromptTokens: x.prompt, CachedTokens: x.cached, CompletionTokens: x.completion,
		TokensPerS: float64(x.completion) / step.Seconds(), Running: x.running, Waiting: x.waiting, KVUsage: x.kv, TTFTP50: x.ttft.quantile(0.5), TTFTP90: x.ttft.quantile(0.9),
		InterTokenP50: x.interToken.quantile(0.5), InterTokenP90: x.interToken.quantile(0.9), DurationP50: x.whole.quantile(0.5), DurationP90: x.whole.quantile(0.9),
	}
}
