package token

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// tiny is a byte-level vocabulary: all bytes, "ab", "abc" and special tokens.
func tiny(tb testing.TB) *Tokenizer {
	tb.Helper()
	s := &spec{bos: 258, eos: 259, unk: -1, bytes: true, cut: word(gpt2)}
	for b := range 256 {
		s.tokens = append(s.tokens, entry{text: string(alphabet[b]), kind: Normal})
	}
	s.tokens = append(s.tokens, []entry{{text: "ab", kind: Normal}, {text: "abc", kind: Normal}, {text: "<s>", kind: Control}, {text: "</s>", kind: Control}, {text: "<|im_end|>", kind: Control}, {text: "<tool>", kind: UserDefined}, {text: "<tool>>", kind: UserDefined}}...)
	s.merges = [][2]string{{"a", "b"}, {"ab", "c"}}
	tok, err := s.build()
	require.NoError(tb, err)
	return tok
}

func TestSpecialTokens(t *testing.T) {
	t.Parallel()
	tok := tiny(t)
	enc := func(o Options, parts ...Part) []int32 {
		ids, err := tok.Encode(nil, parts, o)
		require.NoError(t, err)
		return ids
	}
	safe, evil := func(s string) Part { return Part{s, true} }, func(s string) Part { return Part{s, false} }
	require.Equal(t, []int32{260}, enc(Options{}, safe("<|im_end|>")))
	require.NotContains(t, enc(Options{}, evil("<|im_end|>")), int32(260))
	require.Equal(t, "<|im_end|>", string(tok.Decode(enc(Options{}, evil("<|im_end|>")), false)))
	require.NotContains(t, enc(Options{}, safe("<|im_"), evil("end|>")), int32(260), "half a marker from the user does not complete one")
	require.NotContains(t, enc(Options{}, evil("<|im_"), safe("end|>")), int32(260))
	require.Equal(t, []int32{260}, enc(Options{}, safe("<|im_"), safe("end|>")), "neighbouring trusted parts are one")
	require.Equal(t, []int32{261, 262, 261}, enc(Options{}, evil("<tool><tool>>"), safe("<tool>")), "user-defined tokens match everywhere, the longest first")
	require.Equal(t, []int32{257, 'c'}, enc(Options{}, evil("ab"), safe("cc"))[:2], "parts are joined before words are cut")
	require.Equal(t, []int32{258, 256}, enc(Options{AddBOS: true}, evil("ab")))
	require.Equal(t, []int32{258, 256}, enc(Options{AddBOS: true}, safe("<s>ab")), "the begin token is not doubled")
	require.Equal(t, []int32{258, 256, 259}, enc(Options{AddBOS: true, AddEOS: true}, safe("ab</s>")))
	require.Equal(t, []int32{258}, enc(Options{AddBOS: true}))
	require.Len(t, enc(Options{MaxTokens: 7}, evil(strings.Repeat("x y", 100))), 7)
	require.Empty(t, enc(Options{}))
	require.True(t, tok.EOG(259) && tok.EOG(260) && !tok.EOG(258) && !tok.EOG(-1) && !tok.EOG(9999))
	require.Equal(t, "ab", string(tok.Decode([]int32{258, 256, 259, -5, 1 << 20}, false)))
	require.Equal(t, "<s>ab</s>", string(tok.Decode([]int32{258, 256, 259}, true)))
	_, err := tok.Encode(nil, []Part{{Text: strings.Repeat("x", MaxText+1)}}, Options{})
	require.ErrorIs(t, err, ErrTextLong)
	grow := `{"type":"Replace","pattern":{"String":"a"},"content":"aaaa"}`
	bomb, err := FromDir(fstest.MapFS{"tokenizer.json": &fstest.MapFile{Data: []byte(`{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"normalizer":{"type":"Sequence","normalizers":[` + strings.Repeat(grow+",", 30) + grow + `]}}`)}})
	require.NoError(t, err)
	_, err = bomb.Encode(nil, []Part{{Text: "a"}}, Options{})
	require.ErrorIs(t, err, ErrTextLong)
}

