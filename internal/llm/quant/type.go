// Package quant knows the number formats of model files: how many values a block holds, how many bytes it takes, and how to turn it into float32 and back.
//
// A tensor row is a whole number of blocks. The layouts are those of GGUF (ggml): little endian, the fields of a block in the order that [Type] documents.
// Dequantization is exact to ggml's reference functions (float32, no fused operations); quantization follows the same searches, so that equal input gives equal bytes.
package quant

import (
	"strconv"

	"maas/internal/platform/fault"
)

// ErrTypeUnsupported says that a type is known by name but not run, or not written, here.
var ErrTypeUnsupported = fault.New(fault.Invalid, "llm.type_unsupported", "this number format is not run by the native engine").
	WithHint("use a file in f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_K, q5_K or q6_K, or serve it with another engine")

// ErrSize says that a buffer does not hold whole blocks, or that input and output do not hold the same number of values.
var ErrSize = fault.New(fault.Invalid, "llm.quant_size", "the data does not hold a whole number of blocks")

// Type is a number format by its ggml id, as GGUF tensor infos carry it.
type Type uint32

// The formats that are dequantized and run here. Block layouts, d and m being IEEE half precision:
//
//	F32 F16 BF16        the number
//	Q8_0   32 values    d, 32 x int8                                   x = d*q
//	Q4_0   32 values    d, 16 bytes of nibbles                         x = d*(q-8); byte j holds values j (low) and j+16 (high)
//	Q4_1   32 values    d, m, 16 bytes of nibbles                      x = d*q+m
//	Q5_0   32 values    d, 4 bytes of fifth bits, 16 bytes of nibbles  x = d*(q-16)
//	Q5_1   32 values    d, m, 4 bytes of fifth bits, 16 bytes          x = d*q+m
//	Q4_K  256 values    d, dmin, 12 bytes of 6-bit scales and mins, 128 bytes of nibbles           x = d*sc*q - dmin*m, per 32 values
//	Q5_K  256 values    d, dmin, 12 bytes of 6-bit scales and mins, 32 bytes of fifth bits, 128 bytes of nibbles
//	Q6_K  256 values    128 bytes of low nibbles, 64 bytes of high bit pairs, 16 x int8 scale, d   x = d*sc*(q-32), per 16 values
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2
	Q4_1 Type = 3
	Q5_0 Type = 6
	Q5_1 Type = 7
	Q8_0 Type = 8
	Q4_K Type = 12
	Q5_K Type = 13
	Q6_K Type = 14
	BF16 Type = 30
)

// Info describes a format.
type Info struct {
	Type  Type
	Name  string // as people write it: "q4_K"
	Block int    // values a block
	Bytes int    // bytes a block
	Run   bool   // dequantized here, and run by the engine
	Write bool   // quantized here
}

// infos holds the sizes of every format that GGUF names, so that files with foreign formats can still be read and described.
var infos = map[Type]Info{
	F32:  {F32, "f32", 1, 4, true, true},
	F16:  {F16, "f16", 1, 2, true, true},
	Q4_0: {Q4_0, "q4_0", 32, 18, true, true},
	Q4_1: {Q4_1, "q4_1", 32, 20, true, false},
	Q5_0: {Q5_0, "q5_0", 32, 22, true, true},
	Q5_1: {Q5_1, "q5_1", 32, 24, true, false},
	Q8_0: {Q8_0, "q8_0", 32, 34, true, true},
	9:    {9, "q8_1", 32, 36, false, false},
	10:   {10, "q2_K", 256, 84, false, false},
	11:   {11, "q3_K", 256, 110, false, false},
	Q4_K: {Q4_K, "q4_K", 256, 144, true, true},
	Q5_K: {Q5_K, "q5_K", 256, 176, true, false},
	Q6_K: {Q6_K, "q6_K", 256, 210, true, true},
	15:   {15, "q8_K", 256, 292, false, false},
	16:   {16, "iq2_xxs", 256, 66, false, false},
	17:   {17, "iq2_xs", 256, 74, false, false},
	18:   {18, "iq3_xxs", 256, 98, false, false},
	19:   {19, "iq1_s", 256, 50, false, false},
	20:   {20, "iq4_nl", 32, 18, false, false},
	21:   {21, "iq3_s", 256, 110, false, false},
	22:   {22, "iq2_s", 256, 82, false, false},
	23:   {23, "iq4_xs", 256, 136, false, false},
	24:   {24, "i8", 1, 1, false, false},
	25:   {25, "i16", 1, 2, false, false},
	26:   {26, "i32", 1, 4, false, false},
	27:   {27, "i64", 1, 8, false, false},
	28:   {28, "f64", 1, 8, false, false},
	29:   {29, "iq1_m", 256, 56, false, false},
	BF16: {BF16, "bf16", 1, 2, true, true},
	34:   {34, "tq1_0", 256, 54, false, false},
	35:   {35, "tq2_0", 256, 66, false, false},
	39:   {39, "mxfp4", 32, 17, false, false},
	40:   {40, "nvfp4", 64, 36, false, false},
	41:   {41, "q1_0", 128, 18, false, false},
}

// Info returns the description of t; false for an id that GGUF does not define, or has withdrawn.
func (t Type) Info() (Info, bool) {
	i, ok := infos[t]
	return i, ok
}

// String returns the name, or "type 99" for an unknown id.
func (t Type) String() string {
	if i, ok := infos[t]; ok {
		return i.Name
	}
	return "type " + strconv.FormatUint(uint64(t), 10)
}

// ByName finds a format by its name, as [Type.String] writes it.
func ByName(name string) (Type, bool) {
	for t, i := range infos {
		if i.Name == name {
			return t, true
		}
	}
	return 0, false
}

// RowBytes returns the bytes of n values, n being a multiple of the block. It returns -1 for an unknown type or a broken row.
func (t Type) RowBytes(n int) int {
	i, ok := infos[t]
	if !ok || n < 0 || n%i.Block != 0 {
		return -1
	}
	return n / i.Block * i.Bytes
}

// Matrix is a weight matrix as it lies in a file: Rows rows of Cols values, row-major, each row RowBytes(Cols) bytes. Data may be a read-only mapping: never write to it.
type Matrix struct {
	Type       Type
	Rows, Cols int
	Data       []byte
}

// Row dequantizes row r into dst, which holds at least Cols values. It panics if r is out of range; the shape was checked at load.
func (m Matrix) Row(dst []float32, r int) {
	n := m.Type.RowBytes(m.Cols)
	if err := Dequantize(m.Type, dst[:m.Cols], m.Data[r*n:(r+1)*n]); err != nil {
		panic(err) // a type that does not run: refused at load
	}
}
