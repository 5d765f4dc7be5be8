package meter

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// PicoPerMicro: leases of money count micro-units, reservations inside a node pico-units.
const PicoPerMicro = 1_000_000

// budgetsMost is how many budgets one call may pass: six each of key, user, project and tenant, and the wallet. More are left out by Budgets.
const budgetsMost = 25

// Subject is who is asking, resolved to what limits them. It is immutable and shared by all calls of one credential.
type Subject struct {
	Key, User, Project, Tenant string
	Buckets                    []*Bucket
	Budgets                    []*Budget // key, user, project, tenant, wallet in this order
}

// Ask is an amount: estimated when a call is admitted, true when it is settled.
type Ask struct {
	Requests  int64
	Tokens    int64 // input and output
	MoneyPico int64
	Also      []*Bucket // further limits of this call: those of its model. Read by Admit only
}

// of is the part of the ask that a unit counts.
func (a *Ask) of(u Unit) int64 {
	switch u {
	case Money:
		return a.MoneyPico
	case Tokens:
		return a.Tokens
	case Requests:
		return a.Requests
	case Concurrent:
	}
	return 0
}

// Reason is why a call was refused.
type Reason string

// The reasons.
const (
	RateLimited   Reason = "rate_limited"        // wait, then it passes
	TooMany       Reason = "too_many_concurrent" // a running call has to end first
	OverLimit     Reason = "request_over_limit"  // larger than the whole limit: never passes
	BudgetSpent   Reason = "budget_exceeded"     // until the window ends or the budget is raised
	BalanceSpent  Reason = "balance_exhausted"   // until the wallet is topped up
	QuotaUnknown  Reason = "quota_unavailable"   // the grantor cannot be asked
	LimitsUnknown Reason = "limits_unavailable"  // the shared counters cannot be asked, and the tenant wants to be refused then
)

// Refusal is the error of Admit and Extend.
type Refusal struct {
	Reason   Reason
	Kind, ID string // of the subject whose limit or budget refused
	Unit     Unit
	Limit    int64 // per minute, or at a time; 0 for budgets
	Wait     time.Duration
}

// Error says what refused.
func (r *Refusal) Error() string {
	switch r.Reason {
	case RateLimited:
		return fmt.Sprintf("the limit of %d %s per minute of this %s is reached", r.Limit, r.Unit, r.Kind)
	case TooMany:
		return fmt.Sprintf("this %s may have %d requests under way", r.Kind, r.Limit)
	case OverLimit:
		return fmt.Sprintf("the request is larger than the whole limit of %d %s per minute of this %s", r.Limit, r.Unit, r.Kind)
	case BudgetSpent:
		return fmt.Sprintf("the budget of %s of this %s is used up", r.Unit, r.Kind)
	case BalanceSpent:
		return "the balance is used up"
	case LimitsUnknown:
		return "limits cannot be checked now"
	case QuotaUnknown:
	}
	return "budgets cannot be checked now"
}

// Ticket is one admitted call. It is made by Admit in memory of the caller; Settle must be called exactly once. From one goroutine at a time.
type Ticket struct {
	m     *Meter
	s     *Subject
	also  []*Bucket
	held  Ask
	pools [budgetsMost]*pool
	state atomic.Int32 // ticketFree, ticketHeld, ticketSettled
}

const (
	ticketFree int32 = iota
	ticketHeld
	ticketSettled
)

// Admit charges the limits and reserves in the budgets of s: all or nothing. now is Meter.Now. A *Refusal says what stood in the way. While leases last it does no I/O and allocates nothing; a cold or nearly
// empty budget asks the grantor and waits, until ctx ends.
func (m *Meter) Admit(ctx context.Context, t *Ticket, now int64, s *Subject, a Ask) error {
	if t.state.Load() == ticketHeld {
		m.unsettled.Add(1)
	}
	t.m, t.s, t.also, t.held = m, s, a.Also, a
	t.held.Also = nil
	t.state.Store(ticketFree)
	for i, n := 0, len(s.Buckets)+len(a.Also); i < n; i++ {
		if r := m.take(ctx, t.bucket(i), now, &a); r != nil {
			t.giveBuckets(i)
			return r
		}
	}
	for i := range s.Budgets {
		p, r := m.reserve(ctx, s, i, now, &a)
		if r != nil {
			for j := range i {
				t.pools[j].free(a.of(s.Budgets[j].Unit))
			}
			t.giveBuckets(len(s.Buckets) + len(a.Also))
			return r
		}
		t.pools[i] = p
	}
	t.state.Store(ticketHeld)
	m.open.Add(1)
	return nil
}

func (t *Ticket) bucket(i int) *Bucket {
	if i < len(t.s.Buckets) {
		return t.s.Buckets[i]
	}
	return t.also[i-len(t.s.Buckets)]
}

// giveBuckets undoes the first n buckets.
func (t *Ticket) giveBuckets(n int) {
	for i := range n {
		b := t.bucket(i)
		if b.Unit == Concurrent {
			b.leave()
			continue
		}
		b.give(t.held.of(b.Unit))
	}
}

// Extend charges what a running call has consumed so far beyond its reservation: for streams, every two seconds. It never waits. A *Refusal says that a budget is used up: the caller decides whether the call
// goes on; what was consumed is charged in any case.
func (t *Ticket) Extend(used Ask) error {
	if t.state.Load() != ticketHeld {
		return nil
	}
	now := t.m.Now()
	if d := used.Tokens - t.held.Tokens; d > 0 {
		for i := range len(t.s.Buckets) + len(t.also) {
			if b := t.bucket(i); b.Unit == Tokens {
				b.force(now, d)
			}
		}
	}
	var refused error
	for i, b := range t.s.Budgets {
		if d := used.of(b.Unit) - t.held.of(b.Unit); d > 0 && !t.pools[i].extend(now, d) && refused == nil {
			refused = b.refusal(t.pools[i])
		}
	}
	t.held.Requests, t.held.Tokens, t.held.MoneyPico = max(t.held.Requests, used.Requests), max(t.held.Tokens, used.Tokens), max(t.held.MoneyPico, used.MoneyPico)
	return refused
}

// Settle ends the call with what it truly consumed: reservations become free, the true amount is spent. A second call changes nothing, counts as a bug and reports false.
func (t *Ticket) Settle(actual Ask) bool {
	if !t.state.CompareAndSwap(ticketHeld, ticketSettled) {
		if t.m != nil {
			t.m.unsettled.Add(1)
		}
		return false
	}
	now := t.m.Now()
	for i := range len(t.s.Buckets) + len(t.also) {
		b := t.bucket(i)
		switch d := actual.Tokens - t.held.Tokens; {
		case b.Unit == Concurrent:
			b.leave()
		case b.Unit != Tokens:
		case d > 0:
			b.force(now, d)
		case d < 0:
			b.give(-d)
		}
	}
	for i, b := range t.s.Budgets {
		t.pools[i].settle(t.held.of(b.Unit), actual.of(b.Unit))
		t.pools[i] = nil
	}
	t.m.open.Add(-1)
	t.s, t.also = nil, nil
	return true
}

// Held reports whether the ticket was admitted and waits to be settled.
func (t *Ticket) Held() bool { return t.state.Load() == ticketHeld }
