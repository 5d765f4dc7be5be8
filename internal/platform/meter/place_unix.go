//go:build unix

package meter

import (
	"os"
	"strconv"
	"syscall"
)

// folderID is the folder's number on its disk.
func folderID(dir string) string {
	s, err := os.Stat(dir)
	if err != nil {
		return dir
	}
	if st, ok := s.Sys().(*syscall.Stat_t); ok {
		return strconv.FormatUint(uint64(st.Dev), 10) + ":" + strconv.FormatUint(st.Ino, 10)
	}
	return dir
}
