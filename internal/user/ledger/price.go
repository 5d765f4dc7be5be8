package ledger

import (
	"math"
	"math/bits"
)

// PicoPerMicro is how many pico-units, in which calls are priced, make one micro-unit, in which accounts are kept.
const PicoPerMicro = 1_000_000

// Price is what calls of a model cost. Token prices are micro-units of the tenant's currency per million tokens, so tokens times price is pico-units without division.
type Price struct {
	Input       int64 `json:"input"`        // fresh input tokens
	CachedInput int64 `json:"cached_input"` // input tokens the engine had in its cache
	Output      int64 `json:"output"`       // output tokens but reasoning
	Reasoning   int64 `json:"reasoning"`    // reasoning tokens
	Request     int64 `json:"request"`      // micro-units per call
}

// Counts is what one call used. The four token counts are disjoint.
type Counts struct{ Input, CachedInput, Output, Reasoning, Requests int64 }

// Quote returns the amount of c in pico-units; false if a price or count is negative or the amount does not fit.
func (p Price) Quote(c Counts) (int64, bool) {
	request, ok := times(p.Request, PicoPerMicro)
	if !ok {
		return 0, false
	}
	var sum int64
	for _, f := range [...][2]int64{{p.Input, c.Input}, {p.CachedInput, c.CachedInput}, {p.Output, c.Output}, {p.Reasoning, c.Reasoning}, {request, c.Requests}} {
		part, ok := times(f[0], f[1])
		if !ok || part > math.MaxInt64-sum {
			return 0, false
		}
		sum += part
	}
	return sum, true
}

// Carry adds an amount to what an earlier posting left over: the whole micro-units to post now, and the rest (0 to 999,999 pico-units) to keep.
// False if an amount is negative, the rest is out of range, or the sum does not fit.
func Carry(rest, pico int64) (micro, left int64, ok bool) {
	if rest < 0 || rest >= PicoPerMicro || pico < 0 || pico > math.MaxInt64-rest {
		return 0, 0, false
	}
	sum := rest + pico
	return sum / PicoPerMicro, sum % PicoPerMicro, true
}

// times multiplies two amounts that are not negative; false if one is or the product does not fit.
func times(a, b int64) (int64, bool) {
	if a < 0 || b < 0 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	return int64(lo), true
}

// mul multiplies amounts that are not negative.
func mul(a, b int64) (hi, lo uint64) { return bits.Mul64(uint64(a), uint64(b)) }
