package meter

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// windowSize is how much of a segment is mapped at a time.
const windowSize = 1 << 20

// window is the piece of a segment that is mapped into memory and being filled: a record is a copy, not a system call, and a killed process loses nothing, for the page belongs to the file.
type window struct {
	mem  []byte
	base int64 // place of its first byte in the file
}

// open maps the piece of a file that begins at or before at. Its blocks are allocated first: writing to a hole of a full disk would be a signal, not an error. errors.ErrUnsupported where that cannot be done.
func (w *window) open(f *os.File, at int64) error {
	w.close()
	base := at &^ int64(os.Getpagesize()-1)
	for {
		err := unix.Fallocate(int(f.Fd()), 0, base, windowSize) //nolint:gosec // a descriptor
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EIO) {
			return err
		}
		if err != nil {
			return errors.Join(errors.ErrUnsupported, err)
		}
		break
	}
	mem, err := unix.Mmap(int(f.Fd()), base, windowSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED) //nolint:gosec // a descriptor
	if err != nil {
		return errors.Join(errors.ErrUnsupported, err)
	}
	_ = unix.Madvise(mem, unix.MADV_POPULATE_WRITE) // Linux 5.14: all pages at once cost half of as many faults; older ones fault
	w.mem, w.base = mem, base
	return nil
}

func (w *window) close() {
	if w.mem != nil {
		_ = unix.Munmap(w.mem) // what was written stays in the file
		w.mem = nil
	}
}

// room is the place for n bytes at an offset of the file, nil if it is not mapped.
func (w *window) room(at int64, n int) []byte {
	from := at - w.base
	if w.mem == nil || from < 0 || from+int64(n) > int64(len(w.mem)) {
		return nil
	}
	return w.mem[from : from+int64(n)]
}
