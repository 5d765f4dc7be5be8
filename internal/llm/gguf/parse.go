package gguf

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"maas/internal/llm"
	"maas/internal/llm/quant"
)

// Limits bound what Parse accepts. Zero fields mean the defaults in the comments.
type Limits struct {
	Tensors  int   // 65,536
	KVs      int   // 1,048,576
	Metadata int64 // bytes before the tensor data: 512 MiB
}

const (
	maxKey    = 64 << 10
	maxString = 64 << 20
	maxArray  = 16 << 20
	maxName   = 255
)

// Parse reads the header of a file of size bytes. It allocates no more than a small multiple of the header that is really there, whatever the counts in it say.
// The data is not read; r stays in use for arrays and tensors.
func Parse(r io.ReaderAt, size int64, l Limits) (*File, error) {
	if l.Tensors == 0 {
		l.Tensors = 65536
	}
	if l.KVs == 0 {
		l.KVs = 1 << 20
	}
	if l.Metadata == 0 {
		l.Metadata = 512 << 20
	}
	s := &scanner{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10), size: size, limit: l.Metadata}
	f := &File{Alignment: 32, keys: map[string]int{}, names: map[string]int{}, parts: []part{{r: r, size: size}}}
	tensors, kvs, err := s.head(f, l)
	if err != nil {
		return nil, err
	}
	for range kvs {
		if err := s.kv(f); err != nil {
			return nil, err
		}
	}
	if err := f.alignment(); err != nil {
		return nil, err
	}
	for range tensors {
		if err := s.tensor(f); err != nil {
			return nil, err
		}
	}
	return f, f.place(s.pos)
}

// scanner reads the header front to back and counts its place.
type scanner struct {
	r     *bufio.Reader
	pos   int64
	size  int64 // of the file
	limit int64 // of the metadata
	buf   [8]byte
}

// need checks that n more bytes are inside the file and the metadata limit.
func (s *scanner) need(n int64) error {
	if n < 0 || n > s.size-s.pos {
		return llm.ErrFileTruncated.With("the header needs %d more bytes at %d, the file ends at %d", n, s.pos, s.size)
	}
	if s.pos+n > s.limit {
		return ErrMetadataSize.With("the metadata is larger than %d bytes", s.limit)
	}
	return nil
}

// take reads n bytes, at most 8, into the scanner's buffer.
func (s *scanner) take(n int) ([]byte, error) {
	if err := s.need(int64(n)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s.r, s.buf[:n]); err != nil {
		return nil, s.failed(err)
	}
	s.pos += int64(n)
	return s.buf[:n], nil
}

func (s *scanner) failed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return llm.ErrFileTruncated.With("the file ends at %d inside its header", s.pos)
	}
	return err
}

