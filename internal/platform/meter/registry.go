package meter

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"maas/internal/platform/cache"
)

// Options of a Meter.
type Options struct {
	Grantor Grantor               // nil: there are no budgets
	Node    string                // name of this node: that of its journal
	Epoch   int64                 // start of this node
	Log     *slog.Logger          // nil: none
	Metrics prometheus.Registerer // nil: none
	Cache   cache.Cache           // counts the limits of all processes together; nil: each alone
	Closed  bool                  // refuse calls with limits when the cache was away for a minute, instead of going on with this process's share
	Clock   func() int64          // ns that never go back; nil: the process's
	Wall    func() time.Time      // for the ends of budget windows; nil: time.Now
}

// Meter decides in memory whether a call may run. One per process.
type Meter struct {
	grantor Grantor
	node    string
	epoch   int64
	log     *slog.Logger
	clock   func() int64
	wall    func() time.Time
	salt    string
	asks    atomic.Int64
	nodes   atomic.Int64 // alive, this one included; at least 1
	away    atomic.Int64 // the grantor did not answer: calls do not ask it again before

	open      atomic.Int64
	unsettled atomic.Int64
	metrics   meterMetrics

	leasing, returning atomic.Bool
	looked             int64 // of Tick
	retiring           pools
	shared             shared

	mu       sync.RWMutex
	counters map[string]*counter
	targets  map[string]*target
	list     []*target // all targets; replaced, never changed
	dueMu    sync.Mutex
	due      []*target
}

type meterMetrics struct {
	granted, refused, returned, lost prometheus.Counter
	wait                             prometheus.Histogram
	failing                          prometheus.Gauge
	cacheCalls                       prometheus.Counter
	cacheAway                        prometheus.Gauge
}

// New makes a Meter. Run must be called.
func New(o Options) *Meter {
	base := time.Now()
	m := &Meter{
		grantor: o.Grantor, node: o.Node, epoch: o.Epoch, log: o.Log, clock: o.Clock, wall: o.Wall,
		counters: map[string]*counter{}, targets: map[string]*target{},
	}
	m.shared.cache, m.shared.closed = o.Cache, o.Closed
	if m.grantor == nil {
		m.grantor = noGrantor{}
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.clock == nil {
		m.clock = func() int64 { return int64(time.Since(base)) + minute } // monotonic; not near 0, so that an untouched counter lies in the past
	}
	if m.wall == nil {
		m.wall = time.Now
	}
	var b [6]byte
	_, _ = rand.Read(b[:])
	m.salt = hex.EncodeToString(b[:])
	m.nodes.Store(1)
	m.metrics = newMeterMetrics(m, o.Metrics)
	return m
}

func newMeterMetrics(m *Meter, r prometheus.Registerer) meterMetrics {
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "maas_meter_" + name, Help: help})
	}
	x := meterMetrics{
		granted:    count("lease_granted_total", "Leases of wallets and budgets that this node got."),
		refused:    count("lease_refused_total", "Leases that were refused: the wallet or budget has nothing left."),
		returned:   count("lease_returned_total", "Leases given back."),
		lost:       count("lease_lost_total", "Leases that the grantor had closed before this node gave them back."),
		wait:       prometheus.NewHistogram(prometheus.HistogramOpts{Name: "maas_meter_lease_wait_seconds", Help: "Time of a question for leases.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}),
		cacheCalls: count("cache_calls_total", "Questions to the shared counters."),
		cacheAway:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "maas_meter_cache_away", Help: "1 while the shared counters do not answer: limits are applied by shares."}),
		failing:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "maas_meter_grantor_away", Help: "1 while the user service does not answer questions for leases."}),
	}
	if r == nil {
		return x
	}
	r.MustRegister(x.granted, x.refused, x.returned, x.lost, x.wait, x.failing, x.cacheCalls, x.cacheAway,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "maas_meter_open_tickets", Help: "Admitted calls that are not settled yet."}, func() float64 { return float64(m.open.Load()) }))
	return x
}

