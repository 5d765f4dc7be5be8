package inference

import (
	"context"
	"errors"
	"slices"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/event"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
)

// keptReplicas is how many revisions of history stay with a deployment.
const keptReplicas = 20

// draft is one deployment inside a transaction: what it was, what it becomes, and the reasons. commit stores all of it.
type draft struct {
	tx       *db.Tx
	d        Deployment
	replicas []Replica // newest revision first
	reasons  []reasonRow
	moved    map[string]bool // replicas to be written
	added    map[string]bool // of these, new ones
	byPerson bool
	events   []event.Event
}

type reasonRow struct {
	replica  string
	attempt  int
	from, to string
	why      cause
}

// replica finds a replica of the draft by id, nil if there is none.
func (c *draft) replica(id string) *Replica {
	i := slices.IndexFunc(c.replicas, func(r Replica) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &c.replicas[i]
}

// move lets f change a replica and notes why it changed its state.
func (c *draft) move(r *Replica, f func(r *Replica) error) error {
	was := r.State
	if err := f(r); err != nil {
		return err
	}
	c.moved[r.ID] = true
	if r.State != was {
		c.reasons = append(c.reasons, reasonRow{r.ID, r.Attempt, string(was), string(r.State), r.Cause})
	}
	return nil
}

// add puts a new replica in front.
func (c *draft) add(r Replica) {
	c.replicas = slices.Insert(c.replicas, 0, r)
	c.moved[r.ID], c.added[r.ID] = true, true
	c.reasons = append(c.reasons, reasonRow{r.ID, r.Attempt, "", string(r.State), r.Cause})
}

// note adds a reason row of the deployment itself.
func (c *draft) note(why cause) {
	c.reasons = append(c.reasons, reasonRow{from: string(c.d.Status), to: string(c.d.Status), why: why})
}

// change runs f on one deployment in a transaction, computes its status, stores what changed with its reasons and wakes whoever watches. It is repeated when somebody else wrote meanwhile, so f must be
// repeatable. ref is an id, or with a tenant also a name.
func (s *Service) change(ctx context.Context, tenant, ref string, f func(ctx context.Context, c *draft) error) (Deployment, []Replica, error) {
	for try := 0; ; try++ {
		var c *draft
		err := s.db.Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
			d, err := s.load(ctx, tx, tenant, ref)
			if err != nil {
				return err
			}
			c = &draft{tx: tx, d: d, moved: map[string]bool{}, added: map[string]bool{}}
			if c.replicas, err = s.store.replicas(ctx, tx, d.ID, keptReplicas); err != nil {
				return err
			}
			if err := f(ctx, c); err != nil {
				return err
			}
			return s.commit(ctx, c)
		})
		if err == nil {
			return c.d, c.replicas, nil
		}
		if !errors.Is(err, ErrRevision) || try == 8 {
			return Deployment{}, nil, err
		}
	}
}

func (s *Service) load(ctx context.Context, q db.Querier, tenant, ref string) (d Deployment, err error) {
	if tenant == "" {
		d, err = s.store.deploymentByID(ctx, q, ref)
	} else {
		d, err = s.store.deployment(ctx, q, tenant, ref)
	}
	if errors.Is(err, db.ErrNoRow) {
		return d, ErrDeploymentNotFound.With("there is no deployment %q", ref)
	}
	return d, err
}

// commit computes the status and writes the draft.
func (s *Service) commit(ctx context.Context, c *draft) error {
	now := s.now()
	status, why := statusOf(c.d, c.replicas)
	if status != c.d.Status || !why.same(c.d.Cause) {
		why.At = now
		if status != c.d.Status {
			c.reasons = append(c.reasons, reasonRow{from: string(c.d.Status), to: string(status), why: why})
			c.tell(status, why)
		}
		c.d.Status, c.d.Cause = status, why
	} else if len(c.moved) == 0 && len(c.reasons) == 0 && !c.byPerson {
		return nil
	}
	if c.byPerson {
		c.d.Rev++
	}
	c.d.UpdatedAt = now
	first := c.d.Seq + 1
	c.d.Seq += int64(len(c.reasons))
	if err := s.store.updateDeployment(ctx, c.tx, c.d); err != nil { // first of all: who loses a race learns it here, before any row that would collide
		return err
	}
	c.d.version++
	for i := range c.replicas {
		if err := s.write(ctx, c, &c.replicas[i]); err != nil {
			return err
		}
	}
	for i, row := range c.reasons {
		why := row.why
		why.At = now
		t := Transition{ID: id.New("evt"), Seq: first + int64(i), Deployment: c.d.ID, Replica: row.replica, Attempt: row.attempt, From: row.from, To: row.to, At: now, tenant: c.d.Tenant}
		if err := s.store.insertTransition(ctx, c.tx, t, why); err != nil {
			return err
		}
	}
	for _, e := range c.events {
		if err := event.Publish(auth.AsSystem(ctx, c.d.Tenant), c.tx, e); err != nil {
			return err
		}
	}
	deployment := c.d.ID
	c.tx.After(func() { s.changed(deployment) })
	return nil
}

func (s *Service) write(ctx context.Context, c *draft, r *Replica) error {
	switch {
	case c.added[r.ID]:
		if err := s.store.insertReplica(ctx, c.tx, *r); err != nil {
			return err
		}
		return s.store.forgetReplicas(ctx, c.tx, c.d.ID, r.Revision-keptReplicas)
	case c.moved[r.ID]:
		if err := s.store.updateReplica(ctx, c.tx, *r); err != nil {
			return err
		}
		r.Rev++
	}
	return nil
}

// tell collects the events of a change of status.
func (c *draft) tell(status Status, why cause) {
	switch status {
	case Ready:
		c.events = append(c.events, DeploymentReady{c.d.ID, c.d.Name})
	case Failed:
		c.events = append(c.events, DeploymentFailed{c.d.ID, c.d.Name, why.Code})
	case Stopped:
		c.events = append(c.events, DeploymentStopped{c.d.ID, c.d.Name})
	default:
	}
}

// moveReplica is change for one replica, by the loop: f runs if the replica is still in the state and attempt that the caller believes in. errLost when it is not.
func (s *Service) moveReplica(ctx context.Context, r Replica, f func(r *Replica) error) (Replica, error) {
	var out Replica
	_, _, err := s.change(ctx, "", r.Deployment, func(_ context.Context, c *draft) error {
		have := c.replica(r.ID)
		if have == nil || have.Attempt != r.Attempt || have.State != r.State {
			return errLost
		}
		if err := c.move(have, f); err != nil {
			return err
		}
		if have.Need != nil && have.Revision == c.d.Revision {
			c.d.Need = have.Need
		}
		out = *have
		out.Rev++
		return nil
	})
	return out, err
}

// errLost tells the loop that its picture of a replica is old.
var errLost = fault.New(fault.Internal, "inference.replica_lost", "the replica was changed by another process")