func (s *scanner) u32() (uint32, error) {
	b, err := s.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (s *scanner) u64() (uint64, error) {
	b, err := s.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// text reads a string of at most limit bytes; longer ones give over.
func (s *scanner) text(limit uint64, over error) (string, error) {
	n, err := s.u64()
	if err != nil {
		return "", err
	}
	if n > limit {
		return "", over
	}
	if err := s.need(int64(n)); err != nil {
		return "", err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return "", s.failed(err)
	}
	s.pos += int64(n)
	return string(b), nil
}

func (s *scanner) skip(n int64) error {
	if err := s.need(n); err != nil {
		return err
	}
	if _, err := s.r.Discard(int(n)); err != nil {
		return s.failed(err)
	}
	s.pos += n
	return nil
}

func (s *scanner) head(f *File, l Limits) (tensors, kvs uint64, err error) {
	magic, err := s.take(4)
	if err != nil || string(magic) != "GGUF" {
		return 0, 0, llm.ErrFormatUnknown.With("the file does not start with GGUF")
	}
	v, err := s.u32()
	if err != nil {
		return 0, 0, err
	}
	if v != 2 && v != 3 {
		if v&0xffff == 0 {
			return 0, 0, ErrVersion.With("the file is in big-endian order")
		}
		return 0, 0, ErrVersion.With("the file is of version %d", v)
	}
	f.Version = int(v)
	if tensors, err = s.u64(); err != nil {
		return 0, 0, err
	}
	if kvs, err = s.u64(); err != nil {
		return 0, 0, err
	}
	if tensors > uint64(l.Tensors) {
		return 0, 0, ErrTensorCount.With("the header names %d tensors; at most %d are read", tensors, l.Tensors)
	}
	if kvs > uint64(l.KVs) {
		return 0, 0, ErrKVCount.With("the header names %d metadata entries; at most %d are read", kvs, l.KVs)
	}
	return tensors, kvs, nil
}

func (s *scanner) kv(f *File) error {
	key, err := s.text(maxKey, ErrKeyLength)
	if err != nil {
		return err
	}
	if key == "" {
		return ErrKeyLength.With("a metadata key is empty")
	}
	if !utf8.ValidString(key) {
		return ErrKeyInvalid
	}
	if _, twice := f.keys[key]; twice {
		return ErrKeyDuplicate.With("the metadata key %.100q appears twice", key)
	}
	kind, err := s.u32()
	if err != nil {
		return err
	}
	v, err := s.value(Kind(kind), key)
	if err != nil {
		return err
	}
	f.keys[key] = len(f.KVs)
	f.KVs = append(f.KVs, KV{key, v})
	return nil
}

func (s *scanner) value(k Kind, key string) (Value, error) {
	switch n := k.size(); {
	case n < 0:
		return Value{}, ErrValueType.With("%.100q is of kind %d, which GGUF does not define", key, uint32(k))
	case n > 0:
		b, err := s.take(n)
		if err != nil {
			return Value{}, err
		}
		v := scalar(k, b)
		if k == Bool && v.bits > 1 {
			return Value{}, ErrBool.With("%.100q is %d, not 0 or 1", key, v.bits)
		}
		return v, nil
	case k == String:
		str, err := s.text(maxString, ErrStringLength.With("%.100q is longer than 64 MiB", key))
		return Value{Kind: String, str: str}, err
	}
	return s.array(key, 1)
}

// array walks the elements without keeping them, and keeps their place.
func (s *scanner) array(key string, depth int) (Value, error) {
	e, err := s.u32()
	if err != nil {
		return Value{}, err
	}
	n, err := s.u64()
	if err != nil {
		return Value{}, err
	}
	elem := Kind(e)
	if elem.size() < 0 {
		return Value{}, ErrValueType.With("%.100q is a list of kind %d, which GGUF does not define", key, e)
	}
	if n > maxArray {
		return Value{}, ErrArrayLength.With("%.100q has %d elements; at most %d are read", key, n, maxArray)
	}
	v := Value{Kind: Array, Elem: elem, Len: int(n), at: s.pos}
	switch elem {
	case String:
		for range n {
			l, err := s.u64()
			if err != nil {
				return Value{}, err
			}
			if l > maxString {
				return Value{}, ErrStringLength.With("a string in %.100q is longer than 64 MiB", key)
			}
			if err := s.skip(int64(l)); err != nil {
				return Value{}, err
			}
		}
	case Array:
		if depth == 2 {
			return Value{}, ErrArrayNesting.With("%.100q is nested more than two deep", key)
		}
		for range n {
			if _, err := s.array(key, depth+1); err != nil {
				return Value{}, err
			}
		}
	case Bool:
		for range n {
			b, err := s.take(1)
			if err != nil {
				return Value{}, err
			}
			if b[0] > 1 {
				return Value{}, ErrBool.With("an element of %.100q is %d, not 0 or 1", key, b[0])
			}
		}
	default:
		if err := s.skip(int64(n) * int64(elem.size())); err != nil {
			return Value{}, err
		}
	}
	v.size = s.pos - v.at
	return v, nil
}

// scalar widens the little-endian value in b.
func scalar(k Kind, b []byte) Value {
	v := Value{Kind: k}
	switch k.size() {
	case 1:
		v.bits = uint64(b[0])
	case 2:
		v.bits = uint64(binary.LittleEndian.Uint16(b))
	case 4:
		v.bits = uint64(binary.LittleEndian.Uint32(b))
	case 8:
		v.bits = binary.LittleEndian.Uint64(b)
	}
	switch k { // keep the sign
	case Int8:
		v.bits = uint64(int64(int8(v.bits)))
	case Int16:
		v.bits = uint64(int64(int16(v.bits)))
	case Int32:
		v.bits = uint64(int64(int32(v.bits)))
	default:
	}
	return v
}

func (f *File) alignment() error {
	v, ok := f.Get("general.alignment")
	if !ok {
		return nil
	}
	a, ok := v.Int()
	if !ok {
		return ErrKeyType.With("general.alignment is a %s, not a whole number", v.Kind)
	}
	if a < 8 || a > 65536 || a&(a-1) != 0 {
		return ErrAlignment.With("the alignment is %d; a power of two between 8 and 65,536 is needed", a)
	}
	f.Alignment = int(a)
	return nil
}

func (s *scanner) tensor(f *File) error {
	name, err := s.text(maxName, ErrTensorName)
	if err != nil {
		return err
	}
	if name == "" || !utf8.ValidString(name) {
		return ErrTensorName
	}
	if _, twice := f.names[name]; twice {
		return ErrTensorDuplicate.With("tensor %q appears twice", name)
	}
	n, err := s.u32()
	if err != nil {
		return err
	}
	if n < 1 || n > 4 {
		return ErrDims.With("tensor %q has %d dimensions", name, n)
	}
	t := Tensor{Name: name, Dims: make([]int, n)}
	total := int64(1)
	for i := range t.Dims {
		d, err := s.u64()
		if err != nil {
			return err
		}
		if d == 0 || d > math.MaxInt64/16/uint64(total) {
			return ErrDims.With("tensor %q has the dimension %d", name, d)
		}
		t.Dims[i] = int(d)
		total *= int64(d)
	}
	typ, err := s.u32()
	if err != nil {
		return err
	}
	off, err := s.u64()
	if err != nil {
		return err
	}
	if err := t.size(quant.Type(typ), total); err != nil {
		return err
	}
	if off%uint64(f.Alignment) != 0 {
		return ErrOffset.With("tensor %q starts at %d of the data, which is no multiple of %d", name, off, f.Alignment)
	}
	if off > uint64(s.size) {
		return llm.ErrFileTruncated.With("tensor %q lies at %d, past the end of the file", name, off)
	}
	t.Offset = int64(off) // from the start of the data, until place
	f.names[name] = len(f.Tensors)
	f.Tensors = append(f.Tensors, t)
	return nil
}

// size sets type and bytes of t, of total values.
func (t *Tensor) size(typ quant.Type, total int64) error {
	info, ok := typ.Info()
	if !ok {
		return ErrTensorType.With("tensor %q is of the unknown type %d", t.Name, uint32(typ))
	}
	if t.Dims[0]%info.Block != 0 {
		return ErrRow.With("tensor %q has rows of %d values; %s needs a multiple of %d", t.Name, t.Dims[0], info.Name, info.Block)
	}
	t.Type = typ
	t.Size = total / int64(info.Block) * int64(info.Bytes)
	return nil
}

// place turns offsets in the data into offsets in the file, the data starting at the next multiple of the alignment after end, and checks that tensors lie inside the file and beside each other.
func (f *File) place(end int64) error {
	a := int64(f.Alignment)
	data := (end + a - 1) / a * a
	size := f.parts[0].size
	order := make([]int, len(f.Tensors))
	for i := range f.Tensors {
		t := &f.Tensors[i]
		order[i] = i
		t.Offset += data
		if t.Offset > size || t.Size > size-t.Offset {
			return llm.ErrFileTruncated.With("tensor %q needs bytes %d to %d, the file has %d", t.Name, t.Offset, t.Offset+t.Size, size)
		}
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(f.Tensors[i].Offset, f.Tensors[j].Offset) })
	for n := 1; n < len(order); n++ {
		if p, t := &f.Tensors[order[n-1]], &f.Tensors[order[n]]; p.Offset+p.Size > t.Offset {
			return ErrOverlap.With("tensors %q and %q lie over each other", p.Name, t.Name)
		}
	}
	return nil
}
