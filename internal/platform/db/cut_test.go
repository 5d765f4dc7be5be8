package db

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCutText(t *testing.T) {
	t.Parallel()
	text := "a\n-- +maas sqlite\nb\n-- +maas end\n-- +maas postgres\nc\n-- +maas end\nd"
	got, err := cutText([]byte(text), SQLite)
	require.NoError(t, err)
	require.Equal(t, "a\nb\nd", string(got))
	got, err = cutText([]byte(text), Postgres)
	require.NoError(t, err)
	require.Equal(t, "a\nc\nd", string(got))
	for _, bad := range []string{"-- +maas mysql\n", "-- +maas end\n", "-- +maas sqlite\n-- +maas postgres\n", "-- +maas sqlite\n"} {
		_, err := cutText([]byte(bad), SQLite)
		require.Error(t, err, bad)
	}
}

func TestIn(t *testing.T) {
	t.Parallel()
	require.Equal(t, "$3,$4,$5", In(3, 3))
	require.Equal(t, "NULL", In(1, 0))
	require.Equal(t, []any{"t", 1, 2}, Args([]int{1, 2}, "t"))
}
