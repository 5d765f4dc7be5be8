// Package oracle finds what tests compare with: files of other projects, fetched by the scripts in test/oracle into the user's cache folder and never kept in this repository.
package oracle

import (
	"os"
	"path/filepath"
	"testing"

	"maas/internal/maastest/part"
)

// LlamaCPP returns the folder of llama.cpp's source: models/ggml-vocab-*.gguf with .inp and .out files, models/templates/*.jinja. Without it the test is skipped, or fails when MAAS_TEST_STRICT=1.
func LlamaCPP(tb testing.TB) string {
	tb.Helper()
	cache, err := os.UserCacheDir()
	if err == nil {
		dir := filepath.Join(cache, "maas", "oracle", "src")
		if _, err := os.Stat(filepath.Join(dir, "models")); err == nil {
			return dir
		}
	}
	part.Missing(tb, "the source of llama.cpp", "test/oracle/fetch-llamacpp.sh")
	return ""
}
