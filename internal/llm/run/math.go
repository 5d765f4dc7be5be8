package run

import "math"

// exp64 is e^x for x <= 0 with a relative error under 1e-15. math.Exp chooses between two algorithms by processor; this one has one sequence of roundings everywhere, which sampling by seed relies on. The
// explicit conversions keep the compiler from fusing.
func exp64(x float64) float64 {
	if x < -708 {
		return 0
	}
	const (
		log2e = 1.44269504088896338700e+00
		ln2hi = 6.93147180369123816490e-01
		ln2lo = 1.90821492927058770002e-10
	)
	k := math.RoundToEven(float64(x * log2e))
	r := x - float64(k*ln2hi)
	r -= float64(k * ln2lo)
	p := 1.0 / 6227020800
	for _, c := range expTerms {
		p = float64(p*r) + c
	}
	return math.Float64frombits(math.Float64bits(p) + uint64(int64(k))<<52) //nolint:gosec // adds k to the exponent; the result is normal for x >= -708
}

// expTerms are 1/12! .. 1/0!.
var expTerms = [...]float64{1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1}
