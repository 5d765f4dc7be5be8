package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"maas/internal/llm/quant"
)

var allTypes = []quant.Type{quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q4_1, quant.Q5_0, quant.Q5_1, quant.Q4_K, quant.Q5_K, quant.Q6_K}

// randomRaw returns rows of blocks with every integer at random and scales around 1/32: any bytes are valid integers, and this meets more of them than quantized values would.
func randomRaw(r *rand.Rand, t quant.Type, rows, cols int) []byte {
	info, _ := t.Info()
	raw := make([]byte, rows*t.RowBytes(cols))
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	put := func(at int, f float32) {
		h := quant.ToF16(f)
		raw[at], raw[at+1] = byte(h), byte(h>>8)
	}
	for b := 0; b < len(raw); b += info.Bytes {
		f := float32(r.NormFloat64() / 32)
		switch t {
		case quant.F32:
			u := math.Float32bits(f)
			raw[b], raw[b+1], raw[b+2], raw[b+3] = byte(u), byte(u>>8), byte(u>>16), byte(u>>24)
		case quant.BF16:
			h := quant.ToBF16(f)
			raw[b], raw[b+1] = byte(h), byte(h>>8)
		case quant.Q6_K:
			put(b+208, f)
		case quant.Q4_1, quant.Q5_1, quant.Q4_K, quant.Q5_K:
			put(b, f)
			put(b+2, float32(r.NormFloat64()/32))
		default:
			put(b, f)
		}
	}
	return raw
}

