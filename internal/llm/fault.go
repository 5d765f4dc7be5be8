// Package llm is the root of the native language-model library: file formats, quantization, kernels, tokenizers, templates, forward graphs and the engine, each in its own folder.
// The root itself holds only the errors that several of the folders share. The library knows no service, no database and no HTTP.
package llm

import "maas/internal/platform/fault"

// Errors about model files that more than one format can meet. The file's path is never in the words: callers that may show it add it as a field.
var (
	ErrFileTruncated = fault.New(fault.Invalid, "llm.file_truncated", "the file ends before its own header says it does").
				WithHint("the copy is incomplete: download or upload the file again and compare its SHA-256")
	ErrFileChanged   = fault.New(fault.Unavailable, "llm.file_changed", "the file changed or was cut short while it was in use")
	ErrFormatUnknown = fault.New(fault.Invalid, "llm.format_unknown", "this is neither a GGUF nor a safetensors file").
				WithHint("import a .gguf file or a Hugging Face folder with .safetensors files")
	ErrPickleRefused = fault.New(fault.Invalid, "llm.pickle_refused", "pickled weights are never opened: loading them can run any code").
				WithHint("convert the file to safetensors on a machine you trust, or import the repository's .safetensors files instead")
)
