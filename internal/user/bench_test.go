package user

import (
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/db/dbtest"
	"maas/internal/platform/id"
)

// BenchmarkRecord is the price of booking one call.
func BenchmarkRecord(b *testing.B) {
	w := &world{}
	d := dbtest.Open(b, tables...)
	w.Service = &Service{Deps: Deps{DB: d}, db: d.System(), metrics: newMetrics(nil)}
	w.Now, w.Log = w.clock, discard
	w.verifier = NewVerifier(w.Service, w.clock, discard)
	var batch Batch
	batch.Node = "n"
	b.ReportAllocs()
	for b.Loop() {
		batch.Rows = append(batch.Rows, Usage{RequestID: id.New("req"), At: w.clock(), TenantID: "ten_1", UserID: "usr_1", KeyID: "key_1", Op: "chat", Model: "m", DeploymentID: "dep_1", ReplicaID: "rep_1", Status: 200, End: EndDone, Source: SourceUpstream, Attempts: 1, InFresh: 10, OutText: 20})
		batch.Rows[len(batch.Rows)-1].At = id.Time(batch.Rows[len(batch.Rows)-1].RequestID)
		if len(batch.Rows) == 1000 {
			batch.Seq++
			require.NoError(b, w.Record(b.Context(), batch))
			batch.Rows = batch.Rows[:0]
		}
	}
}
