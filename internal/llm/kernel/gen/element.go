package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// element writes what runs along a row or a page: norms, activations, rounding to bytes, attention. AVX2 serves every level above it as well: these loops are short or wait for memory.
func element() {
	siluMul()
	rmsNorm()
	rope()
	quantize32()
	quantize256()
	toF16()
	expSum()
	expWeights()
	maximum()
	indexOf()
	addTo()
	scores("scoresF16AVX2", true)
	scores("scoresF32AVX2", false)
	softPage()
	values("valuesF16AVX2", true)
	values("valuesF32AVX2", false)
}

var vectors = map[uint32]Mem{}

// bits returns a constant vector of eight equal words.
func bits(u uint32) Mem {
	if m, ok := vectors[u]; ok {
		return m
	}
	m := GLOBL("vec"+string("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[len(vectors)]), RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(u))
	}
	vectors[u] = m
	return m
}

func num(f float32) Mem { return bits(math.Float32bits(f)) }

const absBits = 0x7fffffff

func function(name, sig, doc string) {
	TEXT(name, NOSPLIT, sig)
	Doc(name + " " + doc)
	Pragma("noescape")
}

func load(name string) GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}

// loadAll fills a vector with a float32 parameter.
func loadAll(name string) VecVirtual {
	x, y := XMM(), YMM()
	Load(Param(name), x)
	VBROADCASTSS(x, y)
	return y
}

// exp256 sets e = exp(x), step by step what Exp does. x is left as it is; e may not be x.
func exp256(x, e VecVirtual) {
	t, n, r, m := YMM(), YMM(), YMM(), YMM()
	VMOVUPS(num(1.44269504), t)
	VFMADD213PS(num(12582912), x, t)
	VSUBPS(num(12582912), t, n)
	VMOVAPS(x, r)
	VFMADD231PS(num(-0.693359375), n, r)
	VFMADD231PS(num(2.12194440e-4), n, r)
	VMOVUPS(num(1.9875691500e-4), e)
	for _, c := range []float32{1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		VFMADD213PS(num(c), r, e)
	}
	VADDPS(num(1), r, n)
	VMULPS(r, r, r)
	VFMADD213PS(n, r, e)
	VPSLLD(Imm(23), t, t)
	VPADDD(num(1), t, t)
	VMULPS(t, e, e)
	VCMPPS(Imm(17), num(expLo), x, m) // x < lo
	VANDNPS(e, m, e)
	VCMPPS(Imm(30), num(expHi), x, m) // x > hi
	VBLENDVPS(m, num(float32(math.Inf(1))), e, e)
}

const (
	expLo = -87.33654
	expHi = 88.02969
)

// tree256 adds the 16 partial sums in a (0..7) and b (8..15) as 8-4-2-1; the result is in the first lane of a's low half.
func tree256(a, b VecVirtual) {
	VADDPS(b, a, a)
	x := XMM()
	VEXTRACTF128(Imm(1), a, x)
	VADDPS(x, a.AsX(), a.AsX())
	VPERMILPS(Imm(0x0e), a.AsX(), x)
	VADDPS(x, a.AsX(), a.AsX())
	VPERMILPS(Imm(0x01), a.AsX(), x)
	VADDSS(x, a.AsX(), a.AsX())
}

func siluMul() {
	function("siluMulAVX2", "func(dst, gate, up *float32, n int)", "is SiluMul for n a positive multiple of 8.")
	dst, gate, up, n := load("dst"), load("gate"), load("up"), load("n")
	loop("loop", n, func() {
		SUBQ(Imm(7), n)
		g, x, e := YMM(), YMM(), YMM()
		VMOVUPS(mem(gate, 0), g)
		VXORPS(bits(1<<31), g, x)
		exp256(x, e)
		VADDPS(num(1), e, e)
		VDIVPS(e, g, g)
		VMULPS(mem(up, 0), g, g)
		VMOVUPS(g, mem(dst, 0))
		for _, r := range []Register{dst, gate, up} {
			add(32, r)
		}
	})
	VZEROUPPER()
	RET()
}

