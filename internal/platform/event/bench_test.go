package event_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/auth"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/event"
	"maas/internal/platform/event/eventtest"
)

// A transaction of one row, alone and with an event; and the time from the commit to the handler's.
func BenchmarkPublish(b *testing.B) {
	for name, open := range map[string]func(testing.TB, ...dbtest.Source) *db.DB{"sqlite": dbtest.Open, "postgres": dbtest.OpenPostgres} {
		change := func(d *db.DB, n int, publish bool) error {
			return d.Tx(auth.AsSystem(b.Context(), "t1"), func(ctx context.Context, tx *db.Tx) error {
				if _, err := tx.Exec(ctx, `INSERT INTO probe_thing (id, tenant_id, name) VALUES ($1, 't1', $1)`, fmt.Sprint("p", n)); err != nil || !publish {
					return err
				}
				return event.Publish(ctx, tx, moved{"x"})
			})
		}
		tables := append([]dbtest.Source{dbtest.Probe}, eventtest.Tables...)
		for _, publish := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/event=%v", name, publish), func(b *testing.B) {
				d := open(b, tables...)
				for n := 0; b.Loop(); n++ {
					require.NoError(b, change(d, n, publish))
				}
			})
		}
		b.Run(name+"/delivery", func(b *testing.B) {
			d := open(b, tables...)
			got := make(chan struct{}, 1)
			r := event.NewRegistry()
			event.Subscribe(r, "probe.bench", func(_ context.Context, tx *db.Tx, _ moved) error {
				tx.After(func() { got <- struct{}{} })
				return nil
			})
			l := &event.Relay{DB: d, Registry: r, Log: slog.New(slog.DiscardHandler), Poll: 50 * time.Millisecond}
			eventtest.Run(b, l.Run)
			require.NoError(b, change(d, -1, true))
			for n := 0; b.Loop(); n++ {
				require.NoError(b, change(d, n, true))
				<-got
			}
		})
	}
}
