package inference

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
	"maas/internal/platform/object"
)

// pace are the supervisor's intervals: seconds in production, shorter in tests.
type pace struct {
	place  time.Duration // between looks for free memory
	start  time.Duration // between looks at a starting engine
	load   time.Duration // between questions for load
	health time.Duration // between questions for health and measurements
	silent time.Duration // without a healthy answer for this long: given up
	stop   time.Duration // SIGTERM to SIGKILL
}

var defaultPace = pace{place: 2 * time.Second, start: 100 * time.Millisecond, load: time.Second, health: 5 * time.Second, silent: 30 * time.Second, stop: 5 * time.Second}

// supervisor is the one goroutine that looks after a replica: fit -> start -> load -> ready -> drain, again and again, until it is ended or fails for good. Only it writes the replica's row.
type supervisor struct {
	s    *Service
	id   string
	pace pace
	done chan struct{} // closed when it has ended and left the table

	base   context.Context //nolint:containedctx // for writing what happened; not cancelled by end. The supervisor is its own request
	wanted context.Context //nolint:containedctx // cancelled by end
	cancel context.CancelFunc
	why    atomic.Pointer[cause] // of the end

	r Replica // the goroutine's own picture of the row

	mu       sync.Mutex // guards what follows: others look at it
	inst     engine.Instance
	endpoint *engine.Endpoint // set while it takes requests
	progress engine.Progress
	load     engine.Load
}

func newSupervisor(ctx context.Context, s *Service, r Replica) *supervisor {
	base := auth.AsSystem(context.WithoutCancel(ctx), r.Tenant)
	wanted, cancel := context.WithCancel(base)
	return &supervisor{s: s, id: r.ID, pace: s.pace, done: make(chan struct{}), base: base, wanted: wanted, cancel: cancel, r: r}
}

// end asks the supervisor to drain and stop the replica and leave. The first cause holds.
func (p *supervisor) end(why cause) {
	p.why.CompareAndSwap(nil, &why)
	p.cancel()
}

func (p *supervisor) endCause() cause {
	if w := p.why.Load(); w != nil {
		return *w
	}
	return because("server_stop")
}

// serving returns the endpoint while the replica takes requests.
func (p *supervisor) serving() (engine.Endpoint, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.endpoint == nil {
		return engine.Endpoint{}, false
	}
	return *p.endpoint, true
}

// run is the life of the supervisor.
func (p *supervisor) run() {
	defer p.s.left(p)
	defer p.cancel()
	defer p.s.host.release(p.id)
	if err := p.resume(); err != nil {
		p.lost(err)
		return
	}
	for {
		if p.wanted.Err() != nil {
			p.lost(p.finish())
			return
		}
		if p.r.State == RFailed {
			if p.r.RetryAt.IsZero() {
				return
			}
			p.sleep(p.r.RetryAt.Sub(p.s.now()))
			if p.wanted.Err() != nil {
				continue
			}
		}
		if err := p.attempt(); err != nil {
			p.lost(err)
			return
		}
	}
}

// lost notes why the supervisor gives up its picture: somebody else changed the row, or the database is away. The loop starts a new one.
func (p *supervisor) lost(err error) {
	if err != nil && !errors.Is(err, errLost) && !errors.Is(err, ErrDeploymentNotFound) {
		p.s.logError(p.base, "a replica could not be looked after", err, "replica", p.id)
		p.sleep(time.Second) // the database may be away: do not spin
	}
}

// sleep waits, or until the end is asked for.
func (p *supervisor) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.wanted.Done():
	}
}

// move changes the row and takes over the new picture.
func (p *supervisor) move(f func(r *Replica, now time.Time) error) error {
	r, err := p.s.moveReplica(p.base, p.r, func(r *Replica) error { return f(r, p.s.now()) })
	if err != nil {
		return err
	}
	if r.State != p.r.State {
		p.s.log.InfoContext(p.base, "replica changed", "deployment", r.Deployment, "replica", r.ID, "attempt", r.Attempt, "from", string(p.r.State), "to", string(r.State), "code", r.Cause.Code)
	}
	p.r = r
	return nil
}

