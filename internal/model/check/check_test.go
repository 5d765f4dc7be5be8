package check

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/gguf"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/quant"
	"maas/internal/llm/safetensors"
)

// run writes the files and checks them.
func run(t *testing.T, files map[string][]byte) Output {
	t.Helper()
	dir := t.TempDir()
	in := Input{Dir: dir}
	for name, b := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		sum := sha256.Sum256(b)
		in.Files = append(in.Files, File{Path: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(in.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	out, err := Run(t.Context(), in)
	require.NoError(t, err)
	return out
}

func file(t *testing.T, s modelgen.Spec) []byte {
	t.Helper()
	b, err := modelgen.GGUF(s)
	require.NoError(t, err)
	return b
}

func TestGoodGGUFIsReady(t *testing.T) {
	t.Parallel()
	for _, s := range []modelgen.Spec{modelgen.DemoSpec(), {Arch: "qwen2", Type: quant.Q8_0}, {Arch: "qwen3", Type: quant.Q4_K, Dim: 256}, {Tokenizer: modelgen.SPM}} {
		o := run(t, map[string][]byte{"m.gguf": file(t, s)})
		require.Equal(t, "ready", o.Status, "%+v", o.Rows)
		require.Len(t, o.Rows, len(steps))
		require.Equal(t, "gguf", o.Facts.Format)
		require.Positive(t, o.Facts.Parameters)
		require.Positive(t, o.Facts.ContextLength)
		require.NotEmpty(t, o.Facts.Memory)
		require.Len(t, o.Passed, 1)
	}
}

func TestFactsOfAMix(t *testing.T) {
	t.Parallel()
	o := run(t, map[string][]byte{"m.gguf": file(t, modelgen.Spec{Arch: "qwen3", Type: quant.Q4_K, Dim: 256, Heads: 4, KVHeads: 2, Ctx: 4096})})
	require.Equal(t, "qwen3", o.Facts.Architecture)
	require.Equal(t, "q4_K_M", o.Facts.Quantization)
	require.Equal(t, 4096, o.Facts.ContextLength)
	require.Equal(t, 2, o.Facts.Values["kv_heads"])
	require.Equal(t, 320, o.Facts.Values["vocabulary"])
	require.Contains(t, o.Facts.Values, "chat_template_sha256")
	last := o.Facts.Memory[len(o.Facts.Memory)-1]
	require.Equal(t, 4096, last.Context)
	require.Equal(t, 8, last.Slots)
	require.Greater(t, last.Bytes, o.Facts.Memory[0].Bytes)
}

func TestGoodFolderIsReady(t *testing.T) {
	t.Parallel()
	for _, s := range []modelgen.Spec{{Arch: "llama", Type: quant.BF16}, {Arch: "qwen2"}, {Arch: "qwen3", Tokenizer: modelgen.SPM}} {
		files, err := modelgen.Dir(s)
		require.NoError(t, err)
		o := run(t, files)
		require.Equal(t, "ready", o.Status, "%+v", o.Rows)
		require.Equal(t, "safetensors", o.Facts.Format)
		require.Equal(t, s.Arch, o.Facts.Architecture)
	}
}

// edited rewrites a file with other entries or tensors.
func edited(t *testing.T, b []byte, drop string, set ...gguf.KV) []byte {
	t.Helper()
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)), gguf.Limits{})
	require.NoError(t, err)
	var kvs []gguf.KV
	for _, kv := range f.KVs {
		if i := slices.IndexFunc(set, func(s gguf.KV) bool { return s.Key == kv.Key }); i >= 0 {
			kvs = append(kvs, set[i])
			continue
		}
		if kv.Key == drop {
			continue
		}
		e, err := f.Entry(kv.Key)
		require.NoError(t, err)
		kvs = append(kvs, e)
	}
	var infos []gguf.TensorInfo
	for _, x := range f.Tensors {
		if x.Name != drop {
			infos = append(infos, gguf.TensorInfo{Name: x.Name, Dims: x.Dims, Type: x.Type})
		}
	}
	var out bytes.Buffer
	w, err := gguf.NewWriter(&out, kvs, infos)
	require.NoError(t, err)
	for _, x := range infos {
		require.NoError(t, w.WriteTensor(x.Name, f.Reader(f.Tensor(x.Name))))
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// pickled is a harmless pickle by hand: protocol 2, GLOBAL os system, STOP.
var pickled = []byte("\x80\x02cos\nsystem\n.")

func archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("archive/data.pkl")
	require.NoError(t, err)
	_, err = w.Write(pickled)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

// Each bad set of files is refused by one check, with the code and a next step.
func TestBadFilesAreRefused(t *testing.T) {
	t.Parallel()
	good := file(t, modelgen.Spec{})
	folder, err := modelgen.Dir(modelgen.Spec{Type: quant.F32})
	require.NoError(t, err)
	with := func(change func(map[string][]byte)) map[string][]byte {
		m := map[string][]byte{}
		maps.Copy(m, folder)
		change(m)
		return m
	}
	nan := bytes.Clone(good)
	f, err := gguf.Parse(bytes.NewReader(good), int64(len(good)), gguf.Limits{})
	require.NoError(t, err)
	copy(nan[f.Tensor("blk.1.ffn_norm.weight").Offset+8:], "\x00\x00\xc0\x7f")
	absurd := append([]byte("GGUF\x03\x00\x00\x00"), bytes.Repeat([]byte{0xff}, 16)...)
	for name, c := range map[string]struct {
		files       map[string][]byte
		check, code string
	}{
		"truncated":        {map[string][]byte{"m.gguf": good[:len(good)-100]}, "gguf", "llm.file_truncated"},
		"absurd counts":    {map[string][]byte{"m.gguf": absurd}, "gguf", "llm.gguf_tensor_count"},
		"not GGUF":         {map[string][]byte{"m.gguf": []byte("<html>404</html>")}, "gguf", "llm.format_unknown"},
		"tensor missing":   {map[string][]byte{"m.gguf": edited(t, good, "blk.0.attn_q.weight")}, "shape", "llm.tensor_missing"},
		"tensor shape":     {map[string][]byte{"m.gguf": edited(t, good, "", gguf.U32("llama.feed_forward_length", 96))}, "shape", "llm.tensor_shape"},
		"no config":        {map[string][]byte{"m.gguf": edited(t, good, "llama.block_count")}, "shape", "llm.config_invalid"},
		"no tokenizer":     {map[string][]byte{"m.gguf": edited(t, good, "tokenizer.ggml.tokens")}, "tokenizer", "llm.tokenizer_invalid"},
		"NaN":              {map[string][]byte{"m.gguf": nan}, "numbers", "llm.tensor_nan"},
		"pickle by name":   {map[string][]byte{"model.pt": []byte("anything"), "m.gguf": good}, "pickle", "llm.pickle_refused"},
		"pickle in hiding": {map[string][]byte{"notes.txt": pickled, "m.gguf": good}, "pickle", "llm.pickle_refused"},
		"pytorch archive":  {map[string][]byte{"pytorch_model.bin": archive(t)}, "pickle", "llm.pickle_refused"},
		"no weights":       {map[string][]byte{"README.md": []byte("# hi")}, "shape", "model.no_weights"},
		"two models":       {map[string][]byte{"a.gguf": good, "b.gguf": good}, "names", "model.several_models"},
		"in a folder":      {map[string][]byte{"q8/a.gguf": good}, "names", "model.no_weights"},
		"bare safetensors": {map[string][]byte{"model.safetensors": folder["model.safetensors"]}, "names", "model.no_weights"},
		"half a set":       {map[string][]byte{"m-00001-of-00002.gguf": good}, "gguf", "llm.gguf_split"},
		"broken header":    {with(func(m map[string][]byte) { m["model.safetensors"] = []byte("\xff\xff\xff\xff\xff\xff\xff\x7f{}") }), "safetensors", "llm.safetensors_header_length"},
		"cut safetensors": {with(func(m map[string][]byte) {
			m["model.safetensors"] = m["model.safetensors"][:len(m["model.safetensors"])-1]
		}), "safetensors", "llm.file_truncated"},
		"no index": {with(func(m map[string][]byte) {
			m["model-00001-of-00002.safetensors"] = m["model.safetensors"]
			delete(m, "model.safetensors")
		}), "safetensors", "model.no_index"},
		"broken config": {with(func(m map[string][]byte) { m["config.json"] = []byte("{") }), "shape", "llm.config_invalid"},
		"index lies": {with(func(m map[string][]byte) {
			m[safetensors.IndexName] = []byte(`{"weight_map":{"lm_head.weight":"x.safetensors"}}`)
		}), "safetensors", "llm.safetensors_index"},
	} {
		o := run(t, c.files)
		require.Equal(t, "rejected", o.Status, name)
		row := o.First(Reject)
		require.Equal(t, c.check, row.ID, "%s: %+v", name, o.Rows)
		require.Equal(t, c.code, row.Code, "%s: %+v", name, row)
		require.NotEmpty(t, row.Message, name)
		if c.check != "numbers" {
			require.Equal(t, Skip, o.Rows[len(o.Rows)-1].Result, "%s: what follows a reject is not run", name)
		}
	}
}

func TestPickleNamesWhatItWouldCall(t *testing.T) {
	t.Parallel()
	o := run(t, map[string][]byte{"pytorch_model.bin": archive(t)})
	require.Equal(t, "it would call os.system", o.First(Reject).Detail)
	require.Equal(t, "pytorch_model.bin", o.First(Reject).Path)
	require.NotEmpty(t, o.First(Reject).Hint)
}

// What only our engine cannot run is a warning.
func TestForeignModelsAreWarned(t *testing.T) {
	t.Parallel()
	good := file(t, modelgen.Spec{})
	o := run(t, map[string][]byte{"m.gguf": edited(t, good, "", gguf.Text("general.architecture", "mamba"))})
	require.Equal(t, "warned", o.Status)
	require.Equal(t, "llm.arch_unsupported", o.First(Warn).Code)
	require.Equal(t, "mamba", o.Facts.Architecture)
	o = run(t, map[string][]byte{"m.gguf": edited(t, good, "tokenizer.chat_template")})
	require.Equal(t, "warned", o.Status)
	require.Equal(t, "model.no_chat_template", o.First(Warn).Code)
	o = run(t, map[string][]byte{"m.gguf": edited(t, good, "", gguf.Text("tokenizer.chat_template", "{% for %}"))})
	require.Equal(t, "warned", o.Status)
	require.Equal(t, "template", o.First(Warn).ID)
}

func TestHashMismatchIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := file(t, modelgen.Spec{})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "m.gguf"), b, 0o600))
	in := Input{Dir: dir, Files: []File{{Path: "m.gguf", Size: int64(len(b)), SHA256: strings.Repeat("0", 64)}}}
	o, err := Run(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "model.hash_mismatch", o.First(Reject).Code)
	require.Contains(t, o.First(Reject).Message, strings.Repeat("0", 64))
	in.Known = func(sha, check string) bool { return check == Hash }
	o, err = Run(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "ready", o.Status, "bytes that passed before are not read again")
}

func TestRunStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "m.gguf"), []byte("x"), 0o600))
	_, err := Run(ctx, Input{Dir: dir, Files: []File{{Path: "m.gguf", Size: 1}}})
	require.ErrorIs(t, err, context.Canceled)
}

// FuzzSniff: any bytes are looked at without a panic, and a pickle is never missed by its first bytes.
func FuzzSniff(f *testing.F) {
	f.Add(pickled)
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte("\x80\x04\x95\x00"))
	name := filepath.Join(f.TempDir(), "x")
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(name, b, 0o600))
		found, calls, err := sniff(name)
		require.NoError(t, err)
		require.LessOrEqual(t, len(calls), 8)
		if len(b) > 2 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 {
			require.True(t, found)
		}
	})
}
