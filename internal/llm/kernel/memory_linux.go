package kernel

import "golang.org/x/sys/unix"

// advise asks for large pages: weights and caches are read from end to end, and small pages cost a tenth of the speed in address translation. The kernel may say no.
func advise(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
