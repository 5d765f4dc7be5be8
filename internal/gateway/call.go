package gateway

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"maas/internal/inference"
	"maas/internal/inference/engine"
	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
	"maas/internal/platform/h1"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/platform/web"
	"maas/internal/user"
)

// Limits of attempts and waits.
const (
	firstStream   = 2 * time.Minute  // to the head of a streamed answer
	firstWhole    = 10 * time.Minute // to the head of a whole answer
	betweenEvents = time.Minute
	earlyStream   = 10 * time.Second // a stream without an event for this long begins with comments
	commentEvery  = 15 * time.Second
	waitingEvery  = 5 * time.Second
	recheckEvery  = 2 * time.Second        // of the credential of a running stream
	markEvery     = 200 * time.Millisecond // of what a stream has brought: a process that is killed loses no more of it than this,
	markTokens    = 8                      // or than these
	errorBodyMost = 64 << 10
	statusGone    = 499 // the client left before the head
)

// call is one inference call from admission to settlement. It is pooled: begin clears what a call leaves.
type call struct {
	g         *Gateway
	out       client
	op        *operation
	gone      context.Context // ends when the client leaves
	cred      *user.Credential
	body      []byte
	f         fields
	target    *inference.Target
	entry     *meter.Entry
	row       user.Usage
	start     time.Time
	took      time.Duration
	ttft      time.Duration // to the first piece
	begun     bool          // the head went out
	left      bool          // the client takes no more
	sent      bool          // an engine has the request
	told      tokens
	pass      pass // its admission
	tried     inference.Tried
	trace     *trace           // of a test; nil = none
	defaults  *engine.Defaults // of this attempt's deployment
	asked     time.Time        // this attempt began
	way       way              // to the endpoint of this attempt
	estimated bool             // the answer is a guess of ours
	cut       cutter
	pieces    [][]byte
	rowBuf    []byte
	marked    time.Time
	markAt    int64
	check     time.Time
	silent    time.Time // when the client last got something
}

func requestID(ctx context.Context) string {
	if rid := web.RequestID(ctx); rid != "" {
		return rid
	}
	return id.New("req")
}

// serve runs one call: body is the client's, untouched; gone ends when the client leaves. It returns when the answer is out and settled.
func (g *Gateway) serve(gone context.Context, out client, op *operation, cred *user.Credential, body []byte, rid, clientID string) {
	c := g.calls.Get().(*call) //nolint:errcheck // the pool holds nothing else
	*c = call{g: g, out: out, op: op, gone: gone, cred: cred, body: body, start: time.Now(), cut: cutter{buf: c.cut.buf[:0], out: c.cut.out[:0]}, pieces: c.pieces[:0], rowBuf: c.rowBuf[:0]}
	c.row = user.Usage{RequestID: rid, ClientRequestID: clientID, At: g.Now(), Op: op.name, Status: 200, Source: user.SourceNone, End: user.EndRefused}
	g.metrics.inflight.Inc()
	defer func() {
		g.metrics.inflight.Dec()
		c.settle()
		c.out, c.gone, c.cred, c.body, c.target, c.way, c.cut.tr = nil, nil, nil, nil, nil, way{}, nil
		if cap(c.cut.buf) <= 64<<10 && cap(c.cut.out) <= 64<<10 {
			g.calls.Put(c)
		}
	}()
	if err := c.admit(); err != nil {
		e := asFault(err)
		g.metrics.refused.WithLabelValues(e.Code).Inc()
		c.row.Status = c.status(e)
		out.refuse(c, e)
		return
	}
	if e := c.attempts(); e != nil {
		c.row.Status = c.status(e)
		switch {
		case c.begun:
			c.row.Status = 200
			if !c.left && c.gone.Err() == nil {
				out.breakOff(c, e)
			}
		case c.left || c.gone.Err() != nil:
			c.row.Status = statusGone
		default:
			out.refuse(c, e)
		}
	}
}

// admit decides in memory whether the call may run and opens its entry in the journal. Nothing is asked of a database.
func (c *call) admit() error {
	who, err := c.cred.Check(c.row.At)
	if err != nil {
		return err
	}
	if !who.May("inference:invoke") && len(who.Grants) == 0 { // grants on single objects are looked at when the model is known
		return ErrScope
	}
	c.row.TenantID, c.row.UserID, c.row.KeyID = who.TenantID, who.UserID, who.KeyID
	if c.f, err = scan(c.body); err != nil {
		return err
	}
	c.f.fit(c.op)
	name := string(c.f.name(c.body))
	c.row.Stream = c.f.stream
	if c.target, err = c.g.Router.Resolve(who.TenantID, name); err != nil {
		return err
	}
	if !mayInvoke(who, &c.target.Model) {
		return ErrScope
	}
	c.row.Model = c.target.Model.ID
	c.row.DeploymentID = c.target.Model.Deployment
	if !allowed(who, c.row.Model) && !allowed(who, name) { // a list may hold an alias
		return ErrModelNotAllowed.With("this key may not call the model %q", name)
	}
	if err := c.target.Unready(); err != nil {
		return err
	}
	if err := c.enter(who); err != nil {
		return err
	}
	c.rowBuf = appendUsage(c.rowBuf[:0], &c.row)
	c.entry, err = c.g.journal.Begin(c.rowBuf)
	return err
}

