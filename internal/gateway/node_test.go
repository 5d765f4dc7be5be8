package gateway

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/clock"
	"maas/internal/platform/db/dbtest"
	"maas/internal/user"
)

// A copy of a data folder is refused while the original runs: it would book under the same name, and end calls that still run.
func TestCopiedFolderIsRefused(t *testing.T) {
	t.Parallel()
	d := dbtest.Open(t, tables...)
	dir := t.TempDir()
	r := newRigOn(t, d, filepath.Join(dir, "a"), []*upstream{newUpstream(t, "r0")})
	started := clock.Now()
	require.NoError(t, r.g.report(t.Context(), started))
	row := user.Usage{RequestID: requestID(t.Context()), At: started, TenantID: r.who.TenantID, Op: "chat", Model: model}
	running, err := r.g.journal.Begin(appendUsage(nil, &row))
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(filepath.Join(dir, "b"), os.DirFS(filepath.Join(dir, "a"))))
	deps := r.g.Deps
	deps.Metrics, deps.Dir = nil, filepath.Join(dir, "b")
	_, err = New(deps)
	require.ErrorIs(t, err, user.ErrNodeCopied)
	row.InFresh, row.OutText, row.End, row.Source, row.Status = 3, 4, user.EndDone, user.SourceUpstream, 200
	require.True(t, running.Close(appendUsage(nil, &row)))
	u := r.booked(row.RequestID)
	require.Equal(t, "done", u.End, "the copy did not end the call")
	require.Equal(t, int64(4), u.CompletionTokens)

	list, err := r.users.LiveNodes(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "ok", list[0].Grantor)
	require.WithinDuration(t, started, list[0].StartedAt, time.Second)
}
