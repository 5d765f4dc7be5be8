package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// avx2 writes all kernels for AVX2 with FMA and F16C. A panel is two vectors of 8 rows here: both run together with 1 and 2 rows of inputs, one after the other with 4, as 16 registers allow.
func avx2() {
	for _, t := range []int{1, 2, 4} {
		float256("f32T256x", "f32", t)
		float256("f16T256x", "f16", t)
		float256("bf16T256x", "bf16", t)
		q8x256(t, false)
		q8x256(t, true)
		q4x256(t)
		k45x256(t, false)
		k45x256(t, true)
		q6Kx256(t)
	}
}

// halves is a pass over a panel: the vectors of 8 rows (0, 1 or both) that it computes, and their accumulators [vector][input row].
type halves struct {
	list []int
	t    int
	name string // suffix of labels
}

func passes(t int) []halves {
	if t < 4 {
		return []halves{{[]int{0, 1}, t, ""}}
	}
	return []halves{{[]int{0}, t, "Low"}, {[]int{1}, t, "High"}}
}

func (h halves) regs() [][]VecVirtual {
	z := make([][]VecVirtual, 2)
	for _, v := range h.list {
		for range h.t {
			z[v] = append(z[v], YMM())
		}
	}
	return z
}

func (h halves) zero(z [][]VecVirtual) {
	for _, v := range h.list {
		for _, r := range z[v] {
			VPXOR(r, r, r)
		}
	}
}

// panels256 repeats body for each panel and each pass over it. data is w at the start of the panel and after body at its end.
func (f frame) panels256(t int, w GPVirtual, x, aux *rows, body func(h halves, sums [][]VecVirtual)) {
	loop("panel", f.panels, func() {
		var start GPVirtual
		all := passes(t)
		if len(all) > 1 {
			start = GP64()
			MOVQ(w, start)
		}
		for i, h := range all {
			if i > 0 {
				MOVQ(start, w)
			}
			n := GP64()
			Load(Param("nb"), n)
			MOVQ(n, f.blocks)
			Load(Param("x"), x.base)
			if aux != nil {
				Load(Param("aux"), aux.base)
			}
			sums := h.regs()
			h.zero(sums)
			body(h, sums)
			ldy, at := GP64(), GP64()
			Load(Param("ldy"), ldy)
			MOVQ(f.y, at)
			for r := range t {
				for _, v := range h.list {
					VMOVUPS(sums[v][r], mem(at, 32*v))
				}
				if r+1 < t {
					ADDQ(ldy, at)
				}
			}
		}
		ADDQ(I32(64), f.y)
	})
	VZEROUPPER()
	RET()
}

func float256(name, form string, t int) {
	w, nb, fr := begin(name, t, form)
	x := newRows(nb, t, 2, 0)
	left, n := GP64(), GP64()
	size := map[string]int{"f32": 64, "f16": 32, "bf16": 32}[form]
	fr.panels256(t, w, x, nil, func(h halves, f [][]VecVirtual) {
		Load(Param("nb"), left)
		sum := h.regs()
		Label("block" + h.name)
		h.zero(sum)
		MOVQ(U32(256), n)
		CMPQ(left, n)
		CMOVQLT(left, n)
		SUBQ(n, left)
		loop("one"+h.name, n, func() {
			w2 := [2]VecVirtual{YMM(), YMM()}
			for _, v := range h.list {
				switch form {
				case "f32":
					VMOVUPS(mem(w, 32*v), w2[v])
				case "f16":
					VCVTPH2PS(mem(w, 16*v), w2[v])
				case "bf16":
					VPMOVZXWD(mem(w, 16*v), w2[v])
					VPSLLD(Imm(16), w2[v], w2[v])
				}
			}
			b := YMM()
			for r := range t {
				VBROADCASTSS(x.at(r, 0), b)
				for _, v := range h.list {
					VFMADD231PS(b, w2[v], sum[v][r])
				}
			}
			add(size, w)
			add(4, x.base)
		})
		for _, v := range h.list {
			for r := range t {
				VADDPS(sum[v][r], f[v][r], f[v][r])
			}
		}
		TESTQ(left, left)
		JNZ(LabelRef("block" + h.name))
	})
}

func fill256(b uint32) VecVirtual {
	z, r := YMM(), GP32()
	MOVL(U32(b), r)
	VMOVD(r, z.AsX())
	VPBROADCASTD(z.AsX(), z)
	return z
}

// finish256 adds d*dx*isum to f for one vector of rows; d is left as it is.
func finish256(aux *rows, d Register, isum, f []VecVirtual) {
	tmp := YMM()
	for r := range f {
		VCVTDQ2PS(isum[r], isum[r])
		VBROADCASTSS(aux.at(r, 0), tmp)
		VMULPS(tmp, d, tmp)
		VFMADD231PS(tmp, isum[r], f[r])
	}
}

