package token

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/maastest/oracle"
)

// TestSpeed compares user CPU time with the PyPI package tokenizers, in one run, with the cache of words on in both. It runs only where MAAS_TEST_PYTHON names a Python that has the package.
func TestSpeed(t *testing.T) {
	python := os.Getenv("MAAS_TEST_PYTHON")
	if python == "" {
		t.Skip("NOT TESTED: set MAAS_TEST_PYTHON to a Python with the package tokenizers")
	}
	var all []byte
	for _, file := range []string{"README.md", "src/llama-vocab.cpp", "convert_hf_to_gguf.py", "AUTHORS"} { // prose, code and names; hardly anything twice
		b, err := os.ReadFile(filepath.Join(oracle.LlamaCPP(t), file))
		require.NoError(t, err)
		all = append(all, b...)
	}
	text := benchText() + string(all)
	dir := t.TempDir()
	specs := jsonSpecs(t)
	for _, name := range []string{"qwen2", "llama3", "gpt2", "tekken", "llama2", "deepseek-v3"} {
		file := filepath.Join(dir, "tokenizer.json")
		b := specs[name].build(t)
		var m map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(b, &m))
		m["version"] = json.RawMessage(`"1.0"`)
		var added []map[string]any
		require.NoError(t, json.Unmarshal(m["added_tokens"], &added))
		for _, a := range added {
			for _, k := range []string{"single_word", "lstrip", "rstrip", "normalized"} {
				a[k] = false
			}
		}
		m["added_tokens"], _ = json.Marshal(added)
		b, err := json.Marshal(m)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, b, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "text"), []byte(text), 0o600))
		const script = `import sys,time
from tokenizers import Tokenizer
t=Tokenizer.from_file(sys.argv[1]); x=open(sys.argv[2],encoding="utf-8",newline="").read()
t.encode(x); n=0; s=time.process_time()
while time.process_time()-s<1: n+=1; t.encode(x)
print((time.process_time()-s)/n)`
		out, err := exec.Command(python, "-c", script, file, filepath.Join(dir, "text")).Output()
		require.NoError(t, err)
		theirs, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		require.NoError(t, err)
		tok := fromSpec(t, specs[name])
		var ids []int32
		n, start := 0, cpu()
		for cpu()-start < time.Second {
			ids, err = tok.Encode(ids[:0], []Part{{text, true}}, Options{})
			require.NoError(t, err)
			n++
		}
		ours := (cpu() - start).Seconds() / float64(n)
		t.Logf("%-12s ours %.2f MB/s, tokenizers %.2f MB/s: %.1f times as fast", name, float64(len(text))/ours/1e6, float64(len(text))/theirs/1e6, theirs/ours)
		if theirs/ours < 0.7 {
			t.Errorf("%s: %.2f times as fast; at least 0.7 is promised", name, theirs/ours)
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano())
}
