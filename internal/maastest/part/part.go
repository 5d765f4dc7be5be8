// Package part starts the real outside parts that tests run against, once for all test processes of this user.
//
// A part lives in a folder under $MAAS_TEST_DIR (default /tmp/maas-test-<uid>). Every test process holds a shared lock on the folder's `use` file until it ends, however it ends; a keeper stops the part and
// removes its data once nobody has held the lock for a while. A part that is not installed makes the test skip with the line that installs it, or fail when MAAS_TEST_STRICT=1.
package part

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// idle is how many seconds a part outlives its last user, so that the next package finds it running.
const idle = 30

// Dir returns the folder of all parts.
func Dir() string {
	if d := os.Getenv("MAAS_TEST_DIR"); d != "" {
		return d
	}
	return filepath.Join("/tmp", "maas-test-"+strconv.Itoa(os.Getuid()))
}

// Missing skips the test loudly, or fails it when MAAS_TEST_STRICT=1: what is the part, install the line that brings it.
func Missing(t testing.TB, what, install string) {
	t.Helper()
	if os.Getenv("MAAS_TEST_STRICT") == "1" {
		t.Fatalf("%s is missing and MAAS_TEST_STRICT=1\ninstall: %s", what, install)
	}
	t.Skipf("NOT TESTED: %s is missing\ninstall: %s", what, install)
}

// hold takes a shared lock on the part's use file for the life of this process, waiting while a keeper removes the part. The file is left open on purpose.
func hold(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "use"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	held = append(held, f)
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH)
}

// held keeps the lock files from being collected (which would close them).
var held []*os.File

// alone runs f while no other test process does the same for this part.
func alone(dir string, f func() error) error {
	lock, err := os.OpenFile(filepath.Join(dir, "start"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return f()
}

// keep starts the keeper of a part: it looks each `idle` seconds whether the use file is free, and then stops the part by its pid, removes what is named and ends.
func keep(dir string, pid int, remove ...string) error {
	script := fmt.Sprintf(`while sleep %d; do
  if flock -n -x use sh -c 'kill -9 %d 2>/dev/null; sleep 1; rm -rf %s'; then exit 0; fi
  kill -0 %d 2>/dev/null || exit 0
done`, idle, pid, strings.Join(remove, " "), pid)
	cmd := exec.Command("sh", "-c", script) //nolint:noctx // outlives the test on purpose
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// freePort returns a port below 32768 that nobody listens on: above, the kernel hands ports to clients and a start fails now and then.
func freePort() (int, error) {
	base := 20000 + os.Getpid()%9000
	for p := base; p < base+3000; p += 7 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p)) //nolint:noctx // at once
		if err == nil {
			return p, l.Close()
		}
	}
	return 0, errors.New("no free port")
}
