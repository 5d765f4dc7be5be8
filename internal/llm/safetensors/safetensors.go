// Package safetensors reads and writes safetensors files: a JSON header that names tensors, and their bytes. It knows the container, not the models inside.
//
// Layout: u64 little-endian header length (at most 25,000,000), a JSON object (spaces may follow it), the data. An entry is {"dtype","shape","data_offsets":[begin,end]} with offsets from the start of the
// data, rising without hole or overlap to exactly the end of the file; "__metadata__" maps strings to strings. Values are little endian, row-major.
package safetensors

import (
	"io"

	"maas/internal/llm"
	"maas/internal/llm/mmap"
	"maas/internal/llm/quant"
)

// DType is a number format by its name in the header.
type DType string

// The formats that are known. Only F32, F16 and BF16 weights are run.
const (
	F64    DType = "F64"
	F32    DType = "F32"
	F16    DType = "F16"
	BF16   DType = "BF16"
	I64    DType = "I64"
	I32    DType = "I32"
	I16    DType = "I16"
	I8     DType = "I8"
	U64    DType = "U64"
	U32    DType = "U32"
	U16    DType = "U16"
	U8     DType = "U8"
	Bool   DType = "BOOL"
	F8E4M3 DType = "F8_E4M3"
	F8E5M2 DType = "F8_E5M2"
)

var sizes = map[DType]int{F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, Bool: 1, F8E4M3: 1, F8E5M2: 1}

// Size returns the bytes of one value, 0 for an unknown format.
func (d DType) Size() int { return sizes[d] }

// Quant returns the format's name in package quant; false for those that it does not run.
func (d DType) Quant() (quant.Type, bool) {
	switch d {
	case F32:
		return quant.F32, true
	case F16:
		return quant.F16, true
	case BF16:
		return quant.BF16, true
	default:
		return 0, false
	}
}

// Of returns the format of t; false for block formats, which the container does not have.
func Of(t quant.Type) (DType, bool) {
	switch t {
	case quant.F32:
		return F32, true
	case quant.F16:
		return F16, true
	case quant.BF16:
		return BF16, true
	default:
		return "", false
	}
}

// Tensor is one tensor of a file. Shape is slowest first: [rows, cols] of a matrix; no dims at all for a scalar.
type Tensor struct {
	Name   string
	DType  DType
	Shape  []int
	Offset int64 // from the start of its file
	Size   int64 // bytes
	Part   int   // which file of a sharded model, from 0
}

// Cols returns the last dim, 1 for a scalar.
func (t *Tensor) Cols() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Rows returns the product of all dims but the last, 1 for a vector or scalar.
func (t *Tensor) Rows() int {
	n := 1
	for i := 0; i+1 < len(t.Shape); i++ {
		n *= t.Shape[i]
	}
	return n
}

// File is a parsed file, or the shards of a model joined to one. It is safe for concurrent use until Close.
type File struct {
	Tensors  []Tensor // by their place in the file, shards in their order
	Metadata map[string]string

	names map[string]int
	parts []part
}

type part struct {
	r    io.ReaderAt
	size int64
	m    *mmap.File // nil unless mapped
}

// Tensor returns the tensor of that name, nil if there is none.
func (f *File) Tensor(name string) *Tensor {
	i, ok := f.names[name]
	if !ok {
		return nil
	}
	return &f.Tensors[i]
}

// Bytes returns the bytes of a tensor: of an opened file a slice of the read-only mapping, valid until Close (read it under mmap.Guard); of a parsed one a fresh copy.
func (f *File) Bytes(t *Tensor) ([]byte, error) {
	p := f.parts[t.Part]
	if p.m != nil {
		return p.m.Data[t.Offset : t.Offset+t.Size : t.Offset+t.Size], nil
	}
	b := make([]byte, t.Size)
	if n, err := p.r.ReadAt(b, t.Offset); err != nil && n < len(b) {
		return nil, llm.ErrFileTruncated.With("tensor %s cannot be read", t.Name).Wrap(err)
	}
	return b, nil
}

// Reader returns a reader over the bytes of a tensor.
func (f *File) Reader(t *Tensor) *io.SectionReader {
	return io.NewSectionReader(f.parts[t.Part].r, t.Offset, t.Size)
}

// Matrix returns a tensor as rows of numbers. See Bytes for how long it is valid. quant.ErrTypeUnsupported for formats that are not run.
func (f *File) Matrix(t *Tensor) (quant.Matrix, error) {
	q, ok := t.DType.Quant()
	if !ok {
		return quant.Matrix{}, quant.ErrTypeUnsupported.With("tensor %s is %s, which the native engine does not run", t.Name, t.DType)
	}
	b, err := f.Bytes(t)
	return quant.Matrix{Type: q, Rows: t.Rows(), Cols: t.Cols(), Data: b}, err
}

// Drop tells the system that the bytes of t are not needed for now.
func (f *File) Drop(t *Tensor) {
	if m := f.parts[t.Part].m; m != nil {
		m.Drop(m.Data[t.Offset : t.Offset+t.Size])
	}
}

// Close unmaps the files.
func (f *File) Close() error {
	var first error
	for _, p := range f.parts {
		if p.m != nil {
			if err := p.m.Close(); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}
