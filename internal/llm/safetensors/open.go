package safetensors

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"maas/internal/llm"
	"maas/internal/llm/mmap"
)

// IndexName and SingleName are the names that a model folder uses.
const (
	SingleName = "model.safetensors"
	IndexName  = "model.safetensors.index.json"
)

const maxIndex = 64 << 20

// Open maps the weights at path: a file, or a model folder with model.safetensors.index.json and its shards, or with model.safetensors. llm.ErrFormatUnknown for a folder with neither.
func Open(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return openFile(path)
	}
	ix, err := os.Open(filepath.Join(path, IndexName))
	if errors.Is(err, fs.ErrNotExist) {
		f, err := openFile(filepath.Join(path, SingleName))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, llm.ErrFormatUnknown.With("the folder has neither %s nor %s", SingleName, IndexName)
		}
		return f, err
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = ix.Close() }()
	st, err = ix.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > maxIndex {
		return nil, ErrIndex.With("the index is larger than %d bytes", maxIndex)
	}
	b := make([]byte, st.Size())
	if _, err := ix.ReadAt(b, 0); err != nil {
		return nil, err
	}
	index, err := ParseIndex(b)
	if err != nil {
		return nil, err
	}
	return openShards(path, index)
}

func openFile(path string) (*File, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(m, int64(len(m.Data)))
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	f.parts[0].m = m
	return f, nil
}

func openShards(dir string, index Index) (*File, error) {
	var files []*File
	for _, name := range index.Files() {
		f, err := openFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrIndex.With("the index names %s, which is not there", name)
		}
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, err
		}
		files = append(files, f)
	}
	f, err := Join(index, files)
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
	}
	return f, err
}

// Index says which file holds which tensor.
type Index struct {
	WeightMap map[string]string `json:"weight_map"` // tensor name -> file name
}

// Files returns the names of the shards, sorted.
func (x Index) Files() []string {
	var names []string
	for _, n := range x.WeightMap {
		names = append(names, n)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ParseIndex reads model.safetensors.index.json. File names are plain names in the same folder: ErrIndex otherwise.
func ParseIndex(b []byte) (Index, error) {
	var x Index
	if err := json.Unmarshal(b, &x); err != nil {
		return x, ErrIndex.With("the index is not JSON of the form {\"weight_map\":{tensor:file}}").Wrap(err)
	}
	if len(x.WeightMap) == 0 {
		return x, ErrIndex.With("the index names no tensor")
	}
	for t, n := range x.WeightMap {
		if n == "" || n == "." || n == ".." || filepath.Base(n) != n || !filepath.IsLocal(n) {
			return x, ErrIndex.With("the index puts tensor %.200q into %.200q, which is no file of this folder", t, n)
		}
	}
	return x, nil
}

// Join makes one file of the shards named by x.Files(), in that order. Its Close closes them. ErrIndex if a tensor is not where the index says, ErrDuplicate if one is in two shards.
func Join(x Index, files []*File) (*File, error) {
	all := &File{Metadata: map[string]string{}, names: map[string]int{}}
	for i, name := range x.Files() {
		for _, t := range files[i].Tensors {
			if _, twice := all.names[t.Name]; twice {
				return nil, ErrDuplicate.With("tensor %.200q is in two files", t.Name)
			}
			if want := x.WeightMap[t.Name]; want != name {
				return nil, ErrIndex.With("tensor %.200q is in %s, the index says %.200q", t.Name, name, want)
			}
			t.Part = i
			all.names[t.Name] = len(all.Tensors)
			all.Tensors = append(all.Tensors, t)
		}
		maps.Copy(all.Metadata, files[i].Metadata)
		all.parts = append(all.parts, files[i].parts[0])
	}
	for t, n := range x.WeightMap {
		if all.Tensor(t) == nil {
			return nil, ErrIndex.With("the index puts tensor %.200q into %s, which does not hold it", t, n)
		}
	}
	return all, nil
}
