package check

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"maas/internal/llm"
	"maas/internal/llm/gguf"
	"maas/internal/llm/safetensors"
	"maas/internal/platform/fault"
)

// Hash is the id of the check whose verdict on bytes is remembered.
const Hash = "hash"

// Errors that the checks of this package find themselves; those of the file formats are of package llm.
var (
	ErrHash      = fault.New(fault.Invalid, "model.hash_mismatch", "the stored bytes are not those that were promised").WithHint("Upload the file again; if it happens twice, look at the disk")
	ErrNoWeights = fault.New(fault.Invalid, "model.no_weights", "there is no model in these files").WithHint("Import one .gguf file, or a Hugging Face folder with config.json and *.safetensors")
	ErrSeveral   = fault.New(fault.Invalid, "model.several_models", "the files hold more than one model").WithHint("Import each model, or each quantization, as a version of its own")
	ErrCase      = fault.New(fault.Invalid, "model.name_clash", "two file names differ only by case").WithHint("Some systems cannot hold both: rename one")
	ErrHuge      = fault.New(fault.Invalid, "model.file_huge", "the file is larger than 50 GB").WithHint("Many clients refuse such files: split the model into shards")
	ErrNoIndex   = fault.New(fault.Invalid, "model.no_index", "several weight files lie there without model.safetensors.index.json").WithHint("Import the index file too")
)

func (r *runner) path(f File) string { return filepath.Join(r.in.Dir, filepath.FromSlash(f.Path)) }

func (r *runner) has(name string) bool {
	return slices.ContainsFunc(r.in.Files, func(f File) bool { return f.Path == name })
}

// ending lists the files with this suffix.
func (r *runner) ending(suffix string) (list []File) {
	for _, f := range r.in.Files {
		if strings.HasSuffix(strings.ToLower(f.Path), suffix) {
			list = append(list, f)
		}
	}
	return list
}

// names decides what the files are, and warns about names that make trouble elsewhere.
func (r *runner) names(context.Context) (rows []Row, err error) {
	lower := map[string]string{}
	for _, f := range r.in.Files {
		l := strings.ToLower(f.Path)
		if other, twice := lower[l]; twice {
			rows = append(rows, warn(ErrCase.With("%s and %s differ only by case", other, f.Path)).at(f.Path))
		}
		lower[l] = f.Path
		if f.Size > 50e9 {
			rows = append(rows, warn(ErrHuge).at(f.Path))
		}
	}
	models := 0
	for _, f := range r.ending(".gguf") {
		if strings.Contains(f.Path, "/") {
			return rows, ErrNoWeights.With("the GGUF file %s lies in a folder", f.Path).WithHint("Import it at the top of the version, without the folder")
		}
		if _, no, _, split := gguf.SplitName(path.Base(f.Path)); !split || no == 1 {
			models++
		}
	}
	switch {
	case models > 1:
		return rows, ErrSeveral.With("there are %d GGUF models", models)
	case len(r.ending(".gguf")) > 0:
		r.out.Facts.Format = "gguf"
	case len(r.ending(".safetensors")) > 0:
		r.out.Facts.Format = "safetensors"
		if !r.has("config.json") {
			return rows, ErrNoWeights.With("there are safetensors files, but no config.json that says what they are").WithHint("Import the whole folder of the model, with config.json and the tokenizer's files")
		}
	}
	return rows, nil // without weights the pickle check may know more; the shape check ends it
}

var pickleNames = []string{".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".joblib"}

// pickle refuses weights that are programs. They are recognised by name and by their first bytes, read and listed, never executed.
func (r *runner) pickle(context.Context) (rows []Row, err error) {
	for _, f := range r.in.Files {
		named := slices.Contains(pickleNames, strings.ToLower(path.Ext(f.Path)))
		found, calls, err := sniff(r.path(f))
		if err != nil {
			return rows, err
		}
		if !named && !found {
			continue
		}
		x := reject(llm.ErrPickleRefused.With("the file is a pickle: loading it can run any code")).at(f.Path)
		if !found {
			x.Message = "files of this kind are pickles, which can run any code when they are loaded"
		}
		if len(calls) > 0 {
			x.Detail = "it would call " + strings.Join(calls, ", ")
		}
		rows = append(rows, x)
	}
	return rows, nil
}

// sniffed is how much of a pickle is looked through for what it calls.
const sniffed = 1 << 20

// sniff tells whether the file is a pickle, alone or inside a PyTorch archive, and what it would call.
func sniff(name string) (found bool, calls []string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return false, nil, err
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, sniffed)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil, err
	}
	head = head[:n]
	switch {
	case len(head) > 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5:
		return true, globals(head), nil
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		st, err := f.Stat()
		if err != nil {
			return false, nil, err
		}
		z, err := zip.NewReader(f, st.Size())
		if err != nil {
			return false, nil, nil
		}
		for _, e := range z.File {
			if path.Base(e.Name) == "data.pkl" {
				return true, archived(e), nil
			}
		}
	}
	return false, nil, nil
}

