package inference

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/inference/engine/fake"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
)

// TestRandomDays has people and engines do random things to a running service, checks what must hold all the while, and at last that everything settles as wanted.
func TestRandomDays(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		t.Helper()
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 2))
		scripts := []fake.Script{{}, {Load: 20 * time.Millisecond}, {Wrong: true}, {Load: 20 * time.Millisecond, DieLoading: true}, {StartErr: engine.ErrUnavailable.With("scripted")}}
		r := start(t, d, fake.Script{})
		r.config.Drain = 50 * time.Millisecond
		ctx := as(t, "ten_a")
		names := []string{"one", "two", "three", "four"}
		name := func() string { return names[rnd.IntN(len(names))] }
		for range 150 {
			size := 256 * (1 + rnd.IntN(8))
			var err error
			switch rnd.IntN(10) {
			case 0, 1, 2:
				_, err = r.Deploy(ctx, NewDeployment{Name: name(), Model: "toy"})
			case 3:
				_, err = r.Stop(ctx, name())
			case 4:
				_, err = r.Start(ctx, name())
			case 5:
				_, err = r.Restart(ctx, name())
			case 6:
				_, err = r.Update(ctx, name(), Patch{Context: &size}, nil)
			case 7:
				if rnd.IntN(3) == 0 {
					err = r.Delete(ctx, name())
				}
			case 8:
				if live := r.engine.Live(); len(live) > 0 {
					live[rnd.IntN(len(live))].Die(engine.ErrKilled.With("scripted"))
				}
			case 9:
				r.engine.Set(scripts[rnd.IntN(len(scripts))])
			}
			if err != nil {
				require.Truef(t, isOneOf(err, ErrNameTaken, ErrDeploymentNotFound, ErrDeleting, ErrPatchRace, ErrRevision), "%v", err)
			}
			wait(t.Context(), time.Duration(rnd.IntN(15))*time.Millisecond)
			oneProcessPerReplica(t, r)
		}
		r.engine.Set(fake.Script{})
		r.settle(t, names)
		r.historyHolds(t)
	}, tables...)
}

func isOneOf(err error, list ...error) bool {
	return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
}

func oneProcessPerReplica(t *testing.T, r *rig) {
	t.Helper()
	seen := map[string]bool{}
	for _, i := range r.engine.Live() {
		require.False(t, seen[i.Ref().Replica], "two processes of one replica")
		seen[i.Ref().Replica] = true
	}
}

// settle restarts what failed for good and waits until every deployment is as wanted, with a process for each that is wanted and for nothing else.
func (r *rig) settle(t *testing.T, names []string) {
	t.Helper()
	ctx := as(t, "ten_a")
	deadline := time.Now().Add(2 * time.Minute)
	for {
		want, settled := 0, true
		for _, name := range names {
			v, err := r.Deployment(ctx, name)
			if err != nil {
				continue
			}
			switch {
			case v.Desired == DesiredRunning && v.Status == Failed && v.Replicas[0].RetryAt.IsZero():
				_, _ = r.Restart(ctx, name)
				settled = false
			case v.Desired == DesiredRunning:
				want++
				settled = settled && v.Status == Ready && len(v.Replicas) == 1
			default:
				settled = settled && v.Status == Stopped
				for _, x := range v.Replicas {
					settled = settled && x.State.final()
				}
			}
		}
		if settled && len(r.engine.Live()) == want {
			return
		}
		require.True(t, time.Now().Before(deadline), "it does not settle: %d processes, %d wanted", len(r.engine.Live()), want)
		wait(ctx, 20*time.Millisecond)
	}
}

// historyHolds reads every transition: each has a reason, each begins where the one before ended, sequence numbers have no gap, attempts never go back.
func (r *rig) historyHolds(t *testing.T) {
	t.Helper()
	require.NoError(t, r.Service.db.Read(t.Context(), func(ctx context.Context, q *db.Query) error {
		all, err := r.store.all(ctx, q, "", 100)
		if err != nil {
			return err
		}
		for _, d := range all {
			list, err := r.store.transitionsAfter(ctx, q, d.ID, 0, 10_000)
			if err != nil {
				return err
			}
			last, attempts := map[string]string{}, map[string]int{}
			for i, x := range list {
				where := fmt.Sprintf("%s: transition %d (%s -> %s)", d.Name, x.Seq, x.From, x.To)
				require.Equal(t, int64(i+1), x.Seq, where)
				require.NotNil(t, x.Reason, where)
				require.NotEmpty(t, x.Reason.Message, where)
				require.Equal(t, last[x.Replica], x.From, where)
				require.GreaterOrEqual(t, x.Attempt, attempts[x.Replica], where)
				last[x.Replica], attempts[x.Replica] = x.To, x.Attempt
			}
			require.Equal(t, string(d.Status), last[""], d.Name)
			require.Equal(t, int64(len(list)), d.Seq, d.Name)
		}
		return nil
	}))
}
