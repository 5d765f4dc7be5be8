// Package object stores immutable files under keys.
package object

import (
	"context"
	"io"
	"time"
)

// Info describes a stored object.
type Info struct {
	Key      string
	Size     int64
	SHA256   string // lower hex; known from Put, Complete and Finish only, "" from Stat and List
	Modified time.Time
}

// PutOptions of an object.
type PutOptions struct {
	Size     int64  // checked when > 0
	SHA256   string // lower hex, checked when given
	IfAbsent bool   // keep what is there: equal size is success without a write, another size is ErrExists
}

// Bucket stores objects. Keys are `<area>/<tenant>/...` of [a-z0-9._/-], at most 512 bytes, without empty, `.` or `..` segments: ErrBadKey else. Safe for concurrent use.
type Bucket interface {
	// Put stores r under key, whole or not at all, and returns when the bytes are durable.
	Put(ctx context.Context, key string, r io.Reader, o PutOptions) (Info, error)
	// Get reads n bytes from off; n < 0 to the end. ErrNotFound; off past the size is ErrRange.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, Info, error)
	// Stat describes an object. ErrNotFound.
	Stat(ctx context.Context, key string) (Info, error)
	// Delete removes objects; missing ones are fine.
	Delete(ctx context.Context, keys ...string) error
	// Move renames an object. If `to` exists already with the same size, `from` is removed. Repeating a finished Move is fine.
	Move(ctx context.Context, from, to string) (Info, error)
	// List returns up to n objects whose key has the prefix and is greater than after, by key bytes. n is at most 1,000.
	List(ctx context.Context, prefix, after string, n int) ([]Info, error)
	// Begin starts a multipart upload; Resume continues one in any process.
	Begin(ctx context.Context, key string, o PutOptions) (Upload, error)
	Resume(ctx context.Context, key, id string) (Upload, error)
	Close() error
}

// Part is one stored piece of a multipart upload.
type Part struct {
	No   int
	Size int64
}

// Upload is a multipart upload under way. Parts may come in any order and at once.
type Upload interface {
	ID() string
	Part(ctx context.Context, no int, r io.Reader, n int64) (Part, error)
	Parts(ctx context.Context) ([]Part, error)
	Complete(ctx context.Context, parts []Part) (Info, error)
	Abort(ctx context.Context) error
}

// Local is a bucket whose objects are files of this machine: for mmap and engines.
type Local interface {
	// Path returns the path of the file of an object. Read only. ErrNotFound.
	Path(key string) (string, error)
}

// Config says where objects are.
type Config struct {
	URL     string `yaml:"url"`      // file:PATH
	MinFree int64  `yaml:"min_free"` // bytes that must stay free on the disk; 0 = the smaller of 5 % and 2 GiB
}

// Open opens the bucket of the URL.
func Open(ctx context.Context, c Config) (Bucket, error) { panic("filled next") }
