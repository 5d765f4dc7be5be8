package inference

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/clock"
)

// triesKept is the most attempts one request may make: above the largest policy.
const triesKept = 8

// Target is where the requests of one public model name may go: levels of endpoints, best first. It is immutable but for the counters of its endpoints and its retry budget.
type Target struct {
	Model   ModelInfo
	Retry   RetryPolicy
	Timeout time.Duration // to the first piece of an answer, per attempt; 0 = the caller's own
	// Defaults of a deployment called by its own name; those of an attempt stand in the attempt.
	Defaults engine.Defaults

	unready    error
	levels     []level
	candidates []candidate
	sticky     bool // a session changes what Pick chooses
	on         retryOn
	budget     *budget
	now        clock.Clock
	report     func(Outcome)
	moved      func(Move)
}

// level is what is tried before the next level: the targets of one priority of one route.
type level struct {
	from, to int // candidates
	strategy Strategy
	groups   []group // by deployment; one for LeastLoaded and BySession
	weight   uint64  // sum
}

// group is a range of candidates with a common weight.
type group struct {
	from, to int
	weight   uint64
}

// candidate is one endpoint of a target. It is small, so that a walk over many stays in the cache.
type candidate struct {
	state      *endpointState
	perSlot    float32 // load of one request
	context    int32   // tokens, 0 = unknown
	deployment int32   // number inside the target
	seed       uint64  // of rendezvous hashes
	share      float32 // weight of its group per endpoint
	info       *endpointInfo
}

// endpointInfo is what an attempt needs of an endpoint. The same for every target that leads to it.
type endpointInfo struct {
	tenant     string
	deployment string
	name       string // of the deployment
	replica    string
	provider   string
	endpoint   engine.Endpoint
	defaults   engine.Defaults
	state      *endpointState
}

// Attempt is one try at one endpoint. Done must be called once, whatever happened; later calls do nothing. It is bound to the Tried it was picked for, which must live as long.
type Attempt struct {
	Endpoint   engine.Endpoint
	Deployment string
	Replica    string
	Provider   string           // id of the upstream account; "" = an engine of ours
	Defaults   *engine.Defaults // of the deployment; not to be changed

	target *Target
	info   *endpointInfo
	tried  *Tried
	try    int
}

// Tried remembers where a request has been. The zero value is ready to use; it belongs to one request and one goroutine.
type Tried struct {
	Session uint64 // hash of what keeps requests of a session together; 0 = none

	n     int
	tries [triesKept]try
	least int32 // context a candidate must have more than: an endpoint said that the request is too long
}

type try struct {
	state      *endpointState
	deployment int32
	leave      bool // the whole deployment is of no use to this request
	probe      bool // the half-open request
	ended      bool
}

// Len is the number of attempts made.
func (t *Tried) Len() int { return t.n }

// Leave keeps the request from other endpoints of the deployment it was at last: what went wrong there is the deployment's, not the endpoint's.
func (t *Tried) Leave() {
	if t.n > 0 {
		t.tries[t.n-1].leave = true
	}
}

// Longer lets only endpoints through that hold more tokens than the one the request was at last. False when that one's context is not known.
func (t *Tried) Longer(than int) bool {
	if than <= 0 || t.n == 0 {
		return false
	}
	t.least = int32(min(than, math.MaxInt32))
	return true
}

// has reports whether a candidate is out for this request: tried, its deployment left, too short, or - where spread is asked for - its deployment tried twice.
func (t *Tried) has(c *candidate, spread bool) bool {
	if t.least > 0 && c.context > 0 && c.context <= t.least {
		return true
	}
	same := 0
	for i := range t.n {
		x := &t.tries[i]
		if x.state == c.state || x.leave && x.deployment == c.deployment {
			return true
		}
		if x.deployment == c.deployment {
			same++
		}
	}
	return spread && same >= 2
}

// Unready is nil when the target has an endpoint, else ErrNotReady with the deployment's reason, the next step and, while it starts, when to come back.
func (t *Target) Unready() error { return t.unready }

// Sticky reports whether Tried.Session makes a difference.
func (t *Target) Sticky() bool { return t.sticky }

// Retries reports whether a failure of this kind - one of OnConnect, OnLimited, OnServer, OnTimeout - may be answered with another attempt.
func (t *Target) Retries(kind string) bool { return t.on&onBit(kind) != 0 }

