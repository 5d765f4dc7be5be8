package page

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func keysOf(n int) []string { return []string{strconv.Itoa(n), "id" + strconv.Itoa(n)} }

func TestCursorLeadsToTheNextPage(t *testing.T) {
	t.Parallel()
	l := Of([]int{1, 2, 3}, 2, "state=open", keysOf)
	require.Equal(t, []int{1, 2}, l.Items)
	keys, err := Decode("state=open", *l.Next, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"2", "id2"}, keys)
	require.Nil(t, Of([]int{1, 2}, 2, "", keysOf).Next)
	require.Equal(t, []int{}, Of[int](nil, 2, "", keysOf).Items, "an empty list is [] and not null")
}

func TestForeignCursorsAreRefused(t *testing.T) {
	t.Parallel()
	c := Encode("state=open", "2", "id2")
	for name, try := range map[string]func() ([]string, error){
		"other filter": func() ([]string, error) { return Decode("state=closed", c, 2) },
		"other shape":  func() ([]string, error) { return Decode("state=open", c, 1) },
		"altered":      func() ([]string, error) { return Decode("state=open", c[:len(c)-2]+"xx", 2) },
		"garbage":      func() ([]string, error) { return Decode("state=open", "%%%", 2) },
		"huge":         func() ([]string, error) { return Decode("state=open", strings.Repeat("A", 5000), 2) },
	} {
		_, err := try()
		require.ErrorIs(t, err, ErrBadCursor, name)
	}
	keys, err := Decode("x", "", 2)
	require.NoError(t, err)
	require.Nil(t, keys)
}

func TestLimit(t *testing.T) {
	t.Parallel()
	require.Equal(t, DefaultLimit, Limit(0))
	require.Equal(t, DefaultLimit, Limit(-5))
	require.Equal(t, 7, Limit(7))
	require.Equal(t, MaxLimit, Limit(100000))
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode("f", "a", "b"), "f")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, cursor, filter string) {
		keys, err := Decode(filter, cursor, 2)
		if err == nil && cursor != "" {
			again, err := Decode(filter, Encode(filter, keys...), 2)
			require.NoError(t, err)
			require.Equal(t, keys, again)
		}
	})
}
