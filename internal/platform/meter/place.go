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

// Moved reports that the folder was last opened at another place: it was moved, or it is a copy of one that may be in use. Ask whether the node is alive elsewhere before anything in it is settled or shipped.
func (j *Journal) Moved() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.moved
}

// Adopt notes that the folder belongs here.
func (j *Journal) Adopt() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.moved, j.state.Place = false, j.Place()
	return j.saveState()
}

// Full reports that closed records wait in memory because the disk did not take them.
func (j *Journal) Full() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.late) > 0
}