// Spend takes a permit for an attempt beyond the first from the retry budget; false when it is used up.
func (t *Target) Spend() bool { return t.budget.retry(t.now().UnixNano(), t.Retry.BudgetPercent) }

type retryOn uint8

func onBit(kind string) retryOn {
	switch kind {
	case OnConnect:
		return 1
	case OnLimited:
		return 2
	case OnServer:
		return 4
	case OnTimeout:
		return 8
	}
	return 0
}

// Pick chooses an endpoint that was not tried yet and counts the request there until Done. False when there is none left; Wait says until when. It takes no lock and allocates nothing.
//
// Levels are walked in order; endpoints whose breaker is open or that asked for a pause are passed over as long as a later level has a better one. Two failures in one deployment lead to the next one. At
// most half of the endpoints of the last level are kept out by breakers, and when nothing else is left one with an open breaker is tried all the same: a lone endpoint always gets its chance. One that asked
// for a pause (429 with Retry-After) is left alone until it is over.
func (t *Target) Pick(tried *Tried) (Attempt, bool) {
	now := t.now().UnixNano()
	if tried.n == 0 {
		t.budget.request(now)
	}
	if tried.n == triesKept {
		return Attempt{}, false
	}
	var c *candidate
	if tried.n > 1 {
		c = t.choose(tried, now, true, false)
	}
	if c == nil {
		c = t.choose(tried, now, false, false)
	}
	if c == nil {
		c = t.choose(tried, now, false, true)
	}
	if c == nil {
		return Attempt{}, false
	}
	return t.attempt(c, tried), true
}

// Wait is how long it takes until an endpoint that was passed over may be asked again, and whether it is the upstream's own wish (429). 0 when there is nothing to wait for.
func (t *Target) Wait() (d time.Duration, limited bool) {
	now := t.now().UnixNano()
	soonest := int64(math.MaxInt64)
	for i := range t.candidates {
		s := t.candidates[i].state
		cool := s.cool.Load()
		until := max(cool, s.until.Load())
		if until > now && until < soonest {
			soonest, limited = until, cool == until
		}
	}
	if soonest == math.MaxInt64 {
		return 0, false
	}
	return time.Duration(soonest - now), limited
}

// choose walks the levels. spread: not a third time in one deployment. any: breakers are not looked at.
func (t *Target) choose(tried *Tried, now int64, spread, any bool) *candidate {
	for i := range t.levels {
		l := &t.levels[i]
		last := i == len(t.levels)-1
		var c *candidate
		switch {
		case l.strategy == BySession && tried.Session != 0:
			c = t.rendezvous(l, tried, now, spread, any)
		case l.strategy == Weighted && len(l.groups) > 1:
			c = t.weighted(l, tried, now, spread, any)
		default:
			c = t.least(l.from, l.to, tried, now, spread, any, last)
		}
		if c != nil {
			return c
		}
	}
	return nil
}

// usable reports whether a request may go to a candidate now.
func usable(c *candidate, tried *Tried, now int64, spread, any bool) bool {
	if c.state.cooling(now) || !any && c.state.open(now) {
		return false
	}
	return tried.n == 0 && tried.least == 0 || !tried.has(c, spread)
}

// load of a candidate by its slots: requests of this process, or all that the engine told where that is more.
func (c *candidate) load() float32 {
	return float32(max(c.state.inFlight.Load(), c.state.polled.Load())) * c.perSlot
}

// least finds the least loaded candidate of a range. In the last level breakers keep out at most half of it.
func (t *Target) least(from, to int, tried *Tried, now int64, spread, any, last bool) *candidate {
	var best, open *candidate
	var bestLoad, openLoad float32
	kept := 0
	fresh := tried.n == 0 && tried.least == 0
	for i := from; i < to; i++ {
		c := &t.candidates[i]
		if c.state.cooling(now) {
			continue
		}
		out := !any && c.state.open(now)
		if out {
			kept++
		}
		if !fresh && tried.has(c, spread) {
			continue
		}
		load := c.load()
		switch {
		case out:
			if open == nil || load < openLoad {
				open, openLoad = c, load
			}
		case best == nil || load < bestLoad:
			best, bestLoad = c, load
		}
	}
	if last && kept > (to-from)/2 && kept > 1 && open != nil && (best == nil || openLoad < bestLoad) {
		return open
	}
	return best
}

