package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// avx512 writes the float kernels for AVX-512 and the integer ones for AVX-512 with VNNI.
func avx512() {
	for _, t := range []int{1, 2, 4, 8} {
		float512("f32T512x", "f32", t)
		float512("f16T512x", "f16", t)
		float512("bf16T512x", "bf16", t)
		q8x512(t, false)
		q8x512(t, true)
		q4x512(t)
		k45x512(t, false)
		k45x512(t, true)
		q6Kx512(t)
	}
}

func zmms(n int) []VecVirtual {
	z := make([]VecVirtual, n)
	for i := range z {
		z[i] = ZMM()
	}
	return z
}

func zero512(z []VecVirtual) {
	for _, r := range z {
		VPXORD(r, r, r)
	}
}

// store512 writes one panel's results and moves on to the next.
func (fr frame) store512(f []VecVirtual) {
	ldy, at := GP64(), GP64()
	Load(Param("ldy"), ldy)
	MOVQ(fr.y, at)
	ADDQ(I32(64), fr.y)
	for i, r := range f {
		VMOVUPS(r, mem(at, 0))
		if i+1 < len(f) {
			ADDQ(ldy, at)
		}
	}
}

// float512: blocks of 256 k, each a chain of its own, added in order.
func float512(name, form string, t int) {
	w, nb, fr := begin(name, t, form)
	x := newRows(nb, t, 2, 0)
	f, sum, v := zmms(t), zmms(t), ZMM()
	left, n := GP64(), GP64()
	size := map[string]int{"f32": 64, "f16": 32, "bf16": 32}[form]
	step := func(k int) {
		switch form {
		case "f32":
			VMOVUPS(mem(w, k*size), v)
		case "f16":
			VCVTPH2PS(mem(w, k*size), v)
		case "bf16":
			VPMOVZXWD(mem(w, k*size), v)
			VPSLLD(U8(16), v, v)
		}
		for i := range sum {
			VFMADD231PS_BCST(x.at(i, 4*k), v, sum[i])
		}
	}
	fr.panel(x, nil, func() {
		Load(Param("nb"), left)
		zero512(f)
		Label("block")
		zero512(sum)
		MOVQ(U32(256), n)
		CMPQ(left, n)
		CMOVQLT(left, n)
		SUBQ(n, left)
		Label("four")
		SUBQ(U32(4), n)
		JLT(LabelRef("tail"))
		for k := range 4 {
			step(k)
		}
		add(4*size, w)
		add(16, x.base)
		JMP(LabelRef("four"))
		Label("tail")
		add(4, n)
		JZ(LabelRef("end"))
		loop("one", n, func() {
			step(0)
			add(size, w)
			add(4, x.base)
		})
		Label("end")
		for i := range f {
			VADDPS(sum[i], f[i], f[i])
		}
		TESTQ(left, left)
		JNZ(LabelRef("block"))
		fr.store512(f)
	})
}

// finish512 adds d*dx*isum to f: d is a vector of the weights' scales, dx in word 0 of aux.
func finish512(aux *rows, d Register, isum, f []VecVirtual) {
	tmp := ZMM()
	for i := range f {
		VCVTDQ2PS(isum[i], isum[i])
		VMULPS_BCST(aux.at(i, 0), d, tmp)
		VFMADD231PS(tmp, isum[i], f[i])
	}
}

// q8x512: bytes. Unsigned ones for the formats with a minimum, else stored +128, which the start value takes off again.
func q8x512(t int, min bool) {
	name, form, head := "q8VNNIx", "q8", 32
	if min {
		name, form, head = "q8MVNNIx", "q8m", 64
	}
	w, nb, fr := begin(name, t, form)
	x, aux := newRows(nb, t, 5, 0), newRows(nb, t, 3, 0)
	f, isum, d, v := zmms(t), zmms(t), ZMM(), ZMM()
	fr.panel(x, aux, func() {
		zero512(f)
		loop("block", fr.blocks, func() {
			VCVTPH2PS(mem(w, 0), d)
			if min {
				zero512(isum)
			} else {
				for i := range isum {
					VPSLLD_BCST(Imm(7), aux.at(i, 4), isum[i])
				}
			}
			for g := range 8 {
				VMOVDQU64(mem(w, head+64*g), v)
				for i := range isum {
					VPDPBUSD_BCST(x.at(i, 4*g), v, isum[i])
				}
			}
			finish512(aux, d, isum, f)
			if min {
				VCVTPH2PS(mem(w, 32), d)
				s := ZMM()
				for i := range f {
					VPXORD(s, s, s)
					VPSUBD_BCST(aux.at(i, 4), s, s)
					VCVTDQ2PS(s, s)
					VMULPS_BCST(aux.at(i, 0), s, s)
					VFMADD231PS(s, d, f[i])
				}
			}
			add(head+512, w)
			add(32, x.base)
			add(8, aux.base)
		})
		fr.store512(f)
	})
}

// mask512 fills a register with a byte.
func mask512(b uint32) VecVirtual {
	z, r := ZMM(), GP32()
	MOVL(U32(b*0x01010101), r)
	VPBROADCASTD(r, z)
	return z
}

