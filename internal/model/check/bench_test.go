package check

import (
	"os"
	"path/filepath"
	"testing"

	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
)

// BenchmarkRun checks a file of 134 M parameters in q8_0, without reading all bytes for the hash again.
func BenchmarkRun(b *testing.B) {
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "m.gguf"))
	if err != nil {
		b.Fatal(err)
	}
	if err := modelgen.WriteGGUF(f, modelgen.BenchSpec(quant.Q8_0)); err != nil {
		b.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	_ = f.Close()
	in := Input{Dir: dir, Files: []File{{Path: "m.gguf", Size: st.Size(), SHA256: "x"}}, Known: func(string, string) bool { return true }}
	b.SetBytes(st.Size())
	b.ReportAllocs()
	for b.Loop() {
		out, err := Run(b.Context(), in)
		if err != nil || out.Status != "ready" {
			b.Fatalf("%v %+v", err, out.Rows)
		}
	}
}