func archived(e *zip.File) []string {
	r, err := e.Open()
	if err != nil {
		return nil
	}
	defer func() { _ = r.Close() }()
	b, _ := io.ReadAll(io.LimitReader(r, sniffed)) // what can be read is enough
	return globals(b)
}

var globalCall = regexp.MustCompile(`c([A-Za-z_][\w.]{0,80})\n([A-Za-z_][\w.]{0,80})\n`)

// globals lists the names that the GLOBAL opcodes of a pickle import.
func globals(b []byte) (names []string) {
	for _, m := range globalCall.FindAllSubmatch(b, 64) {
		name := string(m[1]) + "." + string(m[2])
		if !slices.Contains(names, name) && len(names) < 8 {
			names = append(names, name)
		}
	}
	return names
}

// hash reads every file whose bytes were not read before and compares.
func (r *runner) hash(ctx context.Context) ([]Row, error) {
	var todo []File
	for _, f := range r.in.Files {
		if r.in.Known == nil || !r.in.Known(f.SHA256, Hash) {
			todo = append(todo, f)
			r.total += f.Size
		}
	}
	for _, f := range todo {
		sum, err := r.sum(ctx, f)
		if err != nil {
			return nil, err
		}
		if sum != f.SHA256 {
			return []Row{reject(ErrHash.With("the stored bytes have the SHA-256 %s, promised was %s", sum, f.SHA256)).at(f.Path)}, nil
		}
		r.out.Passed = append(r.out.Passed, Seen{f.SHA256, Hash})
	}
	return nil, nil
}

func (r *runner) sum(ctx context.Context, f File) (string, error) {
	file, err := os.Open(r.path(f))
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	h, buf := sha256.New(), make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := file.Read(buf)
		_, _ = h.Write(buf[:n])
		r.done += int64(n)
		if r.in.Progress != nil {
			r.in.Progress(r.done, r.total)
		}
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// safetensors opens every file of the kind, and the index.
func (r *runner) safetensors(context.Context) (rows []Row, err error) {
	files := r.ending(".safetensors")
	if len(files) == 0 {
		return skip("there are no safetensors files"), nil
	}
	for _, f := range files {
		st, err := safetensors.Open(r.path(f))
		if err != nil {
			row, ok := refusal(err)
			if !ok {
				return rows, err
			}
			rows = append(rows, row.at(f.Path))
			continue
		}
		_ = st.Close()
	}
	if len(rows) > 0 || r.out.Facts.Format != "safetensors" {
		return rows, nil
	}
	if !r.has(safetensors.IndexName) && !r.has(safetensors.SingleName) {
		return nil, ErrNoIndex.With("there is neither %s nor %s", safetensors.SingleName, safetensors.IndexName)
	}
	st, err := safetensors.Open(r.in.Dir)
	if err != nil {
		return nil, err
	}
	return nil, st.Close()
}

// gguf opens every file of the kind, and joins split sets.
func (r *runner) gguf(context.Context) (rows []Row, err error) {
	files := r.ending(".gguf")
	if len(files) == 0 {
		return skip("there are no GGUF files"), nil
	}
	for _, f := range files {
		g, err := gguf.Open(r.path(f))
		if err != nil {
			row, ok := refusal(err)
			if !ok {
				return rows, err
			}
			rows = append(rows, row.at(f.Path))
			continue
		}
		_ = g.Close()
	}
	if len(rows) > 0 {
		return rows, nil
	}
	g, err := gguf.OpenSet(r.path(files[0]))
	if err != nil {
		return nil, err
	}
	return nil, g.Close()
}
