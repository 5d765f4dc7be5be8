package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"maas/internal/llm/quant"
)

// Kind is the type of a value, by its number in the file.
type Kind uint32

// The thirteen kinds.
const (
	Uint8 Kind = iota
	Int8
	Uint16
	Int16
	Uint32
	Int32
	Float32
	Bool
	String
	Array
	Uint64
	Int64
	Float64
)

var kindNames = [...]string{"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"}

// String returns "u32", "string", "array" ...
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// size returns the bytes of a scalar kind, 0 for strings and arrays, -1 for an unknown one.
func (k Kind) size() int {
	switch k {
	case Uint8, Int8, Bool:
		return 1
	case Uint16, Int16:
		return 2
	case Uint32, Int32, Float32:
		return 4
	case Uint64, Int64, Float64:
		return 8
	case String, Array:
		return 0
	}
	return -1
}

// Value is one metadata value. Scalars and strings are held; an array that came from a file is held as its place there, and read by [File.Strings], [File.Ints] and [File.Floats].
type Value struct {
	Kind Kind
	Elem Kind // of an array
	Len  int  // elements of an array

	bits uint64 // a scalar, widened
	str  string
	raw  []byte // elements of an array made here, encoded
	at   int64  // place of the elements of an array from a file, and their bytes
	size int64
	part int
}

// Int returns an integer of any width; false for other kinds and for a u64 beyond int64.
func (v Value) Int() (int64, bool) {
	switch v.Kind {
	case Uint8, Uint16, Uint32, Int8, Int16, Int32, Int64:
		return int64(v.bits), true
	case Uint64:
		return int64(v.bits), v.bits <= math.MaxInt64
	default:
		return 0, false
	}
}

// Float returns a float of either width, or an integer as one.
func (v Value) Float() (float64, bool) {
	switch v.Kind {
	case Float32:
		return float64(math.Float32frombits(uint32(v.bits))), true
	case Float64:
		return math.Float64frombits(v.bits), true
	default:
		i, ok := v.Int()
		return float64(i), ok
	}
}

// Bool returns a truth value; false, false for other kinds.
func (v Value) Bool() (value, ok bool) { return v.bits != 0, v.Kind == Bool }

// Str returns a string; "", false for other kinds.
func (v Value) Str() (string, bool) { return v.str, v.Kind == String }

// KV is one metadata entry.
type KV struct {
	Key   string
	Value Value
}

// U32 makes an entry. Counts and sizes are u32 by convention.
func U32(key string, v uint32) KV { return KV{key, Value{Kind: Uint32, bits: uint64(v)}} }

// U64 makes an entry.
func U64(key string, v uint64) KV { return KV{key, Value{Kind: Uint64, bits: v}} }

// U16 makes an entry: the split numbers are u16.
func U16(key string, v uint16) KV { return KV{key, Value{Kind: Uint16, bits: uint64(v)}} }

// I32 makes an entry.
func I32(key string, v int32) KV {
	return KV{key, Value{Kind: Int32, bits: uint64(int64(v))}}
}

// F32 makes an entry.
func F32(key string, v float32) KV {
	return KV{key, Value{Kind: Float32, bits: uint64(math.Float32bits(v))}}
}

// Flag makes a bool entry.
func Flag(key string, v bool) KV {
	x := Value{Kind: Bool}
	if v {
		x.bits = 1
	}
	return KV{key, x}
}

// Text makes a string entry.
func Text(key, v string) KV { return KV{key, Value{Kind: String, str: v}} }

// Texts makes an entry holding an array of strings.
func Texts(key string, v []string) KV {
	var raw []byte
	for _, s := range v {
		raw = append(binary.LittleEndian.AppendUint64(raw, uint64(len(s))), s...)
	}
	return KV{key, Value{Kind: Array, Elem: String, Len: len(v), raw: raw}}
}

// I32s makes an entry holding an array of i32.
func I32s(key string, v []int32) KV {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(x))
	}
	return KV{key, Value{Kind: Array, Elem: Int32, Len: len(v), raw: raw}}
}

// F32s makes an entry holding an array of f32.
func F32s(key string, v []float32) KV {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return KV{key, Value{Kind: Array, Elem: Float32, Len: len(v), raw: raw}}
}

// TensorInfo names a tensor that is to be written. Dims are fastest first: a weight matrix of 64 rows (outputs) and 128 columns (inputs) has dims 128, 64.
type TensorInfo struct {
	Name string
	Dims []int
	Type quant.Type
}

// Tensor is one tensor of a file. Dims are fastest first, as in the file: Dims[0] is the row length.
type Tensor struct {
	Name   string
	Dims   []int
	Type   quant.Type
	Offset int64 // from the start of its file
	Size   int64 // bytes
	Part   int   // which file of a split set, from 0
}

// Cols returns the row length.
func (t *Tensor) Cols() int { return t.Dims[0] }

// Rows returns the number of rows: the product of all other dims.
func (t *Tensor) Rows() int {
	n := 1
	for _, d := range t.Dims[1:] {
		n *= d
	}
	return n
}

// Elements returns the number of values.
func (t *Tensor) Elements() int64 { return int64(t.Rows()) * int64(t.Cols()) }

// Shape returns the dims slowest first: [rows, cols] of a matrix.
func (t *Tensor) Shape() []int {
	s := make([]int, len(t.Dims))
	for i, d := range t.Dims {
		s[len(s)-1-i] = d
	}
	return s
}