// q4x512: nibbles with 8 taken off by the start value.
func q4x512(t int) {
	w, nb, fr := begin("q4VNNIx", t, "q4")
	x, aux := newRows(nb, t, 5, 0), newRows(nb, t, 3, 0)
	f, isum, d, v := zmms(t), zmms(t), ZMM(), ZMM()
	low := mask512(15)
	fr.panel(x, aux, func() {
		zero512(f)
		loop("block", fr.blocks, func() {
			VCVTPH2PS(mem(w, 0), d)
			for i := range isum {
				VPSLLD_BCST(Imm(3), aux.at(i, 4), isum[i])
			}
			for g := range 4 {
				VPANDD(mem(w, 32+64*g), low, v)
				for i := range isum {
					VPDPBUSD_BCST(x.at(i, 4*g), v, isum[i])
				}
			}
			for g := range 4 {
				VPSRLD(Imm(4), mem(w, 32+64*g), v)
				VPANDD(low, v, v)
				for i := range isum {
					VPDPBUSD_BCST(x.at(i, 16+4*g), v, isum[i])
				}
			}
			finish512(aux, d, isum, f)
			add(288, w)
			add(32, x.base)
			add(8, aux.base)
		})
		fr.store512(f)
	})
}

// scale512 adds isum times the scales to s.
func scale512(scale Register, isum, s []VecVirtual) {
	for i := range s {
		VPMULLD(scale, isum[i], isum[i])
		VPADDD(isum[i], s[i], s[i])
	}
}

// k45x512: q4_K, and q5_K as bytes. Two sub-blocks of 32 a turn.
func k45x512(t int, five bool) {
	name, form, size := "q4KVNNIx", "q4_K", 2368
	if five {
		name, form, size = "q5KVNNIx", "q5_K", 4416
	}
	w, nb, fr := begin(name, t, form)
	x, aux := newRows(nb, t, 8, 0), newRows(nb, t, 6, 5)
	f, s, isum, d, v, scale := zmms(t), zmms(t), zmms(t), ZMM(), ZMM(), ZMM()
	var low VecVirtual
	if !five {
		low = mask512(15)
	}
	j, data, scales := GP64(), GP64(), GP64()
	fr.panel(x, aux, func() {
		zero512(f)
		loop("block", fr.blocks, func() {
			zero512(s)
			LEAQ(mem(w, 320), data)
			LEAQ(mem(w, 64), scales)
			MOVQ(U32(4), j)
			loop("pair", j, func() {
				for h := range 2 {
					zero512(isum)
					for g := range 8 {
						switch {
						case five:
							VMOVDQU64(mem(data, 512*h+64*g), v)
						case h == 0:
							VPANDD(mem(data, 64*g), low, v)
						default:
							VPSRLD(Imm(4), mem(data, 64*g), v)
							VPANDD(low, v, v)
						}
						for i := range isum {
							VPDPBUSD_BCST(x.at(i, 32*h+4*g), v, isum[i])
						}
					}
					VPMOVZXBD(mem(scales, 16*h), scale)
					scale512(scale, isum, s)
				}
				if five {
					add(1024, data)
				} else {
					add(512, data)
				}
				add(32, scales)
				add(64, x.base)
			})
			VCVTPH2PS(mem(w, 0), d)
			finish512(aux, d, s, f)
			zero512(s)
			for k := range 4 {
				VPMOVZXBW(mem(w, 192+32*k), v)
				for i := range s {
					VPDPWSSD_BCST(aux.at(i, 16+4*k), v, s[i])
				}
			}
			VCVTPH2PS(mem(w, 32), d)
			finish512(aux, d, s, f)
			add(size, w)
			add(96, aux.base)
		})
		fr.store512(f)
	})
}

// q6Kx512: sub-blocks of 16, 32 taken off by the start value.
func q6Kx512(t int) {
	w, nb, fr := begin("q6KVNNIx", t, "q6_K")
	x, aux := newRows(nb, t, 8, 0), newRows(nb, t, 6, 5)
	f, s, isum, d, v, scale := zmms(t), zmms(t), zmms(t), ZMM(), ZMM(), ZMM()
	low, pair := mask512(15), mask512(0x30)
	j, data, scales := GP64(), GP64(), GP64()
	high, bits := ZMM(), ZMM()
	fr.panel(x, aux, func() {
		zero512(f)
		loop("block", fr.blocks, func() {
			zero512(s)
			LEAQ(mem(w, 288), data)
			LEAQ(mem(w, 32), scales)
			MOVQ(U32(16), j)
			loop("sub", j, func() {
				for i := range isum {
					VPSLLD_BCST(Imm(5), aux.at(i, 32), isum[i])
				}
				VMOVDQU64(mem(data, 128), high)
				for g := range 4 {
					if g%2 == 0 {
						VMOVDQU64(mem(data, 32*g), v)
						VPANDD(low, v, v)
					} else {
						VPSRLD(Imm(4), mem(data, 32*(g-1)), v)
						VPANDD(low, v, v)
					}
					b := bits
					switch g {
					case 0:
						VPSLLD(Imm(4), high, bits)
					case 1:
						VPSLLD(Imm(2), high, bits)
					case 2:
						b = high
					case 3:
						VPSRLD(Imm(2), high, bits)
					}
					VPTERNLOGD(U8(0xf8), pair, b, v) // v | b&pair
					for i := range isum {
						VPDPBUSD_BCST(x.at(i, 4*g), v, isum[i])
					}
				}
				VPMOVSXBD(mem(scales, 0), scale)
				scale512(scale, isum, s)
				add(192, data)
				add(16, scales)
				add(16, x.base)
				add(4, aux.base)
			})
			SUBQ(U32(64), aux.base)
			VCVTPH2PS(mem(w, 0), d)
			finish512(aux, d, s, f)
			add(3360, w)
			add(96, aux.base)
		})
		fr.store512(f)
	})
}
