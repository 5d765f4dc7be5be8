package user

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/meter"
	"maas/internal/user/ledger"
)

// ErrLease is a question for leases that no node of ours asks.
var ErrLease = fault.New(fault.Invalid, "user.lease", "this question for leases is not acceptable")

const (
	leaseKeep  = 2 * meter.LeaseLife // the grantor's view of a lease's life; the node's ends earlier by its own clock
	leaseGrace = 15 * time.Minute    // how long what a dead or returned lease holds waits for the usage that was spent on it
	asksMost   = 1000

	leaseMemory = 24 * time.Hour // how long a closed lease still answers a repeat of its ask
)

// Lease implements API. Wallets are locked before budgets, as Record does it; each target is guarded by its own row, so two nodes never get the same unit.
func (s *Service) Lease(ctx context.Context, asks []meter.LeaseAsk) ([]meter.Grant, error) {
	if len(asks) > asksMost {
		return nil, ErrLease.With("at most %d asks at a time", asksMost)
	}
	order := make([]int, len(asks))
	for i, a := range asks {
		if a.ID == "" || a.Node == "" || a.Target == "" || a.Need < 0 || a.Want < 0 || len(a.ID)+len(a.Node)+len(a.Target) > 400 {
			return nil, ErrLease.With("an ask has an id, a node, a target and amounts that are not negative")
		}
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		return cmp.Or(-cmp.Compare(rank(asks[i].Target), rank(asks[j].Target)), strings.Compare(asks[i].Target, asks[j].Target), cmp.Compare(i, j))
	})
	out := make([]meter.Grant, len(asks))
	err := s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, i := range order {
			g, err := s.lease(ctx, tx, asks[i])
			if err != nil {
				return err
			}
			out[i] = g
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// rank puts wallets first.
func rank(target string) int {
	if strings.HasPrefix(target, walletPrefix+"_") {
		return 1
	}
	return 0
}

// lease answers one ask.
func (s *Service) lease(ctx context.Context, tx *db.Tx, a meter.LeaseAsk) (meter.Grant, error) {
	now := s.Now()
	g := meter.Grant{ID: a.ID, ExpiresAt: now.Add(meter.LeaseLife)}
	had, err := leaseByAsk(ctx, tx, a.Node, a.ID)
	switch {
	case err == nil && had.state == leaseOpen: // asked before: the answer was lost, or its life is to go on
		g.LeaseID, g.Amount, g.PeriodEnd = had.id, had.granted, had.periodEnd()
		g.ExpiresAt = earlier(g.ExpiresAt, g.PeriodEnd)
		return g, keepLease(ctx, tx, had.id, now.Add(leaseKeep))
	case err == nil: // its lease is over: nothing can be spent on it any more
		return g, nil
	case !isNoRow(err):
		return g, err
	}
	if rank(a.Target) == 1 {
		return s.leaseWallet(ctx, tx, a, g, now)
	}
	return s.leaseBudget(ctx, tx, a, g, now)
}

func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (s *Service) leaseWallet(ctx context.Context, tx *db.Tx, a meter.LeaseAsk, g meter.Grant, now time.Time) (meter.Grant, error) {
	w, err := lockAccount(ctx, tx, a.Target)
	if isNoRow(err) || err == nil && w.kind != ledger.Wallet {
		return g, nil
	}
	if err != nil {
		return g, err
	}
	if !w.limited() {
		g.Unlimited = true
		return g, nil
	}
	left := w.balance + w.credit - w.leased
	if g.Amount, err = s.block(ctx, tx, a, left, now); err != nil || g.Amount == 0 {
		g.Left = max(left, 0)
		return g, err
	}
	if err := addLeased(ctx, tx, w.id, g.Amount); err != nil {
		return g, err
	}
	g.Left = left - g.Amount
	l := lease{id: id.New("lse"), tenant: w.tenant, node: a.Node, ask: a.ID, epoch: a.Epoch, target: w.id, granted: g.Amount}
	g.LeaseID = l.id
	return g, insertLease(ctx, tx, l, now, now.Add(leaseKeep))
}

func (s *Service) leaseBudget(ctx context.Context, tx *db.Tx, a meter.LeaseAsk, g meter.Grant, now time.Time) (meter.Grant, error) {
	b, err := budgetByTarget(ctx, tx, a.Target)
	if isNoRow(err) || err == nil && (b.deleted || !b.Hard) { // nothing stands in the way any more
		g.Unlimited = true
		return g, nil
	}
	if err != nil {
		return g, err
	}
	p, err := s.lockPeriod(ctx, tx, &b, now)
	if err != nil {
		return g, err
	}
	g.PeriodEnd = db.FromMicro(p.end)
	g.ExpiresAt = earlier(g.ExpiresAt, g.PeriodEnd)
	left := b.limit(now) - p.used - p.leased
	if g.Amount, err = s.block(ctx, tx, a, left, now); err != nil || g.Amount == 0 {
		g.Left = max(left, 0)
		return g, err
	}
	if err := addPeriodLeased(ctx, tx, b.ID, p.start, g.Amount); err != nil {
		return g, err
	}
	g.Left = left - g.Amount
	l := lease{id: id.New("lse"), tenant: b.tenantID, node: a.Node, ask: a.ID, epoch: a.Epoch, target: b.ID, start: p.start, granted: g.Amount}
	g.LeaseID = l.id
	return g, insertLease(ctx, tx, l, now, earlier(now.Add(leaseKeep), g.PeriodEnd))
}

// lockPeriod locks the budget's present period, which it opens where there is none: then under the tenant's wallet, as its sum must not miss a batch.
func (s *Service) lockPeriod(ctx context.Context, tx *db.Tx, b *Budget, now time.Time) (period, error) {
	start, end := b.period(now)
	p, err := lockedPeriod(ctx, tx, b.ID, db.Micro(start))
	if !isNoRow(err) {
		return p, err
	}
	if _, err := lockWallet(ctx, tx, b.tenantID, s.currency(), now); err != nil {
		return p, err
	}
	if p, err = lockedPeriod(ctx, tx, b.ID, db.Micro(start)); isNoRow(err) {
		return openPeriod(ctx, tx, *b, start, end)
	}
	return p, err
}

// block sizes a grant by what is left and how many nodes share it.
func (s *Service) block(ctx context.Context, tx *db.Tx, a meter.LeaseAsk, left int64, now time.Time) (int64, error) {
	nodes, err := liveNodes(ctx, tx, a.Target, a.Node, now)
	return ledger.Block(left, a.Need, a.Want, nodes+1), err
}

// Return implements API.
func (s *Service) Return(ctx context.Context, returns []meter.LeaseReturn) error {
	if len(returns) > asksMost {
		return ErrLease.With("at most %d leases at a time", asksMost)
	}
	for _, r := range returns {
		if r.Unused < 0 || r.Spent < 0 {
			return ErrLease.With("what a lease gives back is not negative")
		}
	}
	return s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		type back struct {
			lease
			unused int64
		}
		var list []back
		for _, r := range returns {
			l, err := leaseByID(ctx, tx, r.LeaseID)
			if isNoRow(err) || err == nil && l.state != leaseOpen && l.state != leaseLost {
				continue
			}
			if err != nil {
				return err
			}
			list = append(list, back{l, min(r.Unused, l.granted)})
		}
		slices.SortFunc(list, func(a, b back) int {
			return cmp.Or(-cmp.Compare(rank(a.target), rank(b.target)), strings.Compare(a.target, b.target), strings.Compare(a.id, b.id))
		})
		for _, l := range list {
			if err := s.giveBack(ctx, tx, l.lease, l.unused); err != nil {
				return err
			}
		}
		return nil
	})
}

