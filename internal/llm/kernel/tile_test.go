package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"maas/internal/llm/quant"
)

// setActs quantizes x for weights of format t.
func setActs(t quant.Type, x []float32, n, cols int) *Acts {
	a := new(Acts)
	a.Set(t, x, n, cols)
	return a
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && !(got[i] != got[i] && want[i] != want[i]) {
			t.Fatalf("%s: value %d is %g (%08x), the reference says %g (%08x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// compareProduct runs one product at every level, with one worker and with three, and wants the bits of the reference. The outputs between the rows must stay untouched.
func compareProduct(t *testing.T, p *Pool, typ quant.Type, rows, cols, n int, raw []byte, x []float32) {
	t.Helper()
	w, err := Pack(nil, typ, rows, cols, raw)
	if err != nil {
		t.Fatal(err)
	}
	w.data = guarded(t, w.data)
	a := setActs(typ, guarded(t, x), n, cols)
	a.q, a.aux = guarded(t, a.q), guarded(t, a.aux)
	ldy := rows + 3
	want := make([]float32, (n-1)*ldy+rows)
	for i := range want {
		want[i] = 12345
	}
	got := guarded(t, want)
	matMul(nil, Generic, want, ldy, w, a)
	for _, level := range Levels()[1:] {
		for _, pool := range []*Pool{nil, p} {
			for i := range got {
				got[i] = 12345
			}
			matMul(pool, level, got, ldy, w, a)
			sameBits(t, fmt.Sprintf("%s %dx%d n %d at %s", typ, rows, cols, n, level), got, want)
		}
	}
}

func TestProductsAreBitEqualOverShapes(t *testing.T) {
	t.Parallel()
	p := NewPool(3)
	t.Cleanup(p.Close)
	r := rand.New(rand.NewPCG(11, 12))
	for _, typ := range allTypes {
		info, _ := typ.Info()
		blocks := []int{1, 2, 3, 8}
		if info.Block == 1 {
			blocks = []int{1, 2, 3, 4, 5, 7, 64, 130, 255, 256, 257, 515}
		}
		for _, nb := range blocks {
			for _, rows := range []int{1, 15, 16, 17, 48, 130} {
				n := 1 + r.IntN(19)
				cols := nb * info.Block
				compareProduct(t, p, typ, rows, cols, n, randomRaw(r, typ, rows, cols), randomFloats(r, n*cols))
			}
		}
		for n := 1; n <= 17; n++ {
			cols := 2 * info.Block
			compareProduct(t, p, typ, 33, cols, n, randomRaw(r, typ, 33, cols), randomFloats(r, n*cols))
		}
	}
}

// Real shapes: attention output and the projection down of the 134 M bench model.
func TestProductsAreBitEqualAtRealSizes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(13, 14))
	for _, typ := range allTypes {
		compareProduct(t, nil, typ, 32, 2048, 9, randomRaw(r, typ, 32, 2048), randomFloats(r, 9*2048))
	}
}

// Every integer at its bounds, with inputs that are all at +-127, zero, subnormal, huge or not finite, and scales likewise.
func TestProductsAreBitEqualAtExtremes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(15, 16))
	inputs := map[string]func(i int) float32{
		"same":      func(int) float32 { return 1 },
		"negative":  func(int) float32 { return -3 },
		"signs":     func(i int) float32 { return float32(1 - 2*(i&1)) },
		"zero":      func(int) float32 { return 0 },
		"subnormal": func(i int) float32 { return math.Float32frombits(uint32(i%7 + 1)) },
		"huge":      func(i int) float32 { return float32(1-2*(i%3&1)) * 1e37 },
		"infinite":  func(i int) float32 { return []float32{1, float32(math.Inf(1)), -2, float32(math.Inf(-1))}[i%4] },
		"nan":       func(i int) float32 { return []float32{1, float32(math.NaN()), -2}[i%3] },
	}
	scales := []uint16{0, 0x8000, 1, 0x83ff, 0x7bff, 0xfbff, 0x3c00}
	const rows, n = 20, 7
	for _, typ := range allTypes {
		info, _ := typ.Info()
		cols := 2 * max(info.Block, 32)
		for name, f := range inputs {
			x := make([]float32, n*cols)
			for i := range x {
				x[i] = f(i)
			}
			for _, fill := range []byte{0x00, 0xff, 0x80, 0x7f, 0x88} {
				raw := make([]byte, rows*typ.RowBytes(cols))
				for i := range raw {
					raw[i] = fill
				}
				if info.Block > 1 {
					for b := 0; b < len(raw); b += info.Bytes {
						d, m := scales[r.IntN(len(scales))], scales[r.IntN(len(scales))]
						at := b
						switch typ {
						case quant.Q6_K:
							at = b + 208
						case quant.Q4_1, quant.Q5_1, quant.Q4_K, quant.Q5_K:
							raw[b+2], raw[b+3] = byte(m), byte(m>>8)
						default:
						}
						raw[at], raw[at+1] = byte(d), byte(d>>8)
					}
				}
				t.Run(fmt.Sprintf("%s/%s/%02x", typ, name, fill), func(t *testing.T) { compareProduct(t, nil, typ, rows, cols, n, raw, x) })
			}
		}
	}
}

