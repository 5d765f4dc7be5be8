package id

import (
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIdsAreUniqueAndSorted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			mine := make([]string, 5000) // more than the 4,096 that fit a millisecond's counter
			for i := range mine {
				mine[i] = New("dep")
			}
			if !sort.StringsAreSorted(mine) {
				t.Error("ids of one goroutine went back")
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range mine {
				if seen[s] {
					t.Errorf("%s twice", s)
				}
				seen[s] = true
			}
		})
	}
	wg.Wait()
}

func TestForm(t *testing.T) {
	t.Parallel()
	s := New("usr")
	require.True(t, Valid("usr", s), s)
	require.False(t, Valid("key", s))
	require.False(t, Valid("usr", s+"0"))
	require.False(t, Valid("usr", "usr_"+"G"+s[5:]))
	require.True(t, Valid("chatcmpl", NewWith("chatcmpl-")))
	require.WithinDuration(t, time.Now(), Time(s), time.Minute)
	require.True(t, Time("nonsense").IsZero())
	for _, bad := range []string{"", "usr", s[:len(s)-1], "Usr" + s[3:], "u" + s[3:], s[:3] + ":" + s[4:], s[:len(s)-1] + "g", s[:len(s)-1] + "A", "abcdefghijklm" + s[3:]} {
		require.False(t, Valid(bad[:max(0, len(bad)-33)], bad), bad)
		require.True(t, Time(bad).IsZero(), bad)
	}
	u := UUID()
	require.Equal(t, byte(7), u[6]>>4, "version")
	require.Equal(t, byte(2), u[8]>>6, "variant")
}
