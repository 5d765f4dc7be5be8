package ledger

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	p := Price{Input: 150_000, CachedInput: 75_000, Output: 600_000, Reasoning: 700_000, Request: 3}
	got, ok := p.Quote(Counts{Input: 1, CachedInput: 2, Output: 3, Reasoning: 4, Requests: 1})
	require.True(t, ok)
	require.Equal(t, int64(150_000+150_000+1_800_000+2_800_000+3_000_000), got)
	for _, c := range []Counts{{Input: -1}, {Requests: -1}, {Output: math.MaxInt64}} {
		_, ok := p.Quote(c)
		require.False(t, ok, "%+v", c)
	}
	_, ok = Price{Input: 1, Output: 1}.Quote(Counts{Input: math.MaxInt64, Output: 1})
	require.False(t, ok)
	_, ok = Price{Request: math.MaxInt64}.Quote(Counts{})
	require.False(t, ok)
}

// However a sum is cut into postings, what is posted and what is left make the exact sum.
func TestCarryLosesNothing(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var posted, rest int64
	exact := new(big.Int)
	for range 10_000 {
		p := Price{Input: r.Int64N(5_000_000), Output: r.Int64N(20_000_000), Request: r.Int64N(3)}
		pico, ok := p.Quote(Counts{Input: r.Int64N(9_000), Output: r.Int64N(900), Requests: 1})
		require.True(t, ok)
		exact.Add(exact, big.NewInt(pico))
		micro, left, ok := Carry(rest, pico)
		require.True(t, ok)
		posted, rest = posted+micro, left
		sum := new(big.Int).Mul(big.NewInt(posted), big.NewInt(PicoPerMicro))
		require.Zero(t, exact.Cmp(sum.Add(sum, big.NewInt(rest))))
		require.True(t, rest >= 0 && rest < PicoPerMicro)
	}
	for _, c := range [][2]int64{{-1, 0}, {PicoPerMicro, 0}, {0, -1}, {1, math.MaxInt64}} {
		_, _, ok := Carry(c[0], c[1])
		require.False(t, ok, "%v", c)
	}
}