// A product of several tokens is the product of each: the batch does not change a bit.
func TestProductDoesNotDependOnBatch(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(17, 18))
	const rows, cols, n = 40, 512, 11
	for _, typ := range allTypes {
		w, err := Pack(nil, typ, rows, cols, randomRaw(r, typ, rows, cols))
		if err != nil {
			t.Fatal(err)
		}
		x := randomFloats(r, n*cols)
		all, one := make([]float32, n*rows), make([]float32, rows)
		MatMul(nil, all, rows, w, setActs(typ, x, n, cols))
		for i := range n {
			MatMul(nil, one, rows, w, setActs(typ, x[i*cols:], 1, cols))
			sameBits(t, typ.String(), all[i*rows:(i+1)*rows], one)
		}
	}
}

func FuzzProduct(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint8(3), uint8(2), uint8(1))
	f.Fuzz(func(t *testing.T, seed uint64, typ, rows, blocks, n uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		q := allTypes[int(typ)%len(allTypes)]
		info, _ := q.Info()
		cols, count, tokens := (1+int(blocks)%9)*info.Block, 1+int(rows)%70, 1+int(n)%20
		raw := make([]byte, count*q.RowBytes(cols)) // any bits: scales that are not finite too
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		compareProduct(t, nil, q, count, cols, tokens, raw, randomFloats(r, tokens*cols))
	})
}

func BenchmarkMatMul(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, typ := range []quant.Type{quant.Q8_0, quant.Q4_0, quant.Q4_K, quant.Q6_K, quant.F32, quant.F16} {
		// 32 matrices of 2048 x 768 are 50 M weights: more than the caches hold, as in a model.
		const rows, cols, count = 2048, 768, 32
		var ws []*Weights
		raw := randomRaw(r, typ, rows, cols)
		for range count {
			w, err := Pack(nil, typ, rows, cols, raw)
			if err != nil {
				b.Fatal(err)
			}
			ws = append(ws, w)
		}
		for _, level := range Levels() {
			if level == Generic && testing.Short() {
				continue
			}
			for _, n := range []int{1, 8, 64} {
				if level == Generic && n > 1 {
					continue
				}
				a := setActs(typ, randomFloats(r, n*cols), n, cols)
				y := make([]float32, n*rows)
				b.Run(fmt.Sprintf("%s/%s/%d", typ, level, n), func(b *testing.B) {
					b.ReportAllocs()
					for i := range b.N {
						matMul(nil, level, y, rows, ws[i%count], a)
					}
					per := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(n)
					b.ReportMetric(per/(rows*cols)*134e6/1e6, "ms/token134M")
				})
			}
		}
	}
}
