package inference

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// host knows the machine's memory and what is promised to engines. Sizes are bytes of host memory.
type host struct {
	limit   int64                      // set by configuration, 0 = as measured
	keep    int64                      // never given away
	measure func() (total, free int64) // of the machine or its cgroup, whichever is smaller

	mu       sync.Mutex             // guards reserved
	reserved map[string]reservation // by replica
}

// reservation is memory promised to a replica. used is what its process was last measured to hold: only the rest is still to come.
type reservation struct{ bytes, used int64 }

func newHost(c Config) *host {
	return &host{limit: c.MemoryBytes, keep: c.ReserveBytes, measure: measureMemory, reserved: map[string]reservation{}}
}

// total is all the memory engines could ever have.
func (h *host) total() int64 {
	h.mu.Lock()
	total, _ := h.measure()
	h.mu.Unlock()
	if h.limit > 0 {
		return min(h.limit, total)
	}
	return max(total-h.keep, 0)
}

// free is the memory that could be promised now, besides what other replicas than except are promised and have not touched yet.
func (h *host) free(except string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.freeLocked(except)
}

func (h *host) freeLocked(except string) int64 {
	_, free := h.measure()
	var promised, open int64
	for replica, r := range h.reserved {
		if replica != except {
			promised += r.bytes
			open += max(r.bytes-r.used, 0)
		}
	}
	have := free - open - h.keep
	if h.limit > 0 {
		have = min(have, h.limit-promised)
	}
	return max(have, 0)
}

// reserve promises bytes to a replica if they are there. Otherwise false, and what is there.
func (h *host) reserve(replica string, bytes int64) (int64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	have := h.freeLocked(replica)
	if bytes > have {
		return have, false
	}
	h.reserved[replica] = reservation{bytes: bytes}
	return have, true
}

// note stores what a replica's process holds.
func (h *host) note(replica string, used int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r, ok := h.reserved[replica]; ok {
		r.used = used
		h.reserved[replica] = r
	}
}

func (h *host) release(replica string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reserved, replica)
}

// measureMemory reads /proc/meminfo and the limit of our cgroup (v2, or v1's memory controller). Where neither exists both are 0: nothing fits, and the refusal says so.
func measureMemory() (total, free int64) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	total, free = meminfo(string(info), "MemTotal:"), meminfo(string(info), "MemAvailable:")
	for _, c := range cgroups() {
		limit, ok := readBytes(c.dir, c.limit)
		if !ok || limit <= 0 || limit >= total {
			continue
		}
		used, _ := readBytes(c.dir, c.used)
		stat, _ := os.ReadFile(filepath.Join(c.dir, "memory.stat"))
		cache := statLine(string(stat), c.cache) // file pages nobody mapped lately go first when memory is short
		total = min(total, limit)
		free = min(free, max(limit-used+cache, 0))
	}
	return total, free
}

type cgroup struct{ dir, limit, used, cache string }

// cgroups lists our cgroup and its parents: each may set a limit.
func cgroups() []cgroup {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	var list []cgroup
	for line := range strings.Lines(string(self)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var root string
		c := cgroup{limit: "memory.max", used: "memory.current", cache: "inactive_file"}
		switch {
		case parts[1] == "":
			root = "/sys/fs/cgroup"
		case strings.Contains(parts[1], "memory"):
			root = "/sys/fs/cgroup/memory"
			c = cgroup{limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cache: "total_inactive_file"}
		default:
			continue
		}
		for dir := filepath.Join(root, parts[2]); strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
			c.dir = dir
			list = append(list, c)
		}
	}
	return list
}

func readBytes(dir, name string) (int64, bool) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64) // "max" is no number: no limit
	return n, err == nil
}

func statLine(text, name string) int64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// meminfo reads one line of /proc/meminfo, which counts in KiB.
func meminfo(text, name string) int64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