func rmsNorm() {
	function("rmsNormAVX2", "func(dst, x, w *float32, n int, eps float32)", "is RMSNorm of one row for n a positive multiple of 16.")
	dst, x, w, n := load("dst"), load("x"), load("w"), load("n")
	a, b, v, at, left := YMM(), YMM(), YMM(), GP64(), GP64()
	VXORPS(a, a, a)
	VXORPS(b, b, b)
	MOVQ(x, at)
	MOVQ(n, left)
	loop("sum", left, func() {
		SUBQ(Imm(15), left)
		VMOVUPS(mem(at, 0), v)
		VFMADD231PS(v, v, a)
		VMOVUPS(mem(at, 32), v)
		VFMADD231PS(v, v, b)
		add(64, at)
	})
	tree256(a, b)
	s, c := a.AsX(), XMM()
	VXORPS(c, c, c)
	VCVTSI2SSQ(n, c, c)
	VDIVSS(c, s, s)
	eps := XMM()
	Load(Param("eps"), eps)
	VADDSS(eps, s, s)
	VSQRTSS(s, s, s)
	VMOVSS(num(1), c)
	VDIVSS(s, c, s)
	scale := YMM()
	VBROADCASTSS(s, scale)
	loop("scale", n, func() {
		SUBQ(Imm(7), n)
		VMULPS(mem(x, 0), scale, v)
		VMULPS(mem(w, 0), v, v)
		VMOVUPS(v, mem(dst, 0))
		for _, r := range []Register{dst, x, w} {
			add(32, r)
		}
	})
	VZEROUPPER()
	RET()
}

func rope() {
	function("ropeAVX2", "func(x *float32, heads, headDim int, cos, sin *float32, half int)", "is Rope of heads heads for half, the number of pairs, a positive multiple of 8.")
	x, heads, dim, half := load("x"), load("heads"), load("headDim"), load("half")
	cos, sin, hi, off := load("cos"), load("sin"), GP64(), GP64()
	SHLQ(Imm(2), dim)
	SHLQ(Imm(2), half)
	loop("head", heads, func() {
		LEAQ(Mem{Base: x, Index: half, Scale: 1}, hi)
		XORQ(off, off)
		Label("pair")
		at := func(r Register) Mem { return Mem{Base: r, Index: off, Scale: 1} }
		a, b, c, s, t := YMM(), YMM(), YMM(), YMM(), YMM()
		VMOVUPS(at(x), a)
		VMOVUPS(at(hi), b)
		VMOVUPS(at(cos), c)
		VMOVUPS(at(sin), s)
		VMULPS(b, s, t)
		VMULPS(a, s, s)
		VFMSUB213PS(t, c, a) // a*c - b*s
		VFMADD213PS(s, c, b) // b*c + a*s
		VMOVUPS(a, at(x))
		VMOVUPS(b, at(hi))
		add(32, off)
		CMPQ(off, half)
		JLT(LabelRef("pair"))
		ADDQ(dim, x)
	})
	VZEROUPPER()
	RET()
}

// absMax256 raises m to the magnitudes at x; NaN is passed over.
func absMax256(at Mem, m VecVirtual) {
	v := YMM()
	VMOVUPS(at, v)
	VANDPS(bits(absBits), v, v)
	VMAXPS(m, v, m)
}

// across sets the first lane of m to its largest.
func across(m VecVirtual) {
	x := XMM()
	VEXTRACTF128(Imm(1), m, x)
	VMAXPS(x, m.AsX(), m.AsX())
	VPERMILPS(Imm(0x0e), m.AsX(), x)
	VMAXPS(x, m.AsX(), m.AsX())
	VPERMILPS(Imm(0x01), m.AsX(), x)
	VMAXSS(x, m.AsX(), m.AsX())
}

// bytes32 rounds 32 values at x times inv into one vector of bytes in order.
func bytes32(x Register, disp int, inv, order VecVirtual) VecVirtual {
	v := [4]VecVirtual{YMM(), YMM(), YMM(), YMM()}
	for i := range v {
		VMULPS(mem(x, disp+32*i), inv, v[i])
		VMAXPS(num(-127), v[i], v[i])
		VMINPS(num(127), v[i], v[i])
		VCVTPS2DQ(v[i], v[i])
	}
	VPACKSSDW(v[1], v[0], v[0])
	VPACKSSDW(v[3], v[2], v[2])
	VPACKSSWB(v[2], v[0], v[0])
	VPERMD(v[0], order, v[0])
	return v[0]
}

