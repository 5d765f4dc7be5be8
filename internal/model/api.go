package model

import (
	"context"
	"io"
	"time"
)

// API is what other services may ask the registry. The tenant is the caller's; a foreign or missing name answers the same ErrNotFound.
type API interface {
	// Resolve finds a version by "name" (the newest that may be served, or the newest of all if none may), "name@r3", or version id.
	Resolve(ctx context.Context, ref string) (Version, error)
	// Materialize gives the version's files as a folder of read-only files that may be mapped into memory. It may copy; it may be called again and answers the same folder. ErrBlobLost if a file's bytes are gone.
	Materialize(ctx context.Context, versionID string) (Dir, error)
	// Open reads one file of a version in place. The caller closes the Reader. ErrFileNotFound.
	Open(ctx context.Context, versionID, path string) (Reader, error)
}

// Dependents tells who uses a model: implemented above (inference), set with Service.SetDependents, asked before a model is deleted.
type Dependents interface {
	// ModelUses names what uses any version of the model in the tenant of ctx, in words for people ("deployment my-llama"). Empty = nothing.
	ModelUses(ctx context.Context, modelID string) ([]string, error)
}

// Dir is a folder with the files of one version: GGUF = one or more .gguf, safetensors = the folder as on the Hugging Face Hub.
type Dir struct {
	Path  string `json:"path"`
	Files []File `json:"files"`
}

// File is one file of a version.
type File struct {
	Path      string `json:"path"` // slash-separated, relative
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"`
}

// Reader is a file that can be read at any offset.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// States of a version.
const (
	Pending    = "pending"
	Validating = "validating"
	Ready      = "ready"
	Warned     = "warned"   // may be served; the report names what to know
	Rejected   = "rejected" // broken or dangerous files
	Failed     = "failed"   // the check could not run
	Retired    = "retired"
)

// Version is one immutable state of a model.
type Version struct {
	ID             string    `json:"id"`
	ModelID        string    `json:"model_id"`
	Name           string    `json:"name"` // of the model
	Number         int       `json:"number"`
	Status         string    `json:"status"` // pending, validating, ready, warned, rejected, failed, retired
	Message        string    `json:"message"`
	Format         string    `json:"format"` // gguf, safetensors
	Architecture   string    `json:"architecture"`
	Parameters     int64     `json:"parameters"`
	ContextLength  int       `json:"context_length"`
	Quantization   string    `json:"quantization"`
	SizeBytes      int64     `json:"size_bytes"`
	ManifestSHA256 string    `json:"manifest_sha256"`
	Files          []File    `json:"files"`
	Reason         *Reason   `json:"reason"`
	JobID          string    `json:"job_id"`
	CreatedAt      time.Time `json:"created_at"`
	Metadata       Metadata  `json:"metadata"`
}

// Usable reports whether the version may be served.
func (v Version) Usable() bool { return v.Status == Ready || v.Status == Warned }

// Reason says why a version is in its state.
type Reason struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// Metadata is what the headers of a version's files say.
type Metadata struct {
	Memory []Memory       `json:"memory,omitempty"` // what serving takes
	Values map[string]any `json:"values,omitempty"`
}

// Memory is the need of one way to serve a version.
type Memory struct {
	Context int   `json:"context"`
	Slots   int   `json:"slots"`
	Bytes   int64 `json:"bytes"`
}