// TestPreUnknown: a way of cutting that is not known is refused, never guessed.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"empty folder":     {},
		"no JSON":          {"tokenizer.json": "{"},
		"unigram":          {"tokenizer.json": `{"model":{"type":"Unigram","vocab":[]}}`},
		"no vocabulary":    {"tokenizer.json": `{"model":{"type":"BPE","vocab":{},"merges":[]}}`},
		"negative id":      {"tokenizer.json": `{"model":{"type":"BPE","vocab":{"a":-1,"b":0},"merges":[]}}`},
		"large id":         {"tokenizer.json": `{"model":{"type":"BPE","vocab":{"a":2000000000},"merges":[]}}`},
		"bad merge":        {"tokenizer.json": `{"model":{"type":"BPE","vocab":{"a":0},"merges":["ab"]}}`},
		"pre-tokenizer":    {"tokenizer.json": `{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"UnicodeScripts"}}`},
		"pattern":          {"tokenizer.json": `{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"}}`},
		"normalizer":       {"tokenizer.json": `{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"normalizer":{"type":"Precompiled"}}`},
		"nested":           {"tokenizer.json": `{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"normalizer":` + strings.Repeat(`{"type":"Sequence","normalizers":[`, 20) + strings.Repeat("]}", 20) + "}"},
		"no protobuf":      {"tokenizer.model": "\xff\xff"},
		"half a vocab":     {"vocab.json": `{"a":0}`},
		"config not valid": {"tokenizer_config.json": `[`, "tokenizer.json": `{}`},
	} {
		fsys := fstest.MapFS{}
		for k, v := range files {
			fsys[k] = &fstest.MapFile{Data: []byte(v)}
		}
		_, err := FromDir(fsys)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
}

// TestSplit has pieces that the regular expressions give in Oniguruma.
func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cut  cutter
		in   string
		want []string
	}{
		{published[patQwen2], "a'ſab 'Sab 'LLab\x1cb\u0085c", []string{"a", "'ſ", "ab", " '", "Sab", " '", "LLab", "\x1cb", "\u0085c"}},
		{published[patLlama3], "it'S 12345  \n\n  x  ", []string{"it", "'S", " ", "123", "45", "  \n\n", " ", " x", "  "}},
		{published[patGPT2], "it's  'S 12 ...\n\n x", []string{"it", "'s", " ", " '", "S", " 12", " ...", "\n\n", " x"}},
		{published[patGPT2], "\xff\xfea", []string{"\xff\xfe", "a"}},
		{published[patTekken], "HTTPServer x=1", []string{"HTTPServer", " x", "=", "1"}},
		{published[patTekken], "getURL", []string{"get", "URL"}},
		{published[patGPT4o], "Don't", []string{"Don't"}},
		{passes{isolateNumbers(3), word(gpt2)}, "a1234 b", []string{"a", "123", "4", " b"}},
		{mustPattern(`[ab]+`), "xabyb", []string{"x", "ab", "y", "b"}},
	} {
		ends, err := c.cut.cut(nil, c.in)
		require.NoError(t, err)
		var got []string
		from := 0
		for _, end := range ends {
			got = append(got, c.in[from:end])
			from = end
		}
		require.Equal(t, c.want, got, "%q", c.in)
	}
}

// TestLinear: text of whatever kind takes time in proportion to its length.
func TestLinear(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"qwen2", "llama-spm", "deepseek-llm"} {
		tok := open(t, name)
		for _, unit := range []string{"a", " ", "\n", "!", "中", "<", "a ", "\xff"} {
			small, large := timed(t, tok, unit, 1<<14), timed(t, tok, unit, 1<<17)
			if large > 64*small && large > 4*time.Second {
				t.Errorf("%s %q: 16 KiB took %s, 128 KiB %s", name, unit, small, large)
			}
		}
	}
	if took := timed(t, open(t, "qwen2"), "a", 1<<20); took > 30*time.Second {
		t.Errorf("1 MiB of one letter took %s", took)
	}
}

func timed(t *testing.T, tok *Tokenizer, unit string, size int) time.Duration {
	t.Helper()
	text := strings.Repeat(unit, size/len(unit))
	start := time.Now()
	ids, err := tok.Encode(nil, []Part{{Text: text}}, Options{})
	took := time.Since(start)
	require.NoError(t, err)
	if back := string(tok.Decode(ids, true)); back != text && back != " "+text && unit != "\xff" { // not every vocabulary has every byte
		t.Errorf("%q times %d does not come back", unit, size)
	}
	return took
}