// mayInvoke reports whether a caller may call models, or this one by a grant on its deployment or route.
func mayInvoke(p *auth.Principal, m *inference.ModelInfo) bool {
	return p.May("inference:invoke") || len(p.Grants) > 0 && p.MayOn("inference:invoke", auth.Object{Kind: "deployment", ID: m.Deployment}, auth.Object{Kind: "route", ID: m.Route})
}

// allowed reports whether a caller may call a model: a key without a list may call all.
func allowed(p *auth.Principal, model string) bool {
	return len(p.Models) == 0 || slices.Contains(p.Models, model)
}

// ask writes the request and reads the answer's head.
func (c *call) ask(a *inference.Attempt) (*h1.Response, error) {
	ep := &a.Endpoint
	q := c.request(ep)
	if ep.Network == "unix" { // an engine of ours; others must not learn who asks
		q.Account = c.row.TenantID
	}
	if c.f.stream {
		q.Accept, q.First = streaming, c.patienceFirst(firstStream)
	}
	return c.g.pool.Do(c.gone, &q)
}

// refusal reads an answer that is no success.
func (c *call) refusal(answer *h1.Response) refusal {
	var body []byte
	for len(body) < errorBodyMost {
		p, _, err := answer.Next(5 * time.Second)
		body = append(body, p...)
		if err != nil {
			break
		}
	}
	return readRefusal(answer.Status, answer.Header("retry-after"), body)
}

// settle books the call exactly once. A call that was never admitted has no entry and costs nothing.
func (c *call) settle() {
	defer c.release()
	if c.pass.cut {
		c.row.End = user.EndRefused
	}
	if c.entry == nil {
		return
	}
	c.took = time.Since(c.start)
	c.count()
	c.row.TTFTMS, c.row.DurationMS = c.ttft.Milliseconds(), c.took.Milliseconds()
	if c.ttft > 0 && c.row.TTFTMS == 0 {
		c.row.TTFTMS = 1
	}
	c.rowBuf = appendUsage(c.rowBuf[:0], &c.row)
	if !c.entry.Close(c.rowBuf) {
		c.g.metrics.unsettled.Inc()
	}
	c.g.metrics.ended(c)
}

// count decides what is billed: what the engine told, else what was counted; nothing for a call that no engine answered.
func (c *call) count() {
	u, prompt := &c.row, int64(c.f.textBytes)
	switch {
	case c.op.free:
		u.Source = user.SourceNone
	case c.told.told:
		u.InFresh, u.InCache, u.OutText, u.OutReasoning, u.Source = c.told.inFresh+c.told.inWrite, c.told.inCache, c.told.outText, c.told.outThought, user.SourceUpstream
		if u.End != user.EndDone && !c.cut.final {
			u.Source = user.SourceRunning
			if c.cut.counted {
				u.Source = user.SourceCounted
			}
		}
		c.g.ratios.learn(u.Model, c.f.textBytes, c.told.prompt())
	case !c.sent:
		u.Source = user.SourceNone
	case u.End == user.EndDone:
		u.InFresh, u.OutText, u.Source = c.g.ratios.estimate(u.Model, prompt), max(c.cut.events, c.g.ratios.estimate(u.Model, c.cut.bytes)), user.SourceEstimate
	case u.End == user.EndUpstreamError && c.cut.events == 0:
		u.Source = user.SourceNone
	default: // left, or broken off in the middle: what was produced
		u.InFresh, u.OutText, u.Source = c.g.ratios.estimate(u.Model, prompt), c.cut.events, user.SourceCounted
	}
}

// mark notes in the journal how far a stream has come, for the case that this process dies.
func (c *call) mark(now time.Time) {
	if c.cut.events-c.markAt < markTokens && now.Sub(c.marked) < markEvery {
		return
	}
	c.marked, c.markAt = now, c.cut.events
	row := c.row
	row.InFresh, row.OutText, row.DurationMS = c.g.ratios.estimate(row.Model, int64(c.f.textBytes)), c.cut.events, time.Since(c.start).Milliseconds()
	if u := &c.cut.usage; u.told {
		row.InFresh, row.InCache, row.OutText, row.OutReasoning = u.inFresh, u.inCache, u.outText, u.outThought
	}
	c.rowBuf = appendUsage(c.rowBuf[:0], &row)
	_ = c.entry.Mark(c.rowBuf) // a full disk shows at the next Begin; the end is kept in memory
}

