package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// attend writes the products of attention for four queries at once that look at the same keys: each key and value is read and widened once. AVX-512 only, which has the registers for it.
func attend() {
	scores4("scoresF16x4", true)
	scores4("scoresF32x4", false)
	values4("valuesF16x4", true)
	values4("valuesF32x4", false)
}

func scores4(name string, half bool) {
	elem, size := "*float32", 4
	if half {
		elem, size = "*uint16", 2
	}
	function(name, "func(s, q *float32, k "+elem+", dim int)", "sets s, [4][32], to the products of four queries with the keys of a page. q is [dim][4].")
	s, q, k, n := load("s"), load("q"), load("k"), load("dim")
	acc := zmms(8)
	zero512(acc)
	lo, hi := ZMM(), ZMM()
	loop("loop", n, func() {
		if half {
			VCVTPH2PS(mem(k, 0), lo)
			VCVTPH2PS(mem(k, 32), hi)
		} else {
			VMOVUPS(mem(k, 0), lo)
			VMOVUPS(mem(k, 64), hi)
		}
		for i := range 4 {
			b := ZMM()
			VBROADCASTSS(mem(q, 4*i), b)
			VFMADD231PS(b, lo, acc[2*i])
			VFMADD231PS(b, hi, acc[2*i+1])
		}
		add(16, q)
		add(32*size, k)
	})
	for i, a := range acc {
		VMOVUPS(a, mem(s, 64*i))
	}
	VZEROUPPER()
	RET()
}

// values4: strips of 64 values of the head, then of 16; each value of each query is one FMA chain over the positions.
func values4(name string, half bool) {
	elem, size := "*float32", 4
	if half {
		elem, size = "*uint16", 2
	}
	function(name, "func(out, s *float32, v "+elem+", dim, n int, fade *float32)",
		"sets out, [4][dim], to out*fade, of [4], plus the sum of s[.][i] times value i for i < n. s is [4][32]. dim is a multiple of 16, n > 0.")
	out, s, v, dim, fade := load("out"), load("s"), load("v"), load("dim"), load("fade")
	left, stride, at, p, n := GP64(), GP64(), GP64(), GP64(), GP64()
	row, row3 := GP64(), GP64() // bytes of one and of three rows of out
	MOVQ(dim, left)
	MOVQ(dim, stride)
	SHLQ(Imm(uint64(size/2)), stride)
	MOVQ(dim, row)
	SHLQ(Imm(2), row)
	LEAQ(Mem{Base: row, Index: row, Scale: 2}, row3)
	outRow := func(i, disp int) Mem {
		switch i {
		case 0:
			return mem(out, disp)
		case 3:
			return Mem{Base: out, Index: row3, Scale: 1, Disp: disp}
		}
		return Mem{Base: out, Index: row, Scale: uint8(i), Disp: disp}
	}
	strip := func(name string, width int) {
		acc := zmms(4 * width)
		for i := range 4 {
			f := ZMM()
			VBROADCASTSS(mem(fade, 4*i), f)
			for w := range width {
				VMULPS(outRow(i, 64*w), f, acc[i*width+w])
			}
		}
		MOVQ(v, at)
		MOVQ(s, p)
		Load(Param("n"), n)
		x := zmms(width)
		loop(name, n, func() {
			for w := range width {
				if half {
					VCVTPH2PS(mem(at, 32*w), x[w])
				} else {
					VMOVUPS(mem(at, 64*w), x[w])
				}
			}
			for i := range 4 {
				b := ZMM()
				VBROADCASTSS(mem(p, 128*i), b)
				for w := range width {
					VFMADD231PS(x[w], b, acc[i*width+w])
				}
			}
			ADDQ(stride, at)
			add(4, p)
		})
		for i := range 4 {
			for w := range width {
				VMOVUPS(acc[i*width+w], outRow(i, 64*w))
			}
		}
		add(64*width, out)
		add(16*width*size, v)
		add(-16*width, left)
	}
	Label("wide")
	CMPQ(left, Imm(64))
	JLT(LabelRef("narrow"))
	strip("wideLoop", 4)
	JMP(LabelRef("wide"))
	Label("narrow")
	TESTQ(left, left)
	JZ(LabelRef("end"))
	strip("narrowLoop", 1)
	JMP(LabelRef("narrow"))
	Label("end")
	VZEROUPPER()
	RET()
}