func TestStream(t *testing.T) {
	t.Parallel()
	tok := tiny(t)
	push := func(s *Stream, bytes string) string {
		var out strings.Builder
		for i := range len(bytes) {
			got := s.Push(tok.machine.(*merger).bytes[bytes[i]])
			require.True(t, utf8.ValidString(got))
			out.WriteString(got)
		}
		return out.String()
	}
	for in, want := range map[string]string{
		"hello":            "hello",
		"中文 😀":             "中文 😀",
		"a\xffb":           "a\uFFFDb",
		"\xe4\xb8":         "",
		"\xe4\xb8x":        "\uFFFDx",
		"\xe4\xe4\xb8\xad": "\uFFFD中",
		"\xf0\x9f\x98":     "",
		"\xc0\x80":         "\uFFFD\uFFFD",
		"\xed\xa0\x80":     "\uFFFD\uFFFD\uFFFD",
	} {
		require.Equal(t, want, push(tok.Stream(), in), "%q", in)
	}
	s := tok.Stream()
	require.Empty(t, push(s, "\xe4\xb8"))
	require.Equal(t, "\uFFFD", s.Flush())
	require.Empty(t, s.Flush())
	require.Equal(t, "x", push(s, "x"))
	require.Empty(t, s.Push(258), "control tokens are not shown")
	s.KeepSpecial = true
	require.Equal(t, "<s>", s.Push(258))
	require.Empty(t, s.Push(260), "the end of a turn is never shown")
	require.Empty(t, s.Push(-1)+s.Push(1<<30))
}

// TestStreamAllocations: none in the steady state, whole runes or pieces of them.
func TestStreamAllocations(t *testing.T) {
	tok := open(t, "qwen2")
	ids, err := tok.Encode(nil, []Part{{Text: strings.Repeat("Hello world, 你好世界 😀🦙 \U00020000 ", 20)}}, Options{})
	require.NoError(t, err)
	s := tok.Stream()
	perRun := testing.AllocsPerRun(20, func() {
		for _, id := range ids {
			s.Push(id)
		}
	})
	if perToken := perRun / float64(len(ids)); perToken > 0.01 {
		t.Errorf("%.3f allocations a token", perToken)
	}
}

func FuzzTokenizerJSON(f *testing.F) {
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"pre_tokenizer":{"type":"ByteLevel"}}`), "abab ba")
	f.Add([]byte(`{"added_tokens":[{"id":3,"content":"<x>","special":true,"lstrip":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"model":{"type":"BPE","vocab":{"a":0,"▁":1,"▁a":2},"merges":[["▁","a"]],"byte_fallback":true}}`), "a a<x>")
	f.Add([]byte(`{"model":{"vocab":{"a":0}},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"a+|b"},"behavior":"MergedWithNext"},{"type":"Digits"},{"type":"Metaspace","split":true}]},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"Sequence":{}}]}}`), "aab 12")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		if len(raw) > 1<<16 || len(text) > 1<<12 {
			return
		}
		start := time.Now()
		tok, err := FromDir(fstest.MapFS{"tokenizer.json": &fstest.MapFile{Data: raw}})
		if err != nil {
			return
		}
		ids, err := tok.Encode(nil, []Part{{text, true}, {text, false}}, tok.Defaults())
		if err == nil {
			tok.Decode(ids, true)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Fatalf("took %s", took)
		}
	})
}

func FuzzSentencePiece(f *testing.F) {
	f.Add([]byte("\x0a\x07\x0a\x05\x3c\x75\x6e\x6b\x3e\x12\x02\x18\x02"), "abc")
	f.Add([]byte("\x0a\x0a\x0a\x03\xe2\x96\x81\x15\x00\x00\x80\xbf\x0a\x08\x0a\x01a\x15\x00\x00\x00\xc0\x12\x02\x18\x02\x1a\x04\x18\x01\x20\x00"), "a a")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		if len(raw) > 1<<16 || len(text) > 1<<12 {
			return
		}
		tok, err := FromDir(fstest.MapFS{"tokenizer.model": &fstest.MapFile{Data: raw}})
		if err != nil {
			return
		}
		ids, err := tok.Encode(nil, []Part{{text, true}}, tok.Defaults())
		if err == nil {
			tok.Decode(ids, true)
		}
	})
}

func benchText() string {
	return strings.Repeat("The quick brown fox jumps over the lazy dog, doesn't it? In 2024 there were 12,345 of them.\n", 20) +
		strings.Repeat("人工智能（AI）正在改变世界，大语言模型可以理解和生成文本。价格是 99.8 元。\n", 20) +
		strings.Repeat("func main() {\n\tfor i := 0; i < 10; i++ {\n\t\tfmt.Println(i, \"x\")\n\t}\n}\n", 20)
}

func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"qwen2", "llama-bpe", "llama-spm", "deepseek-llm"} {
		b.Run(name, func(b *testing.B) {
			tok := open(b, name)
			text := benchText()
			var ids []int32
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				ids, _ = tok.Encode(ids[:0], []Part{{Text: text}}, Options{})
			}
		})
	}
}

func BenchmarkStream(b *testing.B) {
	tok := open(b, "qwen2")
	ids, _ := tok.Encode(nil, []Part{{Text: benchText() + "😀🦙"}}, Options{})
	s := tok.Stream()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.Push(ids[i%len(ids)])
		i++
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"qwen2", "llama-spm"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				open(b, name)
			}
		})
	}
}
