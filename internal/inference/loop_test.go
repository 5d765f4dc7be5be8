package inference

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"maas/internal/platform/clock"
	"maas/internal/platform/db"
	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/id"
)

// BenchmarkRound500 is one round of the loop over 500 stopped deployments: idle is what an installation pays every two seconds, woken what a change costs.
func BenchmarkRound500(b *testing.B) {
	d := dbtest.Open(b, tables...)
	s, err := New(Deps{DB: d, Log: slog.New(slog.DiscardHandler), Now: clock.Now, Metrics: prometheus.NewRegistry(), Config: Defaults()})
	require.NoError(b, err)
	require.NoError(b, d.System().Tx(b.Context(), func(ctx context.Context, tx *db.Tx) error {
		for i := range 500 {
			x := newDeployment(id.New("dep"), "ten_a", fmt.Sprintf("d%03d", i), Spec{Engine: "fake", Context: 4096, Concurrency: 4}, "for a test", time.Now())
			x.Desired, x.Status = DesiredStopped, Stopped
			if err := s.store.insertDeployment(ctx, tx, x); err != nil {
				return err
			}
			r := newReplica(id.New("rep"), x, time.Now())
			r.State = RStopped
			if err := s.store.insertReplica(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	}))
	var seen string
	require.NoError(b, s.round(b.Context(), true, &seen))
	for name, woken := range map[string]bool{"idle": false, "woken": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := s.round(b.Context(), woken, &seen); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
