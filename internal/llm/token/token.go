// Package token turns text into token ids and back.
//
// It owns the two tokenizer machines that decoder models use (SentencePiece merges by score, byte-level BPE by rank), the splitters that cut text before merging, and
// the readers of tokenizer files: GGUF metadata, tokenizer.json, SentencePiece model files, vocab.json with merges.txt. It does not know chat formats: package chat makes the parts that Encode takes.
//
// Invariants. A Tokenizer never changes after it was read and may be used by any number of goroutines. Control tokens (message borders, end marks) come only out of trusted parts, so text of a
// user can never forge one. Encoding takes time linear in the text whatever its bytes are. Nothing here panics on the contents of a file.
package token

import (
	"maas/internal/platform/fault"
)

// Limits of what is accepted. They are far above every published tokenizer and bound the memory a hostile file can take.
const (
	MaxText   = 16 << 20 // bytes of text in one Encode
	MaxVocab  = 1 << 20  // tokens
	MaxMerges = 2 << 20  // merge rules
	MaxFile   = 64 << 20 // bytes of one tokenizer file
)

// Errors of this package.
var (
	ErrInvalid    = fault.New(fault.Invalid, "llm.tokenizer_invalid", "the tokenizer of this model cannot be read")
	ErrPreUnknown = fault.New(fault.Invalid, "llm.tokenizer_pre_unknown", "the way in which this tokenizer splits text is not known")
	ErrTextLong   = fault.New(fault.TooLarge, "llm.text_too_long", "the text is too long to be turned into tokens")
	ErrTimeout    = fault.New(fault.Invalid, "llm.tokenizer_timeout", "splitting the text took too long")
)

// Kind is what a token is for, with the numbers of the GGUF key tokenizer.ggml.token_type.
type Kind uint8

// The kinds of tokens.
const (
	Normal      Kind = 1 // a piece of text
	Unknown     Kind = 2 // stands for text that has no token
	Control     Kind = 3 // structure: never matched in untrusted text, not shown
	UserDefined Kind = 4 // matched as a whole wherever it occurs
	Unused      Kind = 5 // a reserved row
	Byte        Kind = 6 // one raw byte, <0x00> to <0xFF>
)

// Part is a stretch of text to encode. Control tokens are recognised in trusted parts only; parts are joined before they are cut into words, so borders between parts do not change the ids.
type Part struct {
	Text    string
	Trusted bool
}

// Options of one Encode.
type Options struct {
	AddBOS    bool // put the begin token in front, unless the text starts with it already or the model has none
	AddEOS    bool // put the end token behind, unless the text ends with it already or the model has none
	MaxTokens int  // stop after this many ids; 0 = no bound. To see that a text does not fit n, ask for n+1
}

// Tokenizer is an immutable vocabulary with its rules. Use FromGGUF or FromDir.
type Tokenizer struct {
	tokens []entry
	bos    int32 // -1 = none
	eos    int32
	unk    int32
	add    Options

	specials   specials
	normalize  normalizer // nil = as it is
	prefix     prefix
	prefixOnce bool // no space in front of text that starts with one
	spaced     bool // spaces are U+2581 in the vocabulary
	cut        cutter
	machine    machine
	cache      *wordCache
}

type entry struct {
	text  string // as in the file
	bytes string // what it stands for in a text
	score float32
	kind  Kind
	eog   bool
}

// Size returns the number of tokens; ids are 0 to Size()-1.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// BOS returns the id of the begin token, EOS that of the end token; -1 where the model has none.
func (t *Tokenizer) BOS() int32 { return t.bos }

// EOS returns the id of the end token, or -1.
func (t *Tokenizer) EOS() int32 { return t.eos }

// Defaults says whether this model wants its begin and end token round a text. MaxTokens is 0.
func (t *Tokenizer) Defaults() Options { return t.add }

// EOG reports whether the token ends a generation: the end of text, of a turn or of a message.
func (t *Tokenizer) EOG(id int32) bool { return t.has(id) && t.tokens[id].eog }

// Kind returns what the token is for; 0 for ids outside the vocabulary.
func (t *Tokenizer) Kind(id int32) Kind {
	if !t.has(id) {
		return 0
	}
	return t.tokens[id].kind
}

// Text returns the token as its file spells it, "" for ids outside the vocabulary. Template variables like bos_token take this form.
func (t *Tokenizer) Text(id int32) string {
	if !t.has(id) {
		return ""
	}
	return t.tokens[id].text
}

// Bytes returns the bytes that the token stands for in a text, control tokens included; "" for ids outside the vocabulary. They may be a part of a rune.
func (t *Tokenizer) Bytes(id int32) string {
	if !t.has(id) {
		return ""
	}
	return t.tokens[id].bytes
}

func (t *Tokenizer) has(id int32) bool { return id >= 0 && int(id) < len(t.tokens) }

// Decode returns the bytes of the ids one after another; they may end within a rune. Control tokens are left out unless keepSpecial; ids outside the vocabulary are left out.
// A leading space that encoding put in front is part of the first token and stays.
func (t *Tokenizer) Decode(ids []int32, keepSpecial bool) []byte {
	var out []byte
	for _, id := range ids {
		if t.shown(id, keepSpecial) {
			out = append(out, t.tokens[id].bytes...)
		}
	}
	return out
}

// shown reports whether a token adds to the text that people read.
func (t *Tokenizer) shown(id int32, keepSpecial bool) bool {
	return t.has(id) && (keepSpecial || t.tokens[id].kind != Control && t.tokens[id].kind != Unknown)
}
