// Package file keeps objects as files under one folder: a key is a path. Everything goes through os.Root, so that neither a key nor a symbolic link leaves the folder.
//
// Writes go to a temporary file under .tmp of the same folder, are synced, renamed into place, and the folders synced: after a power cut an object is there whole or not at all. Unfinished objects lie under
// .parts. Both are cleaned of what is older than a week when the bucket is opened.
package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"maas/internal/platform/id"
	"maas/internal/platform/object"
)

func init() {
	object.Register("file", func(_ context.Context, c object.Config) (object.Bucket, error) {
		return Open(strings.TrimPrefix(c.URL, "file:"), c.MinFree)
	})
}

const (
	tmp    = ".tmp"
	parts  = ".parts"
	stale  = 8 * 24 * time.Hour // longer than any upload may rest
	piece  = 64 << 20           // synced at once in long appends
	buffer = 1 << 20
)

// Bucket is the driver. It also implements object.Appender and object.Local.
type Bucket struct {
	root    *os.Root
	dir     string
	minFree int64
}

var (
	_ object.Bucket   = (*Bucket)(nil)
	_ object.Appender = (*Bucket)(nil)
	_ object.Local    = (*Bucket)(nil)
)

// Open opens the folder, making it if needed. minFree bytes stay free on its disk; 0 = 5 % of it, at most 2 GiB; negative = none.
func Open(dir string, minFree int64) (*Bucket, error) {
	if dir == "" {
		return nil, object.ErrBadURL.With("a file URL is file:PATH with the path of a folder")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of objects: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	b := &Bucket{root, dir, minFree}
	for _, d := range []string{tmp, parts} {
		if err := root.MkdirAll(d, 0o700); err != nil {
			return nil, errors.Join(err, root.Close())
		}
		b.sweep(d)
	}
	return b, nil
}

// sweep removes what a killed process left, best effort.
func (b *Bucket) sweep(dir string) {
	list, err := fs.ReadDir(b.root.FS(), dir)
	if err != nil {
		return
	}
	for _, e := range list {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > stale {
			_ = b.root.RemoveAll(path.Join(dir, e.Name()))
		}
	}
}

// Close implements object.Bucket.
func (b *Bucket) Close() error { return b.root.Close() }

// room returns ErrDiskFull unless need bytes fit above the floor.
func (b *Bucket) room(need int64) error {
	if b.minFree < 0 {
		return nil
	}
	var s unix.Statfs_t
	if err := unix.Statfs(b.dir, &s); err != nil {
		return fmt.Errorf("free space of the objects' disk: %w", err)
	}
	free, total := int64(s.Bavail)*s.Bsize, int64(s.Blocks)*s.Bsize //nolint:gosec // disks are smaller than 2^63
	floor := b.minFree
	if floor == 0 {
		floor = min(total/20, 2<<30)
	}
	if free-max(need, 0) < floor {
		return object.ErrDiskFull.With("%d MiB are free on the disk of objects, %d MiB of them stay free, %d MiB are needed", free>>20, floor>>20, need>>20)
	}
	return nil
}

// full translates the kernel's refusals.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return object.ErrDiskFull.Wrap(err)
	}
	return err
}

// Put implements object.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, r io.Reader, o object.PutOptions) (object.Info, error) {
	if err := object.CheckKey(key); err != nil {
		return object.Info{}, err
	}
	if o.IfAbsent && o.Size > 0 {
		if info, err := b.kept(key, o.Size); err == nil || !errors.Is(err, object.ErrNotFound) {
			info.SHA256 = o.SHA256
			return info, err
		}
	}
	if err := b.room(o.Size); err != nil {
		return object.Info{}, err
	}
	name := path.Join(tmp, id.New("put"))
	f, err := b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return object.Info{}, full(err)
	}
	defer func() { _ = b.root.Remove(name) }() // gone already after success
	h := sha256.New()
	n, err := b.copy(ctx, io.MultiWriter(f, h), r, o.Size)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return object.Info{}, full(err)
	}
	return b.place(name, key, n, h, o)
}

