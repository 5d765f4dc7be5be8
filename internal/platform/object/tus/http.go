package tus

import (
	"context"
	"crypto/sha1" //nolint:gosec // the protocol's checksum, against transmission errors
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"maas/internal/platform/auth"
	"maas/internal/platform/fault"
	"maas/internal/platform/id"
	"maas/internal/platform/object"
	"maas/internal/platform/web"
)

const (
	version     = "1.0.0"
	media       = "application/offset+octet-stream"
	maxMetadata = 4096
)

// statuses are the protocol's own ones; all other errors have those of their kind.
var statuses = map[string]int{
	ErrExpired.Code: http.StatusGone, ErrVersion.Code: http.StatusPreconditionFailed, ErrMedia.Code: http.StatusUnsupportedMediaType, ErrLocked.Code: http.StatusLocked, ErrChecksum.Code: 460, ErrMethod.Code: http.StatusMethodNotAllowed,
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if o := r.Header.Get("X-Http-Method-Override"); o != "" && method == http.MethodPost {
		method = o
	}
	head := w.Header()
	head.Set("Tus-Resumable", version)
	head.Set("Cache-Control", "no-store")
	if method == http.MethodOptions {
		head.Set("Tus-Version", version)
		head.Set("Tus-Extension", "creation,creation-with-upload,expiration,checksum,termination")
		head.Set("Tus-Max-Size", strconv.FormatInt(h.MaxSize, 10))
		head.Set("Tus-Checksum-Algorithm", "sha1,sha256")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err := h.serve(w, r, method); err != nil {
		fail(w, r, err)
	}
}

// fail answers with a problem and the protocol's status.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	status, special := statuses[f.Code]
	if !special {
		web.WriteProblem(w, r, err)
		return
	}
	p := web.Problem{Type: "/docs/errors#" + f.Code, Title: f.Message, Status: status, Code: f.Code, Detail: f.Detail, Hint: f.Hint, Instance: r.URL.Path, RequestID: web.RequestID(r.Context())}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(f.RetryAfter.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone: nothing left to do
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Header.Get("Tus-Resumable") != version {
		w.Header().Set("Tus-Version", version)
		return ErrVersion
	}
	uploadID := strings.Trim(strings.TrimPrefix(r.URL.Path, h.Path), "/")
	switch {
	case uploadID == "" && method == http.MethodPost:
		return h.post(w, r)
	case uploadID != "" && method == http.MethodHead:
		return h.head(w, r, uploadID)
	case uploadID != "" && method == http.MethodPatch:
		return h.patch(w, r, uploadID)
	case uploadID != "" && method == http.MethodDelete:
		return h.delete(w, r, uploadID)
	}
	return ErrMethod
}

// post creates an upload, with its first bytes if the request brings some.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) error {
	size, err := number(r, "Upload-Length")
	if err != nil {
		return err
	}
	ctx := r.Context()
	p, _ := auth.From(ctx)
	now := h.Now()
	u := Upload{ID: id.New("upl"), TenantID: p.TenantID, UserID: p.UserID, Size: size, State: open, CreatedAt: now, ExpiresAt: now.Add(rest), meta: r.Header.Get("Upload-Metadata")}
	if u.Metadata, err = parseMetadata(u.meta); err != nil {
		return err
	}
	u.Purpose, u.Key = u.Metadata["purpose"], key(u.TenantID, u.ID)
	purpose, ok := h.purposes[u.Purpose]
	if !ok {
		return ErrPurpose.With("Upload-Metadata holds no purpose that this server knows")
	}
	if purpose.Permission != "" {
		if err := auth.Need(ctx, purpose.Permission); err != nil {
			return err
		}
	}
	limit := h.MaxSize
	if purpose.MaxSize > 0 {
		limit = min(limit, purpose.MaxSize)
	}
	if size > limit {
		return ErrTooLarge.With("%d bytes are over the limit of %d", size, limit)
	}
	if purpose.Allow != nil {
		if err := purpose.Allow(ctx, u); err != nil {
			return err
		}
	}
	if err := h.create(ctx, u); err != nil {
		return err
	}
	w.Header().Set("Location", strings.TrimSuffix(h.Path, "/")+"/"+u.ID)
	if r.Header.Get("Content-Type") == media || size == 0 {
		if u, err = h.receive(w, r, u.ID, 0); err != nil {
			return err
		}
		w.Header().Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
	}
	expires(w, u)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func expires(w http.ResponseWriter, u Upload) {
	if u.State == open {
		w.Header().Set("Upload-Expires", u.ExpiresAt.UTC().Format(http.TimeFormat))
	}
}

func (h *Handler) head(w http.ResponseWriter, r *http.Request, uploadID string) error {
	u, err := h.load(r.Context(), uploadID)
	if err != nil {
		return err
	}
	if u.State == open && u.Offset == u.Size { // killed between the last byte and the end: the client will not send anything more
		if u, err = h.receive(w, r, uploadID, u.Offset); err != nil {
			return err
		}
	}
	w.Header().Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
	w.Header().Set("Upload-Length", strconv.FormatInt(u.Size, 10))
	if u.meta != "" {
		w.Header().Set("Upload-Metadata", u.meta)
	}
	expires(w, u)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) patch(w http.ResponseWriter, r *http.Request, uploadID string) error {
	if r.Header.Get("Content-Type") != media {
		return ErrMedia
	}
	offset, err := number(r, "Upload-Offset")
	if err != nil {
		return err
	}
	u, err := h.receive(w, r, uploadID, offset)
	if err != nil {
		return err
	}
	w.Header().Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
	expires(w, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Handler) delete(w http.ResponseWriter, r *http.Request, uploadID string) error {
	u, err := h.load(r.Context(), uploadID)
	if errors.Is(err, ErrExpired) {
		err = nil
	}
	if err != nil {
		return err
	}
	if u.State == consumed {
		return ErrConsumed
	}
	if u.State == open {
		_, release, err := h.hold(r.Context(), w, u.ID)
		if err != nil {
			return err
		}
		defer release()
	}
	if err := h.remove(context.WithoutCancel(r.Context()), u); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// receive takes the body of a request at an offset and finishes the upload when it is whole.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, uploadID string, offset int64) (Upload, error) {
	check, want, err := checksum(r)
	if err != nil {
		return Upload{}, err
	}
	if _, err := h.load(r.Context(), uploadID); err != nil { // before the lock: strangers cannot take it
		return Upload{}, err
	}
	me, release, err := h.hold(r.Context(), w, uploadID)
	if err != nil {
		return Upload{}, err
	}
	defer release()
	u, err := h.load(r.Context(), uploadID) // again: the one before may have moved it
	if err != nil {
		return u, err
	}
	if offset != u.Offset {
		w.Header().Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
		return u, ErrOffset.With("the upload is at offset %d, the request at %d", u.Offset, offset)
	}
	if u.State != open {
		return u, nil // whole, and told before
	}
	if r.ContentLength > u.Size-u.Offset {
		return u, ErrTooLarge.With("the upload has %d bytes left, the request brings %d", u.Size-u.Offset, r.ContentLength)
	}
	ctx := context.WithoutCancel(r.Context()) // what has arrived counts, also when the client is gone
	sum := sha256.New()
	if err := sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(u.hash); err != nil {
		return u, err
	}
	if u.Offset < u.Size {
		if u, err = h.append(ctx, r, u, me, sum, check, want); err != nil {
			return u, err
		}
	}
	if u.Offset == u.Size {
		if err := h.finish(ctx, u, sum); err != nil {
			return u, err
		}
		u.State = finished
	}
	return u, nil
}

// append writes the body. With a checksum nothing counts before it was compared.
func (h *Handler) append(ctx context.Context, r *http.Request, u Upload, me *request, sum, check hash.Hash, want []byte) (Upload, error) {
	to := io.Writer(sum)
	if check != nil {
		to = io.MultiWriter(sum, check)
	}
	seen := &watched{r: r.Body, me: me}
	body := io.TeeReader(io.LimitReader(seen, u.Size-u.Offset), to)
	start := u.Offset
	wrote := func(length int64) error {
		if check != nil {
			return nil
		}
		if err := h.advance(ctx, u, me.holder, length, sum); err != nil {
			return err
		}
		u.Offset = length
		return nil
	}
	length, err := h.bucket.Append(ctx, u.ID, start, body, wrote)
	if errors.Is(err, object.ErrOffset) {
		return u, h.lost(ctx, u, me)
	}
	if err != nil {
		if seen.err != nil && errors.Is(err, seen.err) { // the client went away, or this request was pushed aside
			err = ErrUnfinished.With("the connection ended at byte %d", u.Offset).Wrap(err)
		}
		return u, err
	}
	if check == nil {
		return u, nil
	}
	if string(check.Sum(nil)) != string(want) {
		return u, ErrChecksum
	}
	if err := h.advance(ctx, u, me.holder, length, sum); err != nil {
		return u, err
	}
	u.Offset = length
	return u, nil
}

// lost handles an upload whose bytes are not where the row says (another disk, a restored backup): it begins anew.
func (h *Handler) lost(ctx context.Context, u Upload, me *request) error {
	h.Log.ErrorContext(ctx, "the bytes of an upload are gone; it begins anew", "upload", u)
	if err := h.advance(ctx, u, me.holder, 0, sha256.New()); err != nil {
		return err
	}
	return ErrOffset.With("the bytes of the upload are gone: begin again at 0")
}

// number reads a header that holds a size.
func number(r *http.Request, name string) (int64, error) {
	v := r.Header.Get(name)
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || v[0] == '+' {
		return 0, ErrHeader.With("%s is a number of bytes", name)
	}
	return n, nil
}

// parseMetadata reads Upload-Metadata: pairs of a key and a value in base64, parted by commas.
func parseMetadata(text string) (map[string]string, error) {
	m := map[string]string{}
	if len(text) > maxMetadata {
		return nil, ErrHeader.With("Upload-Metadata has %d bytes, over the limit of %d", len(text), maxMetadata)
	}
	if strings.TrimSpace(text) == "" {
		return m, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), " ")
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		if _, twice := m[name]; err != nil || name == "" || twice {
			return nil, ErrHeader.With("Upload-Metadata is a list of keys and values in base64, each key once")
		}
		m[name] = string(b)
	}
	return m, nil
}

// checksum reads Upload-Checksum; nil without one.
func checksum(r *http.Request) (hash.Hash, []byte, error) {
	v := r.Header.Get("Upload-Checksum")
	if v == "" {
		return nil, nil, nil
	}
	name, text, _ := strings.Cut(v, " ")
	want, err := base64.StdEncoding.DecodeString(text)
	h := map[string]hash.Hash{"sha1": sha1.New(), "sha256": sha256.New()}[name] //nolint:gosec // see the import
	if err != nil || h == nil || len(want) != h.Size() {
		return nil, nil, ErrHeader.With("Upload-Checksum is sha1 or sha256 and the sum in base64")
	}
	return h, want, nil
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }

// watched notes when bytes arrive and how they end.
type watched struct {
	r   io.Reader
	me  *request
	err error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if n > 0 {
		w.me.last.Store(time.Now().UnixNano())
	}
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}
