package gguf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm"
	"maas/internal/llm/gguf"
	"maas/internal/llm/quant"
	"maas/internal/platform/fault"
)

func parse(b []byte) (*gguf.File, error) {
	return gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{})
}

// A file of the PyPI package gguf reads as what it was made from (testdata/python.py).
func TestReadsPythonsFile(t *testing.T) {
	t.Parallel()
	f, err := gguf.Open("testdata/python.gguf")
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	require.Equal(t, 3, f.Version)
	require.Equal(t, "llama", f.Arch())
	for key, want := range map[string]int64{"t.u8": 200, "t.i8": -100, "t.u16": 60000, "t.i16": -30000, "t.u32": 4000000000, "t.i32": -2000000000, "t.i64": -(1 << 62)} {
		got, ok := f.Int(key)
		require.True(t, ok, key)
		require.Equal(t, want, got, key)
	}
	_, ok := f.Int("t.u64")
	require.False(t, ok, "beyond int64")
	for key, want := range map[string]float64{"t.f32": 0.5, "t.f64": 0.1, "t.u8": 200} {
		got, ok := f.Float(key)
		require.True(t, ok, key)
		require.InDelta(t, want, got, 0, key)
	}
	yes, ok := f.Flag("t.yes")
	require.True(t, yes && ok)
	no, ok := f.Flag("t.no")
	require.True(t, !no && ok)
	s, _ := f.Str("t.text")
	require.Equal(t, "grüße 你好", s)
	texts, err := f.Strings("t.texts")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "", "中文"}, texts)
	ints, err := f.Ints("t.ints")
	require.NoError(t, err)
	require.Equal(t, []int64{1, -2, 3}, ints)
	floats, err := f.Floats("t.floats")
	require.NoError(t, err)
	require.Equal(t, []float32{0.25, -1.5}, floats)
	_, err = f.Strings("t.ints")
	require.ErrorIs(t, err, gguf.ErrKeyType)
	_, err = f.Strings("none")
	require.ErrorIs(t, err, gguf.ErrKeyMissing)
	for _, name := range []string{"a.weight", "b.weight"} {
		m, err := f.Matrix(f.Tensor(name))
		require.NoError(t, err)
		require.Equal(t, []int{2, 32}, []int{m.Rows, m.Cols})
		row := make([]float32, 32)
		m.Row(row, 1)
		require.InDelta(t, 63, row[31], 0, name)
	}
	require.Equal(t, []int{2, 32}, f.Tensor("c.weight").Shape())
	require.Equal(t, quant.Q8_0, f.Tensor("c.weight").Type)
	require.Nil(t, f.Tensor("d.weight"))
}

func write(tb testing.TB, kvs []gguf.KV, tensors ...gguf.TensorInfo) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := gguf.NewWriter(&b, kvs, tensors)
	require.NoError(tb, err)
	for _, x := range tensors {
		n := x.Type.RowBytes(x.Dims[0])
		for _, d := range x.Dims[1:] {
			n *= d
		}
		require.NoError(tb, w.WriteTensor(x.Name, bytes.NewReader(bytes.Repeat([]byte{7}, n))))
	}
	require.NoError(tb, w.Close())
	return b.Bytes()
}

// Writing what was read gives the same bytes: every kind, arrays too.
func TestRewriteIsEqual(t *testing.T) {
	t.Parallel()
	in, err := os.ReadFile("testdata/python.gguf")
	require.NoError(t, err)
	f, err := parse(in)
	require.NoError(t, err)
	var kvs []gguf.KV
	for _, kv := range f.KVs {
		e, err := f.Entry(kv.Key)
		require.NoError(t, err)
		kvs = append(kvs, e)
	}
	var infos []gguf.TensorInfo
	for _, x := range f.Tensors {
		infos = append(infos, gguf.TensorInfo{Name: x.Name, Dims: x.Dims, Type: x.Type})
	}
	var out bytes.Buffer
	w, err := gguf.NewWriter(&out, kvs, infos)
	require.NoError(t, err)
	for i := range f.Tensors {
		require.NoError(t, w.WriteTensor(f.Tensors[i].Name, f.Reader(&f.Tensors[i])))
	}
	require.NoError(t, w.Close())
	require.Equal(t, in, out.Bytes())
}

