package token

import "io/fs"

// FromDir reads the tokenizer of a Hugging Face folder: tokenizer.json, else tokenizer.model (SentencePiece), else vocab.json with merges.txt; tokenizer_config.json and special_tokens_map.json
// add the begin and end tokens. Errors: ErrInvalid, ErrPreUnknown.
func FromDir(dir fs.FS) (*Tokenizer, error) { return nil, ErrInvalid }

// Encode appends the ids of the joined parts to dst. Errors: ErrTextLong over MaxText, ErrTimeout from a splitting pattern of the model's own.
func (t *Tokenizer) Encode(dst []int32, parts []Part, o Options) ([]int32, error) { return dst, ErrInvalid }
