package token

import (
	"strings"
	"sync"
)

// rule is what the name of a pre-tokenizer stands for.
type rule struct {
	cut          func() cutter
	addBOS       bool
	ignoreMerges bool // a word that is a token is that token, without merging
	spaced       bool // spaces are U+2581 and text is UTF-8, not bytes in disguise
}

func fixed(c cutter) func() cutter { return func() cutter { return c } }

func lazy(exprs ...string) func() cutter {
	return sync.OnceValue(func() cutter {
		p := make(passes, len(exprs))
		for i, e := range exprs {
			if p[i] = published[e]; p[i] == nil {
				p[i] = mustPattern(e)
			}
		}
		if len(p) == 1 {
			return p[0]
		}
		return p
	})
}

// The published splitting patterns, as their tokenizers state them.
const (
	patGPT2     = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patGPT2bare = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`
	patLlama3   = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patQwen2    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patQwen35   = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patTekken   = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patGPT4o    = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patDeepSeek = `[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_` + "`" + `{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patHan      = `[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+`
	patHangul   = `[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+`
	patLatin    = `\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+`
	patLines    = `[^\n]+|[\n]+`
	patDigit    = `\p{N}`
	patDigits3  = `\p{N}{1,3}`
)

// published maps patterns to the hand-written cutters that do the same in linear time and about twenty times faster.
var published = map[string]cutter{
	patGPT2: word(gpt2), patGPT2bare: word(gpt2),
	patLlama3: lettersDigits(3, letter), patQwen2: lettersDigits(1, letter), patQwen35: lettersDigits(1, letter|mark),
	patTekken: letterCase(1, false), patGPT4o: letterCase(3, true),
	patDigit: isolateNumbers(1), patDigits3: isolateNumbers(3), `\p{N}+`: isolateNumbers(MaxText), `[\r\n]`: isolateBytes("\r\n"), patLines: word(newlines),
	`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])` + patLlama3[len(`(?i:'s|'t|'re|'ve|'m|'ll|'d)`):]: lettersDigits(3, letter),
	`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])` + patQwen2[len(`(?i:'s|'t|'re|'ve|'m|'ll|'d)`):]:  lettersDigits(1, letter),
}

// rules holds the names of tokenizer.ggml.pre. Names are facts of the file format; several stand for one way of cutting.
var rules = func() map[string]rule {
	m := map[string]rule{}
	add := func(r rule, names string) {
		for n := range strings.FieldsSeq(names) {
			m[n] = r
		}
	}
	gpt := word(gpt2)
	add(rule{cut: fixed(lettersDigits(3, letter)), addBOS: true, ignoreMerges: true}, "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano")
	add(rule{cut: fixed(lettersDigits(3, letter))}, "dbrx smaug-bpe glm4 chatglm-bpe")
	add(rule{cut: fixed(lettersDigits(1, letter))}, "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2")
	add(rule{cut: fixed(lettersDigits(1, letter|mark))}, "qwen35")
	add(rule{cut: fixed(passes{word(newlines), lettersDigits(1, letter)})}, "laguna")
	add(rule{cut: fixed(gpt)}, "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert mpt olmo jais trillion granite-docling jina-v1-en jina-v2-code roberta-bpe exaone4")
	add(rule{cut: fixed(passes{isolateNumbers(1), gpt})}, "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2")
	add(rule{cut: fixed(letterCase(1, false)), addBOS: true, ignoreMerges: true}, "tekken")
	add(rule{cut: fixed(letterCase(3, true))}, "gpt-4o llama4 kanana2 talkie minimax-m2")
	add(rule{cut: lazy(`[\p{P}\$\+<=>\^~\|]+`, patGPT2bare, `\p{N}+`, `[0-9][0-9][0-9]`)}, "default")
	add(rule{cut: lazy("[\\p{P}\\$\\+<=>\\^~\\|`]+", patGPT2bare, `[0-9][0-9][0-9]`)}, "falcon")
	add(rule{cut: lazy(`[\r\n]`, patLatin, `\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+`, `\s+$`, patHangul, `\p{N}+`)}, "deepseek-llm")
	add(rule{cut: lazy(`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, patHangul, patDigit)}, "deepseek-coder")
	add(rule{cut: lazy(patDigits3, patHan, patDeepSeek)}, "deepseek-v3 hunyuan-dense joyai-llm hy_v4")
	add(rule{cut: lazy(` ?[^(\s|.,!?…。，、।۔،)]+`)}, "poro-chat bloom gpt3-finnish")
	add(rule{cut: lazy(` ?[^(\s|.,!?…。，、।۔،)]+`, patDigit)}, "viking")
	add(rule{cut: lazy(`'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`)}, "bailingmoe bailingmoe2 llada-moe")
	add(rule{cut: lazy(`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+`)}, "seed-coder")
	add(rule{cut: fixed(word(newlines)), addBOS: true, spaced: true}, "gemma4")
	return m
}()
