package token

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/gguf"
	"maas/internal/maastest/oracle"
)

// jsonSpec is an entry of testdata/specs.json: a tokenizer.json without its vocabulary.
type jsonSpec struct {
	Vocab         string          `json:"vocab"`
	ByScore       bool            `json:"by_score"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Model         map[string]any  `json:"model"`
}

// build makes a tokenizer.json of the vocabulary of a GGUF file, as testdata/golden.py does.
func (s jsonSpec) build(tb testing.TB) []byte {
	tb.Helper()
	f, err := gguf.Open(filepath.Join(oracle.LlamaCPP(tb), "models", "ggml-vocab-"+s.Vocab+".gguf"))
	require.NoError(tb, err)
	defer f.Close()
	tokens, err := f.Strings("tokenizer.ggml.tokens")
	require.NoError(tb, err)
	types, err := f.Ints("tokenizer.ggml.token_type")
	require.NoError(tb, err)
	vocab := map[string]int{}
	var added []map[string]any
	for i, text := range tokens {
		vocab[text] = i
		if types[i] == 3 || types[i] == 4 {
			added = append(added, map[string]any{"id": i, "content": text, "special": types[i] == 3})
		}
	}
	var merges [][2]string
	if s.ByScore {
		scores, err := f.Floats("tokenizer.ggml.scores")
		require.NoError(tb, err)
		merges = mergesByScore(tokens, scores, types)
	} else {
		lines, err := f.Strings("tokenizer.ggml.merges")
		require.NoError(tb, err)
		merges, err = splitMerges(lines)
		require.NoError(tb, err)
	}
	model := map[string]any{"type": "BPE", "vocab": vocab, "merges": merges}
	maps.Copy(model, s.Model)
	b, err := json.Marshal(map[string]any{"normalizer": s.Normalizer, "pre_tokenizer": s.PreTokenizer, "post_processor": s.PostProcessor, "added_tokens": added, "model": model})
	require.NoError(tb, err)
	return b
}

// mergesByScore derives rules from SentencePiece scores: every way to make a token of two, best token first.
func mergesByScore(tokens []string, scores []float32, types []int64) [][2]string {
	ids := map[string]int{}
	for i, text := range tokens {
		if types[i] == 1 {
			ids[text] = i
		}
	}
	type rule struct {
		score float32
		l, r  int
	}
	var rules []rule
	for i, text := range tokens {
		if types[i] != 1 {
			continue
		}
		from := len(rules)
		for k := range text {
			l, ok := ids[text[:k]]
			r, ok2 := ids[text[k:]]
			if k > 0 && ok && ok2 {
				rules = append(rules, rule{scores[i], l, r})
			}
		}
		slices.SortFunc(rules[from:], func(a, b rule) int { return cmp.Or(cmp.Compare(a.l, b.l), cmp.Compare(a.r, b.r)) })
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return cmp.Compare(b.score, a.score) })
	out := make([][2]string, len(rules))
	for i, r := range rules {
		out[i] = [2]string{tokens[r.l], tokens[r.r]}
	}
	return out
}

func texts(tb testing.TB) []string {
	tb.Helper()
	raw, err := os.ReadFile("testdata/texts.json")
	require.NoError(tb, err)
	var all []string
	require.NoError(tb, json.Unmarshal(raw, &all))
	return all
}

func idHash(ids []int32) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(id)))
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])[:10]
}

func jsonSpecs(tb testing.TB) map[string]jsonSpec {
	tb.Helper()
	raw, err := os.ReadFile("testdata/specs.json")
	require.NoError(tb, err)
	var specs map[string]jsonSpec
	require.NoError(tb, json.Unmarshal(raw, &specs))
	return specs
}

func fromSpec(tb testing.TB, s jsonSpec) *Tokenizer {
	tb.Helper()
	tok, err := FromDir(fstest.MapFS{"tokenizer.json": &fstest.MapFile{Data: s.build(tb)}})
	require.NoError(tb, err)
	return tok
}

// TestGolden compares ids with those of the PyPI package tokenizers (testdata/golden.py).
func TestGolden(t *testing.T) {
	t.Parallel()
	oracle.LlamaCPP(t)
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var golden map[string][]string
	require.NoError(t, json.Unmarshal(raw, &golden))
	lines := texts(t)
	for name, spec := range jsonSpecs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tok := fromSpec(t, spec)
			require.Len(t, golden[name], len(lines))
			for i, line := range lines {
				got, err := tok.Encode(nil, []Part{{line, true}}, tok.Defaults())
				require.NoError(t, err)
				if h := idHash(got); h != golden[name][i] {
					t.Errorf("text %d %q: got %v (%s), want %s", i, line, got, h, golden[name][i])
				}
				require.True(t, utf8.ValidString(line))
			}
		})
	}
}
