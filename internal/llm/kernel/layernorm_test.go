package kernel

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLayerNorm(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 7, 16, 33, 384, 1000} {
		x, w, b := make([]float32, 3*n), make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64()*3 + 5)
		}
		for i := range w {
			w[i], b[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
		}
		got := make([]float32, 3*n)
		LayerNorm(got, x, w, b, 1e-5)
		for row := range 3 {
			v := x[row*n : (row+1)*n]
			mean, sq := 0.0, 0.0
			for _, f := range v {
				mean += float64(f) / float64(n)
			}
			for _, f := range v {
				sq += (float64(f) - mean) * (float64(f) - mean) / float64(n)
			}
			for i, f := range v {
				want := (float64(f)-mean)/math.Sqrt(sq+1e-5)*float64(w[i]) + float64(b[i])
				require.InDelta(t, want, float64(got[row*n+i]), 2e-5*(1+math.Abs(want)), "%d values, row %d, %d", n, row, i)
			}
		}
		LayerNorm(x, x, w, b, 1e-5)
		require.Equal(t, got, x, "in place")
	}
}

func TestGelu(t *testing.T) {
	t.Parallel()
	for v := float32(-12); v <= 12; v += 0.01 {
		x := []float32{v}
		Gelu(x)
		want := float64(v) / 2 * (1 + math.Erf(float64(v)/math.Sqrt2))
		require.InDelta(t, want, float64(x[0]), 4e-7*(1+math.Abs(float64(v))), "gelu(%g)", v)
		y := []float32{v}
		GeluTanh(y)
		want = float64(v) / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(float64(v)+0.044715*float64(v)*float64(v)*float64(v))))
		require.InDelta(t, want, float64(y[0]), 1e-6*(1+math.Abs(float64(v))), "gelu tanh(%g)", v)
	}
	for _, v := range []float32{float32(math.Inf(1)), 1e30, 0, -1e30} {
		x := []float32{v}
		Gelu(x)
		require.InDelta(t, math.Max(0, float64(v)), float64(x[0]), 0, "%g", v)
	}
}