// giveBack frees what a node has not spent. It may find the lease drained already, by usage that was spent on another lease of the node: then the others hold the difference, and it is taken from them.
func (s *Service) giveBack(ctx context.Context, tx *db.Tx, l lease, unused int64) error {
	if err := lockTarget(ctx, tx, l); err != nil {
		return err
	}
	n, err := closeLease(ctx, tx, l.id, unused, s.Now())
	if isNoRow(err) { // somebody else closed it meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	if rest := unused - n; rest > 0 {
		more, err := drain(ctx, tx, l.node, l.target, l.start, rest)
		if err != nil {
			return err
		}
		n += more
	}
	return release(ctx, tx, l, n)
}

// sweepLeases marks leases whose node is silent as lost, and frees what returned and lost ones held for usage that did not come within the grace.
func (s *Service) sweepLeases(ctx context.Context) error {
	now := s.Now()
	return s.books().Tx(ctx, func(ctx context.Context, tx *db.Tx) error {
		lost, err := loseLeases(ctx, tx, now)
		if err != nil {
			return err
		}
		if lost > 0 {
			s.Log.WarnContext(ctx, "leases of nodes that fell silent are lost; what they hold is kept for late usage", "leases", lost, "grace", leaseGrace.String())
		}
		over, err := leasesOver(ctx, tx, now.Add(-leaseGrace), 1000)
		if err != nil {
			return err
		}
		slices.SortFunc(over, func(a, b lease) int {
			return cmp.Or(-cmp.Compare(rank(a.target), rank(b.target)), strings.Compare(a.target, b.target), strings.Compare(a.id, b.id))
		})
		for _, l := range over {
			if err := lockTarget(ctx, tx, l); err != nil {
				return err
			}
			n, err := endLease(ctx, tx, l.id)
			if isNoRow(err) {
				continue
			}
			if err == nil {
				err = release(ctx, tx, l, n)
			}
			if err != nil {
				return err
			}
		}
		return forgetLeases(ctx, tx, now.Add(-leaseMemory))
	})
}

// release takes n off what a target has leased out.
func release(ctx context.Context, tx *db.Tx, l lease, n int64) error {
	if n == 0 {
		return nil
	}
	if rank(l.target) == 1 {
		return addLeased(ctx, tx, l.target, -n)
	}
	return addPeriodLeased(ctx, tx, l.target, l.start, -n)
}

// lockTarget locks the row that counts what is leased.
func lockTarget(ctx context.Context, tx *db.Tx, l lease) error {
	if rank(l.target) == 1 {
		_, err := lockAccount(ctx, tx, l.target)
		return err
	}
	_, err := lockedPeriod(ctx, tx, l.target, l.start)
	return err
}