// weighted draws a group by weight - the same one for the same session - and takes the least loaded of it. Groups without a usable endpoint drop out of the draw.
func (t *Target) weighted(l *level, tried *Tried, now int64, spread, any bool) *candidate {
	draw := tried.Session
	if draw == 0 {
		draw = rand.Uint64() //nolint:gosec // spreads, hides nothing
	}
	var out uint64 // groups that dropped out; a level has at most maxTargets
	left := l.weight
	for left > 0 {
		draw = mix(draw)
		at := draw % left
		for i := range l.groups {
			g := &l.groups[i]
			if out&(1<<i) != 0 || g.weight == 0 {
				continue
			}
			if at >= g.weight {
				at -= g.weight
				continue
			}
			if c := t.least(g.from, g.to, tried, now, spread, any, false); c != nil {
				return c
			}
			out |= 1 << i
			left -= g.weight
			break
		}
	}
	return nil
}

// rendezvous takes the endpoint that the session's hash likes most among those whose load is bounded: at most 1.25 times the mean and one request.
func (t *Target) rendezvous(l *level, tried *Tried, now int64, spread, any bool) *candidate {
	c := t.favourite(l, tried, now, spread, any, math.MaxFloat32)
	if c == nil || c.load() <= c.perSlot { // below any bound
		return c
	}
	var sum float32
	n := 0
	for i := l.from; i < l.to; i++ {
		if c := &t.candidates[i]; c.share > 0 && usable(c, tried, now, spread, any) {
			sum += c.load()
			n++
		}
	}
	return t.favourite(l, tried, now, spread, any, 1.25*sum/float32(max(n, 1)))
}

// favourite takes the one of the highest score whose load is at most bound and one request. Scores are cheaper than the state of endpoints, so only who would win is looked at.
func (t *Target) favourite(l *level, tried *Tried, now int64, spread, any bool, bound float32) *candidate {
	var best *candidate
	var bestScore float32
	for i := l.from; i < l.to; i++ {
		c := &t.candidates[i]
		if c.share <= 0 {
			continue
		}
		if s := score(mix(tried.Session^c.seed), c.share); (best == nil || s > bestScore) && (bound == math.MaxFloat32 || c.load() <= bound+c.perSlot) && usable(c, tried, now, spread, any) {
			best, bestScore = c, s
		}
	}
	return best
}

// score is a weighted rendezvous score: the hash as a number in (0, 1), to the power of 1/share, in logarithms. The logarithm is a parabola between powers of two: right within a hundredth, a tenth of the
// time of math.Log.
func score(h uint64, share float32) float32 {
	h |= 1
	zeros := bits.LeadingZeros64(h)
	f := float32(h<<zeros<<1>>40) / (1 << 24) // what follows the leading one
	return (f*(1.33985-0.33985*f) - float32(zeros+1)) / share
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (t *Target) attempt(c *candidate, tried *Tried) Attempt {
	s := c.state
	s.inFlight.Add(1)
	n := tried.n
	tried.n++
	tried.tries[n] = try{state: s, deployment: c.deployment, probe: s.opens.Load() > 0 && s.probing.CompareAndSwap(0, 1)}
	i := c.info
	return Attempt{Endpoint: i.endpoint, Deployment: i.deployment, Replica: i.replica, Provider: i.provider, Defaults: &i.defaults, target: t, info: i, tried: tried, try: n}
}

// Done tells what became of the attempt.
func (a Attempt) Done(o Outcome) {
	if a.tried == nil || a.tried.tries[a.try].ended {
		return
	}
	x := &a.tried.tries[a.try]
	x.ended = true
	s := a.info.state
	s.inFlight.Add(-1)
	if x.probe {
		s.probing.Store(0)
	}
	m, moved := s.learn(&o, x.probe, a.target.now())
	if moved {
		a.info.tell(m, a.target.moved)
	}
	o.Deployment, o.Replica = a.Deployment, a.Replica
	if a.target.report != nil {
		a.target.report(o)
	}
}

// tell fills a move in and hands it on.
func (i *endpointInfo) tell(m Move, f func(Move)) {
	if f == nil {
		return
	}
	m.Tenant, m.Deployment, m.Name, m.Replica = i.tenant, i.deployment, i.name, i.replica
	f(m)
}

// Name is the name of the attempt's deployment.
func (a Attempt) Name() string { return a.info.name }
