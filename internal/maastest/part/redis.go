package part

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const installRedis = "apt-get install -y --no-install-recommends redis-server"

// RedisServer is a real server of one test, on a private port, without persistence. The test may stop and start it.
type RedisServer struct {
	t    testing.TB
	bin  string
	dir  string
	port int
	cmd  *exec.Cmd
}

// Redis starts a server for one test (0.1 s) and ends it with the test.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		Missing(t, "Redis", installRedis)
	}
	r := &RedisServer{t: t, bin: bin, dir: t.TempDir()}
	t.Cleanup(r.Stop)
	r.Start()
	return r
}

// URL of the server.
func (r *RedisServer) URL() string { return "redis://127.0.0.1:" + strconv.Itoa(r.port) + "/0" }

// Start starts the server, on the same port after a stop, with nothing in it.
func (r *RedisServer) Start() {
	r.t.Helper()
	var last error
	for range 5 {
		if r.port == 0 {
			port, err := redisPort()
			if err != nil {
				r.t.Fatal(err)
			}
			r.port = port
		}
		log := filepath.Join(r.dir, "log")
		cmd := exec.Command(r.bin, "--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", r.dir, "--logfile", log, "--maxmemory-policy", "noeviction")
		if last = cmd.Start(); last != nil {
			r.t.Fatalf("start Redis: %v", last)
		}
		r.cmd = cmd
		if last = r.wait(); last == nil {
			return
		}
		r.Stop()
		b, _ := os.ReadFile(log) // for the message only
		last = fmt.Errorf("%w\n%s", last, b)
		r.port = 0
	}
	r.t.Fatalf("start Redis: %v", last)
}

// redisPort is a free port; tests of several packages start servers at the same time, so the kernel's choice is asked for and the range of PostgreSQL avoided.
func redisPort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// wait until the server answers PING.
func (r *RedisServer) wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var d net.Dialer
	for ctx.Err() == nil {
		c, err := d.DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(r.port))
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			b := make([]byte, 16)
			_, err = c.Write([]byte("PING\r\n"))
			n := 0
			if err == nil {
				n, err = c.Read(b)
			}
			_ = c.Close()
			if err == nil && strings.HasPrefix(string(b[:n]), "+PONG") {
				return nil
			}
		}
		if p := r.cmd.Process; p == nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	return ctx.Err()
}

// Stop kills the server; what it held is lost.
func (r *RedisServer) Stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait() // it was killed
	r.cmd = nil
}
