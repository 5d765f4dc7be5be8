package tus_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest/part"
	"maas/internal/platform/object/file"
	"maas/internal/platform/object/objecttest"
)

// script uploads a file with the stock client as a browser would, and tells each step.
const script = `
const tus = require('tus-js-client'), fs = require('fs'), http = require('http');
const [url, path, sha] = process.argv.slice(1);
const up = new tus.Upload(fs.createReadStream(path), {
  endpoint: url, uploadSize: fs.statSync(path).size, chunkSize: 1 << 20, retryDelays: Array(60).fill(300),
  metadata: {purpose: 'probe', path: 'weights/\u00e4 b.gguf', sha256: sha},
  onProgress: (n) => console.log('sent', n), onChunkComplete: (_, n) => console.log('chunk', n),
  onError: (e) => { console.log('error', e.message); process.exit(1); },
  onSuccess: () => { console.log('done', up.url); process.exit(0); },
});
up.start();
`

// The unmodified npm client uploads through a proxy that cuts its connections, to a server that is killed and started again in between.
func TestStockClient(t *testing.T) {
	t.Parallel()
	node := part.Node(t, "tus-js-client@4.3.1")
	dir := t.TempDir()
	data := objecttest.Bytes(7<<20 + 12345)
	path := filepath.Join(dir, "file.bin")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	server := func() (string, *exec.Cmd) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TUSTEST_SERVER="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		buf := make([]byte, 100)
		n, err := out.Read(buf)
		require.NoError(t, err)
		return strings.TrimSpace(string(buf[:n])), cmd
	}
	addr, cmd := server()
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = proxy.Close() }()
	target := make(chan string, 1)
	target <- addr
	go func() { // each connection carries at most 1.3 MB of the client's bytes
		for {
			c, err := proxy.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				a := <-target
				target <- a
				s, err := net.Dial("tcp", a)
				if err != nil {
					return
				}
				defer func() { _ = s.Close() }()
				go func() { _, _ = io.Copy(c, s); _ = c.Close() }()
				_, _ = io.CopyN(s, c, 1_300_000)
			}()
		}
	}()
	client := exec.Command("node", "-e", script, "http://"+proxy.Addr().String()+"/up", path, sum(data))
	client.Dir = node
	out, err := client.StdoutPipe()
	require.NoError(t, err)
	client.Stderr = os.Stderr
	require.NoError(t, client.Start())
	t.Cleanup(func() { _ = client.Process.Kill() })
	text, buf, kills := "", make([]byte, 4096), 0
	for {
		n, err := out.Read(buf)
		text += string(buf[:n])
		if err != nil {
			break
		}
		if kills < 2 && strings.Count(text, "chunk ") > 2*kills+1 {
			kills++
			<-target
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			addr, cmd = server()
			target <- addr
		}
	}
	require.NoError(t, client.Wait(), text)
	require.Contains(t, text, "done ")
	require.Equal(t, 2, kills)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	b, err := file.Open(filepath.Join(dir, "objects"), -1)
	require.NoError(t, err)
	var id string
	_, err = fmt.Sscanf(text[strings.Index(text, "upl_"):], "%s", &id)
	require.NoError(t, err)
	r, _, err := b.Get(t.Context(), "upload/t1/"+id, 0, -1)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.True(t, bytes.Equal(data, got))
}
