// Package mmap maps model files read-only into memory.
//
// The bytes belong to the page cache: mapping a file of many gigabytes costs nothing until it is read, and several processes share one copy. A file that is cut short after it was mapped makes a read
// fault; [Guard] turns that into llm.ErrFileChanged instead of ending the process.
package mmap

import (
	"io"
	"os"
	"runtime/debug"

	"maas/internal/llm"
)

// File is a mapped file. It is safe for concurrent reading; Close unmaps, after which no slice of Data may be touched.
type File struct {
	Data []byte
	drop func([]byte) error
	done func() error
}

// Open maps the regular file at path. An empty file gives empty Data.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the mapping stays without it
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &os.PathError{Op: "map", Path: path, Err: os.ErrInvalid}
	}
	if st.Size() == 0 {
		return &File{}, nil
	}
	return mapFile(f, st.Size())
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= int64(len(f.Data)) {
		return 0, io.EOF
	}
	err = Guard(func() error {
		n = copy(p, f.Data[off:])
		return nil
	})
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Drop tells the system that the pages inside b, a slice of Data, are not needed for now: after the weights were packed. Reading them again loads them again.
func (f *File) Drop(b []byte) {
	if f.drop != nil && len(b) > 0 {
		_ = f.drop(b) // advice only
	}
}

// Close unmaps the file. It may be called twice.
func (f *File) Close() error {
	if f.done == nil {
		return nil
	}
	done := f.done
	f.Data, f.drop, f.done = nil, nil, nil
	return done()
}

// Guard runs f, which reads mapped bytes in this goroutine, and returns llm.ErrFileChanged if the file was cut short under it. Other panics go on.
func Guard(f func() error) (err error) {
	was := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(was)
		r := recover()
		if r == nil {
			return
		}
		if _, fault := r.(interface{ Addr() uintptr }); fault { // the form that the runtime gives to a fault at an address
			err = llm.ErrFileChanged.With("the file became unreadable while it was in use")
			return
		}
		panic(r)
	}()
	return f()
}
