package cli

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// collectAt lets the heap grow to three times what lives before it is collected: what lives is small (some 30 MB), and the gateway makes garbage with every request. At 300 it spends 8 % less CPU than at 100;
// larger values are paid for in memory by every idle stream (docs/guide/speed.md).
const collectAt = 200

// tuneMemory sets the garbage collector for a server, unless the person who starts it did (GOGC, GOMEMLIMIT). Inside a container the limit of its memory is kept in view.
func tuneMemory() {
	if was := debug.SetGCPercent(collectAt); was != 100 {
		debug.SetGCPercent(was)
	}
	if limit := containerMemory(); limit > 0 && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}

// containerMemory is the limit of the control group that this process runs in (version 2, as containers see it), 0 without one.
func containerMemory() int64 {
	b, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil { // "max"
		return 0
	}
	return n
}
