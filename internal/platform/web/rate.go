package web

import (
	"hash/maphash"
	"net/http"
	"strconv"
	"sync"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
)

// ErrRate is a caller of the management API that asks too often.
var ErrRate = fault.New(fault.Limited, "web.rate_limited", "too many requests").WithHint("Wait as long as Retry-After says; ask for lists with a higher limit instead of one object at a time")

// rates limits how often one caller asks the management API: GCRA (ITU-T I.371) with a burst of one minute's worth. Callers are keys, people, and addresses of those who did not sign in. It lives in this
// process: it protects the process, not an account. Calls of models have limits of their own, in the gateway.
type rates struct {
	perMinute int64
	now       func() time.Time
	seed      maphash.Seed
	shards    [64]rateShard
}

type rateShard struct {
	mu   sync.Mutex
	full map[string]int64 // caller -> when its bucket is full again, ns
	next int              // size at which callers with a full bucket are forgotten
}

func newRates(perMinute int) *rates {
	if perMinute <= 0 {
		return nil
	}
	r := &rates{perMinute: int64(perMinute), now: time.Now, seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].full, r.shards[i].next = map[string]int64{}, 1024
	}
	return r
}

// take charges one request. left is what may follow at once; wait > 0 = refused, passes after that; reset is the time until the bucket is full.
func (r *rates) take(caller string) (left int64, wait, reset time.Duration) {
	s := &r.shards[maphash.String(r.seed, caller)%uint64(len(r.shards))]
	now, cost, burst := r.now().UnixNano(), int64(time.Minute)/r.perMinute, int64(time.Minute)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.full) >= s.next {
		for k, at := range s.full {
			if at <= now {
				delete(s.full, k)
			}
		}
		s.next = max(1024, 2*len(s.full))
	}
	at := max(s.full[caller], now) + cost
	if over := at - now - burst; over > 0 {
		return 0, time.Duration(over), time.Duration(at - cost - now)
	}
	s.full[caller] = at
	return (burst - (at - now)) / cost, 0, time.Duration(at - now)
}

// rate charges a request of p, or of an address when nobody signed in, and says so in the answer (draft-ietf-httpapi-ratelimit-headers).
func (s *Server) rate(w http.ResponseWriter, r *http.Request, p auth.Principal) error {
	if s.rates == nil || p.Kind == auth.System {
		return nil
	}
	caller := p.KeyID
	if caller == "" {
		caller = p.UserID
	}
	if caller == "" {
		caller = ClientAddr(r).String()
	}
	left, wait, reset := s.rates.take(caller)
	h := w.Header()
	h.Set("RateLimit-Policy", `"api";q=`+strconv.FormatInt(s.rates.perMinute, 10)+`;w=60`)
	h.Set("RateLimit", `"api";r=`+strconv.FormatInt(left, 10)+`;t=`+strconv.FormatInt(int64((reset+time.Second-1)/time.Second), 10))
	if wait > 0 {
		return ErrRate.With("more than %d requests a minute", s.rates.perMinute).After(wait)
	}
	return nil
}
