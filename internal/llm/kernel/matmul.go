package kernel

import (
	"encoding/binary"
	"math"
	"sync"
	"unsafe"

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

// tile is an assembly kernel: y[t*ldy+16*p : +16] for t = 0..T-1 and p = 0..panels-1, from panels of nb blocks (nb values for float weights) that follow each other at w, and from T rows of inputs. ldy is in bytes.
type tile func(y *float32, ldy int, w *byte, nb int, x *byte, aux *int32, panels int)

// Bytes of weights of one call of a tile: long enough that the call costs nothing, short enough to stay below 100 us, and within the second-level cache when several tiles of inputs pass over them.
const (
	streamBytes = 512 << 10
	cacheBytes  = 64 << 10
)

var edges = sync.Pool{New: func() any { return new([8 * 16]float32) }}

// run computes the panels lo..hi for all tokens.
func (m *product) run(lo, hi int) {
	tiles := tilesOf(m.level, m.w.form)
	if tiles == nil {
		m.runGeneric(lo, hi)
		return
	}
	size := cacheBytes
	if m.a.n <= 1<<(len(tiles)-1) {
		size = streamBytes
	}
	step := max(1, size/m.w.stride)
	whole := min(hi, m.w.rows/16)
	for ; lo < whole; lo += step {
		m.tokens(tiles, lo, min(step, whole-lo), m.y[lo*16:], m.ldy, 0, m.a.n)
	}
	if whole == hi {
		return
	}
	// The last panel has rows that do not exist: its results take a detour.
	edge := edges.Get().(*[8 * 16]float32) //nolint:errcheck,forcetypeassert // only this type is in the pool
	for t := 0; t < m.a.n; t += 8 {
		n := min(8, m.a.n-t)
		m.tokens(tiles, whole, 1, edge[:], 16, t, n)
		for i := range n {
			copy(m.y[(t+i)*m.ldy+whole*16:(t+i)*m.ldy+m.w.rows], edge[16*i:])
		}
	}
	edges.Put(edge)
}

// tokens computes panels for the tokens t..t+n. y is where the first panel of the first token goes.
func (m *product) tokens(tiles []tile, panel, panels int, y []float32, ldy, t, n int) {
	a, l := m.a, layouts[m.w.form]
	nb := a.cols / l.values
	w := &m.w.data[panel*m.w.stride]
	for at, k := 0, len(tiles)-1; at < n; {
		for 1<<k > n-at {
			k--
		}
		var x *byte
		var aux *int32
		if l.acts == actF32 {
			x = (*byte)(unsafe.Pointer(&a.x[(t+at)*a.cols]))
		} else {
			x = (*byte)(unsafe.Pointer(&a.q[(t+at)*a.cols]))
			aux = &a.aux[(t+at)*len(a.aux)/a.n]
		}
		tiles[k](&y[at*ldy], 4*ldy, w, nb, x, aux, panels)
		at += 1 << k
	}
}

func (m *product) runGeneric(lo, hi int) {
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
		for b, l := 0, layouts[f]; b < a.cols/32; b++ {
			at := t*a.cols/32 + b
			dotBlock32(f, acc, panel[b*l.bytes:(b+1)*l.bytes], a.q[32*at:][:32], a.aux[aux32*at:][:aux32])
		}
	case formQ4K, formQ5K, formQ6K:
		for b, l := 0, layouts[f]; b < a.cols/256; b++ {
			at := t*a.cols/256 + b
			dotBlock256(f, acc, panel[b*l.bytes:(b+1)*l.bytes], a.q[256*at:][:256], a.aux[aux256*at:][:aux256])
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

// dotBlock32 adds one block of 32.
func dotBlock32(f form, acc *[16]float32, b []byte, x []int8, aux []int32) {
	var q [256]int32
	dx, neg := float32of(aux[0]), aux[1]
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

// dotBlock256 adds one block of 256.
func dotBlock256(f form, acc *[16]float32, b []byte, x []int8, aux []int32) {
	var q [256]int32
	dx := float32of(aux[0])
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
		for j := range 8 {
			neg := int32(int16(aux[4+j/2] >> (j & 1 * 16))) //nolint:gosec // two halves of a word
			m -= int32(b[192+j/2*32+2*r+j&1]) * neg
		}
		acc[r] = fma32(-float32(half(b, 32+2*r)*dx), float32(m), acc[r])
	}
}
