package gateway

import (
	"net/http"
	"strconv"
	"time"

	"maas/internal/inference/dialect"
	"maas/internal/platform/meter"
)

// limitHeaders tells the client how its tightest limits of requests and tokens stand, in the form of its dialect.
func (c *call) limitHeaders(h http.Header) {
	p := c.pass.policy
	if p == nil || len(p.subject.Buckets)+len(c.pass.terms.buckets) == 0 {
		return
	}
	now := c.g.meter.Now()
	for _, unit := range [...]meter.Unit{meter.Requests, meter.Tokens} {
		s, ok := meter.Tightest(now, unit, p.subject.Buckets, c.pass.terms.buckets)
		if !ok {
			continue
		}
		name, limit, left := string(unit), strconv.FormatInt(s.Limit, 10), strconv.FormatInt(s.Left, 10)
		if c.op.form == dialect.Messages {
			h.Set("anthropic-ratelimit-"+name+"-limit", limit)
			h.Set("anthropic-ratelimit-"+name+"-remaining", left)
			h.Set("anthropic-ratelimit-"+name+"-reset", c.g.Now().Add(s.Reset).UTC().Format(time.RFC3339))
			continue
		}
		h.Set("x-ratelimit-limit-"+name, limit)
		h.Set("x-ratelimit-remaining-"+name, left)
		h.Set("x-ratelimit-reset-"+name, resetText(s.Reset))
	}
}

// resetText writes a duration as OpenAI does: 120ms, 1.2s, 6m0s.
func resetText(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
