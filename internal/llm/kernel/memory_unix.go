//go:build unix

package kernel

import "golang.org/x/sys/unix"

// mapped returns n zero bytes outside of the Go heap, or nil if the system gives none.
func mapped(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	advise(b)
	return b
}

func unmap(b []byte) { _ = unix.Munmap(b) }
