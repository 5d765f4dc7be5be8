package file_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/object"
	"maas/internal/platform/object/file"
	"maas/internal/platform/object/objecttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	objecttest.Run(t, func(t *testing.T) (object.Bucket, func() object.Bucket) {
		dir := t.TempDir()
		reopen := func() object.Bucket {
			b, err := object.Open(t.Context(), object.Config{URL: "file:" + dir})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, b.Close()) })
			return b
		}
		return reopen(), reopen
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	_, err := object.Open(t.Context(), object.Config{URL: "s3://x"})
	require.ErrorIs(t, err, object.ErrBadURL)
	require.ErrorContains(t, err, "knows file")
	_, err = object.Open(t.Context(), object.Config{URL: "file:"})
	require.ErrorIs(t, err, object.ErrBadURL)
}

func TestFreeSpaceFloor(t *testing.T) {
	t.Parallel()
	b, err := file.Open(t.TempDir(), math.MaxInt64)
	require.NoError(t, err)
	_, err = b.Put(t.Context(), "a/b", strings.NewReader("x"), object.PutOptions{})
	require.ErrorIs(t, err, object.ErrDiskFull)
	_, err = b.Append(t.Context(), "upl_1", 0, strings.NewReader("x"), nil)
	require.ErrorIs(t, err, object.ErrDiskFull)
	_, err = b.Begin(t.Context(), "a/b", object.PutOptions{})
	require.ErrorIs(t, err, object.ErrDiskFull)
}

func TestLinksDoNotLeaveTheFolder(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600))
	b, err := file.Open(dir, -1)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "out")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "leaf")))
	_, _, err = b.Get(t.Context(), "out/secret", 0, -1)
	require.Error(t, err)
	_, _, err = b.Get(t.Context(), "leaf", 0, -1)
	require.Error(t, err)
	_, err = b.Put(t.Context(), "out/new", strings.NewReader("x"), object.PutOptions{})
	require.Error(t, err)
	_, err = b.Path("leaf")
	require.Error(t, err)
}

func TestPathIsTheFile(t *testing.T) {
	t.Parallel()
	b, err := file.Open(t.TempDir(), -1)
	require.NoError(t, err)
	_, err = b.Put(t.Context(), "a/t1/x", strings.NewReader("data"), object.PutOptions{})
	require.NoError(t, err)
	path, err := b.Path("a/t1/x")
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "data", string(got))
	_, err = b.Path("a/t1/none")
	require.ErrorIs(t, err, object.ErrNotFound)
}

// A process that puts objects is killed again and again: what it said is there, whole, and nothing is there half.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("OBJECTTEST_CHILD"); dir != "" {
		b, err := file.Open(dir, -1)
		require.NoError(t, err)
		for n := 0; ; n++ {
			data := objecttest.Bytes(100_000 + n)
			_, err := b.Put(t.Context(), fmt.Sprintf("k/%d-%d", os.Getpid(), n), bytes.NewReader(data), object.PutOptions{})
			require.NoError(t, err)
			_, err = fmt.Printf("put %d-%d\n", os.Getpid(), n)
			require.NoError(t, err)
		}
	}
	dir := t.TempDir()
	said := 0
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
		cmd.Env = append(os.Environ(), "OBJECTTEST_CHILD="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // a second time does nothing
		text, buf := "", make([]byte, 4096)
		for strings.Count(text, "put ") < 20 {
			n, err := out.Read(buf)
			require.NoError(t, err, text)
			text += string(buf[:n])
		}
		require.NoError(t, cmd.Process.Kill())
		rest, _ := io.ReadAll(out)
		_ = cmd.Wait()
		said += strings.Count(text+string(rest), "put ")
	}
	b, err := file.Open(dir, -1)
	require.NoError(t, err)
	all, err := b.List(t.Context(), "k/", "", 0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(all), said)
	for _, i := range all {
		var pid, n int
		_, err := fmt.Sscanf(i.Key, "k/%d-%d", &pid, &n)
		require.NoError(t, err)
		r, _, err := b.Get(t.Context(), i.Key, 0, -1)
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.True(t, bytes.Equal(objecttest.Bytes(100_000+n), got), "%s has %d bytes", i.Key, len(got))
	}
}

func BenchmarkPut(b *testing.B) {
	bucket, err := file.Open(b.TempDir(), -1)
	require.NoError(b, err)
	data := objecttest.Bytes(16 << 20)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		_, err := bucket.Put(b.Context(), fmt.Sprintf("b/%d", i), bytes.NewReader(data), object.PutOptions{})
		require.NoError(b, err)
	}
}
