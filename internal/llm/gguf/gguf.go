// Package gguf reads and writes GGUF files: metadata (keys and values), a table of tensors, and their bytes. It knows the container, not the models inside.
//
// [Parse] reads the header through any io.ReaderAt with every length, count and offset checked before it is used; what it refuses has a code each (fault.go). [Open] maps a file, [OpenSet] joins the
// files of a split set; [NewWriter] writes. Versions 2 and 3, little endian.
//
// Layout: "GGUF", u32 version, u64 tensors, u64 entries; the entries (u64 length and bytes of the key, u32 kind, value); the tensor infos (name, u32 number of dims, u64 dims fastest first,
// u32 type, u64 offset); padding to general.alignment (32); the data.
package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"

	"maas/internal/llm"
	"maas/internal/llm/mmap"
	"maas/internal/llm/quant"
)

// File is a parsed file, or a split set joined to one. It is safe for concurrent use until Close.
type File struct {
	Version   int
	Alignment int
	KVs       []KV     // in file order; of a set: those of its first file
	Tensors   []Tensor // in file order, set members in their order

	keys  map[string]int
	names map[string]int
	parts []part
}

type part struct {
	r    io.ReaderAt
	size int64
	m    *mmap.File // nil unless mapped
}

// Get returns the value under key.
func (f *File) Get(key string) (Value, bool) {
	i, ok := f.keys[key]
	if !ok {
		return Value{}, false
	}
	return f.KVs[i].Value, true
}

// Str returns the string under key; false if it is absent or another kind.
func (f *File) Str(key string) (string, bool) {
	v, _ := f.Get(key)
	return v.Str()
}

// Int returns the integer (of any width) under key; false if it is absent or another kind.
func (f *File) Int(key string) (int64, bool) {
	v, ok := f.Get(key)
	if !ok {
		return 0, false
	}
	return v.Int()
}

// Float returns the number under key; false if it is absent or another kind.
func (f *File) Float(key string) (float64, bool) {
	v, ok := f.Get(key)
	if !ok {
		return 0, false
	}
	return v.Float()
}

// Flag returns the bool under key; ok is false if it is absent or another kind.
func (f *File) Flag(key string) (value, ok bool) {
	v, _ := f.Get(key)
	return v.Bool()
}

// Arch returns general.architecture, "" if there is none.
func (f *File) Arch() string {
	s, _ := f.Str("general.architecture")
	return s
}

// Strings reads the array of strings under key. ErrKeyMissing, ErrKeyType.
func (f *File) Strings(key string) ([]string, error) {
	raw, n, err := f.array(key, func(k Kind) bool { return k == String })
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, n)
	for range n {
		l := binary.LittleEndian.Uint64(raw) // the walk at parse time checked every length
		out = append(out, string(raw[8:8+l]))
		raw = raw[8+l:]
	}
	return out, nil
}

// Ints reads the array of integers or bools under key; a single integer gives an array of one. ErrKeyMissing, ErrKeyType.
func (f *File) Ints(key string) ([]int64, error) {
	if i, ok := f.Int(key); ok {
		return []int64{i}, nil
	}
	v, _ := f.Get(key)
	raw, n, err := f.array(key, func(k Kind) bool { return k.size() > 0 && k != Float32 && k != Float64 })
	if err != nil {
		return nil, err
	}
	out := make([]int64, n)
	w := v.Elem.size()
	for i := range out {
		x := scalar(v.Elem, raw[i*w:])
		out[i] = int64(x.bits)
	}
	return out, nil
}

// Floats reads the array of f32 or f64 under key, narrowed to float32. ErrKeyMissing, ErrKeyType.
func (f *File) Floats(key string) ([]float32, error) {
	v, _ := f.Get(key)
	raw, n, err := f.array(key, func(k Kind) bool { return k == Float32 || k == Float64 })
	if err != nil {
		return nil, err
	}
	out := make([]float32, n)
	for i := range out {
		if v.Elem == Float32 {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		} else {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:])))
		}
	}
	return out, nil
}

func (f *File) array(key string, want func(Kind) bool) (raw []byte, n int, err error) {
	v, ok := f.Get(key)
	if !ok {
		return nil, 0, ErrKeyMissing.With("the file has no %s", key)
	}
	if v.Kind != Array || !want(v.Elem) {
		return nil, 0, ErrKeyType.With("%s is not the kind of list that it should be", key)
	}
	raw, err = f.elements(v)
	return raw, v.Len, err
}

