package kernel

// The functions below run what they can of a row in assembly and return how many values that was; the caller does the rest in Go.

func (l Level) siluMul(dst, gate, up []float32) int {
	n := len(gate) &^ 7
	if n == 0 || l == Generic {
		return 0
	}
	siluMulAVX2(&dst[0], &gate[0], &up[0], n)
	return n
}

func (l Level) rmsRow(dst, x, w []float32, eps float32) bool {
	n := len(x)
	if n == 0 || n%16 != 0 || l == Generic {
		return false
	}
	rmsNormAVX2(&dst[0], &x[0], &w[0], n, eps)
	return true
}

func (l Level) rope(x []float32, headDim int, cos, sin []float32) bool {
	if len(cos) == 0 || len(cos)%8 != 0 || len(x) < headDim || l == Generic {
		return false
	}
	ropeAVX2(&x[0], len(x)/headDim, headDim, &cos[0], &sin[0], len(cos))
	return true
}

func (l Level) add(dst, x []float32) int {
	n := len(x) &^ 7
	if n == 0 || l == Generic {
		return 0
	}
	addAVX2(&dst[0], &x[0], n)
	return n
}

func (l Level) toF16(dst []uint16, src []float32) int {
	n := len(src) &^ 7
	if n == 0 || l == Generic {
		return 0
	}
	toF16AVX2(&dst[0], &src[0], n)
	return n
}

func (l Level) expSum(x []float32, m float32) (sum float32, ok bool) {
	if len(x) == 0 || len(x)%16 != 0 || l == Generic {
		return 0, false
	}
	return expSumAVX2(&x[0], len(x), m), true
}

func (l Level) quantize32(q []int8, aux []int32, x []float32) bool {
	if len(x) < 32 || l == Generic {
		return false
	}
	quantize32AVX2(&q[0], &aux[0], &x[0], len(x)/32)
	return true
}

func (l Level) quantize256(q []int8, aux []int32, x []float32) bool {
	if len(x) < 256 || l == Generic {
		return false
	}
	quantize256AVX2(&q[0], &aux[0], &x[0], len(x)/256)
	return true
}

// attends reports whether heads of that size have assembly.
func (l Level) attends(headDim int) bool { return l != Generic && headDim%8 == 0 }

func (c *KV) scoresVector(s *[PageLen]float32, q []float32, at int) {
	if c.shape.Half {
		scoresF16AVX2(&s[0], &q[0], &c.half[at], len(q))
	} else {
		scoresF32AVX2(&s[0], &q[0], &c.full[at], len(q))
	}
}

func softPageVector(s *[PageLen]float32, scale, m float32) (top, fade, sum float32) {
	return softPageAVX2(&s[0], scale, m)
}

func (c *KV) valuesVector(out []float32, s []float32, at int, fade float32) {
	if c.shape.Half {
		valuesF16AVX2(&out[0], &s[0], &c.half[at], len(out), len(s), fade)
	} else {
		valuesF32AVX2(&out[0], &s[0], &c.full[at], len(out), len(s), fade)
	}
}

// attends4 reports whether four heads of that size at once have assembly.
func (l Level) attends4(headDim int) bool {
	return (l == AVX512 || l == AVX512VNNI) && headDim%16 == 0 && headDim <= maxDim4
}

func (c *KV) scores4(s *[4][PageLen]float32, q []float32, at int) {
	if c.shape.Half {
		scoresF16x4(&s[0][0], &q[0], &c.half[at], len(q)/4)
	} else {
		scoresF32x4(&s[0][0], &q[0], &c.full[at], len(q)/4)
	}
}

func (c *KV) values4(out []float32, s *[4][PageLen]float32, lo, hi, at int, fade *[4]float32) {
	dim := len(out) / 4
	if c.shape.Half {
		valuesF16x4(&out[0], &s[0][lo], &c.half[at+lo*dim], dim, hi-lo, &fade[0])
	} else {
		valuesF32x4(&out[0], &s[0][lo], &c.full[at+lo*dim], dim, hi-lo, &fade[0])
	}
}

func (l Level) expWeights(dst []float64, x []float32, top, inverse float64) (sum float64, ok bool) {
	if len(x) == 0 || len(x)%16 != 0 || l == Generic {
		return 0, false
	}
	return expWeightsAVX2(&dst[0], &x[0], len(x), top, inverse), true
}

// largest returns the largest of the leading values, and how many they were.
func (l Level) largest(x []float32) (m float32, n int) {
	if n = len(x) &^ 31; n == 0 || l == Generic {
		return 0, 0
	}
	return maxAVX2(&x[0], n), n
}

// index returns where v is first, or a place not behind it from which to look on.
func (l Level) index(x []float32, v float32) int {
	n := len(x) &^ 7
	if n == 0 || l == Generic {
		return 0
	}
	return indexAVX2(&x[0], n, v)
}
