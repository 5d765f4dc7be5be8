package part

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const installPostgres = "apt-get install -y --no-install-recommends postgresql-15 (with create_main_cluster = false in /etc/postgresql-common/createcluster.conf), or set MAAS_TEST_POSTGRES=postgres://user:pw@host/postgres"

var postgres struct {
	once sync.Once
	url  string
	err  error
}

var errNoPostgres = errors.New("no PostgreSQL on this machine")

// Postgres returns the URL of the database `postgres` on a real server whose user may create databases: $MAAS_TEST_POSTGRES, or a server from Debian's packages on a private port without fsync.
func Postgres(t testing.TB) string {
	t.Helper()
	if url := os.Getenv("MAAS_TEST_POSTGRES"); url != "" {
		return url
	}
	postgres.once.Do(func() { postgres.url, postgres.err = startPostgres() })
	if errors.Is(postgres.err, errNoPostgres) {
		Missing(t, "PostgreSQL", installPostgres)
	}
	if postgres.err != nil {
		t.Fatalf("start PostgreSQL: %v", postgres.err)
	}
	return postgres.url
}

// postgresBin returns the folder with the newest server's programs.
func postgresBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is right
	if len(found) == 0 {
		return "", errNoPostgres
	}
	sort.Strings(found)
	return filepath.Dir(found[len(found)-1]), nil
}

func startPostgres() (url string, err error) {
	bin, err := postgresBin()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(Dir(), "postgres")
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // the user postgres has to pass through
		return "", err
	}
	if err := hold(dir); err != nil {
		return "", err
	}
	err = alone(dir, func() error {
		state := filepath.Join(dir, "url")
		if b, err := os.ReadFile(state); err == nil && ready(bin, string(b)) {
			url = string(b)
			return nil
		}
		if url, err = runPostgres(bin, dir); err != nil {
			return err
		}
		return os.WriteFile(state, []byte(url), 0o600)
	})
	return url, err
}

func ready(bin, url string) bool {
	return exec.Command(filepath.Join(bin, "pg_isready"), "-q", "-t", "2", "-d", url).Run() == nil //nolint:noctx // has its own limit
}

func runPostgres(bin, dir string) (string, error) {
	data := "data." + strconv.FormatInt(time.Now().UnixNano(), 36)
	full := filepath.Join(dir, data)
	if err := os.Mkdir(full, 0o700); err != nil {
		return "", err
	}
	as := func(args ...string) *exec.Cmd { return exec.Command(args[0], args[1:]...) } //nolint:noctx,gosec // our own arguments
	if os.Getuid() == 0 {                                                              // the server refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return "", errNoPostgres
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(full, uid, gid); err != nil {
			return "", err
		}
		as = func(args ...string) *exec.Cmd {
			return exec.Command("runuser", append([]string{"-u", "postgres", "--"}, args...)...)
		} //nolint:noctx,gosec // as above
	}
	init := as(filepath.Join(bin, "initdb"), "--no-sync", "-D", full, "-U", "maas", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
	init.Dir = "/"
	if out, err := init.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	var last error
	for range 5 {
		port, err := freePort()
		if err != nil {
			return "", err
		}
		options := fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=400 -c shared_buffers=64MB -c autovacuum_naptime=30 -c deadlock_timeout=100ms", port, full)
		start := as(filepath.Join(bin, "pg_ctl"), "-D", full, "-w", "-t", "60", "-l", filepath.Join(full, "log"), "-o", options, "start")
		start.Dir = "/" // no output pipe: the server would hold it open
		if last = start.Run(); last != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(full, "postmaster.pid"))
		if err != nil {
			return "", err
		}
		pid, err := strconv.Atoi(strings.SplitN(string(b), "\n", 2)[0])
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("postgres://maas@127.0.0.1:%d/postgres", port), keep(dir, pid, data, "url")
	}
	return "", fmt.Errorf("start the server: %w", last)
}