// finish puts a replica without a process into its last state.
func (p *supervisor) finish() error {
	if p.r.State.final() {
		return nil
	}
	return p.move(func(r *Replica, now time.Time) error { return r.stop(p.endCause(), now) })
}

// resume deals with what the row says about a process of an earlier run of the server: attach to it, or make sure that it is gone.
func (p *supervisor) resume() error {
	switch {
	case p.r.State == RFitting:
		return p.move(func(r *Replica, now time.Time) error { return r.wait(because("server_restart"), now) })
	case !p.r.State.running():
		return nil
	}
	driver, err := p.s.engine(p.r.Spec.Engine)
	var inst engine.Instance
	if err == nil {
		ctx, cancel := context.WithTimeout(p.base, 20*time.Second)
		inst, err = driver.Attach(ctx, p.r.Ref)
		cancel()
	}
	if err != nil {
		return p.move(func(r *Replica, now time.Time) error { return r.stop(because("server_restart"), now) })
	}
	if p.r.Need != nil {
		p.s.host.reserve(p.id, p.r.Need.HostBytes)
	}
	p.hold(inst)
	p.s.metrics.attached.Inc()
	if p.r.State == RReady && p.wanted.Err() == nil {
		return p.serve(inst)
	}
	return p.await(inst, because("attached"))
}

func (p *supervisor) hold(inst engine.Instance) {
	p.mu.Lock()
	p.inst = inst
	p.mu.Unlock()
}

// attempt runs one attempt from fit to its end. An error means that the row could not be written.
func (p *supervisor) attempt() error {
	if p.r.State != RPending || p.r.Cause.Code != "host_memory" {
		if err := p.move(func(r *Replica, now time.Time) error { return r.fit(now) }); err != nil {
			return err
		}
	}
	driver, launch, need, err := p.prepare(p.wanted)
	switch {
	case p.wanted.Err() != nil:
		return nil
	case err != nil:
		return p.failFit(err)
	}
	if ok, err := p.place(need); !ok || err != nil {
		return err
	}
	defer p.s.host.release(p.id)
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	launch.Nonce = hex.EncodeToString(nonce)
	launch.HostBytes = need.HostBytes
	if err := p.move(func(r *Replica, now time.Time) error { return r.begin(&need, launch.Nonce, now) }); err != nil {
		return err
	}
	launch.Attempt = p.r.Attempt
	if launch.Attempt > 1 {
		p.s.metrics.restarts.WithLabelValues(p.s.feed.name(p.r.Deployment), p.r.Spec.Engine).Inc()
	}
	start, cancel := context.WithTimeout(p.wanted, time.Minute)
	inst, err := driver.Start(start, launch, p.note)
	cancel()
	if err != nil {
		if p.wanted.Err() != nil {
			return nil
		}
		return p.fail(nil, err)
	}
	p.hold(inst)
	if err := p.move(func(r *Replica, _ time.Time) error { r.Ref = inst.Ref(); return nil }); err != nil {
		_ = inst.Stop(p.base, p.pace.stop)
		return err
	}
	return p.await(inst, because("ready"))
}

// note keeps the progress a driver tells of.
func (p *supervisor) note(g engine.Progress) {
	p.mu.Lock()
	p.progress = g
	p.mu.Unlock()
	p.s.watch.wake(p.r.Deployment)
}

// failFit ends a try before there was a process.
func (p *supervisor) failFit(err error) error {
	return p.move(func(r *Replica, now time.Time) error { return r.fail(causeOf(err), now) })
}

