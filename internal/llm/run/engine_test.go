package run

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
)

func TestGeneratedModelCounts(t *testing.T) {
	t.Parallel()
	for _, typ := range []quant.Type{quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q4_K, quant.Q6_K} {
		for _, a := range []string{"llama", "qwen2", "qwen3"} {
			l := load(t, modelgen.Spec{Arch: a, Kind: modelgen.Successor, Dim: 256, Type: typ})
			e := l.open(t, Options{MaxSeqs: 2})
			got := generate(t, e, Request{Prompt: l.ids(t, "count:"), MaxTokens: 5})
			require.Equal(t, " 1 2 3 4 5", got.text[0], "%s %s", a, typ)
			require.Empty(t, cmp.Diff(Usage{Prompt: len(l.ids(t, "count:")), Completion: 5}, got.usage))
			require.Equal(t, FinishLength, got.finish[0])
		}
	}
}
