package meter

import (
	"context"
	"time"
)

// LeaseLife is how long a grant may be used, counted from the moment the ask was sent. The grantor keeps it at least as long, so clocks need not agree.
const LeaseLife = 60 * time.Second

// LeaseAsk asks for a piece of a wallet or a budget that this node may then spend without asking again. Amounts are in the unit of the target: micro-units of money, tokens or requests.
type LeaseAsk struct {
	ID     string `json:"id"`     // of this ask, made by the node: a repeat answers with the same lease
	Node   string `json:"node"`   // name of the node's journal
	Epoch  int64  `json:"epoch"`  // start of the node
	Target string `json:"target"` // wal_.. or bud_..
	Need   int64  `json:"need"`   // less is of no use: the grantor gives at least this or refuses
	Want   int64  `json:"want"`   // at least Need; the grantor may give less than this
}

// Grant answers a LeaseAsk.
type Grant struct {
	ID        string    `json:"id"`       // of the ask
	LeaseID   string    `json:"lease_id"` // "" when refused
	Amount    int64     `json:"amount"`   // 0 = refused
	Left      int64     `json:"left"`     // what the target has left for others, after this grant
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	PeriodEnd time.Time `json:"period_end,omitzero"` // of a budget's window; what is left of the lease is void then. Zero = none
	Unlimited bool      `json:"unlimited,omitempty"` // the target refuses nothing until the lease ends; Amount says nothing
}

// LeaseReturn closes a lease. Spent + Unused is its amount. Unused is free again at once. Spent was settled: its usage rows stand in the node's journal, so it is held until Record has booked them.
type LeaseReturn struct {
	LeaseID string `json:"lease_id"`
	Spent   int64  `json:"spent"`
	Unused  int64  `json:"unused"`
}

// Grantor hands out leases. Both methods take many at once; Lease answers in the order of the asks and is idempotent by LeaseAsk.ID: a repeat of an ask whose lease is still open moves its ExpiresAt on and
// gives the same amount. Return of a closed or unknown lease changes nothing. An error means that the grantor could not be asked at all.
type Grantor interface {
	Lease(ctx context.Context, asks []LeaseAsk) ([]Grant, error)
	Return(ctx context.Context, returns []LeaseReturn) error
}