func TestWriterKeepsItsPromises(t *testing.T) {
	t.Parallel()
	two := []gguf.TensorInfo{{Name: "a", Dims: []int{4}}, {Name: "b", Dims: []int{4}}}
	w, err := gguf.NewWriter(io.Discard, nil, two)
	require.NoError(t, err)
	require.ErrorIs(t, w.WriteTensor("b", bytes.NewReader(make([]byte, 16))), gguf.ErrWrite)
	w, err = gguf.NewWriter(io.Discard, nil, two)
	require.NoError(t, err)
	require.ErrorIs(t, w.WriteTensor("a", bytes.NewReader(make([]byte, 17))), gguf.ErrWrite)
	w, err = gguf.NewWriter(io.Discard, nil, two)
	require.NoError(t, err)
	require.NoError(t, w.WriteTensor("a", bytes.NewReader(make([]byte, 16))))
	require.ErrorIs(t, w.Close(), gguf.ErrWrite)
	_, err = gguf.NewWriter(io.Discard, []gguf.KV{gguf.Text("a", ""), gguf.Text("a", "")}, nil)
	require.ErrorIs(t, err, gguf.ErrKeyDuplicate)
	_, err = gguf.NewWriter(io.Discard, nil, []gguf.TensorInfo{{Name: "a", Dims: []int{31}, Type: quant.Q8_0}})
	require.ErrorIs(t, err, gguf.ErrRow)
}

// raw builds headers by hand, so that each can be wrong in one way.
type raw struct{ bytes.Buffer }

func (r *raw) u32(v uint32) *raw { _ = binary.Write(r, binary.LittleEndian, v); return r }
func (r *raw) u64(v uint64) *raw { _ = binary.Write(r, binary.LittleEndian, v); return r }
func (r *raw) str(s string) *raw { r.u64(uint64(len(s))); r.WriteString(s); return r }
func head(version uint32, tensors, kvs uint64) *raw {
	r := &raw{}
	r.WriteString("GGUF")
	return r.u32(version).u64(tensors).u64(kvs)
}

func (r *raw) tensor(name string, typ uint32, off uint64, dims ...uint64) *raw {
	r.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		r.u64(d)
	}
	return r.u32(typ).u64(off)
}

func (r *raw) data(n int) *raw {
	r.Write(make([]byte, (32-r.Len()%32)%32+n))
	return r
}

