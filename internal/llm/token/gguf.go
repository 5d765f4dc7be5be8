package token

import (
	"strings"

	"maas/internal/llm/gguf"
)

// FromGGUF reads the tokenizer out of the metadata of a model file. Errors: ErrInvalid, ErrPreUnknown.
func FromGGUF(f *gguf.File) (*Tokenizer, error) {
	const k = "tokenizer.ggml."
	model, ok := f.Str(k + "model")
	if !ok {
		return nil, ErrInvalid.With("the file has no tokenizer")
	}
	s := &spec{bos: -1, eos: -1, unk: -1}
	switch model {
	case "llama":
		s.scored, s.fallback, s.spaced, s.prefix, s.fuse = true, true, true, prefixAlways, true
		s.bos, s.eos, s.unk = 1, 2, 0
		s.add.AddBOS = true
		s.cut = whole{}
	case "bert":
		s = bertSpec()
		s.startMarked = true
		s.bos, s.eos, s.unk = 101, 102, 100
		lower, given := f.Flag(k + "normalizer.lowercase")
		n := bertNormalizer{clean: true, han: true, lower: lower || !given}
		n.strip = n.lower
		if v, ok := f.Flag(k + "normalizer.strip_accents"); ok {
			n.strip = v
		}
		s.normalize = bounded(n.apply)
	case "gpt2", "gemma4":
		pre, given := f.Str(k + "pre")
		if model == "gemma4" {
			pre = model
		} else if !given || pre == "" {
			pre = "default"
		}
		r, ok := rules[pre]
		if !ok {
			return nil, ErrPreUnknown.With("the tokenizer splits text in the way %q, which is not known here", pre)
		}
		s.cut, s.whole, s.add.AddBOS = r.cut(), r.ignoreMerges, r.addBOS
		s.spaced, s.fallback, s.lines, s.bytes = r.spaced, r.spaced, r.spaced, !r.spaced
	default:
		return nil, ErrInvalid.With("the tokenizer is of the kind %q; supported are llama (SentencePiece), gpt2 (byte pairs) and bert (WordPiece)", model)
	}
	s.cls, s.sep = -1, -1
	if err := s.vocabulary(f); err != nil {
		return nil, err
	}
	if !s.scored && !s.wordPiece {
		merges, err := f.Strings(k + "merges")
		if err != nil {
			return nil, ErrInvalid.With("the tokenizer has no merges").Wrap(err)
		}
		if s.merges, err = splitMerges(merges); err != nil {
			return nil, err
		}
	}
	for _, id := range []struct {
		key string
		to  *int32
	}{{"bos_token_id", &s.bos}, {"eos_token_id", &s.eos}, {"cls_token_id", &s.cls}, {"seperator_token_id", &s.sep}, {"unknown_token_id", &s.unk}} { // "seperator": so it is spelled
		if v, ok := f.Int(k + id.key); ok {
			if v < 0 || v >= int64(len(s.tokens)) {
				v = -1 // some converters write 2^32-1 for none
			}
			*id.to = int32(v)
		}
	}
	if s.wordPiece { // these stand round a text, whatever the file calls its begin and end
		if s.cls >= 0 {
			s.bos = s.cls
		}
		if s.sep >= 0 {
			s.eos = s.sep
		}
	}
	for _, key := range []string{"eot_token_id", "eom_token_id"} {
		if v, ok := f.Int(k + key); ok && v >= 0 && v < int64(len(s.tokens)) {
			s.ends = append(s.ends, int32(v))
		}
	}
	if v, ok := f.Flag(k + "add_bos_token"); ok {
		s.add.AddBOS = v
	}
	if v, ok := f.Flag(k + "add_eos_token"); ok {
		s.add.AddEOS = v
	}
	if v, ok := f.Flag(k + "add_space_prefix"); ok && s.scored {
		s.prefix = prefixNone
		if v {
			s.prefix = prefixAlways
		}
	}
	name, _ := f.Str("general.name")
	if name = strings.ToLower(name); strings.Contains(name, "phi-3") || strings.Contains(name, "phi3") {
		s.specials = rightTrimmed(s.tokens)
	}
	return s.build()
}

// vocabulary reads texts, scores and kinds.
func (s *spec) vocabulary(f *gguf.File) error {
	const k = "tokenizer.ggml."
	texts, err := f.Strings(k + "tokens")
	if err != nil {
		return ErrInvalid.With("the tokenizer has no tokens").Wrap(err)
	}
	if len(texts) > MaxVocab {
		return ErrInvalid.With("the vocabulary has %d tokens; the limit is %d", len(texts), MaxVocab)
	}
	var scores []float32
	var kinds []int64
	if _, ok := f.Get(k + "scores"); ok {
		if scores, err = f.Floats(k + "scores"); err != nil {
			return ErrInvalid.With("the scores cannot be read").Wrap(err)
		}
	}
	if _, ok := f.Get(k + "token_type"); ok {
		if kinds, err = f.Ints(k + "token_type"); err != nil {
			return ErrInvalid.With("the kinds of the tokens cannot be read").Wrap(err)
		}
	}
	if scores != nil && len(scores) != len(texts) || kinds != nil && len(kinds) != len(texts) {
		return ErrInvalid.With("there are %d tokens, %d scores and %d kinds", len(texts), len(scores), len(kinds))
	}
	s.tokens = make([]entry, len(texts))
	for i, text := range texts {
		e := entry{text: text, kind: Normal}
		if scores != nil {
			e.score = scores[i]
		}
		if kinds != nil && kinds[i] >= int64(Normal) && kinds[i] <= int64(Byte) {
			e.kind = Kind(kinds[i])
		}
		s.tokens[i] = e
	}
	return nil
}

// splitMerges reads rules of the form "left right". A token may start with a space, never hold one behind that.
func splitMerges(lines []string) ([][2]string, error) {
	if len(lines) > MaxMerges {
		return nil, ErrInvalid.With("there are %d merges; the limit is %d", len(lines), MaxMerges)
	}
	out := make([][2]string, len(lines))
	for i, l := range lines {
		if l == "" {
			return nil, ErrInvalid.With("merge %d is empty", i)
		}
		at := strings.IndexByte(l[1:], ' ')
		if at < 0 {
			return nil, ErrInvalid.With("merge %d does not name two tokens", i)
		}
		out[i] = [2]string{l[:at+1], l[at+2:]}
	}
	return out, nil
}

// rightTrimmed lists the special tokens of Phi-3, which take the white space behind them along; the file format has no place to say so.
func rightTrimmed(tokens []entry) []special {
	var list []special
	for id, e := range tokens {
		if e.kind == Control || e.kind == UserDefined || e.kind == Unknown || e.text == "</s>" {
			keep := e.text == "<unk>" || e.text == "<s>" || e.text == "<|endoftext|>"
			list = append(list, special{text: e.text, id: int32(id), control: e.kind != UserDefined, right: !keep})
		}
	}
	return list
}
