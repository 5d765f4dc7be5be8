package model

import (
	"context"
	"io"

	"maas/internal/platform/rpc"
)

// maxRead is how much of a file one call brings. An answer holds at most 8 MiB, base64 takes a third more.
const maxRead = 4 << 20

type readIn struct {
	Version string `json:"version"`
	Path    string `json:"path"`
	Offset  int64  `json:"offset"`
	N       int    `json:"n"`
}

// Serve registers the API for calls from other processes. Materialize is not among them: a folder is of use on its own machine only, so the Client makes one there.
func (s *Service) Serve(m *rpc.Mux) {
	rpc.Handle(m, "model.Resolve", s.Resolve)
	rpc.Handle(m, "model.Version", s.byID)
	rpc.Handle(m, "model.Read", s.read)
}

func (s *Service) read(ctx context.Context, in readIn) ([]byte, error) {
	r, err := s.Open(ctx, in.Version, in.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if in.Offset < 0 || in.Offset > r.Size() || in.N < 0 || in.N > maxRead {
		return nil, ErrBadRange
	}
	b := make([]byte, min(int64(in.N), r.Size()-in.Offset))
	if n, err := r.ReadAt(b, in.Offset); n < len(b) {
		return nil, err
	}
	return b, nil
}

// Client is the API of a model service in another process.
type Client struct {
	c     *rpc.Client
	cache *cache
}

// NewClient makes a Client. dir is the folder of this machine for materialized versions.
func NewClient(c *rpc.Client, dir string) *Client { return &Client{c, newCache(dir)} }

var _ API = (*Client)(nil)

// Resolve implements API.
func (c *Client) Resolve(ctx context.Context, ref string) (Version, error) {
	return rpc.Call[Version](ctx, c.c, "model.Resolve", ref)
}

// Materialize implements API: it copies what is not on this machine and checks every hash.
func (c *Client) Materialize(ctx context.Context, versionID string) (Dir, error) {
	v, err := rpc.Call[Version](ctx, c.c, "model.Version", versionID)
	if err != nil {
		return Dir{}, err
	}
	return c.cache.folder(v, func(f File, to string) error {
		return copyFile(to, f, io.NewSectionReader(c.reader(ctx, v.ID, f), 0, f.SizeBytes))
	})
}

// Open implements API.
func (c *Client) Open(ctx context.Context, versionID, path string) (Reader, error) {
	v, err := rpc.Call[Version](ctx, c.c, "model.Version", versionID)
	if err != nil {
		return nil, err
	}
	f, err := v.file(path)
	if err != nil {
		return nil, err
	}
	return c.reader(ctx, v.ID, f), nil
}

func (c *Client) reader(ctx context.Context, version string, f File) *remoteReader {
	return &remoteReader{ctx: context.WithoutCancel(ctx), c: c.c, version: version, f: f}
}

// remoteReader reads ranges by calls.
type remoteReader struct {
	ctx     context.Context //nolint:containedctx // io.ReaderAt takes none
	c       *rpc.Client
	version string
	f       File
}

// ReadAt implements io.ReaderAt.
func (r *remoteReader) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off+int64(n) >= r.f.SizeBytes {
			return n, io.EOF
		}
		b, err := rpc.Call[[]byte](r.ctx, r.c, "model.Read", readIn{r.version, r.f.Path, off + int64(n), min(len(p)-n, maxRead)})
		if err != nil {
			return n, err
		}
		if len(b) == 0 {
			return n, io.ErrUnexpectedEOF
		}
		n += copy(p[n:], b)
	}
	return n, nil
}

// Size implements Reader.
func (r *remoteReader) Size() int64 { return r.f.SizeBytes }

// Close implements Reader.
func (r *remoteReader) Close() error { return nil }
