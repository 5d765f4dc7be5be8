package kernel

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guarded returns a copy of s whose last byte is the last of a mapping: the page after it cannot be touched, so reading or writing past the end ends the test.
func guarded[E any](t *testing.T, s []E) []E {
	t.Helper()
	if len(s) == 0 {
		return s
	}
	page, size := unix.Getpagesize(), len(s)*int(unsafe.Sizeof(s[0]))
	room := (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, room+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mprotect(m[room:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	out := unsafe.Slice((*E)(unsafe.Pointer(&m[room-size])), len(s))
	copy(out, s)
	return out
}
