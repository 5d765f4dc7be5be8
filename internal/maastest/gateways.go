package maastest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Gateway is a gateway in a process of its own: the test binary, started again with `serve` (its TestMain has to hand that to the command line).
type Gateway struct {
	t    *testing.T
	URL  string
	Data string
	args []string
	cmd  *exec.Cmd
	out  *bytes.Buffer
}

// WithGateways starts everything but gateways in this process, over PostgreSQL, and n gateways in processes of their own in front of it.
func WithGateways(t *testing.T, n int, set ...string) (*Set, []*Gateway) {
	t.Helper()
	s := newSet(t)
	database := newDatabase(t)
	run, err := os.MkdirTemp("/tmp", "maas") // unix sockets have short paths
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	sock := "unix:" + filepath.Join(run, "a.sock")
	shared := append([]string{"database.url=" + database, "objects.url=file:" + filepath.Join(run, "objects"), "seal.keys=file:" + filepath.Join(run, "master.key")}, set...)
	a := s.start("user,model,inference", t.TempDir(), append(shared, "rpc.listen="+sock)...)
	s.URL = a.URL()
	s.setUp()
	var list []*Gateway
	for range n {
		g := &Gateway{t: t, Data: t.TempDir()}
		port, err := freePort()
		require.NoError(t, err)
		g.URL = fmt.Sprintf("http://127.0.0.1:%d", port)
		g.args = []string{"serve", "--services", "gateway", "--data", g.Data, "--listen", fmt.Sprintf("127.0.0.1:%d", port)}
		for _, kv := range append(shared, "rpc.peers=user="+sock+",model="+sock+",inference="+sock, "inference.upstream.allow_loopback=true", "telemetry.level=info") {
			g.args = append(g.args, "--set", kv)
		}
		g.Start()
		t.Cleanup(func() {
			g.Kill()
			if t.Failed() {
				t.Logf("gateway %s:\n%s", g.URL, tail(g.out.String(), 4000))
			}
		})
		list = append(list, g)
	}
	return s, list
}

func tail(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Start starts the process, again after Kill or Stop, and waits until it answers.
func (g *Gateway) Start() {
	g.t.Helper()
	g.out = &bytes.Buffer{}
	cmd := exec.Command(os.Args[0], g.args...)
	cmd.Stdout, cmd.Stderr = g.out, g.out
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	require.NoError(g.t, cmd.Start())
	g.cmd = cmd
	require.Eventually(g.t, func() bool {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(g.URL, "http://"), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 60*time.Second, 20*time.Millisecond, "the gateway does not answer")
}

// Kill ends the process as a crash does.
func (g *Gateway) Kill() {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Kill() // it may have ended
	_ = g.cmd.Wait()         // it was killed
	g.cmd = nil
}

// Stop ends the process as an operator does, and waits.
func (g *Gateway) Stop() {
	g.t.Helper()
	if g.cmd == nil {
		return
	}
	require.NoError(g.t, g.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(g.t, g.cmd.Wait(), "%s", tail(g.out.String(), 2000))
	g.cmd = nil
}
