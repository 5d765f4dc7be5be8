package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"maas/internal/llm/quant"
)

// wild returns n values of all sizes: ordinary ones, and some that are huge, tiny, zero of either sign or infinite.
func wild(r *rand.Rand, n int, finite bool) []float32 {
	x := randomFloats(r, n)
	for i := range x {
		switch r.IntN(12) {
		case 0:
			x[i] = 0
		case 1:
			x[i] = float32(math.Copysign(0, -1))
		case 2:
			x[i] *= 50
		case 3:
			x[i] *= 1e30
		case 4:
			x[i] *= 1e-41
		case 5:
			if !finite {
				x[i] = float32(math.Inf(1 - 2*r.IntN(2)))
			}
		}
	}
	return x
}

// vectorLevels are the levels that have assembly for element-wise work; the test says so when there are none.
func vectorLevels(t *testing.T) []Level {
	t.Helper()
	l := Levels()[1:]
	if len(l) == 0 {
		t.Skip("this machine has only the generic level")
	}
	return l
}

func TestElementwiseIsBitEqual(t *testing.T) {
	t.Parallel()
	level := vectorLevels(t)[0]
	r := rand.New(rand.NewPCG(21, 22))
	for range 20 {
		for n := 1; n <= 130; n++ {
			x, y := guarded(t, wild(r, n, false)), guarded(t, wild(r, n, false))
			got, want := guarded(t, make([]float32, n)), make([]float32, n)
			done := level.siluMul(got, x, y)
			siluMul(want, x, y)
			sameBits(t, fmt.Sprint("silu ", n), got[:done], want[:done])
			if done != n&^7 {
				t.Fatalf("silu of %d did %d", n, done)
			}
			if n%16 == 0 {
				finite, w := guarded(t, wild(r, n, true)), guarded(t, randomFloats(r, n))
				level.rmsNorm(got, finite, w, 1e-5)
				Generic.rmsNorm(want, finite, w, 1e-5)
				sameBits(t, fmt.Sprint("norm ", n), got, want)
				copy(got, x)
				copy(want, x)
				gs, _ := level.expSum(got, 3)
				ws := expSum(want, 3)
				sameBits(t, fmt.Sprint("exp ", n), append(slices.Clone(got), gs), append(slices.Clone(want), ws))
			}
			copy(got, x)
			level.add(got, y)
			for i := range n &^ 7 {
				want[i] = x[i] + y[i]
			}
			sameBits(t, fmt.Sprint("add ", n), got[:n&^7], want[:n&^7])
			h := guarded(t, make([]uint16, n))
			level.toF16(h, x)
			for i := range n &^ 7 {
				if h[i] != quant.ToF16(x[i]) {
					t.Fatalf("half of %g is %04x, want %04x", x[i], h[i], quant.ToF16(x[i]))
				}
			}
		}
	}
}

func TestExpIsBitEqualOverItsRange(t *testing.T) {
	t.Parallel()
	level := vectorLevels(t)[0]
	r := rand.New(rand.NewPCG(23, 24))
	x := make([]float32, 1<<14)
	for i := range x {
		x[i] = float32(r.Float64()*200 - 110)
	}
	copy(x, []float32{expLo, expHi, math.Nextafter32(expLo, -100), math.Nextafter32(expHi, 100), 0, float32(math.Copysign(0, -1)), float32(math.NaN())})
	want := slices.Clone(x)
	level.expSum(x, 0)
	expSum(want, 0)
	sameBits(t, "exp", x, want)
}

func TestWeightsAndMaximaAreBitEqual(t *testing.T) {
	t.Parallel()
	level := vectorLevels(t)[0]
	r := rand.New(rand.NewPCG(31, 32))
	for range 50 {
		for _, n := range []int{1, 7, 8, 31, 32, 33, 48, 160, 1000} {
			x := guarded(t, wild(r, n, false))
			if r.IntN(3) == 0 {
				for i := range x {
					x[i] = float32(r.IntN(5)) - 2 // ties
				}
			}
			if r.IntN(3) == 0 {
				x[r.IntN(n)] = float32(math.NaN())
			}
			want, m := -1, float32(math.Inf(-1))
			for i, v := range x {
				if v > m {
					want, m = i, v
				}
			}
			if got := Argmax(x); got != want {
				t.Fatalf("Argmax of %v is %d, want %d", x, got, want)
			}
			if got := Max(x); got != m {
				t.Fatalf("Max of %v is %g, want %g", x, got, m)
			}
			if n%16 != 0 {
				continue
			}
			got, weights := guarded(t, make([]float64, n)), make([]float64, n)
			sum, ok := level.expWeights(got, x, float64(m), 1.25)
			if ref := expWeights(weights, x, float64(m), 1.25); !ok || sum != ref || !slices.Equal(got, weights) {
				t.Fatalf("weights of %v: %v, want %v", x, got, weights)
			}
		}
	}
}

