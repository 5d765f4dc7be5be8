// Package event carries typed domain events between services: written to an outbox in the transaction of the change, applied by every subscribed group at least once, with its effect once.
//
// A handler runs in a transaction of its own together with the inbox row that says the group has seen the event; so what it writes through that transaction happens exactly once. A failing handler does not
// stop the others: its event becomes a job (`event.redeliver`) with back-off and ends on the dead-letter page. Events of one key may arrive out of order after such a failure: handlers compare revisions.
//
// Several processes may share one database without a broker: each applies the rows of the outbox that its own groups have not seen.
package event

import (
	"context"

	"maas/internal/platform/db"
)

// Event is a fact about one object, as a struct with value receivers that JSON can hold. Fields are only ever added.
type Event interface {
	Topic() string // `<service>.<noun>.<past participle>`: a constant of the type, asked on its zero value too
	Key() string   // id of the object
}

// Registry holds the subscriptions of this process. Fill it before the relay runs.
type Registry struct {
	subs map[string][]subscription // by topic
}

type subscription struct {
	topic, group string
	apply        func(ctx context.Context, tx *db.Tx, data []byte) error
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{subs: map[string][]subscription{}} }

// Publish writes e to the outbox in tx, under the tenant of ctx ("" for events of the installation). It is delivered if tx commits.
func Publish(ctx context.Context, tx *db.Tx, e Event) error { panic("filled next") }

// Subscribe has group apply each event of type E: f runs once per event, as the system inside the event's tenant, in a transaction with the inbox row. group is `<service>.<what>` and part of the stored state:
// renaming it means a new subscriber. One group subscribes to a topic once; a second time panics.
func Subscribe[E Event](r *Registry, group string, f func(ctx context.Context, tx *db.Tx, e E) error) {
	panic("filled next")
}
