package model

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestModelNames(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "my-llama", "Qwen2.5-0.5B_q8", strings.Repeat("x", 96), "1"} {
		require.NoError(t, checkName(good), good)
	}
	for _, bad := range []string{"", strings.Repeat("x", 97), "a b", "a/b", "-a", "a-", ".a", "a.", "a--b", "a..b", "x.git", "ü", "a\n", "rep_1", "ver_1", "a@r1", "a%2f"} {
		require.ErrorIs(t, checkName(bad), ErrBadName, bad)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"m.gguf", "a/b/c.json", "モデル.txt", "a b.txt", ".gitattributes"} {
		require.NoError(t, CheckPath(good), good)
	}
	for _, bad := range []string{"", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", ".", "..", "a/.git/config", "a\\b", "C:x", "a\x00", "a\nb", "a.", "a ", "a?", strings.Repeat("x", 256), strings.Repeat("a/", 600) + "a", "\xff"} {
		require.ErrorIs(t, CheckPath(bad), ErrBadPath, "%q", bad)
	}
}

func TestFilesOfAVersion(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, checkFiles(nil), ErrNoFiles)
	require.ErrorIs(t, checkFiles([]File{{Path: "a"}, {Path: "a"}}), ErrBadPath)
	require.ErrorIs(t, checkFiles([]File{{Path: "a/b"}, {Path: "a"}}), ErrBadPath, "file and folder")
	require.ErrorIs(t, checkFiles(make([]File, maxFiles+1)), ErrTooManyFiles)
	files := []File{{Path: "b", SHA256: "2", SizeBytes: 5}, {Path: "a", SHA256: "2", SizeBytes: 5}}
	require.NoError(t, checkFiles(files))
	require.Equal(t, "a", files[0].Path, "sorted")
	require.Equal(t, int64(5), distinctSize(files), "equal bytes count once")
}

// The manifest hash is defined by its bytes: other programs must be able to make it.
func TestManifest(t *testing.T) {
	t.Parallel()
	sha := strings.Repeat("ab", 32)
	want, _, err := hashOf(strings.NewReader("a.txt\x00" + sha + "\x005\nb.txt\x00" + sha + "\x006\n"))
	require.NoError(t, err)
	require.Equal(t, want, manifest([]File{{"a.txt", 5, sha}, {"b.txt", 6, sha}}))
}

func TestReferences(t *testing.T) {
	t.Parallel()
	name, n, err := parseRef("my-llama@r12")
	require.NoError(t, err)
	require.Equal(t, "my-llama", name)
	require.Equal(t, 12, n)
	for _, bad := range []string{"", "@r1", "a@", "a@1", "a@r0", "a@r-1", "a@rx", "a@latest"} {
		_, _, err := parseRef(bad)
		require.ErrorIs(t, err, ErrBadRef, bad)
	}
}
