// Package event carries typed domain events between services: written to an outbox in the transaction of the change, applied by every subscribed group at least once, with its effect once.
//
// A handler runs in a transaction of its own together with the inbox row that says the group has seen the event; so what it writes through that transaction happens exactly once. A failing handler does not
// stop the others: its event becomes a job (`event.redeliver.<group>`) with back-off and ends on the dead-letter page. Events of one key may arrive out of order after such a failure: handlers compare revisions.
//
// Several processes may share one database without a broker: each applies the rows of the outbox that its own groups have not seen; a row is sent when every known group has.
package event

import (
	"context"
	"embed"
	"encoding/json"
	"slices"

	"maas/internal/platform/auth"
	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
)

// Migrations are the tables of this package, service name "event". The tables of package job are needed too.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Errors of this package.
var (
	ErrTooLarge = fault.New(fault.TooLarge, "event.too_large", "an event holds at most 128 KiB")
	ErrNoTopic  = fault.New(fault.NotFound, "event.no_topic", "the subscriber of the event does not take its topic any more")
)

const maxData = 128 << 10

// Event is a fact about one object, as a struct with value receivers that JSON can hold, at most 128 KiB. Fields are only ever added.
type Event interface {
	Topic() string // `<service>.<noun>.<past participle>`: a constant of the type, asked on its zero value too
	Key() string   // id of the object
}

// Registry holds the subscriptions of this process. Fill it before the relay runs.
type Registry struct {
	groups []*group
}

type group struct {
	name string
	subs map[string]func(ctx context.Context, tx *db.Tx, data []byte) error // by topic
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{} }

// Topics returns the topics that are subscribed to, sorted.
func (r *Registry) Topics() []string {
	var topics []string
	for _, g := range r.groups {
		topics = append(topics, g.topics()...)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

func (g *group) topics() []string {
	topics := make([]string, 0, len(g.subs))
	for t := range g.subs {
		topics = append(topics, t)
	}
	slices.Sort(topics)
	return topics
}

func (r *Registry) group(name string) *group {
	for _, g := range r.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// wake is the name of the wake-up after a commit with events (db.DB.Listen).
const wake = "event.published"

// Publish writes e to the outbox in tx, under the tenant of ctx ("" for events of the installation). It is delivered if tx commits. ErrTooLarge.
func Publish(ctx context.Context, tx *db.Tx, e Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if len(data) > maxData {
		return ErrTooLarge.With("the event %s has %d bytes, over the limit of %d", e.Topic(), len(data), maxData)
	}
	_, err = tx.Exec(ctx, `INSERT INTO event_outbox (id, tenant_id, topic, key, data, at) VALUES ($1, $2, $3, $4, $5, $6)`, id.New("evt"), auth.Tenant(ctx), e.Topic(), e.Key(), string(data), db.Micro(clock.Now()))
	if err == nil {
		tx.Notify(wake)
	}
	return err
}

// Subscribe has group apply each event of type E: f runs as the system inside the event's tenant, in a transaction with the inbox row, so its writes happen once. f calls nothing outside the transaction (it
// may be repeated); longer work it enqueues as a job. group is `<service>.<what>` and part of the stored state: a new name is a new subscriber, which gets what is published from its first start on. Subscribing
// a group twice to a topic panics.
func Subscribe[E Event](r *Registry, name string, f func(ctx context.Context, tx *db.Tx, e E) error) {
	var zero E
	g := r.group(name)
	if g == nil {
		g = &group{name: name, subs: map[string]func(context.Context, *db.Tx, []byte) error{}}
		r.groups = append(r.groups, g)
	}
	if g.subs[zero.Topic()] != nil {
		panic("event: " + name + " subscribes twice to " + zero.Topic())
	}
	g.subs[zero.Topic()] = func(ctx context.Context, tx *db.Tx, data []byte) error {
		var e E
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		return f(ctx, tx, e)
	}
}