// Broken says for each hand-broken file which refusal it gets.
var broken = []struct {
	name string
	file *raw
	want error
}{
	{"empty", &raw{}, llm.ErrFormatUnknown},
	{"foreign magic", func() *raw { r := &raw{}; r.WriteString("PK\x03\x04aaaa"); return r }(), llm.ErrFormatUnknown},
	{"only magic", func() *raw { r := &raw{}; r.WriteString("GGUF"); return r }(), llm.ErrFileTruncated},
	{"version 1", head(1, 0, 0), gguf.ErrVersion},
	{"version 4", head(4, 0, 0), gguf.ErrVersion},
	{"big endian", head(3<<24, 0, 0), gguf.ErrVersion},
	{"no counts", func() *raw { r := &raw{}; r.WriteString("GGUF"); return r.u32(3) }(), llm.ErrFileTruncated},
	{"absurd tensor count", head(3, math.MaxUint64, 0), gguf.ErrTensorCount},
	{"too many tensors", head(3, 65537, 0), gguf.ErrTensorCount},
	{"absurd entry count", head(3, 0, math.MaxUint64), gguf.ErrKVCount},
	{"entries missing", head(3, 0, 1<<20), llm.ErrFileTruncated},
	{"tensors missing", head(3, 65536, 0), llm.ErrFileTruncated},
	{"long key", head(3, 0, 1).u64(64<<10 + 1), gguf.ErrKeyLength},
	{"empty key", head(3, 0, 1).str("").u32(4).u32(1), gguf.ErrKeyLength},
	{"key past the end", head(3, 0, 1).u64(1000), llm.ErrFileTruncated},
	{"key not UTF-8", head(3, 0, 1).str("\xff").u32(4).u32(1), gguf.ErrKeyInvalid},
	{"key twice", head(3, 0, 2).str("a").u32(4).u32(1).str("a").u32(4).u32(1), gguf.ErrKeyDuplicate},
	{"unknown kind", head(3, 0, 1).str("a").u32(13), gguf.ErrValueType},
	{"bool 2", func() *raw { r := head(3, 0, 1).str("a").u32(7); r.WriteByte(2); return r }(), gguf.ErrBool},
	{"long string", head(3, 0, 1).str("a").u32(8).u64(64<<20 + 1), gguf.ErrStringLength},
	{"absurd string", head(3, 0, 1).str("a").u32(8).u64(math.MaxUint64), gguf.ErrStringLength},
	{"string past the end", head(3, 0, 1).str("a").u32(8).u64(1 << 20), llm.ErrFileTruncated},
	{"long array", head(3, 0, 1).str("a").u32(9).u32(0).u64(16<<20 + 1), gguf.ErrArrayLength},
	{"array past the end", head(3, 0, 1).str("a").u32(9).u32(10).u64(1 << 20), llm.ErrFileTruncated},
	{"array of unknown kind", head(3, 0, 1).str("a").u32(9).u32(99).u64(1), gguf.ErrValueType},
	{"array of bool 3", func() *raw { r := head(3, 0, 1).str("a").u32(9).u32(7).u64(1); r.WriteByte(3); return r }(), gguf.ErrBool},
	{"long string in array", head(3, 0, 1).str("a").u32(9).u32(8).u64(1).u64(1 << 40), gguf.ErrStringLength},
	{"three deep", head(3, 0, 1).str("a").u32(9).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1), gguf.ErrArrayNesting},
	{"alignment 0", head(3, 0, 1).str("general.alignment").u32(4).u32(0), gguf.ErrAlignment},
	{"alignment 48", head(3, 0, 1).str("general.alignment").u32(4).u32(48), gguf.ErrAlignment},
	{"alignment 131072", head(3, 0, 1).str("general.alignment").u32(4).u32(1 << 17), gguf.ErrAlignment},
	{"alignment a string", head(3, 0, 1).str("general.alignment").u32(8).str("32"), gguf.ErrKeyType},
	{"long name", head(3, 1, 0).tensor(strings.Repeat("n", 256), 0, 0, 8).data(32), gguf.ErrTensorName},
	{"empty name", head(3, 1, 0).tensor("", 0, 0, 8).data(32), gguf.ErrTensorName},
	{"name not UTF-8", head(3, 1, 0).tensor("\xc3", 0, 0, 8).data(32), gguf.ErrTensorName},
	{"name twice", head(3, 2, 0).tensor("a", 0, 0, 8).tensor("a", 0, 32, 8).data(64), gguf.ErrTensorDuplicate},
	{"no dims", head(3, 1, 0).tensor("a", 0, 0).data(32), gguf.ErrDims},
	{"five dims", head(3, 1, 0).tensor("a", 0, 0, 1, 1, 1, 1, 1).data(32), gguf.ErrDims},
	{"dim 0", head(3, 1, 0).tensor("a", 0, 0, 8, 0).data(32), gguf.ErrDims},
	{"product overflow", head(3, 1, 0).tensor("a", 0, 0, 1<<32, 1<<32).data(32), gguf.ErrDims},
	{"dim overflow", head(3, 1, 0).tensor("a", 0, 0, math.MaxUint64).data(32), gguf.ErrDims},
	{"unknown type", head(3, 1, 0).tensor("a", 4, 0, 32).data(32), gguf.ErrTensorType},
	{"half a block", head(3, 1, 0).tensor("a", 8, 0, 33).data(64), gguf.ErrRow},
	{"unaligned", head(3, 1, 0).tensor("a", 0, 16, 8).data(64), gguf.ErrOffset},
	{"offset past the end", head(3, 1, 0).tensor("a", 0, 1<<40, 8).data(32), llm.ErrFileTruncated},
	{"offset overflow", head(3, 1, 0).tensor("a", 0, math.MaxUint64-31, 8).data(32), llm.ErrFileTruncated},
	{"data cut", head(3, 1, 0).tensor("a", 0, 0, 8).data(31), llm.ErrFileTruncated},
	{"no data", head(3, 1, 0).tensor("a", 0, 0, 8), llm.ErrFileTruncated},
	{"overlap", head(3, 2, 0).tensor("a", 0, 0, 9).tensor("b", 0, 32, 8).data(64), gguf.ErrOverlap},
	{"same place", head(3, 2, 0).tensor("a", 0, 0, 8).tensor("b", 0, 0, 8).data(64), gguf.ErrOverlap},
}

func TestBrokenFilesAreRefusedByCode(t *testing.T) {
	t.Parallel()
	for _, c := range broken {
		_, err := parse(c.file.Bytes())
		require.Error(t, err, c.name)
		require.ErrorIs(t, err, c.want, c.name)
		require.Equal(t, fault.Invalid, fault.KindOf(err), c.name)
	}
}

// A good file cut at any byte is refused as cut short, or as not GGUF while the magic is not complete.
func TestEveryCutIsNoticed(t *testing.T) {
	t.Parallel()
	in, err := os.ReadFile("testdata/python.gguf")
	require.NoError(t, err)
	f, err := parse(in)
	require.NoError(t, err)
	last := f.Tensors[len(f.Tensors)-1]
	for n := range int(last.Offset + last.Size) {
		_, err := parse(in[:n])
		if n < 4 {
			require.ErrorIs(t, err, llm.ErrFormatUnknown)
			continue
		}
		require.ErrorIs(t, err, llm.ErrFileTruncated, "cut at %d", n)
	}
}

