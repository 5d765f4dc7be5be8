package user

import (
	"context"

	"maas/internal/platform/auth"
	"maas/internal/platform/meter"
	"maas/internal/platform/rpc"
)

// Serve registers the API for calls from other processes.
func (s *Service) Serve(m *rpc.Mux) {
	type none struct{}
	rpc.Handle(m, "user.Changes", s.Changes)
	rpc.Handle(m, "user.KeyByHash", s.KeyByHash)
	rpc.Handle(m, "user.Session", s.Session)
	rpc.Handle(m, "user.SigningKeys", func(ctx context.Context, _ none) ([]PublicKey, error) { return s.SigningKeys(ctx) })
	rpc.Handle(m, "user.RedeemTicket", s.RedeemTicket)
	rpc.Handle(m, "user.Node", s.Node)
	rpc.Handle(m, "user.Record", func(ctx context.Context, b Batch) (none, error) { return none{}, s.Record(ctx, b) })
	rpc.Handle(m, "user.Lease", s.Lease)
	rpc.Handle(m, "user.Return", func(ctx context.Context, r []meter.LeaseReturn) (none, error) { return none{}, s.Return(ctx, r) })
}

// Client is the API of a user service in another process.
type Client struct{ c *rpc.Client }

// NewClient makes a Client.
func NewClient(c *rpc.Client) Client { return Client{c} }

var _ API = Client{}

// Changes implements API.
func (c Client) Changes(ctx context.Context, since int64) (Changes, error) {
	return rpc.Call[Changes](ctx, c.c, "user.Changes", since)
}

// KeyByHash implements API.
func (c Client) KeyByHash(ctx context.Context, hash string) (KeyGrant, error) {
	return rpc.Call[KeyGrant](ctx, c.c, "user.KeyByHash", hash)
}

// Session implements API.
func (c Client) Session(ctx context.Context, sid string) (auth.Principal, error) {
	return rpc.Call[auth.Principal](ctx, c.c, "user.Session", sid)
}

// SigningKeys implements API.
func (c Client) SigningKeys(ctx context.Context) ([]PublicKey, error) {
	return rpc.Call[[]PublicKey](ctx, c.c, "user.SigningKeys", struct{}{})
}

// RedeemTicket implements API.
func (c Client) RedeemTicket(ctx context.Context, t TicketUse) (auth.Principal, error) {
	return rpc.Call[auth.Principal](ctx, c.c, "user.RedeemTicket", t)
}

// Node implements API.
func (c Client) Node(ctx context.Context, r NodeReport) (NodeReply, error) {
	return rpc.Call[NodeReply](ctx, c.c, "user.Node", r)
}

// Record implements API.
func (c Client) Record(ctx context.Context, b Batch) error {
	_, err := rpc.Call[struct{}](ctx, c.c, "user.Record", b)
	return err
}

// Lease implements API.
func (c Client) Lease(ctx context.Context, asks []meter.LeaseAsk) ([]meter.Grant, error) {
	return rpc.Call[[]meter.Grant](ctx, c.c, "user.Lease", asks)
}

// Return implements API.
func (c Client) Return(ctx context.Context, returns []meter.LeaseReturn) error {
	_, err := rpc.Call[struct{}](ctx, c.c, "user.Return", returns)
	return err
}
