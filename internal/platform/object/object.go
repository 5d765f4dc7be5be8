// Package object stores immutable files under keys, in a folder of this machine (driver file) or elsewhere.
//
// Objects are written before the row that names them: an object without a row is garbage, a row without its object is an incident. Drivers register themselves under their URL scheme.
package object

import (
	"context"
	"embed"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"maas/internal/platform/fault"
)

// Migrations are the tables of unfinished uploads (object/tus), service name "object".
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Errors of this package.
var (
	ErrNotFound = fault.New(fault.NotFound, "object.not_found", "there is no such object")
	ErrBadKey   = fault.New(fault.Invalid, "object.bad_key", "this is no key of an object")
	ErrExists   = fault.New(fault.Conflict, "object.exists", "the key holds another object")
	ErrSize     = fault.New(fault.Invalid, "object.size", "the number of bytes is not the announced one")
	ErrChecksum = fault.New(fault.Invalid, "object.checksum", "the bytes do not have the announced SHA-256")
	ErrRange    = fault.New(fault.Invalid, "object.range", "the range begins behind the end of the object")
	ErrDiskFull = fault.New(fault.Unavailable, "object.disk_full", "there is not enough space left for objects")
	ErrNoUpload = fault.New(fault.NotFound, "object.no_upload", "there is no such unfinished object")
	ErrOffset   = fault.New(fault.Conflict, "object.offset", "the unfinished object is shorter than this offset")
	ErrBadURL   = fault.New(fault.Invalid, "object.bad_url", "this place of objects cannot be used")
)

// Info describes a stored object.
type Info struct {
	Key      string
	Size     int64
	SHA256   string // lower hex; known from Put, Complete and Finish only, "" from Stat, Get and List
	Modified time.Time
}

// PutOptions of an object. All may be zero.
type PutOptions struct {
	Size     int64  // announced size: checked when > 0, and the space for it is asked for at once
	SHA256   string // lower hex, checked when given
	IfAbsent bool   // keep what is there: an object of the announced (or written) size is success, of another size ErrExists. For content-addressed keys
}

// Bucket stores objects. Keys are `<area>/<tenant>/...` of [a-z0-9._/-], at most 512 bytes, without segments that are empty or begin with a dot: ErrBadKey else. Safe for concurrent use, by several processes
// too. What returns nil is durable.
type Bucket interface {
	// Put stores r under key, whole or not at all; an object that is there is replaced, its readers keep the old bytes. A failed or cancelled Put leaves nothing behind. ErrSize, ErrChecksum, ErrDiskFull.
	Put(ctx context.Context, key string, r io.Reader, o PutOptions) (Info, error)
	// Get reads n bytes from off, fewer where the object ends; n < 0 = to the end. ErrNotFound; ErrRange if off is behind the size.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, Info, error)
	// Stat describes an object. ErrNotFound.
	Stat(ctx context.Context, key string) (Info, error)
	// Delete removes objects; missing ones are fine.
	Delete(ctx context.Context, keys ...string) error
	// Move renames an object. An object at `to` stays if it has the same size (content-addressed keys: the same bytes), and `from` is removed; another size is ErrExists. Repeating a finished Move is fine.
	Move(ctx context.Context, from, to string) (Info, error)
	// List returns up to n (at most 1,000) objects whose key has the prefix and is greater than after, sorted by the bytes of the key.
	List(ctx context.Context, prefix, after string, n int) ([]Info, error)
	// Begin starts an object that is sent in parts. o.Size and o.SHA256 are checked by Complete.
	Begin(ctx context.Context, key string, o PutOptions) (Upload, error)
	// Resume continues what Begin started, in any process. ErrNoUpload.
	Resume(ctx context.Context, key, id string, o PutOptions) (Upload, error)
	// Close ends the bucket's connections.
	Close() error
}

// Part is one stored piece of an upload. Numbers begin at 1.
type Part struct {
	No   int
	Size int64
}

// Upload is an object under way in parts, which may come in any order and at once; a part sent again replaces the earlier one.
type Upload interface {
	ID() string
	// Part stores part no from n bytes of r, durably. ErrSize if r ends early.
	Part(ctx context.Context, no int, r io.Reader, n int64) (Part, error)
	// Parts returns what is stored, by number.
	Parts(ctx context.Context) ([]Part, error)
	// Complete joins these parts, in this order, into the object.
	Complete(ctx context.Context, parts []Part) (Info, error)
	// Abort removes all parts. A second time is fine.
	Abort(ctx context.Context) error
}

// Appender is a bucket that grows an unfinished object in place: for uploads that stop and go on. The id is the caller's, in the form of an identifier.
type Appender interface {
	// Append writes r at offset off of the unfinished object id and returns the new length, durable also when it returns an error: what arrived before a cut connection counts. Bytes behind off are dropped
	// first. wrote is told after each durable piece with the length. ErrOffset if fewer than off bytes are there; offset 0 begins anew.
	Append(ctx context.Context, id string, off int64, r io.Reader, wrote func(length int64) error) (int64, error)
	// Read reads the first n bytes of an unfinished object.
	Read(ctx context.Context, id string, n int64) (io.ReadCloser, error)
	// Finish turns the first o.Size bytes of it into the object under key. The SHA-256 is the caller's to check. Repeating it after success is fine.
	Finish(ctx context.Context, id, key string, o PutOptions) (Info, error)
	// Discard removes it; a missing one is fine.
	Discard(ctx context.Context, id string) error
}

// Local is a bucket whose objects are files of this machine: for mmap and engines.
type Local interface {
	// Path returns the path of an object's file, to be read only; it stays valid until the object is deleted. ErrNotFound.
	Path(key string) (string, error)
}

// Config says where objects are.
type Config struct {
	URL     string `yaml:"url"`      // file:PATH
	MinFree int64  `yaml:"min_free"` // bytes that stay free on the disk; 0 = 5 % of it, at most 2 GiB
}

var (
	driversMu sync.Mutex // guards drivers, written by init functions
	drivers   = map[string]func(context.Context, Config) (Bucket, error){}
)

// Register adds a driver under a URL scheme. Called by init functions of drivers.
func Register(scheme string, open func(context.Context, Config) (Bucket, error)) {
	driversMu.Lock()
	defer driversMu.Unlock()
	drivers[scheme] = open
}

// Open opens the bucket of the URL. ErrBadURL for an unknown scheme.
func Open(ctx context.Context, c Config) (Bucket, error) {
	scheme, _, ok := strings.Cut(c.URL, ":")
	driversMu.Lock()
	open := drivers[scheme]
	names := make([]string, 0, len(drivers))
	for n := range drivers {
		names = append(names, n)
	}
	driversMu.Unlock()
	if !ok || open == nil {
		slices.Sort(names)
		return nil, ErrBadURL.With("the place of objects begins with %q; this program knows %s", scheme, strings.Join(names, ", "))
	}
	return open(ctx, c)
}

// CheckKey returns ErrBadKey for what is no key.
func CheckKey(key string) error {
	if key == "" || len(key) > 512 {
		return ErrBadKey.With("a key has 1 to 512 bytes")
	}
	for i := range len(key) {
		c := key[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' || c == '/') {
			return ErrBadKey.With("a key holds a-z, 0-9, dot, underscore, dash and slash")
		}
	}
	for s := range strings.SplitSeq(key, "/") {
		if s == "" || s[0] == '.' || len(s) > 255 {
			return ErrBadKey.With("a segment of a key is not empty, does not begin with a dot and has at most 255 bytes")
		}
	}
	return nil
}