// elements returns the encoded elements of an array.
func (f *File) elements(v Value) ([]byte, error) {
	if v.raw != nil || v.size == 0 {
		return v.raw, nil
	}
	b := make([]byte, v.size)
	if _, err := f.parts[v.part].r.ReadAt(b, v.at); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// Entry returns the entry under key in a form that a Writer accepts: arrays are read from the file.
func (f *File) Entry(key string) (KV, error) {
	v, ok := f.Get(key)
	if !ok {
		return KV{}, ErrKeyMissing.With("the file has no %s", key)
	}
	if v.Kind == Array {
		raw, err := f.elements(v)
		if err != nil {
			return KV{}, err
		}
		v = Value{Kind: Array, Elem: v.Elem, Len: v.Len, raw: raw}
	}
	return KV{key, v}, nil
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

// Matrix returns a tensor as rows of blocks. See Bytes for how long it is valid.
func (f *File) Matrix(t *Tensor) (quant.Matrix, error) {
	b, err := f.Bytes(t)
	return quant.Matrix{Type: t.Type, Rows: t.Rows(), Cols: t.Cols(), Data: b}, err
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

// Open maps the file at path and parses it. A member of a split set is opened alone: see OpenSet.
func Open(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(m, int64(len(m.Data)), Limits{})
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	f.parts[0].m = m
	return f, nil
}

var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// SplitName returns the pieces of a name of the form `base-00001-of-00003.gguf`.
func SplitName(name string) (base string, no, count int, ok bool) {
	m := splitName.FindStringSubmatch(name)
	if m == nil {
		return "", 0, 0, false
	}
	_, _ = fmt.Sscan(m[2], &no)
	_, _ = fmt.Sscan(m[3], &count)
	return m[1], no, count, true
}

// OpenSet opens path; if its name or its header says that it is one of a split set, all members are opened from the same folder, checked and joined. Any member names the set.
func OpenSet(path string) (*File, error) {
	base, _, count, ok := SplitName(filepath.Base(path))
	if !ok {
		f, err := Open(path)
		if err == nil {
			if n, _ := f.Int("split.count"); n > 1 {
				_ = f.Close()
				return nil, ErrSplit.With("the file is one of a set of %d, but its name does not end in -00001-of-%05d.gguf", n, n)
			}
		}
		return f, err
	}
	files := make([]*File, 0, min(count, 1024))
	fail := func(err error) (*File, error) {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, err
	}
	if count < 1 || count > 10000 {
		return fail(ErrSplit.With("the name says %d files", count))
	}
	for i := 1; i <= count; i++ {
		f, err := Open(filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%05d-of-%05d.gguf", base, i, count)))
		if os.IsNotExist(err) {
			return fail(ErrSplit.With("file %d of %d is missing", i, count))
		}
		if err != nil {
			return fail(err)
		}
		files = append(files, f)
	}
	f, err := Join(files)
	if err != nil {
		return fail(err)
	}
	return f, nil
}

// Join makes one file of the members of a split set, in their order. Its Close closes them. ErrSplit if they do not belong together.
func Join(files []*File) (*File, error) {
	if len(files) == 1 {
		return files[0], nil
	}
	all := &File{Version: files[0].Version, Alignment: files[0].Alignment, KVs: files[0].KVs, keys: files[0].keys, names: map[string]int{}}
	for i, f := range files {
		no, ok := f.Int("split.no")
		count, _ := f.Int("split.count")
		if !ok || no != int64(i) || count != int64(len(files)) {
			return nil, ErrSplit.With("file %d of %d says of itself that it is number %d of %d", i+1, len(files), no+1, count)
		}
		for _, t := range f.Tensors {
			if _, twice := all.names[t.Name]; twice {
				return nil, ErrTensorDuplicate.With("tensor %s is in two files of the set", t.Name)
			}
			t.Part = i
			all.names[t.Name] = len(all.Tensors)
			all.Tensors = append(all.Tensors, t)
		}
		all.parts = append(all.parts, f.parts[0])
	}
	if n, ok := files[0].Int("split.tensors.count"); ok && n != int64(len(all.Tensors)) {
		return nil, ErrSplit.With("the set should hold %d tensors and holds %d", n, len(all.Tensors))
	}
	return all, nil
}
