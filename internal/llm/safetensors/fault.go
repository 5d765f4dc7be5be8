package safetensors

import "maas/internal/platform/fault"

func refuse(reason, words string) *fault.Error {
	return fault.New(fault.Invalid, "llm.safetensors_"+reason, words)
}

// What a reader refuses. A file that ends early is llm.ErrFileTruncated.
var (
	ErrHeaderLength = refuse("header_length", "the header length is zero or over the limit of 25,000,000 bytes")
	ErrHeader       = refuse("header", "the header is not a JSON object of tensors")
	ErrDuplicate    = refuse("duplicate", "a name appears twice")
	ErrDType        = refuse("dtype", "a tensor is of an unknown number format")
	ErrShape        = refuse("shape", "a tensor's shape does not give the bytes that it takes")
	ErrOffsets      = refuse("offsets", "the tensors do not fill the data without hole or overlap")
	ErrIndex        = refuse("index", "the index and the files do not belong together")
	ErrWrite        = refuse("write", "the tensor does not fit what the header promised")
)