func randomFloats(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func TestFMA32IsRoundedOnce(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	value := func() float32 {
		for {
			f := math.Float32frombits(r.Uint32())
			switch r.IntN(4) {
			case 0:
				f = float32(r.NormFloat64())
			case 1: // few bits, so that ties happen
				f = float32(math.Ldexp(float64(r.IntN(4096)-2048), r.IntN(40)-20))
			}
			if f == f && !math.IsInf(float64(f), 0) {
				return f
			}
		}
	}
	for range 300_000 {
		a, b, c := value(), value(), value()
		if r.IntN(4) == 0 { // near cancellation and ties between neighbours
			c = float32(-float64(a) * float64(b) * (1 + float64(r.IntN(3)-1)*0x1p-24))
		}
		got := fma32(a, b, c)
		exact := new(big.Float).SetPrec(2000).SetFloat64(float64(a))
		exact.Mul(exact, new(big.Float).SetFloat64(float64(b)))
		exact.Add(exact, new(big.Float).SetFloat64(float64(c)))
		want, _ := exact.Float32()
		if got != want && !(math.IsInf(float64(want), 0) && got == want) {
			t.Fatalf("fma32(%g, %g, %g) = %g, want %g", a, b, c, got, want)
		}
	}
}

func TestExpAndTanhAreClose(t *testing.T) {
	t.Parallel()
	for x := float32(-87.3); x < 88; x += 0.00731 {
		want := math.Exp(float64(x))
		if got := float64(Exp(x)); math.Abs(got-want) > want*0x1p-22 {
			t.Fatalf("Exp(%g) = %g, want %g", x, got, want)
		}
		if got := float64(Tanh(x / 8)); math.Abs(got-math.Tanh(float64(x/8))) > 0x1p-22 {
			t.Fatalf("Tanh(%g) = %g", x/8, got)
		}
	}
	inf := float32(math.Inf(1))
	if Exp(-inf) != 0 || Exp(inf) != inf || Exp(0) != 1 || Exp(float32(math.NaN())) == Exp(float32(math.NaN())) {
		t.Fatal("Exp at the ends")
	}
}

func TestRowIsTheFilesRow(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for _, typ := range allTypes {
		for _, rows := range []int{1, 16, 37} {
			const cols = 512
			raw := randomRaw(r, typ, rows, cols)
			w, err := PackOrdered(nil, typ, rows, cols, raw, func(i int) int { return rows - 1 - i })
			if err != nil {
				t.Fatal(err)
			}
			got, want := make([]float32, cols), make([]float32, cols)
			for i := range rows {
				w.Row(got, i)
				quant.Matrix{Type: typ, Rows: rows, Cols: cols, Data: raw}.Row(want, rows-1-i)
				for k := range want {
					if math.Float32bits(got[k]) != math.Float32bits(want[k]) && !(got[k] != got[k] && want[k] != want[k]) {
						t.Fatalf("%s row %d value %d: %g, want %g", typ, i, k, got[k], want[k])
					}
				}
			}
		}
	}
}

// The reference against float64 of dequantized weights: what remains is the rounding of the activations to int8.
func TestMatMulIsCloseToFloat64(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	const rows, cols, n = 37, 512, 3
	for _, typ := range allTypes {
		w, err := Pack(nil, typ, rows, cols, randomRaw(r, typ, rows, cols))
		if err != nil {
			t.Fatal(err)
		}
		x := randomFloats(r, n*cols)
		var a Acts
		a.Set(typ, x, n, cols)
		y := make([]float32, n*rows)
		matMul(nil, Generic, y, rows, w, &a)
		row := make([]float32, cols)
		tolerance := 0.05 // of the root of the sum of squares: a rounded activation is off by about 0.008
		if a.kind == actF32 {
			tolerance = 3e-6
		}
		for i := range rows {
			w.Row(row, i)
			for j := range n {
				var want, size float64
				for k, v := range row {
					p := float64(v) * float64(x[j*cols+k])
					want += p
					size += p * p
				}
				if got := float64(y[j*rows+i]); math.Abs(got-want) > tolerance*math.Sqrt(size) {
					t.Errorf("%s [%d,%d]: %g, want %g within %g", typ, j, i, got, want, tolerance*math.Sqrt(size))
				}
			}
		}
	}
}

func TestAttendIsCloseToFloat64(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	for _, half := range []bool{false, true} {
		for _, o := range []AttendOptions{{Heads: 4, Scale: 0.2}, {Heads: 4, Scale: 0.3, Window: 40}, {Heads: 2, Scale: 0.25, SoftCap: 3}} {
			const dim, length = 24, 101
			c := NewKV(KVShape{Layers: 2, Heads: 2, HeadDim: dim, Half: half}, 5)
			table := []int32{3, 0, 4, 2}
			keys, values := randomFloats(r, length*2*dim), randomFloats(r, length*2*dim)
			for i := range length {
				c.Put(1, int(table[i/PageLen]), i%PageLen, keys[i*2*dim:(i+1)*2*dim], values[i*2*dim:(i+1)*2*dim])
			}
			queries := []Query{{table, 0}, {table, 31}, {table, 32}, {table, 77}, {table, 100}}
			q := randomFloats(r, len(queries)*o.Heads*dim)
			out := make([]float32, len(q))
			c.attendAt(nil, Generic, out, q, 1, queries, o)
			for i, query := range queries {
				for h := range o.Heads {
					want := attend64(q[(i*o.Heads+h)*dim:][:dim], keys, values, query.Pos, h/(o.Heads/2), dim, o)
					for k, w := range want {
						if got := float64(out[(i*o.Heads+h)*dim+k]); math.Abs(got-w) > 2e-3 || !half && math.Abs(got-w) > 1e-5 {
							t.Fatalf("half %v %+v query %d head %d value %d: %g, want %g", half, o, i, h, k, got, w)
						}
					}
				}
			}
		}
	}
}

func attend64(q, keys, values []float32, pos, head, dim int, o AttendOptions) []float64 {
	out, sum := make([]float64, dim), 0.0
	first := 0
	if o.Window > 0 {
		first = max(0, pos-o.Window+1)
	}
	for i := first; i <= pos; i++ {
		var s float64
		for k, x := range q {
			s += float64(x) * float64(keys[(i*2+head)*dim+k])
		}
		s *= float64(o.Scale)
		if o.SoftCap != 0 {
			s = float64(o.SoftCap) * math.Tanh(s/float64(o.SoftCap))
		}
		p := math.Exp(s)
		sum += p
		for k := range out {
			out[k] += p * float64(values[(i*2+head)*dim+k])
		}
	}
	for k := range out {
		out[k] /= sum
	}
	return out
}

func TestPoolCoversEveryRangeOnce(t *testing.T) {
	t.Parallel()
	p := NewPool(3)
	defer p.Close()
	for n := range 200 {
		seen := make([]atomic.Int32, n)
		p.For(n, 1+n%7, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				seen[i].Add(1)
			}
		})
		for i := range seen {
			if seen[i].Load() != 1 {
				t.Fatalf("n %d: %d ran %d times", n, i, seen[i].Load())
			}
		}
	}
	func() {
		defer func() {
			if recover() != "broken" {
				t.Error("the panic of a range did not come out")
			}
		}()
		p.For(100, 1, func(lo, _ int) {
			if lo == 50 {
				panic("broken")
			}
		})
	}()
	p.For(10, 1, func(int, int) {})
}

func TestPoolDoesNotAllocate(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	var sum atomic.Int64
	f := func(lo, hi int) { sum.Add(int64(hi - lo)) }
	w, err := Pack(p, quant.Q8_0, 256, 512, randomRaw(rand.New(rand.NewPCG(1, 1)), quant.Q8_0, 256, 512))
	if err != nil {
		t.Fatal(err)
	}
	x, y, many := make([]float32, 512), make([]float32, 256), make([]float32, 200*512)
	var a Acts
	a.SetOn(p, quant.Q8_0, many, 200, 512)
	if n := testing.AllocsPerRun(100, func() {
		p.For(100, 10, f)
		a.Set(quant.Q8_0, x, 1, 512)
		MatMul(p, y, 256, w, &a)
		a.SetOn(p, quant.Q8_0, many, 200, 512)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
