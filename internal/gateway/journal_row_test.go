package gateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"maas/internal/user"
)

// A journal may hold rows of the program before the last update: they lack project, provider and price, and read all the same.
func TestRowsOfAnOlderJournal(t *testing.T) {
	t.Parallel()
	u := user.Usage{RequestID: "req_1", At: time.Unix(7, 0).UTC(), TenantID: "ten_1", Source: user.SourceUpstream, InFresh: 3, OutText: 4}
	b := appendUsage(nil, &u)
	marker := len(user.SourceUpstream)
	at := 1
	for range 11 { // the texts of the first form
		at += 1 + int(b[at])
	}
	require.Equal(t, user.SourceUpstream, string(b[at-marker:at]))
	require.Equal(t, []byte{0, 0, 0}, b[at:at+3])
	first := append(append([]byte{rowFirst}, b[1:at]...), b[at+3:]...)
	got, err := decodeUsage(first)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(u, got))
	u.ProjectID, u.ProviderID, u.PriceVersion = "prj_1", "prv_1", "prc_1"
	u.Lost = []user.Lost{{ProviderID: "prv_2", InFresh: 1, InCache: 2, OutText: 3, OutReasoning: 4}, {InFresh: 300}}
	got, err = decodeUsage(appendUsage(nil, &u))
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(u, got))
}
