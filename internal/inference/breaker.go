package inference

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Breaker, ejection and cooling figures. Gateways of other projects settled on the same order of magnitude; taste, not measurement.
const (
	breakerFailures = 5                // in a row
	breakerShare    = 0.5              // of at least breakerCount in the last ten seconds
	breakerCount    = 20               //
	breakerFirst    = 5 * time.Second  // doubling with each opening in a row
	breakerLast     = 60 * time.Second //
	breakerJitter   = 0.2              // up to this share longer, so that gateways do not come back together

	slowFactor  = 3                // times the median of its peers
	slowSamples = 5                // answers of the last minute, at least
	slowFor     = time.Minute      // this long before it is ejected
	slowFirst   = 30 * time.Second // doubling up to slowLast
	slowLast    = 5 * time.Minute

	windowStep  = 5 * time.Second
	windowSlots = 12 // a minute for people; the breaker looks at the newest two
	samplesKept = 64
)

// BreakerState is what a breaker does with requests.
type BreakerState string

// The states.
const (
	BreakerClosed   BreakerState = "closed"    // requests pass
	BreakerOpen     BreakerState = "open"      // none pass until a time
	BreakerHalfOpen BreakerState = "half_open" // one request at a time tries whether it is well again
)

// Why a breaker opened.
const (
	OpenedInRow  = "consecutive_failures"
	OpenedRate   = "failure_rate"
	OpenedProbe  = "probe_failed"
	OpenedSlow   = "slow"
	OpenedAgain  = "still_failing"
	closedAnswer = "answered"
	closedProbe  = "probe_answered"
	closedTime   = "time_over"
)

// endpointState is what this process knows of an endpoint beyond the table. Pick reads the atomic fields only and takes no lock.
type endpointState struct {
	inFlight atomic.Int64
	polled   atomic.Int64 // running + waiting as the engine told last
	until    atomic.Int64 // breaker or ejection ends, unix nanoseconds
	cool     atomic.Int64 // a 429 asked us to wait until, unix nanoseconds
	opens    atomic.Int64 // how often the breaker opened in a row; 0 = closed
	probing  atomic.Int64 // 1 while the one half-open request runs

	mu       sync.Mutex // guards what follows; taken when a request has ended
	failures int        // in a row
	opened   time.Time
	why      string // the breaker opened
	slow     bool   // kept out for slowness, which ends by time alone
	slows    int    // ejections in a row
	slowAt   time.Time
	window   [windowSlots]windowSlot
	samples  [samplesKept]sample // newest answers
	next     int
	last     LastError
	used     time.Time // an answer or a failure last came
	probed   time.Time // next probe not before
	misses   int       // failed probes in a row
}

type windowSlot struct{ at, total, failed int64 }

// sample is the time to the first piece of one answer.
type sample struct {
	at time.Time
	ms float32
}

// LastError is the newest failure of an endpoint.
type LastError struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
}

// Move is a breaker that opened or closed.
type Move struct {
	Tenant     string       `json:"tenant"`
	Deployment string       `json:"deployment"`
	Name       string       `json:"name"` // of the deployment
	Replica    string       `json:"replica"`
	State      BreakerState `json:"state"`  // open or closed
	Reason     string       `json:"reason"` // consecutive_failures, failure_rate, probe_failed, slow, still_failing; answered, probe_answered, time_over
	Until      time.Time    `json:"until,omitzero"`
	Error      LastError    `json:"error,omitzero"`
}

// open reports whether the endpoint is kept out: breaker open, ejected, or half-open with its one request running.
func (s *endpointState) open(now int64) bool {
	return now < s.until.Load() || s.opens.Load() > 0 && s.probing.Load() == 1
}

// cooling reports whether the upstream asked us to wait.
func (s *endpointState) cooling(now int64) bool { return now < s.cool.Load() }

func (s *endpointState) slot(now time.Time) *windowSlot {
	n := now.UnixNano() / int64(windowStep)
	w := &s.window[n%windowSlots]
	if w.at != n {
		*w = windowSlot{at: n}
	}
	return w
}

// counts sums the newest slots.
func (s *endpointState) counts(now time.Time, slots int64) (total, failed int64) {
	n := now.UnixNano() / int64(windowStep)
	for _, w := range s.window {
		if w.at > n-slots && w.at <= n {
			total += w.total
			failed += w.failed
		}
	}
	return total, failed
}

