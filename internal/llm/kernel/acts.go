package kernel

import (
	"math"

	"maas/internal/llm/quant"
)

// actKind is the form in which weights want their inputs.
type actKind uint8

const (
	actF32 actKind = iota // float32
	act32                 // int8 in blocks of 32, scale in half precision
	act256                // int8 in blocks of 256, scale in float32, sums per 16 and per 32
)

// What goes with a block of integers: word 0 holds the bits of the float32 scale. Sums are negated, which is how the vector kernels start their accumulators.
const (
	aux32  = 2  // scale, sum
	aux256 = 24 // scale; words 4..7 the sums per 32 as pairs of int16; words 8..23 the sums per 16
)

// Acts holds the inputs of a matrix product in the form that a weight format wants. The zero value is ready; Set may be called again and again and only allocates when it grows.
type Acts struct {
	kind    actKind
	n, cols int
	x       []float32 // the caller's slice; read after Set only with actF32
	q       []int8    // [n][cols]
	aux     []int32   // [n][blocks][aux32 or aux256]: what goes with a block
}

// SameActs reports whether inputs set for one format serve weights of the other as well.
func SameActs(a, b quant.Type) bool {
	fa, oka := formOf(a)
	fb, okb := formOf(b)
	return oka && okb && layouts[fa].acts == layouts[fb].acts
}

// Set takes n rows of cols values for weights of format t, which must be one that Pack takes. With float weights x itself is kept, so it must stay unchanged until the last MatMul with a.
func (a *Acts) Set(t quant.Type, x []float32, n, cols int) { a.SetOn(nil, t, x, n, cols) }

// SetOn is Set with the workers of p, which many rows are worth. p may be nil.
func (a *Acts) SetOn(p *Pool, t quant.Type, x []float32, n, cols int) {
	f, ok := formOf(t)
	if !ok || len(x) < n*cols || cols%layouts[f].values != 0 {
		panic("kernel: inputs do not fit the weights")
	}
	a.kind, a.n, a.cols, a.x = layouts[f].acts, n, cols, x[:n*cols]
	if n == 0 {
		return
	}
	switch a.kind {
	case actF32:
		return
	case act32:
		a.q, a.aux = grow(a.q, n*cols), grow(a.aux, n*cols/32*aux32)
	case act256:
		a.q, a.aux = grow(a.q, n*cols), grow(a.aux, n*cols/256*aux256)
	}
	if p.Size() == 1 || n*cols < inlineBytes {
		a.run(0, n)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.share(a, n, max(1, n/(4*p.workers)))
}

// run quantizes the rows lo..hi.
func (a *Acts) run(lo, hi int) {
	x, q, words := a.x[lo*a.cols:hi*a.cols], a.q[lo*a.cols:hi*a.cols], len(a.aux)/a.n
	aux := a.aux[lo*words : hi*words]
	if a.kind == act32 {
		if !Current().quantize32(q, aux, x) {
			quantize32(q, aux, x)
		}
	} else if !Current().quantize256(q, aux, x) {
		quantize256(q, aux, x)
	}
}

// grow returns s with n elements, whose values are not kept.
func grow[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n, n+n/4)
	}
	return s[:n]
}

// quantize32 quantizes blocks of 32: d = amax/127 in half precision, q = round(x*(127/amax)) half to even.
func quantize32(q []int8, aux []int32, x []float32) {
	for ; len(x) >= 32; q, aux, x = q[32:], aux[aux32:], x[32:] {
		amax := absMax(x[:32])
		var inv float32
		if amax > 0 {
			inv = 127 / amax
		}
		aux[0] = bits32(quant.FromF16(quant.ToF16(amax / 127)))
		aux[1] = -roundAll(q[:32], x[:32], inv)
	}
}

// quantize256 quantizes blocks of 256: with m the signed value of the largest magnitude (the first on ties), q = round(x*(-127/m)) half to even and d = 1/(-127/m).
func quantize256(q []int8, aux []int32, x []float32) {
	for ; len(x) >= 256; q, aux, x = q[256:], aux[aux256:], x[256:] {
		amax := absMax(x[:256])
		var inv, d float32
		if amax > 0 {
			m := amax
			for _, v := range x[:256] {
				if v == amax || v == -amax {
					m = v
					break
				}
			}
			inv = -127 / m
			d = 1 / inv
		}
		aux[0] = bits32(d)
		for j := range 16 {
			aux[8+j] = -roundAll(q[16*j:16*j+16], x[16*j:16*j+16], inv)
		}
		for j := range 4 {
			lo, hi := aux[8+4*j]+aux[9+4*j], aux[10+4*j]+aux[11+4*j]
			aux[4+j] = lo&0xffff | hi<<16
		}
	}
}

func bits32(f float32) int32 { return int32(math.Float32bits(f)) }

func float32of(bits int32) float32 { return math.Float32frombits(uint32(bits)) }

// absMax returns the largest magnitude; 0 for none. NaN is passed over.
func absMax(x []float32) float32 {
	var m float32
	for _, v := range x {
		if a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31)); a > m {
			m = a
		}
	}
	return m
}

// roundAll sets q = round(x*inv) half to even, held in -127..127, and returns the sum of q. NaN counts as -127.
func roundAll(q []int8, x []float32, inv float32) int32 {
	var sum int32
	for i, v := range x {
		t := float32(v * inv)
		// A product outside of the range comes only from values that are not finite or an overflow of inv.
		if !(t >= -127) {
			t = -127
		}
		if t > 127 {
			t = 127
		}
		n := int32(math.Float32bits(t+expMagic)) - 0x4b400000
		q[i] = int8(n)
		sum += n
	}
	return sum
}
