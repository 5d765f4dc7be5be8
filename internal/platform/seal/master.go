package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// master is one master key. The key file has one line for each, `<id> <base64>`; the last wraps new keys.
type master struct {
	id  string
	key []byte // 32 bytes
}

// fingerprint names a key without telling it.
func (m master) fingerprint() string {
	sum := sha256.Sum256(m.key)
	return hex.EncodeToString(sum[:4])
}

// readMasters reads the key file. A missing file is fs.ErrNotExist.
func readMasters(path string) ([]master, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, ErrKeyFile.With("the master key file has mode %04o: others may read it", info.Mode().Perm()).WithHint("chmod 600 %s", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []master
	for n, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		id, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if !ok || err != nil || len(key) != 32 {
			return nil, ErrKeyFile.With("line %d of the master key file is not `<id> <base64 of 32 bytes>`", n+1)
		}
		list = append(list, master{id, key})
	}
	return list, nil
}

// makeMaster writes a new key file, whole or not at all; if another process was faster, its file stays.
func makeMaster(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var key [32]byte
	var name [6]byte
	_, _ = rand.Read(key[:]) // never fails
	_, _ = rand.Read(name[:])
	tmp, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = fmt.Fprintf(tmp, "mk_%s %s\n", hex.EncodeToString(name[:]), base64.StdEncoding.EncodeToString(key[:]))
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
