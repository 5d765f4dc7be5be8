package gguf

import "maas/internal/platform/fault"

func refuse(reason, words string) *fault.Error {
	return fault.New(fault.Invalid, "llm.gguf_"+reason, words)
}

// What a reader refuses. Truncation and a foreign magic are llm.ErrFileTruncated and llm.ErrFormatUnknown.
var (
	ErrVersion = refuse("version", "this version of GGUF is not read").
			WithHint("versions 2 and 3 in little-endian order are read: convert the file again with a present converter")
	ErrTensorCount     = refuse("tensor_count", "the header names more tensors than a model can have")
	ErrKVCount         = refuse("kv_count", "the header names more metadata entries than a model can have")
	ErrKeyLength       = refuse("key_length", "a metadata key is empty or longer than 64 KiB")
	ErrKeyInvalid      = refuse("key_invalid", "a metadata key is not UTF-8")
	ErrKeyDuplicate    = refuse("key_duplicate", "a metadata key appears twice")
	ErrKeyMissing      = refuse("key_missing", "a metadata key is missing")
	ErrKeyType         = refuse("key_type", "a metadata value is not of the kind that its key needs")
	ErrValueType       = refuse("value_type", "a metadata value is of an unknown kind")
	ErrBool            = refuse("bool", "a truth value is neither 0 nor 1")
	ErrStringLength    = refuse("string_length", "a string is longer than 64 MiB")
	ErrArrayLength     = refuse("array_length", "a list has more than 16,777,216 elements")
	ErrArrayNesting    = refuse("array_nesting", "lists are nested more than two deep")
	ErrMetadataSize    = refuse("metadata_size", "the metadata is larger than 512 MiB")
	ErrAlignment       = refuse("alignment", "the alignment is not a power of two between 8 and 65,536")
	ErrTensorName      = refuse("tensor_name", "a tensor name is empty, longer than 255 bytes or not UTF-8")
	ErrTensorDuplicate = refuse("tensor_duplicate", "a tensor name appears twice")
	ErrDims            = refuse("dims", "a tensor does not have one to four dimensions of one or more, or is impossibly large")
	ErrTensorType      = refuse("tensor_type", "a tensor is of a number format that GGUF does not define")
	ErrRow             = refuse("row", "a tensor row is not a whole number of blocks")
	ErrOffset          = refuse("offset", "a tensor does not start at a multiple of the alignment")
	ErrOverlap         = refuse("overlap", "two tensors lie over each other")
	ErrSplit           = refuse("split", "the files of the split set do not belong together or are not all there").
				WithHint("import all files of the set together, with their names unchanged")
	ErrWrite = refuse("write", "the tensor does not fit what the header promised")
)
