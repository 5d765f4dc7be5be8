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
