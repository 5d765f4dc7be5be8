package meter

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
)

// Place names the folder of the journal on this machine: a copy of the folder is another place, a renamed folder is the same.
func (j *Journal) Place() string {
	machine, _ := os.ReadFile("/etc/machine-id") // not everywhere: the host's name says as much then
	host, _ := os.Hostname()
	sum := sha256.Sum256([]byte(strings.TrimSpace(string(machine)) + "\x00" + host + "\x00" + folderID(j.dir)))
	return hex.EncodeToString(sum[:12])
}

// Full reports that closed records wait in memory because the disk did not take them.
func (j *Journal) Full() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.late) > 0
}