// orderVector is the order that undoes two rounds of packing within halves.
func orderVector() VecVirtual {
	m := GLOBL("packOrder", RODATA|NOPTR)
	for i, k := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		DATA(4*i, U32(k))
	}
	y := YMM()
	VMOVDQU(m, y)
	return y
}

// sums4 turns 32 bytes into 8 sums of four.
func sums4(q, ones8 VecVirtual) VecVirtual {
	s := YMM()
	VPMADDUBSW(q, ones8, s)
	VPMADDWD(bits(0x00010001), s, s)
	return s
}

func quantize32() {
	function("quantize32AVX2", "func(q *int8, aux *int32, x *float32, blocks int)", "is quantize32 of blocks > 0 blocks.")
	q, aux, x, n := load("q"), load("aux"), load("x"), load("blocks")
	order, ones8 := orderVector(), YMM()
	VMOVDQU(bits(0x01010101), ones8)
	loop("block", n, func() {
		m := YMM()
		VXORPS(m, m, m)
		for i := range 4 {
			absMax256(mem(x, 32*i), m)
		}
		across(m)
		d, inv, c := XMM(), XMM(), XMM()
		VDIVSS(num(127), m.AsX(), d)
		VCVTPS2PH(Imm(0), d, d)
		VCVTPH2PS(d, d)
		VMOVSS(d, mem(aux, 0))
		VMOVSS(num(127), inv)
		VDIVSS(m.AsX(), inv, inv)
		VXORPS(c, c, c)
		VCMPSS(Imm(4), c, m.AsX(), c) // amax != 0, or there is no inverse
		VANDPS(c, inv, inv)
		all := YMM()
		VBROADCASTSS(inv, all)
		b := bytes32(x, 0, all, order)
		VMOVDQU(b, mem(q, 0))
		s, h := sums4(b, ones8), XMM()
		VEXTRACTI128(Imm(1), s, h)
		VPADDD(h, s.AsX(), s.AsX())
		VPSHUFD(Imm(0x0e), s.AsX(), h)
		VPADDD(h, s.AsX(), s.AsX())
		VPSHUFD(Imm(0x01), s.AsX(), h)
		VPADDD(h, s.AsX(), s.AsX())
		sum := GP32()
		VMOVD(s.AsX(), sum)
		NEGL(sum)
		MOVL(sum, mem(aux, 4))
		add(32, q)
		add(8, aux)
		add(128, x)
	})
	VZEROUPPER()
	RET()
}

