package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"maas/internal/platform/id"
	"maas/internal/platform/object"
)

// upload is an object in parts: one file each under .parts/<id>/.
type upload struct {
	b       *Bucket
	key, id string
	o       object.PutOptions
}

// Begin implements object.Bucket.
func (b *Bucket) Begin(_ context.Context, key string, o object.PutOptions) (object.Upload, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, err
	}
	if err := b.room(o.Size); err != nil {
		return nil, err
	}
	u := &upload{b, key, id.New("mpu"), o}
	if err := b.root.Mkdir(u.dir(), 0o700); err != nil {
		return nil, full(err)
	}
	return u, b.syncDir(parts)
}

// Resume implements object.Bucket.
func (b *Bucket) Resume(_ context.Context, key, uploadID string, o object.PutOptions) (object.Upload, error) {
	if err := object.CheckKey(key); err != nil {
		return nil, err
	}
	u := &upload{b, key, uploadID, o}
	if !id.Valid("mpu", uploadID) {
		return nil, object.ErrNoUpload
	}
	if _, err := b.root.Stat(u.dir()); err != nil {
		return nil, object.ErrNoUpload
	}
	return u, nil
}

func (u *upload) ID() string         { return u.id }
func (u *upload) dir() string        { return path.Join(parts, u.id) }
func (u *upload) file(no int) string { return path.Join(u.dir(), strconv.Itoa(no)) }

// Part implements object.Upload.
func (u *upload) Part(ctx context.Context, no int, r io.Reader, n int64) (object.Part, error) {
	if no < 1 || n < 0 {
		return object.Part{}, object.ErrSize.With("part numbers begin at 1 and sizes are not negative")
	}
	if err := u.b.room(n); err != nil {
		return object.Part{}, err
	}
	name := path.Join(u.dir(), id.New("put"))
	f, err := u.b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return object.Part{}, object.ErrNoUpload
	}
	if err != nil {
		return object.Part{}, full(err)
	}
	defer func() { _ = u.b.root.Remove(name) }() // gone already after success
	got, err := u.b.copy(ctx, f, io.LimitReader(r, n), 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return object.Part{}, full(err)
	}
	if got != n {
		return object.Part{}, object.ErrSize.With("part %d ended after %d of %d bytes", no, got, n)
	}
	if err := u.b.root.Rename(name, u.file(no)); err != nil {
		return object.Part{}, err
	}
	return object.Part{No: no, Size: n}, u.b.syncDir(u.dir())
}

// Parts implements object.Upload.
func (u *upload) Parts(context.Context) ([]object.Part, error) {
	list, err := fs.ReadDir(u.b.root.FS(), u.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, object.ErrNoUpload
	}
	if err != nil {
		return nil, err
	}
	var out []object.Part
	for _, e := range list {
		no, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // a part under way
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		out = append(out, object.Part{No: no, Size: info.Size()})
	}
	slices.SortFunc(out, func(a, b object.Part) int { return a.No - b.No })
	return out, nil
}

// Complete implements object.Upload.
func (u *upload) Complete(ctx context.Context, list []object.Part) (object.Info, error) {
	have, err := u.Parts(ctx)
	if err != nil {
		return object.Info{}, err
	}
	readers := make([]io.Reader, 0, len(list))
	for _, p := range list {
		if !slices.Contains(have, p) {
			return object.Info{}, object.ErrSize.With("part %d of %d bytes is not there", p.No, p.Size)
		}
		f, err := u.b.root.Open(u.file(p.No))
		if err != nil {
			return object.Info{}, err
		}
		defer func() { _ = f.Close() }()
		readers = append(readers, f)
	}
	info, err := u.b.Put(ctx, u.key, io.MultiReader(readers...), u.o)
	if err != nil {
		return info, err
	}
	return info, u.Abort(ctx)
}

// Abort implements object.Upload.
func (u *upload) Abort(context.Context) error { return u.b.root.RemoveAll(u.dir()) }

func unfinished(uploadID string) (string, error) {
	if uploadID == "" || len(uploadID) > 64 || strings.Trim(uploadID, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return "", object.ErrNoUpload
	}
	return path.Join(parts, uploadID+".part"), nil
}

// Append implements object.Appender.
func (b *Bucket) Append(ctx context.Context, uploadID string, off int64, r io.Reader, wrote func(int64) error) (int64, error) {
	name, err := unfinished(uploadID)
	if err != nil {
		return 0, err
	}
	f, err := b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 0, full(err)
	}
	defer func() { _ = f.Close() }() // synced before
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() < off {
		return info.Size(), object.ErrOffset.With("%d bytes are there, not %d", info.Size(), off)
	}
	if err := f.Truncate(off); err != nil {
		return off, err
	}
	if off == 0 {
		if err := b.syncDir(parts); err != nil {
			return 0, err
		}
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return off, err
	}
	length := off
	for {
		if err := b.room(0); err != nil {
			return length, err
		}
		n, err := b.copy(ctx, f, io.LimitReader(r, piece), 0)
		if n > 0 {
			if syncErr := f.Sync(); syncErr != nil {
				return length, full(syncErr)
			}
			length += n
			if wrote != nil {
				if err := wrote(length); err != nil {
					return length, err
				}
			}
		}
		if err != nil || n < piece {
			return length, full(err)
		}
	}
}

// Read implements object.Appender.
func (b *Bucket) Read(_ context.Context, uploadID string, n int64) (io.ReadCloser, error) {
	name, err := unfinished(uploadID)
	if err != nil {
		return nil, err
	}
	f, err := b.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, object.ErrNoUpload
	}
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, n), f}, nil
}

// Finish implements object.Appender.
func (b *Bucket) Finish(_ context.Context, uploadID, key string, o object.PutOptions) (object.Info, error) {
	if err := object.CheckKey(key); err != nil {
		return object.Info{}, err
	}
	name, err := unfinished(uploadID)
	if err != nil {
		return object.Info{}, err
	}
	f, err := b.root.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		info, err := b.kept(key, o.Size) // finished before
		if errors.Is(err, object.ErrNotFound) {
			err = object.ErrNoUpload
		}
		info.SHA256 = o.SHA256
		return info, err
	}
	if err != nil {
		return object.Info{}, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < o.Size {
		err = object.ErrSize.With("%d of %d bytes are there", info.Size(), o.Size)
	}
	if err == nil && info.Size() > o.Size {
		err = f.Truncate(o.Size)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return object.Info{}, err
	}
	out, err := b.place(name, key, o.Size, nil, o)
	if err == nil {
		_ = b.root.Remove(name) // is gone already, but where IfAbsent found the object
	}
	return out, err
}

// Discard implements object.Appender.
func (b *Bucket) Discard(_ context.Context, uploadID string) error {
	name, err := unfinished(uploadID)
	if err != nil {
		return err
	}
	if err := b.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard an upload: %w", err)
	}
	return nil
}
