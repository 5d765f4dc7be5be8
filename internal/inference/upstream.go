package inference

import (
	"cmp"
	"math"
	"slices"
	"time"

	"maas/internal/inference/engine"
)

// EndpointState is what processes that route requests know of one endpoint.
type EndpointState struct {
	Deployment   string       `json:"deployment"` // name
	DeploymentID string       `json:"deployment_id"`
	Endpoint     string       `json:"endpoint"` // id of the replica
	Breaker      BreakerState `json:"breaker"`
	Reason       string       `json:"reason,omitempty"` // why it is open: consecutive_failures, failure_rate, probe_failed, slow, still_failing
	EjectedUntil time.Time    `json:"ejected_until,omitzero"`
	CoolingUntil time.Time    `json:"cooling_until,omitzero"` // it answered 429 and asked us to wait
	ErrorRate    float64      `json:"error_rate"`             // of the last minute, 0 to 1
	Requests     int64        `json:"requests"`               // of the last minute
	InFlight     int64        `json:"in_flight"`
	LatencyP50   float64      `json:"latency_ms_p50"` // to the first piece of an answer, of the last minute; 0 = none
	LastError    *LastError   `json:"last_error"`
	LastUsed     time.Time    `json:"last_used_at,omitzero"`

	tenant string
}

// UpstreamReport is what one process knows of its endpoints.
type UpstreamReport struct {
	Node   string          `json:"node"`
	States []EndpointState `json:"states"`
	Moves  []Move          `json:"moves,omitempty"`
}

// Upstreams tells the state of every endpoint, of one tenant or ("") of all, by deployment and replica.
func (r *Router) Upstreams(tenant string) []EndpointState {
	now := r.now()
	var out []EndpointState
	for _, i := range r.view.Load().infos {
		if tenant == "" || i.tenant == tenant {
			out = append(out, i.view(now))
		}
	}
	slices.SortFunc(out, func(a, b EndpointState) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return out
}

func (i *endpointInfo) view(now time.Time) EndpointState {
	s := i.state
	s.mu.Lock()
	defer s.mu.Unlock()
	v := EndpointState{Deployment: i.name, DeploymentID: i.deployment, Endpoint: i.replica, Breaker: s.state(now), InFlight: s.inFlight.Load(), LastUsed: s.used.UTC(), tenant: i.tenant}
	if v.Breaker != BreakerClosed {
		v.Reason = s.why
	}
	if until := s.until.Load(); until > now.UnixNano() {
		v.EjectedUntil = time.Unix(0, until).UTC()
	}
	if cool := s.cool.Load(); cool > now.UnixNano() {
		v.CoolingUntil = time.Unix(0, cool).UTC()
	}
	total, failed := s.counts(now, windowSlots)
	if v.Requests = total; total > 0 {
		v.ErrorRate = math.Round(1000*float64(failed)/float64(total)) / 1000
	}
	p50, _ := s.median(now)
	v.LatencyP50 = math.Round(100*p50) / 100
	if !s.last.At.IsZero() {
		last := s.last
		last.At = last.At.UTC()
		v.LastError = &last
	}
	return v
}

// Tend ejects what is much slower than its peers and tells of ejections that are over. Call it every few seconds, from one goroutine.
//
// Peers are the endpoints that stand for each other: those of one level of a target. At least three of them must have answered of late; at most half of them are kept out.
func (r *Router) Tend() {
	now := r.now()
	v := r.view.Load()
	for _, i := range v.infos {
		i.state.mu.Lock()
		over := i.state.slow && i.state.until.Load() <= now.UnixNano()
		var m Move
		if over {
			m = i.state.close(closedTime)
		}
		i.state.mu.Unlock()
		if over {
			i.tell(m, r.tellMove)
		}
	}
	for _, t := range v.targets {
		for _, l := range t.levels {
			r.outliers(t.candidates[l.from:l.to], now)
		}
	}
}

func (r *Router) outliers(peers []candidate, now time.Time) {
	if len(peers) < 3 {
		return
	}
	medians := make([]float64, len(peers))
	var told []float64
	out := 0
	for i := range peers {
		s := peers[i].state
		s.mu.Lock()
		ms, n := s.median(now)
		if s.state(now) != BreakerClosed {
			out++
		}
		s.mu.Unlock()
		if n >= slowSamples {
			medians[i] = ms
			told = append(told, ms)
		}
	}
	if len(told) < 3 {
		return
	}
	slices.Sort(told)
	limit := slowFactor * told[(len(told)-1)/2]
	for i := range peers {
		s := peers[i].state
		s.mu.Lock()
		var m Move
		moved := false
		switch {
		case s.slow:
		case medians[i] == 0 || medians[i] <= limit:
			s.slowAt = time.Time{}
			if now.Sub(s.opened) > slowLast {
				s.slows = 0
			}
		case s.slowAt.IsZero():
			s.slowAt = now
		case now.Sub(s.slowAt) >= slowFor && s.state(now) == BreakerClosed && 2*(out+1) <= len(peers):
			m, moved = s.eject(now), true
			out++
		}
		s.mu.Unlock()
		if moved {
			peers[i].info.tell(m, r.tellMove)
		}
	}
}

// Probe is an endpoint that should be asked whether it is there. Done must be called once.
type Probe struct {
	Endpoint engine.Endpoint
	Replica  string
	Open     bool // its breaker is open

	r    *Router
	info *endpointInfo
}

// Done tells whether the endpoint answered, and else what went wrong.
func (p Probe) Done(alive bool, code, message string) {
	if m, moved := p.info.state.probeResult(alive, &Outcome{Class: Unreachable, Code: code, Message: message}, p.r.now()); moved {
		p.info.tell(m, p.r.tellMove)
	}
}

// Due lists the endpoints whose probe is due: those with an open breaker after open, others that no request used for idle. Each is given out once and is due again after that time, spread by jitter (0 to 1).
func (r *Router) Due(open, idle time.Duration, jitter func() float64) []Probe {
	now := r.now()
	var out []Probe
	spread := func(d time.Duration) time.Duration { return d + time.Duration((jitter()-0.5)*0.6*float64(d)) }
	for _, i := range r.view.Load().infos {
		s := i.state
		s.mu.Lock()
		bad := s.opens.Load() > 0
		switch {
		case s.probed.IsZero(): // new: not all at once
			s.probed = now.Add(time.Duration(jitter() * float64(idle)))
		case bad && s.probed.Sub(now) > 2*open: // it opened since: the long wait of a healthy one does not hold
			s.probed = now.Add(spread(open))
		}
		due := !now.Before(s.probed) && (bad || now.Sub(s.used) >= idle)
		if due {
			next := idle
			if bad {
				next = open
			}
			s.probed = now.Add(spread(next))
		}
		s.mu.Unlock()
		if due {
			out = append(out, Probe{Endpoint: i.endpoint, Replica: i.replica, Open: bad, r: r, info: i})
		}
	}
	return out
}
