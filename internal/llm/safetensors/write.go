package safetensors

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strings"
)

// TensorInfo names a tensor that is to be written.
type TensorInfo struct {
	Name  string
	DType DType
	Shape []int
}

// Writer writes a file front to back: the header at NewWriter, then each tensor by rising name. Equal input gives equal bytes.
type Writer struct {
	w     *bufio.Writer
	infos []TensorInfo
	next  int
	err   error
}

// NewWriter writes the header with the metadata {"format":"pt"}, which transformers asks for. Names are sorted; Names returns the order in which WriteTensor is to be called.
func NewWriter(w io.Writer, tensors []TensorInfo) (*Writer, error) {
	infos := slices.Clone(tensors)
	slices.SortFunc(infos, func(a, b TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	b := []byte(`{"__metadata__":{"format":"pt"}`)
	var off int64
	for i, t := range infos {
		if i > 0 && infos[i-1].Name == t.Name || t.Name == "__metadata__" {
			return nil, ErrDuplicate.With("tensor %.200q is given twice, or has a reserved name", t.Name)
		}
		n, err := t.bytes()
		if err != nil {
			return nil, err
		}
		name, _ := json.Marshal(t.Name)
		e, _ := json.Marshal(struct {
			DType   DType    `json:"dtype"`
			Shape   []int    `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.DType, append([]int{}, t.Shape...), [2]int64{off, off + n}})
		b = append(append(append(append(b, ','), name...), ':'), e...)
		off += n
	}
	b = append(b, '}')
	for len(b)%8 != 0 { // the data starts aligned
		b = append(b, ' ')
	}
	if len(b) > maxHeader {
		return nil, ErrHeaderLength
	}
	bw := bufio.NewWriterSize(w, 1<<20)
	if _, err := bw.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b)))); err != nil {
		return nil, err
	}
	if _, err := bw.Write(b); err != nil {
		return nil, err
	}
	return &Writer{w: bw, infos: infos}, nil
}

func (t *TensorInfo) bytes() (int64, error) {
	total := int64(t.DType.Size())
	if total == 0 {
		return 0, ErrDType.With("tensor %.200q is of the unknown type %.20q", t.Name, string(t.DType))
	}
	for _, n := range t.Shape {
		if n < 0 || n > 0 && total > math.MaxInt64/int64(n) {
			return 0, ErrShape.With("tensor %.200q has the dimension %d", t.Name, n)
		}
		total *= int64(n)
	}
	return total, nil
}

// Names returns the tensors in the order of writing.
func (w *Writer) Names() []string {
	names := make([]string, len(w.infos))
	for i, t := range w.infos {
		names[i] = t.Name
	}
	return names
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
		return ErrWrite.With("it is not the turn of tensor %.200q", name)
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
		return ErrWrite.With("tensor %.200q has %d bytes; the header promised %d", name, n, size)
	}
	w.next++
	return nil
}

// Close ends the file. ErrWrite if tensors are missing. It does not close the io.Writer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.next < len(w.infos) {
		return ErrWrite.With("tensor %.200q was not written", w.infos[w.next].Name)
	}
	return w.w.Flush()
}
