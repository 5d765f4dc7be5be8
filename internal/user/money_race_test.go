package user

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/db"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// Several nodes lease, spend, return and book at once; one dies with leases in hand and ships its journal later. Nothing is granted twice, every call is booked once, and the books add up at every moment.
func TestNodesShareOneBudgetExactly(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBooks(t, w)
		price := b.price(t, NewPrice{Model: "m", Input: 1_000_000})
		const limit = 4000 // tokens, and as many micro-units
		wal := b.prepaid(t, limit)
		bud, err := b.MakeBudget(b.owner, NewBudget{Subject: Subject{Kind: "tenant"}, Unit: meter.Tokens, Limit: limit, Window: ledger.Total, Hard: true})
		require.NoError(t, err)
		var spent atomic.Int64
		var late []Batch // the dead node's journal
		var wait sync.WaitGroup
		for n := range 4 {
			node := "node" + string(rune('a'+n))
			dies := n == 0
			wait.Go(func() {
				r := rand.New(rand.NewPCG(uint64(n), 9))
				for round := int64(1); ; round++ {
					need := 1 + r.Int64N(60)
					g, err := b.Lease(t.Context(), []meter.LeaseAsk{
						{ID: id.New("ask"), Node: node, Epoch: 1, Target: bud.ID, Need: need, Want: 300},
						{ID: id.New("ask"), Node: node, Epoch: 1, Target: wal.ID, Need: need, Want: 300},
					})
					if !check(t, err) {
						return
					}
					can := min(g[0].Amount, g[1].Amount)
					var back []meter.LeaseReturn
					use := int64(0)
					batch := Batch{Node: node, Epoch: 1, Seq: round}
					for use < can && r.IntN(5) > 0 {
						k := min(1+r.Int64N(40), can-use)
						use += k
						batch.Rows = append(batch.Rows, b.call(Usage{InFresh: k, PriceVersion: price.ID}))
					}
					spent.Add(use)
					if dies && round == 3 {
						late = append(late, batch)
						return // with both leases in hand
					}
					for _, l := range g {
						if l.Amount > 0 {
							back = append(back, meter.LeaseReturn{LeaseID: l.LeaseID, Spent: use, Unused: l.Amount - use})
						}
					}
					if r.IntN(2) == 0 && !check(t, b.Return(t.Context(), back)) {
						return
					} else if len(batch.Rows) > 0 && !check(t, b.Record(t.Context(), batch)) {
						return
					}
					if !check(t, b.Record(t.Context(), Batch{Node: node, Epoch: 1, Seq: 1_000_000 + round, Rows: batch.Rows})) || !check(t, b.Return(t.Context(), back)) {
						return // the same rows once more, as after a restart; the same leases once more
					}
					if can == 0 && need <= 2 || round == 60 {
						return
					}
				}
			})
		}
		wait.Wait()
		b.sound(t)
		require.LessOrEqual(t, spent.Load(), int64(limit), "together they never pass the limit")
		for _, l := range late {
			require.NoError(t, b.Record(t.Context(), l))
		}
		got, err := b.Budget(b.owner, bud.ID)
		require.NoError(t, err)
		require.Equal(t, spent.Load(), got.Used, "every call is counted once")
		require.Equal(t, limit-spent.Load(), b.wallet(t).BalanceMicro)
		b.wait(leaseKeep + leaseGrace + time.Second)
		b.sound(t)
		require.Zero(t, b.wallet(t).LeasedMicro, "nothing stays held")
		got, err = b.Budget(b.owner, bud.ID)
		require.NoError(t, err)
		require.Zero(t, got.Leased)
		b.sound(t)
		b.wait(leaseMemory + leaseGrace)
		b.sound(t)
		require.NoError(t, w.db.Read(t.Context(), func(ctx context.Context, q *db.Query) error {
			n, err := db.One(ctx, q, db.Scalar[int64], `SELECT COUNT(*) FROM user_lease`)
			require.Zero(t, n, "leases that are long over are forgotten")
			return err
		}))
	})
}

// check reports an error from a goroutine that is not the test's own.
func check(t *testing.T, err error) bool {
	t.Helper()
	if err != nil {
		t.Errorf("%v", err)
	}
	return err == nil
}