// Now is the time of limits: nanoseconds of a clock that never goes back.
func (m *Meter) Now() int64 { return m.clock() }

// Open is the number of admitted calls that are not settled; Unsettled counts tickets that were settled twice or used again before they were settled: a bug each.
func (m *Meter) Open() int64 { return m.open.Load() }

// Unsettled counts misuse of tickets.
func (m *Meter) Unsettled() int64 { return m.unsettled.Load() }

// Bucket returns the bucket of a limit. The counter of (kind, id, unit) is one for all of them, so a changed limit goes on where the old one was. Above 10^10 a minute there is no limit: nil.
func (m *Meter) Bucket(l Limit) *Bucket {
	if l.Unit != Concurrent && l.Limit >= noLimit {
		return nil
	}
	key := cmp.Or(l.Counter, l.Kind+"/"+l.ID+"/"+string(l.Unit))
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.counters[key]
	if w == nil {
		w = &counter{}
		m.counters[key] = w
		if m.shared.cache != nil && l.Limit <= sharedMost {
			m.remoteOf(key, w)
		}
	}
	b := newBucket(l, w)
	if w.remote != nil {
		w.remote.bucket.Store(b)
	}
	return b
}

// Budget returns the budget of a target. What is leased of it is one for all subjects that pass it.
func (m *Meter) Budget(name, kind, id string, u Unit) *Budget {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.targets[name]
	if t == nil {
		t = &target{m: m, name: name, money: u == Money, left: -1}
		m.targets[name] = t
		m.list = append(slices.Clip(m.list), t)
	}
	return &Budget{Target: name, Kind: kind, ID: id, Unit: u, to: t}
}

// askID names a question to the grantor.
func (m *Meter) askID() string {
	return cmp.Or(m.node, "node") + "." + strconv.FormatInt(m.epoch, 10) + "." + m.salt + "." + strconv.FormatInt(m.asks.Add(1), 10)
}

// mono turns a wall time into the time of limits; 0 for none.
func (m *Meter) mono(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return max(m.Now()+int64(at.Sub(m.wall())), 1)
}

// told notes whether the grantor answers.
func (m *Meter) told(err error) {
	if err == nil {
		if m.away.Swap(0) != 0 {
			m.metrics.failing.Set(0)
			m.log.Info("the grantor of budgets answers again")
		}
		return
	}
	if m.away.Swap(m.Now()+int64(refuseKeep)) == 0 {
		m.metrics.failing.Set(1)
		m.log.Warn("budgets cannot be asked for; leases in hand are spent", "error", err)
	}
}

func (m *Meter) addDue(t *target) {
	m.dueMu.Lock()
	defer m.dueMu.Unlock()
	m.due = append(m.due, t)
}

func (m *Meter) takeDue() []*target {
	m.dueMu.Lock()
	defer m.dueMu.Unlock()
	l := m.due
	m.due = nil
	return l
}

// noGrantor is for installations without budgets.
type noGrantor struct{}

func (noGrantor) Lease(_ context.Context, asks []LeaseAsk) ([]Grant, error) {
	out := make([]Grant, len(asks))
	for i, a := range asks {
		out[i] = Grant{ID: a.ID, LeaseID: a.ID, Unlimited: true, Left: -1}
	}
	return out, nil
}

func (noGrantor) Return(context.Context, []LeaseReturn) error { return nil }

// State is how a Meter stands.
type State struct {
	Shared    string // none, redis, away
	Grantor   string // ok, away
	Open      int64
	Unsettled int64
}

// State tells how the Meter stands now.
func (m *Meter) State() State {
	s := State{Shared: "none", Grantor: "ok", Open: m.open.Load(), Unsettled: m.unsettled.Load()}
	if m.away.Load() != 0 {
		s.Grantor = "away"
	}
	if m.shared.cache != nil {
		s.Shared = "redis"
		if m.shared.away.Load() != 0 {
			s.Shared = "away"
		}
	}
	return s
}

// SetNodes tells how many processes take calls, this one included.
func (m *Meter) SetNodes(n int64) { m.nodes.Store(max(n, 1)) }
