package run

import "math"

// expTable holds 2^(i/32). Square roots and products are rounded alike on every machine.
var expTable = func() (t [32]float64) {
	root := [5]float64{}
	x := 2.0
	for i := range root {
		x = math.Sqrt(x)
		root[i] = x // 2^(1/2), 2^(1/4) .. 2^(1/32)
	}
	for i := range t {
		t[i] = 1
		for b := range root {
			if i>>(4-b)&1 != 0 {
				t[i] = float64(t[i] * root[b])
			}
		}
	}
	return t
}()

// exp64 is e^x for x <= 0 with a relative error under 1e-11. math.Exp chooses between two algorithms by processor; this one has one sequence of roundings everywhere, which sampling by seed relies on. The
// explicit conversions keep the compiler from fusing.
func exp64(x float64) float64 {
	if !(x > -700) {
		return 0
	}
	const (
		perOctave = 32 * 1.44269504088896338700e+00
		stepHi    = 6.93147180369123816490e-01 / 32
		stepLo    = 1.90821492927058770002e-10 / 32
		magic     = 1.5 * (1 << 52) // adding it rounds to an integer
	)
	f := float64(x*perOctave) + magic
	n := int64(math.Float64bits(f)) - int64(math.Float64bits(magic))
	f -= magic
	r := float64(x-float64(f*stepHi)) - float64(f*stepLo)
	p := float64(r*(1.0/24)) + 1.0/6
	p = float64(p*r) + 0.5
	p = float64(p*r) + 1
	p = float64(p*r) + 1
	return math.Float64frombits(math.Float64bits(float64(expTable[n&31]*p)) + uint64(n>>5)<<52)
}
