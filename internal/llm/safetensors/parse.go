package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"slices"

	"maas/internal/llm"
)

const (
	maxHeader = 25_000_000
	maxDims   = 32
)

// Parse reads the header of a file of size bytes. The data is not read; r stays in use for tensors.
func Parse(r io.ReaderAt, size int64) (*File, error) {
	var head [8]byte
	if size < 8 {
		return nil, llm.ErrFileTruncated.With("the file has %d bytes, too few for a header", size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n < 2 || n > maxHeader {
		return nil, ErrHeaderLength.With("the header length is %d; at most %d is read", n, maxHeader)
	}
	data := 8 + int64(n)
	if data > size {
		return nil, llm.ErrFileTruncated.With("the header should end at %d, the file has %d bytes", data, size)
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, 8); err != nil && err != io.EOF {
		return nil, err
	}
	f := &File{Metadata: map[string]string{}, names: map[string]int{}, parts: []part{{r: r, size: size}}}
	if err := f.header(b); err != nil {
		return nil, err
	}
	return f, f.place(data, size-data)
}

// header reads the JSON object token by token: a plain map would silently keep the last of two equal names.
func (f *File) header(b []byte) error {
	if b[0] != '{' {
		return ErrHeader.With("the header does not start with {")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return ErrHeader.Wrap(err)
	}
	seenMeta := false
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return ErrHeader.With("the header is broken JSON at byte %d", d.InputOffset()).Wrap(err)
		}
		name, _ := k.(string)
		if name == "__metadata__" {
			if seenMeta {
				return ErrDuplicate.With("__metadata__ appears twice")
			}
			seenMeta = true
			if err := f.metadata(d); err != nil {
				return err
			}
			continue
		}
		if err := f.entry(d, name); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return ErrHeader.With("the header is broken JSON at byte %d", d.InputOffset()).Wrap(err)
	}
	if rest := bytes.Trim(b[d.InputOffset():], " "); len(rest) > 0 {
		return ErrHeader.With("something other than spaces follows the header's object")
	}
	return nil
}

func (f *File) metadata(d *json.Decoder) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ErrHeader.With("__metadata__ is not an object of strings")
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return ErrHeader.With("__metadata__ is not an object of strings").Wrap(err)
		}
		v, err := d.Token()
		s, ok := v.(string)
		if err != nil || !ok {
			return ErrHeader.With("__metadata__ holds something other than strings")
		}
		key, _ := k.(string)
		if _, twice := f.Metadata[key]; twice {
			return ErrDuplicate.With("the metadata key %.200q appears twice", key)
		}
		f.Metadata[key] = s
	}
	_, err := d.Token()
	if err != nil {
		return ErrHeader.With("__metadata__ is not an object of strings").Wrap(err)
	}
	return nil
}

type entry struct {
	dtype   *DType
	shape   *[]int64
	offsets *[]int64
}

// readEntry reads one entry field by field, so that a repeated field cannot hide another.
func readEntry(d *json.Decoder, name string) (e entry, err error) {
	broken := ErrHeader.With("the entry of %.200q is broken", name)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return e, broken
	}
	seen := map[string]bool{}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return e, broken.Wrap(err)
		}
		field, _ := k.(string)
		if seen[field] {
			return e, ErrDuplicate.With("the entry of %.200q has %.50q twice", name, field)
		}
		seen[field] = true
		switch field {
		case "dtype":
			err = d.Decode(&e.dtype)
		case "shape":
			err = d.Decode(&e.shape)
		case "data_offsets":
			err = d.Decode(&e.offsets)
		default:
			return e, ErrHeader.With("the entry of %.200q has the unknown field %.50q", name, field)
		}
		if err != nil {
			return e, broken.Wrap(err)
		}
	}
	if _, err := d.Token(); err != nil {
		return e, broken.Wrap(err)
	}
	if e.dtype == nil || e.shape == nil || e.offsets == nil || len(*e.offsets) != 2 {
		return e, ErrHeader.With("the entry of %.200q lacks dtype, shape or a pair of data_offsets", name)
	}
	return e, nil
}

func (f *File) entry(d *json.Decoder, name string) error {
	e, err := readEntry(d, name)
	if err != nil {
		return err
	}
	if _, twice := f.names[name]; twice {
		return ErrDuplicate.With("tensor %.200q appears twice", name)
	}
	t := Tensor{Name: name, DType: *e.dtype, Offset: (*e.offsets)[0], Shape: make([]int, len(*e.shape))}
	end := (*e.offsets)[1]
	if t.Offset < 0 || end < t.Offset {
		return ErrOffsets.With("tensor %.200q has the data_offsets %d, %d", name, t.Offset, end)
	}
	t.Size = end - t.Offset
	if t.DType.Size() == 0 {
		return ErrDType.With("tensor %.200q is of the unknown type %.20q", name, string(t.DType))
	}
	if len(t.Shape) > maxDims {
		return ErrShape.With("tensor %.200q has %d dimensions", name, len(t.Shape))
	}
	total := int64(t.DType.Size())
	for i, n := range *e.shape {
		if n < 0 || n > 0 && total > math.MaxInt64/n {
			return ErrShape.With("tensor %.200q has the dimension %d", name, n)
		}
		t.Shape[i] = int(n)
		total *= n
	}
	if total != t.Size {
		return ErrShape.With("tensor %.200q of %s and shape %v needs %d bytes, its data_offsets give %d", name, t.DType, t.Shape, total, t.Size)
	}
	f.names[name] = len(f.Tensors)
	f.Tensors = append(f.Tensors, t)
	return nil
}

// place sorts the tensors by offset, checks that they fill the size bytes of data exactly, and turns offsets into offsets in the file.
func (f *File) place(data, size int64) error {
	slices.SortStableFunc(f.Tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Size, b.Size))
	})
	var end int64
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if t.Offset != end {
			return ErrOffsets.With("tensor %.200q starts at %d of the data; %d was expected", t.Name, t.Offset, end)
		}
		end += t.Size // no overflow: the sizes join up and the last end fits
		f.names[t.Name] = i
		t.Offset += data
	}
	if end > size {
		return llm.ErrFileTruncated.With("the tensors need %d bytes of data, the file has %d", end, size)
	}
	if end < size {
		return ErrOffsets.With("%d bytes follow the last tensor", size-end)
	}
	return nil
}
