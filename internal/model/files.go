package model

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/object"
)

// cache is a folder of this machine with one folder per materialized version, read-only, complete or not there.
type cache struct {
	dir string

	mu    sync.Mutex // guards locks
	locks map[string]*sync.Mutex
}

func newCache(dir string) *cache { return &cache{dir: dir, locks: map[string]*sync.Mutex{}} }

// lock makes one caller at a time build the folder of a version.
func (c *cache) lock(version string) (unlock func()) {
	c.mu.Lock()
	l := c.locks[version]
	if l == nil {
		l = &sync.Mutex{}
		c.locks[version] = l
	}
	c.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// folder returns the folder of a version, made with place if it is not there in full. place puts the bytes of a file at the path.
func (c *cache) folder(v Version, place func(f File, to string) error) (Dir, error) {
	defer c.lock(v.ID)()
	d := Dir{Path: filepath.Join(c.dir, v.ID), Files: v.Files}
	if c.complete(d) {
		return d, nil
	}
	if err := os.MkdirAll(c.dir, 0o750); err != nil {
		return d, err
	}
	tmp, err := os.MkdirTemp(c.dir, making)
	if err != nil {
		return d, err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // gone already when all went well
	for _, f := range v.Files {
		to := filepath.Join(tmp, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			return d, err
		}
		if err := place(f, to); err != nil {
			return d, err
		}
	}
	if err := os.RemoveAll(d.Path); err != nil {
		return d, err
	}
	return d, os.Rename(tmp, d.Path)
}

// complete reports whether all files are there with their sizes.
func (c *cache) complete(d Dir) bool {
	for _, f := range d.Files {
		st, err := os.Stat(filepath.Join(d.Path, filepath.FromSlash(f.Path)))
		if err != nil || !st.Mode().IsRegular() || st.Size() != f.SizeBytes {
			return false
		}
	}
	return len(d.Files) > 0
}

// versions lists the folders that are there, and removes what a killed process left half made.
func (c *cache) versions() (ids []string) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil // not made yet
	}
	for _, e := range entries {
		if id.Valid("ver", e.Name()) {
			ids = append(ids, e.Name())
			continue
		}
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), making) && time.Since(info.ModTime()) > staleAfter {
			_ = os.RemoveAll(filepath.Join(c.dir, e.Name()))
		}
	}
	return ids
}

// making begins the names of folders that are not complete; after staleAfter nobody works on one.
const (
	making     = ".making-"
	staleAfter = 24 * time.Hour
)

// remove deletes the folder of a version; an engine that has mapped its files keeps them until it ends.
func (c *cache) remove(version string) {
	defer c.lock(version)()
	_ = os.RemoveAll(filepath.Join(c.dir, version)) // left over: found again by nobody, removed with the data folder
}

// copyFile writes r to a new file and checks size and hash.
func copyFile(to string, f File, r io.Reader) error {
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return err
	}
	sum, n, err := hashOf(io.TeeReader(r, w))
	if e := w.Close(); err == nil {
		err = e
	}
	if err == nil && (n != f.SizeBytes || sum != f.SHA256) {
		err = ErrBlobLost.With("the stored bytes of %.200q are not those that were uploaded", f.Path)
	}
	return err
}

// Materialize implements API: hard links to the bucket's own files where they lie on this machine, else symbolic links, else verified copies.
func (s *Service) Materialize(ctx context.Context, versionID string) (Dir, error) {
	v, err := s.byID(ctx, versionID)
	if err != nil {
		return Dir{}, err
	}
	return s.materialize(ctx, v)
}

func (s *Service) materialize(ctx context.Context, v Version) (Dir, error) {
	tenant, err := s.tenantOf(ctx)
	if err != nil {
		return Dir{}, err
	}
	return s.cache.folder(v, func(f File, to string) error {
		key := blobKey(tenant, f.SHA256)
		if l, ok := s.Objects.(object.Local); ok {
			p, err := l.Path(key)
			if err != nil {
				return lost(err, f)
			}
			if link(p, to) == nil {
				return nil
			}
		}
		r, _, err := s.Objects.Get(ctx, key, 0, -1)
		if err != nil {
			return lost(err, f)
		}
		defer func() { _ = r.Close() }()
		return copyFile(to, f, r)
	})
}

// link makes to the same file as p, or a pointer to it.
func link(p, to string) error {
	p, err := filepath.Abs(p)
	if err != nil {
		return err
	}
	if os.Link(p, to) == nil {
		return nil
	}
	return os.Symlink(p, to)
}

func lost(err error, f File) error {
	if fault.KindOf(err) == fault.NotFound {
		return ErrBlobLost.With("the bytes of %.200q are gone from the storage", f.Path).Wrap(err)
	}
	return err
}

// Open implements API.
func (s *Service) Open(ctx context.Context, versionID, path string) (Reader, error) {
	v, err := s.byID(ctx, versionID)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, v, path)
}

func (s *Service) open(ctx context.Context, v Version, path string) (Reader, error) {
	f, err := v.file(path)
	if err != nil {
		return nil, err
	}
	tenant, err := s.tenantOf(ctx)
	if err != nil {
		return nil, err
	}
	key := blobKey(tenant, f.SHA256)
	if l, ok := s.Objects.(object.Local); ok {
		p, err := l.Path(key)
		if err != nil {
			return nil, lost(err, f)
		}
		r, err := os.Open(p)
		if err != nil {
			return nil, lost(err, f)
		}
		return diskReader{r, f.SizeBytes}, nil
	}
	if _, err := s.Objects.Stat(ctx, key); err != nil {
		return nil, lost(err, f)
	}
	return &bucketReader{ctx: context.WithoutCancel(ctx), bucket: s.Objects, key: key, size: f.SizeBytes}, nil
}

func (v Version) file(path string) (File, error) {
	for _, f := range v.Files {
		if f.Path == path {
			return f, nil
		}
	}
	return File{}, ErrFileNotFound.With("version r%d has no file %.200q", v.Number, path)
}

// diskReader reads the bucket's own file.
type diskReader struct {
	*os.File
	size int64
}

// Size implements Reader.
func (r diskReader) Size() int64 { return r.size }

// bucketReader reads ranges of an object.
type bucketReader struct {
	ctx    context.Context //nolint:containedctx // io.ReaderAt takes none
	bucket object.Bucket
	key    string
	size   int64
}

// ReadAt implements io.ReaderAt.
func (r *bucketReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), r.size-off)
	b, _, err := r.bucket.Get(r.ctx, r.key, off, n)
	if err != nil {
		return 0, err
	}
	defer func() { _ = b.Close() }()
	got, err := io.ReadFull(b, p[:n])
	if errors.Is(err, io.ErrUnexpectedEOF) || err == nil && int64(got) < int64(len(p)) {
		err = io.EOF
	}
	return got, err
}

// Size implements Reader.
func (r *bucketReader) Size() int64 { return r.size }

// Close implements Reader.
func (r *bucketReader) Close() error { return nil }