// q8x256. Bytes of either sign: VPMADDUBSW would saturate with unsigned ones up to 255, so |w| is its unsigned operand and the sign goes on x, which lies in -127..127. Bytes with a minimum are below 32.
func q8x256(t int, min bool) {
	name, form, head := "q8AVX2x", "q8", 32
	if min {
		name, form, head = "q8MAVX2x", "q8m", 64
	}
	w, nb, fr := begin(name, t, form)
	x, aux := newRows(nb, t, 5, 0), newRows(nb, t, 3, 0)
	ones := fill256(0x00010001)
	var flip VecVirtual
	if !min {
		flip = fill256(0x80808080)
	}
	fr.panels256(t, w, x, aux, func(h halves, f [][]VecVirtual) {
		loop("block"+h.name, fr.blocks, func() {
			isum := h.regs()
			h.zero(isum)
			for g := range 8 {
				q, size, b := YMM(), YMM(), YMM()
				for _, v := range h.list {
					at := mem(w, head+64*g+32*v)
					if min {
						VMOVDQU(at, size)
					} else {
						VPXOR(at, flip, q)
						VPABSB(q, size)
					}
					for r := range t {
						VPBROADCASTD(x.at(r, 4*g), b)
						if !min {
							VPSIGNB(q, b, b)
						}
						VPMADDUBSW(b, size, b)
						VPMADDWD(ones, b, b)
						VPADDD(b, isum[v][r], isum[v][r])
					}
				}
			}
			for _, v := range h.list {
				d := YMM()
				VCVTPH2PS(mem(w, 16*v), d)
				finish256(aux, d, isum[v], f[v])
				if min {
					VCVTPH2PS(mem(w, 32+16*v), d)
					s, b := YMM(), YMM()
					for r := range t {
						VPBROADCASTD(aux.at(r, 4), b)
						VPXOR(s, s, s)
						VPSUBD(b, s, s)
						VCVTDQ2PS(s, s)
						VBROADCASTSS(aux.at(r, 0), b)
						VMULPS(b, s, s)
						VFMADD231PS(s, d, f[v][r])
					}
				}
			}
			add(head+512, w)
			add(32, x.base)
			add(8, aux.base)
		})
	})
}

// nibbles256 loads 32 bytes and keeps the low or the high nibbles.
func nibbles256(at Mem, low Register, high bool, q VecVirtual) {
	if !high {
		VPAND(at, low, q)
		return
	}
	VMOVDQU(at, q)
	VPSRLW(Imm(4), q, q)
	VPAND(low, q, q)
}

// q4x256: eight products of nibbles fit int16 (8*2*15*127 < 2^15).
func q4x256(t int) {
	w, nb, fr := begin("q4AVX2x", t, "q4")
	x, aux := newRows(nb, t, 5, 0), newRows(nb, t, 3, 0)
	ones, low := fill256(0x00010001), fill256(0x0f0f0f0f)
	fr.panels256(t, w, x, aux, func(h halves, f [][]VecVirtual) {
		loop("block"+h.name, fr.blocks, func() {
			isum := h.regs()
			h.zero(isum)
			q, b := YMM(), YMM()
			for g := range 8 {
				for _, v := range h.list {
					nibbles256(mem(w, 32+64*(g%4)+32*v), low, g > 3, q)
					for r := range t {
						VPBROADCASTD(x.at(r, 4*g), b)
						VPMADDUBSW(b, q, b)
						VPADDW(b, isum[v][r], isum[v][r])
					}
				}
			}
			for _, v := range h.list {
				for r := range t {
					VPMADDWD(ones, isum[v][r], isum[v][r])
					VPBROADCASTD(aux.at(r, 4), b)
					VPSLLD(Imm(3), b, b)
					VPADDD(b, isum[v][r], isum[v][r])
				}
				VCVTPH2PS(mem(w, 16*v), q)
				finish256(aux, q, isum[v], f[v])
			}
			add(288, w)
			add(32, x.base)
			add(8, aux.base)
		})
	})
}

// pairs256 loads 8 scales and doubles each into both halves of its lane, so that VPMADDWD adds the int16 pairs and scales them at once.
func pairs256(at Mem, signed bool, sc, tmp VecVirtual) {
	if signed {
		VPMOVSXBD(at, sc)
	} else {
		VPMOVZXBD(at, sc)
	}
	VPSLLD(Imm(16), sc, tmp)
	VPBLENDW(Imm(0xaa), tmp, sc, sc)
}

