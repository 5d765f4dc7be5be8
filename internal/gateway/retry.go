package gateway

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"maas/internal/inference"
	"maas/internal/inference/engine"
	"maas/internal/platform/fault"
	"maas/internal/platform/h1"
	"maas/internal/user"
)

// verdict is how an attempt ended: err is what the client would be told, nil when the answer is out.
type verdict struct {
	err   *fault.Error
	kind  string // what went wrong: inference.OnConnect, ...; "" = another attempt would fare no better
	leave bool   // other endpoints of this deployment would fare no better
	free  bool   // the endpoint was not asked: the next one costs no retry
}

// attempts walks the target's chain until an endpoint answers. What it returns is what the client is told; nil when the answer is out.
//
// Another attempt is made only while nothing went out to the client, for failures that are not the client's doing and that the route's policy names, at most as often as that says and as long as its retry
// budget lasts.
func (c *call) attempts() *fault.Error {
	c.tried = inference.Tried{}
	if t, ok := c.out.(*testClient); ok {
		c.trace = &t.trace
	}
	if c.target.Sticky() {
		c.tried.Session = c.session()
	}
	var last *fault.Error
	why := "" // of another attempt
	for free := true; free || c.row.Attempts < c.target.Retry.Attempts; {
		if !free && !c.target.Spend() {
			c.g.metrics.budget.WithLabelValues(c.row.Model).Inc()
			break
		}
		a, ok := c.target.Pick(&c.tried)
		if !ok {
			break
		}
		if why != "" {
			c.g.metrics.retries.WithLabelValues(c.row.Model, why).Inc()
		}
		c.row.Attempts++
		c.row.DeploymentID, c.row.ReplicaID, c.row.ProviderID, c.defaults = a.Deployment, a.Replica, a.Provider, a.Defaults
		v := c.attempt(&a)
		c.trace.add(&a, &v, c)
		if v.err == nil {
			return nil
		}
		last = sooner(v.err, last)
		if c.begun || c.left || c.gone.Err() != nil || !c.again(&v, &a) {
			break
		}
		if free, why = v.free, cmp.Or(v.kind, "context"); free { // it was not asked
			c.row.Attempts--
			why = ""
		}
		c.forget()
	}
	if last == nil {
		last = c.unavailable()
	}
	switch {
	case c.gone.Err() != nil || c.left:
		if c.row.End != user.EndClientStall {
			c.row.End = user.EndClientAbort
		}
	case last.Kind == fault.Upstream, last.Kind == fault.Unavailable, last.Kind == fault.Limited, last.Kind == fault.Internal:
		c.row.End = user.EndUpstreamError
		if !c.begun { // nothing was answered, nothing is billed
			c.lose()
		}
	}
	return last
}

// again decides whether another endpoint is asked, and which ones are out of the question.
func (c *call) again(v *verdict, a *inference.Attempt) bool {
	switch {
	case v.free:
		c.tried.Leave()
		return true
	case errors.Is(v.err, ErrContextTooLong):
		return c.tried.Longer(a.Endpoint.Context)
	case v.kind == "" || !c.target.Retries(v.kind):
		return false
	case v.leave:
		c.tried.Leave()
	}
	return true
}

// forget clears what a failed attempt left.
func (c *call) forget() {
	c.lose()
	c.ttft, c.row.End = 0, user.EndRefused
	c.cut.reset(true, true, "")
}

// lose notes what an attempt used up that no client gets to see: it is cost, and not billed. What its engine did not tell is estimated from what came of the answer.
func (c *call) lose() {
	l := user.Lost{ProviderID: c.row.ProviderID, InFresh: c.told.inFresh + c.told.inWrite, InCache: c.told.inCache, OutText: c.told.outText, OutReasoning: c.told.outThought}
	if r := &c.g.ratios; !c.told.told && c.sent && len(c.cut.buf) > 0 {
		l.InFresh, l.OutText = r.estimate(c.row.Model, int64(c.f.textBytes)), max(c.cut.events, r.estimate(c.row.Model, int64(len(c.cut.buf))))
	}
	if l.InFresh+l.InCache+l.OutText+l.OutReasoning > 0 {
		c.row.Lost = append(c.row.Lost, l)
	}
	c.told, c.sent = tokens{}, false
}

// sooner is the newer of two errors. Where both ask the client to come back later, the shorter wait counts.
func sooner(e, old *fault.Error) *fault.Error {
	if old != nil && old.RetryAfter > 0 && e.RetryAfter > old.RetryAfter {
		return e.After(old.RetryAfter)
	}
	return e
}

// unavailable says why no endpoint was asked at all.
func (c *call) unavailable() *fault.Error {
	d, limited := c.target.Wait()
	if limited {
		return ErrBusy.With("every engine of %s asked for a pause", c.row.Model).After(d)
	}
	return ErrNoCapacity.With("no replica of %s takes requests at the moment", c.row.Model).After(max(d, 2*time.Second))
}

