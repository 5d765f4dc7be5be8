package gateway

import (
	"context"
	"errors"
	"time"

	"maas/internal/platform/meter"
	"maas/internal/user"
)

const reportEvery = 5 * time.Second

func newMeter(g *Gateway) *meter.Meter {
	node, epoch := g.journal.Node()
	o := meter.Options{Grantor: g.Users, Node: node, Epoch: epoch, Closed: g.Config.LimitsAway == "closed", Log: g.Log, Metrics: g.Metrics}
	if g.Cache != nil && g.Cache.Shared() {
		o.Cache = g.Cache
	}
	return meter.New(o)
}

// claim makes sure that a journal found at another place than where it was left is not a copy of one in use.
func (g *Gateway) claim() error {
	if !g.journal.Moved() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	node, epoch := g.journal.Node()
	if _, err := g.Users.Node(ctx, user.NodeReport{Node: node, Epoch: epoch, Place: g.journal.Place(), Started: g.Now(), Limits: user.NodeLimits{Shared: "none", Grantor: "ok"}}); err != nil {
		return err
	}
	g.Log.Warn("the data folder was moved; its node is not alive elsewhere", "node", node)
	return g.journal.Adopt()
}

// runMeter keeps leases, and tells the user service how this process stands, until ctx ends.
func (g *Gateway) runMeter(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.meter.Run(ctx) // returns nothing but nil
	}()
	defer func() { <-done }()
	started := g.Now()
	t := time.NewTicker(reportEvery)
	defer t.Stop()
	for failing := false; ; {
		err := g.report(ctx, started)
		if err != nil && !failing && ctx.Err() == nil {
			g.Log.WarnContext(ctx, "the user service cannot be told how this process stands", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// report tells how this process stands and learns how many there are.
func (g *Gateway) report(ctx context.Context, started time.Time) error {
	node, epoch := g.journal.Node()
	s := g.meter.State()
	l := user.NodeLimits{Shared: s.Shared, Grantor: s.Grantor, Open: s.Open, Unsettled: s.Unsettled, JournalLag: g.journal.Lag(), JournalFull: g.journal.Full()}
	reply, err := g.Users.Node(ctx, user.NodeReport{Node: node, Epoch: epoch, Place: g.journal.Place(), Started: started, Limits: l})
	if errors.Is(err, user.ErrNodeCopied) { // somebody else runs under our name since we were silent for a while
		g.Log.ErrorContext(ctx, "another process uses this node's name; taking a new one", "node", node)
		return errors.Join(err, g.journal.Rename())
	}
	if err == nil {
		g.meter.SetNodes(reply.Nodes)
	}
	return err
}
