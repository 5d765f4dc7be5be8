package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The committed assembly is what the generator writes: nobody edits it by hand, and no change of the generator is left behind.
func TestCommittedAssemblyIsCurrent(t *testing.T) {
	t.Parallel()
	for set, files := range map[string][2]string{
		"avx2":    {"tile_avx2_amd64.s", "tile_avx2_amd64.go"},
		"avx512":  {"tile_avx512_amd64.s", "tile_avx512_amd64.go"},
		"attend":  {"attend_amd64.s", "attend_stub_amd64.go"},
		"element": {"element_amd64.s", "element_stub_amd64.go"},
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			code, stubs := filepath.Join(dir, files[0]), filepath.Join(dir, files[1])
			if out, err := exec.CommandContext(t.Context(), "go", "run", ".", "-set", set, "-pkg", "kernel", "-out", code, "-stubs", stubs).CombinedOutput(); err != nil { //nolint:gosec // a test
				t.Fatalf("%v\n%s", err, out)
			}
			for _, name := range files {
				want, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(filepath.Join("..", name))
				if err != nil {
					t.Fatal(err)
				}
				// The first line holds the command with its paths.
				if !bytes.Equal(body(got), body(want)) {
					t.Errorf("%s is not what the generator writes: run go generate in internal/llm/kernel", name)
				}
			}
		})
	}
}

func body(b []byte) []byte {
	_, rest, _ := strings.Cut(string(b), "\n")
	return []byte(rest)
}