// learn takes what became of a request and moves the breaker; it returns the move, if there was one. probe says that the request was the half-open one. Aborted and Rejected say nothing about the endpoint.
func (s *endpointState) learn(o *Outcome, probe bool, now time.Time) (m Move, moved bool) {
	if o.Class == Aborted || o.Class == Rejected {
		return m, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.slot(now)
	w.total++
	s.used = now
	if o.Class == Busy { // not the breaker's: the account is used up for a moment
		s.cool.Store(now.Add(min(max(o.RetryAfter, time.Second), breakerLast)).UnixNano())
		s.note(o, now)
		return m, false
	}
	if o.Class == OK {
		s.failures, s.misses = 0, 0
		first := o.TTFT
		if first == 0 {
			first = o.Duration
		}
		s.samples[s.next%samplesKept] = sample{now, float32(first.Seconds() * 1000)}
		s.next++
		if s.opens.Load() == 0 || !probe && !now.Add(-o.Duration).After(s.opened) { // begun before it opened: says nothing about now
			return m, false
		}
		return s.close(closedAnswer), true
	}
	w.failed++
	s.failures++
	if o.RetryAfter > 0 { // a 503 that says when to come back
		s.cool.Store(now.Add(min(o.RetryAfter, breakerLast)).UnixNano())
	}
	s.note(o, now)
	opens := s.opens.Load()
	switch {
	case opens > 0 && probe:
		return s.trip(OpenedAgain, now), true
	case opens > 0: // begun before it opened, or sent because nothing better was left
		return m, false
	case s.failures >= breakerFailures:
		return s.trip(OpenedInRow, now), true
	}
	if total, failed := s.counts(now, 2); total >= breakerCount && float64(failed) > breakerShare*float64(total) {
		return s.trip(OpenedRate, now), true
	}
	return m, false
}

func (s *endpointState) note(o *Outcome, now time.Time) {
	s.last = LastError{Code: o.Code, Message: o.Message, At: now}
	if s.last.Code == "" {
		s.last.Code = string(o.Class)
	}
}

// trip opens the breaker; the caller holds mu.
func (s *endpointState) trip(why string, now time.Time) Move {
	opens := s.opens.Load()
	wait := min(breakerFirst<<min(opens, 10), breakerLast)
	wait += time.Duration(rand.Float64() * breakerJitter * float64(wait)) //nolint:gosec // spreads, hides nothing
	until := now.Add(wait)
	s.until.Store(until.UnixNano())
	s.opens.Store(opens + 1)
	s.failures, s.opened, s.why, s.slow = 0, now, why, false
	return Move{State: BreakerOpen, Reason: why, Until: until, Error: s.last}
}

// close lets requests pass again; the caller holds mu.
func (s *endpointState) close(why string) Move {
	s.opens.Store(0)
	s.until.Store(0)
	s.failures, s.why, s.slow = 0, "", false
	return Move{State: BreakerClosed, Reason: why}
}

// state tells the breaker's state; the caller holds mu.
func (s *endpointState) state(now time.Time) BreakerState {
	switch {
	case now.UnixNano() < s.until.Load():
		return BreakerOpen
	case s.opens.Load() > 0:
		return BreakerHalfOpen
	}
	return BreakerClosed
}

// median of the answers of the last minute in milliseconds, and how many there were; the caller holds mu.
func (s *endpointState) median(now time.Time) (float64, int) {
	var ms [samplesKept]float32
	n := 0
	for _, x := range s.samples {
		if x.ms > 0 && now.Sub(x.at) < time.Minute {
			ms[n] = x.ms
			n++
		}
	}
	if n == 0 {
		return 0, 0
	}
	slices.Sort(ms[:n])
	return float64(ms[n/2]), n
}

// eject keeps a slow endpoint out for a while; the caller holds mu.
func (s *endpointState) eject(now time.Time) Move {
	until := now.Add(min(slowFirst<<min(s.slows, 10), slowLast))
	s.until.Store(until.UnixNano())
	s.slows++
	s.opened, s.why, s.slow, s.slowAt = now, OpenedSlow, true, time.Time{}
	return Move{State: BreakerOpen, Reason: OpenedSlow, Until: until, Error: s.last}
}

// probeResult takes the answer of a health probe and moves the breaker.
func (s *endpointState) probeResult(alive bool, o *Outcome, now time.Time) (m Move, moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if alive {
		s.misses = 0
		if s.opens.Load() == 0 {
			return m, false
		}
		// The list of models answers; whether requests do, the next one shows: it runs alone.
		s.until.Store(0)
		return m, false
	}
	s.misses++
	s.note(o, now)
	switch opens := s.opens.Load(); {
	case opens > 0:
		return s.trip(OpenedAgain, now), true
	case s.misses >= 2:
		return s.trip(OpenedProbe, now), true
	}
	return m, false
}
