package kernel

import (
	"encoding/binary"
	"math"
	"runtime"
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
		runtime.KeepAlive(w) // the assembly knows only addresses
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.product = product{y, ldy, w, a, level}
	// About eight pieces a worker even out the differences between them; a piece is at least a quarter of the inline size.
	grain := max(panels/(8*p.workers), inlineBytes/4/(w.stride*a.n), 1)
	p.share(&p.product, panels, grain)
	p.product = product{}
	runtime.KeepAlive(w)
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
	edge := edges.Get().(*[8 * 16]float32)
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
		var sum, w [16]float32
		for k := k0; k < min(k0+256, len(x)); k++ {
			switch f {
			case formF32:
				for r := range w {
					w[r] = math.Float32frombits(word(panel[k*64+r*4:]))
				}
			case formF16:
				for r := range w {
					w[r] = half(panel, k*32+r*2)
				}
			default:
				for r := range w {
					w[r] = quant.FromBF16(binary.LittleEndian.Uint16(panel[k*32+r*2:]))
				}
			}
			v := x[k]
			for r := range sum {
				sum[r] = fma32(w[r], v, sum[r])
			}
		}
		for r := range acc {
			acc[r] += sum[r]
		}
	}
}

// dot4 adds to each lane the product of four of its weights, the bytes of v >> shift & mask, with four inputs.
func dot4(sum *[16]int32, v []byte, shift int, mask uint32, x []int8) {
	x0, x1, x2, x3 := int32(x[0]), int32(x[1]), int32(x[2]), int32(x[3])
	v = v[:64]
	for r := range sum {
		w := word(v[4*r:4*r+4]) >> shift & mask
		sum[r] += int32(w&255)*x0 + int32(w>>8&255)*x1 + int32(w>>16&255)*x2 + int32(w>>24)*x3
	}
}

// dotBlock32 adds one block of 32. The bias of the stored bytes goes in through the sum of the inputs.
func dotBlock32(f form, acc *[16]float32, b []byte, x []int8, aux []int32) {
	var sum [16]int32
	dx, neg := float32of(aux[0]), aux[1]
	bias := bias32[f] * neg
	for r := range sum {
		sum[r] = bias
	}
	for g := range 8 {
		switch f {
		case formQ8:
			dot4(&sum, b[32+64*g:], 0, ^uint32(0), x[4*g:])
		case formQ8M:
			dot4(&sum, b[64+64*g:], 0, ^uint32(0), x[4*g:])
		default:
			dot4(&sum, b[32+g%4*64:], g/4*4, 0x0f0f0f0f, x[4*g:])
		}
	}
	for r := range acc {
		acc[r] = fma32(float32(half(b, 2*r)*dx), float32(sum[r]), acc[r])
		if f == formQ8M {
			acc[r] = fma32(half(b, 32+2*r), float32(dx*float32(-neg)), acc[r])
		}
	}
}

// bias32 is what was added to a weight before it was stored.
var bias32 = [...]int32{formQ8: 128, formQ4: 8, formQ8M: 0}

// dotBlock256 adds one block of 256.
func dotBlock256(f form, acc *[16]float32, b []byte, x []int8, aux []int32) {
	dx := float32of(aux[0])
	var s [16]int32
	if f == formQ6K {
		dot6K(&s, b, x, aux[8:24])
	} else {
		dot45K(f, &s, b, x)
	}
	for r := range acc {
		acc[r] = fma32(float32(half(b, 2*r)*dx), float32(s[r]), acc[r])
	}
	if f == formQ6K {
		return
	}
	for r := range acc {
		var m int32
		for j := range 8 {
			neg := int32(int16(aux[4+j/2] >> (j & 1 * 16)))
			m -= int32(b[192+j/2*32+2*r+j&1]) * neg
		}
		acc[r] = fma32(-float32(half(b, 32+2*r)*dx), float32(m), acc[r])
	}
}

// dot45K sets s to the sum over the sub-blocks of 32 of scale times product.
func dot45K(f form, s *[16]int32, b []byte, x []int8) {
	for j := range 8 {
		var sum [16]int32
		for g := range 8 {
			if f == formQ5K {
				dot4(&sum, b[320+512*j+64*g:], 0, ^uint32(0), x[32*j+4*g:])
			} else {
				dot4(&sum, b[320+j/2*512+64*g:], j&1*4, 0x0f0f0f0f, x[32*j+4*g:])
			}
		}
		for r := range s {
			s[r] += int32(b[64+16*j+r]) * sum[r]
		}
	}
}

// dot6K sets s to the sum over the sub-blocks of 16 of scale times product; neg holds the negated sums of their inputs.
func dot6K(s *[16]int32, b []byte, x []int8, neg []int32) {
	for j := range 16 {
		var low, high [16]int32
		at := b[288+192*j:]
		for g := range 4 {
			dot4(&low, at[g/2*64:], g&1*4, 0x0f0f0f0f, x[16*j+4*g:])
			dot4(&high, at[128:], 2*g, 0x03030303, x[16*j+4*g:])
		}
		for r := range s {
			s[r] += int32(int8(b[32+16*j+r])) * (low[r] + 16*high[r] + 32*neg[j])
		}
	}
}