// k45x256: one sub-block of 32 a turn in int16 (4 groups of the 5-bit format are 4*2*31*127 < 2^15).
func k45x256(t int, five bool) {
	name, form, size := "q4KAVX2x", "q4_K", 2368
	if five {
		name, form, size = "q5KAVX2x", "q5_K", 4416
	}
	w, nb, fr := begin(name, t, form)
	x, aux := newRows(nb, t, 8, 0), newRows(nb, t, 6, 5)
	var low VecVirtual
	if !five {
		low = fill256(0x0f0f0f0f)
	}
	j, data, scales := GP64(), GP64(), GP64()
	fr.panels256(t, w, x, aux, func(h halves, f [][]VecVirtual) {
		loop("block"+h.name, fr.blocks, func() {
			s := h.regs()
			h.zero(s)
			LEAQ(mem(w, 320), data)
			LEAQ(mem(w, 64), scales)
			MOVQ(U32(4), j)
			q, b, sc := YMM(), YMM(), YMM()
			loop("pair"+h.name, j, func() {
				for k := range 2 {
					for _, v := range h.list {
						isum := make([]VecVirtual, t)
						for r := range isum {
							isum[r] = YMM()
						}
						pairs256(mem(scales, 16*k+8*v), false, sc, b)
						for g := range 8 {
							if five {
								VMOVDQU(mem(data, 512*k+64*g+32*v), q)
							} else {
								nibbles256(mem(data, 64*g+32*v), low, k == 1, q)
							}
							for r := range t {
								first := g == 0 || five && g == 4
								to := b
								if first {
									to = isum[r]
								}
								VPBROADCASTD(x.at(r, 32*k+4*g), to)
								VPMADDUBSW(to, q, to)
								if !first {
									VPADDW(b, isum[r], isum[r])
								}
								if g == 7 || five && g == 3 {
									VPMADDWD(sc, isum[r], isum[r])
									VPADDD(isum[r], s[v][r], s[v][r])
								}
							}
						}
					}
				}
				if five {
					add(1024, data)
				} else {
					add(512, data)
				}
				add(32, scales)
				add(64, x.base)
			})
			for _, v := range h.list {
				VCVTPH2PS(mem(w, 16*v), q)
				finish256(aux, q, s[v], f[v])
			}
			for k := range 4 {
				for _, v := range h.list {
					VPMOVZXBW(mem(w, 192+32*k+16*v), q)
					for r := range t {
						VPBROADCASTD(aux.at(r, 16+4*k), b)
						if k == 0 {
							VPMADDWD(b, q, s[v][r])
							continue
						}
						VPMADDWD(b, q, b)
						VPADDD(b, s[v][r], s[v][r])
					}
				}
			}
			for _, v := range h.list {
				VCVTPH2PS(mem(w, 32+16*v), q)
				finish256(aux, q, s[v], f[v])
			}
			add(size, w)
			add(96, aux.base)
		})
	})
}

// q6Kx256: sub-blocks of 16; two groups at a time fit int16 (2*2*63*127 < 2^15).
func q6Kx256(t int) {
	w, nb, fr := begin("q6KAVX2x", t, "q6_K")
	x, aux := newRows(nb, t, 8, 0), newRows(nb, t, 6, 5)
	low, pair := fill256(0x0f0f0f0f), fill256(0x30303030)
	j, data, scales := GP64(), GP64(), GP64()
	fr.panels256(t, w, x, aux, func(h halves, f [][]VecVirtual) {
		loop("block"+h.name, fr.blocks, func() {
			s := h.regs()
			h.zero(s)
			LEAQ(mem(w, 288), data)
			LEAQ(mem(w, 32), scales)
			MOVQ(U32(16), j)
			loop("sub"+h.name, j, func() {
				q, b, sc := YMM(), YMM(), YMM()
				for _, v := range h.list {
					// The 32 taken off: scale * 32 * (negated sum).
					VPMOVSXBD(mem(scales, 8*v), sc)
					for r := range t {
						VPBROADCASTD(aux.at(r, 32), b)
						VPSLLD(Imm(5), b, b)
						VPMULLD(sc, b, b)
						VPADDD(b, s[v][r], s[v][r])
					}
					pairs256(mem(scales, 8*v), true, sc, b)
					for g := range 4 {
						nibbles256(mem(data, 64*(g/2)+32*v), low, g%2 == 1, q)
						VMOVDQU(mem(data, 128+32*v), b)
						switch g {
						case 0:
							VPSLLW(Imm(4), b, b)
						case 1:
							VPSLLW(Imm(2), b, b)
						case 3:
							VPSRLW(Imm(2), b, b)
						}
						VPAND(pair, b, b)
						VPOR(b, q, q)
						for r := range t {
							VPBROADCASTD(x.at(r, 4*g), b)
							VPMADDUBSW(b, q, b)
							VPMADDWD(sc, b, b)
							VPADDD(b, s[v][r], s[v][r])
						}
					}
				}
				add(192, data)
				add(16, scales)
				add(16, x.base)
				add(4, aux.base)
			})
			add(-64, aux.base)
			q := YMM()
			for _, v := range h.list {
				VCVTPH2PS(mem(w, 16*v), q)
				finish256(aux, q, s[v], f[v])
			}
			add(3360, w)
			add(96, aux.base)
		})
	})
}
