package kernel

import (
	"runtime"
	"unsafe"
)

// largeBytes is the size from which memory comes from the system instead of the Go heap. On the heap the collector would let as much garbage gather beside it before it runs, which doubles a model's memory.
const largeBytes = 1 << 20

// allocate returns n zero values, aligned to 64 bytes. They live as long as owner, which must be kept alive over every use.
func allocate[E, T any](owner *T, n int) []E {
	var e E
	size := n * int(unsafe.Sizeof(e))
	if size >= largeBytes {
		if b := mapped(size); b != nil {
			runtime.AddCleanup(owner, unmap, b)
			return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(b))), n)
		}
	}
	b := make([]byte, size+63)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & 63)
	return unsafe.Slice((*E)(unsafe.Pointer(&b[off])), n)
}
