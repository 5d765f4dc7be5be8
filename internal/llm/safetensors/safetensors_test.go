package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm"
	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
	"maas/internal/platform/fault"
)

func parse(b []byte) (*safetensors.File, error) {
	return safetensors.Parse(bytes.NewReader(b), int64(len(b)))
}

// A file of the PyPI package safetensors reads as what it was made from (testdata/python.py).
func TestReadsPythonsFile(t *testing.T) {
	t.Parallel()
	f, err := safetensors.Open("testdata/python.safetensors")
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	require.Equal(t, map[string]string{"format": "pt", "note": "你好"}, f.Metadata)
	require.Len(t, f.Tensors, 6)
	for _, name := range []string{"w", "h"} {
		m, err := f.Matrix(f.Tensor(name))
		require.NoError(t, err)
		require.Equal(t, []int{3, 4}, []int{m.Rows, m.Cols})
		row := make([]float32, 4)
		m.Row(row, 2)
		require.Equal(t, []float32{8, 9, 10, 11}, row)
	}
	require.Equal(t, []int{}, f.Tensor("s").Shape)
	require.Equal(t, int64(4), f.Tensor("s").Size)
	require.Equal(t, int64(0), f.Tensor("e").Size)
	_, err = f.Matrix(f.Tensor("i"))
	require.ErrorIs(t, err, quant.ErrTypeUnsupported)
	require.Nil(t, f.Tensor("none"))
}

func write(tb testing.TB, infos ...safetensors.TensorInfo) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := safetensors.NewWriter(&b, infos)
	require.NoError(tb, err)
	for _, n := range w.Names() {
		size := 0
		for _, x := range infos {
			if x.Name == n {
				size = x.DType.Size()
				for _, d := range x.Shape {
					size *= d
				}
			}
		}
		require.NoError(tb, w.WriteTensor(n, bytes.NewReader(bytes.Repeat([]byte{7}, size))))
	}
	require.NoError(tb, w.Close())
	return b.Bytes()
}

func TestWrittenFilesReadBack(t *testing.T) {
	t.Parallel()
	b := write(t, safetensors.TensorInfo{Name: "z\"\n", DType: safetensors.BF16, Shape: []int{2, 3}}, safetensors.TensorInfo{Name: "a", DType: safetensors.F32, Shape: []int{}})
	f, err := parse(b)
	require.NoError(t, err)
	require.Equal(t, "pt", f.Metadata["format"])
	require.Equal(t, []int{2, 3}, f.Tensor("z\"\n").Shape)
	require.Equal(t, int64(0), f.Tensors[0].Offset%8, "the data is aligned")
}

func TestWriterKeepsItsPromises(t *testing.T) {
	t.Parallel()
	a := safetensors.TensorInfo{Name: "a", DType: safetensors.F32, Shape: []int{2}}
	w, err := safetensors.NewWriter(io.Discard, []safetensors.TensorInfo{a})
	require.NoError(t, err)
	require.ErrorIs(t, w.Close(), safetensors.ErrWrite)
	require.ErrorIs(t, w.WriteTensor("a", bytes.NewReader(make([]byte, 9))), safetensors.ErrWrite)
	_, err = safetensors.NewWriter(io.Discard, []safetensors.TensorInfo{a, a})
	require.ErrorIs(t, err, safetensors.ErrDuplicate)
	_, err = safetensors.NewWriter(io.Discard, []safetensors.TensorInfo{{Name: "a", DType: "Q8"}})
	require.ErrorIs(t, err, safetensors.ErrDType)
}

func raw(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

// Broken says for each hand-broken file which refusal it gets.
var broken = []struct {
	name string
	file []byte
	want error
}{
	{"empty", nil, llm.ErrFileTruncated},
	{"seven bytes", make([]byte, 7), llm.ErrFileTruncated},
	{"length 0", make([]byte, 8), safetensors.ErrHeaderLength},
	{"length 25,000,001", append(binary.LittleEndian.AppendUint64(nil, 25_000_001), "{}"...), safetensors.ErrHeaderLength},
	{"absurd length", append(binary.LittleEndian.AppendUint64(nil, 1<<63+5), "{}"...), safetensors.ErrHeaderLength},
	{"header cut", append(binary.LittleEndian.AppendUint64(nil, 100), "{}"...), llm.ErrFileTruncated},
	{"no object", raw(`[1]`, 0), safetensors.ErrHeader},
	{"leading space", raw(` {}`, 0), safetensors.ErrHeader},
	{"broken JSON", raw(`{"a":`, 0), safetensors.ErrHeader},
	{"unclosed", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`, 4), safetensors.ErrHeader},
	{"something after", raw(`{}x`, 0), safetensors.ErrHeader},
	{"entry a number", raw(`{"a":1}`, 0), safetensors.ErrHeader},
	{"no shape", raw(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4), safetensors.ErrHeader},
	{"three offsets", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}`, 4), safetensors.ErrHeader},
	{"fraction", raw(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, 4), safetensors.ErrHeader},
	{"name twice", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), safetensors.ErrDuplicate},
	{"field twice", raw(`{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}`, 4), safetensors.ErrDuplicate},
	{"metadata twice", raw(`{"__metadata__":{},"__metadata__":{}}`, 0), safetensors.ErrDuplicate},
	{"metadata key twice", raw(`{"__metadata__":{"a":"","a":""}}`, 0), safetensors.ErrDuplicate},
	{"metadata a number", raw(`{"__metadata__":{"a":1}}`, 0), safetensors.ErrHeader},
	{"metadata a list", raw(`{"__metadata__":[]}`, 0), safetensors.ErrHeader},
	{"unknown type", raw(`{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}`, 4), safetensors.ErrDType},
	{"shape too large", raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), safetensors.ErrShape},
	{"negative dim", raw(`{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}`, 4), safetensors.ErrShape},
	{"product overflow", raw(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0), safetensors.ErrShape},
	{"offsets backwards", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, 4), safetensors.ErrOffsets},
	{"negative offset", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, 4), safetensors.ErrOffsets},
	{"hole", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12), safetensors.ErrOffsets},
	{"overlap", raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), safetensors.ErrOffsets},
	{"hole at the start", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), safetensors.ErrOffsets},
	{"bytes left over", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 5), safetensors.ErrOffsets},
	{"data cut", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 3), llm.ErrFileTruncated},
}

