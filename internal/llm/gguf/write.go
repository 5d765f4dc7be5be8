package gguf

import (
	"bufio"
	"encoding/binary"
	"io"
)

// Writer writes a file front to back: the header at NewWriter, then each tensor in the order of the infos. Equal input gives equal bytes.
type Writer struct {
	w     *bufio.Writer
	infos []TensorInfo
	next  int
	err   error
}

const alignment = 32

// NewWriter writes the header: version 3, the entries in their order, tensors aligned to 32 bytes. Entries that set general.alignment otherwise are refused with ErrAlignment; infos are checked as
// Parse checks them.
func NewWriter(w io.Writer, kvs []KV, tensors []TensorInfo) (*Writer, error) {
	b := append([]byte("GGUF"), 3, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(kvs)))
	seen := map[string]bool{}
	for _, kv := range kvs {
		if seen[kv.Key] {
			return nil, ErrKeyDuplicate.With("the metadata key %.100q is given twice", kv.Key)
		}
		seen[kv.Key] = true
		if a, ok := kv.Value.Int(); kv.Key == "general.alignment" && (!ok || a != alignment) {
			return nil, ErrAlignment.With("files are written with an alignment of %d", alignment)
		}
		b = appendText(b, kv.Key)
		b = binary.LittleEndian.AppendUint32(b, uint32(kv.Value.Kind))
		b = appendValue(b, kv.Value)
	}
	var off int64
	for _, t := range tensors {
		size, err := t.bytes()
		if err != nil {
			return nil, err
		}
		b = appendText(b, t.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			b = binary.LittleEndian.AppendUint64(b, uint64(d))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t.Type))
		b = binary.LittleEndian.AppendUint64(b, uint64(off))
		off += pad(size)
	}
	b = append(b, make([]byte, pad(int64(len(b)))-int64(len(b)))...)
	bw := bufio.NewWriterSize(w, 1<<20)
	if _, err := bw.Write(b); err != nil {
		return nil, err
	}
	return &Writer{w: bw, infos: tensors}, nil
}

func pad(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

func (t *TensorInfo) bytes() (int64, error) {
	if len(t.Name) == 0 || len(t.Name) > maxName {
		return 0, ErrTensorName
	}
	if len(t.Dims) < 1 || len(t.Dims) > 4 {
		return 0, ErrDims.With("tensor %q has %d dimensions", t.Name, len(t.Dims))
	}
	total := int64(1)
	for _, d := range t.Dims {
		if d < 1 || int64(d) > (1<<59)/total {
			return 0, ErrDims.With("tensor %q has the dimension %d", t.Name, d)
		}
		total *= int64(d)
	}
	x := Tensor{Name: t.Name, Dims: t.Dims}
	err := x.size(t.Type, total)
	return x.Size, err
}

// WriteTensor copies the bytes of the next tensor from r, which must hold exactly its size. ErrWrite if it is another tensor's turn or the size differs.
func (w *Writer) WriteTensor(name string, r io.Reader) error {
	if w.err != nil {
		return w.err
	}
	w.err = w.write(name, r)
	return w.err
}

func (w *Writer) write(name string, r io.Reader) error {
	if w.next == len(w.infos) || w.infos[w.next].Name != name {
		return ErrWrite.With("it is not the turn of tensor %q", name)
	}
	size, err := w.infos[w.next].bytes()
	if err != nil {
		return err
	}
	n, err := io.Copy(w.w, io.LimitReader(r, size+1))
	if err != nil {
		return err
	}
	if n != size {
		return ErrWrite.With("tensor %q has %d bytes; the header promised %d", name, n, size)
	}
	w.next++
	_, err = w.w.Write(make([]byte, pad(size)-size))
	return err
}

// Close ends the file. ErrWrite if tensors are missing. It does not close the io.Writer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.next < len(w.infos) {
		return ErrWrite.With("tensor %q was not written", w.infos[w.next].Name)
	}
	return w.w.Flush()
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func appendValue(b []byte, v Value) []byte {
	switch v.Kind {
	case String:
		return appendText(b, v.str)
	case Array:
		b = binary.LittleEndian.AppendUint32(b, uint32(v.Elem))
		b = binary.LittleEndian.AppendUint64(b, uint64(v.Len))
		return append(b, v.raw...)
	default:
		return append(b, binary.LittleEndian.AppendUint64(nil, v.bits)[:v.Kind.size()]...)
	}
}
