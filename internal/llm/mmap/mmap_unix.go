//go:build unix

package mmap

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, size int64) (*File, error) {
	if int64(int(size)) != size {
		return nil, &os.PathError{Op: "map", Path: f.Name(), Err: unix.ENOMEM}
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	return &File{Data: b, drop: dropPages, done: func() error { return unix.Munmap(b) }}, nil
}

// dropPages advises on the whole pages inside b: the system refuses addresses that are not page aligned.
func dropPages(b []byte) error {
	page := uintptr(os.Getpagesize())
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (page - 1))
	if len(b) < skip+int(page) {
		return nil
	}
	b = b[skip:]
	return unix.Madvise(b[:len(b)&^int(page-1)], unix.MADV_DONTNEED)
}
