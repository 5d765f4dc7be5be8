package kernel

import (
	"encoding/binary"
	"math"

	"maas/internal/llm/quant"
)

// product is one MatMul in progress.
type product struct {
	y     []float32
	ldy   int
	w     *Weights
	a     *Acts
	level Level
}

// inlineBytes is the size of weights below which waking the workers costs more than it gains.
const inlineBytes = 64 << 10

// MatMul sets y[t*ldy+r] = sum over k of w[r,k]*x[t,k] for the rows t of a and the rows r of w. a was set for w's format, or for one with the same inputs ([SameActs]); ldy >= w.Rows().
// No allocation. p may be nil.
func MatMul(p *Pool, y []float32, ldy int, w *Weights, a *Acts) {
	matMul(p, Current(), y, ldy, w, a)
}

func matMul(p *Pool, level Level, y []float32, ldy int, w *Weights, a *Acts) {
	if a.kind != layouts[w.form].acts || a.cols != w.cols || ldy < w.rows || len(y) < (a.n-1)*ldy+w.rows {
		panic("kernel: shapes of a matrix product do not fit")
	}
	if a.n == 0 {
		return
	}
	panels := (w.rows + 15) / 16
	if p.Size() == 1 || len(w.data)*a.n < inlineBytes {
		m := product{y, ldy, w, a, level}
		m.run(0, panels)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.product = product{y, ldy, w, a, level}
	// About eight pieces a worker even out the differences between them; a piece is at least a quarter of the inline size.
	grain := max(panels/(8*p.workers), inlineBytes/4/(w.stride*a.n), 1)
	p.share(&p.product, panels, grain)
	p.product = product{}
}

// run computes the panels lo..hi for all tokens.
func (m *product) run(lo, hi int) {
	var acc [16]float32
	for panel := lo; panel < hi; panel++ {
		data, row := m.w.data[panel*m.w.stride:(panel+1)*m.w.stride], panel*16
		for t := range m.a.n {
			dotPanel(m.w.form, &acc, data, m.a, t)
			copy(m.y[t*m.ldy+row:t*m.ldy+min(row+16, m.w.rows)], acc[:])
		}
	}
}

// dotPanel is the definition of the product of one panel and one token.
func dotPanel(f form, acc *[16]float32, panel []byte, a *Acts, t int) {
	*acc = [16]float32{}
	switch f {
	case formF32, formF16, formBF16:
		dotFloat(f, acc, panel, a.x[t*a.cols:(t+1)*a.cols])
	case formQ8, formQ4, formQ8M:
		nb := a.cols / 32
		for b := range nb {
			l := layouts[f]
			dotBlock32(f, acc, panel[b*l.bytes:(b+1)*l.bytes], a.q[t*a.cols+32*b:][:32], a.d[t*nb+b], a.s[t*nb+b])
		}
	case formQ4K, formQ5K, formQ6K:
		nb := a.cols / 256
		for b := range nb {
			l := layouts[f]
			dotBlock256(f, acc, panel[b*l.bytes:(b+1)*l.bytes], a.q[t*a.cols+256*b:][:256], a.d[t*nb+b], a.s[(t*nb+b)*8:][:8])
		}
	}
}

func dotFloat(f form, acc *[16]float32, panel []byte, x []float32) {
	for k0 := 0; k0 < len(x); k0 += 256 {
		var sum [16]float32
		for k := k0; k < min(k0+256, len(x)); k++ {
			v := x[k]
			for r := range sum {
				var w float32
				switch f {
				case formF32:
					w = math.Float32frombits(binary.LittleEndian.Uint32(panel[k*64+r*4:]))
				case formF16:
					w = half(panel, k*32+r*2)
				default:
					w = quant.FromBF16(binary.LittleEndian.Uint16(panel[k*32+r*2:]))
				}
				sum[r] = fma32(w, v, sum[r])
			}
		}
		for r := range acc {
			acc[r] += sum[r]
		}
	}
}

// dotBlock32 adds one block of 32: neg is the negated sum of x.
func dotBlock32(f form, acc *[16]float32, b []byte, x []int8, dx float32, neg int32) {
	var q [256]int32
	for r := range acc {
		quants(f, &q, b, r)
		var sum int32
		for k, v := range x {
			sum += q[k] * int32(v)
		}
		acc[r] = fma32(float32(half(b, 2*r)*dx), float32(sum), acc[r])
		if f == formQ8M {
			acc[r] = fma32(half(b, 32+2*r), float32(dx*float32(-neg)), acc[r])
		}
	}
}

// dotBlock256 adds one block of 256: neg holds the negated sums of x per 32.
func dotBlock256(f form, acc *[16]float32, b []byte, x []int8, dx float32, neg []int32) {
	var q [256]int32
	for r := range acc {
		quants(f, &q, b, r)
		var s, m int32
		for k, v := range x {
			var sc int32
			if f == formQ6K {
				sc = int32(int8(b[32+k/16*16+r])) //nolint:gosec // scales are signed bytes
			} else {
				sc = int32(b[64+k/32*16+r])
			}
			s += sc * q[k] * int32(v)
		}
		acc[r] = fma32(float32(half(b, 2*r)*dx), float32(s), acc[r])
		if f == formQ6K {
			continue
		}
		for j, n := range neg {
			m -= int32(b[192+16*j+r]) * n
		}
		acc[r] = fma32(-float32(half(b, 32+2*r)*dx), float32(m), acc[r])
	}
}