// stream passes an event stream on.
func (c *call) stream(answer *h1.Response, a *inference.Attempt) (*fault.Error, bool) {
	rename := ""
	if a.Endpoint.Model != c.row.Model {
		rename = quoted(c.row.Model)
	}
	asked := !a.Endpoint.Caps.StreamUsage // nothing was asked for on our own account: all passes
	c.cut.reset(c.f.includeUsage || asked, c.f.runningUsage || asked, rename)
	c.speak()
	began := time.Now()
	c.silent, c.marked, c.check = began, began, began
	last := began // when the engine last said something
	for {
		piece, more, err := answer.Next(c.patience(began))
		now := time.Now()
		if len(piece) > 0 {
			last = now
			err = c.cut.feed(piece)
		}
		if len(c.cut.out) > 0 {
			c.deliver(answer, more, now)
		}
		if e := c.recheck(now, answer); e != nil {
			c.told = c.cut.usage
			return e, false
		}
		switch {
		case c.cut.failed != nil && !c.left && c.gone.Err() == nil:
			c.told, c.row.End = c.cut.usage, user.EndUpstreamError
			r := readRefusal(500, "", c.cut.failed)
			return r.fault(), !c.begun
		case err == nil:
			c.mark(now)
		case errors.Is(err, io.EOF):
			c.closeOut(answer, now)
			return c.streamEnd(nil)
		case errors.Is(err, h1.ErrTimeout) && c.gone.Err() == nil && !c.left && c.waits(now, last):
			c.comfort(answer, now)
		default:
			return c.streamEnd(err)
		}
	}
}

// patience is how long to wait for the next piece before the client gets a comment.
func (c *call) patience(began time.Time) time.Duration {
	switch {
	case c.left:
		return time.Second
	case c.begun && c.ttft > 0:
		return min(commentEvery, c.g.between)
	case c.begun:
		return max(min(waitingEvery, c.firstLeft()), 10*time.Millisecond)
	}
	return max(min(earlyStream-time.Since(began), c.firstLeft()), 10*time.Millisecond)
}

// deliver writes whole events and flushes when no further ones wait.
func (c *call) deliver(answer *h1.Response, more bool, now time.Time) {
	if c.ttft == 0 {
		c.ttft = now.Sub(c.start)
	}
	events := c.cut.out
	c.cut.out = c.cut.out[:0]
	if c.left || c.gone.Err() != nil {
		return
	}
	if !c.begun {
		c.begun = true
		c.out.head(c, true, -1)
	}
	err := c.out.write(events)
	if err == nil && !more {
		err = c.out.flush()
	}
	c.silent = now
	if err != nil {
		c.leave(answer, now)
	}
}

// leave notes that the client takes no more, and lets the engine know.
func (c *call) leave(answer *h1.Response, since time.Time) {
	c.left = true
	c.row.End = user.EndClientAbort
	if time.Since(since) >= stallMost-time.Second {
		c.row.End = user.EndClientStall
	}
	answer.Cancel()
}

// comfort keeps a silent stream alive with a comment; before the first event it commits the head.
func (c *call) comfort(answer *h1.Response, now time.Time) {
	text := ": waiting engine\n\n"
	if c.ttft > 0 {
		text = ": ping\n\n"
	}
	if !c.begun {
		c.begun = true
		c.out.head(c, true, -1)
	}
	if c.out.write([]byte(text)) != nil || c.out.flush() != nil {
		c.leave(answer, now)
	}
	c.silent = now
}

// recheck looks at the credential of a running stream now and then: a revoked one ends it.
func (c *call) recheck(now time.Time, answer *h1.Response) *fault.Error {
	if now.Sub(c.check) < recheckEvery {
		return nil
	}
	c.check = now
	if _, err := c.cred.Check(c.g.Now()); err != nil {
		c.row.End = user.EndRefused
		answer.Cancel()
		return asFault(err)
	}
	if e := c.extend(); e != nil {
		return c.cutOff(answer, e)
	}
	return nil
}

// streamEnd judges the end of a stream: err nil means that the body ended as it should.
func (c *call) streamEnd(err error) (*fault.Error, bool) {
	c.told = c.cut.usage
	whole := c.cut.done || c.cut.finished && len(c.cut.buf) == 0
	if c.left || c.gone.Err() != nil {
		if c.row.End != user.EndClientStall {
			c.row.End = user.EndClientAbort
		}
		if whole && c.told.told && err == nil && c.cut.done {
			return nil, false // the engine had finished anyway
		}
		return ErrUpstreamBroken, false
	}
	switch {
	case err == nil && whole:
		c.row.End = user.EndDone
		if c.begun {
			return nil, false
		}
		c.begun = true // nothing but the end mark: an empty answer
		c.out.head(c, true, -1)
		return nil, false
	case err == nil && c.cut.events == 0 && !c.begun:
		err = h1.ErrProtocol
	case err == nil:
		err = h1.ErrBroken
	}
	c.row.End = user.EndUpstreamError
	return asFault(err), !c.begun
}
