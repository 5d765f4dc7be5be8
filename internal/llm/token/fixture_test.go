package token

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/gguf"
	"maas/internal/maastest/oracle"
)

// open reads one of llama.cpp's vocabulary files.
func open(tb testing.TB, name string) *Tokenizer {
	tb.Helper()
	f, err := gguf.Open(filepath.Join(oracle.LlamaCPP(tb), "models", "ggml-vocab-"+name+".gguf"))
	require.NoError(tb, err)
	defer f.Close()
	tok, err := FromGGUF(f)
	require.NoError(tb, err)
	return tok
}

// TestFixtures compares ids with those that the original tokenizers gave.
func TestFixtures(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(oracle.LlamaCPP(t), "models")
	files, err := filepath.Glob(filepath.Join(dir, "ggml-vocab-*.gguf.inp"))
	require.NoError(t, err)
	compared := 0
	for _, inp := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(inp), "ggml-vocab-"), ".gguf.inp")
		compared++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tok := open(t, name)
			raw, err := os.ReadFile(inp)
			require.NoError(t, err)
			out, err := os.ReadFile(strings.TrimSuffix(inp, ".inp") + ".out")
			require.NoError(t, err)
			texts := strings.Split(string(raw), "\n__ggml_vocab_test__\n")
			lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			if texts[len(texts)-1] == "" {
				texts = texts[:len(texts)-1]
			}
			require.Len(t, texts, len(lines))
			for i, line := range lines {
				var want []int32
				for f := range strings.FieldsSeq(line) {
					n, err := strconv.Atoi(f)
					require.NoError(t, err)
					want = append(want, int32(n))
				}
				got, err := tok.Encode(nil, []Part{{Text: texts[i]}}, Options{})
				require.NoError(t, err)
				if !slices.Equal(got, want) {
					t.Errorf("%q\n got %v\nwant %v", texts[i], got, want)
				}
				back := string(tok.Decode(got, false))
				if tok.prefix == prefixAlways {
					back = strings.TrimPrefix(back, " ")
				}
				if back != texts[i] && name != "phi-3" && name != "bert-bge" { // WordPiece keeps neither case nor spaces
					t.Errorf("%q came back as %q", texts[i], back)
				}
			}
		})
	}
	require.GreaterOrEqual(t, compared, 15)
}
