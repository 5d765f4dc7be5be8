package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errClosed = New(Conflict, "faulttest.closed", "the thing is closed")

func TestErrorsAreEqualByCode(t *testing.T) {
	t.Parallel()
	e := errClosed.With("thing %d is closed", 7).WithHint("open it").After(time.Second).WithFields(Field{Name: "a", Code: "unknown", Message: "no"}).Wrap(errors.New("cause"))
	wrapped := fmt.Errorf("outer: %w", e)
	require.ErrorIs(t, wrapped, errClosed)
	require.NotErrorIs(t, wrapped, ErrInternal)
	require.Equal(t, Conflict, KindOf(wrapped))
	require.Equal(t, "thing 7 is closed", From(wrapped).Text())
	require.Equal(t, "the thing is closed", errClosed.Text(), "the value itself is unchanged")
	require.Empty(t, errClosed.Fields)
	require.Contains(t, e.Error(), "cause")
}

func TestOthersAreInternal(t *testing.T) {
	t.Parallel()
	require.Nil(t, From(nil))
	require.Equal(t, Internal, KindOf(errors.New("x")))
	require.ErrorIs(t, From(errors.New("x")), ErrInternal)
}

func TestWireKeepsTheErrorAndDropsTheCause(t *testing.T) {
	t.Parallel()
	e := errClosed.With("thing 7").WithFields(Field{Name: "n", Code: "out_of_range", Message: "too large", Limit: 5.0}).After(1500 * time.Millisecond).Wrap(errors.New("secret cause"))
	b := Encode(fmt.Errorf("outer: %w", e))
	require.NotContains(t, string(b), "secret")
	got := Decode(b)
	require.ErrorIs(t, got, errClosed)
	require.Equal(t, e.Fields, got.Fields)
	require.Equal(t, e.RetryAfter, got.RetryAfter)
	require.Equal(t, Conflict, got.Kind)
	for _, bad := range []string{"", "null", "{}", "[1]", "x"} {
		require.ErrorIs(t, Decode([]byte(bad)), ErrInternal, bad)
	}
}

func TestKindsHaveNames(t *testing.T) {
	t.Parallel()
	for k := Internal; k <= Unavailable; k++ {
		b, err := json.Marshal(k)
		require.NoError(t, err)
		var back Kind
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, k, back)
	}
	var k Kind = Limited
	require.NoError(t, k.UnmarshalText([]byte("no such kind")))
	require.Equal(t, Internal, k)
}

func TestBadCodesPanic(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"", "noreason", "Upper.case", ".x", "x.", "a b.c", "faulttest.closed"} {
		require.Panics(t, func() { New(Invalid, code, "x") }, code)
	}
}
