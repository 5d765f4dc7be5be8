package kernel

import (
	"errors"
	"math/rand/v2"
	"testing"

	"maas/internal/llm/quant"
)

func TestPackRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ        quant.Type
		rows, cols int
		bytes      int
		want       error
	}{
		{quant.Q8_0, 2, 33, 68, quant.ErrSize},
		{quant.Q4_K, 2, 128, 144, quant.ErrSize},
		{quant.F32, 2, 3, 20, quant.ErrSize},
		{quant.F32, 0, 3, 0, quant.ErrSize},
		{quant.Type(10), 1, 256, 84, quant.ErrTypeUnsupported},
	} {
		if _, err := Pack(nil, c.typ, c.rows, c.cols, make([]byte, c.bytes)); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if n, err := PackedBytes(quant.Q8_0, 17, 64); err != nil || n != 2*2*544 {
		t.Errorf("17x64 in q8_0 takes %d, %v", n, err)
	}
}

func BenchmarkPack(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, typ := range allTypes {
		const rows, cols = 1024, 2048
		raw := randomRaw(r, typ, rows, cols)
		b.Run(typ.String(), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			for range b.N {
				if _, err := Pack(nil, typ, rows, cols, raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
