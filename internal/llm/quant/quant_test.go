package quant_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
)

func golden(t *testing.T) func(name string) []byte {
	t.Helper()
	f, err := safetensors.Open("testdata/golden.safetensors")
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return func(name string) []byte {
		b, err := f.Bytes(f.Tensor(name))
		require.NoError(t, err, name)
		return b
	}
}

func decode(t *testing.T, typ quant.Type, b []byte, n int) []float32 {
	t.Helper()
	y := make([]float32, n)
	require.NoError(t, quant.Dequantize(typ, y, b))
	return y
}

// The blocks of the file come from ggml's reference functions: ours decode to the same bits.
func TestDequantizeEqualsGGML(t *testing.T) {
	t.Parallel()
	g := golden(t)
	n := len(g("x")) / 4
	for _, typ := range []quant.Type{quant.Q4_0, quant.Q4_1, quant.Q5_0, quant.Q5_1, quant.Q8_0, quant.Q4_K, quant.Q5_K, quant.Q6_K} {
		want, got := decode(t, quant.F32, g(typ.String()+".y"), n), decode(t, typ, g(typ.String()+".q"), n)
		for i := range want {
			if math.Float32bits(want[i]) != math.Float32bits(got[i]) && want[i] != got[i] { // a zero may have either sign
				t.Fatalf("%s: value %d is %v, ggml has %v", typ, i, got[i], want[i])
			}
		}
	}
}

// And ours encode the values to the same bytes.
func TestQuantizeEqualsGGML(t *testing.T) {
	t.Parallel()
	g := golden(t)
	x := decode(t, quant.F32, g("x"), len(g("x"))/4)
	for _, typ := range []quant.Type{quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q5_0, quant.Q4_K, quant.Q6_K} {
		want := g(typ.String() + ".q")
		got := make([]byte, len(want))
		require.NoError(t, quant.Quantize(typ, got, x))
		i, _ := typ.Info()
		wrong := 0
		for b := 0; b*i.Bytes < len(want); b++ {
			if string(want[b*i.Bytes:(b+1)*i.Bytes]) != string(got[b*i.Bytes:(b+1)*i.Bytes]) {
				wrong++
				if wrong < 4 {
					t.Errorf("%s: block %d of row %d differs\n got %x\nwant %x", typ, b, b*i.Block/256, got[b*i.Bytes:(b+1)*i.Bytes], want[b*i.Bytes:(b+1)*i.Bytes])
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d of %d blocks differ", typ, wrong, len(want)/i.Bytes)
		}
	}
}

func TestHalfRoundTripsEveryPattern(t *testing.T) {
	t.Parallel()
	for h := range 1 << 16 {
		f := quant.FromF16(uint16(h))
		if f != f { //nolint:gocritic // NaN
			require.Equal(t, uint16(0x7c00), quant.ToF16(f)&0x7c00, "%#x", h)
			continue
		}
		require.Equal(t, uint16(h), quant.ToF16(f), "%#x", h)
		b := quant.FromBF16(uint16(h))
		if b == b { //nolint:gocritic // not NaN
			require.Equal(t, uint16(h), quant.ToBF16(b), "%#x", h)
		}
	}
}

// The nearest of the two neighbours is found, the even one on ties.
func TestHalfRoundsToNearestEven(t *testing.T) {
	t.Parallel()
	for h := range uint16(0x7bff) {
		lo, hi := float64(quant.FromF16(h)), float64(quant.FromF16(h+1))
		mid := float32((lo + hi) / 2)
		want := h + h&1
		require.Equal(t, want, quant.ToF16(mid), "%#x", h)
		require.Equal(t, h, quant.ToF16(math.Nextafter32(mid, 0)), "%#x", h)
		require.Equal(t, h+1, quant.ToF16(math.Nextafter32(mid, 1e9)), "%#x", h)
	}
	require.Equal(t, uint16(0x7c00), quant.ToF16(65520))
	require.Equal(t, uint16(0x7bff), quant.ToF16(65519.99))
}

// Rms errors on N(0,1), as fractions: what a change of the search must not lose.
func TestErrorOnNormalValues(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 64*256)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for typ, limit := range map[quant.Type]float64{quant.F32: 0, quant.F16: 3e-4, quant.BF16: 2.5e-3, quant.Q8_0: 6e-3, quant.Q6_K: 2e-2, quant.Q5_0: 5e-2, quant.Q4_K: 8e-2, quant.Q4_0: 1e-1} {
		b := make([]byte, typ.RowBytes(len(x)))
		require.NoError(t, quant.Quantize(typ, b, x))
		y := decode(t, typ, b, len(x))
		var sum float64
		for i := range x {
			sum += float64(x[i]-y[i]) * float64(x[i]-y[i])
		}
		require.LessOrEqual(t, math.Sqrt(sum/float64(len(x))), limit, typ.String())
	}
}

func TestSizesAreChecked(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, quant.Dequantize(quant.Q8_0, make([]float32, 31), make([]byte, 34)), quant.ErrSize)
	require.ErrorIs(t, quant.Dequantize(quant.Q8_0, make([]float32, 32), make([]byte, 33)), quant.ErrSize)
	require.ErrorIs(t, quant.Quantize(quant.F16, make([]byte, 3), make([]float32, 1)), quant.ErrSize)
	require.ErrorIs(t, quant.Quantize(quant.Q5_K, make([]byte, 176), make([]float32, 256)), quant.ErrTypeUnsupported)
	require.ErrorIs(t, quant.Dequantize(10, make([]float32, 256), make([]byte, 84)), quant.ErrTypeUnsupported)
	require.ErrorIs(t, quant.Dequantize(99, nil, nil), quant.ErrTypeUnsupported)
}

func TestNamesAreFoundAgain(t *testing.T) {
	t.Parallel()
	for i := range quant.Type(64) {
		if info, ok := i.Info(); ok {
			got, ok := quant.ByName(info.Name)
			require.True(t, ok)
			require.Equal(t, i, got)
			require.Equal(t, i, info.Type)
		}
	}
	require.Equal(t, "type 99", quant.Type(99).String())
}

func TestMatrixRow(t *testing.T) {
	t.Parallel()
	b := make([]byte, 2*34)
	binary.LittleEndian.PutUint16(b[34:], quant.ToF16(0.5))
	b[34+2+31] = 254 // -2
	row := make([]float32, 32)
	quant.Matrix{Type: quant.Q8_0, Rows: 2, Cols: 32, Data: b}.Row(row, 1)
	require.InDelta(t, -1, row[31], 0)
}

// FuzzDequantize: any bytes decode without a panic, in every format.
func FuzzDequantize(f *testing.F) {
	f.Add(uint32(12), make([]byte, 144))
	f.Add(uint32(8), []byte("0123456789012345678901234567890123"))
	f.Fuzz(func(t *testing.T, typ uint32, b []byte) {
		i, ok := quant.Type(typ).Info()
		if !ok {
			return
		}
		n := len(b) / i.Bytes
		_ = quant.Dequantize(quant.Type(typ), make([]float32, n*i.Block), b[:n*i.Bytes])
	})
}

func BenchmarkQuantize(b *testing.B) {
	x := make([]float32, 1<<16)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for _, typ := range []quant.Type{quant.Q8_0, quant.Q4_K, quant.Q6_K} {
		dst := make([]byte, typ.RowBytes(len(x)))
		b.Run(typ.String(), func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				_ = quant.Quantize(typ, dst, x)
			}
		})
	}
}