func quantize256() {
	function("quantize256AVX2", "func(q *int8, aux *int32, x *float32, blocks int)", "is quantize256 of blocks > 0 blocks.")
	q, aux, x, n := load("q"), load("aux"), load("x"), load("blocks")
	order, ones8, zero := YMM(), YMM(), YMM()
	VMOVDQU(NewDataAddr(Symbol{Name: "packOrder", Static: true}, 0), order)
	VMOVDQU(bits(0x01010101), ones8)
	VPXOR(zero, zero, zero)
	loop("block", n, func() {
		m, at, k, hit := YMM(), GP64(), GP64(), GP32()
		VXORPS(m, m, m)
		MOVQ(x, at)
		MOVQ(U32(8), k)
		loop("max", k, func() {
			for i := range 4 {
				absMax256(mem(at, 32*i), m)
			}
			add(128, at)
		})
		across(m)
		all, d := YMM(), XMM()
		VXORPS(all, all, all)
		VXORPS(d, d, d)
		VCOMISS(d, m.AsX())
		JE(LabelRef("scaled")) // all zero: no scale
		VBROADCASTSS(m.AsX(), m)
		MOVQ(x, at)
		Label("find") // the first value of that magnitude: its sign counts
		v := YMM()
		VMOVUPS(mem(at, 0), v)
		VANDPS(bits(absBits), v, v)
		VCMPPS(Imm(0), m, v, v)
		VMOVMSKPS(v, hit)
		add(32, at)
		TESTL(hit, hit)
		JZ(LabelRef("find"))
		BSFL(hit, hit)
		inv := XMM()
		VMOVSS(num(-127), inv)
		VDIVSS(Mem{Base: at, Index: hit.As64(), Scale: 4, Disp: -32}, inv, inv)
		VMOVSS(num(1), d)
		VDIVSS(inv, d, d)
		VBROADCASTSS(inv, all)
		Label("scaled")
		VMOVSS(d, mem(aux, 0))
		MOVQ(U32(4), k)
		sum, pair := GP64(), GP64()
		MOVQ(aux, sum)
		MOVQ(aux, pair)
		loop("bytes", k, func() {
			var fours [2]VecVirtual
			for i := range 2 {
				b := bytes32(x, 128*i, all, order)
				VMOVDQU(b, mem(q, 32*i))
				fours[i] = sums4(b, ones8)
			}
			// Within each half: lanes 0,1 the sum of the first vector's 16, lanes 2,3 of the second's.
			VPHADDD(fours[1], fours[0], fours[0])
			VPHADDD(fours[0], fours[0], fours[0])
			VPSUBD(fours[0], zero, fours[0])
			lo, hi, s := fours[0].AsX(), XMM(), XMM()
			VEXTRACTI128(Imm(1), fours[0], hi)
			VPUNPCKLDQ(hi, lo, s) // first, second half of vector 0, of vector 1
			VMOVDQU(s, mem(sum, 32))
			VPHADDD(s, s, s)
			VPACKSSDW(s, s, s)
			VMOVD(s, mem(pair, 16))
			add(64, q)
			add(256, x)
			add(16, sum)
			add(4, pair)
		})
		add(96, aux)
	})
	VZEROUPPER()
	RET()
}

func toF16() {
	function("toF16AVX2", "func(dst *uint16, src *float32, n int)", "is ToF16 for n a positive multiple of 8.")
	dst, src, n := load("dst"), load("src"), load("n")
	loop("loop", n, func() {
		SUBQ(Imm(7), n)
		v := YMM()
		VMOVUPS(mem(src, 0), v)
		VCVTPS2PH(Imm(0), v, mem(dst, 0))
		add(16, dst)
		add(32, src)
	})
	VZEROUPPER()
	RET()
}

