//go:build unix

package run

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/arch"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
)

// userCPU returns the user time that this process has used.
func userCPU(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano())
}

// least returns the least user CPU of one call of f in several tries: what others do on the machine only adds to it.
func least(t *testing.T, tries, calls int, f func()) time.Duration {
	t.Helper()
	f()
	best := time.Duration(1 << 62)
	for range tries {
		start := userCPU(t)
		for range calls {
			f()
		}
		best = min(best, (userCPU(t)-start)/time.Duration(calls))
	}
	return best
}

// cost is user CPU in milliseconds a token.
type cost struct{ prefill, decode, decode8 float64 }

func ownCost(t *testing.T, m *arch.Model) cost {
	t.Helper()
	s, err := m.NewSession(arch.SessionOptions{Pages: 8 * 8, MaxRows: 128, MaxOut: 8})
	require.NoError(t, err)
	prefill := arch.Batch{Tokens: prompt(128, 30000, 1), Spans: []arch.Span{{Len: 128, Pages: []int32{0, 1, 2, 3}}}, Out: []int32{127}}
	one, eight := batchOf(1, 144, 8), batchOf(8, 144, 8)
	ms := func(d time.Duration, tokens int) float64 { return float64(d.Microseconds()) / 1e3 / float64(tokens) }
	return cost{
		prefill: ms(least(t, 4, 2, func() { s.Forward(&prefill) }), 128),
		decode:  ms(least(t, 4, 16, func() { s.Forward(&one) }), 1),
		decode8: ms(least(t, 4, 8, func() { s.Forward(&eight) }), 8),
	}
}

func oracleCost(t *testing.T, bin, model string) cost {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, "bench", model, "--prompt", "128", "--decode", "32", "--threads", "1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var a struct {
		Prefill float64 `json:"prefill_user_ms"`
		Decode  float64 `json:"decode_user_ms"`
	}
	require.NoError(t, json.Unmarshal(out, &a), string(out))
	return cost{prefill: a.Prefill, decode: a.Decode}
}

// TestCostPerTokenAgainstLlamaCpp compares user CPU a token on the 134 M shape with one thread each, in the same minute.
func TestCostPerTokenAgainstLlamaCpp(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	bin := oracle(t)
	for _, typ := range []quant.Type{quant.Q8_0, quant.Q4_K, quant.F32} {
		t.Run(typ.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bench.gguf")
			f, err := os.Create(path)
			require.NoError(t, err)
			require.NoError(t, modelgen.WriteGGUF(f, modelgen.BenchSpec(typ)))
			require.NoError(t, f.Close())
			m, src, err := arch.Load(t.Context(), path, arch.LoadOptions{})
			require.NoError(t, err)
			defer func() { _ = src.Close() }()
			own, other := ownCost(t, m), oracleCost(t, bin, path)
			t.Logf("decode %.2f ms against %.2f: ratio %.2f; prefill %.3f ms against %.3f: ratio %.2f; 8 sequences give %.2f times the tokens of 1 per CPU second",
				own.decode, other.decode, own.decode/other.decode, own.prefill, other.prefill, own.prefill/other.prefill, own.decode/own.decode8)
			require.Less(t, own.decode/other.decode, 2.0)
			require.Less(t, own.prefill/other.prefill, 3.0)
			if typ == quant.Q8_0 {
				require.Greater(t, own.decode/own.decode8, 2.5)
			}
		})
	}
}
