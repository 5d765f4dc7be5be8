package token

import (
	"encoding/json"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// TestSentencePiece compares ids with those of the PyPI package sentencepiece (testdata/spm_golden.py).
func TestSentencePiece(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/spm_golden.json")
	require.NoError(t, err)
	var golden map[string]struct {
		Model []byte
		IDs   []string
	}
	require.NoError(t, json.Unmarshal(raw, &golden))
	require.Len(t, golden, 3)
	for name, g := range golden {
		tok, err := FromDir(fstest.MapFS{"tokenizer.model": &fstest.MapFile{Data: g.Model}})
		require.NoError(t, err, name)
		require.EqualValues(t, 1, tok.BOS(), name)
		require.EqualValues(t, 2, tok.EOS(), name)
		require.True(t, tok.EOG(2) && tok.Defaults().AddBOS && !tok.Defaults().AddEOS, name)
		for i, text := range texts(t) {
			got, err := tok.Encode(nil, []Part{{text, false}}, Options{})
			require.NoError(t, err)
			if idHash(got) != g.IDs[i] {
				t.Errorf("%s: text %d %q: got %v", name, i, text, got)
			}
		}
	}
}