func expSum() {
	function("expSumAVX2", "func(x *float32, n int, m float32) float32", "is ExpSum for n a positive multiple of 16.")
	x, n, m := load("x"), load("n"), loadAll("m")
	a, b, v, e := YMM(), YMM(), YMM(), YMM()
	VXORPS(a, a, a)
	VXORPS(b, b, b)
	loop("loop", n, func() {
		SUBQ(Imm(15), n)
		for i, l := range []VecVirtual{a, b} {
			VMOVUPS(mem(x, 32*i), v)
			VSUBPS(m, v, v)
			exp256(v, e)
			VMOVUPS(e, mem(x, 32*i))
			VADDPS(e, l, l)
		}
		add(64, x)
	})
	tree256(a, b)
	Store(a.AsX(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

var doubles = map[float64]Mem{}

// double returns a constant vector of four equal float64.
func double(f float64) Mem {
	if m, ok := doubles[f]; ok {
		return m
	}
	m := GLOBL("dbl"+string(rune('a'+len(doubles))), RODATA|NOPTR)
	for i := range 4 {
		DATA(8*i, F64(f))
	}
	doubles[f] = m
	return m
}

// expWeights: four float64 at a time, step by step what Exp64 does.
func expWeights() {
	function("expWeightsAVX2", "func(dst *float64, x *float32, n int, top, inverse float64) float64", "is ExpWeights for n a positive multiple of 16.")
	dst, x, n := load("dst"), load("x"), load("n")
	top, inverse, s := YMM(), YMM(), XMM()
	Load(Param("top"), s)
	VBROADCASTSD(s, top)
	Load(Param("inverse"), s)
	VBROADCASTSD(s, inverse)
	sums := [4]VecVirtual{YMM(), YMM(), YMM(), YMM()}
	for _, a := range sums {
		VXORPD(a, a, a)
	}
	d, k, r, p, t := YMM(), YMM(), YMM(), YMM(), YMM()
	loop("loop", n, func() {
		SUBQ(Imm(15), n)
		for i, a := range sums {
			VCVTPS2PD(mem(x, 16*i), d)
			VSUBPD(top, d, d)
			VMULPD(inverse, d, d)
			VMULPD(double(exp64Log2e), d, k)
			VROUNDPD(Imm(8), k, k)
			VMULPD(double(exp64Ln2Hi), k, t)
			VSUBPD(t, d, r)
			VMULPD(double(exp64Ln2Lo), k, t)
			VSUBPD(t, r, r)
			VMOVUPD(double(exp64Terms[0]), p)
			for _, c := range exp64Terms[1:] {
				VMULPD(r, p, p)
				VADDPD(double(c), p, p)
			}
			VCVTPD2DQY(k, t.AsX())
			VPMOVSXDQ(t.AsX(), t)
			VPSLLQ(Imm(52), t, t)
			VPADDQ(t, p, p)
			VCMPPD(Imm(30), double(-40), d, t) // d > -40
			VANDPD(t, p, p)
			VMOVUPD(p, mem(dst, 32*i))
			VADDPD(p, a, a)
		}
		add(64, x)
		add(128, dst)
	})
	VADDPD(sums[2], sums[0], sums[0])
	VADDPD(sums[3], sums[1], sums[1])
	VADDPD(sums[1], sums[0], sums[0])
	VEXTRACTF128(Imm(1), sums[0], s)
	VADDPD(s, sums[0].AsX(), sums[0].AsX())
	VPERMILPD(Imm(1), sums[0].AsX(), s)
	VADDSD(s, sums[0].AsX(), sums[0].AsX())
	Store(sums[0].AsX(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// Constants of Exp64.
const (
	exp64Log2e = 1.44269504088896338700e+00
	exp64Ln2Hi = 6.93147180369123816490e-01
	exp64Ln2Lo = 1.90821492927058770002e-10
)

var exp64Terms = [...]float64{1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1}

func maximum() {
	function("maxAVX2", "func(x *float32, n int) float32", "is Max for n a positive multiple of 32.")
	x, n := load("x"), load("n")
	m := [4]VecVirtual{YMM(), YMM(), YMM(), YMM()}
	for _, v := range m {
		VMOVUPS(num(float32(math.Inf(-1))), v)
	}
	loop("loop", n, func() {
		SUBQ(Imm(31), n)
		v := YMM()
		for i := range m {
			VMOVUPS(mem(x, 32*i), v)
			VMAXPS(m[i], v, m[i]) // the second operand, m, where v is not a number
		}
		add(128, x)
	})
	VMAXPS(m[1], m[0], m[0])
	VMAXPS(m[3], m[2], m[2])
	VMAXPS(m[2], m[0], m[0])
	across(m[0])
	Store(m[0].AsX(), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func indexOf() {
	function("indexAVX2", "func(x *float32, n int, v float32) int", "returns the first index of v among n values, a positive multiple of 8; n if there is none.")
	x, n, v := load("x"), load("n"), loadAll("v")
	i, hit, y := GP64(), GP32(), YMM()
	XORQ(i, i)
	Label("loop")
	VCMPPS(Imm(0), Mem{Base: x, Index: i, Scale: 4}, v, y)
	VMOVMSKPS(y, hit)
	TESTL(hit, hit)
	JNZ(LabelRef("found"))
	add(8, i)
	CMPQ(i, n)
	JLT(LabelRef("loop"))
	JMP(LabelRef("end"))
	Label("found")
	BSFL(hit, hit)
	ADDQ(hit.As64(), i)
	Label("end")
	Store(i, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func addTo() {
	function("addAVX2", "func(dst, x *float32, n int)", "is Add for n a positive multiple of 8.")
	dst, x, n := load("dst"), load("x"), load("n")
	loop("loop", n, func() {
		SUBQ(Imm(7), n)
		v := YMM()
		VMOVUPS(mem(dst, 0), v)
		VADDPS(mem(x, 0), v, v)
		VMOVUPS(v, mem(dst, 0))
		add(32, dst)
		add(32, x)
	})
	VZEROUPPER()
	RET()
}

// scores: four vectors of positions, one FMA chain each along the head.
func scores(name string, half bool) {
	elem, size := "*float32", 4
	if half {
		elem, size = "*uint16", 2
	}
	function(name, "func(s, q *float32, k "+elem+", dim int)", "sets the 32 scores of a page: the products of q with its keys.")
	s, q, k, n := load("s"), load("q"), load("k"), load("dim")
	acc := [4]VecVirtual{YMM(), YMM(), YMM(), YMM()}
	for _, a := range acc {
		VXORPS(a, a, a)
	}
	b, v := YMM(), YMM()
	loop("loop", n, func() {
		VBROADCASTSS(mem(q, 0), b)
		for i, a := range acc {
			if half {
				VCVTPH2PS(mem(k, 16*i), v)
				VFMADD231PS(b, v, a)
			} else {
				VFMADD231PS(mem(k, 32*i), b, a)
			}
		}
		add(4, q)
		add(32*size, k)
	})
	for i, a := range acc {
		VMOVUPS(a, mem(s, 32*i))
	}
	VZEROUPPER()
	RET()
}

// softPage: what happens to a page's scores between the two products.
func softPage() {
	function("softPageAVX2", "func(s *float32, scale, m float32) (top, fade, sum float32)",
		"scales 32 scores, sets top to the largest of them and m, s to exp(s-top), fade to exp(m-top) and sum to the sum of s.")
	s, scale, m := load("s"), loadAll("scale"), loadAll("m")
	var v [4]VecVirtual
	top := YMM()
	VMOVAPS(m, top)
	for i := range v {
		v[i] = YMM()
		VMULPS(mem(s, 32*i), scale, v[i])
		VMAXPS(top, v[i], top)
	}
	across(top)
	Store(top.AsX(), ReturnIndex(0))
	VBROADCASTSS(top.AsX(), top)
	e := YMM()
	VSUBPS(top, m, m)
	exp256(m, e)
	Store(e.AsX(), ReturnIndex(1))
	for i := range v {
		VSUBPS(top, v[i], m)
		exp256(m, e)
		VMOVUPS(e, mem(s, 32*i))
		VMOVAPS(e, v[i])
	}
	VADDPS(v[2], v[0], v[0])
	VADDPS(v[3], v[1], v[1])
	tree256(v[0], v[1])
	Store(v[0].AsX(), ReturnIndex(2))
	VZEROUPPER()
	RET()
}

// values: strips of 64 values of the head, then of 8; each value is one FMA chain over the positions.
func values(name string, half bool) {
	elem, size := "*float32", 4
	if half {
		elem, size = "*uint16", 2
	}
	function(name, "func(out, s *float32, v "+elem+", dim, n int, fade float32)", "sets out = out*fade plus the sum of s[i] times value i for i < n. dim is a multiple of 8, n > 0.")
	out, s, v, dim := load("out"), load("s"), load("v"), load("dim")
	fade, left, stride, at, p, n := loadAll("fade"), GP64(), GP64(), GP64(), GP64(), GP64()
	MOVQ(dim, left)
	MOVQ(dim, stride)
	SHLQ(Imm(uint64(size/2)), stride)
	strip := func(name string, width int) {
		acc := make([]VecVirtual, width)
		for i := range acc {
			acc[i] = YMM()
			VMULPS(mem(out, 32*i), fade, acc[i])
		}
		MOVQ(v, at)
		MOVQ(s, p)
		Load(Param("n"), n)
		loop(name, n, func() {
			b, x := YMM(), YMM()
			VBROADCASTSS(mem(p, 0), b)
			for i, a := range acc {
				if half {
					VCVTPH2PS(mem(at, 16*i), x)
					VFMADD231PS(x, b, a)
				} else {
					VFMADD231PS(mem(at, 32*i), b, a)
				}
			}
			ADDQ(stride, at)
			add(4, p)
		})
		for i, a := range acc {
			VMOVUPS(a, mem(out, 32*i))
		}
		add(32*width, out)
		add(8*width*size, v)
		add(-8*width, left)
	}
	Label("wide")
	CMPQ(left, Imm(64))
	JLT(LabelRef("narrow"))
	strip("wideLoop", 8)
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