func TestMetadataLimit(t *testing.T) {
	t.Parallel()
	b := write(t, []gguf.KV{gguf.Text("a", strings.Repeat("x", 1000))})
	_, err := gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{Metadata: 500})
	require.ErrorIs(t, err, gguf.ErrMetadataSize)
	_, err = gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{Metadata: 2000})
	require.NoError(t, err)
}

// Version 2 has the layout of version 3.
func TestReadsVersion2(t *testing.T) {
	t.Parallel()
	b := write(t, []gguf.KV{gguf.U32("n", 5)}, gguf.TensorInfo{Name: "a", Dims: []int{8}})
	b[4] = 2
	f, err := parse(b)
	require.NoError(t, err)
	require.Equal(t, 2, f.Version)
	n, _ := f.Int("n")
	require.Equal(t, int64(5), n)
}

func shard(t *testing.T, dir string, no, tensors int, names ...string) string {
	t.Helper()
	var infos []gguf.TensorInfo
	for _, n := range names {
		infos = append(infos, gguf.TensorInfo{Name: n, Dims: []int{8}})
	}
	b := write(t, []gguf.KV{gguf.Text("general.architecture", "llama"), gguf.U16("split.no", uint16(no)), gguf.U16("split.count", 2), gguf.I32("split.tensors.count", int32(tensors))}, infos...)
	p := filepath.Join(dir, fmt.Sprintf("m-%05d-of-00002.gguf", no+1))
	require.NoError(t, os.WriteFile(p, b, 0o600))
	return p
}

func TestOpenSetJoinsTheFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shard(t, dir, 0, 3, "a", "b")
	p := shard(t, dir, 1, 3, "c")
	f, err := gguf.OpenSet(p)
	require.NoError(t, err)
	require.Len(t, f.Tensors, 3)
	b, err := f.Bytes(f.Tensor("c"))
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{7}, 32), b)
	require.Equal(t, 1, f.Tensor("c").Part)
	require.NoError(t, f.Close())
	require.NoError(t, f.Close(), "twice is fine")
}

func TestBrokenSetsAreRefused(t *testing.T) {
	t.Parallel()
	missing, twice, count, swapped := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	shard(t, missing, 0, 3, "a", "b")
	_, err := gguf.OpenSet(filepath.Join(missing, "m-00001-of-00002.gguf"))
	require.ErrorIs(t, err, gguf.ErrSplit)
	shard(t, twice, 0, 3, "a", "b")
	_, err = gguf.OpenSet(shard(t, twice, 1, 3, "b"))
	require.ErrorIs(t, err, gguf.ErrTensorDuplicate)
	shard(t, count, 0, 4, "a", "b")
	_, err = gguf.OpenSet(shard(t, count, 1, 4, "c"))
	require.ErrorIs(t, err, gguf.ErrSplit)
	a, b := shard(t, swapped, 0, 2, "a"), shard(t, swapped, 1, 2, "b")
	require.NoError(t, os.Rename(a, a+".x"))
	require.NoError(t, os.Rename(b, a))
	require.NoError(t, os.Rename(a+".x", b))
	_, err = gguf.OpenSet(a)
	require.ErrorIs(t, err, gguf.ErrSplit)
	alone := filepath.Join(swapped, "alone.gguf")
	require.NoError(t, os.Rename(a, alone))
	_, err = gguf.OpenSet(alone)
	require.ErrorIs(t, err, gguf.ErrSplit)
}

// FuzzParse: any bytes give a file whose tensors can be read, or a refusal with a code of ours; never a panic.
func FuzzParse(f *testing.F) {
	in, err := os.ReadFile("testdata/python.gguf")
	require.NoError(f, err)
	f.Add(in)
	for _, c := range broken {
		f.Add(c.file.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parse(b)
		if err != nil {
			if _, ok := errors.AsType[*fault.Error](err); !ok {
				t.Fatalf("no code: %v", err)
			}
			return
		}
		for i := range g.Tensors {
			x := &g.Tensors[i]
			data, err := g.Bytes(x)
			if err != nil || int64(len(data)) != x.Size {
				t.Fatalf("tensor %q: %d bytes, %v", x.Name, len(data), err)
			}
		}
		for _, kv := range g.KVs {
			_, _ = g.Strings(kv.Key)
			_, _ = g.Ints(kv.Key)
			_, _ = g.Floats(kv.Key)
			_, err := g.Entry(kv.Key)
			require.NoError(t, err)
		}
	})
}