// copy moves bytes, looking for cancellation and free space between them. limit > 0 = more bytes are ErrSize.
func (b *Bucket) copy(ctx context.Context, w io.Writer, r io.Reader, limit int64) (n int64, err error) {
	buf := make([]byte, buffer)
	for checked := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		m, err := r.Read(buf)
		if m > 0 {
			if limit > 0 && n+int64(m) > limit {
				return n, object.ErrSize.With("more than the announced %d bytes came", limit)
			}
			if _, err := w.Write(buf[:m]); err != nil {
				return n, err
			}
			n += int64(m)
			if n-checked >= piece {
				if checked = n; b.room(0) != nil {
					return n, b.room(0)
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// place checks a synced file and renames it into its place.
func (b *Bucket) place(name, key string, n int64, h hash.Hash, o object.PutOptions) (object.Info, error) {
	if o.Size > 0 && n != o.Size {
		return object.Info{}, object.ErrSize.With("%d bytes came, %d were announced", n, o.Size)
	}
	sum := o.SHA256
	if h != nil {
		if sum = hex.EncodeToString(h.Sum(nil)); o.SHA256 != "" && sum != o.SHA256 {
			return object.Info{}, object.ErrChecksum.With("the SHA-256 is %s, announced was %s", sum, o.SHA256)
		}
	}
	made, err := b.folders(path.Dir(key))
	if err != nil {
		return object.Info{}, full(err)
	}
	if o.IfAbsent { // link refuses to replace
		err = b.root.Link(name, key)
		if errors.Is(err, fs.ErrExist) {
			info, err := b.kept(key, n)
			info.SHA256 = sum
			return info, err
		}
		_ = b.root.Remove(name)
	} else {
		err = b.root.Rename(name, key)
	}
	if err != nil {
		return object.Info{}, full(err)
	}
	for _, d := range made {
		if err := b.syncDir(d); err != nil {
			return object.Info{}, err
		}
	}
	info, err := b.stat(key)
	info.SHA256 = sum
	return info, err
}

// folders makes a folder and returns those whose entries must be synced: it, and the parents of new ones.
func (b *Bucket) folders(dir string) ([]string, error) {
	out := []string{dir}
	for d := dir; d != "."; d = path.Dir(d) {
		if _, err := b.root.Stat(d); err == nil {
			break
		}
		out = append(out, path.Dir(d))
	}
	if dir == "." {
		return out, nil
	}
	return out, b.root.MkdirAll(dir, 0o700)
}

func (b *Bucket) syncDir(dir string) error {
	d, err := b.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// kept describes an object that IfAbsent leaves alone.
func (b *Bucket) kept(key string, size int64) (object.Info, error) {
	info, err := b.stat(key)
	if err == nil && info.Size != size {
		return info, object.ErrExists.With("the object that is there has %d bytes, the new one %d", info.Size, size)
	}
	return info, err
}

func (b *Bucket) stat(key string) (object.Info, error) {
	info, err := b.root.Lstat(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && !info.Mode().IsRegular() {
		return object.Info{}, object.ErrNotFound
	}
	if err != nil {
		return object.Info{}, err
	}
	return object.Info{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}, nil
}

// Stat implements object.Bucket.
func (b *Bucket) Stat(_ context.Context, key string) (object.Info, error) {
	if err := object.CheckKey(key); err != nil {
		return object.Info{}, err
	}
	return b.stat(key)
}

// Get implements object.Bucket. Without a range the reader is an *os.File.
func (b *Bucket) Get(_ context.Context, key string, off, n int64) (io.ReadCloser, object.Info, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, object.Info{}, err
	}
	info, err := b.stat(key)
	if err != nil {
		return nil, info, err
	}
	f, err := b.root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, info, object.ErrNotFound
	}
	if err != nil {
		return nil, info, err
	}
	st, err := f.Stat() // of the open file: it may have been replaced since
	if err != nil {
		return nil, info, errors.Join(err, f.Close())
	}
	info.Size = st.Size()
	if off < 0 || off > info.Size {
		return nil, info, errors.Join(object.ErrRange.With("the object has %d bytes", info.Size), f.Close())
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, info, errors.Join(err, f.Close())
	}
	if n < 0 {
		return f, info, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, n), f}, info, nil
}

// Path implements object.Local.
func (b *Bucket) Path(key string) (string, error) {
	if err := object.CheckKey(key); err != nil {
		return "", err
	}
	if _, err := b.stat(key); err != nil {
		return "", err
	}
	return filepath.Join(b.dir, filepath.FromSlash(key)), nil
}

// Delete implements object.Bucket. Folders that become empty stay: removing them races with writers.
func (b *Bucket) Delete(_ context.Context, keys ...string) error {
	for _, key := range keys {
		if err := object.CheckKey(key); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := b.root.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
	}
	return nil
}

// Move implements object.Bucket.
func (b *Bucket) Move(_ context.Context, from, to string) (object.Info, error) {
	if err := errors.Join(object.CheckKey(from), object.CheckKey(to)); err != nil {
		return object.Info{}, err
	}
	info, err := b.stat(from)
	if errors.Is(err, object.ErrNotFound) {
		return b.stat(to) // moved before
	}
	if err != nil {
		return info, err
	}
	got, err := b.place(from, to, info.Size, nil, object.PutOptions{IfAbsent: true})
	if err != nil {
		return got, err
	}
	if err := b.root.Remove(from); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return got, err
	}
	return got, b.syncDir(path.Dir(from))
}

// List implements object.Bucket by a walk in key order, entering only folders that can hold a match.
func (b *Bucket) List(ctx context.Context, prefix, after string, n int) ([]object.Info, error) {
	if n <= 0 || n > 1000 {
		n = 1000
	}
	var out []object.Info
	err := b.walk(ctx, "", prefix, after, func(info object.Info) bool {
		out = append(out, info)
		return len(out) < n
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out, err
}

var errEnough = errors.New("enough")

func (b *Bucket) walk(ctx context.Context, dir, prefix, after string, yield func(object.Info) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	list, err := fs.ReadDir(b.root.FS(), path.Clean("./"+dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	name := func(e fs.DirEntry) string { // a folder sorts as its keys do: with the slash
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(list, func(x, y fs.DirEntry) int { return strings.Compare(name(x), name(y)) })
	for _, e := range list {
		key := dir + name(e)
		switch {
		case e.Name()[0] == '.':
		case e.IsDir():
			if (strings.HasPrefix(key, prefix) || strings.HasPrefix(prefix, key)) && (key > after || strings.HasPrefix(after, key)) {
				if err := b.walk(ctx, key, prefix, after, yield); err != nil {
					return err
				}
			}
		case strings.HasPrefix(key, prefix) && key > after:
			info, err := b.stat(key)
			if errors.Is(err, object.ErrNotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return err
			}
			if !yield(info) {
				return errEnough
			}
		}
	}
	return nil
}