// attempt sends the call to one endpoint and passes its answer on.
func (c *call) attempt(a *inference.Attempt) (v verdict) {
	if e, again := c.chart(&a.Endpoint); e != nil {
		a.Done(inference.Outcome{Class: inference.Rejected})
		return verdict{err: e, free: again}
	}
	if c.op == &opCount && !a.Endpoint.Caps.Ops.Has(engine.OpCount) {
		c.countTokens(a)
		return verdict{}
	}
	c.asked = time.Now()
	o := inference.Outcome{Class: inference.Broken, Stream: c.f.stream}
	defer func() {
		o.Duration = time.Since(c.asked)
		if c.ttft > 0 {
			o.TTFT = max(c.ttft-c.asked.Sub(c.start), 1)
		}
		o.PromptTokens, o.CachedTokens, o.CompletionTokens = int(c.told.prompt()), int(c.told.inCache), int(c.told.outText+c.told.outThought)
		if v.err != nil {
			o.Code, o.Message = v.err.Code, v.err.Text()
		}
		c.g.metrics.tried(c.row.Model, string(o.Class))
		a.Done(o)
	}()
	answer, err := c.ask(a)
	if err != nil {
		if c.gone.Err() != nil {
			o.Class, c.sent = inference.Aborted, true
			return verdict{err: ErrUpstreamBroken}
		}
		v.err = asFault(err)
		o.Class, v.kind = c.broken(err)
		return v
	}
	defer answer.Close()
	o.Status = answer.Status
	if answer.Status != 200 {
		r := c.refusal(answer)
		o.Class, v.kind, v.leave = judge(answer.Status)
		o.RetryAfter, v.err = r.after, r.fault()
		if v.leave { // ours to mend: the account, or what is configured
			c.g.Log.WarnContext(c.gone, "an upstream refused our account or does not know what it should serve", "request_id", c.row.RequestID, "deployment", a.Deployment, "replica", a.Replica, "status", answer.Status, "words", r.words)
		} else {
			c.g.Log.DebugContext(c.gone, "engine refused", "request_id", c.row.RequestID, "replica", a.Replica, "status", answer.Status, "words", r.words)
		}
		return v
	}
	if c.f.stream && noEvents(answer.Header("content-type")) {
		r := c.refusal(answer)
		if v.err, v.kind = ErrUpstreamProtocol, inference.OnServer; r.words != "" {
			r.status = 500
			v.err = r.fault()
		}
		return v
	}
	c.sent = true
	var again bool
	if c.f.stream {
		v.err, again = c.stream(answer, a)
	} else {
		v.err, again = c.whole(answer, a)
	}
	switch e := v.err; {
	case e == nil && c.left, c.gone.Err() != nil, c.row.End == user.EndRefused && e != nil && c.begun:
		o.Class = inference.Aborted
	case e == nil:
		o.Class = inference.OK
	case errors.Is(e, ErrUpstreamTimeout):
		o.Class = inference.TimedOut
	}
	if again {
		v.kind = inference.OnServer
		switch {
		case errors.Is(v.err, ErrUpstreamTimeout):
			v.kind = inference.OnTimeout
		case errors.Is(v.err, ErrUpstreamBroken):
			v.kind = inference.OnConnect
		}
	}
	return v
}

// oneObject reports that a whole answer is one JSON object and nothing else. One that is cut, or has something else's bytes inside, must not reach the client: another engine may still answer.
func oneObject(b []byte) bool {
	s := scanner{b: b}
	s.space()
	if s.i >= len(b) || b[s.i] != '{' || s.value(0) != nil {
		return false
	}
	s.space()
	return s.i == len(b)
}

// noEvents reports that an answer to a request for a stream is none: an error object or a page of some proxy, under a status that says success.
func noEvents(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.TrimSpace(kind)
	return strings.EqualFold(kind, "application/json") || strings.EqualFold(kind, "text/html")
}

// retryAfter reads how long a refusal asks us to stay away: seconds or a date (RFC 9110, 10.2.3), at most an hour; 0 without it.
func retryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if n, err := strconv.Atoi(s); err == nil {
		return time.Duration(min(max(n, 0), 3600)) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), time.Hour)
}

// broken judges an attempt that got no head.
func (c *call) broken(err error) (inference.Class, string) {
	switch {
	case errors.Is(err, h1.ErrConnect):
		return inference.Unreachable, inference.OnConnect
	case errors.Is(err, h1.ErrTimeout) && c.f.stream:
		return inference.TimedOut, inference.OnTimeout
	case errors.Is(err, h1.ErrTimeout): // a whole answer may still be on its way: asking again would do the work twice
		return inference.TimedOut, ""
	case errors.Is(err, h1.ErrProtocol):
		return inference.Broken, inference.OnServer
	}
	return inference.Broken, inference.OnConnect
}

// judge says what a status that is no success means: for the endpoint, and for what may be tried next. What the client did wrong is final. Refusals of our own account (401, 402, 403) or of the model's name
// (404) are not the client's doing: another deployment may fare better, another endpoint of this one does not.
func judge(status int) (class inference.Class, kind string, leave bool) {
	switch {
	case status == 429:
		return inference.Busy, inference.OnLimited, false
	case status == 401, status == 402, status == 403, status == 404:
		return inference.Broken, inference.OnServer, true
	case status == 408, status == 425, status >= 500, status < 400:
		return inference.Broken, inference.OnServer, false
	}
	return inference.Rejected, "", false
}

// patienceFirst is how long an attempt may take to its first piece: the route's own limit, else def.
func (c *call) patienceFirst(def time.Duration) time.Duration {
	if t := c.target.Timeout; t > 0 {
		return t
	}
	return def
}

// waits reports whether a silent stream is waited for any longer.
func (c *call) waits(now, last time.Time) bool {
	if c.ttft == 0 { // a long prompt is worked on without a word
		return c.firstLeft() > 0
	}
	return now.Sub(last) < c.g.between
}

// bodyWait is how long to wait for the next piece of a whole answer.
func (c *call) bodyWait() time.Duration {
	if c.ttft == 0 {
		return max(min(c.g.between, c.patienceFirst(firstWhole)-time.Since(c.asked)), 10*time.Millisecond)
	}
	return c.g.between
}

// firstLeft is what is left of it.
func (c *call) firstLeft() time.Duration { return c.patienceFirst(firstStream) - time.Since(c.asked) }