// place waits until the memory is there and promised to the replica. False when the end was asked for meanwhile.
func (p *supervisor) place(need engine.Need) (bool, error) {
	for {
		have, ok := p.s.host.reserve(p.id, need.HostBytes)
		if ok {
			break
		}
		if p.r.State == RFitting {
			why := noFit("host_memory", need, have)
			if need.HostBytes > p.s.host.total() {
				return false, p.move(func(r *Replica, now time.Time) error { return r.fail(noFit("fit_never", need, p.s.host.total()), now) })
			}
			if err := p.move(func(r *Replica, now time.Time) error { r.Need = &need; return r.wait(why, now) }); err != nil {
				return false, err
			}
		}
		p.sleep(p.pace.place)
		if p.wanted.Err() != nil {
			return false, nil //nolint:nilerr // being ended is no failure
		}
	}
	if p.r.State == RPending {
		if err := p.move(func(r *Replica, now time.Time) error { return r.fit(now) }); err != nil {
			p.s.host.release(p.id)
			return false, err
		}
	}
	return true, nil
}

// noFit says what is missing, and the largest context that would do.
func noFit(code string, need engine.Need, have int64) cause {
	return because(code, "need", gib(need.HostBytes), "have", gib(have), "max_context", strconv.Itoa(maxContext(need, have)))
}

// maxContext is the largest context that fits into have bytes with the same concurrency: whole steps of 256 tokens, at most the model's own; 0 when not even one step does.
func maxContext(need engine.Need, have int64) int {
	if need.PerToken <= 0 {
		if need.HostBytes <= have {
			return need.MaxContext
		}
		return 0
	}
	base := need.HostBytes - need.PerToken*int64(need.Context)
	n := (have - base) / need.PerToken
	if n >= int64(need.MaxContext) {
		return need.MaxContext
	}
	return int(max(n, 0)) / 256 * 256
}

