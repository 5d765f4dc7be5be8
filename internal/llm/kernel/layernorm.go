package kernel

import "math"

// LayerNorm sets each row of dst to (x-mean(x))/sqrt(var(x)+eps)*w+b. A row has len(w) values and len(x) is a multiple of it. dst may be x. Source: Ba et al. 2016 (arXiv 1607.06450).
func LayerNorm(dst, x, w, b []float32, eps float32) {
	for n := len(w); len(x) > 0; dst, x = dst[n:], x[n:] {
		layerRow(dst[:n], x[:n], w, b[:n], eps)
	}
}

func layerRow(dst, x, w, b []float32, eps float32) {
	var l [16]float32
	for k, v := range x {
		l[k&15] += v
	}
	mean := tree(&l) / float32(len(x))
	clear(l[:])
	for k, v := range x {
		d := v - mean
		l[k&15] = fma32(d, d, l[k&15])
	}
	scale := 1 / float32(math.Sqrt(float64(tree(&l)/float32(len(x)))+float64(eps)))
	for k, v := range x {
		dst[k] = fma32(float32((v-mean)*scale), w[k], b[k])
	}
}

// Gelu sets x = x/2*(1+erf(x/sqrt(2))): the form with the error function, which BERT models use. The error function is that of Abramowitz and Stegun 7.1.26, off by at most 1.5e-7.
func Gelu(x []float32) {
	const (
		p              = 0.3275911
		a1, a2, a3     = 0.254829592, -0.284496736, 1.421413741
		a4, a5         = -1.453152027, 1.061405429
		inverseOfRoot2 = 0.70710678118654752440
	)
	for i, v := range x {
		z := float32(v * inverseOfRoot2)
		y := z
		if y < 0 {
			y = -y
		}
		t := 1 / fma32(p, y, 1)
		s := fma32(a5, t, a4)
		s = fma32(s, t, a3)
		s = fma32(s, t, a2)
		s = fma32(s, t, a1)
		tail := float32(float32(s*t) * Exp(-float32(y*y))) // 1-erf(|z|)
		if z < 0 {
			x[i] = float32(0.5*v) * tail
		} else {
			x[i] = float32(0.5*v) * (2 - tail)
		}
	}
}

// GeluTanh sets x = x/2*(1+tanh(sqrt(2/pi)*(x+0.044715*x^3))). Source: Hendrycks and Gimpel 2016 (arXiv 1606.08415).
func GeluTanh(x []float32) {
	const a, b = 0.044715, 0.79788456080286535588 // sqrt(2/pi)
	for i, g := range x {
		inner := float32(float32(b*g) * fma32(float32(a*g), g, 1))
		x[i] = float32(float32(0.5*g) * (1 + Tanh(inner)))
	}
}
