package mmap

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

func mapFile(f *os.File, size int64) (*File, error) {
	h, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READONLY, uint32(size>>32), uint32(size), nil) //nolint:gosec // the two halves
	if err != nil {
		return nil, &os.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	addr, err := windows.MapViewOfFile(h, windows.FILE_MAP_READ, 0, 0, uintptr(size)) //nolint:gosec // positive
	if err != nil {
		_ = windows.CloseHandle(h)
		return nil, &os.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	p := *(*unsafe.Pointer)(unsafe.Pointer(&addr)) // an address that the collector does not own
	done := func() error {
		err := windows.UnmapViewOfFile(addr)
		_ = windows.CloseHandle(h)
		return err
	}
	return &File{Data: unsafe.Slice((*byte)(p), size), done: done}, nil
}