func TestExp64IsClose(t *testing.T) {
	t.Parallel()
	for x := -708.0; x <= 0; x += 0.0371 {
		if got, want := Exp64(x), math.Exp(x); math.Abs(got-want) > 1e-15*want {
			t.Fatalf("Exp64(%g) = %g, want %g", x, got, want)
		}
	}
}

func TestRopeIsBitEqual(t *testing.T) {
	t.Parallel()
	level := vectorLevels(t)[0]
	r := rand.New(rand.NewPCG(25, 26))
	for _, half := range []int{8, 16, 32, 40, 64, 128} {
		for _, dim := range []int{2 * half, 2*half + 24} {
			x := guarded(t, randomFloats(r, 3*dim))
			cos, sin := guarded(t, randomFloats(r, half)), guarded(t, randomFloats(r, half))
			want := slices.Clone(x)
			if !level.rope(x, dim, cos, sin) {
				t.Fatal("not run")
			}
			rope(want, dim, cos, sin)
			sameBits(t, fmt.Sprint("rope ", half, dim), x, want)
		}
	}
}

func TestQuantizedInputsAreBitEqual(t *testing.T) {
	t.Parallel()
	level := vectorLevels(t)[0]
	r := rand.New(rand.NewPCG(27, 28))
	for range 300 {
		for _, x := range [][]float32{randomFloats(r, 768), wild(r, 768, true), wild(r, 768, false), make([]float32, 256)} {
			if r.IntN(4) == 0 {
				x[r.IntN(len(x))] = float32(math.NaN())
			}
			if r.IntN(4) == 0 { // ties of the largest magnitude, either sign first
				x[r.IntN(256)], x[r.IntN(256)] = 2e30, -2e30
			}
			x = guarded(t, x)
			for _, typ := range []quant.Type{quant.Q8_0, quant.Q4_K} {
				want, got := Acts{}, Acts{}
				switch typ {
				case quant.Q8_0:
					want.q, want.aux = make([]int8, len(x)), make([]int32, len(x)/32*aux32)
					got.q, got.aux = guarded(t, want.q), guarded(t, want.aux)
					quantize32(want.q, want.aux, x)
					level.quantize32(got.q, got.aux, x)
				default:
					want.q, want.aux = make([]int8, len(x)), make([]int32, len(x)/256*aux256)
					got.q, got.aux = guarded(t, want.q), guarded(t, want.aux)
					quantize256(want.q, want.aux, x)
					level.quantize256(got.q, got.aux, x)
				}
				if !slices.Equal(got.q, want.q) || !slices.Equal(got.aux, want.aux) {
					t.Fatalf("%s of %v:\n%v %v\nwant\n%v %v", typ, x, got.q, got.aux, want.q, want.aux)
				}
			}
		}
	}
}

func TestInputsDoNotDependOnWorkers(t *testing.T) {
	t.Parallel()
	p := NewPool(3)
	t.Cleanup(p.Close)
	x := randomFloats(rand.New(rand.NewPCG(33, 34)), 200*512)
	for _, typ := range []quant.Type{quant.Q8_0, quant.Q4_K, quant.F32} {
		var one, many Acts
		one.Set(typ, x, 200, 512)
		many.SetOn(p, typ, x, 200, 512)
		if !slices.Equal(one.q, many.q) || !slices.Equal(one.aux, many.aux) {
			t.Errorf("%s: other inputs with workers", typ)
		}
		one.Set(typ, nil, 0, 512)
		MatMul(p, nil, 16, &Weights{t: typ, form: must(formOf(typ)), rows: 16, cols: 512}, &one) // no rows, nothing done
	}
}

func must(f form, ok bool) form {
	if !ok {
		panic("not a format")
	}
	return f
}

