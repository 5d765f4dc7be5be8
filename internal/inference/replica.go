package inference

import (
	"slices"
	"strconv"
	"time"

	"maas/internal/inference/engine"
	"maas/internal/platform/fault"
)

// errEdge is a bug: a state was left in a way that does not exist.
var errEdge = fault.New(fault.Internal, "inference.bad_transition", "a replica cannot change its state like this")

// Restart policy. The first wait, its longest, and the crash budget.
const (
	backoffFirst = time.Second
	backoffLast  = 5 * time.Minute
	crashBudget  = 5
	crashWindow  = 15 * time.Minute
	calmAfter    = time.Minute // ready for that long: the back-off begins anew
)

// Replica is one instance of one revision of a deployment. Each start is an attempt; its number is the fence.
type Replica struct {
	ID, Tenant, Deployment string
	Revision               int
	Spec                   Spec
	State                  ReplicaState
	Cause                  cause
	Attempt                int
	Ref                    engine.Ref
	Need                   *engine.Need
	Measured               int64       // bytes, when it became ready; 0 = not yet
	Crashes                []time.Time // failures inside the crash window
	Backoff                int         // failures in a row
	RetryAt                time.Time   // failed: when the next attempt begins; zero = not by itself
	StartedAt              time.Time   // of the attempt
	ReadyAt                time.Time
	CreatedAt              time.Time
	UpdatedAt              time.Time
	Rev                    int64
}

// final reports that no process belongs to the state.
func (s ReplicaState) final() bool { return s == RStopped || s == RFailed }

// running reports that a process may exist in the state.
func (s ReplicaState) running() bool {
	return s == RStarting || s == RLoading || s == RReady || s == RDraining
}

// edges lists every change of state that exists.
var edges = map[ReplicaState][]ReplicaState{
	RPending:  {RFitting, RStopped, RFailed},
	RFitting:  {RStarting, RPending, RStopped, RFailed},
	RStarting: {RLoading, RReady, RDraining, RStopped, RFailed},
	RLoading:  {RReady, RDraining, RStopped, RFailed},
	RReady:    {RDraining, RStopped, RFailed},
	RDraining: {RStopped, RFailed},
	RStopped:  {RFitting},
	RFailed:   {RFitting, RStopped},
}

func newReplica(id string, d Deployment, now time.Time) Replica {
	c := because("operator_start")
	c.At = now
	return Replica{ID: id, Tenant: d.Tenant, Deployment: d.ID, Revision: d.Revision, Spec: d.Spec, State: RPending, Cause: c, CreatedAt: now, UpdatedAt: now, Rev: 1}
}

// to is the one way a state changes: along an edge, with a cause.
func (r *Replica) to(s ReplicaState, c cause, now time.Time) error {
	if c.Code == "" || !slices.Contains(edges[r.State], s) {
		return errEdge.With("replica %s: %s -> %s (%s)", r.ID, r.State, s, c.Code)
	}
	c.At = now
	r.State, r.Cause, r.UpdatedAt = s, c, now
	return nil
}

// fit begins an attempt: files and need are looked at.
func (r *Replica) fit(now time.Time) error {
	if err := r.to(RFitting, because("placing"), now); err != nil {
		return err
	}
	r.RetryAt = time.Time{}
	return nil
}

// wait says that there is no place yet.
func (r *Replica) wait(c cause, now time.Time) error { return r.to(RPending, c, now) }

// begin takes the next attempt number; the process starts after this is stored.
func (r *Replica) begin(need *engine.Need, nonce string, now time.Time) error {
	if err := r.to(RStarting, because("launching"), now); err != nil {
		return err
	}
	r.Attempt++
	r.Need, r.Measured = need, 0
	r.StartedAt, r.ReadyAt = now, time.Time{}
	r.Ref = engine.Ref{Driver: r.Spec.Engine, Replica: r.ID, Attempt: r.Attempt, Nonce: nonce, At: now}
	return nil
}

// load says that the engine reads weights.
func (r *Replica) load(now time.Time) error { return r.to(RLoading, because("loading"), now) }

// serve says that the engine proved to be ready.
func (r *Replica) serve(c cause, measured int64, now time.Time) error {
	if err := r.to(RReady, c, now); err != nil {
		return err
	}
	r.Measured, r.ReadyAt = measured, now
	return nil
}

// drain begins the end of an attempt by will.
func (r *Replica) drain(c cause, now time.Time) error { return r.to(RDraining, c, now) }

// stop ends an attempt by will. A stopped replica that is still wanted is started again.
func (r *Replica) stop(c cause, now time.Time) error {
	if err := r.to(RStopped, c, now); err != nil {
		return err
	}
	r.Ref, r.RetryAt = engine.Ref{}, time.Time{}
	return nil
}

// fail ends an attempt that went wrong and decides about the next one: never for a lasting cause or an empty crash budget (which makes the cause crash_loop), else after the back-off. Upstreams have no
// crash budget: that one is away says nothing about what we do.
func (r *Replica) fail(c cause, now time.Time) error {
	if !r.ReadyAt.IsZero() && now.Sub(r.ReadyAt) >= calmAfter {
		r.Backoff = 0
	}
	r.Crashes = append(slices.DeleteFunc(slices.Clone(r.Crashes), func(t time.Time) bool { return now.Sub(t) > crashWindow }), now)
	if len(r.Crashes) >= crashBudget && r.Spec.ProviderID == "" && !c.lasting() {
		last := c.view().Message
		c = because("crash_loop", "count", strconv.Itoa(len(r.Crashes)), "detail", last)
	}
	if err := r.to(RFailed, c, now); err != nil {
		return err
	}
	r.Ref, r.RetryAt = engine.Ref{}, time.Time{}
	if c.lasting() {
		return nil
	}
	r.RetryAt = now.Add(min(backoffFirst<<min(r.Backoff, 16), backoffLast))
	r.Backoff++
	return nil
}
