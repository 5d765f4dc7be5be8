package kernel

import (
	"math"

	"maas/internal/llm/quant"
)

// Constants of exp: log2(e), ln 2 in two parts, and the polynomial of (e^r-1-r)/r^2 on |r| <= ln(2)/2 (Cephes expf).
const (
	expLo    = -87.33654
	expHi    = 88.02969
	expLog2e = 1.44269504
	expMagic = 12582912 // 1.5 * 2^23: adding it rounds to an integer
	expLn2Hi = 0.693359375
	expLn2Lo = -2.12194440e-4
	expC0    = 1.9875691500e-4
	expC1    = 1.3981999507e-3
	expC2    = 8.3334519073e-3
	expC3    = 4.1665795894e-2
	expC4    = 1.6666665459e-1
	expC5    = 5.0000001201e-1
)

// Exp returns e^x with a relative error below 2^-22. It is 0 below -87.33654 (no subnormal results) and +Inf above 88.02969; NaN stays NaN.
func Exp(x float32) float32 {
	if x < expLo {
		return 0
	}
	if x > expHi {
		return float32(math.Inf(1))
	}
	t := fma32(x, expLog2e, expMagic)
	n := t - expMagic
	r := fma32(n, -expLn2Hi, x)
	r = fma32(n, -expLn2Lo, r)
	p := fma32(expC0, r, expC1)
	p = fma32(p, r, expC2)
	p = fma32(p, r, expC3)
	p = fma32(p, r, expC4)
	p = fma32(p, r, expC5)
	p = fma32(p, float32(r*r), float32(r+1))
	return float32(p * math.Float32frombits(math.Float32bits(t)<<23+0x3f800000))
}

// Exp64 is e^x for -708 <= x <= 0 with a relative error under 1e-15; 0 below. It has one sequence of roundings on every machine, which drawing by seed relies on: the explicit conversions keep the compiler
// from fusing.
func Exp64(x float64) float64 {
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
	for _, c := range exp64Terms {
		p = float64(p*r) + c
	}
	return math.Float64frombits(math.Float64bits(p) + uint64(int64(k))<<52) // the result is normal
}

// exp64Terms are 1/12! .. 1/0!.
var exp64Terms = [...]float64{1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1}

// Tanh returns the hyperbolic tangent with an absolute error below 2^-22.
func Tanh(x float32) float32 { return 1 - 2/(Exp(float32(2*x))+1) }

// ToF16 sets dst to src in half precision, rounded half to even. len(dst) >= len(src).
func ToF16(dst []uint16, src []float32) {
	dst = dst[:len(src)]
	for i := Current().toF16(dst, src); i < len(src); i++ {
		dst[i] = quant.ToF16(src[i])
	}
}

// FromF16 widens src exactly. len(dst) >= len(src).
func FromF16(dst []float32, src []uint16) {
	dst = dst[:len(src)]
	for i, h := range src {
		dst[i] = quant.FromF16(h)
	}
}

// tree adds 16 partial sums as 8-4-2-1.
func tree(l *[16]float32) float32 {
	for n := 8; n > 0; n /= 2 {
		for i := range n {
			l[i] += l[i+n]
		}
	}
	return l[0]
}