func TestAttendIsBitEqual(t *testing.T) {
	t.Parallel()
	p := NewPool(3)
	t.Cleanup(p.Close)
	r := rand.New(rand.NewPCG(29, 30))
	for _, half := range []bool{true, false} {
		for _, dim := range []int{8, 24, 64, 72, 128, 256} {
			for _, o := range []AttendOptions{{Heads: 2, Scale: 0.2}, {Heads: 6, Scale: 0.3, Window: 40}, {Heads: 4, Scale: 0.25, SoftCap: 3}} {
				const length = 150
				c := NewKV(KVShape{Layers: 2, Heads: 2, HeadDim: dim, Half: half}, 5)
				c.half, c.full = guarded(t, c.half), guarded(t, c.full)
				table, other := []int32{3, 0, 4, 2, 1}, []int32{3, 0, 4, 2, 1}
				for i := range c.half { // what earlier owners left in slots that are not seen
					c.half[i] = 0x7e00
				}
				for i := range c.full {
					c.full[i] = float32(math.NaN())
				}
				for i := range length {
					c.Put(1, int(table[i/PageLen]), i%PageLen, randomFloats(r, 2*dim), randomFloats(r, 2*dim))
				}
				var queries []Query
				for _, pos := range []int{0, 1, 30, 31, 32, 33, 63, 64, 100, 127, 128, 149} {
					queries = append(queries, Query{table[:pos/PageLen+1], pos})
				}
				for i, pos := range []int{140, 3, 149, 148, 147, 146, 145, 7} { // a second sequence of the same pages, now and then interrupted
					queries = append(queries, Query{other[:pos/PageLen+1], pos})
					if i%3 == 2 {
						queries = append(queries, Query{table, 20 + i})
					}
				}
				q := guarded(t, randomFloats(r, len(queries)*o.Heads*dim))
				want, got := make([]float32, len(q)), guarded(t, make([]float32, len(q)))
				c.attendAt(nil, Generic, want, q, 1, queries, o)
				for i, v := range want {
					if v != v {
						t.Fatalf("value %d is not a number: a slot was read that is not seen", i)
					}
				}
				for _, level := range vectorLevels(t) {
					for _, pool := range []*Pool{nil, p} {
						c.attendAt(pool, level, got, q, 1, queries, o)
						sameBits(t, fmt.Sprintf("half %v dim %d %+v %s", half, dim, o, level), got, want)
					}
				}
			}
		}
	}
}

func BenchmarkAttend(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, half := range []bool{true, false} {
		for _, length := range []int{128, 512, 2048} {
			const heads, dim, layers = 12, 64, 12 // all layers in turn, so that keys and values come from memory as they do in a model
			c := NewKV(KVShape{Layers: layers, Heads: heads, HeadDim: dim, Half: half}, length/PageLen)
			table := make([]int32, length/PageLen)
			for i := range table {
				table[i] = int32(i)
			}
			for i := range length {
				for layer := range layers {
					c.Put(layer, i/PageLen, i%PageLen, randomFloats(r, heads*dim), randomFloats(r, heads*dim))
				}
			}
			q, out := randomFloats(r, heads*dim), make([]float32, heads*dim)
			queries := []Query{{table, length - 1}}
			for _, level := range Levels() {
				b.Run(fmt.Sprintf("half=%v/%d/%s", half, length, level), func(b *testing.B) {
					b.ReportAllocs()
					for i := range b.N {
						c.attendAt(nil, level, out, q, i%layers, queries, AttendOptions{Heads: heads, Scale: 0.125})
					}
				})
			}
		}
	}
}

func BenchmarkElementwise(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	x, y, w := randomFloats(r, 2048), randomFloats(r, 2048), randomFloats(r, 768)
	dst, half := make([]float32, 2048), make([]uint16, 2048)
	weights := make([]float64, 2048)
	var a Acts
	kv := NewKV(KVShape{Layers: 1, Heads: 12, HeadDim: 64, Half: true}, 1)
	for name, f := range map[string]func(){
		"silu2048":  func() { SiluMul(dst, x, y) },
		"norm768":   func() { RMSNorm(dst[:768], x[:768], w, 1e-5) },
		"rope768":   func() { Rope(x[:768], 64, y[:32], y[32:64]) },
		"acts2048":  func() { a.Set(quant.Q8_0, x, 1, 2048) },
		"actsK2048": func() { a.Set(quant.Q4_K, x, 1, 2048) },
		"half2048":  func() { ToF16(half, x) },
		"put768":    func() { kv.Put(0, 0, 3, x[:768], y[:768]) },
		"add768":    func() { Add(dst[:768], x[:768]) },
		"argmax":    func() { Argmax(x) },
		"weights":   func() { ExpWeights(weights, x, 4, 1) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				f()
			}
		})
	}
}
