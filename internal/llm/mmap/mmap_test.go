package mmap

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm"
)

func file(t *testing.T, n int) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(p, bytes.Repeat([]byte{9}, n), 0o600))
	return p
}

func TestOpenReadsTheFile(t *testing.T) {
	t.Parallel()
	f, err := Open(file(t, 100000))
	require.NoError(t, err)
	b := make([]byte, 10)
	n, err := f.ReadAt(b, 99995)
	require.Equal(t, 5, n)
	require.Error(t, err)
	require.Equal(t, byte(9), b[0])
	f.Drop(f.Data[5:90000])
	require.Equal(t, byte(9), f.Data[5000], "dropped pages load again")
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
}

func TestOpenRefusesFoldersAndTakesEmptyFiles(t *testing.T) {
	t.Parallel()
	_, err := Open(t.TempDir())
	require.Error(t, err)
	f, err := Open(file(t, 0))
	require.NoError(t, err)
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.Error(t, err)
	require.NoError(t, f.Close())
}

// A file cut short under the mapping is an error, not the end of the process.
func TestCutFileIsAnError(t *testing.T) {
	t.Parallel()
	p := file(t, 1<<20)
	f, err := Open(p)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	require.NoError(t, os.Truncate(p, 10))
	_, err = f.ReadAt(make([]byte, 10), 1<<19)
	require.ErrorIs(t, err, llm.ErrFileChanged)
}

func TestGuardLetsOtherPanicsThrough(t *testing.T) {
	t.Parallel()
	require.Panics(t, func() { _ = Guard(func() error { panic("bug") }) })
}