func TestBrokenFilesAreRefusedByCode(t *testing.T) {
	t.Parallel()
	for _, c := range broken {
		_, err := parse(c.file)
		require.ErrorIs(t, err, c.want, c.name)
		require.Equal(t, fault.Invalid, fault.KindOf(err), c.name)
	}
}

func TestSpacesMayFollowTheHeader(t *testing.T) {
	t.Parallel()
	f, err := parse(raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    `, 4))
	require.NoError(t, err)
	require.Len(t, f.Tensors, 1)
}

func folder(t *testing.T, index string, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	if index != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, safetensors.IndexName), []byte(index), 0o600))
	}
	for n, b := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), b, 0o600))
	}
	return dir
}

func TestOpenFollowsTheIndex(t *testing.T) {
	t.Parallel()
	a := write(t, safetensors.TensorInfo{Name: "a", DType: safetensors.F32, Shape: []int{1}})
	b := write(t, safetensors.TensorInfo{Name: "b", DType: safetensors.F32, Shape: []int{2}})
	f, err := safetensors.Open(folder(t, `{"metadata":{"total_size":12},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`, map[string][]byte{"1.safetensors": a, "2.safetensors": b}))
	require.NoError(t, err)
	require.Len(t, f.Tensors, 2)
	x, err := f.Bytes(f.Tensor("b"))
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{7}, 8), x)
	require.NoError(t, f.Close())

	f, err = safetensors.Open(folder(t, "", map[string][]byte{safetensors.SingleName: a}))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = safetensors.Open(t.TempDir())
	require.ErrorIs(t, err, llm.ErrFormatUnknown)

	for name, c := range map[string]struct {
		index string
		want  error
	}{
		"shard missing":  {`{"weight_map":{"a":"1.safetensors","b":"3.safetensors"}}`, safetensors.ErrIndex},
		"tensor missing": {`{"weight_map":{"a":"1.safetensors","c":"1.safetensors"}}`, safetensors.ErrIndex},
		"not listed":     {`{"weight_map":{"c":"1.safetensors"}}`, safetensors.ErrIndex},
		"outside":        {`{"weight_map":{"a":"../1.safetensors"}}`, safetensors.ErrIndex},
		"absolute":       {`{"weight_map":{"a":"/etc/passwd"}}`, safetensors.ErrIndex},
		"empty":          {`{"weight_map":{}}`, safetensors.ErrIndex},
		"no JSON":        {`x`, safetensors.ErrIndex},
		"two shards":     {`{"weight_map":{"a":"1.safetensors","b":"4.safetensors"}}`, safetensors.ErrDuplicate},
	} {
		both := write(t, safetensors.TensorInfo{Name: "a", DType: safetensors.F32, Shape: []int{1}}, safetensors.TensorInfo{Name: "b", DType: safetensors.F32, Shape: []int{2}})
		_, err := safetensors.Open(folder(t, c.index, map[string][]byte{"1.safetensors": a, "2.safetensors": b, "4.safetensors": both}))
		require.ErrorIs(t, err, c.want, name)
	}
}

// FuzzParse: any bytes give a file whose tensors can be read, or a refusal with a code of ours; never a panic.
func FuzzParse(f *testing.F) {
	in, err := os.ReadFile("testdata/python.safetensors")
	require.NoError(f, err)
	f.Add(in)
	for _, c := range broken {
		f.Add(c.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b)
		if err != nil {
			if _, ok := errors.AsType[*fault.Error](err); !ok {
				t.Fatalf("no code: %v", err)
			}
			return
		}
		for i := range s.Tensors {
			x := &s.Tensors[i]
			if data, err := s.Bytes(x); err != nil || int64(len(data)) != x.Size {
				t.Fatalf("tensor %q: %d bytes, %v", x.Name, len(data), err)
			}
		}
	})
}

// FuzzParseIndex: any bytes give an index of plain file names, or a refusal.
func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"weight_map":{"a":"1.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := safetensors.ParseIndex(b)
		if err != nil {
			return
		}
		for _, n := range x.Files() {
			if !filepath.IsLocal(n) || filepath.Base(n) != n {
				t.Fatalf("%q leaves the folder", n)
			}
		}
	})
}
