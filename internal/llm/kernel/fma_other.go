//go:build !arm64

package kernel

import "math"

// fma32 returns a*b+c rounded once to float32: the product is exact in float64, and the sum is only rounded twice when that cannot change the result.
// A value between two float32 that the sum in float64 hits exactly may be a rounded one; only then the lost part decides.
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	s := p + float64(c)
	if u := math.Float64bits(s); u&0x1fffffff == 0x10000000 || u>>52&0x7ff < 897 {
		return fmaOdd(p, float64(c), s)
	}
	return float32(s)
}

// fmaOdd returns p+c rounded once to float32, s being their sum in float64: the exact error of s (Knuth's TwoSum) makes its last bit odd, after which the second rounding is right.
func fmaOdd(p, c, s float64) float32 {
	if math.IsInf(s, 0) || s != s {
		return float32(s)
	}
	b := s - p
	err := (p - (s - b)) + (c - b)
	if u := math.Float64bits(s); err != 0 && u&1 == 0 {
		if (err > 0) == (s > 0) {
			u++
		} else {
			u--
		}
		s = math.Float64frombits(u)
	}
	return float32(s)
}
