package gateway

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"maas/internal/platform/fault"
	"maas/internal/platform/meter"
	"maas/internal/platform/web"
)

// ErrSuspect is answered to an address that tries one bad credential after the other.
var ErrSuspect = fault.New(fault.Limited, "gateway.too_many_bad_credentials", "this address sent too many bad credentials")

const (
	badPerMinute  = 20 // bad credentials of one address
	suspectsMost  = 100_000
	suspectReport = 10 * time.Minute
)

// suspects counts bad credentials per address. Only requests with a bad one come here.
type suspects struct {
	mu   sync.Mutex
	seen map[netip.Addr]*suspect
}

type suspect struct {
	bucket *meter.Bucket
	told   time.Time
}

// badCredential charges the address of a request that was refused for its credential; err becomes a 429 once there were too many of them.
func (g *Gateway) badCredential(r *http.Request, err error) error {
	if fault.KindOf(err) != fault.Unauthenticated {
		return err
	}
	a := web.ClientAddr(r)
	if a.Is6() && !a.Is4In6() { // who has one address of these has 2^64
		if p, perr := a.WithZone("").Prefix(64); perr == nil {
			a = p.Addr()
		}
	}
	now := g.Now()
	g.suspects.mu.Lock()
	defer g.suspects.mu.Unlock()
	s := g.suspects.seen[a]
	if s == nil {
		if len(g.suspects.seen) >= suspectsMost || g.suspects.seen == nil {
			g.suspects.seen = map[netip.Addr]*suspect{}
		}
		s = &suspect{bucket: meter.Alone(meter.Limit{Kind: "address", Unit: meter.Requests, Limit: badPerMinute, Burst: badPerMinute})}
		g.suspects.seen[a] = s
	}
	wait := s.bucket.Take(g.meter.Now(), 1)
	if wait == 0 {
		return err
	}
	if now.Sub(s.told) > suspectReport {
		s.told = now
		g.metrics.suspects.Inc()
		g.Log.WarnContext(r.Context(), "an address sends one bad credential after the other", "address", a.String())
	}
	return ErrSuspect.After(wait)
}
