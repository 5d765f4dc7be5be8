package kernel

import "math"

// RMSNorm sets each row of dst to x/sqrt(mean(x^2)+eps)*w. A row has len(w) values and len(x) is a multiple of it: so w of a head's size norms every head. dst may be x.
func RMSNorm(dst, x, w []float32, eps float32) { Current().rmsNorm(dst, x, w, eps) }

func (l Level) rmsNorm(dst, x, w []float32, eps float32) {
	for n := len(w); len(x) > 0; dst, x = dst[n:], x[n:] {
		if !l.rmsRow(dst[:n], x[:n], w, eps) {
			rmsRow(dst[:n], x[:n], w, eps)
		}
	}
}

func rmsRow(dst, x, w []float32, eps float32) {
	var l [16]float32
	for k, v := range x {
		l[k&15] = fma32(v, v, l[k&15])
	}
	mean := tree(&l) / float32(len(x))
	scale := 1 / float32(math.Sqrt(float64(float32(mean+eps))))
	for k, v := range x {
		dst[k] = float32(float32(v*scale) * w[k])
	}
}

// Rope rotates the leading 2*len(cos) values of each head of x in halves: the pair (i, i+len(cos)) turns by the angle of (cos[i], sin[i]). len(x) is a multiple of headDim >= 2*len(cos).
func Rope(x []float32, headDim int, cos, sin []float32) {
	if sin = sin[:len(cos)]; !Current().rope(x, headDim, cos, sin) {
		rope(x, headDim, cos, sin)
	}
}

func rope(x []float32, headDim int, cos, sin []float32) {
	h := len(cos)
	for ; len(x) >= headDim; x = x[headDim:] {
		lo, hi := x[:h], x[h:2*h]
		for i, c := range cos {
			a, b, s := lo[i], hi[i], sin[i]
			lo[i] = fma32(a, c, -float32(b*s))
			hi[i] = fma32(b, c, float32(a*s))
		}
	}
}

// SiluMul sets dst = gate/(1+exp(-gate)) * up. dst may be gate or up. All have the same length.
func SiluMul(dst, gate, up []float32) {
	dst, up = dst[:len(gate)], up[:len(gate)]
	n := Current().siluMul(dst, gate, up)
	siluMul(dst[n:], gate[n:], up[n:])
}

func siluMul(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = float32(float32(g/(1+Exp(-g))) * up[i])
	}
}

// GeluMul sets dst = gelu(gate) * up in the tanh form. dst may be gate or up. All have the same length.
func GeluMul(dst, gate, up []float32) {
	const a, b = 0.044715, 0.79788456080286535588 // sqrt(2/pi)
	dst, up = dst[:len(gate)], up[:len(gate)]
	for i, g := range gate {
		inner := float32(float32(b*g) * fma32(float32(a*g), g, 1))
		dst[i] = float32(float32(float32(0.5*g)*(1+Tanh(inner))) * up[i])
	}
}

// Add sets dst += x. Both have the same length.
func Add(dst, x []float32) {
	dst = dst[:len(x)]
	n := Current().add(dst, x)
	dst = dst[n:]
	for i, v := range x[n:] {
		dst[i] += v
	}
}

// AddBias adds b to each row of x; len(x) is a multiple of len(b).
func AddBias(x, b []float32) {
	for ; len(x) >= len(b) && len(b) > 0; x = x[len(b):] {
		Add(x[:len(b)], b)
	}
}

// Scale sets x *= s.
func Scale(x []float32, s float32) {
	for i := range x {
		x[i] *= s
	}
}

// SoftCap sets x = limit*tanh(x/limit).
func SoftCap(x []float32, limit float32) {
	for i, v := range x {
		x[i] = limit * Tanh(v/limit)
	}
}

// Softmax sets x to exp(x-max)/sum. -Inf gives 0; all -Inf gives NaN.
func Softmax(x []float32) {
	s := ExpSum(x, Max(x))
	Scale(x, 1/s)
}

// ExpSum sets x = exp(x-m) and returns the sum: 16 partial sums by index mod 16, added as a tree.
func ExpSum(x []float32, m float32) float32 {
	if s, ok := Current().expSum(x, m); ok {
		return s
	}
	return expSum(x, m)
}

func expSum(x []float32, m float32) float32 {
	var l [16]float32
	for i, v := range x {
		e := Exp(v - m)
		x[i] = e
		l[i&15] += e
	}
	return tree(&l)
}

// ExpWeights sets dst = e^((x-top)*inverse), 0 where that exponent is not above -40, and returns the sum: 16 partial sums by index mod 16, added as a tree. top is the largest value of x, so no weight is
// above 1; what is cut off has less than 2^-57 of its probability. len(dst) >= len(x).
func ExpWeights(dst []float64, x []float32, top, inverse float64) float64 {
	dst = dst[:len(x)]
	if s, ok := Current().expWeights(dst, x, top, inverse); ok {
		return s
	}
	return expWeights(dst, x, top, inverse)
}

func expWeights(dst []float64, x []float32, top, inverse float64) float64 {
	var l [16]float64
	for i, v := range x {
		e := 0.0
		if d := float64((float64(v) - top) * inverse); d > -40 {
			e = Exp64(d)
		}
		dst[i] = e
		l[i&15] += e
	}
	for n := 8; n > 0; n /= 2 {
		for i := range n {
			l[i] += l[i+n]
		}
	}
	return l[0]
}

// Max returns the largest value; -Inf for no values. NaN is passed over.
func Max(x []float32) float32 {
	m := float32(math.Inf(-1))
	v, n := Current().largest(x)
	if n > 0 {
		m = v
	}
	return maximum(m, x[n:])
}

func maximum(m float32, x []float32) float32 {
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

// Argmax returns the index of the largest value, the lowest on ties; -1 if there is none (no values, or all NaN or -Inf).
func Argmax(x []float32) int {
	m := Max(x)
	if math.IsInf(float64(m), -1) {
		return -1
	}
	for i := Current().index(x, m); i < len(x); i++ {
		if x[i] == m {
			return i
		}
	}
	return -1
}