// await looks at a starting engine until it is ready, dead, stalled or no longer wanted.
func (p *supervisor) await(inst engine.Instance, why cause) error {
	tick := time.NewTicker(p.pace.start)
	defer tick.Stop()
	last, since := uint64(0), time.Now()
	for {
		select {
		case <-p.wanted.Done():
			return p.quit(inst)
		case <-inst.Done():
			return p.fail(inst, p.deathOf(inst))
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(p.wanted, 3*time.Second)
		h := inst.Health(ctx)
		cancel()
		switch h.State {
		case engine.Dead:
			return p.fail(inst, h.Err)
		case engine.Loading:
			if p.r.State == RStarting {
				if err := p.move(func(r *Replica, now time.Time) error { return r.load(now) }); err != nil {
					return errors.Join(err, inst.Stop(p.base, p.pace.stop))
				}
			}
		case engine.Ready:
			return p.prove(inst, why)
		case engine.Starting, engine.Draining:
		}
		if h.Progress != (engine.Progress{}) {
			p.note(h.Progress)
		}
		if pulse := pulseOf(inst, h); pulse != last {
			last, since = pulse, time.Now()
		} else if time.Since(since) > p.s.config.Stall {
			return p.fail(inst, engine.ErrStalled)
		}
	}
}

// pulseOf is a number that changes as long as the engine shows life.
func pulseOf(inst engine.Instance, h engine.Health) uint64 {
	if a, ok := inst.(engine.Pulse); ok {
		return a.Pulse()
	}
	return uint64(h.Progress.Done) + uint64(len(h.State)) + 1
}

// deathOf is the reason of an instance that has ended.
func (p *supervisor) deathOf(inst engine.Instance) error {
	if h := inst.Health(p.base); h.Err != nil {
		return h.Err
	}
	return engine.ErrEngineDied
}

// prove sends the smoke request to an engine that calls itself ready, measures it and opens it for requests.
func (p *supervisor) prove(inst engine.Instance, why cause) error {
	limit := 5 * time.Minute // one token of a large model on a small machine; a dead engine is noticed by Done
	if p.s.config.Stall < limit {
		limit = max(p.s.config.Stall, 10*time.Second)
	}
	ctx, cancel := context.WithTimeout(p.wanted, limit)
	defer cancel()
	smoke := make(chan error, 1)
	go func() { smoke <- inst.Smoke(ctx) }()
	var err error
	select {
	case err = <-smoke:
	case <-inst.Done():
		cancel()
		if err = <-smoke; err != nil { // why it died says more
			err = p.deathOf(inst)
		}
	}
	switch {
	case p.wanted.Err() != nil:
		return p.quit(inst)
	case err != nil:
		select { // an engine that died under the request says more than the broken connection
		case <-inst.Done():
			err = p.deathOf(inst)
		case <-time.After(50 * time.Millisecond):
		}
		return p.fail(inst, err)
	}
	use, err := inst.Measure(p.base)
	if err != nil { // it may have died a moment ago: Done will tell
		use = engine.Usage{}
	}
	p.s.host.note(p.id, use.HostBytes)
	if err := p.move(func(r *Replica, now time.Time) error { return r.serve(why, use.HostBytes, now) }); err != nil {
		return errors.Join(err, inst.Stop(p.base, p.pace.stop))
	}
	p.s.metrics.started(p.r, p.s.feed.name(p.r.Deployment))
	return p.serve(inst)
}

// serve keeps the replica in the routes and watches it until it dies, hangs, takes too much memory or is no longer wanted.
func (p *supervisor) serve(inst engine.Instance) error {
	p.open(inst)
	defer p.shut()
	load, health := time.NewTicker(p.pace.load), time.NewTicker(p.pace.health)
	defer load.Stop()
	defer health.Stop()
	healthy := time.Now()
	for {
		select {
		case <-p.wanted.Done():
			return p.quit(inst)
		case <-inst.Done():
			p.shut()
			return p.fail(inst, p.deathOf(inst))
		case <-load.C:
			p.look(inst)
		case <-health.C:
			ctx, cancel := context.WithTimeout(p.wanted, p.pace.health)
			h := inst.Health(ctx)
			cancel()
			switch {
			case h.State == engine.Dead:
				p.shut()
				return p.fail(inst, h.Err)
			case h.State == engine.Ready:
				healthy = time.Now()
			case p.wanted.Err() == nil && time.Since(healthy) > p.pace.silent:
				p.shut()
				return p.fail(inst, errHealth.With("no healthy answer for %d seconds", int(time.Since(healthy).Seconds())))
			}
			if err := p.memory(inst); err != nil {
				p.shut()
				return p.fail(inst, err)
			}
		}
	}
}

// Failures that the supervisor finds itself.
var (
	errHealth = fault.New(fault.Unavailable, "inference.health_failed", "the engine stopped answering")
	errMemory = fault.New(fault.Unavailable, "inference.memory_over", "the engine used more memory than it was given")
)

// open lets requests come.
func (p *supervisor) open(inst engine.Instance) {
	ep := inst.Endpoint()
	p.mu.Lock()
	p.endpoint = &ep
	p.progress = engine.Progress{}
	p.mu.Unlock()
	p.s.poke()
}

// shut takes the replica out of the routes.
func (p *supervisor) shut() {
	p.mu.Lock()
	p.endpoint, p.load = nil, engine.Load{}
	p.mu.Unlock()
	p.s.monitor.quiet(p.r.Deployment, p.id)
	p.s.poke()
}

// look asks for the load: for routing, charts and the live view.
func (p *supervisor) look(inst engine.Instance) {
	ctx, cancel := context.WithTimeout(p.wanted, p.pace.load)
	defer cancel()
	l, err := inst.Load(ctx)
	if err != nil {
		return // health decides whether it is well
	}
	p.mu.Lock()
	p.load = l
	var id string
	if p.endpoint != nil {
		id = p.endpoint.ID
	}
	p.mu.Unlock()
	p.s.router.SetLoad(id, l.Running+l.Waiting)
	p.s.monitor.load(p.r.Deployment, p.id, l)
	p.s.metrics.load(p.s.feed.name(p.r.Deployment), p.r.Spec.Engine, l)
}

// memory compares what the engine holds with what it was promised. What was measured when it became ready, plus its whole cache, is the yardstick where it is larger than the estimate: a wrong estimate must
// not restart a healthy engine for ever.
func (p *supervisor) memory(inst engine.Instance) error {
	use, err := inst.Measure(p.wanted)
	if err != nil || use.HostBytes == 0 || p.r.Need == nil {
		return nil //nolint:nilerr // it may be ending just now: Done tells
	}
	p.s.host.note(p.id, use.HostBytes)
	limit := max(p.r.Need.HostBytes, p.r.Measured+p.r.Need.Parts["kv"])
	switch {
	case use.HostBytes > limit+limit/5:
		return errMemory.With("%s used, %s promised", gib(use.HostBytes), gib(limit))
	case use.HostBytes > limit+limit/20:
		p.s.log.WarnContext(p.base, "an engine uses more memory than promised", "replica", p.id, "used_bytes", use.HostBytes, "promised_bytes", limit)
	}
	return nil
}

// quit ends an instance that is no longer wanted: out of the routes, drain, stop.
func (p *supervisor) quit(inst engine.Instance) error {
	grace := p.s.config.Drain
	if p.endCause().Code == "server_stop" {
		grace = min(grace, 5*time.Second)
	}
	ep, open := p.serving()
	busy := p.s.router.inFlight(ep.ID)
	p.shut()
	if p.r.State == RReady {
		if err := p.move(func(r *Replica, now time.Time) error { return r.drain(p.endCause(), now) }); err != nil {
			return errors.Join(err, inst.Stop(p.base, p.pace.stop))
		}
	}
	if open {
		p.drain(inst, busy, grace)
	}
	err := inst.Stop(p.base, p.pace.stop)
	p.keepLog(inst)
	p.hold(nil)
	p.s.host.release(p.id)
	return errors.Join(err, p.finish())
}

// drain waits until the requests under way have ended, at most for grace.
func (p *supervisor) drain(inst engine.Instance, busy func() int, grace time.Duration) {
	until := time.NewTimer(grace)
	defer until.Stop()
	tick := time.NewTicker(p.pace.start)
	defer tick.Stop()
	for {
		select {
		case <-until.C:
			return
		case <-inst.Done():
			return
		case <-tick.C:
		}
		if busy() > 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(p.base, time.Second)
		l, err := inst.Load(ctx)
		cancel()
		if err != nil || l.Running+l.Waiting == 0 {
			return
		}
	}
}

// fail ends an attempt that went wrong: nothing of it stays, its log is kept, the row says why and when the next try is.
func (p *supervisor) fail(inst engine.Instance, err error) error {
	p.shut()
	why := causeOf(err)
	if errors.Is(err, engine.ErrStalled) {
		why = because("load_stalled", "seconds", strconv.Itoa(int(p.s.config.Stall.Seconds())))
	}
	if errors.Is(err, errMemory) {
		why = because("memory_over", "used", "more than 1.2 times", "need", gib(p.r.Need.HostBytes))
	}
	var stopErr error
	if inst != nil {
		stopErr = inst.Stop(p.base, p.pace.stop)
		p.keepLog(inst)
	}
	p.hold(nil)
	p.s.host.release(p.id)
	p.s.log.WarnContext(p.base, "an engine failed", "deployment", p.r.Deployment, "replica", p.id, "attempt", p.r.Attempt, "error", fault.From(err).Error())
	if err := p.move(func(r *Replica, now time.Time) error { return r.fail(why, now) }); err != nil {
		return err
	}
	if stopErr != nil { // nothing may start before that one is gone
		return fmt.Errorf("stop of a failed engine: %w", stopErr)
	}
	return nil
}

// logBytes is how much of an attempt's log is kept.
const logBytes = 64 << 10

func logKey(tenant, replica string, attempt int) string {
	return fmt.Sprintf("inference/%s/logs/%s/%d.log", tenant, replica, attempt)
}

// keepLog stores the end of the attempt's log. A failure costs the log, not the replica.
func (p *supervisor) keepLog(inst engine.Instance) {
	t, ok := inst.(engine.Tailer)
	if !ok || p.s.objects == nil {
		return
	}
	text := t.Tail(logBytes)
	if len(text) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(p.base, 10*time.Second)
	defer cancel()
	if _, err := p.s.objects.Put(ctx, logKey(p.r.Tenant, p.id, p.r.Attempt), bytes.NewReader(text), object.PutOptions{Size: int64(len(text))}); err != nil {
		p.s.logError(p.base, "the log of an engine was not kept", err, "replica", p.id)
	}
}
