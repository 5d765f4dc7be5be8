package token

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

const pieceVocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\nhello\n,\n!\n##a\na\n你\n好\ncafe\ncafé\n"

func pieces(t *testing.T, files fstest.MapFS) func(string, Options) []int32 {
	t.Helper()
	tok, err := FromDir(files)
	require.NoError(t, err)
	return func(s string, o Options) []int32 {
		ids, err := tok.Encode(nil, []Part{{Text: s}}, o)
		require.NoError(t, err)
		return ids
	}
}

func TestWordPiece(t *testing.T) {
	t.Parallel()
	encode := pieces(t, fstest.MapFS{"vocab.txt": &fstest.MapFile{Data: []byte(pieceVocab)}})
	for _, c := range []struct {
		text string
		want []int32
	}{
		{"", nil},
		{"unaffable", []int32{5, 6, 7}},
		{"UNAFFABLE!", []int32{5, 6, 7, 10}},
		{"unaffablex", []int32{1}}, // one unknown for the whole word
		{"hello,hello", []int32{8, 9, 8}},
		{" \t\n hello \u3000", []int32{8}},
		{"你好", []int32{13, 14}},
		{"Café cafe\u0301", []int32{15, 15}},
		{"he\x00ll\u00ado", []int32{8}},
		{"[CLS]", []int32{1, 1, 1}}, // a text cannot forge what stands round it
		{strings.Repeat("a", 100), append([]int32{12}, repeat(11, 99)...)},
		{strings.Repeat("a", 101), []int32{1}},
		{"a\xffa", []int32{12, 11}},
	} {
		require.Equal(t, c.want, encode(c.text, Options{}), "%q", c.text)
	}
	require.Equal(t, []int32{2, 8, 3}, encode("hello", Options{AddBOS: true, AddEOS: true}))
	cased := pieces(t, fstest.MapFS{"vocab.txt": &fstest.MapFile{Data: []byte(pieceVocab)}, "tokenizer_config.json": &fstest.MapFile{Data: []byte(`{"do_lower_case":false}`)}})
	require.Equal(t, []int32{16, 1}, cased("café Hello", Options{}))
	json := pieces(t, fstest.MapFS{"tokenizer.json": &fstest.MapFile{Data: []byte(`{"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,"@@a":4},"continuing_subword_prefix":"@@","max_input_chars_per_word":3},
		"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},
		"added_tokens":[{"id":0,"content":"[UNK]","special":true},{"id":1,"content":"[CLS]","special":true},{"id":2,"content":"[SEP]","special":true}]}`)}})
	require.Equal(t, []int32{1, 3, 4, 4, 0, 2}, json("AAA aaaa", Options{AddBOS: true, AddEOS: true}))
}

func repeat(id int32, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = id
	}
	return out
}

// One word of a megabyte, and a megabyte of words, take no time.
func TestWordPieceIsLinear(t *testing.T) {
	t.Parallel()
	encode := pieces(t, fstest.MapFS{"vocab.txt": &fstest.MapFile{Data: []byte(pieceVocab)}})
	start := time.Now()
	require.Equal(t, []int32{1}, encode(strings.Repeat("a", 1<<20), Options{}))
	require.Len(t, encode(strings.Repeat("!", 1<<20), Options{}), 1<<20)
	require.Len(t, encode(strings.Repeat("你", 1<<18), Options{}), 1<<18)
	require.Less(t, time.Since(start), 20*time.Second)
}
