// Command gen writes the assembly of package kernel with avo, one file per instruction set. It is a module of its own, so that the product does not depend on it. Run it by `go generate` in the kernel's folder.
//
// All product kernels have one shape: func(y *float32, ldy int, w *byte, nb int, x *byte, aux *int32, panels int). They set y[t*ldy+16*p : +16] for t = 0..T-1 and p = 0..panels-1 from panels of nb blocks (of nb
// values for float weights) that follow each other at w, from T rows of inputs x and what goes with their blocks, aux. ldy is in bytes. The name ends in T.
package main

import (
	"flag"
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	set := flag.String("set", "", "avx2, avx512, element or attend")
	ConstraintExpr("amd64")
	flag.Parse()
	switch *set {
	case "avx2":
		avx2()
	case "element":
		element()
	case "attend":
		attend()
	case "avx512":
		avx512()
	default:
		panic("unknown set " + *set)
	}
	Generate()
}

const signature = "func(y *float32, ldy int, w *byte, nb int, x *byte, aux *int32, panels int)"

// rows addresses T rows that lie a fixed stride apart with at most four index registers.
type rows struct {
	base           Register
	s1, s3, s5, s7 Register
}

// newRows loads the stride as nb << shift, plus once more nb << plus if that is not zero.
func newRows(nb GPVirtual, t int, shift, plus int) *rows {
	r := &rows{base: GP64()}
	mul := func(k int) Register {
		s := GP64()
		MOVQ(nb, s)
		SHLQ(U8(shift), s)
		if plus != 0 {
			p := GP64()
			MOVQ(nb, p)
			SHLQ(U8(plus), p)
			ADDQ(p, s)
		}
		if k > 1 {
			IMUL3Q(U32(uint32(k)), s, s)
		}
		return s
	}
	if t > 1 {
		r.s1 = mul(1)
	}
	if t > 3 {
		r.s3 = mul(3)
	}
	if t > 5 {
		r.s5, r.s7 = mul(5), mul(7)
	}
	return r
}

// at addresses row t, disp bytes from its start.
func (r *rows) at(t, disp int) Mem {
	m := Mem{Base: r.base, Disp: disp}
	switch t {
	case 0:
	case 1, 2, 4:
		m.Index, m.Scale = r.s1, uint8(t)
	case 3, 6:
		m.Index, m.Scale = r.s3, uint8(t/3)
	case 5:
		m.Index, m.Scale = r.s5, 1
	case 7:
		m.Index, m.Scale = r.s7, 1
	}
	return m
}

func mem(r Register, disp int) Mem { return Mem{Base: r, Disp: disp} }

// loop repeats body until n, counted down, is zero.
func loop(name string, n Op, body func()) {
	Label(name)
	body()
	DECQ(n)
	JNZ(LabelRef(name))
}

// add adds a constant; every size is encodable.
func add(n int, r Register) { ADDQ(I32(int32(n)), r) }

// frame is what a kernel keeps in memory, since it has more to count than registers: the panels left, the place of the next results, the blocks left.
type frame struct{ panels, y, blocks Mem }

// begin opens a function and loads what all of them need. nb may be overwritten once the rows are set up.
func begin(name string, t int, form string) (w, nb GPVirtual, f frame) {
	TEXT(fmt.Sprintf("%s%d", name, t), NOSPLIT, signature)
	Doc(fmt.Sprintf("%s%d is the product of panels in form %s with %d rows of inputs.", name, t, form, t))
	Pragma("noescape")
	w, nb = GP64(), GP64()
	local := AllocLocal(24)
	f = frame{local, local.Offset(8), local.Offset(16)}
	Load(Param("panels"), w)
	MOVQ(w, f.panels)
	Load(Param("y"), w)
	MOVQ(w, f.y)
	Load(Param("w"), w)
	Load(Param("nb"), nb)
	return w, nb, f
}

// panel repeats body for each panel, with the rows at their start again and the number of blocks, in memory, up to date.
func (f frame) panel(x, aux *rows, body func()) {
	loop("panel", f.panels, func() {
		n := GP64()
		Load(Param("nb"), n)
		MOVQ(n, f.blocks)
		Load(Param("x"), x.base)
		if aux != nil {
			Load(Param("aux"), aux.base)
		}
		body()
	})
	VZEROUPPER()
	RET()
}
