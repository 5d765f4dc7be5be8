package native

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childAttributes put the child into a process group of its own: a signal to the terminal's group does not reach it, and one to its group reaches all it started.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills the process group that a child leads. A group that is gone is fine.
func killGroup(pid int) {
	if pid > 1 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// stat returns the fields of /proc/PID/stat behind the command's name, nil when there is no such process or it only waits to be reaped.
func stat(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	_, rest, found := strings.Cut(string(b[max(strings.LastIndexByte(string(b), ')'), 0):]), ") ")
	f := strings.Fields(rest)
	if !found || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return nil
	}
	return f
}

// startTime is when a process began, in clock ticks since boot: with the id it names a process for ever. 0 when there is none.
func startTime(pid int) int64 {
	f := stat(pid)
	if f == nil {
		return 0
	}
	n, _ := strconv.ParseInt(f[19], 10, 64) // field 22 of proc(5), starttime
	return n
}

// cpuTicks is the CPU time a process has used, in clock ticks.
func cpuTicks(pid int) uint64 {
	f := stat(pid)
	if f == nil {
		return 0
	}
	user, _ := strconv.ParseUint(f[11], 10, 64) // fields 14 and 15 of proc(5)
	system, _ := strconv.ParseUint(f[12], 10, 64)
	return user + system
}

// resident is the memory of a process that cannot be dropped: anonymous and shared pages, in bytes.
func resident(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	var sum int64
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 2 && (f[0] == "RssAnon:" || f[0] == "RssShmem:") {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			sum += n << 10
		}
	}
	return sum
}

// gone waits up to five seconds for a process to vanish.
func gone(ctx context.Context, pid int, started int64) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if startTime(pid) != started {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
